package embedded

import (
	"context"
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"creel/internal/advisory"
	"creel/internal/gateway"
	"creel/internal/gateway/upgrade"
	"creel/internal/health"
	"creel/internal/state"
	"creel/internal/version"
)

// earlierBuild is this executable as another build of it: a byte of the id that the
// linker left in it is another, nothing else.
var earlierBuild = sync.OnceValues(func() ([]byte, error) {
	content, err := os.ReadFile(version.Executable())
	if err != nil {
		return nil, err
	}
	f, err := elf.Open(version.Executable())
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	note := f.Section(".note.go.buildid")
	content[note.Offset+16] ^= 1 // the description begins after three numbers and the owner
	return content, nil
})

// earlier starts a gateway of another build, as an earlier creel did, and returns
// where its executable is.
func (w *world) earlier() (executable, build string) {
	w.t.Helper()
	content, err := earlierBuild()
	if err != nil {
		w.t.Fatal(err)
	}
	draft := filepath.Join(w.home, "earlier")
	if err := os.WriteFile(draft, content, 0o700); err != nil {
		w.t.Fatal(err)
	}
	if build, err = version.BuildIDOf(draft); err != nil || build == version.BuildID() {
		w.t.Fatalf("%q, %v: it is no other build", build, err)
	}
	executable = sideOf(w.g.Roots, "", build, settings{}).Executable
	if err := state.MkdirAll(filepath.Dir(executable)); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(draft, executable); err != nil {
		w.t.Fatal(err)
	}
	if err := w.r.launch(context.Background(), func(string) {}, executable, settings{}); err != nil {
		w.t.Fatal(err)
	}
	return executable, build
}

