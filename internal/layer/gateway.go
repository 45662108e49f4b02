package layer

import (
	"context"
	"fmt"
	"strings"

	"creel/internal/advisory"
	"creel/internal/gateway"
	"creel/internal/health"
)

// GatewayDiffers is the advisory of a gateway that works, and not as it is wanted.
const GatewayDiffers = "gateway-differs"

type gatewayLayer struct {
	runtime gateway.Runtime
	session *Session
	name    string
	port    int
	tls     func(gateway.Endpoint) string // what is wrong with how it is reached
}

// GatewayOption is a further wish about the gateway.
type GatewayOption func(*gatewayLayer)

// OnPort says that the gateway has to be on this port; 0 says nothing.
func OnPort(port int) GatewayOption { return func(g *gatewayLayer) { g.port = port } }

// InPlaintext says whether the gateway has to serve in plaintext, or with TLS.
func InPlaintext(plaintext bool) GatewayOption {
	return func(g *gatewayLayer) {
		g.tls = func(e gateway.Endpoint) string {
			switch {
			case plaintext && !e.Plaintext:
				return "serves with TLS, plaintext is wanted"
			case !plaintext && e.Plaintext:
				return "serves in plaintext, TLS is wanted"
			}
			return ""
		}
	}
}

// NewGateway is the layer of the gateway itself.
func NewGateway(name string, r gateway.Runtime, s *Session, options ...GatewayOption) Layer {
	g := &gatewayLayer{runtime: r, session: s, name: name}
	for _, o := range options {
		o(g)
	}
	return g
}

func (g *gatewayLayer) ID() ID          { return Gateway }
func (g *gatewayLayer) Subject() string { return "gateway" }
func (g *gatewayLayer) Title() string   { return "Gateway" }

func (g *gatewayLayer) Inspect(ctx context.Context) health.Result {
	o := g.runtime.Observe(ctx)
	r := health.Result{Verdict: o.Verdict, Reason: o.Reason, Message: o.Message, Evidence: o.Evidence, Hints: o.Hints, Absent: o.Absent}
	if o.Verdict == health.OK && g.port != 0 && o.Endpoint.Port != g.port {
		d := failed(GatewayDiffers, "%s is on port %d, %d is wanted", g.name, o.Endpoint.Port, g.port)
		d.Evidence = o.Evidence
		return d
	}
	if g.tls != nil && o.Verdict == health.OK {
		if wrong := g.tls(o.Endpoint); wrong != "" {
			d := failed(GatewayDiffers, "%s %s", g.name, wrong)
			d.Evidence = o.Evidence
			return d
		}
	}
	if o.Verdict == health.OK {
		r.Message = o.Message
		if o.Identity.PID != 0 {
			r.Message = fmt.Sprintf("%s answers on %s (pid %d)", g.name, o.Endpoint.URL(), o.Identity.PID)
		}
		r.Caveats = append(r.Caveats, o.Caveats...)
		for _, d := range o.Drift {
			r.Caveats = append(r.Caveats, health.Caveat{Advisory: "gateway-drifted", Message: d})
		}
		return r
	}
	return withHints(r)
}

// Plan asks a runtime that knows what mends its gateway. Else it starts a gateway
// that does not run and restarts one that is broken, unless it is something that only
// a person can mend, as a file of a newer Creel. Where supervisors keep sandboxes and
// reconnect, no sandbox is disturbed. A gateway that runs elsewhere is waited for, and
// its port-forward is mended; it is not restarted.
func (g *gatewayLayer) Plan(ctx context.Context, found health.Result) []Action {
	if f, fixed := g.runtime.(gateway.Fixed); fixed && f.Fixed() {
		return nil // somebody else runs it
	}
	if m, knows := g.runtime.(gateway.Mender); knows {
		var actions []Action
		for _, r := range m.Remedies(ctx, found) {
			actions = append(actions, Action(r))
		}
		return actions
	}
	a, _ := advisory.Lookup(found.Reason)
	_, remote := g.runtime.(gateway.Remote)
	switch {
	case found.Verdict == health.OK, a.Blocking:
		return nil
	case remote && blocked(found):
		return []Action{{ID: "start-gateway", Title: "wait until gateway " + g.name + " is ready in its cluster, and make it reachable from here"}}
	case remote && found.Verdict == health.Failed:
		return []Action{{ID: "start-gateway", Title: fmt.Sprintf("bring gateway %s up in its cluster (%s)", g.name, strings.TrimSuffix(found.Message, "."))}}
	case remote:
		return nil
	case found.Absent || blocked(found):
		return []Action{{ID: "start-gateway", Title: "start gateway " + g.name}}
	case found.Verdict == health.Failed:
		restart := Action{ID: "restart-gateway", Disturbs: gateway.Disturbed(ctx, g.runtime),
			Title: fmt.Sprintf("restart gateway %s (%s)", g.name, strings.TrimSuffix(found.Message, "."))}
		if len(restart.Disturbs) == 0 {
			restart.Title += "; sandboxes go on meanwhile"
		}
		return []Action{restart}
	}
	return nil
}

func (g *gatewayLayer) Mend(ctx context.Context, do Action, report Progress) error {
	if m, knows := g.runtime.(gateway.Mender); knows {
		if err := g.session.Refresh(true); err != nil {
			report("closing the old connection: " + err.Error())
		}
		return m.Mend(ctx, do.ID, gateway.Progress(report))
	}
	bring := g.runtime.Start
	switch do.ID {
	case "restart-gateway":
		bring = func(ctx context.Context, report gateway.Progress) error {
			return gateway.Restart(ctx, g.runtime, report)
		}
	case "start-gateway":
	default:
		return noSuchAction(g, do)
	}
	if err := g.session.Refresh(true); err != nil {
		report("closing the old connection: " + err.Error())
	}
	return bring(ctx, gateway.Progress(report))
}
