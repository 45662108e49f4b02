package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/cli/ui"
	"creel/internal/gateway"
	"creel/internal/layer"
)

// dashboardRotate rotates the token while nobody else changes the sandbox, and returns
// the sandbox's name.
func (a *app) dashboardRotate(cmd *cobra.Command, name string, yes bool) (_ string, err error) {
	l, _, err := a.lock(cmd)
	if err != nil {
		return name, err
	}
	defer unlock(l, &err)
	err = a.withSandbox(cmd.Context(), name, func(c gateway.Client, s gateway.Inspection) error {
		name = s.Name
		return a.rotateToken(cmd.Context(), c, s, yes)
	})
	return name, err
}

// rotateToken gives a dashboard a new token. Every session ends, and the gateway
// starts the agent again where it runs, because it is told its token at its start.
// Nobody is said to be signed out before the agent that took the old one has ended,
// and nobody of an agent of which it is not known that it asks for a token.
func (a *app) rotateToken(ctx context.Context, c gateway.Client, s gateway.Inspection, yes bool) (err error) {
	u, can := c.(gateway.Updater)
	if !can {
		return advisory.New("dashboard-none", "this gateway keeps no dashboards", nil)
	}
	d, err := getDashboard(ctx, c, s.Name)
	if err != nil {
		return err
	}
	before, after := "Whoever is signed in is signed out", "nobody is signed in any more"
	if d.WebSocket == "" {
		before = "Its agent finds it in CREEL_DASHBOARD_TOKEN, and whether it asks for it is its own affair"
		after = "whether its agent asks for it is the agent's own affair"
	}
	question := fmt.Sprintf("Give the dashboard of %s a new token? %s. What runs in the sandbox is started again; its workspace stays.", s.Name, before)
	if err := a.confirm(ctx, question, yes); err != nil {
		return err
	}
	p := ui.NewProgress(a.Streams)
	defer p.Close()
	p.Wait("rotating the token")
	restart, err := u.RotateDashboardToken(ctx, s.Name)
	if err != nil {
		return err
	}
	if restart {
		if err := a.awaitRestart(ctx, c, s.Name, p); err != nil {
			return err
		}
	}
	p.End(ui.MarkOK, "the dashboard of "+s.Name+" has a new token; "+after)
	return nil
}

// awaitRestart waits until the gateway has started a sandbox again, which it does
// whether or not somebody waits for it.
func (a *app) awaitRestart(ctx context.Context, c gateway.Client, name string, p *ui.Progress) error {
	waiting, cancel := budget.Context(ctx, budget.SandboxReady, "start sandbox "+name+" again")
	defer cancel()
	if err := awaitSandbox(waiting, c, name, p); err != nil {
		return err
	}
	return a.awaitAgent(ctx, name, p)
}

// restartAgent starts a sandbox again whose agent has to be told something new. It
// does what "creel stop" and "creel start" do, but for the wish, which stays.
func (a *app) restartAgent(ctx context.Context, c gateway.Client, name string) error {
	p := ui.NewProgress(a.Streams)
	defer p.Close()
	if err := stopSandbox(ctx, c, name, p); err != nil {
		return err
	}
	if err := startSandbox(ctx, c, name, p); err != nil {
		return err
	}
	return a.awaitAgent(ctx, name, p)
}

// awaitAgent waits until the agent of a sandbox that was started answers, and then its
// page, which of an agent without a health endpoint comes later. Nothing of its
// listeners is changed.
func (a *app) awaitAgent(ctx context.Context, name string, p *ui.Progress) error {
	g, err := a.paths()
	if err != nil {
		return err
	}
	wanted, _, err := recorded(g)
	if err != nil {
		return err
	}
	stack, err := a.Layers(ctx, wanted, Scope{Sandbox: name, Only: []layer.ID{layer.Agent, layer.Dashboard}})
	if err != nil {
		return err
	}
	for _, l := range stack.Layers {
		for _, do := range l.Plan(ctx, l.Inspect(ctx)) {
			if l.ID() == layer.Dashboard && do.ID != "await-dashboard" {
				continue
			}
			p.Wait(do.Title)
			err = errors.Join(err, l.Mend(ctx, do, layer.Progress(p.Report())))
		}
	}
	if stack.Close != nil {
		err = errors.Join(err, stack.Close())
	}
	return err
}
