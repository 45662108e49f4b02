package confine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/creack/pty"

	"creel/internal/budget"
	"creel/internal/sandbox"
)

// ErrGone is the error of asking a Box that has ended.
var ErrGone = errors.New("the sandbox's first process has ended")

// Box is a running confinement.
type Box struct {
	plan        plan
	confinement sandbox.Confinement
	pid         int
	relay       net.Listener // tiers without a network of their own; nil once handed out

	conn *net.UnixConn
	send sync.Mutex

	mu        sync.Mutex
	next      uint64
	pending   map[uint64]chan reply
	processes map[uint64]*Process
	gone      bool

	broken chan struct{} // the control socket has closed
	done   chan struct{}
	kill   func() error // the first process
	close  sync.Once
}

// Process is a program running inside a Box.
type Process struct {
	// PTY is the master side of the process's terminal; nil without one. Closing
	// it is the caller's.
	PTY *os.File

	box     *Box
	id      uint64
	pid     int
	hostPID int
	ended   chan struct{}
	status  ExitStatus
	err     error
}

// Confinement is what was observed to be in force.
func (b *Box) Confinement() sandbox.Confinement { return b.confinement }

// PID is the first process of the Box as the host numbers it.
func (b *Box) PID() int { return b.pid }

// Workspace is the workspace's path as the programs inside see it.
func (b *Box) Workspace() string {
	if b.plan.Tier == sandbox.TierNamespaces {
		return WorkspacePath
	}
	return b.plan.Profile.Workspace
}

// Executable is this program's path as the programs inside see it.
func (b *Box) Executable() string {
	if b.plan.Tier == sandbox.TierNamespaces {
		return ExecutablePath
	}
	return b.plan.Profile.Executable
}

// RelayPort is the port inside that the programs may connect to.
func (b *Box) RelayPort() int { return b.plan.Profile.RelayPort }

// DashboardPort is the port inside that the agent may bind; 0 without one.
func (b *Box) DashboardPort() int { return b.plan.Profile.DashboardPort }

// Done is closed when every process of the Box has ended.
func (b *Box) Done() <-chan struct{} { return b.done }

// Spawn starts a program. The files may be nil (then /dev/null), are put into
// blocking mode and remain the caller's to close; with c.TTY they are ignored and
// Process.PTY is set.
func (b *Box) Spawn(ctx context.Context, c Command, stdin, stdout, stderr *os.File) (*Process, error) {
	var pass []*os.File
	var terminal *os.File
	switch {
	case c.TTY && b.plan.Tier == sandbox.TierNamespaces: // opened inside
	case c.TTY:
		master, slave, err := pty.Open()
		if err != nil {
			return nil, fmt.Errorf("open a terminal: %w", err)
		}
		defer func() { _ = slave.Close() }()
		if err := pty.Setsize(master, size(c.Cols, c.Rows)); err != nil {
			return nil, errors.Join(fmt.Errorf("size the terminal: %w", err), master.Close())
		}
		terminal, pass = master, []*os.File{slave, slave, slave}
	default:
		null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		defer func() { _ = null.Close() }()
		pass = []*os.File{stdin, stdout, stderr}
		for i, f := range pass {
			if f == nil {
				pass[i] = null
			}
		}
	}
	p := &Process{box: b, PTY: terminal, ended: make(chan struct{})}
	r, err := b.call(ctx, request{Op: opSpawn, Command: c}, pass, p)
	if err != nil {
		if terminal != nil {
			_ = terminal.Close()
		}
		return nil, err
	}
	p.pid = r.event.PID
	if r.event.TTY && len(r.files) > 0 {
		last := len(r.files) - 1
		p.PTY, r.files = r.files[last], r.files[:last]
	}
	if len(r.files) > 0 {
		p.hostPID = pidOf(r.files[0])
	}
	closeAll(r.files)
	return p, nil
}

// pidOf reads the number of a pidfd's process as this process sees it; 0 when it
// has been reaped.
func pidOf(pidfd *os.File) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", pidfd.Fd()))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "Pid:"); ok {
			pid, err := strconv.Atoi(strings.TrimSpace(v))
			if err != nil || pid < 0 {
				return 0
			}
			return pid
		}
	}
	return 0
}

// Listen opens a TCP listener on 127.0.0.1:port as the programs inside see it.
// In a tier without a network of its own only RelayPort was reserved, and it is
// handed out once.
func (b *Box) Listen(ctx context.Context, port int) (net.Listener, error) {
	if b.plan.Tier != sandbox.TierNamespaces {
		b.mu.Lock()
		defer b.mu.Unlock()
		if l := b.relay; l != nil && port == b.RelayPort() {
			b.relay = nil
			return l, nil
		}
		return nil, fmt.Errorf("listen on port %d: only the relay's port %d is reserved", port, b.RelayPort())
	}
	r, err := b.call(ctx, request{Op: opListen, Port: port}, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("listen inside on port %d: %w", port, err)
	}
	defer closeAll(r.files)
	if len(r.files) != 1 {
		return nil, fmt.Errorf("listen inside on port %d: no socket came out", port)
	}
	return net.FileListener(r.files[0])
}

// Dial connects to a loopback port as the programs inside see it. In the tier
// landlock, which lets them bind DashboardPort alone, every other port is this
// machine's and is not connected to.
func (b *Box) Dial(ctx context.Context, port int) (net.Conn, error) {
	if b.plan.Tier == sandbox.TierLandlock && port != b.DashboardPort() {
		return nil, fmt.Errorf("connect to port %d: the sandbox has no network of its own, and only port %d is its", port, b.DashboardPort())
	}
	if b.plan.Tier != sandbox.TierNamespaces {
		ctx, cancel := budget.Context(ctx, budget.TCP, "connect to the sandbox")
		defer cancel()
		return dialLoopback(ctx, port)
	}
	r, err := b.call(ctx, request{Op: opDial, Port: port}, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("connect inside to port %d: %w", port, err)
	}
	defer closeAll(r.files)
	if len(r.files) != 1 {
		return nil, fmt.Errorf("connect inside to port %d: no socket came out", port)
	}
	return net.FileConn(r.files[0])
}

// PID is the process's number inside.
func (p *Process) PID() int { return p.pid }

// HostPID is the process's number on the host, or 0 when it had ended before it
// could be asked for.
func (p *Process) HostPID() int { return p.hostPID }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.ended }

// Wait returns when the process has ended. The error is ctx's, or ErrGone when
// the Box ended first.
func (p *Process) Wait(ctx context.Context) (ExitStatus, error) {
	select {
	case <-p.ended:
		return p.status, p.err
	case <-ctx.Done():
		return ExitStatus{}, context.Cause(ctx)
	}
}

// Signal sends sig to every process of the process's session.
// os.ErrProcessDone when it has ended.
func (p *Process) Signal(ctx context.Context, sig syscall.Signal) error {
	r, err := p.box.call(ctx, request{Op: opSignal, Process: p.id, Signal: sig}, nil, nil)
	if err != nil {
		return err
	}
	if r.event.Done {
		return os.ErrProcessDone
	}
	return nil
}

// Close kills every process of the Box and returns when they have ended.
func (b *Box) Close() error {
	var err error
	b.close.Do(func() {
		if b.plan.Tier != sandbox.TierNamespaces {
			// While the first process lives every orphan is its child.
			killDescendants(b.pid)
		}
		err = b.kill()
	})
	<-b.done
	return err
}
