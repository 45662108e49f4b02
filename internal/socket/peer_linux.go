package socket

import (
	"errors"
	"net"

	"golang.org/x/sys/unix"
)

// Peer asks the kernel who is at the other end of a Unix socket (SO_PEERCRED, unix(7)):
// who connected, or who began to listen.
func Peer(c net.Conn) (uid uint32, pid int32, err error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return 0, 0, errors.New("not a Unix socket")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0, 0, err
	}
	var cred *unix.Ucred
	var asked error
	if err := raw.Control(func(fd uintptr) {
		cred, asked = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, 0, err
	}
	if asked != nil {
		return 0, 0, asked
	}
	return cred.Uid, cred.Pid, nil
}
