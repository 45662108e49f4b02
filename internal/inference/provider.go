package inference

import (
	"fmt"
	"strings"

	"creel/internal/advisory"
	"creel/internal/credential"
)

// NoProvider is the provider name that stands for none.
const NoProvider = "none"

// Provider is one row of the table of known providers.
type Provider struct {
	Name    string // what --provider takes
	Title   string // what a user reads
	BaseURL string // default; empty when --endpoint-url must name it
	// KeyVariables are environment variables that usually hold the key, the
	// preferred one first; empty when no key is usual.
	KeyVariables []string
	// KeyPrefix is how every key at the default BaseURL begins; empty when unknown.
	KeyPrefix   string
	KeyRequired bool
	// DefaultModel is offered when none is named; empty when the user must choose.
	DefaultModel string
	// PublicModels says that GET /models may answer without a valid key, so that
	// its answer proves nothing about the key.
	PublicModels bool
	// Start are commands that start it where it is a program of this machine.
	Start []string
	// Unsupported says why Creel cannot use the provider yet; empty when it can.
	Unsupported string
}

// Providers lists the known providers in the order a user is offered them.
func Providers() []Provider {
	notYet := "it does not speak the OpenAI-compatible API"
	return []Provider{
		{Name: "build", Title: "NVIDIA build", BaseURL: "https://integrate.api.nvidia.com/v1",
			KeyVariables: []string{"NVIDIA_INFERENCE_API_KEY", "NVIDIA_API_KEY"}, KeyPrefix: "nvapi-", KeyRequired: true,
			DefaultModel: "nvidia/nemotron-3-super-120b-a12b", PublicModels: true},
		{Name: "openai", Title: "OpenAI", BaseURL: "https://api.openai.com/v1",
			KeyVariables: []string{"OPENAI_API_KEY"}, KeyPrefix: "sk-", KeyRequired: true},
		{Name: "gemini", Title: "Google Gemini", BaseURL: "https://generativelanguage.googleapis.com/v1beta/openai",
			KeyVariables: []string{"GEMINI_API_KEY", "GOOGLE_API_KEY"}, KeyRequired: true},
		{Name: "ollama", Title: "Ollama on this machine", BaseURL: "http://127.0.0.1:11434/v1", Start: []string{"ollama serve"}},
		{Name: "vllm", Title: "vLLM on this machine", BaseURL: "http://127.0.0.1:8000/v1", Start: []string{"vllm serve MODEL"}},
		{Name: "custom", Title: "any OpenAI-compatible endpoint",
			KeyVariables: []string{"CREEL_PROVIDER_KEY", "OPENAI_API_KEY"}, PublicModels: true},
		{Name: "anthropic", Title: "Anthropic", BaseURL: "https://api.anthropic.com/v1",
			KeyVariables: []string{"ANTHROPIC_API_KEY"}, KeyPrefix: "sk-ant-", KeyRequired: true, Unsupported: notYet},
		{Name: "anthropicCompatible", Title: "any Anthropic-compatible endpoint",
			KeyVariables: []string{"ANTHROPIC_API_KEY"}, Unsupported: notYet},
		{Name: NoProvider, Title: "no model for now"},
	}
}

// Lookup finds a provider by name or alias, whatever the case. The error is the
// advisory "provider-unknown" with the valid names, or "provider-unsupported".
func Lookup(name string) (Provider, error) {
	wanted := strings.ToLower(strings.TrimSpace(name))
	if wanted == "cloud" {
		wanted = "build"
	}
	for _, p := range Providers() {
		if strings.ToLower(p.Name) != wanted {
			continue
		}
		if p.Unsupported != "" {
			return Provider{}, advisory.New("provider-unsupported",
				fmt.Sprintf("provider %s is not yet supported: %s; supported are %s", p.Name, p.Unsupported, strings.Join(Names(), ", ")), nil)
		}
		return p, nil
	}
	return Provider{}, advisory.New("provider-unknown",
		fmt.Sprintf("provider %q is none of %s", name, strings.Join(Names(), ", ")), nil)
}

// Names lists the supported providers in the order a user is offered them.
func Names() []string {
	var all []string
	for _, p := range Providers() {
		if p.Unsupported == "" {
			all = append(all, p.Name)
		}
	}
	return all
}

// CheckKey reports why a key cannot be this provider's, without asking anyone
// and without repeating the key. baseURL is where it would be sent; the prefix
// only matters at the provider's own address.
func (p Provider) CheckKey(key credential.Secret, baseURL string) error {
	value := key.Reveal()
	switch {
	case value == "" && p.KeyRequired:
		return fmt.Errorf("provider %s needs a key: set %s or name another variable with --credential-env", p.Name, p.KeyVariables[0])
	case strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return fmt.Errorf("the key for provider %s holds a space, a control character or a character outside ASCII", p.Name)
	case value != "" && p.KeyPrefix != "" && baseURL == p.BaseURL && !strings.HasPrefix(value, p.KeyPrefix):
		return fmt.Errorf("the key for provider %s does not begin with %q", p.Name, p.KeyPrefix)
	}
	return nil
}
