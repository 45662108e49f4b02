package k3s

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/gateway/launch"
	"creel/internal/health"
	"creel/internal/host/engine"
)

// hasEnded is the report about a container that ended before the gateway was ready:
// how, what it wrote last, and what was asked last.
func (a *attempt) hasEnded(code int) error {
	if now, there, err := a.look(context.Background()); err == nil && there != missing {
		a.box = now
	}
	f := a.failure(fmt.Sprintf("container %s ended with exit code %d before the gateway was ready", a.box.Name, code))
	id := launch.Diagnose(f.Log)
	if slices.Contains([]string{"gateway-crashed", "state-permission"}, id) {
		id = launch.StartFailed // those are about Creel's own processes and files
	}
	if a.box.OutOfMemory {
		f.Ended += ", killed for want of memory"
		id = "container-out-of-memory"
	}
	return advisory.New(id, "gateway failed to start", f)
}

// notReady is the report about a gateway that was not ready in time. Its reason is
// what is wrong inside, if something is, and else the first link that did not hold.
func (a *attempt) notReady(ctx context.Context) error {
	cause := context.Cause(ctx)
	var expired *budget.Expired
	if !errors.As(cause, &expired) {
		return fmt.Errorf("start gateway %s: %w", a.cfg.Gateway.Name, cause)
	}
	f := a.failure(cause.Error() + "; the container is left running")
	f.Cause = cause
	id, hints := a.last.Reason, a.last.Hints
	if p, ok := advisory.Of(a.trouble); ok {
		id, hints, f.Said = p.ID, p.Commands(), a.trouble.Error()
	}
	if a.last.Verdict == health.OK {
		id, hints, f.Said = "openshell-disagrees", nil, a.disagree
	}
	return advisory.New(id, "gateway failed to start", f, hints...)
}

func (a *attempt) failure(ended string) *launch.StartFailure {
	ctx, cancel := budget.Context(context.Background(), budget.Probe, "read the log of container "+a.box.Name)
	defer cancel()
	var log bytes.Buffer
	// Without a log the report has less in it.
	_ = a.cfg.Engine.Logs(ctx, a.box.Name, engine.LogOptions{Lines: 10 * launch.FailureLines}, &log)
	return &launch.StartFailure{Ended: ended, Log: launch.LastLines(log.String(), launch.FailureLines),
		LogPath: "container " + a.box.Name, Evidence: a.last.Evidence}
}
