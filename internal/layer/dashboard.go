package layer

import (
	"context"
	"fmt"

	"creel/internal/gateway"
	"creel/internal/health"
	"creel/internal/sandbox"
)

// Probe proves that a dashboard opens, with the token in d.
type Probe func(ctx context.Context, d gateway.Dashboard) (verdict health.Verdict, reason, message string, evidence []health.Evidence)

type dashboardLayer struct {
	session *Session
	want    WantedSandbox
	probe   Probe
}

// NewDashboard is the layer of a sandbox's dashboard.
func NewDashboard(s *Session, want WantedSandbox, probe Probe) Layer {
	return &dashboardLayer{s, want, probe}
}

func (d *dashboardLayer) ID() ID          { return Dashboard }
func (d *dashboardLayer) Subject() string { return "sandbox/" + d.want.Name }
func (d *dashboardLayer) Title() string   { return "Dashboard of " + d.want.Name }

func (d *dashboardLayer) Inspect(ctx context.Context) health.Result {
	if d.want.Wanted == sandbox.NotRunning {
		return ok("stopped, as asked")
	}
	if d.want.Spec.Dashboard.TargetPort == 0 {
		return ok("none is wanted")
	}
	c, err := d.session.Client(ctx)
	if err != nil {
		return unknown("gateway-unknown", err)
	}
	board, err := c.Dashboard(ctx, d.want.Name, true)
	switch {
	case absent(err):
		return failed("sandbox-absent", "its sandbox does not exist")
	case err != nil:
		return unknown("gateway-unknown", err)
	case !board.Forward.Bound:
		return failed("dashboard-not-bound", "%s", orElse(board.Forward.Error, "its listener is not bound"))
	}
	verdict, reason, message, evidence := d.probe(ctx, board)
	r := health.Result{Verdict: verdict, Reason: reason, Message: message, Evidence: evidence}
	if verdict == health.OK {
		r.Message = fmt.Sprintf("opens at http://%s:%d/", board.Forward.Bind, board.Forward.Port)
		if w := board.Forward.WantedPort; w != 0 && w != board.Forward.Port {
			r.Message += fmt.Sprintf(" (port %d was taken)", w)
		}
		return r
	}
	return withHints(r)
}

// Plan restarts nothing: the gateway binds the listener again when the port is
// free, so that a taken port never costs a sandbox.
func (d *dashboardLayer) Plan(context.Context, health.Result) []Action { return nil }

func (d *dashboardLayer) Mend(_ context.Context, do Action, _ Progress) error {
	return noSuchAction(d, do)
}
