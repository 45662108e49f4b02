package layer

import (
	"context"
	"fmt"
	"strings"
	"time"

	"creel/internal/dashboard"
	"creel/internal/gateway"
	"creel/internal/health"
	"creel/internal/sandbox"
)

// Probe proves that a dashboard opens, with the token in d. Of the result it sets
// verdict, reason, message, evidence and caveats.
type Probe func(ctx context.Context, d gateway.Dashboard) health.Result

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
	}
	if d := d.differs(board); d != "" {
		return failed("dashboard-differs", "%s", d)
	}
	if !board.Forward.Bound {
		return failed("dashboard-not-bound", "%s", orElse(board.Forward.Error, "its listener is not bound"))
	}
	r := d.probe(ctx, board)
	// What the agent itself leaves open is for whoever opens it to read; here it
	// matters where others reach it.
	r.Caveats = nil
	if r.Verdict == health.OK {
		r.Message = fmt.Sprintf("opens at http://%s:%d/", dashboard.Loopback, board.Forward.Port)
		if u := board.Access.PublicURL; u != "" {
			r.Message += ", for others at " + u
		}
		if w := board.Forward.WantedPort; w != 0 && w != board.Forward.Port {
			r.Message += fmt.Sprintf(" (port %d was taken)", w)
		}
		if b := board.Forward.Bind; b != "" && b != dashboard.Loopback {
			protects := "the token protects it"
			if board.WebSocket == "" {
				protects = "no token of Creel's protects it, only what its agent does itself"
			}
			r.Caveats = []health.Caveat{{Advisory: "dashboard-exposed",
				Message: fmt.Sprintf("it listens on %s, not on this machine alone; %s", b, protects)}}
		}
		return r
	}
	if in, err := d.session.Sandbox(ctx, d.want.Name); err == nil && young(in.State.Main, time.Now()) && r.Verdict == health.Failed {
		r.Reason = "dashboard-starting" // the agent was started a moment ago and may not listen yet
	}
	return withHints(r)
}

// differs says how the listener is meant to be elsewhere, or to be reached
// otherwise; "" when it is not.
func (d *dashboardLayer) differs(board gateway.Dashboard) string {
	want, have := d.want.Spec.Dashboard, board.Forward
	port := have.WantedPort
	if port == 0 {
		port = have.Port
	}
	switch {
	case want.PortExplicit && port != 0 && port != want.Port:
		return fmt.Sprintf("the dashboard is on port %d, %d is wanted", port, want.Port)
	case want.Bind != "" && have.Bind != "" && want.Bind != have.Bind:
		return fmt.Sprintf("the dashboard is bound to %s, %s is wanted", have.Bind, want.Bind)
	case want.PublicURL != board.Access.PublicURL:
		return fmt.Sprintf("the dashboard's public URL is %s, %s is wanted", orElse(board.Access.PublicURL, "(none)"), orElse(want.PublicURL, "(none)"))
	case !want.Access.Equal(board.Access):
		return fmt.Sprintf("the dashboard believes the proxies %s, %s are wanted", list(board.Access.TrustedProxies), list(want.TrustedProxies))
	}
	return ""
}

func list(words []string) string { return orElse(strings.Join(words, ", "), "(none)") }

// Plan moves or binds the listener. It restarts nothing: a taken port never
// costs a sandbox.
func (d *dashboardLayer) Plan(_ context.Context, found health.Result) []Action {
	if found.Verdict != health.Failed {
		return nil
	}
	switch found.Reason {
	case "dashboard-differs":
		want := d.want.Spec.Dashboard
		where := orElse(want.Bind, dashboard.Loopback)
		if want.Port != 0 {
			where = fmt.Sprintf("%s:%d", where, want.Port)
		}
		title := fmt.Sprintf("bind the dashboard of %s to %s", d.want.Name, where)
		if want.PublicURL != "" {
			title += ", opened as " + want.PublicURL
		}
		return []Action{{ID: "move-dashboard", Title: title + "; its agent goes on"}}
	case "dashboard-starting":
		return []Action{{ID: "await-dashboard", Title: "wait for the dashboard of " + d.want.Name}}
	case "dashboard-not-bound":
		return []Action{{ID: "bind-dashboard", Title: "bind the dashboard of " + d.want.Name + " again; its agent goes on"}}
	}
	return nil
}

func (d *dashboardLayer) Mend(ctx context.Context, do Action, report Progress) error {
	switch do.ID {
	case "move-dashboard", "bind-dashboard":
		return update(ctx, d.session, d.want)
	case "await-dashboard":
		return awaitOK(ctx, d, "wait for the dashboard of "+d.want.Name, report, func(r health.Result) bool {
			return r.Verdict == health.Failed && r.Reason != "dashboard-starting"
		})
	}
	return noSuchAction(d, do)
}
