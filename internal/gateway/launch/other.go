//go:build !linux

package launch

import (
	"context"
	"errors"
	"runtime"
	"syscall"

	"creel/internal/advisory"
	"creel/internal/budget"
)

// Gateways run on Linux only; these stand-ins let the command line build elsewhere.

// How a process is ended: asked, then forced.
const (
	Terminate = syscall.SIGTERM
	Kill      = syscall.SIGKILL
)

// OwnSession puts a daemon into a session of its own.
func OwnSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }

// Process is another process.
type Process struct{}

// OpenProcess holds a process.
func OpenProcess(int, uint64) (*Process, error) {
	return nil, advisory.New("os-unsupported", "a gateway cannot run on "+runtime.GOOS, nil)
}

// Close gives the hold back.
func (*Process) Close() {}

// Signal sends a signal.
func (*Process) Signal(syscall.Signal) error { return errors.ErrUnsupported }

// Wait returns when the process has ended.
func (*Process) Wait(context.Context, budget.Name) error { return errors.ErrUnsupported }