// modeOf says what one build does.
func (w *world) modeOf(build, mode string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.home, modeFile+"-"+build), []byte(mode), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) database(content string) {
	w.t.Helper()
	if err := os.WriteFile(w.g.Database(), []byte(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// settledOn fails unless a gateway of that build is healthy, no upgrade is under way
// and the database is as wanted.
func (w *world) settledOn(build, database string) gateway.Observation {
	w.t.Helper()
	o := w.r.Observe(context.Background())
	if o.Verdict != health.OK || o.Identity.BuildID != build {
		w.t.Errorf("%v %s, build %q; want a healthy one of build %q", o.Verdict, o.Message, o.Identity.BuildID, build)
	}
	if record, served, err := w.r.records(); err != nil || record != nil || served == nil || served.Build != build {
		w.t.Errorf("records %+v, %+v, %v; want %s as the one that served", record, served, err, build)
	}
	if got, err := os.ReadFile(w.g.Database()); err != nil || string(got) != database {
		w.t.Errorf("database %q, %v", got, err)
	}
	return o
}

func TestUpgrade(t *testing.T) {
	w := newWorld(t, "good")
	old, build := w.earlier()
	w.database("of the earlier one")
	before := w.settledOn(build, "of the earlier one")
	u, err := w.r.PlanUpgrade(t.Context(), gateway.UpgradeOptions{})
	if err != nil || len(u.Differs) != 1 || u.From.BuildID != build || u.To.BuildID != version.BuildID() || u.From.Executable != old || len(u.Disturbs) != 0 {
		t.Errorf("plan %+v, %v", u, err)
	}
	// A start leaves what is only another build alone.
	w.start()
	if o := w.r.Observe(t.Context()); o.Identity.PID != before.Identity.PID {
		t.Error("a start replaced it")
	}
	// The executable of the old one may be gone by then.
	if err := os.RemoveAll(w.g.Roots.Versions()); err != nil {
		t.Fatal(err)
	}
	if err := w.r.Upgrade(t.Context(), gateway.UpgradeOptions{}, nil); err != nil {
		t.Fatal(err)
	}
	after := w.settledOn(version.BuildID(), "of the earlier one")
	if after.Identity.PID == before.Identity.PID || after.Endpoint != before.Endpoint || len(after.Drift) != 0 {
		t.Errorf("%+v, was %+v", after, before)
	}
	if _, err := os.Stat(w.g.File(state.UpgradeDir)); err == nil {
		t.Error("what was kept is left")
	}
	// Upgrading what is up to date does nothing.
	if err := w.r.Upgrade(t.Context(), gateway.UpgradeOptions{}, nil); err != nil {
		t.Fatal(err)
	}
	if o := w.r.Observe(t.Context()); o.Identity.PID != after.Identity.PID {
		t.Error("it was replaced by itself")
	}
	if u, err := w.r.PlanUpgrade(t.Context(), gateway.UpgradeOptions{}); err != nil || len(u.Differs) != 0 {
		t.Errorf("plan %+v, %v", u, err)
	}
}

// However the new one fails, the old one is back with its database.
func TestUpgradeComesBack(t *testing.T) {
	for _, c := range []struct{ mode, says string }{
		{"glibc", "GLIBC_2.39"},
		{"writes-and-gives-up", "the migration failed half way"},
		{"unhealthy", "SERVICE_STATUS_UNHEALTHY"},
	} {
		t.Run(c.mode, func(t *testing.T) {
			t.Setenv("CREEL_BUDGET_GATEWAY_START", "1500ms")
			t.Setenv("CREEL_BUDGET_PROBE", "600ms")
			t.Setenv("CREEL_BUDGET_LOCK", "500ms")
			w := newWorld(t, "good")
			_, build := w.earlier()
			w.database("of the earlier one")
			before := w.settledOn(build, "of the earlier one")
			w.modeOf(version.BuildID(), c.mode)
			err := w.r.Upgrade(t.Context(), gateway.UpgradeOptions{}, nil)
			p, ok := advisory.Of(err)
			if !ok || p.ID != "gateway-upgrade-failed" || !strings.Contains(err.Error(), c.says) {
				t.Errorf("Upgrade = %v, want the reason %q", err, c.says)
			}
			after := w.settledOn(build, "of the earlier one")
			if after.Identity.PID == before.Identity.PID || after.Endpoint != before.Endpoint {
				t.Errorf("%+v, was %+v: then this shows nothing", after, before)
			}
		})
	}
}

// A gateway that was stopped is started as another build: the one that ran last is
// the way back, unless its executable is gone.
func TestStartOfAnotherBuildComesBack(t *testing.T) {
	w := newWorld(t, "good")
	old, build := w.earlier()
	w.database("of the earlier one")
	if err := w.r.Stop(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if removed, err := Prune(w.g.Roots, ""); err != nil || len(removed) > 0 {
		t.Errorf("pruned %q, %v: the way back", removed, err)
	}
	w.modeOf(version.BuildID(), "writes-and-gives-up")
	err := w.r.Start(t.Context(), nil)
	if p, ok := advisory.Of(err); !ok || p.ID != "gateway-upgrade-failed" {
		t.Errorf("Start = %v", err)
	}
	w.settledOn(build, "of the earlier one")

	if err := w.r.Stop(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(old); err != nil {
		t.Fatal(err)
	}
	err = w.r.Start(t.Context(), nil)
	if p, ok := advisory.Of(err); !ok || p.ID != "gateway-upgrade-stranded" || !strings.Contains(err.Error(), "the migration failed half way") {
		t.Errorf("Start = %v", err)
	}
	if got, err := os.ReadFile(w.g.Database()); err != nil || string(got) != "of the earlier one" {
		t.Errorf("database %q, %v", got, err)
	}
	o := w.r.Observe(t.Context())
	if !o.Absent || !strings.Contains(o.Message, "was interrupted") {
		t.Errorf("%v %s", o.Verdict, o.Message)
	}
	if u, err := w.r.PlanUpgrade(t.Context(), gateway.UpgradeOptions{}); err != nil || len(u.Differs) != 1 {
		t.Errorf("plan %+v, %v", u, err)
	}
	// What ailed the new one is mended.
	w.modeOf(version.BuildID(), "good")
	w.start()
	w.settledOn(version.BuildID(), "of the earlier one")
}

// Where there is no way back nothing is stopped.
func TestUpgradeWithoutAWayBack(t *testing.T) {
	w := newWorld(t, "good")
	_, build := w.earlier()
	if err := os.RemoveAll(w.g.Roots.Versions()); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(w.g.Roots.Versions(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.g.Roots.Versions(), build), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := w.r.Upgrade(t.Context(), gateway.UpgradeOptions{}, nil)
	if p, ok := advisory.Of(err); !ok || p.ID != "gateway-upgrade-no-way-back" {
		t.Errorf("Upgrade = %v", err)
	}
	if o := w.r.Observe(t.Context()); o.Verdict != health.OK || o.Identity.BuildID != build {
		t.Errorf("%v %s", o.Verdict, o.Message)
	}
}

// An older build is refused at the database of a newer one before anything is
// written, whether the newer one runs or not.
func TestDowngradeIsRefused(t *testing.T) {
	w := newWorld(t, "good")
	_, build := w.earlier()
	newer := func(context.Context) error { return advisory.New("database-newer", "schema version 2", nil) }
	older := New(Config{Gateway: w.g, Getenv: w.r.cfg.Getenv, Usable: newer})
	refused := func(id string, do ...func() error) {
		t.Helper()
		before := tree(t, w.home)
		for i, f := range do {
			if p, ok := advisory.Of(f()); !ok || p.ID != id {
				t.Errorf("%d: %v, want %s", i, p, id)
			}
		}
		if after := tree(t, w.home); !slices.Equal(before, after) {
			t.Errorf("changed:\n%q\n%q", before, after)
		}
	}
	plan := func() error { _, err := older.PlanUpgrade(t.Context(), gateway.UpgradeOptions{}); return err }
	up := func() error { return older.Upgrade(t.Context(), gateway.UpgradeOptions{}, nil) }
	start := func() error { return older.Start(t.Context(), nil) }
	refused("database-newer", plan, up)
	if o := w.r.Observe(t.Context()); o.Verdict != health.OK || o.Identity.BuildID != build {
		t.Errorf("%v %s", o.Verdict, o.Message)
	}
	if err := w.r.Stop(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	refused("database-newer", plan, up, start)

	// Records of a newer Creel are as good a reason.
	older.cfg.Usable = nil
	for _, name := range []string{state.ServedFile, state.UpgradeFile} {
		keep, _ := os.ReadFile(w.g.File(name))
		if err := os.WriteFile(w.g.File(name), []byte(`{"version":2}`), 0o600); err != nil {
			t.Fatal(err)
		}
		refused("gateway-record-newer", plan, up, start)
		if o := older.Observe(t.Context()); o.Reason != "gateway-record-newer" {
			t.Errorf("%s: %s %s", name, o.Reason, o.Message)
		}
		if err := os.WriteFile(w.g.File(name), keep, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// tree is what is in a directory, with its content, but for logs.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || strings.HasSuffix(path, ".log") {
			return err
		}
		content, err := os.ReadFile(path)
		all = append(all, path+" "+string(content[:min(len(content), 4096)]))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A daemon that anybody starts while an upgrade has put back half of the files
// finishes that first. It serves them only if they are its own: another build might
// migrate them, and what was kept would be replaced by that.
func TestServeSettles(t *testing.T) {
	for _, own := range []bool{true, false} {
		t.Run(fmt.Sprintf("own files %v", own), func(t *testing.T) {
			t.Setenv("CREEL_BUDGET_GATEWAY_START", "5s")
			w := newWorld(t, "good")
			w.database("half put back")
			kept := filepath.Join(w.g.File(state.UpgradeDir), state.KeptDir)
			if err := os.MkdirAll(kept, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(kept, state.DatabaseFile), []byte("of the earlier one"), 0o600); err != nil {
				t.Fatal(err)
			}
			from := "another"
			if own {
				from = version.BuildID()
			}
			if err := os.WriteFile(w.g.File(state.UpgradeFile), []byte(`{"version":1,"gateway":"creel","runtime":"embedded","step":"returning","started_at":"2026-01-02T03:04:05Z",
				"from":{"version":"1","build":"`+from+`","executable":"/nowhere"},"to":{"version":"2","build":"b","executable":"/nowhere"},"kept":["gateway.db"]}`), 0o600); err != nil {
				t.Fatal(err)
			}
			self, err := Self(w.g.Roots)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // a service manager tries again
				err := w.r.launch(t.Context(), func(string) {}, self, settings{})
				if p, ok := advisory.Of(err); own && err != nil || !own && (!ok || p.ID != "gateway-upgrade-interrupted") {
					t.Fatalf("launch = %v", err)
				}
				if got, err := os.ReadFile(w.g.Database()); err != nil || string(got) != "of the earlier one" {
					t.Errorf("database %q, %v", got, err)
				}
				if record, err := upgrade.Read(w.g); err != nil || record == nil || record.Step != upgrade.Prepared {
					t.Errorf("%+v, %v", record, err)
				}
				if own {
					break
				}
			}
			if o := w.r.Observe(t.Context()); own && (o.Verdict != health.OK || len(o.Caveats) != 1 || o.Caveats[0].Advisory != "gateway-upgrade-unfinished") {
				t.Errorf("%+v", o)
			}
			w.start() // which finishes or forgets it
			w.settledOn(version.BuildID(), "of the earlier one")
		})
	}
}
