package k3s

import (
	"context"
	"crypto/tls"
	"fmt"
	"time"

	"creel/internal/advisory"
	"creel/internal/gateway"
	"creel/internal/gateway/client"
	"creel/internal/gateway/evidence"
	"creel/internal/health"
	"creel/internal/host"
	"creel/internal/host/engine"
)

// The links that stand in the place of a process.
const (
	container = "container"
	secrets   = "bootstrap secrets"
)

// Observe asks the chain: container, bootstrap secrets, TCP, TLS, HTTP readiness,
// Health, identity. It ends within the probe budget, and the cluster budget where
// the secrets have to be read.
func (r *Runtime) Observe(ctx context.Context) gateway.Observation {
	return r.observe(ctx, nil).Observation
}

// observation is what was seen, with what was decided by it.
type observation struct {
	gateway.Observation
	box   engine.Container
	there presence
	decision
}

// observe uses the keys if there are any, and else finds some: first those that
// opened the gateway the last time, which is quick.
func (r *Runtime) observe(ctx context.Context, k *keys) observation {
	began := time.Now()
	box, there, err := r.look(ctx)
	took := time.Since(began)
	if there == running && k == nil {
		if k = r.remembered(box); k != nil {
			// Other keys would make nobody answer who answers nothing.
			if o := r.judge(ctx, box, there, err, took, k); o.Verdict == health.OK || o.Reason == "gateway-hung" {
				return o
			}
			k = nil
		}
	}
	return r.judge(ctx, box, there, err, took, k)
}

// judge makes an observation of a container that was looked at.
func (r *Runtime) judge(ctx context.Context, box engine.Container, there presence, err error, took time.Duration, k *keys) observation {
	o := observation{box: box, there: there}
	first := r.seen(&o, err, took)
	switch there {
	case running:
		o.Endpoint = r.endpoint(box)
		if k == nil {
			began := time.Now()
			k, first = r.keys(ctx, box)
			o.found(k, first, time.Since(began))
		} else if k.remembered {
			o.add(secrets, "the certificate that OpenShell clients have was the set's when the gateway was last started", health.OK, 0)
		}
	case unseen, missing:
		o.Endpoint, k = r.registered()
	default:
		o.Endpoint = r.endpoint(box)
	}
	image := r.imageAsked(ctx, o)
	chain := r.ask(ctx, &o, k)
	if there == running && r.endedMeanwhile(ctx, &o) {
		first = faultOf(health.Failed, "container-not-running", r.notRunning("it ended while the gateway was asked", o.box))
	}
	if chain.Verdict == health.Failed && first != nil && first.verdict == health.Unknown && k != nil && !k.own && keyed(chain.Reason) {
		chain.Verdict = health.Unknown
	}
	r.conclude(&o, first, chain, <-image)
	return o
}

// keyed reports that a failure may be the keys' and not the gateway's. Keys that are
// not of the set may be of one before it: while the set cannot be read, such a failure
// says nothing of the gateway.
func keyed(reason string) bool {
	switch reason {
	case "gateway-certificate-refused", "gateway-foreign-listener", "gateway-tls-failed":
		return true
	}
	return false
}

// seen adds the container's link, and returns what is wrong with it.
func (r *Runtime) seen(o *observation, err error, took time.Duration) (first *fault) {
	answer := "running, " + o.box.Image
	switch {
	case o.there == unseen:
		first = faultOf(health.Unknown, "engine-unreachable", err)
	case o.there == missing:
		first = faultOf(health.Failed, "container-missing", r.whyNot(missing, nil))
	case o.there != running:
		first = faultOf(health.Failed, "container-not-running", r.notRunning("the gateway does not run", o.box))
	}
	verdict := health.OK
	if first != nil {
		verdict, answer = first.verdict, first.message
	}
	o.add(container+" "+r.cfg.Container, answer, verdict, took)
	return first
}

func (o *observation) add(probe, answer string, v health.Verdict, took time.Duration) {
	o.Evidence = append(o.Evidence, health.Evidence{Probe: probe, Answer: answer, Verdict: v, Took: health.Micros(took)})
}

// found adds the link of the bootstrap secrets.
func (o *observation) found(k *keys, f *fault, took time.Duration) {
	answer, v := "complete, fitting and valid", health.OK
	switch {
	case f != nil && k != nil && !k.own:
		answer, v = f.message+"; OpenShell clients' certificate is used instead", f.verdict
	case f != nil:
		answer, v = f.message, f.verdict
	}
	o.add(secrets, answer, v, took)
}

