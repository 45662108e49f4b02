// Package socket connects to Unix sockets and knows who is at the other end of one,
// as the kernel says. A path alone proves nothing: whoever may write to a directory on the way to a
// socket may put one of their own there.
package socket

import (
	"context"
	"fmt"
	"net"
	"os"
)

// Stranger is the error of a socket on which another user listens.
type Stranger struct {
	Path string
	UID  uint32
}

// Error names the socket and the user.
func (s *Stranger) Error() string {
	return fmt.Sprintf("connect to %s: user %d listens there, who is another one", s.Path, s.UID)
}

// Dial connects to a Unix socket on which this process's user listens. When another
// one does the error is a *Stranger, and nothing was sent.
func Dial(ctx context.Context, path string) (*net.UnixConn, error) {
	return dial(ctx, path, os.Geteuid())
}

func dial(ctx context.Context, path string, uid int) (*net.UnixConn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	u := c.(*net.UnixConn)
	who, _, err := Peer(u)
	switch {
	case err != nil:
		err = fmt.Errorf("ask who listens on %s: %w", path, err)
	case who != uint32(uid):
		err = &Stranger{Path: path, UID: who}
	default:
		return u, nil
	}
	_ = u.Close()
	return nil, err
}
