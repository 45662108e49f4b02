package embedded

import (
	"os"

	"golang.org/x/sys/unix"
)

// followStandardStreams keeps the standard output and error of a launched daemon
// on the current log file, so that a panic after a rotation is not written to a
// file that is about to be removed.
func followStandardStreams(launched bool) func(*os.File) error {
	if !launched {
		return nil
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
