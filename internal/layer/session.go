package layer

import (
	"context"
	"errors"
	"sync"
	"time"

	"creel/internal/gateway"
)

// freshFor is how long one answer about all sandboxes serves the layers of one
// round. It is far below the time between two rounds that a person could notice.
const freshFor = 100 * time.Millisecond

// Session is what the layers of one gateway share: its client, dialled when it
// is first needed, and one answer about all sandboxes a round.
type Session struct {
	runtime gateway.Runtime

	mu      sync.Mutex
	client  gateway.Client
	fetched time.Time
	all     []gateway.Inspection
}

// NewSession makes a session; it dials nothing yet.
func NewSession(r gateway.Runtime) *Session { return &Session{runtime: r} }

// Client returns the connected client.
func (s *Session) Client(ctx context.Context) (gateway.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dial(ctx)
}

func (s *Session) dial(ctx context.Context) (gateway.Client, error) {
	if s.client != nil {
		return s.client, nil
	}
	c, err := s.runtime.Dial(ctx)
	if err != nil {
		return nil, err
	}
	s.client = c
	return c, nil
}

// Sandbox returns what the gateway observes of one sandbox. The error is
// gateway.ErrNotFound only when the gateway answered and has none of that name.
func (s *Session) Sandbox(ctx context.Context, name string) (gateway.Inspection, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.fetched) > freshFor {
		c, err := s.dial(ctx)
		if err != nil {
			return gateway.Inspection{}, err
		}
		all, err := c.Inspect(ctx, true)
		if err != nil {
			return gateway.Inspection{}, err
		}
		s.all, s.fetched = all, time.Now()
	}
	for _, in := range s.all {
		if in.Name == name {
			return in, nil
		}
	}
	return gateway.Inspection{}, gateway.ErrNotFound
}

// Refresh forgets what was fetched and, when the gateway itself was changed, the
// connection.
func (s *Session) Refresh(gatewayToo bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fetched = time.Time{}
	if !gatewayToo || s.client == nil {
		return nil
	}
	c := s.client
	s.client = nil
	return c.Close()
}

// Close closes the connection.
func (s *Session) Close() error { return s.Refresh(true) }

// absent reports positive proof that a healthy gateway has no such object.
func absent(err error) bool { return errors.Is(err, gateway.ErrNotFound) }
