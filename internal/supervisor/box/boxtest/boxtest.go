// Package boxtest is a Box for tests that confines nothing: its programs are
// ordinary processes on this machine, its ports those of this machine's
// loopback. It refuses what the real one refuses.
package boxtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"creel/internal/sandbox"
	"creel/internal/supervisor/box"
	"creel/internal/supervisor/confine"
)

// Box runs processes unconfined.
type Box struct {
	workspace string
	self      string
	relay     int
	dashboard int

	mu      sync.Mutex
	running map[*process]struct{}
	closed  bool
	done    chan struct{}
}

// New makes a Box whose workspace is a directory of its own. Whatever still runs
// in it at the end of the test is killed.
func New(tb testing.TB, dashboardPort int) *Box {
	tb.Helper()
	b := &Box{workspace: tb.TempDir(), self: os.Args[0], dashboard: dashboardPort, relay: free(tb), running: map[*process]struct{}{}, done: make(chan struct{})}
	tb.Cleanup(func() { _ = b.Close() })
	return b
}

// free finds a port that nobody listens on now.
func free(tb testing.TB) int {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

// Spawn implements box.Box.
func (b *Box) Spawn(ctx context.Context, c confine.Command, stdin, stdout, stderr *os.File) (box.Process, error) {
	if len(c.Argv) == 0 {
		return nil, errors.New("spawn: no program")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, errors.New("spawn: the box is closed")
	}
	path, err := exec.LookPath(c.Argv[0])
	if err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			err = syscall.ENOENT
		}
		return nil, fmt.Errorf("spawn %s: %w", c.Argv[0], err)
	}
	run := &exec.Cmd{Path: path, Args: c.Argv, Dir: c.Dir, Env: append([]string{"CREEL_SANDBOX_ID=boxtest"}, c.Env...)}
	if run.Dir == "" {
		run.Dir = b.workspace
	}
	run.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	p := &process{cmd: run, ended: make(chan struct{})}
	if c.TTY {
		size := &pty.Winsize{Cols: uint16(c.Cols), Rows: uint16(c.Rows)}
		if c.Cols == 0 || c.Rows == 0 {
			size = &pty.Winsize{Cols: 80, Rows: 24}
		}
		if p.terminal, err = pty.StartWithSize(run, size); err != nil {
			return nil, fmt.Errorf("spawn: %w", err)
		}
	} else {
		for _, f := range []struct {
			from *os.File
			to   func(*os.File)
		}{{stdin, func(f *os.File) { run.Stdin = f }}, {stdout, func(f *os.File) { run.Stdout = f }}, {stderr, func(f *os.File) { run.Stderr = f }}} {
			if f.from != nil { // a nil *os.File in an interface would not be nil
				f.to(f.from)
			}
		}
		if err := run.Start(); err != nil {
			return nil, fmt.Errorf("spawn: %w", err)
		}
	}
	b.running[p] = struct{}{}
	go func() {
		_ = run.Wait()
		status := run.ProcessState.Sys().(syscall.WaitStatus)
		p.status = confine.ExitStatus{Code: status.ExitStatus(), At: time.Now()}
		if status.Signaled() {
			p.status.Signal = int(status.Signal())
			p.status.Code = 128 + p.status.Signal
		}
		b.mu.Lock()
		delete(b.running, p)
		b.mu.Unlock()
		close(p.ended)
	}()
	return p, nil
}

// Listen implements box.Box; it refuses a second listener on a port.
func (b *Box) Listen(ctx context.Context, port int) (net.Listener, error) {
	return (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
}

// Dial implements box.Box.
func (b *Box) Dial(ctx context.Context, port int) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
}

// Done implements box.Box.
func (b *Box) Done() <-chan struct{} { return b.done }

// Close implements box.Box: it kills the sessions of all processes it started.
func (b *Box) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		<-b.done
		return nil
	}
	b.closed = true
	var all []*process
	for p := range b.running {
		all = append(all, p)
	}
	b.mu.Unlock()
	for _, p := range all {
		_ = p.Signal(context.Background(), syscall.SIGKILL)
		<-p.ended
	}
	close(b.done)
	return nil
}

// Running counts the processes that have not ended.
func (b *Box) Running() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.running)
}

// Confinement implements box.Box.
func (b *Box) Confinement() sandbox.Confinement {
	return sandbox.Confinement{Tier: sandbox.TierUnconfined, Reason: "a test", Protections: []sandbox.Protection{{Name: "seccomp", Detail: "a test"}}}
}

// Workspace implements box.Box.
func (b *Box) Workspace() string { return b.workspace }

// Executable implements box.Box.
func (b *Box) Executable() string { return b.self }

// RelayPort implements box.Box.
func (b *Box) RelayPort() int { return b.relay }

// DashboardPort implements box.Box.
func (b *Box) DashboardPort() int { return b.dashboard }

type process struct {
	cmd      *exec.Cmd
	terminal *os.File
	ended    chan struct{}
	status   confine.ExitStatus // valid once ended is closed
}

func (p *process) Terminal() *os.File { return p.terminal }
func (p *process) HostPID() int       { return p.cmd.Process.Pid }

func (p *process) Wait(ctx context.Context) (confine.ExitStatus, error) {
	select {
	case <-p.ended:
		return p.status, nil
	case <-ctx.Done():
		return confine.ExitStatus{}, context.Cause(ctx)
	}
}

func (p *process) Signal(_ context.Context, sig syscall.Signal) error {
	select {
	case <-p.ended:
		return os.ErrProcessDone
	default:
	}
	return syscall.Kill(-p.cmd.Process.Pid, sig)
}
