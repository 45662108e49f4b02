package cli

import (
	"cmp"

	"creel/internal/cli/ui"
	"creel/internal/health"
)

// about makes the next commands of a document mean the gateway that it is about:
// without the flag they would mean the one that a command without it means. They name
// the command's sandbox where there is one. Doing it again changes nothing.
func (a *app) about(gateway string, commands []string) []string {
	commands = naming(a.Streams.Sandbox, commands)
	if a.Streams.Gateway == "" && gateway == cmp.Or(a.Getenv("CREEL_GATEWAY"), DefaultGateway) {
		return commands
	}
	out := make([]string, len(commands))
	for i, c := range commands {
		out[i] = ui.About(c, gateway)
	}
	return out
}

// naming makes next commands name a sandbox.
func naming(sandbox string, commands []string) []string {
	out := make([]string, len(commands))
	for i, c := range commands {
		out[i] = ui.Naming(c, sandbox)
	}
	return out
}

func (a *app) problemAbout(gateway string, p *ProblemDocument) *ProblemDocument {
	if p != nil {
		p.Commands = a.about(gateway, p.Commands)
	}
	return p
}

func (a *app) resultsAbout(gateway string, results []health.Result) []health.Result {
	results = normal(results)
	for i := range results {
		results[i].Hints = a.about(gateway, naming(sandboxOf(results[i].Subject), results[i].Hints))
	}
	return results
}

func (a *app) serviceAbout(gateway string, d *ServiceDocument) *ServiceDocument {
	if d != nil {
		d.Hints = a.about(gateway, d.Hints)
	}
	return d
}

func (a *app) gatewayAbout(doc GatewayDocument) GatewayDocument {
	doc.Hints = a.about(doc.Gateway, doc.Hints)
	doc.Service = a.serviceAbout(doc.Gateway, doc.Service)
	return doc
}

func (a *app) statusAbout(doc StatusDocument) StatusDocument {
	doc.Hints = a.about(doc.Gateway, doc.Hints)
	doc.Layers = a.resultsAbout(doc.Gateway, doc.Layers)
	doc.Problem = a.problemAbout(doc.Gateway, doc.Problem)
	return doc
}
