package k3s

import (
	"context"
	"fmt"
	"time"

	"creel/internal/health"
	"creel/internal/registration"
)

// InspectRegistration says how the record by which OpenShell clients find the gateway
// is. The one that its maker wrote is as good as one of Creel's.
func (r *Runtime) InspectRegistration(ctx context.Context) health.Result {
	began := time.Now()
	box, there, err := r.look(ctx)
	if there != running {
		if err == nil {
			err = fmt.Errorf("container %s does not run", r.cfg.Container)
		}
		f := faultOf(health.Unknown, "registration-unknown", err)
		return health.Result{Verdict: f.verdict, Reason: f.reason, Message: "what opens the gateway could not be read: " + f.message, Hints: f.hints}
	}
	k, fault := r.set(ctx) // not what is remembered: it may have changed since
	if k == nil {
		return health.Result{Verdict: health.Unknown, Reason: fault.reason, Message: fault.message, Hints: fault.hints}
	}
	report := registration.Examine(r.cfg.Gateway, endpointOf(r.endpoint(box)), k.files)
	found := health.Result{Reason: report.State.Advisory(), Message: report.String(), Absent: report.State == registration.Absent}
	switch report.State {
	case registration.OK:
		found.Verdict = health.OK
	case registration.Absent, registration.Stale, registration.Foreign:
		found.Verdict = health.Failed
	}
	found.Evidence = []health.Evidence{{Probe: "registration " + report.Directory, Answer: report.String(), Verdict: found.Verdict, Took: health.Micros(time.Since(began))}}
	return found
}

// Register gives OpenShell clients what opens the gateway.
func (r *Runtime) Register(ctx context.Context) error {
	box, there, err := r.look(ctx)
	switch there {
	case running:
	case unseen, missing:
		return r.whyNot(there, err)
	default:
		return r.notRunning("register the gateway", box)
	}
	k, fault := r.set(ctx)
	if k == nil {
		return fault.problem("register the gateway")
	}
	e := r.endpoint(box)
	if _, err := registration.Renew(r.cfg.Gateway, endpointOf(e), k.files); err != nil {
		return err
	}
	if _, err := registration.Select(r.cfg.Gateway); err != nil {
		return err
	}
	return r.remember(box, e, k.files)
}
