package state

import (
	"os"

	"golang.org/x/sys/unix"
)

// reflink shares the content of from with to where the file system can; it costs
// no space and no time.
func reflink(to, from *os.File) error {
	return unix.IoctlFileClone(int(to.Fd()), int(from.Fd()))
}
