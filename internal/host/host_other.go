//go:build !linux

package host

import (
	"fmt"
	"runtime"
	"time"
)

// Creel's daemon runs on Linux only. These stand-ins let the command line build
// elsewhere; each says that it does not know, which nobody takes for health.

var errUnsupported = fmt.Errorf("not known on %s", runtime.GOOS)

func kernelRelease() string { return "" }

func cgroupVersion() int { return 0 }

func bootTime() (time.Time, error) { return time.Time{}, errUnsupported }

func tryWrite(dir string) error { return tryTemporary(dir) }

// NetworkFilesystem is not known here.
func NetworkFilesystem(string) (string, error) { return "", errUnsupported }

// PortHolder is not known here.
func PortHolder(int) (PortUser, bool) { return PortUser{}, false }

// Lookup is not possible here.
func Lookup(pid int) (Process, error) {
	return Process{}, fmt.Errorf("look up process %d: %w", pid, errUnsupported)
}

// Executables is not possible here.
func Executables() ([]string, error) { return nil, errUnsupported }

// Listens cannot be told here.
func Listens(int, int) (bool, error) { return false, errUnsupported }

// Session cannot be told here.
func Session(int) ([]Process, error) { return nil, errUnsupported }
