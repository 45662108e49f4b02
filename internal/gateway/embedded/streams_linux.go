package embedded

import (
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// followStandardStreams keeps the standard output and error of a launched daemon
// on the current log file, so that a panic after a rotation is not written to a
// file that is about to be removed. One in the foreground keeps them, and its last
// words go to both.
func followStandardStreams(launched bool) func(*os.File) error {
	if !launched {
		return func(f *os.File) error { return debug.SetCrashOutput(f, debug.CrashOptions{}) }
	}
	return func(f *os.File) error {
		for _, fd := range []int{1, 2} {
			if err := unix.Dup3(int(f.Fd()), fd, 0); err != nil {
				return err
			}
		}
		return nil
	}
}
