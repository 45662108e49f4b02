package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"creel/internal/advisory"
	"creel/internal/gateway/launch"
	"creel/internal/health"
	"creel/internal/host"
	"creel/internal/state"
)

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func port(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }

func getsid(pid int) (int, error) {
	sid, _, errno := syscall.Syscall(syscall.SYS_GETSID, uintptr(pid), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(sid), nil
}

func awaitState(t testing.TB, pid int, want byte) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		p, err := host.Lookup(pid)
		if err != nil {
			t.Fatal(err)
		}
		if p.State == want {
			return
		}
		select {
		case <-time.After(time.Millisecond):
		case <-deadline:
			t.Fatalf("process %d is %c, not %c", pid, p.State, want)
		}
	}
}

// awaitFree waits until the daemon lock is free.
func awaitFree(w *world) {
	w.t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		held, _, err := state.Held(w.g.File(state.DaemonLockFile))
		if err != nil {
			w.t.Fatal(err)
		}
		if !held {
			return
		}
		select {
		case <-time.After(time.Millisecond):
		case <-deadline:
			w.t.Fatal("the daemon lock is still held")
		}
	}
}

// innocent is a live process that has nothing to do with Creel.
func innocent(t testing.TB) *exec.Cmd {
	t.Helper()
	c := exec.Command("sleep", "600")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Process.Signal(syscall.Signal(0)); err != nil {
			t.Error("the innocent process did not survive")
		}
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	return c
}

func (w *world) write(m marker) {
	w.t.Helper()
	if err := writeMarker(w.g, m); err != nil {
		w.t.Fatal(err)
	}
}

// holdLock takes the daemon lock for the test and gives it back at its end.
func (w *world) holdLock() *state.Lock {
	w.t.Helper()
	l, err := state.TryLock(w.g.File(state.DaemonLockFile), "test")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = l.Unlock() })
	return l
}

