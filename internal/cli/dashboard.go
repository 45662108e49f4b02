package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/cli/ui"
	"creel/internal/credential"
	"creel/internal/dashboard"
	"creel/internal/gateway"
	"creel/internal/health"
	"creel/internal/layer"
	"creel/internal/sandbox"
)

type dashboardOptions struct {
	sandbox               string
	open, showToken, json bool
	rotate, yes           bool
	declared              []declaration
}

// DashboardDocument is what `creel dashboard --json` prints. It never holds the
// token.
type DashboardDocument struct {
	Verdict        health.Summary    `json:"verdict"`
	Sandbox        string            `json:"sandbox"`
	Problem        *ProblemDocument  `json:"problem"`
	URL            string            `json:"url"`
	Situation      []string          `json:"situation"`
	Tunnel         string            `json:"tunnel"`
	Entries        []dashboard.Entry `json:"entries"`
	Guidance       []string          `json:"guidance"`
	Bind           string            `json:"bind"`
	Port           int               `json:"port"`
	WantedPort     int               `json:"wanted_port"`
	TargetPort     int               `json:"target_port"`
	Bound          bool              `json:"bound"`
	PublicURL      string            `json:"public_url"`
	TrustedProxies []string          `json:"trusted_proxies"`
	Reason         string            `json:"reason"`
	Message        string            `json:"message"`
	Evidence       []health.Evidence `json:"evidence"`
	Caveats        []health.Caveat   `json:"caveats"`
	Hints          []string          `json:"hints"`
}

