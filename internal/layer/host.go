package layer

import (
	"context"
	"fmt"
	"sync"
	"time"

	"creel/internal/advisory"
	"creel/internal/health"
)

// HostCheck is one thing that this machine must provide.
type HostCheck struct {
	Name string // e.g. "confinement"
	// Ask observes now. The answer is one line; a problem that keeps sandboxes
	// from running is an error, one worth knowing a caveat.
	Ask func(ctx context.Context) (answer string, caveat *health.Caveat, err error)
}

type hostLayer struct{ checks []HostCheck }

// NewHost is the layer of the machine itself. Creel mends nothing of it.
func NewHost(checks []HostCheck) Layer { return &hostLayer{checks} }

func (h *hostLayer) ID() ID          { return Host }
func (h *hostLayer) Subject() string { return "host" }
func (h *hostLayer) Title() string   { return "Host" }

// Inspect asks all checks at the same time.
func (h *hostLayer) Inspect(ctx context.Context) health.Result {
	evidence := make([]health.Evidence, len(h.checks))
	caveats := make([]*health.Caveat, len(h.checks))
	errs := make([]error, len(h.checks))
	var wait sync.WaitGroup
	for i, c := range h.checks {
		wait.Go(func() {
			began := time.Now()
			answer, caveat, err := c.Ask(ctx)
			verdict := health.OK
			if err != nil {
				verdict, answer = health.Failed, err.Error()
			}
			evidence[i] = health.Evidence{Probe: c.Name, Answer: answer, Verdict: verdict, Took: health.Micros(time.Since(began))}
			caveats[i], errs[i] = caveat, err
		})
	}
	wait.Wait()
	r := ok("")
	for i, err := range errs {
		if err != nil && r.Verdict == health.OK {
			r = failed("host-insufficient", "%s: %v", h.checks[i].Name, err)
			if p, found := advisory.Of(err); found {
				r.Reason, r.Hints = p.ID, p.Commands()
			}
		}
	}
	if r.Verdict == health.OK {
		for i, c := range caveats {
			if c != nil {
				r.Caveats = append(r.Caveats, *c)
			}
			if h.checks[i].Name == "confinement" {
				r.Message = evidence[i].Answer
			}
		}
		if r.Message == "" {
			r.Message = fmt.Sprintf("%d checks passed", len(h.checks))
		}
	}
	r.Evidence = evidence
	return r
}

func (h *hostLayer) Plan(context.Context, health.Result) []Action { return nil }

func (h *hostLayer) Mend(_ context.Context, do Action, _ Progress) error { return noSuchAction(h, do) }

func noSuchAction(l Layer, do Action) error {
	return fmt.Errorf("layer %s has no action %q", l.ID(), do.ID)
}