func startOf(t testing.TB, pid int) uint64 {
	t.Helper()
	s, err := host.ProcessStartTime(pid)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A marker that is left of a killed daemon names a process that is somebody
// else's by now: it is not health, does not hinder a start, and the process is
// never signalled.
func TestStaleMarkerOfAnInnocent(t *testing.T) {
	w := newWorld(t, "good")
	bystander := innocent(t)
	w.write(marker{Mark: launch.MarkOf("creel", bystander.Process.Pid, startOf(t, bystander.Process.Pid), time.Time{}), InstanceID: "x", Endpoint: endpoint{"127.0.0.1", 9}})
	if o := w.r.Observe(context.Background()); o.Verdict != health.Failed || !o.Absent {
		t.Errorf("Observe = %v absent=%v %s", o.Verdict, o.Absent, o.Message)
	}
	if err := w.r.Stop(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	w.start()
	if w.marker().PID == bystander.Process.Pid {
		t.Error("the marker was not replaced")
	}
}

// The lock is held by somebody, the marker names a process of another time.
func TestMarkerThatDoesNotFitTheLock(t *testing.T) {
	w := newWorld(t, "good")
	bystander := innocent(t)
	lock := w.holdLock()
	w.write(marker{Mark: launch.MarkOf("creel", bystander.Process.Pid, startOf(t, bystander.Process.Pid)+1, time.Time{}), InstanceID: "x", Endpoint: endpoint{"127.0.0.1", 9}})
	o := w.r.Observe(context.Background())
	if o.Verdict != health.Failed || o.Absent || o.Reason != "gateway-marker-stale" {
		t.Errorf("Observe = %v absent=%v %s", o.Verdict, o.Absent, o.Reason)
	}
	last := o.Evidence[len(o.Evidence)-1]
	if last.Verdict != health.Unknown || !strings.HasPrefix(last.Answer, "not asked") {
		t.Errorf("the last link says %+v, want that it was not asked", last)
	}
	// What holds the lock is this test's own process, which is what the lock file
	// says: with a record of a later process nobody is signalled.
	later := state.Holder{PID: bystander.Process.Pid, Command: "creel gateway serve", Since: time.Now().Add(-time.Hour)}
	b, err := json.Marshal(later)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.g.File(state.DaemonLockFile), b, 0o600); err != nil {
		t.Fatal(err)
	}
	err = w.r.Stop(context.Background(), nil)
	if p, ok := advisory.Of(err); !ok || p.ID != "gateway-unidentified" {
		t.Errorf("Stop = %v, want gateway-unidentified", err)
	}
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
}

func TestForeignMarkersAreRefused(t *testing.T) {
	for name, c := range map[string]struct{ content, reason string }{
		"corrupt":         {"{", "gateway-marker-invalid"},
		"empty":           {"", "gateway-marker-invalid"},
		"newer":           {`{"version":2,"future":true}`, "gateway-marker-newer"},
		"another gateway": {`{"version":1,"gateway":"other","instance_id":"x","pid":99,"process_start":1,"endpoint":{"host":"127.0.0.1","port":1}}`, "gateway-marker-invalid"},
		"not loopback":    {`{"version":1,"gateway":"creel","instance_id":"x","pid":99,"process_start":1,"endpoint":{"host":"192.0.2.1","port":1}}`, "gateway-marker-invalid"},
		"pid 1":           {`{"version":1,"gateway":"creel","instance_id":"x","pid":1,"process_start":1,"endpoint":{"host":"127.0.0.1","port":1}}`, "gateway-marker-invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "good")
			lock := w.holdLock()
			if err := os.WriteFile(w.g.Marker(), []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			o := w.r.Observe(context.Background())
			if o.Verdict != health.Failed || o.Reason != c.reason || o.Absent || !strings.Contains(o.Message, w.g.Marker()) {
				t.Errorf("Observe = %v %s: %s", o.Verdict, o.Reason, o.Message)
			}
			if _, err := w.r.Dial(context.Background()); err == nil {
				t.Error("dialled what such a marker says")
			}
			_ = lock.Unlock()
		})
	}
}

// What each fault of a running gateway looks like from outside.
func TestObserveFaults(t *testing.T) {
	stop := func(s syscall.Signal, state byte) func(*world) {
		return func(w *world) {
			pid := w.marker().PID
			if err := syscall.Kill(pid, s); err != nil {
				w.t.Fatal(err)
			}
			if state != 0 {
				awaitState(w.t, pid, state)
				w.t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
				return
			}
			awaitFree(w)
		}
	}
	pointTo := func(port int) func(*world) {
		return func(w *world) {
			m := w.marker()
			m.Endpoint.Port = port
			w.write(m)
		}
	}
	for _, c := range []struct {
		name    string
		fault   func(*world)
		verdict health.Verdict
		reason  string
		message string
		absent  bool
	}{
		{"stopped by a signal", stop(syscall.SIGSTOP, 'T'), health.Failed, "gateway-hung", "stopped by a signal", false},
		{"killed", stop(syscall.SIGKILL, 0), health.Failed, "gateway-not-running", "ended without saying so", true},
		{"nobody at the port", func(w *world) { l := listen(w.t); p := port(l); _ = l.Close(); pointTo(p)(w) }, health.Failed, "gateway-unreachable", "connection refused", false},
		{"a listener that never answers", func(w *world) { pointTo(port(listen(w.t)))(w) }, health.Failed, "gateway-hung", "never answers", false},
		{"a listener without TLS", func(w *world) {
			l := listen(w.t)
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
					_ = c.Close()
				}
			}()
			pointTo(port(l))(w)
		}, health.Failed, "gateway-foreign-listener", "does not speak TLS; the port is held by", false},
		{"a gateway of another authority", func(w *world) {
			other := newWorld(w.t, "good")
			other.start()
			pointTo(other.marker().Endpoint.Port)(w)
		}, health.Failed, "gateway-foreign-listener", "our CA did not sign", false},
		{"secrets replaced behind it", func(w *world) {
			if err := os.RemoveAll(w.g.File(state.TLSDir)); err != nil {
				w.t.Fatal(err)
			}
			w.secrets()
		}, health.Failed, "gateway-foreign-listener", "our CA did not sign", false},
		{"secrets gone", func(w *world) {
			if err := os.RemoveAll(w.g.File(state.TLSDir)); err != nil {
				w.t.Fatal(err)
			}
		}, health.Unknown, "secrets-absent", "", false},
		{"marker gone", func(w *world) {
			if err := os.Remove(w.g.Marker()); err != nil {
				w.t.Fatal(err)
			}
		}, health.Failed, "gateway-not-ready", "starting or stopping", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, "good")
			w.start()
			original := w.marker()
			c.fault(w)
			t.Setenv("CREEL_BUDGET_PROBE", "700ms")
			begin := time.Now()
			o := w.r.Observe(context.Background())
			if took := time.Since(begin); took > 2*time.Second {
				t.Errorf("Observe took %s", took)
			}
			if o.Verdict != c.verdict || o.Reason != c.reason || o.Absent != c.absent || !strings.Contains(o.Message, c.message) {
				t.Errorf("Observe = %v %s absent=%v: %s\n%+v", o.Verdict, o.Reason, o.Absent, o.Message, o.Evidence)
			}
			if o.Identity.InstanceID != "" {
				t.Error("an identity is given although the chain is broken")
			}
			if _, known := advisory.Lookup(o.Reason); !known {
				t.Errorf("reason %s is no advisory", o.Reason)
			}
			if !c.absent && c.name != "marker gone" {
				w.write(original) // so that the clean-up finds the process
			}
		})
	}
}

