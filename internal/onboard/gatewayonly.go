package onboard

import (
	"slices"

	"creel/internal/advisory"
	"creel/internal/desired"
	"creel/internal/inference"
)

// beyondGateway are the answers about what a gateway alone does not have.
func beyondGateway() []Key {
	return []Key{Name, Agent, PolicyFile, DashboardPort, AgentPort, HealthPath, Confinement, AcceptRisk, Restart,
		Provider, EndpointURL, Model, CredentialEnv}
}

// gatewayOnly reports that no sandbox and no model is wanted: because it was said,
// or because it is recorded of a gateway that somebody else's program serves and
// this command line says nothing else. Creel's own gateway gets its first sandbox
// from an onboarding that says nothing. A variable may be set for other uses, a
// flag is meant.
func (s settling) gatewayOnly(doc desired.Document) bool {
	if s.GatewayOnly {
		return true
	}
	said := len(s.Command) > 0 || slices.ContainsFunc(beyondGateway(), func(k Key) bool { _, ok := s.Flags[k]; return ok })
	return s.Recorded != nil && doc.Runtime != desired.Embedded && doc.GatewayOnly() && !said
}

// onlyConflicts refuses what would be forgotten without a word.
func (s settling) onlyConflicts() error {
	const only, why = "--gateway-only", "there is to be no sandbox and no model provider"
	for _, k := range beyondGateway() {
		if v, ok := s.Flags[k]; ok && (k != Provider || v != inference.NoProvider) {
			return conflict(only, "--"+string(k), why)
		}
	}
	if len(s.Command) > 0 {
		return conflict(only, "-- "+s.Command[0], why)
	}
	if s.Recorded != nil && len(s.Recorded.Sandboxes) > 0 {
		name := s.Recorded.Sandboxes[0].Name
		p := conflict(only, "the recorded sandbox "+name, why)
		p.Hints = []string{"creel destroy " + name}
		return p
	}
	return nil
}

// settleGateway is the document of a gateway alone.
func settleGateway(doc desired.Document) (Settled, error) {
	doc.Sandboxes, doc.Inference = nil, desired.New(doc.Name).Inference
	doc = doc.WithDefaults()
	if err := doc.Validate(); err != nil {
		return Settled{}, advisory.New("usage", "", err)
	}
	return Settled{Document: doc}, nil
}
