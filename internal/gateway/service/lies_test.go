package service_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"creel/internal/advisory"
	"creel/internal/gateway/service"
	"creel/internal/health"
	"creel/internal/state"
)

// From nothing to a gateway that is kept, and back, with the gateway's process and
// the manager's memory looked at in between.
func TestInstallAndUninstall(t *testing.T) {
	w := newWorld(t)
	if err := w.r.Start(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	before := w.running()
	if s := w.s.Inspect(t.Context(), w.observe()); s.Installed || s.Verdict != health.Failed || s.Reason != "service-not-installed" {
		t.Errorf("before: %+v", s)
	}
	out, changed, err := w.install()
	if err != nil || !changed || out.Verdict != health.OK {
		t.Fatalf("install: %+v changed=%v, %v", out, changed, err)
	}
	pid := w.running()
	if m := w.manager(); pid == before || m.PID[out.Unit] != pid || !m.Linger {
		t.Errorf("pid %d, was %d; the manager: %+v", pid, before, m)
	}
	if to, err := os.Readlink(w.enabled()); err != nil || to != w.unit() {
		t.Errorf("enabled: %q, %v", to, err)
	}
	// Again: nothing is changed.
	again, changed, err := w.install()
	if err != nil || changed || again.Verdict != health.OK || w.running() != pid {
		t.Errorf("again: changed=%v pid %d, was %d, %v", changed, w.running(), pid, err)
	}
	// The verbs work through the unit, and leave it as it is wanted.
	for range 2 { // stopping what is stopped is fine
		if err := w.r.Stop(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	if o := w.observe(); !o.Absent || w.manager().PID[out.Unit] != 0 {
		t.Errorf("after the stop: %s, %+v", o.Message, w.manager())
	}
	if s := w.s.Inspect(t.Context(), w.observe()); s.Verdict != health.Failed || s.Reason != "service-not-active" {
		t.Errorf("stopped: %+v", s)
	}
	if err := w.r.Start(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if pid := w.running(); w.manager().PID[out.Unit] != pid {
		t.Errorf("the gateway was started beside its unit: %d, %+v", pid, w.manager())
	}
	// Back to a gateway that nobody keeps.
	removed, err := w.s.Uninstall(t.Context(), w.r, w.report)
	if err != nil || !removed {
		t.Fatalf("uninstall: %v, %v", removed, err)
	}
	w.running()
	w.nothingLeft()
	if _, err := os.Lstat(filepath.Join(w.home, ".config", "systemd")); err == nil {
		t.Error("empty directories of units are left")
	}
	if removed, err := w.s.Uninstall(t.Context(), w.r, w.report); removed || err != nil {
		t.Errorf("uninstall again: %v, %v", removed, err)
	}
}

// Each lie, told during an installation, is found out: it is no success, the reason
// is named, everything is taken back, and a gateway that ran runs.
func TestLiesAreNoSuccess(t *testing.T) {
	for _, c := range []struct {
		lie, id string
		touched bool // the gateway's process may be another one afterwards
	}{
		{"enable-does-nothing", "service-not-enabled", false},
		{"enable-fails", "service-not-enabled", false},
		{"reload-does-nothing", "service-unit-missing", false},
		{"another-file-is-loaded", "service-unit-foreign", false},
		{"masked", "service-masked", false},
		{"enable-linger-does-nothing", "service-linger-off", false},
		{"linger-is-not-told", "service-unknown", false},
		{"answers-nonsense", "service-manager-unreachable", false},
		{"hangs", "service-manager-unreachable", false},
		{"another-main-process", "service-other-process", true},
		{"start-does-nothing", "gateway-start-timeout", true},
		{"program-fails", "gateway-start-failed", true},
	} {
		t.Run(c.lie, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.decoy()
			if err := w.r.Start(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			before := w.running()
			w.lie(c.lie)
			if !strings.Contains(c.lie, "linger") {
				w.lie(c.lie, "linger-is-on") // a manager that is only starting is waited for
			}
			began := time.Now()
			out, _, err := w.install()
			if took := time.Since(began); took > 30*time.Second {
				t.Errorf("it took %s", took)
			}
			p, explained := advisory.Of(err)
			if !explained || out.Verdict == health.OK {
				t.Fatalf("install = %+v, %v", out, err)
			}
			if p.ID != c.id {
				t.Errorf("%s: %v, want %s", p.ID, err, c.id)
			}
			if !w.told(c.lie) {
				t.Error("the lie was never told")
			}
			w.lie() // what is so now can be asked
			w.nothingLeft()
			if pid := w.running(); !c.touched && pid != before {
				t.Errorf("the gateway was touched: %d, was %d", pid, before)
			}
			for _, said := range w.said {
				if strings.Contains(said, "is kept by") {
					t.Errorf("it said %q", said)
				}
			}
		})
	}
}

// Lies of a manager that kept the gateway until now: what was removed is not said to
// be gone, and what was stopped not to have ended.
func TestLiesAboutTheEnd(t *testing.T) {
	for _, c := range []struct {
		lie, id string
		unit    bool // the unit file is still there
	}{
		{"stop-does-nothing", "gateway-stop-failed", true},
		{"answers-nonsense", "service-manager-unreachable", true},
		{"removed-unit-stays", "service-unit-stale", false},
	} {
		t.Run(c.lie, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if _, _, err := w.install(); err != nil {
				t.Fatal(err)
			}
			w.lie(c.lie)
			removed, err := w.s.Uninstall(t.Context(), w.r, w.report)
			p, explained := advisory.Of(err)
			if removed || !explained || p.ID != c.id || !w.told(c.lie) {
				t.Errorf("uninstall = %v, %v, want %s", removed, err, c.id)
			}
			if _, err := os.Lstat(w.unit()); (err == nil) != c.unit {
				t.Errorf("the unit file: %v", err)
			}
			// What is recorded is what a second attempt works from.
			w.lie()
			if removed, err := w.s.Uninstall(t.Context(), w.r, w.report); err != nil || !removed {
				t.Errorf("uninstall without the lie: %v, %v", removed, err)
			}
			w.nothingLeft()
		})
	}
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		if _, _, err := w.install(); err != nil {
			t.Fatal(err)
		}
		pid := w.running()
		w.lie("stop-does-nothing")
		err := w.r.Stop(t.Context(), nil)
		if p, ok := advisory.Of(err); !ok || p.ID != "gateway-stop-failed" || w.running() != pid {
			t.Errorf("Stop = %v", err)
		}
	})
}

// A unit that is not Creel's, or not any more, is neither overwritten nor removed,
// and the gateway that runs is left alone.
func TestForeignUnitsAreKept(t *testing.T) {
	for name, change := range map[string]func(w *world, text string) (string, string){
		"foreign": func(*world, string) (string, string) {
			return "[Service]\nExecStart=/bin/true\n", "service-unit-foreign"
		},
		"edited": func(_ *world, text string) (string, string) {
			return strings.Replace(text, "RestartSec=1s", "RestartSec=1h", 1), "service-unit-edited"
		},
		"another state": func(w *world, text string) (string, string) {
			other := w.g
			other.Roots.State = "/srv/creel/state"
			return service.Text(other, w.m, w.s.Program(), nil), "service-unit-foreign"
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if err := w.r.Start(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			before := w.running()
			content, id := change(w, service.Text(w.g, w.m, w.s.Program(), w.cfg.Environment))
			if err := os.MkdirAll(filepath.Dir(w.unit()), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(w.unit(), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
			untouched := func() {
				t.Helper()
				if now, err := os.ReadFile(w.unit()); err != nil || string(now) != content {
					t.Errorf("the unit was touched: %v\n%s", err, now)
				}
				if pid := w.running(); pid != before {
					t.Errorf("the gateway was touched: %d, was %d", pid, before)
				}
			}
			_, _, err := w.install()
			if p, ok := advisory.Of(err); !ok || p.ID != id {
				t.Errorf("install = %v, want %s", err, id)
			}
			untouched()
			_, err = w.s.Uninstall(t.Context(), w.r, w.report)
			if p, ok := advisory.Of(err); (ok && p.ID == id) != (id == "service-unit-edited") {
				t.Errorf("uninstall = %v", err) // another one's is no business of ours, and not found
			}
			untouched()
		})
	}
	t.Run("changed while it keeps", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		if _, _, err := w.install(); err != nil {
			t.Fatal(err)
		}
		content := "[Service]\nExecStart=/bin/true\n"
		if err := os.WriteFile(w.unit(), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if s := w.s.Inspect(t.Context(), w.observe()); s.Verdict != health.Failed || s.Reason != "service-unit-foreign" {
			t.Errorf("status: %+v", s)
		}
		_, err := w.s.Uninstall(t.Context(), w.r, w.report)
		if p, ok := advisory.Of(err); !ok || p.ID != "service-unit-foreign" {
			t.Errorf("uninstall = %v", err)
		}
		if now, _ := os.ReadFile(w.unit()); string(now) != content {
			t.Errorf("the unit was touched: %s", now)
		}
	})
}

// An update that fails leaves the unit that was there, and the gateway runs through
// it again.
func TestFailedUpdateKeepsTheOldUnit(t *testing.T) {
	w := newWorld(t)
	if _, _, err := w.install(); err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(w.unit())
	if err != nil {
		t.Fatal(err)
	}
	w.cfg.Environment = append(w.cfg.Environment, "CREEL_BUDGET_PROBE=4s")
	w.serve()
	w.lie("program-fails")
	if _, _, err := w.install(); err == nil {
		t.Fatal("the update worked")
	}
	if now, _ := os.ReadFile(w.unit()); string(now) != string(old) {
		t.Errorf("the unit is another one:\n%s", now)
	}
	w.lie()
	if err := w.r.Start(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if pid := w.running(); w.manager().PID[service.UnitName("creel")] != pid {
		t.Errorf("it runs beside its unit: %+v", w.manager())
	}
}

// A daemon that the unit starts and that cannot work says why, though nobody but its
// log listens; it is not tried again.
func TestStartSaysWhy(t *testing.T) {
	w := newWorld(t)
	if _, _, err := w.install(); err != nil {
		t.Fatal(err)
	}
	if err := w.r.Stop(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.g.File(state.CredentialKeyFile), []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := w.r.Start(t.Context(), nil)
	if p, ok := advisory.Of(err); !ok || p.ID != "credential-key-unusable" || !strings.Contains(err.Error(), "gateway failed to start") {
		t.Errorf("Start = %v", err)
	}
	if calls := w.manager().Calls; calls[len(calls)-1] != "stop "+service.UnitName("creel") {
		t.Errorf("the last call is %q, not to stop trying", calls[len(calls)-1])
	}
}

// What cannot work anyway is not installed: nothing is written, nobody is asked.
func TestUnusableIsNotInstalled(t *testing.T) {
	w := newWorld(t)
	w.cfg.Usable = func(context.Context) error { return advisory.New("database-newer", "it is from next year", nil) }
	w.serve()
	_, _, err := w.install()
	if p, ok := advisory.Of(err); !ok || p.ID != "database-newer" {
		t.Errorf("install = %v", err)
	}
	w.nothingLeft()
	if calls := w.manager().Calls; len(calls) > 0 {
		t.Errorf("the manager was asked %q", calls)
	}
}

// A machine without systemd is told what else there is, and nothing is written.
func TestWithoutSystemd(t *testing.T) {
	w := newWorld(t)
	w.m.Booted = w.home + "/absent"
	_, _, err := w.install()
	p, ok := advisory.Of(err)
	if !ok || p.ID != "service-no-systemd" || !strings.Contains(strings.Join(p.Commands(), "\n"), "creel gateway serve") {
		t.Errorf("install = %v", err)
	}
	w.nothingLeft()
	if calls := w.manager().Calls; len(calls) > 0 {
		t.Errorf("the manager was asked %q", calls)
	}
	// One that had it when the service was installed: what was written can go.
	w.m.Booted = w.home
	if _, _, err := w.install(); err != nil {
		t.Fatal(err)
	}
	w.m.Booted = w.home + "/absent"
	if s := w.s.Inspect(t.Context(), w.observe()); s.Verdict != health.Failed || s.Reason != "service-no-systemd" {
		t.Errorf("status: %+v", s)
	}
	if removed, err := w.s.Uninstall(t.Context(), nil, w.report); err != nil || !removed {
		t.Errorf("uninstall: %v, %v", removed, err)
	}
	if _, err := os.Lstat(w.unit()); err == nil {
		t.Error("the unit is left")
	}
}

// What the record says is checked before anything is done by it; what cannot be read
// is unknown, and then neither the gateway nor a unit is touched.
func TestRecord(t *testing.T) {
	w := newWorld(t)
	if _, _, err := w.install(); err != nil {
		t.Fatal(err)
	}
	pid := w.running()
	path := w.g.File(state.ServiceFile)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"another manager": strings.Replace(string(good), `"user"`, `"system"`, 1),
		"a newer one":     strings.Replace(string(good), `"version": 1`, `"version": 2`, 1),
		"another unit":    strings.Replace(string(good), `"unit": "creel-gateway-creel`, `"unit": "sshd`, 1),
		"another path":    strings.Replace(string(good), w.unit(), "/etc/passwd", 1),
		"damaged":         "{",
	} {
		if content == string(good) {
			t.Fatalf("%s: nothing was changed", name)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if kept, err := w.s.Kept(); kept || err == nil {
			t.Errorf("%s: kept=%v, %v", name, kept, err)
		}
		if err := w.r.Stop(t.Context(), nil); err == nil || w.running() != pid {
			t.Errorf("%s: Stop = %v", name, err)
		}
		if s := w.s.Inspect(t.Context(), w.observe()); s.Verdict != health.Unknown || s.Reason != "service-unknown" {
			t.Errorf("%s: status %+v", name, s)
		}
	}
	// A lost or damaged one keeps nobody from taking the service away.
	for _, lose := range []func() error{func() error { return os.Remove(path) }, func() error { return os.WriteFile(path, []byte("{"), 0o600) }} {
		if err := lose(); err != nil {
			t.Fatal(err)
		}
		if found, err := w.s.Find(t.Context()); found != w.unit() || err != nil {
			t.Errorf("found %q, %v", found, err)
		}
		if removed, err := w.s.Uninstall(t.Context(), nil, w.report); err != nil || !removed {
			t.Errorf("uninstall: %v, %v", removed, err)
		}
		w.nothingLeft()
		if o := w.observe(); !o.Absent {
			t.Errorf("the gateway: %s", o.Message)
		}
		if _, _, err := w.install(); err != nil {
			t.Fatal(err)
		}
	}
}

// A gateway that runs and could not be proven healthy ran all the same: it runs on
// without its service, and after an installation that is taken back.
func TestUnprovenRunsOn(t *testing.T) {
	w := newWorld(t)
	if err := w.r.Start(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	w.lie("program-fails")
	if _, _, err := w.s.Install(t.Context(), doubting{w.r}, w.report); err == nil {
		t.Fatal("it was installed: then this shows nothing")
	}
	w.lie()
	w.running()
	w.nothingLeft()
	if _, _, err := w.install(); err != nil {
		t.Fatal(err)
	}
	if removed, err := w.s.Uninstall(t.Context(), doubting{w.r}, w.report); err != nil || !removed {
		t.Fatalf("uninstall: %v, %v", removed, err)
	}
	w.running()
	w.nothingLeft()
}

// A daemon that only says that it failed: what it logged tells why.
func TestStartIsDiagnosed(t *testing.T) {
	w := newWorld(t)
	if _, _, err := w.install(); err != nil {
		t.Fatal(err)
	}
	if err := w.r.Stop(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	const words = `level=ERROR msg="gateway ended" advisory=gateway-start-failed error="listen tcp4 127.0.0.1:17670: bind: address already in use"` + "\n"
	if err := os.WriteFile(filepath.Join(w.home, lastLog), []byte(words), 0o600); err != nil {
		t.Fatal(err)
	}
	err := w.r.Start(t.Context(), nil)
	if p, ok := advisory.Of(err); !ok || p.ID != "port-in-use" {
		t.Errorf("Start = %v, want port-in-use", err)
	}
}
