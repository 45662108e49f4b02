package layer

import (
	"context"
	"fmt"
	"strings"
	"time"

	"creel/internal/dashboard"
	"creel/internal/dashboard/forward"
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
	in, err := d.session.Sandbox(ctx, d.want.Name)
	switch nothing := d.want.Spec.Dashboard.TargetPort == 0 && len(d.want.Spec.Forwards) == 0; {
	case nothing && (err != nil || in.Partial):
		return ok("none is wanted")
	case absent(err):
		return failed("sandbox-absent", "its sandbox does not exist")
	case err != nil:
		return unknown("gateway-unknown", err)
	}
	page := d.page(ctx)
	page.Caveats = append(page.Caveats, PortLost(in.Dashboard)...)
	return judgeForwards(d.want.Spec.Forwards, in.Forwards, in.State.Confinement.Tier).with(page)
}

// PortLost is the caveat of a dashboard whose port a process of another user has or
// had, so that a page may have shown its token there.
func PortLost(f gateway.Forward) []health.Caveat {
	if f.LostPort == 0 {
		return nil
	}
	return []health.Caveat{{Advisory: "dashboard-port-lost",
		Message: fmt.Sprintf("a process of user %s was found at port %d, where its page was: rotate the token", f.LostTo, f.LostPort)}}
}

// NotBound is what is found of a dashboard whose listener should be bound and is not.
func NotBound(f gateway.Forward) health.Result {
	return failed(orElse(f.Reason, "dashboard-not-bound"), "%s", orElse(f.Error, "its listener is not bound"))
}

// page looks at the dashboard itself.
func (d *dashboardLayer) page(ctx context.Context) health.Result {
	if d.want.Spec.Dashboard.TargetPort == 0 {
		return ok("none is wanted")
	}
	c, err := d.session.Client(ctx)
	if err != nil {
		return unknown("gateway-unknown", err)
	}
	board, err := c.Dashboard(ctx, d.want.Name, true)
	f := board.Forward
	switch {
	case absent(err):
		return failed("sandbox-absent", "its sandbox does not exist")
	case err != nil:
		return unknown("gateway-unknown", err)
	case d.want.Spec.Dashboard.Stopped && f.Bound:
		return failed("dashboard-differs", "its listener is on port %d, it should be stopped", f.Port)
	case d.want.Spec.Dashboard.Stopped:
		return ok("its listener is stopped, as asked")
	case f.Stopped:
		return failed("dashboard-differs", "its listener was stopped, it is wanted")
	}
	if differs := d.differs(board); differs != "" {
		return failed(orElse(f.Reason, "dashboard-differs"), "%s", differs)
	}
	if !f.Bound {
		return NotBound(f)
	}
	r := d.probe(ctx, board)
	// What the agent itself leaves open is for whoever opens it to read; here it
	// matters where others reach it.
	r.Caveats = full(f)
	if r.Verdict == health.OK {
		r.Message = fmt.Sprintf("opens at http://%s:%d/", dashboard.Loopback, f.Port)
		if u := board.Access.PublicURL; u != "" {
			r.Message += ", for others at " + u
		}
		if displaced := f.Displaced(); displaced != "" {
			r.Message += fmt.Sprintf("; %s (--port %d of creel dashboard asks for it again)", displaced, f.TakenPort)
		}
		if f.Exposed() {
			protects := "the token protects it"
			if board.WebSocket == "" {
				protects = "no token of Creel's protects it, only what its agent does itself"
			}
			r.Caveats = append(r.Caveats, health.Caveat{Advisory: "dashboard-exposed",
				Message: fmt.Sprintf("it listens on %s, not on this machine alone; %s", f.Bind, protects)})
		}
		return r
	}
	if f.Connections >= forward.MaxConnections && r.Verdict == health.Failed {
		r.Reason, r.Message = "forward-full", fmt.Sprintf("port %d carries as many connections as it can: %s", f.Port, r.Message)
	} else if in, err := d.session.Sandbox(ctx, d.want.Name); err == nil && young(in.State.Main, time.Now()) && r.Verdict == health.Failed {
		r.Reason, r.Message = "dashboard-starting", "the agent was started a moment ago, and its page does not open yet"
	}
	return withHints(r)
}

// differs says how the listener is meant to be elsewhere, or to be reached
// otherwise; "" when it is not.
func (d *dashboardLayer) differs(board gateway.Dashboard) string {
	want, have := d.want.Spec.Dashboard, board.Forward
	says := ""
	switch {
	case !have.Bound:
		return ""
	case want.PortExplicit && have.Port != want.Port:
		says = fmt.Sprintf("the dashboard is on port %d, %d is wanted", have.Port, want.Port)
	case want.Bind != "" && have.Bind != "" && want.Bind != have.Bind:
		says = fmt.Sprintf("the dashboard is bound to %s, %s is wanted", have.Bind, want.Bind)
	case want.PublicURL != board.Access.PublicURL:
		says = fmt.Sprintf("the dashboard's public URL is %s, %s is wanted", orElse(board.Access.PublicURL, "(none)"), orElse(want.PublicURL, "(none)"))
	case !want.Access.Equal(board.Access):
		says = fmt.Sprintf("the dashboard believes the proxies %s, %s are wanted", list(board.Access.TrustedProxies), list(want.TrustedProxies))
	default:
		return ""
	}
	if have.Error != "" {
		says += ": " + have.Error
	}
	return says
}

func list(words []string) string { return orElse(strings.Join(words, ", "), "(none)") }

// Plan moves, binds or ends listeners. It restarts nothing: a taken port never
// costs a sandbox.
func (d *dashboardLayer) Plan(_ context.Context, found health.Result) []Action {
	if found.Verdict != health.Failed {
		return nil
	}
	var first Action
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
		first = Action{ID: "move-dashboard", Title: title + "; its agent goes on"}
		if want.Stopped {
			first = Action{ID: "stop-dashboard", Title: "end the listener of the dashboard of " + d.want.Name + "; its agent goes on"}
		}
	case "dashboard-starting":
		first = Action{ID: "await-dashboard", Title: "wait for the dashboard of " + d.want.Name}
	case "dashboard-not-bound", "dashboard-port-taken":
		first = Action{ID: "bind-dashboard", Title: "bind the dashboard of " + d.want.Name + " again; its agent goes on"}
	default:
		return d.toForward(found)
	}
	return append(d.toForward(found), first)
}

func (d *dashboardLayer) Mend(ctx context.Context, do Action, report Progress) error {
	switch do.ID {
	case "move-dashboard", "bind-dashboard", "stop-dashboard", "set-forwards":
		return d.listen(ctx)
	case "await-dashboard":
		return awaitOK(ctx, d, "wait for the dashboard of "+d.want.Name, report, func(r health.Result) bool {
			return r.Verdict == health.Failed && r.Reason != "dashboard-starting"
		})
	}
	return noSuchAction(d, do)
}
