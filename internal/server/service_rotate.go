package server

import (
	"bytes"
	"context"
	"log/slog"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	creelv1 "creel/api/creel/v1"
	"creel/internal/sandbox"
	"creel/internal/server/store"
)

// RotateDashboardToken records the new token, and with it that what runs was started
// with another: from then on nobody is told the old one and nobody reaches an agent
// that takes it, whatever happens after. The reconciler starts the sandbox again.
func (s *creelService) RotateDashboardToken(ctx context.Context, r *creelv1.RotateDashboardTokenRequest) (*creelv1.RotateDashboardTokenResponse, error) {
	o, err := s.d.store.Sandboxes.Get(ctx, "", r.GetName())
	if err != nil {
		return nil, err
	}
	sealed, err := s.d.keyring.Seal(randomToken())
	if err != nil {
		return nil, err
	}
	o, err = s.d.store.Sandboxes.Change(ctx, o.ID, func(o *store.Object[store.Sandbox]) error {
		switch {
		case o.Value.Deleting:
			return status.Errorf(codes.FailedPrecondition, "sandbox %q is being deleted", o.Name)
		case o.Value.Spec.Dashboard.TargetPort == 0:
			return status.Errorf(codes.FailedPrecondition, "sandbox %q has no dashboard", o.Name)
		}
		o.Value.DashboardToken, o.Value.TokenUntold = sealed, true
		o.Value.LostPort, o.Value.LostTo = 0, ""
		return nil
	})
	if err != nil {
		return nil, err
	}
	restarts := o.Value.Wanted == sandbox.Running
	if e := s.d.entry(o.ID); e != nil {
		// The client may go away any time: what was recorded is carried out.
		ctx := context.WithoutCancel(ctx)
		if restarts {
			e.ask() // first: what is decided from now on is about this token
			s.d.setPhase(ctx, e, sandbox.Starting, "")
		}
		s.d.endDashboard(e)
		e.overrule()
	}
	s.d.log.Info("dashboard token rotated", slog.String("sandbox", o.Name))
	return &creelv1.RotateDashboardTokenResponse{RestartNeeded: restarts}, nil
}

// forgetOldToken is for a sandbox of which nothing runs that was started with its
// dashboard's old token: the token goes from what the sandbox would be found with on
// disk as well, and the dashboard may listen again.
func (d *daemon) forgetOldToken(ctx context.Context, own *effort, o *store.Object[store.Sandbox]) {
	token, err := d.keyring.Open(o.Value.DashboardToken)
	if err == nil {
		err = d.cfg.Driver.NewDashboardToken(ctx, *own.handle, token)
	}
	if err != nil { // a start writes it anew, all the same
		d.log.Warn("remove the old dashboard token from disk", slog.String("sandbox", o.Name), slog.Any("error", err))
		return
	}
	d.tokenTold(ctx, o)
}

// tokenTold notes that nothing is left that was started with another token than o
// has. A token that came later has yet to be told.
func (d *daemon) tokenTold(ctx context.Context, o *store.Object[store.Sandbox]) {
	changed, err := d.store.Sandboxes.Change(ctx, o.ID, func(now *store.Object[store.Sandbox]) error {
		if bytes.Equal(now.Value.DashboardToken, o.Value.DashboardToken) {
			now.Value.TokenUntold = false
		}
		return nil
	})
	if err != nil {
		d.log.Warn("record that the dashboard's old token is gone", slog.String("sandbox", o.Name), slog.Any("error", err))
		return
	}
	o.Value.TokenUntold = changed.Value.TokenUntold
}
