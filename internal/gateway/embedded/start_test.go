package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/bundle"
	"creel/internal/gateway"
	"creel/internal/gateway/launch"
	"creel/internal/health"
	"creel/internal/host"
	"creel/internal/state"
)

func TestStartServesAndStops(t *testing.T) {
	w := newWorld(t, "good")
	ctx := context.Background()
	if o := w.r.Observe(ctx); o.Verdict != health.Failed || !o.Absent || o.Reason != "gateway-not-running" {
		t.Fatalf("before the start: %v absent=%v %s", o.Verdict, o.Absent, o.Reason)
	}
	var said []string
	if err := w.r.Start(ctx, func(m string) { said = append(said, m) }); err != nil {
		t.Fatal(err)
	}
	o := w.r.Observe(ctx)
	if o.Verdict != health.OK || o.Absent || len(o.Drift) != 0 {
		t.Fatalf("after the start: %+v", o)
	}
	m := w.marker()
	if o.Identity.PID != m.PID || o.Identity.InstanceID != m.InstanceID || o.Endpoint.Port != m.Endpoint.Port {
		t.Errorf("identity %+v does not fit the marker %+v", o.Identity, m)
	}
	if len(said) < 3 {
		t.Errorf("progress = %q, want several sentences", said)
	}
	// Its own session, nothing but the wanted environment.
	if sid, err := getsid(m.PID); err != nil || sid != m.PID {
		t.Errorf("session of the daemon = %d, %v; want its own", sid, err)
	}
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", m.PID))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(env), "sk-of-the-user") || !strings.Contains(string(env), "CREEL_HOME="+w.home) {
		t.Errorf("environment of the daemon: %q", env)
	}

	// Starting what runs changes nothing.
	w.start()
	if again := w.marker(); again.PID != m.PID {
		t.Errorf("a second start replaced pid %d by %d", m.PID, again.PID)
	}
	for range 2 { // stopping what is stopped is fine
		if err := w.r.Stop(ctx, nil); err != nil {
			t.Fatal(err)
		}
	}
	if o := w.r.Observe(ctx); !o.Absent || o.Endpoint.Port != m.Endpoint.Port {
		t.Errorf("after the stop: absent=%v endpoint %v, want the recorded port %d", o.Absent, o.Endpoint, m.Endpoint.Port)
	}
	w.noProcess()

	// The port of last time is taken again.
	w.start()
	if again := w.marker(); again.Endpoint != m.Endpoint {
		t.Errorf("endpoint after the restart = %v, want %v", again.Endpoint, m.Endpoint)
	}
}

// A daemon that dies is told dead at once, not when a budget is used up. A machine
// that does other things may be late now and then.
func TestStartTellsTheDeadAtOnce(t *testing.T) {
	const target = 100 * time.Millisecond
	w := newWorld(t, "killed")
	best := time.Hour
	for range 20 {
		err := w.r.Start(context.Background(), nil)
		ended := time.Now()
		if p, ok := advisory.Of(err); !ok || p.ID != "gateway-start-failed" {
			t.Fatalf("Start = %v", err)
		}
		b, err := os.ReadFile(w.g.File("killed-at"))
		if err != nil {
			t.Fatal(err)
		}
		at, err := strconv.ParseInt(string(b), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if best = min(best, ended.Sub(time.Unix(0, at))); best <= target {
			t.Logf("told %s after its end", best)
			return
		}
	}
	t.Errorf("told %s after its end at best, want at most %s", best, target)
}

// Each program is launched as the gateway and does something else. None may be
// called healthy, each failure is bounded and named, and nothing stays behind.
func TestStartFailures(t *testing.T) {
	for _, c := range []struct {
		mode string
		id   string
		want []string // in the error's text
	}{
		{"glibc", "gateway-glibc", []string{"gateway failed to start", "exited with code 127 before becoming ready", "GLIBC_2.39"}},
		{"killed", "gateway-start-failed", []string{"killed by signal 9 (killed) before becoming ready"}},
		{"panics", "gateway-crashed", []string{"exited with code 2", "the gateway of this test panics"}},
		{"gives-up", "disk-full", []string{"exited with code 1", "open the database: no space left on device"}},
		{"says-ready-and-exits", "gateway-start-failed", []string{"exited with code 4"}},
		{"wrong-nonce", "gateway-start-failed", []string{"another launch's nonce"}},
		{"never-answers", "gateway-start-timeout", []string{"not done within 1.5s", "gateway-start"}},
		{"closes-without-a-word", "gateway-start-failed", []string{"its answer is not usable"}},
		{"says-ready-and-is-not", "gateway-start-timeout", []string{"asked:", "failed  lock daemon.lock"}},
		{"unhealthy", "gateway-start-timeout", []string{"asked:", "ok      tcp", "SERVICE_STATUS_UNHEALTHY", "unknown identity: not asked"}},
		{"not-ours", "gateway-start-timeout", []string{"asked:", "the marker names"}},
		{"open", "gateway-start-timeout", []string{"a caller without client certificate was let in"}},
		{"hung", "gateway-start-timeout", []string{"accepts connections and never answers"}},
		{"health-hangs", "gateway-start-timeout", []string{"does not answer"}},
		{"no-health", "gateway-start-timeout", []string{"the store is gone"}},
	} {
		t.Run(c.mode, func(t *testing.T) {
			t.Setenv("CREEL_BUDGET_GATEWAY_START", "1500ms")
			t.Setenv("CREEL_BUDGET_PROBE", "600ms")
			t.Setenv("CREEL_BUDGET_LOCK", "500ms")
			w := newWorld(t, c.mode)
			begin := time.Now()
			err := w.r.Start(context.Background(), nil)
			if took := time.Since(begin); took > 6*time.Second {
				t.Errorf("the failure took %s", took)
			}
			p, ok := advisory.Of(err)
			if !ok {
				t.Fatalf("Start = %v, want a failure with an advisory", err)
			}
			if p.ID != c.id {
				t.Errorf("advisory %s, want %s", p.ID, c.id)
			}
			if _, known := advisory.Lookup(p.ID); !known {
				t.Errorf("advisory %s is not in the registry", p.ID)
			}
			for _, s := range c.want {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("error lacks %q:\n%v", s, err)
				}
			}
			if o := w.r.Observe(context.Background()); o.Verdict == health.OK || !o.Absent {
				t.Errorf("afterwards: %v absent=%v", o.Verdict, o.Absent)
			}
			w.noProcess()
		})
	}
}

