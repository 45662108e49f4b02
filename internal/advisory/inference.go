package advisory

var inference = []Advisory{
	{ID: "provider-unknown", Severity: Error, Layer: "inference", Title: "No such model provider",
		Reason:   "The name of a provider must be one of those that Creel knows.",
		Commands: []string{"creel inference set --provider custom --endpoint-url URL --model MODEL"}, Blocking: true},
	{ID: "provider-unsupported", Severity: Error, Layer: "inference", Title: "Model provider not yet supported",
		Reason:   "The inference relay speaks the OpenAI-compatible API, and this provider does not.",
		Commands: []string{"creel inference set --provider custom --endpoint-url URL --model MODEL"}, Blocking: true},
	{ID: "provider-unreachable", Severity: Error, Layer: "inference", Title: "Model provider does not answer",
		Reason:   "The provider could not be reached, is limiting requests or has a fault of its own. That is no proof that anything is wrong here. One on this machine has to be started; an agent also runs without a model.",
		Commands: []string{"creel inference get", "creel inference set --provider none"}, Blocking: true},
	{ID: "provider-credential", Severity: Error, Layer: "inference", Title: "Model provider refuses the key",
		Reason:   "The key is missing, mistyped, expired or not permitted to use this provider. A refused key is never stored.",
		Commands: []string{"creel inference set --provider PROVIDER --model MODEL --credential-env VARIABLE"}, Blocking: true},
	{ID: "provider-model", Severity: Error, Layer: "inference", Title: "Model not known to the provider",
		Reason:   "The provider answers, but not for this model id.",
		Commands: []string{"creel inference set --provider PROVIDER --model MODEL"}, Blocking: true},
	{ID: "provider-endpoint", Severity: Error, Layer: "inference", Title: "Endpoint is not a model provider",
		Reason:   "What answers at the address is not an OpenAI-compatible API: a web page, another service, a wrong path or a wrong certificate.",
		Commands: []string{"creel inference set --provider custom --endpoint-url URL --model MODEL"}, Blocking: true},
	{ID: "no-model-configured", Severity: Info, Layer: "inference", Title: "No model is set",
		Reason:   "No provider and model were chosen, so model requests from sandboxes are answered with an error.",
		Commands: []string{"creel inference set --provider PROVIDER --model MODEL --credential-env VARIABLE"}},
	{ID: "relay-failed", Severity: Error, Layer: "sandbox", Title: "Inference relay could not start",
		Reason:   "The supervisor could not open the relay's listener inside the sandbox.",
		Commands: []string{"creel logs SANDBOX"}, Blocking: true},
	{ID: "launch-invalid", Severity: Error, Layer: "sandbox", Title: "Sandbox's launch record cannot be used",
		Reason:   "The file that a supervisor is started with is missing, torn or not what this version writes. It is written anew at every start.",
		Commands: []string{"creel start SANDBOX"}, Blocking: true},
	{ID: "supervisor-running", Severity: Warning, Layer: "sandbox", Title: "Sandbox already has a supervisor",
		Reason:   "Another supervisor holds the sandbox's lock; there can be only one.",
		Commands: []string{"creel status SANDBOX"}},
	{ID: "main-process-failed", Severity: Error, Layer: "agent", Title: "Agent's program cannot be started",
		Reason:   "The command of the sandbox cannot be executed there.",
		Commands: []string{"creel logs SANDBOX"}, Blocking: true},
	{ID: "program-missing", Severity: Error, Layer: "agent", Title: "The agent's program is not in its sandbox",
		Reason:   "A sandbox sees /usr, /opt, its workspace and what its policy lists. The program has to be installed there, together with what runs it, or be named by another path.",
		Commands: []string{"creel onboard --name SANDBOX -- PROGRAM", "creel logs SANDBOX"}, Blocking: true},
}

// ForInferenceClass returns the advisory id for a class of failed provider
// check ("transport", "credential", "model", "endpoint", "none").
func ForInferenceClass(class string) string {
	switch class {
	case "credential", "model", "endpoint":
		return "provider-" + class
	case "none":
		return "no-model-configured"
	}
	return "provider-unreachable"
}
