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
	openshellv1 "creel/api/openshell/v1"
	"creel/internal/budget"
	"creel/internal/sandbox"
)

// batch is how many log lines travel in one message.
const batch = 64

type stream = grpc.BidiStreamingClient[openshellv1.SupervisorMessage, openshellv1.GatewayMessage]

// session runs one session to its end; established says that it began.
func (c *Client) session(ctx context.Context) (established bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, beat, err := c.greet(ctx, cancel)
	if err != nil {
		return false, err
	}
	c.cfg.Log.Info("session with the gateway began")
	c.wake() // a gateway that was started again knows nothing yet

	group, ctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(ctx, cancel)() // the stream was opened outside of the group
	out := make(chan *openshellv1.SupervisorMessage)
	heard := make(chan struct{}, 1)
	relays := &relays{client: c, out: out, open: map[string]context.CancelFunc{}}
	group.Go(func() error { return c.send(ctx, s, out, beat, heard) })
	group.Go(func() error { return c.receive(ctx, s, heard, relays) })
	group.Go(func() error { return c.report(ctx, beat) })
	group.Go(func() error { return c.pushLogs(ctx) })
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
func (c *Client) greet(ctx context.Context, cancel context.CancelFunc) (stream, time.Duration, error) {
	bound, done := budget.Context(ctx, budget.Probe, "open session with the gateway")
	defer done()
	stop := context.AfterFunc(bound, cancel)
	defer stop()
	s, err := c.openshell.ConnectSupervisor(ctx)
	if err != nil {
		return nil, 0, err
	}
	hello := &openshellv1.SupervisorMessage{Payload: &openshellv1.SupervisorMessage_Hello{
		Hello: &openshellv1.SupervisorHello{SandboxId: c.cfg.SandboxID, InstanceId: c.cfg.InstanceID}}}
	if err := s.Send(hello); err != nil && !errors.Is(err, io.EOF) { // after EOF, Recv says why
		return nil, 0, err
	}
	first, err := s.Recv()
	if err != nil {
		if bound.Err() != nil {
			err = context.Cause(bound)
		}
		return nil, 0, err
	}
	if r := first.GetSessionRejected(); r != nil {
		return nil, 0, fmt.Errorf("open session: the gateway rejected it: %s", r.GetReason())
	}
	accepted := first.GetSessionAccepted()
	if accepted == nil {
		return nil, 0, fmt.Errorf("open session: the gateway's first message is not an acceptance")
	}
	beat := c.cfg.Pace.Heartbeat
	if n := accepted.GetHeartbeatIntervalSecs(); n > 0 && n <= 3600 {
		beat = min(beat, time.Duration(n)*time.Second)
	}
	return s, beat, nil
}

// send is the only sender of the stream, and ends the session of a gateway that
// has gone silent.
func (c *Client) send(ctx context.Context, s stream, out <-chan *openshellv1.SupervisorMessage, beat time.Duration, heard <-chan struct{}) error {
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	quiet := time.NewTimer(silence * beat)
	defer quiet.Stop()
	for {
		var m *openshellv1.SupervisorMessage
		select {
		case m = <-out:
		case <-ticker.C:
			m = &openshellv1.SupervisorMessage{Payload: &openshellv1.SupervisorMessage_Heartbeat{Heartbeat: &openshellv1.SupervisorHeartbeat{}}}
		case <-heard:
			quiet.Reset(silence * beat)
			continue
		case <-quiet.C:
			return fmt.Errorf("the gateway sent no heartbeat for %s", silence*beat)
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := s.Send(m); err != nil {
			if errors.Is(err, io.EOF) {
				<-ctx.Done() // receive knows why
				return ctx.Err()
			}
			return err
		}
	}
}

// receive does what the gateway asks.
func (c *Client) receive(ctx context.Context, s stream, heard chan<- struct{}, r *relays) error {
	for {
		m, err := s.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return errors.New("the gateway ended the session")
			}
			return err
		}
		select {
		case heard <- struct{}{}:
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
func (c *Client) report(ctx context.Context, every time.Duration) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var relayed uint64
	for {
		select {
		case <-c.changed:
		case <-ticker.C:
			if c.cfg.State().RelayRequests == relayed {
				continue
			}
		case <-ctx.Done():
			return ctx.Err()
		}
		c.mu.Lock()
		wanted := c.wanted
		c.mu.Unlock()
		now := c.cfg.State()
		relayed = now.RelayRequests
		if err := c.reportOnce(ctx, now); err != nil {
			c.wake() // for the next session
			return fmt.Errorf("report state: %w", err)
		}
		c.mu.Lock()
		if c.told = wanted; c.told == c.wanted {
			close(c.settled)
			c.settled = make(chan struct{})
		}
		c.mu.Unlock()
	}
}

func (c *Client) reportOnce(ctx context.Context, now sandbox.State) error {
	ctx, cancel := budget.Context(ctx, budget.Operation, "report state")
	defer cancel()
	if _, err := c.supervisor.ReportState(ctx, &creelv1.ReportStateRequest{SandboxId: c.cfg.SandboxID, InstanceId: c.cfg.InstanceID, State: wire(now)}); err != nil {
		return err
	}
	for {
		c.mu.Lock()
		if len(c.exits) == 0 {
			c.mu.Unlock()
			return nil
		}
		next := c.exits[0]
		c.mu.Unlock()
		_, err := c.openshell.ReportMainProcessExit(ctx, &openshellv1.ReportMainProcessExitRequest{
			SandboxId: c.cfg.SandboxID, InstanceId: next.instanceID, ExitCode: int32(next.code)})
		if err != nil {
			return err
		}
		c.mu.Lock()
		if len(c.exits) > 0 && c.exits[0] == next { // it may have been pushed out meanwhile
			c.exits = c.exits[1:]
		}
		c.mu.Unlock()
	}
}

// pushLogs sends all lines in memory and then each new one. Their numbers let a
// gateway that has some of them leave those out.
func (c *Client) pushLogs(ctx context.Context) error {
	push, err := c.openshell.PushSandboxLogs(ctx)
	if err != nil {
		return fmt.Errorf("push logs: %w", err)
	}
	var last uint64
	for {
		lines, more := c.cfg.Lines.After(last, batch)
		if len(lines) == 0 {
			select {
			case <-more:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		request := &openshellv1.PushSandboxLogsRequest{SandboxId: c.cfg.SandboxID}
		for _, l := range lines {
			request.Logs = append(request.Logs, &openshellv1.SandboxLogLine{
				SandboxId: c.cfg.SandboxID, TimestampMs: l.At.UnixMilli(), Level: l.Level, Target: l.Source, Source: l.Source,
				Message: l.Message, Fields: map[string]string{"seq": strconv.FormatUint(l.Seq, 10)}})
			last = l.Seq
		}
		if err := push.Send(request); err != nil {
			if errors.Is(err, io.EOF) {
				_, err = push.CloseAndRecv()
			}
			if ctx.Err() == nil {
				c.cfg.Log.Warn("push logs", slog.String("reason", reason(err)))
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
		AgentPort: uint32(s.AgentPort), RelayRequests: s.RelayRequests,
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
