package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	creelv1 "creel/api/creel/v1"
	inferencev1 "creel/api/openshell/inference/v1"
	openshellv1 "creel/api/openshell/v1"
	"creel/internal/budget"
	"creel/internal/sandbox"
)

// batch is how many log lines travel in one message.
const batch = 64

type stream = grpc.BidiStreamingClient[openshellv1.SupervisorMessage, openshellv1.GatewayMessage]

// session is one connection to the gateway with the stream that makes it a
// session.
type session struct {
	*Client
	openshell  openshellv1.OpenShellClient
	supervisor creelv1.SupervisorClient
	stream     stream
	beat       time.Duration
	out        chan *openshellv1.SupervisorMessage
	heard      chan struct{} // holds one: the gateway said something
}

// session runs one session to its end; established says that it began.
func (c *Client) session(ctx context.Context) (established bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	connection, err := c.connect()
	if err != nil {
		return false, err
	}
	defer func() { _ = connection.Close() }()
	s := &session{Client: c, openshell: openshellv1.NewOpenShellClient(connection), supervisor: creelv1.NewSupervisorClient(connection),
		out: make(chan *openshellv1.SupervisorMessage), heard: make(chan struct{}, 1)}
	if err := s.greet(ctx, cancel); err != nil {
		return false, err
	}
	c.cfg.Log.Info("session with the gateway began")
	c.wake() // a gateway that was started again knows nothing yet
	c.routes.attach(inferencev1.NewInferenceClient(connection))
	defer c.routes.attach(nil)

	group, ctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(ctx, cancel)() // the stream was opened outside of the group
	relays := &relays{session: s, open: map[string]context.CancelFunc{}}
	group.Go(func() error { return s.send(ctx) })
	group.Go(func() error { return s.receive(ctx, relays) })
	group.Go(func() error { return s.report(ctx) })
	group.Go(func() error { return s.pushLogs(ctx) })
	group.Go(func() error {
		c.routes.keep(ctx, c.cfg.Pace.Routes)
		return nil
	})
	err = group.Wait()
	cancel()
	relays.wait()
	return true, err
}

// greet opens the stream and says hello. The opening is bounded; the stream is
// not.
func (s *session) greet(ctx context.Context, cancel context.CancelFunc) (err error) {
	bound, done := budget.Context(ctx, budget.Probe, "open session with the gateway")
	defer done()
	stop := context.AfterFunc(bound, cancel)
	defer stop()
	if s.stream, err = s.openshell.ConnectSupervisor(ctx); err != nil {
		return err
	}
	hello := &openshellv1.SupervisorMessage{Payload: &openshellv1.SupervisorMessage_Hello{
		Hello: &openshellv1.SupervisorHello{SandboxId: s.cfg.SandboxID, InstanceId: s.cfg.InstanceID}}}
	if err := s.stream.Send(hello); err != nil && !errors.Is(err, io.EOF) { // after EOF, Recv says why
		return err
	}
	first, err := s.stream.Recv()
	if err != nil {
		if bound.Err() != nil {
			err = context.Cause(bound)
		}
		return err
	}
	if r := first.GetSessionRejected(); r != nil {
		return fmt.Errorf("open session: the gateway rejected it: %s", r.GetReason())
	}
	accepted := first.GetSessionAccepted()
	if accepted == nil {
		return errors.New("open session: the gateway's first message is not an acceptance")
	}
	s.beat = s.cfg.Pace.Heartbeat
	if n := accepted.GetHeartbeatIntervalSecs(); n > 0 && n <= 3600 {
		s.beat = min(s.beat, time.Duration(n)*time.Second)
	}
	return nil
}

// send is the only sender of the stream, and ends the session of a gateway that
// has gone silent.
func (s *session) send(ctx context.Context) error {
	ticker := time.NewTicker(s.beat)
	defer ticker.Stop()
	quiet := time.NewTimer(silence * s.beat)
	defer quiet.Stop()
	for {
		var m *openshellv1.SupervisorMessage
		select {
		case m = <-s.out:
		case <-ticker.C:
			m = &openshellv1.SupervisorMessage{Payload: &openshellv1.SupervisorMessage_Heartbeat{Heartbeat: &openshellv1.SupervisorHeartbeat{}}}
		case <-s.heard:
			quiet.Reset(silence * s.beat)
			continue
		case <-quiet.C:
			return fmt.Errorf("the gateway sent no heartbeat for %s", silence*s.beat)
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := s.stream.Send(m); err != nil {
			if errors.Is(err, io.EOF) {
				<-ctx.Done() // receive knows why
				return ctx.Err()
			}
			return err
		}
	}
}

// receive does what the gateway asks.
func (s *session) receive(ctx context.Context, r *relays) error {
	for {
		m, err := s.stream.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return errors.New("the gateway ended the session")
			}
			return err
		}
		select {
		case s.heard <- struct{}{}:
		default:
		}
		if o := m.GetRelayOpen(); o != nil {
			r.start(ctx, o)
		}
		if o := m.GetRelayClose(); o != nil {
			r.cancel(o.GetChannelId())
		}
	}
}

