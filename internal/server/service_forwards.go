package server

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	creelv1 "creel/api/creel/v1"
	"creel/internal/dashboard"
	"creel/internal/dashboard/forward"
	"creel/internal/sandbox"
	"creel/internal/server/store"
)

func (s *creelService) UpdateSandbox(ctx context.Context, r *creelv1.UpdateSandboxRequest) (*creelv1.UpdateSandboxResponse, error) {
	spec, err := specFromJSON(r.GetSpecJson())
	if err != nil {
		return nil, invalid(err)
	}
	i, err := s.d.change(ctx, r.GetName(), func(o *store.Object[store.Sandbox]) error {
		o.Value.Spec, o.Labels = spec, spec.Labels
		return nil
	})
	return &creelv1.UpdateSandboxResponse{Sandbox: i}, err
}

func (s *creelService) UpdateForwards(ctx context.Context, r *creelv1.UpdateForwardsRequest) (*creelv1.UpdateForwardsResponse, error) {
	i, err := s.d.change(ctx, r.GetName(), func(o *store.Object[store.Sandbox]) error {
		spec := o.Value.Spec
		if l := r.GetDashboard(); l != nil {
			spec.Dashboard.Bind, spec.Dashboard.Port, spec.Dashboard.PortExplicit = l.GetBind(), int(l.GetPort()), l.GetPortExplicit()
			spec.Dashboard.Stopped = l.GetStopped()
			spec.Dashboard.Access = dashboard.Access{PublicURL: l.GetPublicUrl(), TrustedProxies: l.GetTrustedProxies()}
		}
		spec.Forwards = nil
		for _, l := range r.GetForwards() {
			spec.Forwards = append(spec.Forwards, sandbox.Forward{Bind: l.GetBind(), Port: int(l.GetPort()), TargetPort: int(l.GetTargetPort())})
		}
		spec, err := settle(spec)
		if err != nil {
			return invalid(err)
		}
		o.Value.Spec = spec
		return nil
	})
	return &creelv1.UpdateForwardsResponse{Sandbox: i}, err
}

// change changes a sandbox's record, has its listeners follow, and returns what it
// is then.
func (d *daemon) change(ctx context.Context, name string, how func(*store.Object[store.Sandbox]) error) (*creelv1.SandboxInspection, error) {
	o, err := d.store.Sandboxes.Get(ctx, "", name)
	if err != nil {
		return nil, err
	}
	if o, err = d.store.Sandboxes.Change(ctx, o.ID, func(o *store.Object[store.Sandbox]) error {
		if o.Value.Deleting {
			return status.Errorf(codes.FailedPrecondition, "sandbox %q is being deleted", o.Name)
		}
		before := o.Value.Spec.Dashboard.Port
		if err := how(o); err != nil {
			return err
		}
		if now := o.Value.Spec.Dashboard; now.Port != before && now.Port != 0 {
			o.Value.DashboardPort = 0 // it is to be elsewhere: its old port is not asked for any more
		}
		return nil
	}); err != nil {
		return nil, err
	}
	e := d.entry(o.ID)
	if e != nil {
		d.keepListeners(d.ctx, e, insist)
		e.nudge()
	}
	return d.inspection(o, e), nil
}

// dashboardTo is the dashboard's listener; nil when there is no dashboard.
func dashboardTo(o store.Object[store.Sandbox], v view) *creelv1.Forward {
	want := o.Value.Spec.Dashboard
	if want.TargetPort == 0 {
		return nil
	}
	f := listenerTo(o, v, dashboardWish(want))
	f.WantedPort = uint32(want.Port)
	f.LostPort, f.LostTo = uint32(o.Value.LostPort), o.Value.LostTo
	if want.Stopped {
		f.Stopped, f.Error, f.Reason = true, "its listener was stopped", ""
	}
	return f
}

// forwardsTo are a sandbox's forwards beside its dashboard.
func forwardsTo(o store.Object[store.Sandbox], v view) []*creelv1.Forward {
	var all []*creelv1.Forward
	for _, want := range o.Value.Spec.Forwards {
		f := listenerTo(o, v, forwardWish(want))
		f.WantedPort = uint32(want.Port)
		all = append(all, f)
	}
	return all
}

func listenerTo(o store.Object[store.Sandbox], v view, w wish) *creelv1.Forward {
	kind := "forward"
	if w.slot.dashboard {
		kind = "dashboard"
	}
	f := &creelv1.Forward{Sandbox: o.Name, Bind: w.bind, TargetPort: uint32(w.target), Port: uint32(lastPort(o.Value, w.slot))}
	if w.explicit {
		f.Port = uint32(w.port)
	}
	l := v.Listeners[w.slot]
	var taken *forward.Taken
	switch {
	case l.problem == nil:
	case errors.As(l.problem, &taken):
		f.Reason, f.TakenPort, f.TakenBy = kind+"-port-taken", uint32(taken.Port), taken.Holder
		f.Error = l.problem.Error()
	default:
		f.Reason, f.Error = kind+"-not-bound", l.problem.Error()
	}
	if l.forward == nil {
		if f.Error == "" {
			f.Error = fmt.Sprintf("the sandbox is %s", v.Phase)
		}
		return f
	}
	open, refused := l.forward.Connections()
	f.Bound, f.Port, f.Bind, f.TargetPort = true, uint32(l.forward.Port()), l.made.bind, uint32(l.made.target)
	f.Connections, f.Refused = uint32(open), refused
	if l.instead != nil && l.problem == nil {
		f.TakenPort, f.TakenBy = uint32(l.instead.Port), l.instead.Holder
	}
	return f
}
