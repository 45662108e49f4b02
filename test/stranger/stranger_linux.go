// Package stranger plays another user of the machine for tests that root runs.
package stranger

import (
	"net"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"creel/test/require"
)

// UID is neither root's nor anybody's who runs tests.
const UID = 65533

// Listen listens on a Unix socket as the stranger, until the test ends. It skips
// where the test may not become one.
func Listen(t *testing.T, path string) net.Listener {
	t.Helper()
	require.Feature(t, "root", os.Geteuid() == 0, "run the tests as root: others cannot become another user")
	type listening struct {
		net.Listener
		err error
	}
	done := make(chan listening)
	go func() {
		runtime.LockOSThread() // user ids belong to threads; this one ends with its goroutine
		var l listening
		defer func() { done <- l }()
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if l.err = err; err != nil {
			return
		}
		file := os.NewFile(uintptr(fd), "socket")
		defer file.Close()
		if l.err = unix.Bind(fd, &unix.SockaddrUnix{Name: path}); l.err != nil {
			return
		}
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), UID, ^uintptr(0)); errno != 0 {
			l.err = errno
			return
		}
		if l.err = unix.Listen(fd, 8); l.err == nil {
			l.Listener, l.err = net.FileListener(file)
		}
	}()
	l := <-done
	if l.err != nil {
		t.Fatal(l.err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Listener
}