// report sends the state after each change, and now and then what changes
// without notice, and the ends of the main process until the gateway has taken
// them.
func (s *session) report(ctx context.Context) error {
	ticker := time.NewTicker(s.beat)
	defer ticker.Stop()
	var relayed uint64
	for {
		select {
		case <-s.changed:
		case <-ticker.C:
			if s.cfg.State().RelayRequests == relayed {
				continue
			}
		case <-ctx.Done():
			return ctx.Err()
		}
		s.mu.Lock()
		wanted := s.wanted
		s.mu.Unlock()
		now := s.cfg.State()
		relayed = now.RelayRequests
		if err := s.reportOnce(ctx, now); err != nil {
			s.wake() // for the next session
			return fmt.Errorf("report state: %w", err)
		}
		s.mu.Lock()
		if s.told = wanted; s.told == s.wanted {
			close(s.settled)
			s.settled = make(chan struct{})
		}
		s.mu.Unlock()
	}
}

func (s *session) reportOnce(ctx context.Context, now sandbox.State) error {
	ctx, cancel := budget.Context(ctx, budget.Operation, "report state")
	defer cancel()
	if _, err := s.supervisor.ReportState(ctx, &creelv1.ReportStateRequest{SandboxId: s.cfg.SandboxID, InstanceId: s.cfg.InstanceID, State: wire(now)}); err != nil {
		return err
	}
	for {
		s.mu.Lock()
		if len(s.exits) == 0 {
			s.mu.Unlock()
			return nil
		}
		next := s.exits[0]
		s.mu.Unlock()
		_, err := s.openshell.ReportMainProcessExit(ctx, &openshellv1.ReportMainProcessExitRequest{
			SandboxId: s.cfg.SandboxID, InstanceId: next.instanceID, ExitCode: int32(next.code)})
		if err != nil {
			return err
		}
		s.mu.Lock()
		if len(s.exits) > 0 && s.exits[0] == next { // it may have been pushed out meanwhile
			s.exits = s.exits[1:]
		}
		s.mu.Unlock()
	}
}

// pushLogs sends all lines in memory and then each new one. Their numbers let a
// gateway that has some of them leave those out.
func (s *session) pushLogs(ctx context.Context) error {
	push, err := s.openshell.PushSandboxLogs(ctx)
	if err != nil {
		return fmt.Errorf("push logs: %w", err)
	}
	var last uint64
	for {
		lines, more := s.cfg.Lines.After(last, batch)
		if len(lines) == 0 {
			select {
			case <-more:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		request := &openshellv1.PushSandboxLogsRequest{SandboxId: s.cfg.SandboxID}
		for _, l := range lines {
			request.Logs = append(request.Logs, &openshellv1.SandboxLogLine{
				SandboxId: s.cfg.SandboxID, TimestampMs: l.At.UnixMilli(), Level: l.Level, Target: l.Source, Source: l.Source,
				Message: l.Message, Fields: map[string]string{"seq": strconv.FormatUint(l.Seq, 10)}})
			last = l.Seq
		}
		if err := push.Send(request); err != nil {
			if errors.Is(err, io.EOF) {
				_, err = push.CloseAndRecv()
			}
			if ctx.Err() == nil {
				s.cfg.Log.Warn("push logs", slog.String("reason", reason(err)))
			}
			return fmt.Errorf("push logs: %w", err)
		}
	}
}

// wire is a state as the API carries it.
func wire(s sandbox.State) *creelv1.SandboxState {
	w := &creelv1.SandboxState{
		Confinement:   &creelv1.Confinement{Tier: string(s.Confinement.Tier), Reason: s.Confinement.Reason},
		PolicyApplied: s.PolicyApplied, PolicyEnforced: s.PolicyEnforced, SupervisorPid: int32(s.SupervisorPID),
		AgentPort: uint32(s.AgentPort), RelayRequests: s.RelayRequests, ReadsPreface: s.ReadsPreface,
		Main: &creelv1.MainProcess{State: string(s.Main.State), Pid: int32(s.Main.PID), Restarts: uint32(s.Main.Restarts),
			LastExit: s.Main.LastExit, InstanceId: s.Main.InstanceID},
	}
	for _, p := range s.Confinement.Protections {
		w.Confinement.Protections = append(w.Confinement.Protections, &creelv1.Protection{Name: p.Name, On: p.On, Detail: p.Detail})
	}
	if !s.Main.Since.IsZero() {
		w.Main.SinceMs = s.Main.Since.UnixMilli()
	}
	if s.Main.LastExitCode != nil {
		code := int32(*s.Main.LastExitCode)
		w.Main.LastExitCode = &code
	}
	return w
}
