package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	openshellv1 "creel/api/openshell/v1"
)

// silence is how many heartbeats may be missing before a session counts as dead.
const silence = 3

// Session is one ConnectSupervisor stream.
type Session struct {
	ID         string
	InstanceID string // the supervisor's own
	Since      time.Time

	ctx context.Context // ends with the session; its cause says why
	end context.CancelCauseFunc
	out chan *openshellv1.GatewayMessage
}

// Done is closed when the session has ended.
func (s *Session) Done() <-chan struct{} { return s.ctx.Done() }

// send queues a message; the queue holds one so that a supervisor that does not
// read stops those who want something of it, and nobody else.
func (s *Session) send(ctx context.Context, m *openshellv1.GatewayMessage) error {
	select {
	case s.out <- m:
		return nil
	case <-s.ctx.Done():
		return fmt.Errorf("session ended: %w", ErrNotConnected)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// offer sends when that needs no waiting.
func (s *Session) offer(m *openshellv1.GatewayMessage) {
	select {
	case s.out <- m:
	default:
	}
}

// Serve runs the session of a supervisor that proved to speak for sandboxID,
// until either side ends it. A newer session of the same sandbox takes its place.
func (h *Hub) Serve(stream grpc.BidiStreamingServer[openshellv1.SupervisorMessage, openshellv1.GatewayMessage], sandboxID string) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	hello := first.GetHello()
	if hello == nil {
		return status.Error(codes.InvalidArgument, "the first message of a session is hello")
	}
	if hello.GetSandboxId() != sandboxID {
		return status.Error(codes.PermissionDenied, "hello names another sandbox than the token")
	}
	ctx, end := context.WithCancelCause(stream.Context())
	defer end(nil)
	s := &Session{ID: uuid.NewString(), InstanceID: hello.GetInstanceId(), Since: time.Now(), ctx: ctx, end: end,
		out: make(chan *openshellv1.GatewayMessage, 1)}
	if err := stream.Send(&openshellv1.GatewayMessage{Payload: &openshellv1.GatewayMessage_SessionAccepted{
		SessionAccepted: &openshellv1.SessionAccepted{SessionId: s.ID,
			HeartbeatIntervalSecs: uint32(max(1, h.cfg.Heartbeat/time.Second))}}}); err != nil {
		return err
	}
	if !h.enter(sandboxID, s) {
		return status.Error(codes.Unavailable, "gateway is stopping")
	}
	defer h.leave(sandboxID, s)

	heard := make(chan struct{}, 1)
	go func() { end(h.receive(stream, sandboxID, heard)) }()
	return h.drive(stream, s, heard)
}

// drive is the only sender of the stream.
func (h *Hub) drive(stream grpc.BidiStreamingServer[openshellv1.SupervisorMessage, openshellv1.GatewayMessage], s *Session, heard <-chan struct{}) error {
	beat := time.NewTicker(h.cfg.Heartbeat)
	defer beat.Stop()
	quiet := time.NewTimer(silence * h.cfg.Heartbeat)
	defer quiet.Stop()
	for {
		var m *openshellv1.GatewayMessage
		select {
		case m = <-s.out:
		case <-beat.C:
			m = &openshellv1.GatewayMessage{Payload: &openshellv1.GatewayMessage_Heartbeat{Heartbeat: &openshellv1.GatewayHeartbeat{}}}
		case <-heard:
			quiet.Reset(silence * h.cfg.Heartbeat)
			continue
		case <-quiet.C:
			return status.Errorf(codes.DeadlineExceeded, "no heartbeat for %s", silence*h.cfg.Heartbeat)
		case <-h.closed:
			return status.Error(codes.Unavailable, "gateway is stopping")
		case <-s.ctx.Done():
			cause := context.Cause(s.ctx)
			if errors.Is(cause, io.EOF) || errors.Is(cause, context.Canceled) {
				return nil
			}
			return status.Error(codes.Aborted, cause.Error())
		}
		if err := stream.Send(m); err != nil {
			return err
		}
	}
}

// receive ends with the stream, which ends when its handler returns.
func (h *Hub) receive(stream grpc.BidiStreamingServer[openshellv1.SupervisorMessage, openshellv1.GatewayMessage], sandboxID string, heard chan<- struct{}) error {
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		select {
		case heard <- struct{}{}:
		default:
		}
		if r := m.GetRelayOpenResult(); r != nil && !r.GetSuccess() {
			h.refuse(sandboxID, r.GetChannelId(), r.GetError())
		}
		if c := m.GetRelayClose(); c != nil {
			h.refuse(sandboxID, c.GetChannelId(), c.GetReason())
		}
	}
}

// refuse tells whoever waits for a channel that it will not come. A connection
// that exists ends with its own stream.
func (h *Hub) refuse(sandboxID, channelID, reason string) {
	p := h.waiting(sandboxID, channelID)
	if p == nil {
		return
	}
	select {
	case p.refused <- fmt.Errorf("supervisor refused: %s", reason):
	default:
	}
}

func (h *Hub) enter(sandboxID string, s *Session) bool {
	h.mu.Lock()
	if h.isClosed {
		h.mu.Unlock()
		return false
	}
	old := h.sessions[sandboxID]
	h.sessions[sandboxID] = s
	close(h.arrival)
	h.arrival = make(chan struct{})
	h.mu.Unlock()
	if old != nil {
		old.end(errors.New("superseded by a newer session"))
	}
	h.cfg.Changed(sandboxID)
	return true
}

func (h *Hub) leave(sandboxID string, s *Session) {
	h.mu.Lock()
	if h.sessions[sandboxID] == s { // a newer one may be in its place
		delete(h.sessions, sandboxID)
	}
	h.mu.Unlock()
	h.cfg.Changed(sandboxID)
}
