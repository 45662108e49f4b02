// Package inference knows model providers: which exist, how to ask one whether
// it answers, and how to classify what it says. The relay inside it carries a
// sandbox's model requests to the provider.
package inference

import (
	"time"

	"creel/internal/credential"
	"creel/internal/health"
)

// Class is why a provider check failed, or that it did not.
type Class string

// The classes. Transport may be tried again; Credential asks for another key and
// stores none; Model and Endpoint ask for another choice. None means that no
// provider is wanted.
const (
	ClassOK         Class = "ok"
	ClassNone       Class = "none"
	ClassTransport  Class = "transport"
	ClassCredential Class = "credential"
	ClassModel      Class = "model"
	ClassEndpoint   Class = "endpoint"
)

// Route is a provider with a model: what answers a sandbox's model requests.
type Route struct {
	Provider string            // provider name, e.g. "openai", "custom"
	Type     string            // provider type, the same word
	BaseURL  string            // e.g. "https://api.openai.com/v1", no trailing slash
	Model    string            // model id
	Key      credential.Secret // may be empty (ollama, vllm)
}

// Check is the outcome of asking a provider.
type Check struct {
	Class    Class
	Verdict  health.Verdict // OK, Failed, or Unknown for Transport
	Message  string         // one sentence, without the credential
	Status   int            // HTTP status, 0 without an answer
	Endpoint string         // the URL that was asked, user info redacted
	Took     time.Duration
	At       time.Time
}
