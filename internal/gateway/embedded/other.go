//go:build !linux

package embedded

import (
	"context"
	"errors"
	"os"
	"runtime"
	"syscall"

	"creel/internal/advisory"
	"creel/internal/budget"
)

// Creel's daemon runs on Linux only; these stand-ins let the command line build
// elsewhere.

const (
	terminate = syscall.SIGTERM
	kill      = syscall.SIGKILL
)

func ownSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }

func reflink(*os.File, *os.File) error { return errors.ErrUnsupported }

func followStandardStreams(bool) func(*os.File) error { return nil }

type process struct{}

func openProcess(int, uint64) (*process, error) {
	return nil, advisory.New("os-unsupported", "a gateway cannot run on "+runtime.GOOS, nil)
}

func (*process) close() {}

func (*process) signal(syscall.Signal) error { return errors.ErrUnsupported }

func (*process) wait(context.Context, budget.Name) error { return errors.ErrUnsupported }
