package embedded

import (
	"context"
	"errors"
	"fmt"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/gateway"
	"creel/internal/gateway/launch"
	"creel/internal/host"
	"creel/internal/state"
)

// Stop ends the daemon and returns when it has ended: asked first, killed when
// the gateway-stop budget is used up. Only a process that holds the lock by its
// record and its start time is signalled. Sandboxes go on.
func (r *Runtime) Stop(ctx context.Context, report gateway.Progress) error {
	if report == nil {
		report = func(string) {}
	}
	g := r.cfg.Gateway
	// The service first: it would bring back what is ended without it.
	kept, err := r.kept()
	if err == nil && kept {
		report("stopping gateway " + g.Name + " through its service")
		err = r.cfg.Keeper.Stop(ctx)
	}
	if err != nil {
		return fmt.Errorf("stop gateway %s: %w", g.Name, err)
	}
	pid, start, err := r.identify()
	if err != nil {
		return err
	}
	if pid == 0 {
		if !kept {
			report("gateway " + g.Name + " is not running")
		}
		return host.Explain(state.RemoveIfExists(g.Marker()), g.Marker())
	}
	p, err := launch.OpenProcess(pid, start)
	if errors.Is(err, host.ErrNoProcess) {
		return r.gone(ctx) // ended since we looked
	}
	if err != nil {
		return fmt.Errorf("stop gateway %s: %w", g.Name, err)
	}
	defer p.Close()
	report(fmt.Sprintf("stopping gateway %s (pid %d)", g.Name, pid))
	if err := p.Signal(launch.Terminate); err != nil {
		return fmt.Errorf("stop gateway %s: %w", g.Name, err)
	}
	err = p.Wait(ctx, budget.GatewayStop)
	var expired *budget.Expired
	if errors.As(err, &expired) {
		report(fmt.Sprintf("gateway %s does not end within %s, killing pid %d", g.Name, expired.Limit, pid))
		if err := p.Signal(launch.Kill); err != nil {
			return fmt.Errorf("kill gateway %s: %w", g.Name, err)
		}
		err = p.Wait(ctx, budget.Operation)
	}
	if err != nil {
		return advisory.New("gateway-stop-failed", fmt.Sprintf("gateway %s (pid %d) did not end", g.Name, pid), err)
	}
	return r.gone(ctx)
}

// identify names the process that holds the daemon's lock; pid 0 when the lock is free.
func (r *Runtime) identify() (pid int, start uint64, err error) {
	g := r.cfg.Gateway
	return launch.Holder(g.File(state.DaemonLockFile), "a gateway", func() (int, uint64, error) {
		m, err := readMarker(g)
		return m.PID, m.ProcessStart, err
	})
}

// gone waits until the lock is free, which the kernel sees to when the process
// ends, and removes the marker that a killed daemon left. The marker is only
// removed under the lock: another daemon may be starting.
func (r *Runtime) gone(ctx context.Context) error {
	g := r.cfg.Gateway
	ctx, cancel := budget.Context(ctx, budget.Lock, "wait for the gateway's lock")
	defer cancel()
	for {
		lock, err := state.TryLock(g.File(state.DaemonLockFile), "creel gateway stop")
		var busy *state.Busy
		switch {
		case err == nil:
			return errors.Join(state.RemoveIfExists(g.Marker()), lock.Unlock())
		case !errors.As(err, &busy):
			return host.Explain(fmt.Errorf("stop gateway %s: %w", g.Name, err), g.Dir())
		}
		if pause(ctx, nil) != nil {
			return nil // another daemon has it: the one that was to stop has ended
		}
	}
}
