package openshell

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/gateway"
	"creel/internal/gateway/launch"
	"creel/internal/host"
)

// Stop ends the gateway's process and returns when it has ended: asked first,
// killed when the gateway-stop budget is used up. A pid is signalled only when the
// process that has it began when the marker says; a marker whose process has ended
// is removed, and whoever has the number now is left alone.
func (r *Runtime) Stop(ctx context.Context, report gateway.Progress) error {
	if report == nil {
		report = func(string) {}
	}
	g := r.cfg.Gateway
	m, err := readMarker(g)
	if lost(err) {
		found := false
		if m, found = r.candidate(); !found {
			if !errors.Is(err, fs.ErrNotExist) && !r.nobodyListens() {
				return err // nobody is identified by it
			}
			report("gateway " + g.Name + " is not running")
			return host.Explain(removeMarker(g), g.Dir())
		}
	} else if err != nil {
		return err
	}
	p, err := launch.OpenProcess(m.PID, m.ProcessStart)
	switch {
	case errors.Is(err, host.ErrNoProcess):
		report("gateway " + g.Name + " is not running")
		return r.ended(m)
	case err != nil:
		return fmt.Errorf("stop gateway %s: %w", g.Name, err)
	}
	defer p.Close()
	report(fmt.Sprintf("stopping gateway %s (pid %d)", g.Name, m.PID))
	if err := p.Signal(launch.Terminate); err != nil {
		return fmt.Errorf("stop gateway %s: %w", g.Name, err)
	}
	err = p.Wait(ctx, budget.GatewayStop)
	var expired *budget.Expired
	if errors.As(err, &expired) && expired.Budget == budget.GatewayStop {
		report(fmt.Sprintf("gateway %s does not end within %s, killing pid %d", g.Name, expired.Limit, m.PID))
		if err := p.Signal(launch.Kill); err != nil {
			return fmt.Errorf("kill gateway %s: %w", g.Name, err)
		}
		err = p.Wait(ctx, budget.Operation)
	}
	if err != nil {
		return advisory.New("gateway-stop-failed", fmt.Sprintf("gateway %s (pid %d) did not end", g.Name, m.PID), err)
	}
	return r.ended(m)
}

// ended forgets a process that has ended, after those that it left in its session.
func (r *Runtime) ended(m marker) error {
	return host.Explain(errors.Join(launch.EndSession(m.PID, m.ProcessStart), removeMarker(r.cfg.Gateway)), r.cfg.Gateway.Dir())
}