// ask puts the questions from TCP on to the endpoint, if there is a way to.
func (r *Runtime) ask(ctx context.Context, o *observation, k *keys) *evidence.Chain {
	t := evidence.Target{Endpoint: o.Endpoint, ReadyPath: "/", Holder: func() string { return holder(o.Endpoint.Port) }}
	t.Identify = func(version string) (gateway.Identity, evidence.Finding) {
		who := gateway.Identity{Gateway: r.cfg.Gateway.Name, InstanceID: o.box.ID, StartedAt: o.box.StartedAt, Version: version}
		by := "of the set in container " + o.box.Name
		if !k.own {
			by = "by which OpenShell clients know it"
		}
		return who, evidence.Finding{Verdict: health.OK, Message: "its certificate is of the authority " + by + ", version " + version}
	}
	c := &evidence.Chain{}
	not := ""
	switch {
	case o.there == stopped || o.there == held:
		not = "not asked: the container does not run"
	case k == nil:
		not = "not asked: there is nothing to open the gateway with"
	default:
		t.Access = k.access
		o.Identity = evidence.Ask(ctx, c, t)
		c.Conclude()
		o.Evidence = append(o.Evidence, c.Evidence...)
		return c
	}
	t.Access.TLS = &tls.Config{MinVersion: tls.VersionTLS12} // the links that would have been asked
	for _, link := range t.Links() {
		o.add(link, not, health.Unknown, 0)
	}
	return c
}

// holder names who listens on the published port.
func holder(port int) string {
	u, _ := host.PortHolder(port)
	return u.String()
}

// endedMeanwhile looks at the container again after the gateway was asked: another
// start of it is another gateway's answer.
func (r *Runtime) endedMeanwhile(ctx context.Context, o *observation) bool {
	now, there, err := r.look(ctx)
	if err != nil || there == running {
		return false
	}
	o.box, o.there = now, there
	o.add(container+" "+r.cfg.Container, how(now), health.Failed, 0)
	return true
}

// conclude makes the verdict of what was decided.
func (r *Runtime) conclude(o *observation, first *fault, chain *evidence.Chain, image string) {
	ready := chain.Verdict
	if len(chain.Evidence) == 0 && first != nil {
		ready = first.verdict // what nothing opens is ready for nobody
	}
	rest := &fault{verdict: chain.Verdict, reason: chain.Reason, message: chain.Message}
	o.decision = decide(facts{o.there, ready, image != ""})
	caveat := func(reason, message string) {
		o.Caveats = append(o.Caveats, health.Caveat{Advisory: reason, Message: message})
	}
	switch o.decision {
	case upgrade:
		caveat("gateway-image-differs", image)
		fallthrough
	case reuse:
		if first != nil {
			caveat(first.reason, first.message)
		}
		o.healthy(r)
		return
	case reuseWarned:
		caveat(first.reason, first.message+"; the gateway itself answers, and is used as it is")
		o.healthy(r)
		return
	}
	o.Identity = gateway.Identity{}
	why := rest
	switch {
	case first != nil && (o.there != running || first.verdict == health.Failed || rest.verdict != health.Failed):
		why = first
		if chain.Broken() {
			why.message += "; " + chain.Message
		}
	case first != nil:
		why.message += "; " + first.message
	}
	o.Verdict, o.Reason, o.Message, o.Hints = why.verdict, why.reason, why.message, why.hints
	o.Absent = o.there == missing || o.there == stopped
	if a, ok := advisory.Lookup(o.Reason); ok && len(o.Hints) == 0 {
		o.Hints = a.Commands
	}
}

// healthy concludes for a gateway that answers. That Creel cannot use its sandboxes
// is what this runtime is for, and no caveat of a version that it knows. That it is
// on another port than wanted nothing here could change.
func (o *observation) healthy(r *Runtime) {
	o.Verdict = health.OK
	o.Message = fmt.Sprintf("gateway %s answers at %s (OpenShell %s, container %s)", r.cfg.Gateway.Name, o.Endpoint.URL(), o.Identity.Version, r.cfg.Container)
	if wanted := r.cfg.Port; wanted != 0 && wanted != o.Endpoint.Port {
		o.Caveats = append(o.Caveats, health.Caveat{Advisory: "gateway-port-fixed",
			Message: fmt.Sprintf("port %d is wanted, and the container was made to publish %d", wanted, o.Endpoint.Port)})
	}
	switch err := client.CheckVersion(o.Identity.Version); {
	case client.ClusterEra(o.Identity.Version):
		o.Message += "; its sandboxes are used with the openshell program"
	case err != nil:
		o.Caveats = append(o.Caveats, health.Caveat{Advisory: "gateway-version-unsupported", Message: err.Error()})
	}
}
