//go:build !linux

package confine

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"syscall"

	"creel/internal/advisory"
	"creel/internal/sandbox"
)

// FirstHostUID is the least user id that belongs to a sandbox alone.
const FirstHostUID = 524288

// Box cannot exist on this system.
type Box struct{}

// Process cannot exist on this system.
type Process struct{ PTY *os.File }

func unsupported() error {
	return advisory.New("os-unsupported", "sandboxes cannot be confined on "+runtime.GOOS, nil)
}

// Start refuses with the advisory "os-unsupported".
func Start(context.Context, string, Profile) (*Box, error) { return nil, unsupported() }

// Probe finds nothing.
func Probe(context.Context) Support {
	const why = "this is not Linux"
	return Support{Namespaces: why, Landlock: why, Seccomp: why}
}

// Main refuses.
func Main(context.Context) int {
	fmt.Fprintln(os.Stderr, unsupported())
	return 1
}

// Sweep has nothing to kill.
func Sweep(context.Context, string, int) (int, error) { return 0, nil }

// The methods of Box and Process keep their users compiling.

// Confinement is nothing.
func (*Box) Confinement() sandbox.Confinement { return sandbox.Confinement{} }

// PID is 0.
func (*Box) PID() int { return 0 }

// Workspace is empty.
func (*Box) Workspace() string { return "" }

// Executable is empty.
func (*Box) Executable() string { return "" }

// RelayPort is 0.
func (*Box) RelayPort() int { return 0 }

// DashboardPort is 0.
func (*Box) DashboardPort() int { return 0 }

// Spawn refuses.
func (*Box) Spawn(context.Context, Command, *os.File, *os.File, *os.File) (*Process, error) {
	return nil, unsupported()
}

// Listen refuses.
func (*Box) Listen(context.Context, int) (net.Listener, error) { return nil, unsupported() }

// Dial refuses.
func (*Box) Dial(context.Context, int) (net.Conn, error) { return nil, unsupported() }

// Done is never closed.
func (*Box) Done() <-chan struct{} { return nil }

// Close does nothing.
func (*Box) Close() error { return nil }

// PID is 0.
func (*Process) PID() int { return 0 }

// HostPID is 0.
func (*Process) HostPID() int { return 0 }

// Done is never closed.
func (*Process) Done() <-chan struct{} { return nil }

// Wait refuses.
func (*Process) Wait(context.Context) (ExitStatus, error) { return ExitStatus{}, unsupported() }

// Signal refuses.
func (*Process) Signal(context.Context, syscall.Signal) error { return unsupported() }
