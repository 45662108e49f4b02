// Package box is what the rest of a supervisor needs of a confinement, so that
// its parts can be tested with real processes where nothing can be confined. It
// decides nothing.
package box

import (
	"context"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"creel/internal/sandbox"
	"creel/internal/supervisor/confine"
)

// Box is a running confinement; see confine.Box for what each method promises.
type Box interface {
	Spawn(ctx context.Context, c confine.Command, stdin, stdout, stderr *os.File) (Process, error)
	Listen(ctx context.Context, port int) (net.Listener, error)
	Dial(ctx context.Context, port int) (net.Conn, error)
	Done() <-chan struct{}
	Close() error

	Confinement() sandbox.Confinement
	Workspace() string
	Executable() string
	RelayPort() int
	DashboardPort() int
}

// Process is a program running in a Box; see confine.Process.
type Process interface {
	// Terminal is the master side of the process's terminal, nil without one.
	// Closing it is the caller's.
	Terminal() *os.File
	HostPID() int
	Wait(ctx context.Context) (confine.ExitStatus, error)
	Signal(ctx context.Context, sig syscall.Signal) error
}

// Start confines self, as confine.Start does.
func Start(ctx context.Context, self string, p confine.Profile) (Box, error) {
	b, err := confine.Start(ctx, self, p)
	if err != nil {
		return nil, err
	}
	return confined{b}, nil
}

type confined struct{ *confine.Box }

// Spawn narrows the process to what the supervisor uses.
func (c confined) Spawn(ctx context.Context, command confine.Command, stdin, stdout, stderr *os.File) (Process, error) {
	p, err := c.Box.Spawn(ctx, command, stdin, stdout, stderr)
	if err != nil {
		return nil, err
	}
	terminal, err := pollable(p.PTY)
	if err != nil {
		_ = p.Signal(context.WithoutCancel(ctx), syscall.SIGKILL)
		return nil, fmt.Errorf("take terminal: %w", err)
	}
	return process{p, terminal}, nil
}

// pollable makes of a terminal's descriptor one whose reads end with a deadline
// or a close. A terminal that came from another process blocks.
func pollable(f *os.File) (*os.File, error) {
	if f == nil {
		return nil, nil
	}
	defer func() { _ = f.Close() }()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

type process struct {
	*confine.Process
	terminal *os.File
}

// Terminal returns the master side.
func (p process) Terminal() *os.File { return p.terminal }
