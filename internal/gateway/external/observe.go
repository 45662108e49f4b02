package external

import (
	"context"
	"fmt"
	"time"

	"creel/internal/advisory"
	"creel/internal/gateway"
	"creel/internal/gateway/client"
	"creel/internal/gateway/evidence"
	"creel/internal/health"
)

// registered is the link that a runtime of a process has in the process's place.
const registered = "registration"

// Observe asks the chain: registration, TCP, TLS, Health, identity. There is no
// process to look at, so nothing here is proof of absence.
func (r *Runtime) Observe(ctx context.Context) gateway.Observation {
	var c evidence.Chain
	o := gateway.Observation{Endpoint: r.Endpoint()}
	start := time.Now()
	e, err := r.entry()
	var a gateway.Access
	if err == nil {
		a, err = access(e, start)
	}
	t := evidence.Target{Endpoint: endpointOf(e), Access: a}
	t.Identify = func(version string) (gateway.Identity, evidence.Finding) {
		by := "nothing proves who it is: it is asked in plaintext"
		if e.TLS {
			by = "it has a certificate for " + e.Host
		}
		return gateway.Identity{Gateway: r.cfg.Gateway.Name, Version: version},
			evidence.Finding{Verdict: health.OK, Message: fmt.Sprintf("version %s; %s", version, by)}
	}
	if err != nil {
		// The question cannot be put: that says nothing about the gateway.
		reason := "registration-unknown"
		if p, ok := advisory.Of(err); ok {
			reason = p.ID
			o.Hints = p.Commands()
		}
		c.Break(registered, registered, health.Unknown, reason, err.Error(), time.Since(start))
		c.Skip(t.Links()...)
	} else {
		c.Hold(registered, fmt.Sprintf("%s, auth mode %s", t.Endpoint.URL(), e.Auth), time.Since(start))
		o.Identity = evidence.Ask(ctx, &c, t)
	}
	c.Conclude()
	o.Verdict, o.Reason, o.Message, o.Evidence = c.Verdict, c.Reason, c.Message, c.Evidence
	switch {
	case o.Verdict != health.OK:
		if len(o.Hints) == 0 { // those of a gateway that we run would start or stop it
			o.Hints = []string{"creel gateway status --json", "openshell status"}
		}
		return o
	case t.Endpoint.Plaintext:
		o.Caveats = append(o.Caveats, health.Caveat{Advisory: "gateway-plaintext",
			Message: "the gateway is asked in plaintext: whoever is on the way, or takes its port, is believed"})
	}
	if err := client.CheckVersion(o.Identity.Version); err != nil {
		o.Caveats = append(o.Caveats, health.Caveat{Advisory: "gateway-version-unsupported", Message: err.Error()})
	}
	o.Message = fmt.Sprintf("gateway %s answers at %s (version %s)", r.cfg.Gateway.Name, t.Endpoint.URL(), o.Identity.Version)
	return o
}
