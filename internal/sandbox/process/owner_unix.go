//go:build unix

package process

import (
	"io/fs"
	"os/exec"
	"syscall"
)

// ownerOf is the user id of a file's owner, -1 when it has none.
func ownerOf(fi fs.FileInfo) int {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return -1
}

// detach gives a process a session of its own, so that it outlives this one's
// terminal.
func detach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }
