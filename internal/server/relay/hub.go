// Package relay reaches into sandboxes over the sessions that their supervisors
// hold: the gateway never dials a sandbox, it asks for a connection and is given
// one.
//
// A supervisor of Creel's own hands over the connection itself (package handover).
// Others, and what is no connection, as the SSH server, are carried by a
// RelayStream. The supervisor's end closing its sending side
// ends what can be read here. gRPC gives a server no such half-close, so a data
// frame without bytes says "no more data follows in this direction"; it is
// understood in both. Nothing is buffered beyond the stream's flow-control window:
// a slow reader slows the writer at the far end down.
package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/google/uuid"

	openshellv1 "creel/api/openshell/v1"
	"creel/internal/advisory"
	"creel/internal/budget"
)

// Limits of a hub, as OpenShell's gateway has them. A connection that was handed
// over burdens no session: it counts only while it is being opened.
const (
	MaxConnections        = 256 // open or being opened, over all sandboxes
	MaxSandboxConnections = 32  // the same, for one sandbox
	ChunkSize             = 16 << 10
	HeartbeatInterval     = 15 * time.Second
)

// ErrNotConnected is wrapped when no session of the sandbox's supervisor came up
// in time.
var ErrNotConnected = errors.New("no session of its supervisor")

// ErrBusy is wrapped when a limit on connections is reached.
var ErrBusy = errors.New("too many connections")

// Target is what a connection leads to inside a sandbox: the supervisor's SSH
// server, or a port of the sandbox's loopback.
type Target struct {
	SSH  bool
	Port int
}

// Config tunes a hub; zero values are the protocol's own.
type Config struct {
	Heartbeat time.Duration
	// Changed is called after a session of a sandbox came or went. It must not
	// block.
	Changed func(sandboxID string)
}

// Hub holds the sessions and the connections over them.
type Hub struct {
	cfg Config

	mu       sync.Mutex
	sessions map[string]*Session // by sandbox id
	arrival  chan struct{}       // closed and replaced whenever a session comes
	pending  map[string]*pending // by channel id
	open     int
	openOf   map[string]int
	closed   chan struct{}
	isClosed bool
}

type pending struct {
	sandboxID string
	session   *Session
	release   func()
	joined    chan net.Conn
	refused   chan error
	gone      chan struct{} // closed when nobody waits any more
}

// New returns a hub without sessions.
func New(cfg Config) *Hub {
	if cfg.Heartbeat <= 0 {
		cfg.Heartbeat = HeartbeatInterval
	}
	if cfg.Changed == nil {
		cfg.Changed = func(string) {}
	}
	return &Hub{cfg: cfg, sessions: map[string]*Session{}, arrival: make(chan struct{}), pending: map[string]*pending{},
		openOf: map[string]int{}, closed: make(chan struct{})}
}

// Close ends all sessions and refuses new ones and new connections.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.isClosed {
		h.isClosed = true
		close(h.closed)
	}
}

// Session returns the current session of a sandbox's supervisor, nil without one.
func (h *Hub) Session(sandboxID string) *Session {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sessions[sandboxID]
}

// Drop ends the session of a sandbox, if there is one, as when it is deleted.
func (h *Hub) Drop(sandboxID, reason string) {
	if s := h.Session(sandboxID); s != nil {
		s.end(errors.New(reason))
	}
}

// Open connects to target inside a sandbox. It waits for a session within the
// budget session-wait and for the supervisor's connection within relay-open. The
// connection ends with the session, not with ctx. It is a *Handed when it was
// handed over, else a *Conn.
func (h *Hub) Open(ctx context.Context, sandboxID string, target Target) (net.Conn, error) {
	release, err := h.reserve(sandboxID)
	if err != nil {
		return nil, err
	}
	c, err := h.connect(ctx, sandboxID, target, release)
	if err != nil {
		release()
		return nil, err
	}
	return c, nil
}

func (h *Hub) reserve(sandboxID string) (func(), error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.isClosed:
		return nil, fmt.Errorf("open relay: gateway is stopping: %w", ErrNotConnected)
	case h.open >= MaxConnections:
		return nil, advisory.New("sandbox-busy", fmt.Sprintf("%d connections into sandboxes are open", h.open), ErrBusy)
	case h.openOf[sandboxID] >= MaxSandboxConnections:
		return nil, advisory.New("sandbox-busy", fmt.Sprintf("%d connections into the sandbox are open", h.openOf[sandboxID]), ErrBusy)
	}
	h.open++
	h.openOf[sandboxID]++
	return sync.OnceFunc(func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.open--
		if h.openOf[sandboxID]--; h.openOf[sandboxID] == 0 {
			delete(h.openOf, sandboxID)
		}
	}), nil
}

func (h *Hub) connect(ctx context.Context, sandboxID string, target Target, release func()) (net.Conn, error) {
	session, err := h.await(ctx, sandboxID)
	if err != nil {
		return nil, err
	}
	channelID := uuid.NewString()
	p := &pending{sandboxID: sandboxID, session: session, release: release, joined: make(chan net.Conn),
		refused: make(chan error, 1), gone: make(chan struct{})}
	h.mu.Lock()
	h.pending[channelID] = p
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		delete(h.pending, channelID)
		h.mu.Unlock()
		close(p.gone)
	}()

	ctx, cancel := budget.Context(ctx, budget.RelayOpen, "open relay: supervisor's connection did not come")
	defer cancel()
	open := &openshellv1.RelayOpen{ChannelId: channelID}
	if target.SSH {
		open.Target = &openshellv1.RelayOpen_Ssh{Ssh: &openshellv1.SshRelayTarget{}}
	} else {
		open.Target = &openshellv1.RelayOpen_Tcp{Tcp: &openshellv1.TcpRelayTarget{Host: "127.0.0.1", Port: uint32(target.Port)}}
	}
	if err := session.send(ctx, &openshellv1.GatewayMessage{Payload: &openshellv1.GatewayMessage_RelayOpen{RelayOpen: open}}); err != nil {
		return nil, fmt.Errorf("open relay: %w", err)
	}
	select {
	case c := <-p.joined:
		return c, nil
	case err := <-p.refused:
		return nil, fmt.Errorf("open relay: %w", err)
	case <-session.ctx.Done():
		return nil, fmt.Errorf("open relay: session ended: %w", ErrNotConnected)
	case <-h.closed:
		return nil, fmt.Errorf("open relay: gateway is stopping: %w", ErrNotConnected)
	case <-ctx.Done():
		// The supervisor may still be dialling: it is told that nobody waits.
		session.offer(closeMessage(channelID, "nobody waits any more"))
		return nil, context.Cause(ctx)
	}
}

// await returns the sandbox's session, waiting for one if there is none.
func (h *Hub) await(ctx context.Context, sandboxID string) (*Session, error) {
	ctx, cancel := budget.Context(ctx, budget.SessionWait, "open relay: supervisor's session did not come")
	defer cancel()
	for {
		h.mu.Lock()
		session, arrival := h.sessions[sandboxID], h.arrival
		h.mu.Unlock()
		if session != nil {
			return session, nil
		}
		select {
		case <-arrival:
		case <-h.closed:
			return nil, fmt.Errorf("open relay: gateway is stopping: %w", ErrNotConnected)
		case <-ctx.Done():
			var expired *budget.Expired
			if errors.As(context.Cause(ctx), &expired) {
				return nil, advisory.New("sandbox-not-connected", "open relay", errors.Join(ErrNotConnected, expired))
			}
			return nil, context.Cause(ctx)
		}
	}
}

func closeMessage(channelID, reason string) *openshellv1.GatewayMessage {
	return &openshellv1.GatewayMessage{Payload: &openshellv1.GatewayMessage_RelayClose{
		RelayClose: &openshellv1.RelayClose{ChannelId: channelID, Reason: reason}}}
}
