package confine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

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

type reply struct {
	event event
	files []*os.File
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

// Dial connects to a loopback port as the programs inside see it.
func (b *Box) Dial(ctx context.Context, port int) (net.Conn, error) {
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

// call sends a request and waits for its answer. A process is entered under the
// request's ID before the request leaves, so that its end is never missed.
func (b *Box) call(ctx context.Context, r request, files []*os.File, p *Process) (reply, error) {
	answer := make(chan reply, 1)
	b.mu.Lock()
	if b.gone {
		b.mu.Unlock()
		return reply{}, ErrGone
	}
	b.next++
	r.ID = b.next
	b.pending[r.ID] = answer
	if p != nil {
		p.id = r.ID
		b.processes[r.ID] = p
	}
	b.mu.Unlock()
	if err := b.write(r, files); err != nil {
		b.forget(r.ID)
		return reply{}, err
	}
	select {
	case got := <-answer:
		if got.event.Error != "" {
			closeAll(got.files)
			b.forget(r.ID)
			return reply{}, &Refusal{Message: got.event.Error, Errno: got.event.Errno}
		}
		return got, nil
	case <-b.broken:
		b.forget(r.ID)
		return reply{}, ErrGone
	case <-ctx.Done():
		// An answer that comes later is dropped with its descriptors; a program
		// that was started nevertheless is killed.
		b.abandon(r.ID, answer, p)
		return reply{}, context.Cause(ctx)
	}
}

// Refusal is what the first process of a Box answered to a request it could not
// fulfil. It unwraps to the system's error number when there is one.
type Refusal struct {
	Message string
	Errno   syscall.Errno
}

// Error is the answer.
func (r *Refusal) Error() string { return r.Message }

// Unwrap returns the error number, or nil.
func (r *Refusal) Unwrap() error {
	if r.Errno == 0 {
		return nil
	}
	return r.Errno
}

func (b *Box) write(r request, files []*os.File) error {
	m, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if len(m) > maxMessage {
		return fmt.Errorf("command and environment have %d bytes, the limit is %d: %w", len(m), maxMessage, syscall.E2BIG)
	}
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			raw, err := f.SyscallConn()
			if err != nil {
				return err
			}
			// Not f.Fd(), which would make the caller's file blocking. The caller
			// keeps it open until Spawn returns.
			if err := raw.Control(func(fd uintptr) { fds[i] = int(fd) }); err != nil {
				return err
			}
		}
		rights = unix.UnixRights(fds...)
	}
	b.send.Lock()
	defer b.send.Unlock()
	if _, _, err := b.conn.WriteMsgUnix(m, rights, nil); err != nil {
		return fmt.Errorf("ask the sandbox's first process: %w", err)
	}
	return nil
}

func (b *Box) forget(id uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.pending, id)
	delete(b.processes, id)
}

func (b *Box) abandon(id uint64, answer chan reply, p *Process) {
	go func() {
		defer b.forget(id)
		select {
		case got := <-answer:
			closeAll(got.files)
			if p != nil && got.event.Error == "" {
				ctx, cancel := budget.Context(context.Background(), budget.Operation, "kill an abandoned program")
				defer cancel()
				_ = p.Signal(ctx, unix.SIGKILL) // only fails when it has ended
			}
		case <-b.broken:
		}
	}()
}

// receive dispatches what the first process says until its socket closes.
func (b *Box) receive() {
	defer b.lose()
	buffer, control := make([]byte, maxMessage), make([]byte, 256)
	for {
		n, cn, _, _, err := b.conn.ReadMsgUnix(buffer, control)
		if err != nil || n == 0 {
			return
		}
		files := descriptors(control[:cn])
		e, err := decodeEvent(buffer[:n])
		if err != nil {
			closeAll(files)
			return // a first process that speaks nonsense is not to be trusted
		}
		b.mu.Lock()
		answer, process := b.pending[e.ID], b.processes[e.ID]
		if e.Exit {
			delete(b.processes, e.ID)
		} else {
			delete(b.pending, e.ID)
		}
		b.mu.Unlock()
		switch {
		case e.Exit:
			closeAll(files)
			if process != nil {
				process.status = ExitStatus{Code: e.Code, Signal: e.Sig, At: time.Now()}
				close(process.ended)
			}
		case answer != nil:
			answer <- reply{e, files}
		default:
			closeAll(files)
		}
	}
}

// lose ends everything that waits for the first process.
func (b *Box) lose() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.gone = true
	close(b.broken)
	for id, p := range b.processes {
		p.err = ErrGone
		close(p.ended)
		delete(b.processes, id)
	}
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
