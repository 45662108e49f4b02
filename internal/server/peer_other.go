//go:build !linux

package server

import (
	"errors"
	"net"
)

func socketPeer(net.Conn) (uid uint32, pid int32, err error) {
	return 0, 0, errors.ErrUnsupported
}
