package server

import (
	"context"
	"fmt"
	"log/slog"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	creelv1 "creel/api/creel/v1"
	"creel/internal/sandbox"
	"creel/internal/server/store"
)

// RotateDashboardToken replaces the token in the record first: from then on nobody
// is told the old one, whatever happens after. Then the listener is bound anew,
// which ends all who came in with it.
func (s *creelService) RotateDashboardToken(ctx context.Context, r *creelv1.RotateDashboardTokenRequest) (*creelv1.RotateDashboardTokenResponse, error) {
	o, err := s.d.store.Sandboxes.Get(ctx, "", r.GetName())
	if err != nil {
		return nil, err
	}
	token := randomToken()
	sealed, err := s.d.keyring.Seal(token)
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
		o.Value.DashboardToken = sealed
		return nil
	})
	if err != nil {
		return nil, err
	}
	kept := s.d.cfg.Driver.NewDashboardToken(ctx, sandbox.Handle{ID: o.ID, Name: o.Name}, token)
	if e := s.d.entry(o.ID); e != nil {
		s.d.renewDashboard(s.d.ctx, e)
		e.nudge()
	}
	s.d.log.Info("dashboard token rotated", slog.String("sandbox", o.Name))
	if kept != nil {
		return nil, fmt.Errorf("the token is new, and the old one could not be removed from disk: %w", kept)
	}
	return &creelv1.RotateDashboardTokenResponse{RestartNeeded: o.Value.Wanted == sandbox.Running}, nil
}
