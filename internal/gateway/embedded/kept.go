package embedded

import (
	"context"
	"errors"
	"fmt"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/gateway"
	"creel/internal/gateway/launch"
	"creel/internal/health"
)

// Keeper is a service manager that runs the daemon, where it was asked to.
type Keeper interface {
	// Kept reports whether it was asked to for this gateway. An error is "unknown":
	// then nobody else starts or stops the daemon either.
	Kept() (bool, error)
	// Start has it run the daemon of an executable, and returns when that says it is
	// ready or has failed.
	Start(ctx context.Context, executable string) error
	// Point has it start the daemon of another executable from then on.
	Point(executable string) error
	// Stop has it end the daemon, and returns when it has ended.
	Stop(ctx context.Context) error
	// PID is the daemon that it runs, 0 for none.
	PID(ctx context.Context) (int, error)
}

func (r *Runtime) kept() (bool, error) {
	if r.cfg.Keeper == nil {
		return false, nil
	}
	return r.cfg.Keeper.Kept()
}

// startKept has the service manager start the daemon, and returns when the whole
// chain holds and the daemon that answers is the one that the manager runs. One that
// did not come up is not left to it.
func (r *Runtime) startKept(ctx context.Context, report gateway.Progress, executable string) (err error) {
	g := r.cfg.Gateway
	ctx, cancel := budget.Context(ctx, budget.GatewayStart, "start gateway "+g.Name)
	defer cancel()
	report("starting gateway " + g.Name + " through its service")
	if err := r.cfg.Keeper.Start(ctx, executable); err != nil {
		return err
	}
	defer func() {
		if err == nil {
			return
		}
		stopping, cancel := budget.Context(context.WithoutCancel(ctx), budget.Operation, "end a gateway that did not come up")
		defer cancel()
		err = errors.Join(err, r.cfg.Keeper.Stop(stopping))
	}()
	var last gateway.Observation
	for {
		o := r.Observe(ctx)
		if last.Evidence == nil || !launch.Over(ctx) {
			last = o // not one that was cut short, if there is another
		}
		var unproven error
		if o.Verdict == health.OK {
			switch pid, err := r.cfg.Keeper.PID(ctx); {
			case err != nil:
				unproven = err
			case pid != o.Identity.PID:
				return advisory.New("service-other-process", fmt.Sprintf("the gateway that answers is process %d, and the service's is %d", o.Identity.PID, pid), nil)
			default:
				report(o.Message)
				r.prune(executable)
				return nil
			}
		}
		if err := pause(ctx, nil); err != nil {
			return launch.Report("the service manager says that it is ready", g.Log(), 0, last.Evidence, "", errors.Join(err, unproven))
		}
	}
}

// outside says that a gateway which has a service runs without it.
func (r *Runtime) outside(ctx context.Context, o gateway.Observation, report gateway.Progress) {
	if kept, err := r.kept(); err != nil || !kept {
		return
	}
	if pid, err := r.cfg.Keeper.PID(ctx); err == nil && pid != o.Identity.PID {
		report(`it runs outside of its service; "creel gateway restart" hands it over`)
	}
}
