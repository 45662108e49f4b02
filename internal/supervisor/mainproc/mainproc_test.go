package mainproc

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"creel/internal/sandbox"
	"creel/internal/supervisor/box/boxtest"
	"creel/internal/supervisor/confine"
	"creel/internal/supervisor/logs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAfter(t *testing.T) {
	cases := []struct {
		policy  sandbox.RestartPolicy
		code    int
		stopped bool
		want    sandbox.ProcessState
	}{
		{sandbox.RestartAlways, 0, false, sandbox.ProcBackoff},
		{sandbox.RestartAlways, 1, false, sandbox.ProcBackoff},
		{"", 0, false, sandbox.ProcBackoff},
		{sandbox.RestartOnFailure, 0, false, sandbox.ProcExited},
		{sandbox.RestartOnFailure, 1, false, sandbox.ProcBackoff},
		{sandbox.RestartOnFailure, 137, false, sandbox.ProcBackoff},
		{sandbox.RestartNever, 0, false, sandbox.ProcExited},
		{sandbox.RestartNever, 1, false, sandbox.ProcExited},
		{sandbox.RestartAlways, 143, true, sandbox.ProcStopped},
		{sandbox.RestartNever, 0, true, sandbox.ProcStopped},
	}
	for _, c := range cases {
		if got := after(c.policy, c.code, c.stopped); got != c.want {
			t.Errorf("after(%q, %d, %v) = %s, want %s", c.policy, c.code, c.stopped, got, c.want)
		}
	}
}

func TestBackoffGrowsToItsMost(t *testing.T) {
	b := Defaults()
	var got []time.Duration
	for w := b.First; len(got) < 7; w = b.next(w) {
		got = append(got, w/time.Second)
	}
	if want := []time.Duration{1, 2, 4, 8, 16, 30, 30}; !equal(got, want) {
		t.Errorf("waits %v, want %v", got, want)
	}
}

func equal(a, b []time.Duration) bool {
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return len(a) == len(b)
}

// rig runs one main process in an unconfined box.
type rig struct {
	*Main
	box   *boxtest.Box
	lines *logs.Log
	exits chan int
	stop  context.CancelFunc
	done  chan struct{}
}

func start(t *testing.T, policy sandbox.RestartPolicy, tty bool, argv ...string) *rig {
	t.Helper()
	g := &rig{box: boxtest.New(t, 0), lines: logs.Open(nil), exits: make(chan int, 100), done: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	g.stop = cancel
	m, err := Start(ctx, Config{Box: g.box, Command: confine.Command{Argv: argv, Env: []string{"PATH=" + os.Getenv("PATH")}, TTY: tty}, Restart: policy,
		Backoff: Backoff{First: time.Millisecond, Most: 2 * time.Millisecond, Reset: time.Hour}, Grace: 10 * time.Second,
		Lines: g.lines, Log: slog.New(slog.DiscardHandler), Change: func() {}, Exit: func(_ string, code int) { g.exits <- code }})
	if err != nil {
		t.Fatal(err)
	}
	g.Main = m
	go func() {
		defer close(g.done)
		m.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-g.done
		_ = g.box.Close()
		m.Drain()
	})
	return g
}

// said waits until the log holds a line.
func (g *rig) said(t *testing.T, want string) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		lines, more := g.lines.After(0, logs.RingSize)
		for _, l := range lines {
			if strings.Contains(l.Message, want) {
				return
			}
		}
		select {
		case <-more:
		case <-deadline:
			t.Fatalf("never said %q, but %+v", want, lines)
		}
	}
}

func TestRestartsUntilStopped(t *testing.T) {
	g := start(t, sandbox.RestartAlways, false, "sh", "-c", "echo out; echo err >&2; exit 3")
	first := g.State().InstanceID
	for range 4 {
		if code := <-g.exits; code != 3 {
			t.Fatalf("exit code %d", code)
		}
	}
	g.stop()
	<-g.done
	s := g.State()
	if s.State != sandbox.ProcStopped || s.Restarts < 3 || s.PID != 0 || s.InstanceID == first || s.LastExitCode == nil {
		t.Errorf("state %+v", s)
	}
	g.said(t, "out")
	g.said(t, "err")
}

func TestStopAsksFirst(t *testing.T) {
	g := start(t, sandbox.RestartAlways, false, "sh", "-c", `trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done`)
	g.said(t, "up")
	if s := g.State(); s.State != sandbox.ProcRunning || s.PID == 0 || syscall.Kill(s.PID, 0) != nil {
		t.Errorf("state %+v", s)
	}
	g.stop()
	<-g.done
	g.said(t, "bye")
	if s := g.State(); s.State != sandbox.ProcStopped || *s.LastExitCode != 0 {
		t.Errorf("state %+v", s)
	}
}

func TestStopKillsTheStubborn(t *testing.T) {
	g := start(t, sandbox.RestartAlways, false, "sh", "-c", `trap '' TERM; echo up; while :; do sleep 0.05; done`)
	g.cfg.Grace = 50 * time.Millisecond // read after the stop below
	g.said(t, "up")
	g.stop()
	<-g.done
	if s := g.State(); s.LastExit != "killed by signal 9" || *s.LastExitCode != 137 || s.State != sandbox.ProcStopped {
		t.Errorf("state %+v", s)
	}
}

func TestNeverStaysEnded(t *testing.T) {
	g := start(t, sandbox.RestartNever, false, "true")
	<-g.done
	if s := g.State(); s.State != sandbox.ProcExited || s.Restarts != 0 || s.LastExit != "exited with code 0" {
		t.Errorf("state %+v", s)
	}
}

func TestTerminal(t *testing.T) {
	g := start(t, sandbox.RestartNever, true, "sh", "-c", "test -t 1 && echo terminal; stty size")
	<-g.done
	g.said(t, "terminal")
	g.said(t, "24 80")
}

func TestStopDuringBackoff(t *testing.T) {
	g := start(t, sandbox.RestartAlways, false, "false")
	<-g.exits
	g.stop()
	<-g.done
	if s := g.State(); s.State != sandbox.ProcStopped {
		t.Errorf("state %+v", s)
	}
}

func TestFirstStartFails(t *testing.T) {
	_, err := Start(t.Context(), Config{Box: boxtest.New(t, 0), Command: confine.Command{Argv: []string{"/no/such/program"}}})
	if !errors.Is(err, syscall.ENOENT) {
		t.Fatalf("error %v", err)
	}
}

// The Box's end ends the main process for good.
func TestBoxGone(t *testing.T) {
	g := start(t, sandbox.RestartNever, false, "sleep", "600")
	if err := g.box.Close(); err != nil {
		t.Fatal(err)
	}
	<-g.done
	if s := g.State(); s.State != sandbox.ProcExited || *s.LastExitCode != 137 {
		t.Errorf("state %+v", s)
	}
}
