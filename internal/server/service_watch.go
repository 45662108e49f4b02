package server

import (
	"context"
	"errors"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	openshellv1 "creel/api/openshell/v1"
	"creel/internal/sandbox"
	"creel/internal/server/feed"
	"creel/internal/server/store"
)

// logTail is how many lines a watcher gets that does not say.
const logTail = 200

// selection says which log lines are wanted.
type selection struct {
	since   int64
	sources []string
	level   int
}

func newSelection(sinceMS int64, sources []string, minLevel string) (selection, error) {
	s := selection{since: sinceMS, sources: sources}
	if minLevel == "" {
		return s, nil
	}
	rank, known := levelRank(minLevel)
	if !known {
		return s, status.Errorf(codes.InvalidArgument, "log level %q is none of trace, debug, info, warn, error", minLevel)
	}
	s.level = rank
	return s, nil
}

func levelRank(level string) (int, bool) {
	ranks := map[string]int{"trace": 1, "debug": 2, "info": 3, "warn": 4, "warning": 4, "error": 5,
		"TRACE": 1, "DEBUG": 2, "INFO": 3, "WARN": 4, "WARNING": 4, "ERROR": 5}
	r, ok := ranks[level]
	return r, ok
}

func (s selection) wants(l *openshellv1.SandboxLogLine) bool {
	if l.GetTimestampMs() < s.since {
		return false
	}
	if len(s.sources) > 0 && !slices.Contains(s.sources, l.GetSource()) {
		return false
	}
	rank, known := levelRank(l.GetLevel())
	return !known || rank >= s.level
}

func (s selection) last(lines []*openshellv1.SandboxLogLine, n int) []*openshellv1.SandboxLogLine {
	chosen := slices.DeleteFunc(slices.Clone(lines), func(l *openshellv1.SandboxLogLine) bool { return !s.wants(l) })
	return chosen[max(0, len(chosen)-n):]
}

func (s *openShell) GetSandboxLogs(ctx context.Context, r *openshellv1.GetSandboxLogsRequest) (*openshellv1.GetSandboxLogsResponse, error) {
	wanted, err := newSelection(r.GetSinceMs(), r.GetSources(), r.GetMinLevel())
	if err != nil {
		return nil, err
	}
	e, err := s.d.known(ctx, r.GetSandboxId())
	if err != nil {
		return nil, err
	}
	n := int(r.GetLines())
	if n == 0 {
		n = feed.MaxLines
	}
	lines, total := e.feed.Lines()
	return &openshellv1.GetSandboxLogsResponse{Logs: wanted.last(lines, n), BufferTotal: total}, nil
}

// known finds the entry of a sandbox that exists.
func (d *daemon) known(ctx context.Context, sandboxID string) (*entry, error) {
	if _, err := d.store.Sandboxes.ByID(ctx, sandboxID); err != nil {
		return nil, err
	}
	if e := d.entry(sandboxID); e != nil {
		return e, nil
	}
	return nil, status.Error(codes.NotFound, "the sandbox is gone")
}

// WatchSandbox keeps the order of the API notes: existence, subscription, present
// status, log tail, event tail, live.
func (s *openShell) WatchSandbox(r *openshellv1.WatchSandboxRequest, stream grpc.ServerStreamingServer[openshellv1.SandboxStreamEvent]) error {
	ctx := stream.Context()
	wanted, err := newSelection(r.GetLogSinceMs(), r.GetLogSources(), r.GetLogMinLevel())
	if err != nil {
		return err
	}
	e, err := s.d.known(ctx, r.GetId())
	if err != nil {
		return err
	}
	watch, tail := e.feed.Subscribe()
	defer watch.Cancel()
	w := watcher{d: s.d, id: r.GetId(), stop: r.GetStopOnTerminal(), stream: stream}
	if err := w.status(ctx); err != nil {
		return w.outcome(err)
	}
	if r.GetFollowLogs() {
		n := int(r.GetLogTailLines())
		if n == 0 {
			n = logTail
		}
		for _, l := range wanted.last(tail.Lines, n) {
			if err := w.log(l); err != nil {
				return err
			}
		}
	}
	if r.GetFollowEvents() {
		for _, ev := range tail.Events[max(0, len(tail.Events)-int(r.GetEventTail())):] {
			if err := w.event(ev); err != nil {
				return err
			}
		}
	}
	if !r.GetFollowStatus() && !r.GetFollowLogs() && !r.GetFollowEvents() && !r.GetStopOnTerminal() {
		return nil
	}
	for {
		var u feed.Update
		var open bool
		select {
		case u, open = <-watch.Updates():
		case <-s.d.ctx.Done():
			return status.Error(codes.Unavailable, "gateway is stopping")
		case <-ctx.Done():
			return ctx.Err()
		}
		switch {
		case !open && watch.Lagged():
			return status.Error(codes.ResourceExhausted, "the watcher fell behind")
		case !open:
			return s.d.ended()
		case u.Log != nil && r.GetFollowLogs() && wanted.wants(u.Log):
			err = w.log(u.Log)
		case u.Event != nil && r.GetFollowEvents():
			err = w.event(u.Event)
		case u.Status && (r.GetFollowStatus() || r.GetStopOnTerminal()):
			err = w.status(ctx)
		}
		if err != nil {
			return w.outcome(err)
		}
	}
}

// ended tells a deleted sandbox, whose stream just ends, from a gateway that stops.
func (d *daemon) ended() error {
	if d.ctx.Err() != nil {
		return status.Error(codes.Unavailable, "gateway is stopping")
	}
	return nil
}

// errFinished ends a watch in good order.
var errFinished = errors.New("nothing more to watch")

type watcher struct {
	d      *daemon
	id     string
	stop   bool
	stream grpc.ServerStreamingServer[openshellv1.SandboxStreamEvent]
}

func (w watcher) outcome(err error) error {
	if errors.Is(err, errFinished) {
		return nil
	}
	return err
}

func (w watcher) status(ctx context.Context) error {
	o, err := w.d.store.Sandboxes.ByID(ctx, w.id)
	if errors.Is(err, store.ErrNotFound) {
		return errFinished
	}
	if err != nil {
		return err
	}
	shown := w.d.show(o)
	if err := w.stream.Send(&openshellv1.SandboxStreamEvent{Payload: &openshellv1.SandboxStreamEvent_Sandbox{Sandbox: shown}}); err != nil {
		return err
	}
	if w.stop && shown.GetStatus().GetPhase() == phaseTo(sandbox.Ready) {
		return errFinished
	}
	return nil
}

func (w watcher) log(l *openshellv1.SandboxLogLine) error {
	return w.stream.Send(&openshellv1.SandboxStreamEvent{Payload: &openshellv1.SandboxStreamEvent_Log{Log: l}})
}

func (w watcher) event(e *openshellv1.PlatformEvent) error {
	return w.stream.Send(&openshellv1.SandboxStreamEvent{Payload: &openshellv1.SandboxStreamEvent_Event{Event: e}})
}
