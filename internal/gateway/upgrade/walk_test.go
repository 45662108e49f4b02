package upgrade

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"creel/internal/advisory"
	"creel/internal/gateway"
	"creel/internal/state"
)

// world is a gateway whose processes are words and whose files are real.
type world struct {
	t   *testing.T
	g   state.Gateway
	cfg Config
	// running is the version that runs, "" for none.
	running string
	// fails are versions that write to the database and do not come up then.
	fails map[string]bool
	// foreign: somebody else is faster.
	foreign bool
	// killAt is the step after which the process that upgrades is killed.
	killAt int
	steps  []string
	said   []string
}

const oldContent = "format 1: what the user made"

type killed struct{}

func newWorld(t *testing.T) *world {
	t.Helper()
	// In memory where that is possible: hundreds of walks sync every step.
	dir, err := os.MkdirTemp("/dev/shm", "upgrade")
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	w := &world{t: t, g: state.Roots{Config: dir, State: dir, Run: dir, OpenShell: dir}.Gateway("creel"), running: "1.0.0", fails: map[string]bool{}}
	w.cfg = Config{Gateway: w.g, Runtime: "embedded", Files: Files{Databases: []string{"gateway.db"}, Plain: []string{"credentials.key"}, Patterns: []string{"sandboxes/*/handle.json"}},
		AfterStep: func(name string) {
			w.steps = append(w.steps, name)
			if len(w.steps) == w.killAt {
				panic(killed{})
			}
		}}
	for name, content := range map[string]string{"gateway.db": oldContent, "gateway.db-wal": "log of the old one", "credentials.key": "key",
		"sandboxes/one/handle.json": "handle 1", "sandboxes/two/handle.json": "handle 2", "sandboxes/one/workspace": "the agent's"} {
		w.put(name, content)
	}
	return w
}