func (a *app) dashboardCommand() *cobra.Command {
	var o dashboardOptions
	cmd := &cobra.Command{
		Use:   "dashboard [SANDBOX]",
		Short: "Prove that a sandbox's dashboard opens, and open it",
		Long: `Print the URL of a sandbox's dashboard that works from where you sit, after proving
that it opens: listener, health, page, WebSocket with the right origin accepted and
with a wrong one refused, the right token accepted and a wrong one refused. In an SSH
session the "ssh -L" line to run first is printed too; on WSL the address that
Windows reaches; behind a reverse proxy the public URL, which is asked as well.

How the dashboard is reached is declared by --bind, --port, --public-url and
--trusted-proxies. A declaration is recorded and takes effect at once. The console
goes on; OpenClaw is told its public URL only at its start, so it is started again
for another one, after you agreed. An empty value takes a declaration back.
docs/dashboard.md says more.

The token is part of the printed URL only with --show-token; --open hands it to the
browser without showing it.`,
		Example: "  creel dashboard\n  creel dashboard SANDBOX --open\n  creel dashboard SANDBOX --json\n" +
			"  creel dashboard SANDBOX --bind 0.0.0.0\n  creel dashboard SANDBOX --bind 127.0.0.1 --public-url https://agent.example/claw --trusted-proxies 127.0.0.1",
		GroupID:           "use",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeSandbox,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			o.sandbox = first(args)
			o.declared = givenDeclarations(cmd.Flags())
			if o.yes && !o.rotate && len(o.declared) == 0 {
				return usage("usage", "--yes is for --rotate-token and for declarations such as --public-url")
			}
			return a.dashboard(cmd, o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.open, "open", false, "open it in a browser, signed in")
	f.BoolVar(&o.showToken, "show-token", false, "print the URL with its token: whoever has it can use the agent")
	for _, d := range declarations() {
		f.String(d.flag, "", d.meaning)
	}
	jsonFlag(cmd, &o.json)
	f.BoolVar(&o.rotate, "rotate-token", false, "make a new token first: the old one and whoever is signed in with it are out, and the agent is started again")
	f.BoolVarP(&o.yes, "yes", "y", false, "rotate, or start an agent again that has to be told, without asking")
	exclusive(cmd, "json", "show-token")
	if err := cmd.RegisterFlagCompletionFunc("bind", cobra.FixedCompletions([]string{dashboard.Loopback, dashboard.Everybody}, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag is this command's own
	}
	return cmd
}

func (a *app) dashboard(cmd *cobra.Command, o dashboardOptions) error {
	ctx := cmd.Context()
	gatewayName, err := a.gatewayName()
	if err != nil {
		return err
	}
	machine := a.Machine()
	doc, d, err := a.provenDashboard(cmd, o, machine)
	if err != nil {
		return a.withoutDashboard(ctx, o, gatewayName, err)
	}
	token := credential.Secret{}
	if o.showToken {
		token = d.Token
	}
	if o.showToken || o.open { // that is being done
		doc.Hints = slices.DeleteFunc(doc.Hints, func(hint string) bool {
			return hint == "creel dashboard "+doc.Sandbox+" --open" || hint == "creel dashboard "+doc.Sandbox+" --show-token"
		})
	}
	if o.json {
		doc.Hints = a.about(gatewayName, doc.Hints)
		err = a.Streams.JSON(doc)
	} else {
		a.renderDashboard(doc, token)
	}
	switch {
	case !o.open || doc.Verdict != health.SummaryOK:
	case machine.SSH.Session && !machine.Display:
		err = errors.Join(err, advisory.New("browser-missing", "this is a session over SSH: your browser is on the machine that you came from", nil))
	default:
		err = errors.Join(err, a.openDashboard(ctx, doc.URL, d.Token))
	}
	return errors.Join(err, asError(ofSummary(doc.Verdict)))
}

// provenDashboard does what was asked to be done first, and proves what there is then.
func (a *app) provenDashboard(cmd *cobra.Command, o dashboardOptions, machine dashboard.Machine) (doc DashboardDocument, d gateway.Dashboard, err error) {
	ctx, name := cmd.Context(), o.sandbox
	if o.rotate {
		if name, err = a.dashboardRotate(cmd, name, o.yes); err != nil {
			return doc, d, err
		}
	}
	if len(o.declared) > 0 {
		if name, err = a.declareDashboard(cmd, name, o.declared, o.yes); err != nil {
			return doc, d, err
		}
	}
	err = a.withSandbox(ctx, name, func(c gateway.Client, s gateway.Inspection) (err error) {
		if d, err = getDashboard(ctx, c, s.Name); err != nil {
			return err
		}
		doc, err = a.proveDashboard(ctx, s, d, machine)
		return err
	})
	return doc, d, err
}

// withoutDashboard is the end of a command that could prove nothing. Whoever asked for
// a document gets one; of a command line that is wrong Main says it.
func (a *app) withoutDashboard(ctx context.Context, o dashboardOptions, gatewayName string, why error) error {
	why = explain(why)
	code := codeOf(ctx, why)
	if !o.json || code == ExitUsage || code == ExitInterrupted {
		return why
	}
	p := a.problemAbout(gatewayName, problemDocument(why))
	doc := DashboardDocument{Verdict: health.SummaryUnknown, Sandbox: a.Streams.Sandbox, Problem: p, Reason: p.Advisory, Message: p.Message, Hints: p.Commands,
		Situation: []string{}, Guidance: []string{}, Entries: []dashboard.Entry{}, TrustedProxies: []string{}, Evidence: []health.Evidence{}, Caveats: []health.Caveat{}}
	if code == ExitFailed {
		doc.Verdict = health.SummaryFailed
	}
	return errors.Join(a.Streams.JSON(doc), exitCode(code))
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
		return d, noDashboard(name)
	}
	return d, nil
}

func noDashboard(name string) error {
	return advisory.New("dashboard-none", fmt.Sprintf("sandbox %s has no dashboard", name), nil,
		"creel connect "+name, "creel onboard --name "+name+" --agent-port PORT")
}

// proveDashboard judges the situation and probes what a browser will do.
func (a *app) proveDashboard(ctx context.Context, in gateway.Inspection, d gateway.Dashboard, machine dashboard.Machine) (DashboardDocument, error) {
	f, name := d.Forward, in.Name
	doc := DashboardDocument{Verdict: health.SummaryFailed, Sandbox: name, Bind: f.Bind, Port: f.Port, WantedPort: f.WantedPort,
		TargetPort: f.TargetPort, Bound: f.Bound, PublicURL: d.Access.PublicURL, TrustedProxies: orEmpty(d.Access.TrustedProxies),
		Situation: []string{}, Guidance: []string{}, Entries: []dashboard.Entry{}, Evidence: []health.Evidence{}, Caveats: orEmpty(layer.PortLost(f))}
	if in.Wanted == sandbox.NotRunning {
		doc.Reason, doc.Message, doc.Hints = "sandbox-stopped", "sandbox "+name+" is stopped", []string{"creel start " + name}
		return doc, nil
	}
	if f.Stopped {
		doc.Reason, doc.Message, doc.Hints = "dashboard-stopped", "its listener was stopped", []string{"creel forward start " + name}
		return doc, nil
	}
	listener := dashboard.Listener{Bind: f.Bind, Port: f.Port, Open: d.WebSocket == ""}
	if listener.Port == 0 {
		listener.Port = cmp.Or(f.WantedPort, dashboard.DefaultPort) // not bound yet
	}
	s, err := dashboard.Judge(machine, d.Access, listener, name)
	if err != nil {
		return doc, fmt.Errorf("judge how the dashboard of %s is reached: %w", name, err)
	}
	doc.Situation = s.Kinds
	if !f.Bound { // there is nothing to open, and so nothing to say about how
		r := layer.NotBound(f)
		doc.Reason, doc.Hints = r.Reason, r.Hints
		doc.Message = "the gateway does not listen for the dashboard: " + credential.Redact(r.Message)
		return doc, nil
	}
	doc.URL, doc.Entries, doc.Tunnel = s.URL, s.Entries, advisory.QuoteAll(s.Tunnel)
	doc.Guidance, doc.Hints = orEmpty(s.Guidance), orEmpty(s.Commands)
	r := a.ProbeDashboard(ctx, d)
	if r.Verdict == health.OK && s.Is("proxy") {
		r = withPublic(r, a.ProbePublicURL(ctx, d))
	}
	doc.Verdict = verdictOf(health.Result{Verdict: r.Verdict})
	doc.Reason, doc.Message = r.Reason, credential.Redact(r.Message)
	doc.Evidence, doc.Caveats = evidenceOf(r.Evidence), append(doc.Caveats, caveatsOf(r.Caveats)...)
	if doc.Verdict != health.SummaryOK {
		doc.Hints = hintsOf(doc.Reason, nil)
	}
	if f.LostPort != 0 {
		doc.Hints = append([]string{"creel dashboard " + name + " --rotate-token"}, doc.Hints...)
	}
	return doc, nil
}

// withPublic adds what the public URL answered. One that answers wrongly is a
// dashboard that does not open; of one that could not be asked nothing is known,
// and the dashboard opens all the same.
func withPublic(r, public health.Result) health.Result {
	r.Evidence = append(r.Evidence, public.Evidence...)
	switch public.Verdict {
	case health.Failed:
		r.Verdict, r.Reason, r.Message = public.Verdict, public.Reason, public.Message
	case health.Unknown:
		r.Caveats = append(r.Caveats, health.Caveat{Advisory: public.Reason, Message: public.Message})
	default:
		r.Message += "; " + public.Message
	}
	return r
}

// renderDashboard prints the URL as the only data. The token is empty unless it was
// asked for.
func (a *app) renderDashboard(doc DashboardDocument, token credential.Secret) {
	t := a.Streams.ErrTerminal
	a.Streams.Say("%s: %s", t.Verdict(ui.MarkOf(string(doc.Verdict))), doc.Message)
	if doc.Port != doc.WantedPort && doc.WantedPort != 0 && doc.Bound {
		a.Streams.Say("port %d was taken; port %d is used instead", doc.WantedPort, doc.Port)
	}
	for _, line := range doc.Guidance {
		a.Streams.Say("%s", line)
	}
	if doc.Tunnel != "" {
		a.Streams.Say("Run this on the machine with your browser; if you reach this one by another name, use that:\n  %s", doc.Tunnel)
	}
	if doc.URL != "" {
		a.Streams.Print("%s", dashboard.AuthenticatedURL(doc.URL, token.Reveal()))
	}
	for i, e := range doc.Entries {
		if i > 0 { // the first is the one that was printed
			a.Streams.Say("  %s: %s", e.Label, e.URL)
		}
	}
	if !token.Empty() && len(doc.Entries) > 1 {
		a.Streams.Say("  with the same part after the #")
	}
	for _, c := range doc.Caveats {
		a.Streams.Say("%s %s: %s", t.Glyph(ui.MarkDegraded), c.Advisory, c.Message)
	}
	if doc.Verdict != health.SummaryOK {
		for _, e := range doc.Evidence {
			a.Streams.Say("  %s %s: %s", t.Glyph(ui.MarkOf(e.Verdict.String())), e.Probe, e.Answer)
		}
	}
	a.Streams.Next(doc.Hints...)
}
