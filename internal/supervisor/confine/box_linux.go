package confine

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"

	"creel/internal/sandbox"
)

var errNotYet = errors.New("not implemented yet")

// Box is a running confinement.
type Box struct{ done chan struct{} }

// Process is a program running inside a Box.
type Process struct {
	// PTY is the master side of the process's terminal; nil without one. Closing
	// it is the caller's.
	PTY *os.File
}

// Start confines self (an executable whose "confine" subcommand calls Main) and
// returns when it answered. ctx bounds the start, not the life of the Box.
func Start(ctx context.Context, self string, p Profile) (*Box, error) { return nil, errNotYet }

// Main is the "confine" subcommand.
func Main(ctx context.Context) int { return 1 }

// Confinement is what was observed to be in force.
func (b *Box) Confinement() sandbox.Confinement { return sandbox.Confinement{} }

// PID is the first process of the Box as the host numbers it.
func (b *Box) PID() int { return 0 }

// Workspace is the workspace's path as the programs inside see it.
func (b *Box) Workspace() string { return WorkspacePath }

// Executable is this program's path as the programs inside see it.
func (b *Box) Executable() string { return ExecutablePath }

// RelayPort is the port inside that the programs may connect to.
func (b *Box) RelayPort() int { return 0 }

// DashboardPort is the port inside that the agent may bind; 0 without one.
func (b *Box) DashboardPort() int { return 0 }

// Spawn starts a program. The files may be nil (then /dev/null) and remain the
// caller's to close; with c.TTY they are ignored and Process.PTY is set.
func (b *Box) Spawn(ctx context.Context, c Command, stdin, stdout, stderr *os.File) (*Process, error) {
	return nil, errNotYet
}

// Listen opens a TCP listener on 127.0.0.1:port as the programs inside see it.
func (b *Box) Listen(ctx context.Context, port int) (net.Listener, error) { return nil, errNotYet }

// Dial connects to a loopback port as the programs inside see it.
func (b *Box) Dial(ctx context.Context, port int) (net.Conn, error) { return nil, errNotYet }

// Done is closed when every process of the Box has ended.
func (b *Box) Done() <-chan struct{} { return b.done }

// Close kills every process of the Box and returns when they have ended.
func (b *Box) Close() error { return nil }

// PID is the process's number inside.
func (p *Process) PID() int { return 0 }

// HostPID is the process's number on the host.
func (p *Process) HostPID() int { return 0 }

// Wait returns when the process has ended. The error is ctx's, or that the Box
// ended first.
func (p *Process) Wait(ctx context.Context) (ExitStatus, error) { return ExitStatus{}, errNotYet }

// Signal sends sig to every process of the process's session.
// os.ErrProcessDone when it has ended.
func (p *Process) Signal(ctx context.Context, sig syscall.Signal) error { return errNotYet }
