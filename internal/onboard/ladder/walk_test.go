package ladder

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"creel/internal/advisory"
	"creel/internal/health"
	"creel/internal/layer"
)

func verdicts(results []health.Result) string {
	var words []string
	for _, r := range results {
		word := r.Verdict.String()
		if r.BlockedBy != "" {
			word = "blocked by " + r.BlockedBy
		}
		words = append(words, word)
	}
	return strings.Join(words, ", ")
}

func TestInspect(t *testing.T) {
	for _, c := range []struct {
		name  string
		id    layer.ID
		fault fault
		want  string
	}{
		{"all sound", layer.Host, sound, "ok, ok, ok, ok, ok, ok, ok, ok"},
		{"host failed hides nothing", layer.Host, broken, "failed, ok, ok, ok, ok, ok, ok, ok"},
		{"secrets", layer.Secrets, broken, "ok, failed, blocked by secrets, blocked by secrets, blocked by secrets, blocked by secrets, blocked by secrets, blocked by secrets"},
		{"gateway", layer.Gateway, broken, "ok, ok, failed, blocked by gateway, blocked by gateway, blocked by gateway, blocked by gateway, blocked by gateway"},
		{"gateway unknown", layer.Gateway, obscure, "ok, ok, unknown, blocked by gateway, blocked by gateway, blocked by gateway, blocked by gateway, blocked by gateway"},
		{"inference hides nothing", layer.Inference, broken, "ok, ok, ok, ok, failed, ok, ok, ok"},
		{"sandbox", layer.Sandbox, broken, "ok, ok, ok, ok, ok, failed, blocked by sandbox/a, blocked by sandbox/a"},
		{"agent", layer.Agent, broken, "ok, ok, ok, ok, ok, ok, failed, blocked by sandbox/a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := stack("a")
			w.break_(t, c.id, c.fault)
			if got := verdicts(Inspect(t.Context(), w.layers())); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// A sandbox that cannot be asked does not keep another from being asked: a's
// inspection ends only after b's has.
func TestInspectsSandboxesSideBySide(t *testing.T) {
	w := stack("a", "b")
	asked := make(chan struct{})
	w.rung(t, layer.Sandbox, "sandbox/a").enquire = func(ctx context.Context) { await(t, ctx, asked) }
	w.rung(t, layer.Dashboard, "sandbox/b").enquire = func(context.Context) { close(asked) }
	if s := health.Summarize(Inspect(t.Context(), w.layers())); s != health.SummaryOK {
		t.Errorf("summary %s", s)
	}
}

// await waits for ready, with a bound that only a broken program reaches.
func await(t *testing.T, ctx context.Context, ready <-chan struct{}) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	select {
	case <-ready:
	case <-ctx.Done():
		t.Error("what should happen at the same time did not happen")
	}
}

func TestPlan(t *testing.T) {
	for _, c := range []struct {
		name   string
		faults map[layer.ID]fault
		want   []string
	}{
		{"nothing", nil, nil},
		{"bare machine", map[layer.ID]fault{layer.Secrets: broken}, []string{"mend secrets", "mend gateway", "mend registration", "mend inference", "mend sandbox/a", "mend sandbox/a", "mend sandbox/a"}},
		{"nothing above what cannot be mended", map[layer.ID]fault{layer.Gateway: unmendable, layer.Sandbox: broken}, nil},
		{"nothing above the unknown", map[layer.ID]fault{layer.Secrets: obscure}, nil},
		{"a provider that is unknown stops nobody", map[layer.ID]fault{layer.Inference: obscure, layer.Agent: broken}, []string{"mend sandbox/a", "mend sandbox/a"}},
		{"a provider that refuses stops those above", map[layer.ID]fault{layer.Inference: unmendable, layer.Agent: broken}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := stack("a")
			for id, f := range c.faults {
				w.break_(t, id, f)
			}
			found := Inspect(t.Context(), w.layers())
			var titles []string
			for _, a := range Plan(t.Context(), w.layers(), found) {
				titles = append(titles, a.Title)
			}
			if diff := cmp.Diff(c.want, titles); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestWalkMendsFromTheBottom(t *testing.T) {
	w := stack("a")
	for _, r := range w.rungs[1:] {
		r.fault = broken
	}
	var events []string
	out, err := Walk(t.Context(), w.layers(), Options{Report: func(e Event) {
		if e.Type == StepStarted || e.Type == StepEnded {
			events = append(events, string(e.Type)+" "+e.Layer+" "+e.Verdict)
		}
		if e.Type == StepStarted && (e.N != len(events)/2+1 || e.Of != 8) {
			t.Errorf("step %d of %d, want %d of 8", e.N, e.Of, len(events)/2+1)
		}
	}})
	if err != nil || out.Summary != health.SummaryOK || !out.Changed {
		t.Fatalf("Walk = %+v, %v", out, err)
	}
	want := []string{"secrets secrets mend-1", "gateway gateway mend-1", "registration registration mend-1", "inference inference mend-1",
		"sandbox/a sandbox mend-1", "sandbox/a agent mend-1", "sandbox/a dashboard mend-1"}
	if diff := cmp.Diff(want, w.done); diff != "" {
		t.Errorf("done (-want +got)\n%s", diff)
	}
	var wantEvents []string
	for _, id := range layer.Order() {
		wantEvents = append(wantEvents, "step-started "+string(id)+" ", "step-ended "+string(id)+" ok")
	}
	if diff := cmp.Diff(wantEvents, events); diff != "" {
		t.Errorf("events (-want +got)\n%s", diff)
	}
}

func TestWalkChangesNothingThatHolds(t *testing.T) {
	w := stack("a", "b")
	out, err := Walk(t.Context(), w.layers(), Options{})
	if err != nil || out.Changed || len(w.done) != 0 || out.Summary != health.SummaryOK {
		t.Errorf("Walk = %+v, %v, done %v", out, err, w.done)
	}
}

func TestWalkStops(t *testing.T) {
	for _, c := range []struct {
		name   string
		id     layer.ID
		fault  fault
		reason string // of the error
		above  bool   // the dashboard, which is broken too, is mended
		mended int
	}{
		{"unmendable", layer.Gateway, unmendable, "fault-3", false, 0},
		{"refusing", layer.Gateway, refusing, "mending is refused", false, 1},
		{"lying, once and not again", layer.Gateway, lying, "fault-5", false, 1},
		{"unknown", layer.Gateway, obscure, "obscure", false, 0},
		{"provider unknown", layer.Inference, obscure, "obscure", true, 0},
		{"provider refusing", layer.Inference, refusing, "mending is refused", false, 1},
		{"two mends", layer.Gateway, brokenDeep, "", true, 2},
		{"agent", layer.Agent, unmendable, "fault-3", false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := stack("a")
			r := w.break_(t, c.id, c.fault)
			top := w.break_(t, layer.Dashboard, broken)
			out, err := Walk(t.Context(), w.layers(), Options{})
			if (err == nil) != (c.reason == "") {
				t.Fatalf("error %v, want one: %t", err, c.reason != "")
			}
			var notMended *NotMended
			if err != nil && (!errors.As(err, &notMended) || !strings.Contains(err.Error()+notMended.Result.Reason, c.reason)) {
				t.Errorf("error %v does not give the reason %s", err, c.reason)
			}
			if r.mended != c.mended || top.mended == 1 != c.above {
				t.Errorf("mended %d times, dashboard %d times; want %d, %t", r.mended, top.mended, c.mended, c.above)
			}
			if err != nil && out.Summary == health.SummaryOK {
				t.Errorf("the summary is ok in spite of %v", err)
			}
			if len(w.sins) > 0 {
				t.Error(w.sins)
			}
		})
	}
}

// Secrets that are inside what their gateway runs in are above it: they can only be
// asked while it runs, and nothing stands on them.
func TestSecretsAboveTheirGateway(t *testing.T) {
	for _, c := range []struct {
		name             string
		gateway, secrets fault
		blocked          bool // the secrets are not asked
		planned, done    []string
	}{
		{"sound", sound, sound, false, nil, nil},
		{"the gateway fails", broken, broken, true, []string{"mend gateway", "mend secrets", "mend registration"}, []string{"gateway gateway mend-1", "secrets secrets mend-1", "registration registration mend-1"}},
		{"the gateway is unknown", obscure, broken, true, nil, nil},
		{"they fail", sound, broken, false, []string{"mend secrets", "mend registration"}, []string{"secrets secrets mend-1", "registration registration mend-1"}},
		{"they are unknown", sound, obscure, false, []string{"mend registration"}, []string{"registration registration mend-1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &world{}
			w.add(layer.Host, "host", sound)
			w.add(layer.Gateway, "gateway", c.gateway)
			w.add(layer.Secrets, "secrets", c.secrets)
			if w.add(layer.Registration, "registration", sound); c.name != "sound" {
				w.rungs[3].fault = broken
			}
			found := Inspect(t.Context(), w.layers())
			if got := found[2].BlockedBy != ""; got != c.blocked {
				t.Errorf("secrets: %+v", found[2])
			}
			if found[1].BlockedBy != "" {
				t.Errorf("gateway: %+v", found[1])
			}
			var planned []string
			for _, a := range Plan(t.Context(), w.layers(), found) {
				planned = append(planned, a.Title)
			}
			if diff := cmp.Diff(c.planned, planned); diff != "" {
				t.Errorf("planned (-want +got)\n%s", diff)
			}
			if _, err := Walk(t.Context(), w.layers(), Options{}); (err != nil) != (c.gateway == obscure || c.secrets == obscure) {
				t.Error(err)
			}
			if diff := cmp.Diff(c.done, w.done); diff != "" {
				t.Errorf("done (-want +got)\n%s", diff)
			}
		})
	}
}

// Sandboxes do not wait for one another: the mending of each ends only after the
// other's has begun, and a's failure is not b's.
func TestWalkMendsSandboxesSideBySide(t *testing.T) {
	w := stack("a", "b")
	begunA, begunB := make(chan struct{}), make(chan struct{})
	a := w.rung(t, layer.Sandbox, "sandbox/a")
	a.fault = refusing
	a.wait = func(ctx context.Context) error { close(begunA); await(t, ctx, begunB); return nil }
	b := w.rung(t, layer.Dashboard, "sandbox/b")
	b.fault = broken
	b.wait = func(ctx context.Context) error { close(begunB); await(t, ctx, begunA); return nil }
	_, err := Walk(t.Context(), w.layers(), Options{})
	if err == nil || !strings.Contains(err.Error(), "refused") || b.fault != sound {
		t.Errorf("error %v, b's dashboard %v", err, b.fault)
	}
}

func TestWalkAsksBeforeEachAction(t *testing.T) {
	w := stack("a")
	gw := w.break_(t, layer.Gateway, broken)
	_, err := Walk(t.Context(), w.layers(), Options{Agree: func(_ context.Context, l layer.Layer, do layer.Action) error {
		return advisory.New("plan-changed", "no to "+do.ID+" of "+l.Subject(), nil)
	}})
	if err == nil || !strings.Contains(err.Error(), "no to mend-1 of gateway") || gw.mended != 0 {
		t.Errorf("error %v, mended %d times", err, gw.mended)
	}
}

func TestInterruptedWalk(t *testing.T) {
	w := stack("a")
	ctx, cancel := context.WithCancelCause(t.Context())
	r := w.break_(t, layer.Gateway, broken)
	r.wait = func(ctx context.Context) error {
		cancel(errors.New("user asked"))
		<-ctx.Done()
		return context.Cause(ctx)
	}
	above := w.break_(t, layer.Sandbox, broken)
	path := filepath.Join(t.TempDir(), "journal")
	j, err := OpenJournal(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Walk(ctx, w.layers(), Options{Journal: j})
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "user asked") {
		t.Errorf("error %v, want context.Canceled and its cause", err)
	}
	if above.mended != 0 || above.looks != 0 {
		t.Error("the walk went on")
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	entries, err := ReadJournal(path)
	if _, unfinished := Unfinished(entries); err != nil || !unfinished {
		t.Errorf("the journal does not say that the run is unfinished: %v, %v", entries, err)
	}
}

// While something takes long, it is heard of at least every five seconds, also
// while it is only looked at.
func TestHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := stack()
		w.break_(t, layer.Gateway, broken).wait = func(context.Context) error { time.Sleep(21 * time.Second); return nil }
		w.rung(t, layer.Inference, "").enquire = func(context.Context) { time.Sleep(11 * time.Second) }
		heard := time.Now()
		beats := map[string]int{}
		_, err := Walk(t.Context(), w.layers()[:5], Options{Report: func(e Event) {
			if gap := time.Since(heard); gap > 5*time.Second && e.Type != Summarized {
				t.Errorf("nothing was heard for %s before %s", gap, e.Type)
			}
			heard = time.Now()
			if e.Type == Heartbeat {
				beats[e.Layer]++
			}
		}})
		if err != nil || beats["gateway"] < 4 || beats["inference"] < 2 {
			t.Errorf("error %v, heartbeats %v", err, beats)
		}
	})
}

// Progress that a layer reports after it returned is dropped and blocks nobody.
func TestLateProgress(t *testing.T) {
	w := &walk{Options: Options{Report: func(Event) {}}}
	var late layer.Progress
	if err := w.watched(Event{}, time.Now(), func(p layer.Progress) error { late = p; return nil }); err != nil {
		t.Fatal(err)
	}
	late("too late")
}

// In whatever world: the walk ends; it converges or names a reason; it never
// mends the unknown, nor above a layer that does not hold; the journal has an
// outcome for each intent; and a second walk over a sound world does nothing.
func TestWalkInAnyWorld(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		w := stack("a", "b")
		for _, r := range w.rungs {
			r.fault = rapid.SampledFrom([]fault{sound, sound, broken, broken, brokenDeep, unmendable, refusing, lying, obscure, clearing}).Draw(t, r.subject+" "+string(r.id))
		}
		path := filepath.Join(dir, "journal")
		j, err := OpenJournal(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		var events []Event
		out, err := Walk(context.Background(), w.layers(), Options{Journal: j, Report: func(e Event) { events = append(events, e) }})
		if closeErr := j.Close(); closeErr != nil {
			t.Fatal(closeErr)
		}
		if len(w.sins) > 0 {
			t.Fatal(w.sins)
		}
		allOK := !slices.ContainsFunc(out.Results, func(r health.Result) bool { return r.Verdict != health.OK })
		if err == nil && !allOK {
			t.Fatalf("no error, and %s", verdicts(out.Results))
		}
		var notMended *NotMended
		if err != nil && (!errors.As(err, &notMended) || notMended.Result.Reason == "" && notMended.Cause == nil) {
			t.Fatalf("error %v gives no reason", err)
		}
		if out.Changed != (len(w.done) > 0) && err == nil {
			t.Fatalf("changed %t, done %v", out.Changed, w.done)
		}
		entries, err := ReadJournal(path)
		if err != nil {
			t.Fatal(err)
		}
		open := map[string]bool{}
		count := 0
		for _, e := range entries {
			if e.Run != out.Run {
				continue
			}
			key := e.Subject + " " + e.Layer + " " + e.Action
			switch e.Kind {
			case KindIntent:
				open[key] = true
				count++
			case KindOutcome:
				if !open[key] {
					t.Fatalf("outcome without intent: %+v", e)
				}
				delete(open, key)
			}
		}
		if len(open) > 0 || count != len(w.done) {
			t.Fatalf("%d intents, open %v; done %v", count, open, w.done)
		}
		if last := events[len(events)-1]; last.Type != Summarized || last.Verdict != string(out.Summary) {
			t.Fatalf("last event %+v", last)
		}
		if allOK {
			w.done = nil
			if again, err := Walk(context.Background(), w.layers(), Options{}); err != nil || again.Changed || len(w.done) > 0 {
				t.Fatalf("second walk: %+v, %v, done %v", again, err, w.done)
			}
		}
	})
}
