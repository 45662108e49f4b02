package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	openshellv1 "creel/api/openshell/v1"
	"creel/internal/advisory"
	"creel/internal/sandbox"
	"creel/internal/server/relay"
	"creel/internal/server/remote"
)

const (
	exitTimeout = 124 // as timeout(1)
	exitLost    = 255 // as ssh(1): the connection, not the command
	// execGrace is how long the supervisor has to end a command that is out of
	// time before the gateway gives it up.
	execGrace = 5 * time.Second
)

func (s *openShell) ExecSandbox(r *openshellv1.ExecSandboxRequest, stream grpc.ServerStreamingServer[openshellv1.ExecSandboxEvent]) error {
	return s.d.exec(stream.Context(), r, stream.Send, func(p *remote.Process) error {
		if _, err := p.Stdin().Write(r.GetStdin()); err != nil {
			return err
		}
		return p.CloseStdin()
	})
}

func (s *openShell) ExecSandboxInteractive(stream grpc.BidiStreamingServer[openshellv1.ExecSandboxInput, openshellv1.ExecSandboxEvent]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	start := first.GetStart()
	if start == nil {
		return status.Error(codes.InvalidArgument, "the first message is start")
	}
	return s.d.exec(stream.Context(), start, stream.Send, func(p *remote.Process) error {
		if len(start.GetStdin()) > 0 {
			if _, err := p.Stdin().Write(start.GetStdin()); err != nil {
				return err
			}
		}
		for {
			m, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return p.CloseStdin()
			}
			if err != nil {
				return err
			}
			switch {
			case m.GetResize() != nil:
				err = p.Resize(int(m.GetResize().GetCols()), int(m.GetResize().GetRows()))
			case m.GetStdin() != nil:
				_, err = p.Stdin().Write(m.GetStdin())
			}
			if err != nil {
				return err
			}
		}
	})
}

// exec runs a command and sends what it writes. Once the command has begun the
// stream's last event is its exit, whatever happens.
func (d *daemon) exec(ctx context.Context, r *openshellv1.ExecSandboxRequest, send func(*openshellv1.ExecSandboxEvent) error,
	feedInput func(*remote.Process) error) error {
	if err := checkCommand(r.GetCommand()); err != nil {
		return invalid(err)
	}
	if err := checkEnvironment(r.GetEnvironment()); err != nil {
		return invalid(err)
	}
	if err := checkTotal(r.GetCommand(), r.GetEnvironment()); err != nil {
		return invalid(err)
	}
	if err := d.running(ctx, r.GetSandboxId()); err != nil {
		return err
	}
	p, err := d.runner.Start(ctx, r.GetSandboxId(), remote.Command{Command: r.GetCommand(), Workdir: r.GetWorkdir(),
		Env: r.GetEnvironment(), TTY: r.GetTty(), Cols: int(r.GetCols()), Rows: int(r.GetRows()),
		TimeoutSeconds: int(r.GetTimeoutSeconds())})
	if err != nil {
		return err
	}
	defer p.Close()
	stop := context.AfterFunc(ctx, p.Close)
	defer stop()
	late := make(chan struct{})
	if t := r.GetTimeoutSeconds(); t > 0 {
		timer := time.AfterFunc(time.Duration(t)*time.Second+execGrace, func() { close(late); p.Close() })
		defer timer.Stop()
	}
	// Input that cannot be delivered is the command's business: it may have closed
	// its standard input and go on.
	go func() { _ = feedInput(p) }()

	o := output{send: send}
	var both sync.WaitGroup
	both.Go(func() { o.pump(p, p.Stdout(), stdoutEvent) })
	both.Go(func() { o.pump(p, p.Stderr(), stderrEvent) })
	both.Wait()
	code, err := p.Wait(ctx)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case o.failed != nil:
		return o.failed
	case err == nil:
		return send(exitEvent(code))
	}
	select {
	case <-late:
		return send(exitEvent(exitTimeout))
	default:
	}
	if sent := send(stderrEvent([]byte("creel: " + err.Error() + "\n"))); sent != nil {
		return sent
	}
	if sent := send(exitEvent(exitLost)); sent != nil {
		return sent
	}
	return advisory.New("sandbox-not-connected", "run command", errors.Join(err, relay.ErrNotConnected))
}

// running reports a sandbox that nothing can be run in, and which.
func (d *daemon) running(ctx context.Context, sandboxID string) error {
	o, err := d.store.Sandboxes.ByID(ctx, sandboxID)
	if err != nil {
		return err
	}
	if o.Value.Deleting || o.Value.Wanted != sandbox.Running {
		return status.Errorf(codes.FailedPrecondition, "sandbox %q is %s", o.Name, d.show(o).GetStatus().GetConditions()[0].GetReason())
	}
	return nil
}

// output sends from two sources over one stream.
type output struct {
	mu     sync.Mutex
	send   func(*openshellv1.ExecSandboxEvent) error
	failed error
}

// pump reads to the end even when nobody takes the data any more, so that the
// command's own end is seen.
func (o *output) pump(p *remote.Process, from io.Reader, event func([]byte) *openshellv1.ExecSandboxEvent) {
	buffer := make([]byte, relay.ChunkSize)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			o.mu.Lock()
			if o.failed == nil {
				if o.failed = o.send(event(append([]byte(nil), buffer[:n]...))); o.failed != nil {
					p.Close()
				}
			}
			o.mu.Unlock()
		}
		if err != nil {
			return
		}
	}
}

func stdoutEvent(b []byte) *openshellv1.ExecSandboxEvent {
	return &openshellv1.ExecSandboxEvent{Payload: &openshellv1.ExecSandboxEvent_Stdout{Stdout: &openshellv1.ExecSandboxStdout{Data: b}}}
}

func stderrEvent(b []byte) *openshellv1.ExecSandboxEvent {
	return &openshellv1.ExecSandboxEvent{Payload: &openshellv1.ExecSandboxEvent_Stderr{Stderr: &openshellv1.ExecSandboxStderr{Data: b}}}
}

func exitEvent(code int) *openshellv1.ExecSandboxEvent {
	return &openshellv1.ExecSandboxEvent{Payload: &openshellv1.ExecSandboxEvent_Exit{Exit: &openshellv1.ExecSandboxExit{ExitCode: int32(code)}}}
}

// portTarget checks a TCP target: loopback inside the sandbox only.
func portTarget(t *openshellv1.TcpRelayTarget) (relay.Target, error) {
	switch t.GetHost() {
	case "", "localhost", "127.0.0.1", "::1":
	default:
		return relay.Target{}, fmt.Errorf("target %q is not the sandbox's loopback", t.GetHost())
	}
	if t.GetPort() == 0 || t.GetPort() > 65535 {
		return relay.Target{}, fmt.Errorf("target port %d is not between 1 and 65535", t.GetPort())
	}
	return relay.Target{Port: int(t.GetPort())}, nil
}
