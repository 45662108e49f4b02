package k3s

import (
	"context"
	"fmt"
	"io"
	"strings"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/gateway"
	"creel/internal/host/engine"
)

// Stop stops the container, with everything that runs in it, and returns when it
// has ended. A container that is missing or does not run is left as it is, one that
// cannot be seen is an error, and so is one that is missing here while its gateway
// answers: another engine runs it.
func (r *Runtime) Stop(ctx context.Context, report gateway.Progress) error {
	if report == nil {
		report = func(string) {}
	}
	box, there, err := r.look(ctx)
	switch there {
	case unseen:
		return fmt.Errorf("stop gateway %s: %w", r.cfg.Gateway.Name, err)
	case missing:
		if o := r.observe(ctx, nil); o.decision == reuseWarned {
			return r.elsewhere("stop gateway "+r.cfg.Gateway.Name, o.Endpoint)
		}
		report("gateway " + r.cfg.Gateway.Name + " is not running")
		return nil
	case stopped:
		report("gateway " + r.cfg.Gateway.Name + " is not running")
		return nil
	}
	message := "stopping container " + box.Name
	if names, err := r.Housed(ctx); err == nil && len(names) > 0 {
		message += ", and with it sandbox " + strings.Join(names, ", sandbox ")
	}
	report(message)
	if err := r.cfg.Engine.Stop(ctx, box.Name, budget.Of(budget.GatewayStop)); err != nil {
		if _, known := advisory.Of(err); known || ctx.Err() != nil {
			return fmt.Errorf("stop gateway %s: %w", r.cfg.Gateway.Name, err)
		}
		return advisory.New("gateway-stop-failed", "stop gateway "+r.cfg.Gateway.Name, err)
	}
	return nil
}

// Logs writes the last lines of what the container's main program wrote.
func (r *Runtime) Logs(ctx context.Context, w io.Writer, lines int, follow bool) error {
	err := r.cfg.Engine.Logs(ctx, r.cfg.Container, engine.LogOptions{Lines: lines, Follow: follow}, w)
	if p, ok := advisory.Of(err); ok && p.ID == "container-missing" {
		return r.whyNot(missing, nil)
	}
	return err
}
