package launch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"creel/internal/budget"
	"creel/internal/host"
)

// How a process is ended: asked, then forced.
const (
	Terminate = syscall.SIGTERM
	Kill      = syscall.SIGKILL
)

// OwnSession puts a daemon into a session of its own: no terminal's hang-up or
// Ctrl-C reaches it.
func OwnSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// Process is another process held by a pidfd: its pid cannot be given to
// somebody else between a look and a signal.
type Process struct {
	pid int
	f   *os.File
}

// OpenProcess holds the process that began at start. It wraps
// host.ErrNoProcess when there is none any more. One whose first thread has
// ended but not the last can still be waited for.
func OpenProcess(pid int, start uint64) (*Process, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	switch {
	case errors.Is(err, unix.ESRCH):
		return nil, host.ErrNoProcess
	case err != nil:
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	p := &Process{pid: pid, f: os.NewFile(uintptr(fd), fmt.Sprintf("pidfd %d", pid))}
	// Asked after opening: now the pid and the descriptor are of one process.
	now, err := host.Lookup(pid)
	if err == nil && now.Start != start {
		err = host.ErrNoProcess
	}
	if err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// Close gives the hold back.
func (p *Process) Close() { _ = p.f.Close() }

// Signal sends a signal; a process that has ended is fine.
func (p *Process) Signal(s syscall.Signal) error {
	raw, err := p.f.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	if err := raw.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), s, nil, 0) }); err != nil {
		return err
	}
	if sent != nil && !errors.Is(sent, unix.ESRCH) {
		return fmt.Errorf("signal process %d: %w", p.pid, sent)
	}
	return nil
}

// Wait returns when the process has ended; the kernel then makes the pidfd
// readable.
func (p *Process) Wait(ctx context.Context, limit budget.Name) error {
	ctx, cancel := budget.Context(ctx, limit, fmt.Sprintf("wait for process %d to end", p.pid))
	defer cancel()
	if err := p.f.SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("watch process %d: %w", p.pid, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = p.f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	raw, err := p.f.SyscallConn()
	if err != nil {
		return err
	}
	err = raw.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		return err == nil && n == 1
	})
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
