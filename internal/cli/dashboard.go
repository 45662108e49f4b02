package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/cli/ui"
	"creel/internal/credential"
	"creel/internal/dashboard"
	"creel/internal/gateway"
	"creel/internal/health"
)

type dashboardOptions struct {
	sandbox               string
	open, showToken, json bool
}

// DashboardDocument is what `creel dashboard --json` prints. It never holds the
// token.
type DashboardDocument struct {
	Verdict    health.Summary    `json:"verdict"`
	Sandbox    string            `json:"sandbox"`
	URL        string            `json:"url"`
	Bind       string            `json:"bind"`
	Port       int               `json:"port"`
	WantedPort int               `json:"wanted_port"`
	TargetPort int               `json:"target_port"`
	Bound      bool              `json:"bound"`
	Reason     string            `json:"reason"`
	Message    string            `json:"message"`
	Evidence   []health.Evidence `json:"evidence"`
	Hints      []string          `json:"hints"`
}

func (a *app) dashboardCommand() *cobra.Command {
	var o dashboardOptions
	cmd := &cobra.Command{
		Use:   "dashboard [SANDBOX]",
		Short: "Prove that a sandbox's dashboard opens, and open it",
		Long: `Print the URL of a sandbox's dashboard after proving that it opens: listener, page,
WebSocket, the right token accepted and a wrong one refused. The token is part of
the printed URL only with --show-token; --open hands it to the browser without
showing it.`,
		Example:           "  creel dashboard\n  creel dashboard SANDBOX --open\n  creel dashboard SANDBOX --json",
		GroupID:           "use",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeSandbox,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.sandbox = first(args)
			return a.dashboard(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.open, "open", false, "open it in a browser, signed in")
	f.BoolVar(&o.showToken, "show-token", false, "print the URL with its token: whoever has it can use the agent")
	jsonFlag(cmd, &o.json)
	exclusive(cmd, "json", "show-token")
	return cmd
}

func (a *app) dashboard(ctx context.Context, o dashboardOptions) error {
	return a.withSandbox(ctx, o.sandbox, func(c gateway.Client, s gateway.Inspection) error {
		d, err := getDashboard(ctx, c, s.Name)
		if err != nil {
			return err
		}
		doc := a.proveDashboard(ctx, s.Name, d)
		switch {
		case o.json:
			err = a.Streams.JSON(doc)
		case doc.URL == "":
			a.renderDashboard(doc, "")
		case o.showToken:
			a.renderDashboard(doc, dashboard.AuthenticatedURL(doc.URL, d.Token.Reveal()))
		default:
			a.renderDashboard(doc, doc.URL)
		}
		if o.open && doc.Verdict == health.SummaryOK {
			err = errors.Join(err, a.openDashboard(ctx, doc.URL, d.Token))
		}
		return errors.Join(err, asError(ofSummary(doc.Verdict)))
	})
}

func getDashboard(ctx context.Context, c gateway.Client, name string) (gateway.Dashboard, error) {
	ctx, cancel := budget.Context(ctx, budget.Probe, "ask the gateway for the dashboard")
	defer cancel()
	// The proof needs the token; it leaves this process only when asked for.
	d, err := c.Dashboard(ctx, name, true)
	if err != nil {
		return d, fmt.Errorf("ask the gateway for the dashboard of %s: %w", name, err)
	}
	if d.Forward.TargetPort == 0 {
		return d, advisory.New("dashboard-none", fmt.Sprintf("sandbox %s has no dashboard", name), nil,
			"creel connect "+name, "creel onboard --name "+name+" --agent-port PORT")
	}
	return d, nil
}

// proveDashboard probes what a browser will do.
func (a *app) proveDashboard(ctx context.Context, name string, d gateway.Dashboard) DashboardDocument {
	f := d.Forward
	doc := DashboardDocument{Verdict: health.SummaryFailed, Sandbox: name, Bind: f.Bind, Port: f.Port, WantedPort: f.WantedPort,
		TargetPort: f.TargetPort, Bound: f.Bound, Evidence: []health.Evidence{}, Hints: []string{}}
	if f.Stopped {
		doc.Reason, doc.Message, doc.Hints = "dashboard-stopped", "its listener was stopped", []string{"creel forward start " + name}
		return doc
	}
	if !f.Bound {
		doc.Reason, doc.Message = "dashboard-not-bound", "the gateway does not listen for the dashboard"
		if f.Error != "" {
			doc.Message += ": " + credential.Redact(f.Error)
		}
		doc.Hints = hintsOf(doc.Reason, nil)
		return doc
	}
	doc.URL = dashboardURL(f)
	verdict, reason, message, evidence := a.ProbeDashboard(ctx, d)
	doc.Verdict = verdictOf(health.Result{Verdict: verdict})
	doc.Reason, doc.Message, doc.Evidence = reason, credential.Redact(message), orEmpty(evidence)
	if doc.Verdict != health.SummaryOK {
		doc.Hints = hintsOf(reason, nil)
	}
	return doc
}

// renderDashboard prints the URL as the only data.
func (a *app) renderDashboard(doc DashboardDocument, url string) {
	t := a.Streams.ErrTerminal
	a.Streams.Say("%s: %s", t.Verdict(ui.MarkOf(string(doc.Verdict))), doc.Message)
	if doc.Port != doc.WantedPort && doc.WantedPort != 0 && doc.Bound {
		a.Streams.Say("port %d was taken; port %d is used instead", doc.WantedPort, doc.Port)
	}
	if url != "" {
		a.Streams.Print("%s", url)
	}
	if doc.Verdict != health.SummaryOK {
		for _, e := range doc.Evidence {
			a.Streams.Say("  %s %s: %s", t.Glyph(ui.MarkOf(e.Verdict.String())), e.Probe, e.Answer)
		}
		a.Streams.Next(doc.Hints...)
	}
}
