//go:build !linux

package socket

import (
	"errors"
	"net"
)

// Peer is not known how to ask here.
func Peer(net.Conn) (uid uint32, pid int32, err error) {
	return 0, 0, errors.ErrUnsupported
}
