package ladder

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"creel/internal/health"
	"creel/internal/layer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fault is what is wrong with a rung of the fake world.
type fault int

const (
	sound      fault = iota
	broken           // one mend repairs it
	brokenDeep       // two different mends repair it
	unmendable       // nothing can be planned
	refusing         // mending fails
	lying            // mending succeeds and changes nothing
	obscure          // unknown, for a reason of its own
	clearing         // unknown at first; a later look finds it sound
)

// rung is a layer of a world in memory. It keeps account of what the ladder may
// not do.
type rung struct {
	id      layer.ID
	subject string
	world   *world

	fault   fault
	looks   int
	last    health.Verdict
	mended  int
	wait    func(ctx context.Context) error // called while mending; nil is fine
	enquire func(ctx context.Context)       // called while inspecting; nil is fine
}

// world is all rungs, and the sins that were seen.
type world struct {
	mu    sync.Mutex
	rungs []*rung
	sins  []string
	done  []string // "subject layer action", in order
}

func (w *world) add(id layer.ID, subject string, f fault) *rung {
	r := &rung{id: id, subject: subject, world: w, fault: f}
	w.rungs = append(w.rungs, r)
	return r
}

// stack is a whole gateway with sandboxes, all sound.
func stack(sandboxes ...string) *world {
	w := &world{}
	for _, id := range []layer.ID{layer.Host, layer.Secrets, layer.Gateway, layer.Registration, layer.Inference} {
		w.add(id, string(id), sound)
	}
	for _, name := range sandboxes {
		for _, id := range []layer.ID{layer.Sandbox, layer.Agent, layer.Dashboard} {
			w.add(id, "sandbox/"+name, sound)
		}
	}
	return w
}

func (w *world) layers() []layer.Layer {
	var all []layer.Layer
	for _, r := range w.rungs {
		all = append(all, r)
	}
	return all
}

func (w *world) rung(t interface{ Fatalf(string, ...any) }, id layer.ID, subject string) *rung {
	for _, r := range w.rungs {
		if r.id == id && (subject == "" || r.subject == subject) {
			return r
		}
	}
	t.Fatalf("no rung %s %s", id, subject)
	return nil
}

func (w *world) break_(t interface{ Fatalf(string, ...any) }, id layer.ID, f fault) *rung {
	r := w.rung(t, id, "")
	r.fault = f
	return r
}

func (r *rung) ID() layer.ID    { return r.id }
func (r *rung) Subject() string { return r.subject }
func (r *rung) Title() string   { return string(r.id) + " of the world" }

func (r *rung) Inspect(ctx context.Context) health.Result {
	if r.enquire != nil {
		r.enquire(ctx)
	}
	r.world.mu.Lock()
	defer r.world.mu.Unlock()
	r.looks++
	out := health.Result{}
	switch {
	case r.fault == sound, r.fault == clearing && r.looks > 1:
		out.Verdict, out.Message = health.OK, "sound"
	case r.fault == obscure, r.fault == clearing:
		out.Verdict, out.Reason, out.Message = health.Unknown, "obscure", "cannot be told"
	default:
		out.Verdict, out.Reason, out.Message = health.Failed, fmt.Sprintf("fault-%d", r.fault), "is broken"
	}
	r.last = out.Verdict
	return out
}

func (r *rung) Plan(_ context.Context, found health.Result) []layer.Action {
	r.world.mu.Lock()
	defer r.world.mu.Unlock()
	if r.fault == unmendable || r.fault == sound && found.BlockedBy == "" {
		return nil
	}
	return []layer.Action{{ID: fmt.Sprintf("mend-%d", r.fault), Title: "mend " + r.subject}}
}

func (r *rung) Mend(ctx context.Context, do layer.Action, report layer.Progress) error {
	report("mending")
	if r.wait != nil {
		if err := r.wait(ctx); err != nil {
			return err
		}
	}
	w := r.world
	w.mu.Lock()
	defer w.mu.Unlock()
	r.mended++
	w.done = append(w.done, r.subject+" "+string(r.id)+" "+do.ID)
	if r.last == health.Unknown {
		w.sins = append(w.sins, "mended the unknown "+r.subject+" "+string(r.id))
	}
	for _, lower := range w.rungs {
		if lower == r {
			break
		}
		if mustHold(r, lower) && lower.last != health.OK {
			w.sins = append(w.sins, fmt.Sprintf("mended %s %s above %s, which was %s", r.subject, r.id, lower.id, lower.last))
		}
	}
	switch r.fault {
	case broken:
		r.fault = sound
	case brokenDeep:
		r.fault = broken
	case refusing:
		return errors.New("mending is refused")
	}
	return nil
}

// mustHold says, independently of the code under test, what may not be mended
// while what is not ok: everything above a layer of the gateway itself, except
// that nothing stands on registration and inference once they are merely unknown;
// and the upper layers of the same sandbox.
func mustHold(upper, lower *rung) bool {
	if scope(lower) != "" {
		return scope(lower) == scope(upper)
	}
	return !(lower.last == health.Unknown && (lower.id == layer.Registration || lower.id == layer.Inference))
}
