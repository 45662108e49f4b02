package sshd

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"

	"creel/internal/budget"
)

// directRequest is the extra data of direct-tcpip (RFC 4254, section 7.2).
type directRequest struct {
	Host       string
	Port       uint32
	OriginHost string
	OriginPort uint32
}

// Loopback reports whether host means the sandbox's own loopback.
func Loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return ip != nil && ip.IsLoopback()
}

// direct joins a channel to a loopback port inside; nothing else can be reached.
func (s *Server) direct(ctx context.Context, n ssh.NewChannel) {
	var d directRequest
	if ssh.Unmarshal(n.ExtraData(), &d) != nil || !Loopback(d.Host) || d.Port == 0 || d.Port > 65535 {
		_ = n.Reject(ssh.Prohibited, "only loopback ports of the sandbox can be reached")
		return
	}
	dial, cancel := budget.Context(ctx, budget.TCP, fmt.Sprintf("connect to port %d", d.Port))
	c, err := s.cfg.Box.Dial(dial, int(d.Port))
	cancel()
	if err != nil {
		_ = n.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	defer func() { _ = c.Close() }()
	channel, requests, err := n.Accept()
	if err != nil {
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(c, channel)
		closeWrite(c)
	})
	both.Go(func() {
		_, _ = io.Copy(channel, c)
		_ = channel.CloseWrite()
	})
	closed := make(chan struct{})
	go func() { // the client's close ends a copy that waits for the agent
		defer close(closed)
		ssh.DiscardRequests(requests)
		_ = c.Close()
	}()
	both.Wait()
	_ = channel.Close()
	<-closed
}

func closeWrite(c net.Conn) {
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		_ = h.CloseWrite()
		return
	}
	_ = c.Close()
}