func (w *world) put(name, content string) {
	w.t.Helper()
	path := w.g.File(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) read(name string) string {
	b, err := os.ReadFile(w.g.File(name))
	if err != nil {
		return ""
	}
	return string(b)
}

func (w *world) Stop(context.Context, gateway.Progress) error {
	w.running = ""
	return nil
}

// Launch is a gateway that reads and migrates its database. The old one refuses that
// of the new one.
func (w *world) Launch(_ context.Context, s Side, _ gateway.Progress) error {
	if w.running != "" {
		return fmt.Errorf("%s still runs", w.running)
	}
	db := w.read("gateway.db")
	if s.Version == "1.0.0" && db != oldContent {
		return advisory.New("database-newer", "the database is of another version: "+db, nil)
	}
	if s.Version != "1.0.0" {
		w.put("gateway.db", "format 2: "+strings.TrimPrefix(db, "format 2: "))
		w.put("gateway.db-wal", "")
		w.put("gateway.db-shm", "index")
		w.put("credentials.key", "another key")
		w.put("sandboxes/one/handle.json", "handle of a later version")
		w.cfg.AfterStep("written")
	}
	if w.foreign {
		return advisory.New("gateway-already-running", "it runs already", nil)
	}
	if w.fails[s.Version] {
		return advisory.New("gateway-start-failed", s.Version+" does not come up", nil)
	}
	w.running = s.Version
	return nil
}

func (w *world) say(m string) { w.said = append(w.said, m) }

var (
	oldSide = Side{Version: "1.0.0", Build: "aaa", Executable: "/old"}
	newSide = Side{Version: "2.0.0", Build: "bbb", Executable: "/new"}
)

// guarded runs a walk that may be killed.
func guarded(f func() error) (err error, dead bool) { //nolint:revive // the error is about the walk, dead about its process
	defer func() {
		if p := recover(); p != nil {
			if _, ok := p.(killed); !ok {
				panic(p)
			}
			dead = true
		}
	}()
	return f(), false
}

// asOld fails unless everything is as the old gateway left it.
func (w *world) asOld() {
	w.t.Helper()
	for name, want := range map[string]string{"gateway.db": oldContent, "gateway.db-wal": "log of the old one", "credentials.key": "key",
		"sandboxes/one/handle.json": "handle 1", "sandboxes/one/workspace": "the agent's", "gateway.db-shm": ""} {
		if got := w.read(name); got != want {
			w.t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func (w *world) settled() {
	w.t.Helper()
	if r, err := Read(w.g); r != nil || err != nil {
		w.t.Errorf("an upgrade is still under way: %+v, %v", r, err)
	}
	if _, err := os.Stat(kept(w.g)); err == nil {
		w.t.Error("what was kept is still there")
	}
}

func TestReplace(t *testing.T) {
	w := newWorld(t)
	if err := w.cfg.Replace(t.Context(), w, oldSide, newSide, w.say); err != nil {
		t.Fatal(err)
	}
	if w.running != "2.0.0" || w.read("gateway.db") != "format 2: "+oldContent {
		t.Errorf("%s runs from %q", w.running, w.read("gateway.db"))
	}
	w.settled()
	if want := []string{"prepared", "stopped", "kept", "written", "launched", "finished"}; !slices.Equal(w.steps, want) {
		t.Errorf("steps %q, want %q", w.steps, want)
	}
}

func TestReplaceComesBack(t *testing.T) {
	w := newWorld(t)
	w.fails["2.0.0"] = true
	err := w.cfg.Replace(t.Context(), w, oldSide, newSide, w.say)
	p, ok := advisory.Of(err)
	if !ok || p.ID != "gateway-upgrade-failed" || !strings.Contains(err.Error(), "the old one is back") || !strings.Contains(err.Error(), "2.0.0 does not come up") {
		t.Errorf("%v", err)
	}
	if w.running != "1.0.0" {
		t.Errorf("%q runs", w.running)
	}
	w.asOld()
	w.settled()
	// What the new one wrote is not lost either.
	if got := w.read("upgrade/refused/gateway.db"); got != "format 2: "+oldContent {
		t.Errorf("set aside: %q", got)
	}
}

func TestReplaceOfASandboxThatIsGone(t *testing.T) {
	w := newWorld(t)
	w.fails["2.0.0"] = true
	w.cfg.AfterStep = func(name string) {
		if name == "kept" {
			if err := os.RemoveAll(w.g.File("sandboxes/two")); err != nil {
				t.Error(err)
			}
		}
	}
	if err := w.cfg.Replace(t.Context(), w, oldSide, newSide, w.say); err == nil || w.running != "1.0.0" {
		t.Errorf("%v, %q runs", err, w.running)
	}
	if _, err := os.Stat(w.g.File("sandboxes/two")); err == nil {
		t.Error("a deleted sandbox was brought back")
	}
}

// Neither comes up: what is on disk is the old one's, and the next start tries again.
func TestStranded(t *testing.T) {
	w := newWorld(t)
	w.fails["2.0.0"], w.fails["1.0.0"] = true, true
	err := w.cfg.Replace(t.Context(), w, oldSide, newSide, w.say)
	if p, ok := advisory.Of(err); !ok || p.ID != "gateway-upgrade-stranded" || !strings.Contains(err.Error(), "1.0.0 does not come up") {
		t.Errorf("%v", err)
	}
	w.asOld()
	r, err := Read(w.g)
	if err != nil || r == nil || r.Step != Prepared {
		t.Fatalf("%+v, %v", r, err)
	}
	w.fails["1.0.0"] = false
	if err := w.cfg.Resume(t.Context(), w, *r, newSide, w.say); err == nil || w.running != "1.0.0" {
		t.Errorf("%v, %q runs", err, w.running)
	}
	w.asOld()
	w.settled()
}

// A new gateway that served on after whoever upgraded to it was killed keeps what it
// wrote since, whatever is wanted then, and whether or not the old one can be had.
func TestServedOnAfterTheKill(t *testing.T) {
	for _, lost := range []bool{false, true} {
		for _, wanted := range []Side{newSide, {Version: "3.0.0", Build: "ccc", Executable: "/third"}} {
			w := newWorld(t)
			from := oldSide
			if lost {
				from.Executable = ""
			}
			w.killAt = 5
			if _, dead := guarded(func() error { return w.cfg.Replace(t.Context(), w, from, newSide, w.say) }); !dead || w.steps[4] != "launched" {
				t.Fatalf("steps %q: then this shows nothing", w.steps)
			}
			const since = "format 2: what the user made since"
			w.put("gateway.db", since)
			w.running, w.killAt = "", 0
			if w.resume(wanted); w.running != wanted.Version || w.read("gateway.db") != since {
				t.Errorf("lost %v, %s: %q runs from %q", lost, wanted, w.running, w.read("gateway.db"))
			}
			w.settled()
		}
	}
	// Where the old one is wanted again, which cannot read that, it is set aside.
	w := newWorld(t)
	w.killAt = 5
	_, _ = guarded(func() error { return w.cfg.Replace(t.Context(), w, oldSide, newSide, w.say) })
	w.put("gateway.db", "format 2: what the user made since")
	w.running, w.killAt = "", 0
	w.resume(oldSide)
	w.asOld()
	if got := w.read("upgrade/refused/gateway.db"); w.running != "1.0.0" || got != "format 2: what the user made since" {
		t.Errorf("%q runs, set aside: %q", w.running, got)
	}
}

// Without the old executable there is no old gateway to go back to, but its files.
func TestComesBackWithoutAnExecutable(t *testing.T) {
	w := newWorld(t)
	w.running, w.fails["2.0.0"] = "", true
	from := oldSide
	from.Executable = ""
	err := w.cfg.Launch(t.Context(), w, from, newSide, w.say)
	if p, ok := advisory.Of(err); !ok || p.ID != "gateway-upgrade-stranded" {
		t.Errorf("%v", err)
	}
	w.asOld()
	w.fails["2.0.0"] = false
	r, err := Read(w.g)
	if err != nil || r == nil {
		t.Fatal(r, err)
	}
	if err := w.cfg.Resume(t.Context(), w, *r, newSide, w.say); err != nil || w.running != "2.0.0" {
		t.Errorf("%v, %q runs", err, w.running)
	}
	w.settled()
}

// What cannot be kept is not risked: the old one, which was stopped for it, runs again.
func TestCannotKeep(t *testing.T) {
	w := newWorld(t)
	w.put("sandboxes/three/handle.json/file", "a directory in its place")
	err := w.cfg.Replace(t.Context(), w, oldSide, newSide, w.say)
	if p, ok := advisory.Of(err); !ok || p.ID != "gateway-upgrade-failed" || w.running != "1.0.0" {
		t.Errorf("%v, %q runs", err, w.running)
	}
	w.asOld()
	w.settled()
}

func TestSettingsAlone(t *testing.T) {
	w := newWorld(t)
	to := oldSide
	to.Settings = json.RawMessage(`{"port":2}`)
	w.fails["1.0.0"] = true
	err := w.cfg.Replace(t.Context(), w, oldSide, to, w.say)
	if err == nil || !strings.Contains(err.Error(), "with other settings") && !strings.Contains(err.Error(), "not back") {
		t.Errorf("%v", err)
	}
	w.asOld()
}

// A caller who gives up does not leave a machine without a gateway.
func TestCancelledComesBack(t *testing.T) {
	w := newWorld(t)
	w.fails["2.0.0"] = true
	ctx, cancel := context.WithCancel(t.Context())
	w.cfg.AfterStep = func(name string) {
		if name == "kept" {
			cancel()
		}
	}
	if err := w.cfg.Replace(ctx, strict{w}, oldSide, newSide, w.say); err == nil || w.running != "1.0.0" {
		t.Errorf("%v, %q runs", err, w.running)
	}
	w.asOld()
}

// strict refuses to do anything when the time is over.
type strict struct{ *world }

func (s strict) Launch(ctx context.Context, side Side, report gateway.Progress) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return s.world.Launch(ctx, side, report)
}

// The walk is killed after each of its steps, and so is the one that resumes it. In
// the end one of the two gateways runs, from files that are its own, and nothing is
// lost.
func TestKilledAnywhere(t *testing.T) {
	for _, fails := range []bool{false, true} {
		for _, wanted := range []Side{newSide, oldSide} {
			reached := map[string]bool{}
			for first := 1; ; first++ {
				w := newWorld(t)
				w.fails["2.0.0"], w.killAt = fails, first
				_, dead := guarded(func() error { return w.cfg.Replace(t.Context(), w, oldSide, newSide, w.say) })
				if !dead {
					break
				}
				reached[w.steps[first-1]] = true
				for second := 1; ; second++ {
					again := newWorld(t)
					again.fails["2.0.0"], again.killAt = fails, first
					_, _ = guarded(func() error { return again.cfg.Replace(t.Context(), again, oldSide, newSide, again.say) })
					at := again.steps[first-1]
					again.steps, again.killAt = nil, second
					dead := again.resume(wanted)
					last := "nothing"
					if n := len(again.steps); n > 0 {
						last = again.steps[n-1]
					}
					if dead {
						again.killAt = 0
						again.resume(wanted)
					}
					again.t = t
					name := fmt.Sprintf("new fails %v, wanted %s, killed after %s, then after %s", fails, wanted.Version, at, last)
					again.judge(name, fails, wanted)
					if !dead {
						break
					}
				}
			}
			want := []string{"prepared", "stopped", "kept", "written", "launched", "finished"}
			if fails {
				want = []string{"prepared", "stopped", "kept", "written", "returning", "put-back", "returned", "finished"}
			}
			for _, step := range want {
				if !reached[step] {
					t.Errorf("new fails %v: no walk was killed after %q", fails, step)
				}
			}
		}
	}
}

// resume is what the next start does.
func (w *world) resume(wanted Side) (dead bool) {
	_, dead = guarded(func() error {
		r, err := Read(w.g)
		if err != nil || r == nil {
			return err
		}
		if w.running != "" {
			return w.cfg.Finish()
		}
		return w.cfg.Resume(context.Background(), w, *r, wanted, w.say)
	})
	return dead
}

func (w *world) judge(name string, fails bool, wanted Side) {
	w.t.Helper()
	switch w.running {
	case "1.0.0":
		w.asOld()
	case "2.0.0":
		if fails || w.read("gateway.db") != "format 2: "+oldContent {
			w.t.Errorf("%s: the new one runs from %q", name, w.read("gateway.db"))
		}
	default:
		w.t.Errorf("%s: %q runs", name, w.running)
	}
	if r, err := Read(w.g); r != nil || err != nil {
		w.t.Errorf("%s: %+v, %v", name, r, err)
	}
	if w.t.Failed() {
		w.t.Fatalf("%s (wanted %s)", name, wanted.Version)
	}
}

// A daemon that is started by somebody else while files are half put back finishes
// that first.
func TestSettle(t *testing.T) {
	w := newWorld(t)
	w.fails["2.0.0"], w.killAt = true, 5
	_, dead := guarded(func() error { return w.cfg.Replace(t.Context(), w, oldSide, newSide, w.say) })
	if !dead || w.steps[4] != "returning" || w.read("gateway.db") == oldContent {
		t.Fatalf("steps %q: then this shows nothing", w.steps)
	}
	w.killAt = 0
	for range 2 { // whoever starts it may try again
		if p, ok := advisory.Of(w.cfg.Settle(newSide.Build)); !ok || p.ID != "gateway-upgrade-interrupted" {
			t.Errorf("the new build is not refused: %v", p)
		}
		w.asOld()
		if r, err := Read(w.g); err != nil || r == nil || r.Step != Prepared {
			t.Errorf("%+v, %v", r, err)
		}
	}
	if err := w.cfg.Settle(oldSide.Build); err != nil {
		t.Fatal(err)
	}
	w.asOld()
	other := w.cfg
	other.Runtime = "openshell"
	if err := other.Settle(newSide.Build); err != nil {
		t.Error(err)
	}
}

// Before the files are put back, what starts a gateway by itself is led to the old one.
func TestBeforeReturn(t *testing.T) {
	w := newWorld(t)
	w.fails["2.0.0"] = true
	var led []string
	w.cfg.BeforeReturn = func(old Side) error {
		if r, err := Read(w.g); err != nil || r == nil || r.Step != Trying {
			t.Errorf("at %+v, %v", r, err)
		}
		led = append(led, old.Executable)
		return nil
	}
	if err := w.cfg.Replace(t.Context(), w, oldSide, newSide, w.say); err == nil || !slices.Equal(led, []string{"/old"}) {
		t.Errorf("%v, led to %q", err, led)
	}
}

// A build that served the old gateway's files after they were put back has migrated
// them, and failed again: what was kept is not replaced by that.
func TestKeptIsNotReplacedByWhatAnotherServed(t *testing.T) {
	w := newWorld(t)
	w.fails["2.0.0"], w.killAt = true, 6
	_, dead := guarded(func() error { return w.cfg.Replace(t.Context(), w, oldSide, newSide, w.say) })
	if !dead || w.steps[5] != "put-back" {
		t.Fatalf("steps %q: then this shows nothing", w.steps)
	}
	w.killAt = 0
	if err := WriteServed(w.g, w.cfg.Runtime, newSide); err != nil {
		t.Fatal(err)
	}
	w.put("gateway.db", "format 2: migrated")
	w.resume(newSide)
	if w.running != "1.0.0" {
		t.Errorf("%q runs", w.running)
	}
	w.asOld()
	w.settled()
}

// A gateway that somebody else started meanwhile is not pulled its files from under.
func TestForeignDaemon(t *testing.T) {
	w := newWorld(t)
	w.running = ""
	w.cfg.AfterStep = func(name string) {
		if name != "kept" {
			return
		}
		l, err := state.TryLock(w.g.File(state.DaemonLockFile), "another")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Unlock() })
	}
	w.fails["2.0.0"] = true
	err := w.cfg.Launch(t.Context(), w, oldSide, newSide, w.say)
	if err == nil || !strings.Contains(err.Error(), "started by somebody else") {
		t.Errorf("%v", err)
	}
	if got := w.read("gateway.db"); got != "format 2: "+oldContent {
		t.Errorf("its database is %q", got)
	}
	w = newWorld(t)
	w.foreign = true
	err = w.cfg.Replace(t.Context(), w, oldSide, newSide, w.say)
	if p, ok := advisory.Of(err); !ok || p.ID != "gateway-already-running" || w.read("gateway.db") == oldContent {
		t.Errorf("%v, its database is %q", err, w.read("gateway.db"))
	}
}

// Putting back is repeated when it was interrupted anywhere; what the new one wrote
// is set aside once, not overwritten by what was put back.
func TestPutBackTwice(t *testing.T) {
	w := newWorld(t)
	names, err := keep(w.g, w.cfg.Files)
	if err != nil {
		t.Fatal(err)
	}
	w.put("gateway.db", "format 2")
	w.put("gateway.db-journal", "of the new one")
	for range 2 {
		if err := putBack(w.g, w.cfg.Files, names); err != nil {
			t.Fatal(err)
		}
		w.asOld()
	}
	if got := w.read("upgrade/refused/gateway.db"); got != "format 2" {
		t.Errorf("set aside: %q", got)
	}
	if w.read("gateway.db-journal") != "" || w.read("upgrade/refused/gateway.db-journal") == "" {
		t.Error("what the old one did not have is still there")
	}
}
