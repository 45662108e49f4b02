package onboard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"creel/internal/advisory"
	"creel/internal/desired"
	"creel/internal/health"
	"creel/internal/layer"
	"creel/internal/onboard/ladder"
	"creel/internal/state"
)

func isAdvisory(err error, id string) bool {
	p, ok := advisory.Of(err)
	return ok && p.ID == id
}

// stands makes a world whose stack stands.
func stands(t *testing.T) *world {
	t.Helper()
	w := &world{home: t.TempDir()}
	out, err := Run(t.Context(), w.options(twoSandboxes()))
	if err != nil || out.Summary != health.SummaryOK || !out.Changed {
		t.Fatalf("Run = %+v, %v", out, err)
	}
	return w
}

func (w *world) remove(t *testing.T, name string) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(w.home, "world", name)); err != nil {
		t.Fatal(err)
	}
}

func messages(events *[]ladder.Event) ladder.Report {
	return func(e ladder.Event) { *events = append(*events, e) }
}

// R20: a run over a stack that stands changes nothing, not even a file's time,
// and says so.
func TestR20UnchangedStack(t *testing.T) {
	w := stands(t)
	before := w.tree(t)
	var events []ladder.Event
	o := w.options(twoSandboxes())
	o.Report = messages(&events)
	o.Consent = func(context.Context, Plan) (bool, error) { t.Error("asked for consent to nothing"); return false, nil }
	out, err := Run(t.Context(), o)
	if err != nil || out.Changed || !out.Plan.Empty() || out.Summary != health.SummaryOK {
		t.Errorf("Run = %+v, %v", out, err)
	}
	if diff := cmp.Diff(before, w.tree(t)); diff != "" {
		t.Errorf("files changed:\n%s", diff)
	}
	if last := events[len(events)-1]; last.Type != ladder.RunEnded || last.Message != "nothing to do" {
		t.Errorf("last event %+v", last)
	}
}

func TestPlanOnlyTouchesNothing(t *testing.T) {
	for name, w := range map[string]*world{"bare": {home: t.TempDir()}, "standing": stands(t)} {
		doc := twoSandboxes()
		doc.Inference = desired.Inference{Provider: "ollama", Model: "new"}
		before := w.tree(t)
		o := w.options(doc)
		o.PlanOnly = true
		out, err := Run(t.Context(), o)
		if err != nil || out.Plan.Empty() || !out.Plan.Changed {
			t.Errorf("%s: %+v, %v", name, out, err)
		}
		if diff := cmp.Diff(before, w.tree(t)); diff != "" {
			t.Errorf("%s: files changed:\n%s", name, diff)
		}
	}
}

func TestDeclinedPlanTouchesNothing(t *testing.T) {
	w := &world{home: t.TempDir()}
	before := w.tree(t)
	o := w.options(twoSandboxes())
	o.Consent = func(_ context.Context, p Plan) (bool, error) {
		if len(p.Actions) == 0 {
			t.Error("the plan is empty")
		}
		return false, nil
	}
	out, err := Run(t.Context(), o)
	if err != nil || !out.Declined || out.Changed {
		t.Errorf("Run = %+v, %v", out, err)
	}
	if diff := cmp.Diff(before, w.tree(t)); diff != "" {
		t.Errorf("files changed:\n%s", diff)
	}
}

