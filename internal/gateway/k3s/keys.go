package k3s

import (
	"context"
	"errors"
	"fmt"
	"time"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/bundle"
	"creel/internal/gateway"
	"creel/internal/health"
	"creel/internal/host/engine"
	"creel/internal/registration"
)

// keys are what opens the gateway.
type keys struct {
	files  bundle.ClientFiles
	access gateway.Access
	// own: they are of the set in the container. Else they are what OpenShell clients
	// have for the endpoint.
	own bool
	// remembered: they were shown to be of the set when the gateway was last ready.
	// That saves reading the set of a gateway that answers, and says nothing of one
	// that does not.
	remembered bool
}

func newKeys(c bundle.ClientFiles, own bool) (*keys, error) {
	config, err := c.ClientConfig(bundle.LocalName)
	if err != nil {
		return nil, err
	}
	return &keys{files: c, access: gateway.Access{TLS: config}, own: own}, nil
}

// remembered is what OpenShell clients have, if it was shown to be of the set in this
// container; else nil.
func (r *Runtime) remembered(box engine.Container) *keys {
	m, err := readMarker(r.cfg.Gateway)
	if err != nil {
		return nil
	}
	k := r.clients(r.endpoint(box))
	if k == nil || !m.proves(box.ID, k.files) {
		return nil
	}
	k.own, k.remembered = true, true
	return k
}

// keys finds what opens the gateway in a container that runs: the set in there, else
// what OpenShell clients have. The fault is what is wrong with the set, or why it
// could not be read; keys are nil when nothing opens the gateway.
func (r *Runtime) keys(ctx context.Context, box engine.Container) (*keys, *fault) {
	own, fault := r.set(ctx)
	if own != nil {
		return own, fault
	}
	return r.clients(r.endpoint(box)), fault
}

// clients is what OpenShell clients have for an endpoint; nil when that opens
// nothing.
func (r *Runtime) clients(e gateway.Endpoint) *keys {
	files, err := registration.Opens(r.cfg.Gateway, endpointOf(e))
	if err != nil {
		return nil
	}
	k, err := newKeys(files, false)
	if err != nil {
		return nil
	}
	return k
}

// set reads the set in the container: the client's part of it, nil if that opens
// nothing, and what is wrong with the set.
func (r *Runtime) set(ctx context.Context) (*keys, *fault) {
	ctx, cancel := budget.Context(ctx, budget.Cluster, "read the bootstrap secrets in container "+r.cfg.Container)
	defer cancel()
	want, snapshot, err := bundle.Survey(ctx, r.cfg.Cluster)
	switch {
	case errors.Is(err, bundle.ErrNotApplicable):
		return nil, faultOf(health.Failed, "secrets-not-applicable", err)
	case err != nil:
		return nil, faultOf(health.Unknown, "secrets-unknown", err)
	}
	return judgeSet(want, snapshot)
}

func judgeSet(want bundle.Requirements, snapshot bundle.Snapshot) (*keys, *fault) {
	var k *keys
	files, err := bundle.OpenClient(snapshot, want)
	if err == nil {
		k, err = newKeys(files, true)
	}
	report := bundle.Inspect(snapshot, want, time.Now())
	switch {
	case report.Verdict() == health.Failed:
		return k, &fault{verdict: health.Failed, reason: report.Worst().Class.Advisory(),
			message: "its bootstrap secrets are not good: " + report.String()}
	case err != nil:
		return nil, faultOf(health.Unknown, "secrets-unknown", err)
	}
	return k, nil
}

// registered is what OpenShell clients have for a gateway whose container cannot be
// asked where it is: only the endpoint of this machine that they know, and, where it
// is recorded, the one at which the gateway was last ready.
func (r *Runtime) registered() (gateway.Endpoint, *keys) {
	entry, err := registration.Read(r.cfg.Gateway)
	if err != nil || !entry.TLS || !registration.Local(entry.Host) {
		return gateway.Endpoint{}, nil
	}
	e := gateway.Endpoint{Host: entry.Host, Port: entry.Port}
	if m, err := readMarker(r.cfg.Gateway); err == nil && m.Port != e.Port {
		return m.endpoint(), nil
	}
	return e, r.clients(e)
}

func endpointOf(e gateway.Endpoint) registration.Endpoint {
	return registration.Endpoint{Host: e.Host, Port: e.Port, Plaintext: e.Plaintext}
}

// remembering is a target that keeps what it last read.
type remembering struct {
	bundle.Target
	want     bundle.Requirements
	snapshot bundle.Snapshot
}

// Load implements bundle.Store.
func (t *remembering) Load(ctx context.Context, want bundle.Requirements) (bundle.Snapshot, error) {
	s, err := t.Target.Load(ctx, want)
	if err == nil {
		t.want, t.snapshot = want, s
	}
	return s, err
}

// Housed lists the sandboxes in the gateway's container.
func (r *Runtime) Housed(ctx context.Context) ([]string, error) {
	ctx, cancel := budget.Context(ctx, budget.Cluster, "list what runs in container "+r.cfg.Container)
	defer cancel()
	names, err := r.cfg.Cluster.Sandboxes(ctx)
	if p, ok := advisory.Of(err); ok && (p.ID == "container-not-running" || p.ID == "container-missing") {
		return nil, nil // nothing runs in it
	}
	if err != nil {
		return nil, fmt.Errorf("list the sandboxes in container %s: %w", r.cfg.Container, err)
	}
	return names, nil
}