func TestDrift(t *testing.T) {
	w := newNamedWorld(t, "other-build", "creel", Config{})
	w.start()
	r := New(Config{Gateway: w.g, Getenv: w.r.cfg.Getenv, Port: 1, PortExplicit: true})
	o := r.Observe(context.Background())
	if o.Verdict != health.OK || len(o.Drift) != 2 {
		t.Errorf("Observe = %v, drift %q; want another build and another port", o.Verdict, o.Drift)
	}
}

// A gateway that ignores SIGTERM is killed when its budget is used up.
func TestStopKillsTheDeaf(t *testing.T) {
	t.Setenv("CREEL_BUDGET_GATEWAY_STOP", "300ms")
	w := newWorld(t, "deaf")
	w.start()
	var said []string
	if err := w.r.Stop(context.Background(), func(m string) { said = append(said, m) }); err != nil {
		t.Fatal(err)
	}
	if len(said) != 2 || !strings.Contains(said[1], "killing") {
		t.Errorf("progress = %q", said)
	}
	w.noProcess()
	if _, err := os.Stat(w.g.Marker()); err == nil {
		t.Error("the marker of the killed gateway is still there")
	}
}

// Without a marker the process is known by the lock file.
func TestStopWithoutMarker(t *testing.T) {
	w := newWorld(t, "good")
	w.start()
	if err := os.Remove(w.g.Marker()); err != nil {
		t.Fatal(err)
	}
	if err := w.r.Stop(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	w.noProcess()
}

func FuzzParseMarker(f *testing.F) {
	good, err := json.Marshal(marker{Mark: launch.MarkOf("creel", 2, 1, time.Time{}), InstanceID: "x", Endpoint: endpoint{"127.0.0.1", 17670}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := launch.ParseMarker[marker](b, "creel")
		if err != nil {
			return
		}
		if m.PID < 2 || m.ProcessStart == 0 || m.Endpoint.check() != nil || m.Gateway != "creel" {
			t.Errorf("accepted %+v", m)
		}
	})
}

func BenchmarkObserve(b *testing.B) {
	w := newWorld(b, "good")
	w.start()
	for b.Loop() {
		if o := w.r.Observe(b.Context()); o.Verdict != health.OK {
			b.Fatal(o.Message)
		}
	}
}

func BenchmarkStart(b *testing.B) {
	w := newWorld(b, "good")
	for b.Loop() {
		w.start()
		b.StopTimer()
		if err := w.r.Stop(b.Context(), nil); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// What keeps a daemon from starting is said before one is made, by who looks and by
// who would start it. A daemon that runs is not asked for it.
func TestUnusable(t *testing.T) {
	var problem error
	asked := 0
	w := newNamedWorld(t, "good", "creel", Config{Usable: func(context.Context) error { asked++; return problem }})
	ctx := context.Background()
	problem = advisory.New("database-newer", "database gateway.db has schema version 9", nil)
	o := w.r.Observe(ctx)
	if o.Verdict != health.Failed || !o.Absent || o.Reason != "database-newer" || !strings.Contains(o.Message, "none can start: database gateway.db") || len(o.Hints) == 0 {
		t.Errorf("Observe = %+v", o)
	}
	err := w.r.Start(ctx, nil)
	if p, ok := advisory.Of(err); !ok || p.ID != "database-newer" {
		t.Errorf("Start = %v", err)
	}
	if _, err := os.Stat(w.g.Log()); err == nil {
		t.Error("a daemon was made all the same: it has a log")
	}
	problem = errors.New("could not be found out") // which says nothing against it
	if o := w.r.Observe(ctx); o.Reason != "gateway-not-running" {
		t.Errorf("Observe = %+v", o)
	}
	w.start()
	problem, asked = advisory.New("database-newer", "now", nil), 0
	if o := w.r.Observe(ctx); o.Verdict != health.OK || asked != 0 {
		t.Errorf("Observe = %+v, asked %d times", o, asked)
	}
}