// Nothing is begun on a machine that lacks something, nor for a gateway whose own
// files say that only a person can mend it.
func TestHopelessIsSaidFirst(t *testing.T) {
	for _, id := range []layer.ID{layer.Host, layer.Secrets, layer.Gateway} {
		t.Run(string(id), func(t *testing.T) {
			w := &world{home: t.TempDir()}
			broken := filepath.Join(w.home, "world", string(id)+"-"+string(id)+".broken")
			if err := os.MkdirAll(filepath.Dir(broken), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(broken, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if id == layer.Gateway { // else it is not asked
				made := filepath.Join(w.home, "world", "secrets-secrets", "made")
				if err := errors.Join(os.Mkdir(filepath.Dir(made), 0o700), os.WriteFile(made, nil, 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			before := w.tree(t)
			var notMended *ladder.NotMended
			out, err := Run(t.Context(), w.options(twoSandboxes()))
			if !errors.As(err, &notMended) || notMended.Result.Layer != string(id) || out.Summary != health.SummaryFailed {
				t.Errorf("Run = %+v, %v", out, err)
			}
			if diff := cmp.Diff(before, w.tree(t)); diff != "" {
				t.Errorf("files changed:\n%s", diff)
			}
		})
	}
}

// R2: of two runs exactly one proceeds; the other names the holder. A reader is
// not kept.
func TestTwoRunsAtOnce(t *testing.T) {
	w := &world{home: t.TempDir()}
	inside, goOn := make(chan struct{}), make(chan struct{})
	first := make(chan error, 1)
	go func() {
		o := w.options(twoSandboxes())
		entries := 0
		o.AfterEntry = func(ladder.Entry) {
			if entries++; entries == 1 {
				close(inside)
				<-goOn
			}
		}
		_, err := Run(context.WithoutCancel(t.Context()), o)
		first <- err
	}()
	select {
	case <-inside:
	case err := <-first:
		t.Fatal("the first run ended early:", err)
	}
	second := &world{home: w.home}
	o := second.options(twoSandboxes())
	o.Consent = func(context.Context, Plan) (bool, error) { t.Error("asked for consent in vain"); return true, nil }
	_, err := Run(t.Context(), o)
	var busy *state.Busy
	if !errors.As(err, &busy) || !isAdvisory(err, "gateway-busy") || busy.Holder.PID != os.Getpid() || busy.Holder.Command != "creel test" {
		t.Errorf("second run: %v", err)
	}
	o.PlanOnly = true
	if _, err := Run(t.Context(), o); err != nil {
		t.Errorf("a plan was kept: %v", err)
	}
	close(goOn)
	if err := <-first; err != nil {
		t.Error(err)
	}
}

// A run whose plan was made for an older wish does not undo a newer one.
func TestDesiredStateChangedMeanwhile(t *testing.T) {
	w := stands(t)
	o := w.options(twoSandboxes().With(desired.Sandbox{Name: "c"}))
	other := twoSandboxes().With(desired.Sandbox{Name: "d"}).WithDefaults()
	o.Consent = func(context.Context, Plan) (bool, error) { return true, other.Save(w.gateway().Desired()) }
	if _, err := Run(t.Context(), o); !isAdvisory(err, "desired-changed") {
		t.Errorf("Run: %v", err)
	}
	if now, err := desired.Load(w.gateway().Desired()); err != nil || !now.Equal(other) {
		t.Errorf("the newer wish was undone: %v, %v", now, err)
	}
}

func TestNewerDesiredStateIsRefused(t *testing.T) {
	w := &world{home: t.TempDir()}
	o := w.options(twoSandboxes())
	path := w.gateway().Desired()
	content := []byte("apiVersion: creel/v7\nkind: Gateway\n")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	before := w.tree(t)
	if _, err := Run(t.Context(), o); !isAdvisory(err, "desired-version") {
		t.Errorf("Run: %v", err)
	}
	if diff := cmp.Diff(before, w.tree(t)); diff != "" {
		t.Errorf("files changed:\n%s", diff)
	}
}

func TestNothingToResume(t *testing.T) {
	w := &world{home: t.TempDir()}
	o := w.options(twoSandboxes())
	o.Resume = true
	if _, err := Run(t.Context(), o); !isAdvisory(err, "nothing-to-resume") {
		t.Errorf("Run: %v", err)
	}
	standing := stands(t)
	o = standing.options(twoSandboxes())
	o.Resume = true
	if _, err := Run(t.Context(), o); err != nil {
		t.Errorf("resume of what stands: %v", err)
	}
}

// The words of resume, and that only what is broken is touched.
func TestResumeSaysWhatItReuses(t *testing.T) {
	for _, c := range []struct {
		name  string
		gone  []string
		words []string
		done  []string
	}{
		{"gateway gone", []string{"gateway-gateway"},
			[]string{"[resume] Skipping preflight", "[resume] Recorded gateway is unhealthy; is not there"}, []string{"create-gateway"}},
		{"sandbox gone", []string{"sandbox-a-sandbox"},
			[]string{"[resume] Skipping preflight", "[resume] Skipping gateway (running)", "[resume] Recorded sandbox state is unavailable; recreating it.", "[resume] Skipping sandbox"},
			[]string{"create-sandbox"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := stands(t)
			for _, g := range c.gone {
				w.remove(t, g)
			}
			before, err := ladder.ReadJournal(w.gateway().Journal())
			if err != nil {
				t.Fatal(err)
			}
			var events []ladder.Event
			o := w.options(twoSandboxes())
			o.Report, o.Resume = messages(&events), true
			if _, err := Run(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			var words, done []string
			for _, e := range events {
				if e.Type == ladder.Resumed {
					words = append(words, e.Message)
				}
			}
			entries, err := ladder.ReadJournal(w.gateway().Journal())
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries[len(before):] {
				if e.Kind == ladder.KindIntent {
					done = append(done, e.Action)
				}
			}
			if diff := cmp.Diff(c.words, words); diff != "" {
				t.Errorf("words (-want +got)\n%s", diff)
			}
			if diff := cmp.Diff(c.done, done); diff != "" {
				t.Errorf("done (-want +got)\n%s", diff)
			}
		})
	}
}

// R4: a gateway that cannot be asked is no reason to create anything.
func TestUnknownIsNotMended(t *testing.T) {
	w := stands(t)
	w.remove(t, "sandbox-a-sandbox")
	w.rpc = func(l *thing) error {
		if l.id == layer.Sandbox {
			return errors.New("no answer")
		}
		return nil
	}
	out, err := Run(t.Context(), w.options(twoSandboxes()))
	var notMended *ladder.NotMended
	if !errors.As(err, &notMended) || notMended.Result.Verdict != health.Unknown || out.Changed || out.Summary != health.SummaryUnknown {
		t.Errorf("Run = %+v, %v", out, err)
	}
	if _, err := os.Stat(filepath.Join(w.home, "world", "sandbox-a-sandbox")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the sandbox was created")
	}
}

// One sandbox that cannot be mended does not keep the others from it, and the
// run says which it is.
func TestOneBadSandbox(t *testing.T) {
	w := &world{home: t.TempDir()}
	if err := os.MkdirAll(filepath.Join(w.home, "world"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.home, "world", "sandbox-a-sandbox.broken"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := Run(t.Context(), w.options(twoSandboxes()))
	var notMended *ladder.NotMended
	if !errors.As(err, &notMended) || notMended.Result.Subject != "sandbox/a" || out.Summary != health.SummaryFailed {
		t.Errorf("Run = %+v, %v", out, err)
	}
	for _, r := range out.Results {
		if r.Subject == "sandbox/b" && r.Verdict != health.OK {
			t.Errorf("b is %s: %s", r.Verdict, r.Message)
		}
	}
}

// What turns out to disturb more than the plan said is asked for.
func TestMoreThanWasAgreedTo(t *testing.T) {
	for _, agree := range []bool{true, false} {
		t.Run(strconv.FormatBool(agree), func(t *testing.T) {
			w := stands(t)
			w.remove(t, "gateway-gateway") // so that inference is blocked when the plan is made
			doc := twoSandboxes()
			doc.Inference = desired.Inference{Provider: "ollama", Model: "other"}
			o := w.options(doc)
			var asked []string
			o.Consent = func(_ context.Context, p Plan) (bool, error) {
				asked = append(asked, strings.Join(p.Disturbs(), " "))
				return len(asked) == 1 || agree, nil
			}
			_, err := Run(t.Context(), o)
			if diff := cmp.Diff([]string{"", "inference"}, asked); diff != "" {
				t.Errorf("asked (-want +got)\n%s", diff)
			}
			content, readErr := os.ReadFile(filepath.Join(w.home, "world", "inference-inference", "made"))
			if readErr != nil || (string(content) == "other") != agree {
				t.Errorf("inference is %q, %v", content, readErr)
			}
			if agree != (err == nil) || !agree && !isAdvisory(err, "plan-changed") {
				t.Errorf("Run: %v", err)
			}
		})
	}
}

// An interrupted run removes the sandboxes that it created, and only those; the
// same command converges afterwards.
func TestInterruptedRunUndoesWhatItCreated(t *testing.T) {
	w := &world{home: t.TempDir()}
	one := desired.New("creel").With(desired.Sandbox{Name: "a"}).WithDefaults()
	if _, err := Run(t.Context(), w.options(one)); err != nil {
		t.Fatal(err)
	}
	ctx, interrupt := context.WithCancelCause(t.Context())
	o := w.options(twoSandboxes())
	var undone []string
	o.AfterEntry = func(e ladder.Entry) {
		if e.Kind == ladder.KindOutcome && e.Action == "create-sandbox" {
			interrupt(errors.New("interrupt signal received"))
		}
	}
	o.Undo = func(ctx context.Context, name string) error {
		if ctx.Err() != nil {
			t.Error("the undoing is interrupted too")
		}
		undone = append(undone, name)
		return os.RemoveAll(filepath.Join(w.home, "world", "sandbox-"+name+"-sandbox"))
	}
	var events []ladder.Event
	o.Report = messages(&events)
	_, err := Run(ctx, o)
	if !errors.Is(err, context.Canceled) || !slices.Equal(undone, []string{"b"}) {
		t.Errorf("Run: %v, undone %v", err, undone)
	}
	if last := events[len(events)-1]; last.Type != ladder.RunEnded || last.Reason != "interrupted" {
		t.Errorf("last event %+v", last)
	}
	entries, err := ladder.ReadJournal(w.gateway().Journal())
	if err != nil || !slices.ContainsFunc(entries, func(e ladder.Entry) bool {
		return e.Action == "undo-create-sandbox" && e.Kind == ladder.KindOutcome && e.OK
	}) {
		t.Errorf("the journal does not tell of the undoing: %v, %v", entries, err)
	}
	if out, err := Run(t.Context(), w.options(twoSandboxes())); err != nil || out.Summary != health.SummaryOK {
		t.Errorf("afterwards: %+v, %v", out, err)
	}
}

// A damaged journal explains nothing any more, and keeps nothing from being mended.
func TestDamagedJournalDoesNotDecide(t *testing.T) {
	w := stands(t)
	w.remove(t, "gateway-gateway")
	if err := os.WriteFile(w.gateway().Journal(), []byte("garbage\nmore\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var events []ladder.Event
	o := w.options(twoSandboxes())
	o.Report = messages(&events)
	if out, err := Run(t.Context(), o); err != nil || out.Summary != health.SummaryOK {
		t.Errorf("Run = %+v, %v", out, err)
	}
	if !slices.ContainsFunc(events, func(e ladder.Event) bool { return e.Reason == "journal-corrupt" }) {
		t.Error("nobody was told of the damage")
	}
}

// R1: killed at any step - after each journal entry and after each effect - the
// same command converges: nothing twice, nothing missing, nothing to remove by
// hand. Killed a second time on the way, too.
func TestR1KilledAnywhere(t *testing.T) {
	kills := 0
	for at := 1; ; at++ {
		w := &world{home: t.TempDir()}
		if !runChild(t, w, at) {
			break
		}
		kills++
		if kills%4 == 0 {
			runChild(t, w, 1+rand.IntN(at)) //nolint:gosec // any step will do
		}
		converges(t, w, fmt.Sprintf("killed at step %d", at))
		if t.Failed() {
			return
		}
	}
	if kills < 30 { // 10 things with an intent, an effect or two and an outcome each
		t.Errorf("only %d steps were killed at", kills)
	}
}

func converges(t *testing.T, w *world, when string) {
	t.Helper()
	if runChild(t, w, 0) {
		t.Fatalf("%s: the second run was killed", when)
	}
	before := w.tree(t)
	out, err := Run(t.Context(), w.options(twoSandboxes()))
	if err != nil || !out.Plan.Empty() || out.Summary != health.SummaryOK {
		t.Errorf("%s: then %+v, %v", when, out, err)
	}
	if after := w.tree(t); before != after {
		t.Errorf("%s: a third run changed files", when)
	}
	entries, err := ladder.ReadJournal(w.gateway().Journal())
	if err != nil {
		t.Errorf("%s: %v", when, err)
	}
	if err == nil && len(entries) == 0 {
		t.Errorf("%s: the journal tells nothing", when)
	}
}

// runChild runs the test program as a run over w and reports whether it was
// killed; at 0 kills nobody.
func runChild(t *testing.T, w *world, at int) (killed bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), childHome+"="+w.home, childKill+"="+strconv.Itoa(at))
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGKILL && ctx.Err() == nil {
			return true
		}
	}
	if err != nil {
		t.Fatalf("run with kill at %d: %v\n%s", at, err, said.String())
	}
	return false
}
