package layer

import (
	"context"
	"errors"
	"sync"

	"creel/internal/budget"
	"creel/internal/gateway"
)

type roundKey struct{}

// NewRound begins a round of inspections: layers that are inspected with the
// returned context share one answer about all sandboxes, asked in this round.
// Without a round each inspection asks for itself.
func NewRound(ctx context.Context) context.Context {
	return context.WithValue(ctx, roundKey{}, &struct{ _ byte }{})
}

// Session is what the layers of one gateway share: its client, dialled when it
// is first needed, and one answer about all sandboxes a round.
type Session struct {
	runtime gateway.Runtime

	mu     sync.Mutex
	client gateway.Client
	latest *answer
}

// answer is what the gateway said about all sandboxes in one round.
type answer struct {
	round any
	there chan struct{} // closed when named and err are set
	named map[string]gateway.Inspection
	err   error
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
	var named map[string]gateway.Inspection
	var err error
	if round := ctx.Value(roundKey{}); round != nil {
		named, err = s.shared(ctx, round)
	} else {
		named, err = s.ask(ctx, name)
	}
	if err != nil {
		return gateway.Inspection{}, err
	}
	in, there := named[name]
	if !there {
		return gateway.Inspection{}, gateway.ErrNotFound
	}
	return in, nil
}

// shared is the answer of a round; the first who needs it asks.
func (s *Session) shared(ctx context.Context, round any) (map[string]gateway.Inspection, error) {
	s.mu.Lock()
	a := s.latest
	first := a == nil || a.round != round
	if first {
		a = &answer{round: round, there: make(chan struct{})}
		s.latest = a
	}
	s.mu.Unlock()
	if first {
		a.named, a.err = s.ask(ctx)
		close(a.there)
	}
	select {
	case <-a.there:
		return a.named, a.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// ask asks the gateway about the sandboxes of these names, or all.
func (s *Session) ask(ctx context.Context, names ...string) (map[string]gateway.Inspection, error) {
	ctx, cancel := budget.Context(ctx, budget.Operation, "ask the gateway about its sandboxes")
	defer cancel()
	c, err := s.Client(ctx)
	if err != nil {
		return nil, err
	}
	all, err := c.Inspect(ctx, true, names...)
	if err != nil {
		return nil, err
	}
	named := make(map[string]gateway.Inspection, len(all))
	for _, in := range all {
		named[in.Name] = in
	}
	return named, nil
}

// Refresh gives the connection back when the gateway itself was changed.
func (s *Session) Refresh(gatewayToo bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
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
