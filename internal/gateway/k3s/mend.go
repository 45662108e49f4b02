package k3s

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/gateway"
	"creel/internal/health"
	"creel/internal/registration"
)

// The ids of what is done about a gateway.
const (
	startGateway   = "start-gateway"
	restartGateway = "restart-gateway"
	forgetGateway  = "remove-registration"
)

// factsOf are those of an observation that was made before.
func factsOf(found health.Result) facts {
	f := facts{container: running, ready: found.Verdict}
	switch {
	case found.Reason == "container-missing":
		f.container = missing
	case found.Absent:
		f.container = stopped
	case found.Reason == "container-not-running":
		f.container = held
	case found.Verdict == health.Unknown:
		f.container = unseen
	}
	return f
}

// Remedies implements gateway.Mender.
func (r *Runtime) Remedies(ctx context.Context, found health.Result) []gateway.Remedy {
	name := r.cfg.Gateway.Name
	if found.Verdict == health.OK {
		return nil
	}
	switch decide(factsOf(found)) {
	case start:
		return []gateway.Remedy{{ID: startGateway, Title: fmt.Sprintf("start container %s of gateway %s", r.cfg.Container, name)}}
	case restart:
		title := fmt.Sprintf("see to gateway %s (%s), and restart its container %s if that does not make it ready within %s",
			name, strings.TrimSuffix(found.Message, "."), r.cfg.Container, budget.Of(budget.ContainerSettle))
		return []gateway.Remedy{{ID: restartGateway, Title: title, Disturbs: r.disturbed(ctx)}}
	case cleanUp:
		if owned, err := registration.Owned(r.cfg.Gateway); err == nil && owned {
			return []gateway.Remedy{{ID: forgetGateway, Title: fmt.Sprintf("take gateway %s from OpenShell clients: its container %s does not exist any more", name, r.cfg.Container)}}
		}
	}
	return nil
}

// disturbed are the subjects that a restart of the container stops for a while.
func (r *Runtime) disturbed(ctx context.Context) []string {
	names, err := r.Housed(ctx)
	if err != nil {
		return []string{"every sandbox in container " + r.cfg.Container + " (they could not be listed)"}
	}
	subjects := make([]string, len(names))
	for i, name := range names {
		subjects[i] = "sandbox/" + name
	}
	return subjects
}

// Mend implements gateway.Mender.
func (r *Runtime) Mend(ctx context.Context, id string, report gateway.Progress) error {
	switch id {
	case startGateway:
		return r.Start(ctx, report)
	case restartGateway:
		return r.settle(ctx, report)
	case forgetGateway:
		return r.forget(ctx, report)
	}
	return fmt.Errorf("runtime %s has no remedy %q", r.Name(), id)
}

// curable are reasons for which a start of the container may help. Of the others a
// restart would only disturb the sandboxes.
func curable(err error) bool {
	p, ok := advisory.Of(err)
	var expired *budget.Expired
	return ok && errors.As(err, &expired) && expired.Budget == budget.ContainerSettle &&
		!slices.Contains([]string{"secrets-need-consent", "openshell-disagrees"}, p.ID)
}

// settle first waits whether the gateway becomes ready with its secrets repaired, and
// only then restarts the container: if what is wrong with it is known, still.
func (r *Runtime) settle(ctx context.Context, report gateway.Progress) error {
	err := r.bringUp(ctx, budget.ContainerSettle, report)
	if err == nil || ctx.Err() != nil || !curable(err) {
		return err
	}
	if o := r.observe(ctx, nil); o.decision != restart {
		return err
	}
	report("not ready: " + err.Error())
	if err := r.Stop(ctx, report); err != nil {
		return err
	}
	return r.Start(ctx, report)
}

// forget takes back what Creel told OpenShell clients of a gateway that is gone. It
// looks again first: the plan may be old.
func (r *Runtime) forget(ctx context.Context, report gateway.Progress) error {
	if o := r.observe(ctx, nil); o.decision != cleanUp {
		return advisory.New("registration-unknown", "the registration is kept: "+o.Message, nil)
	}
	report("removing the registration of gateway " + r.cfg.Gateway.Name)
	return registration.Remove(r.cfg.Gateway)
}