func TestStartFailureIsRedacted(t *testing.T) {
	w := newWorld(t, "secret-then-exit")
	err := w.r.Start(context.Background(), nil)
	var f *launch.StartFailure
	if !errors.As(err, &f) {
		t.Fatalf("Start = %v", err)
	}
	if len(f.Log) != 2 {
		t.Errorf("log lines = %q, want the two that are not blank", f.Log)
	}
	for _, secret := range []string{"hunter2", "canary", "sk-of-the-user"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error shows %q:\n%v", secret, err)
		}
	}
}

func TestStartWaitsForALateGateway(t *testing.T) {
	w := newWorld(t, "late")
	w.start()
	if o := w.r.Observe(context.Background()); o.Verdict != health.OK {
		t.Errorf("Observe = %v %s", o.Verdict, o.Message)
	}
}

func TestStartIsCancelled(t *testing.T) {
	w := newWorld(t, "never-answers")
	t.Setenv("CREEL_BUDGET_LOCK", "200ms")
	ctx, cancel := context.WithCancelCause(context.Background())
	stop := errors.New("interrupted by the user")
	begin := time.Now()
	err := w.r.Start(ctx, func(m string) {
		if strings.HasPrefix(m, "waiting") {
			cancel(stop)
		}
	})
	if !errors.Is(err, stop) {
		t.Errorf("Start = %v, want the cause of the cancellation", err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("the cancellation took %s", took)
	}
	w.noProcess()
}

func TestConcurrentStartsMakeOneGateway(t *testing.T) {
	w := newWorld(t, "late")
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		wg.Go(func() { errs[i] = w.r.Start(context.Background(), nil) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	m := w.marker()
	if o := w.r.Observe(context.Background()); o.Verdict != health.OK || o.Identity.PID != m.PID {
		t.Errorf("Observe = %v, pid %d, marker %d", o.Verdict, o.Identity.PID, m.PID)
	}
	// Stopping that one leaves none: the others have gone.
	if err := w.r.Stop(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	w.noProcess()
}

func TestStartBesideAHungGatewayIsRefused(t *testing.T) {
	w := newWorld(t, "good")
	w.start()
	pid := w.marker().PID
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	awaitState(t, pid, 'T')
	err := w.r.Start(context.Background(), nil)
	if p, ok := advisory.Of(err); !ok || p.ID != "gateway-hung" {
		t.Errorf("Start = %v, want gateway-hung", err)
	}
	if w.marker().PID != pid {
		t.Error("the hung gateway was replaced")
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

func TestExplicitPortThatIsTaken(t *testing.T) {
	t.Setenv("CREEL_BUDGET_GATEWAY_START", "5s")
	l := listen(t)
	w := newNamedWorld(t, "good", "creel", Config{Port: port(l), PortExplicit: true})
	err := w.r.Start(context.Background(), nil)
	if p, ok := advisory.Of(err); !ok || p.ID != "port-in-use" {
		t.Errorf("Start = %v, want port-in-use", err)
	}
	// Not explicit: another port is fine.
	w = newNamedWorld(t, "good", "creel", Config{Port: port(l)})
	w.start()
	if got := w.marker().Endpoint.Port; got == port(l) {
		t.Errorf("port %d is held by the test", got)
	}
}

func TestTwoGatewaysSideBySide(t *testing.T) {
	a, b := newNamedWorld(t, "good", "creel", Config{}), newNamedWorld(t, "good", "creel", Config{})
	a.start()
	b.start()
	ma, mb := a.marker(), b.marker()
	if ma.Endpoint == mb.Endpoint || ma.PID == mb.PID {
		t.Fatalf("two gateways share %+v", ma)
	}
	if err := b.r.Stop(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	if o := a.r.Observe(context.Background()); o.Verdict != health.OK || o.Identity.PID != ma.PID {
		t.Errorf("after the end of B, A is %v (%s)", o.Verdict, o.Message)
	}
}

func TestStartUnderAFile(t *testing.T) {
	w := newWorld(t, "good")
	file := w.home + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	roots := w.g.Roots
	roots.State = file + "/state"
	err := New(Config{Gateway: roots.Gateway("creel"), Getenv: w.r.cfg.Getenv}).Start(context.Background(), nil)
	if p, ok := advisory.Of(err); !ok || p.ID != "state-not-directory" || !strings.Contains(err.Error(), file) {
		t.Errorf("Start = %v, want state-not-directory that names %s", err, file)
	}
	roots = w.g.Roots
	roots.Run = w.home + "/" + strings.Repeat("long", 30)
	err = New(Config{Gateway: roots.Gateway("creel"), Getenv: w.r.cfg.Getenv}).Start(context.Background(), nil)
	if p, ok := advisory.Of(err); !ok || p.ID != "socket-path-too-long" {
		t.Errorf("Start = %v, want socket-path-too-long", err)
	}
}

// Without usable secrets no daemon is made, and who looks is told the same.
func TestMissingSecrets(t *testing.T) {
	w := newWorld(t, "good")
	if err := os.RemoveAll(w.g.File("tls")); err != nil {
		t.Fatal(err)
	}
	if o := w.r.Observe(context.Background()); !o.Absent || o.Reason != "secrets-absent" {
		t.Errorf("Observe = %+v", o)
	}
	_, dialErr := w.r.Dial(context.Background())
	if p, ok := advisory.Of(dialErr); !ok || p.ID != "gateway-not-running" || !slices.Contains(p.Commands(), "creel gateway secrets repair") {
		t.Errorf("Dial = %v", dialErr)
	}
	err := w.r.Start(context.Background(), nil)
	if p, ok := advisory.Of(err); !ok || p.ID != "secrets-absent" {
		t.Errorf("Start = %v, want secrets-absent", err)
	}
	for _, path := range []string{w.g.Log(), w.g.Roots.Versions()} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s was made all the same", path)
		}
	}
}

// A gateway that works is not stopped for one that cannot come up, and what is advised
// does mend it.
func TestRestartStopsNothingForWhatCannotStart(t *testing.T) {
	w := newWorld(t, "good")
	w.start()
	before := w.marker()
	path := filepath.Join(w.g.File(state.TLSDir), state.ServerDir, state.TLSCertFile)
	if err := os.WriteFile(path, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := gateway.Restart(context.Background(), w.r, nil)
	if p, ok := advisory.Of(err); !ok || p.ID != "secrets-malformed" || !slices.Contains(p.Commands(), "creel gateway secrets repair --replace") {
		t.Errorf("Restart = %v", err)
	}
	if alive, err := host.Alive(before.PID, before.ProcessStart); !alive || err != nil {
		t.Errorf("the daemon was ended (%v)", err)
	}
	if _, err := bundle.Repair(context.Background(), w.r.Secrets(), time.Now(), bundle.RepairOptions{Replace: true}); err != nil {
		t.Fatal(err)
	}
	if err := gateway.Restart(context.Background(), w.r, nil); err != nil {
		t.Fatal(err)
	}
	if now := w.marker(); now.PID == before.PID {
		t.Error("nothing was restarted")
	}
}

// The marker of a daemon that was killed is still there, and is not believed.
func TestDialAfterKill(t *testing.T) {
	w := newWorld(t, "good")
	w.start()
	m := w.marker()
	p, err := launch.OpenProcess(m.PID, m.ProcessStart)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := errors.Join(p.Signal(launch.Kill), p.Wait(context.Background(), budget.GatewayStop)); err != nil {
		t.Fatal(err)
	}
	awaitFree(w)
	_, err = w.r.Dial(context.Background())
	if p, ok := advisory.Of(err); !ok || p.ID != "gateway-not-running" || !strings.Contains(err.Error(), "ended without saying so") {
		t.Errorf("Dial = %v", err)
	}
}
