package forward

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// idleFor tells for how long a connection has carried nothing, and whether its
// client never said anything.
func idleFor(c *net.TCPConn) (idle time.Duration, mute, known bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, false, false
	}
	err = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return
		}
		idle = time.Duration(min(info.Last_data_recv, info.Last_data_sent)) * time.Millisecond
		mute, known = info.Bytes_received == 0, true
	})
	return idle, mute, known && err == nil
}
