package relay

import (
	"context"
	"errors"
	"net"
	"sync"
)

var (
	errNobody = errors.New("nobody waits for this channel")
	errGone   = errors.New("nobody waits for this channel any more")
)

// Handed is a connection into a sandbox that its supervisor handed over: the
// socket itself, with everything that a TCP connection can do.
type Handed struct {
	*net.TCPConn
	alone func() bool // it no longer ends with its session
	once  sync.Once
}

// Close ends the connection in both directions.
func (c *Handed) Close() error {
	err := net.ErrClosed
	c.once.Do(func() {
		c.alone()
		err = c.TCPConn.Close()
	})
	return err
}

// Take gives a connection that was handed over by a supervisor, which proved to
// speak for sandboxID, to whoever waits for its channel. With an error it stays the
// caller's.
func (h *Hub) Take(sandboxID, channelID string, tcp *net.TCPConn) error {
	p := h.waiting(sandboxID, channelID)
	if p == nil {
		return errNobody
	}
	c := &Handed{TCPConn: tcp, alone: context.AfterFunc(p.session.ctx, func() { _ = tcp.Close() })}
	select {
	case p.joined <- c:
		p.release()
		return nil
	case <-p.gone:
		c.alone()
		return errGone
	}
}

// waiting is who waits for a channel of a sandbox, nil without one.
func (h *Hub) waiting(sandboxID, channelID string) *pending {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.pending[channelID]; p != nil && p.sandboxID == sandboxID {
		return p
	}
	return nil
}
