package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"creel/internal/advisory"
	"creel/internal/cli/ui"
	"creel/internal/credential"
	"creel/internal/gateway"
	"creel/internal/health"
	"creel/internal/printable"
	"creel/internal/state"
)

func (a *app) gatewayCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "gateway",
		Short: "Run and judge the gateway",
		Long: `The gateway is the control plane that owns sandboxes. Starting, stopping, restarting
or upgrading Creel's own never disturbs a sandbox; an openshell-gateway stops the
containers of its sandboxes when it ends and starts them again, and those of runtime
k3s are in the gateway's container.`,
		Example: "  creel gateway status\n  creel gateway restart",
		GroupID: "gateway",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.gatewayServe(), a.gatewayStart(), a.gatewayStop(), a.gatewayRestart(), a.gatewayUpgrade(),
		a.gatewayStatus(), a.gatewayLogs(), a.gatewayForward(),
		a.installServiceCommand(), a.uninstallServiceCommand(), a.secretsCommand())
	return cmd
}

func (a *app) gatewayServe() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Be the gateway, in the foreground",
		Long: `Be the gateway's daemon, in the foreground, until interrupted. This is what
"creel gateway start" runs in the background and what a service manager runs.`,
		Example: "  creel gateway serve",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			g, err := a.paths()
			if err == nil {
				err = setUp(g)
			}
			if err != nil {
				return err
			}
			err = a.Serve(cmd.Context(), g.Name)
			if told := (*gateway.Told)(nil); errors.As(err, &told) {
				return exitCode(codeOf(cmd.Context(), err))
			}
			return err
		},
	}
}

// lifecycle makes a command that changes whether the gateway runs.
func (a *app) lifecycle(use, short, long string, steps ...func(context.Context, gateway.Runtime, *ui.Progress) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: long, Example: "  creel gateway " + use, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			l, g, err := a.lock(cmd)
			if err != nil {
				return err
			}
			defer unlock(l, &err)
			r, err := a.Runtime(g.Name)
			if err != nil {
				return err
			}
			p := ui.NewProgress(a.Streams)
			defer p.Close()
			for _, step := range steps {
				if err := step(cmd.Context(), r, p); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func (a *app) gatewayStart() *cobra.Command {
	return a.lifecycle("start", "Start the gateway", `Start the gateway in the background and return when it is proven healthy. Starting
a running gateway changes nothing. Of a gateway in a cluster the bootstrap secrets
are repaired, its rollout is waited for, and a port-forward to it is kept.`, a.startGateway)
}

func (a *app) gatewayStop() *cobra.Command {
	return a.lifecycle("stop", "Stop the gateway", `Stop the gateway and return when it has ended. Sandboxes go on; their dashboards do
not open until it runs again. Only with runtime k3s they are in the gateway's
container, and stop with it until the gateway starts. Stopping a stopped gateway
changes nothing. Of a gateway in a cluster only the port-forward is ended: the rest is
said, and refused.`, a.stopGateway)
}

func (a *app) gatewayRestart() *cobra.Command {
	return a.lifecycle("restart", "Stop and start the gateway",
		`Stop and start the gateway. One that works and would be started otherwise now is
upgraded (creel gateway upgrade): if the new one does not come up the old one is back.
Sandboxes of Creel's own gateway go on meanwhile. A gateway in a cluster is rolled: its
StatefulSet replaces the pods, one after the other.`, a.restartGateway)
}

func (a *app) restartGateway(ctx context.Context, r gateway.Runtime, p *ui.Progress) error {
	p.Wait("restarting the gateway")
	if err := gateway.Restart(ctx, r, p.Report()); err != nil {
		return fmt.Errorf("restart the gateway: %w", err)
	}
	a.runs(ctx, r, p)
	return nil
}

// runs says that the gateway was started, and leads OpenShell clients to where it is
// now, if Creel told them where it was. That fails no start.
func (a *app) runs(ctx context.Context, r gateway.Runtime, p *ui.Progress) {
	p.End(ui.MarkOK, "gateway runs at "+address(r.Endpoint()))
	if err := a.attach(ctx); err != nil {
		a.Streams.Problem(explain(err))
	}
}

func (a *app) startGateway(ctx context.Context, r gateway.Runtime, p *ui.Progress) error {
	p.Wait("starting the gateway")
	if err := r.Start(ctx, p.Report()); err != nil {
		return fmt.Errorf("start the gateway: %w", err)
	}
	a.runs(ctx, r, p)
	return nil
}

func (a *app) stopGateway(ctx context.Context, r gateway.Runtime, p *ui.Progress) error {
	p.Wait("stopping the gateway")
	if err := r.Stop(ctx, p.Report()); err != nil {
		return fmt.Errorf("stop the gateway: %w", err)
	}
	if _, housed := r.(gateway.Housing); housed {
		p.End(ui.MarkOK, "gateway is stopped, and the sandboxes in it with it")
		return nil
	}
	said := "gateway is stopped" // now, or it was
	if _, noticed := r.(gateway.Disturber); !noticed {
		said += "; sandboxes go on"
	}
	p.End(ui.MarkOK, said)
	return nil
}

func address(e gateway.Endpoint) string {
	if e.Port == 0 {
		return "no recorded endpoint"
	}
	return e.URL()
}

// GatewayDocument is what `creel gateway status --json` prints.
type GatewayDocument struct {
	Verdict    health.Summary    `json:"verdict"`
	Gateway    string            `json:"gateway"`
	Runtime    string            `json:"runtime"`
	Reason     string            `json:"reason"`
	Message    string            `json:"message"`
	Endpoint   string            `json:"endpoint"`
	PID        int               `json:"pid"`
	InstanceID string            `json:"instance_id"`
	StartedAt  *time.Time        `json:"started_at"`
	Version    string            `json:"version"`
	BuildID    string            `json:"build_id"`
	Drift      []string          `json:"drift"`
	Caveats    []health.Caveat   `json:"caveats"`
	Evidence   []health.Evidence `json:"evidence"`
	// Broken is the probe that decided when not ok; empty when all of the chain held.
	Broken string `json:"broken"`
	// Elapsed is how long asking took, in microseconds.
	Elapsed health.Micros `json:"elapsed_us"`
	Hints   []string      `json:"hints"`
	// Service is nil when no service manager was asked to keep the gateway.
	Service *ServiceDocument `json:"service"`
}

func (a *app) gatewayStatus() *cobra.Command {
	var asJSON, all bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say how the gateway is, with the evidence",
		Long: `Ask the whole chain of evidence just now: process or container, TCP, TLS with and without
our certificate, Health, identity. The first link that does not hold decides, and those
after it are not asked. Nothing is changed. The exit code is that of the verdict.

With --all every gateway is asked at the same time; the verdict is the worst.`,
		Example: "  creel gateway status\n  creel gateway status --json\n  creel gateway status --all",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if all {
				return a.gatewayStatusAll(cmd.Context(), asJSON)
			}
			g, err := a.paths()
			if err != nil {
				return err
			}
			r, err := a.Runtime(g.Name)
			if err != nil {
				return err
			}
			doc := a.observe(cmd.Context(), g, r)
			if asJSON {
				err = a.Streams.JSON(doc)
			} else {
				a.renderGateway(doc)
			}
			return errors.Join(err, asError(ofSummary(doc.Verdict)))
		},
	}
	jsonFlag(cmd, &asJSON)
	allFlag(cmd, &all)
	return cmd
}

// allFlag adds --all, which means every gateway.
func allFlag(cmd *cobra.Command, to *bool) {
	cmd.Flags().BoolVar(to, "all", false, "every gateway that has a desired state or state on disk")
	exclusive(cmd, "all", "gateway")
}

// observe asks one gateway, and the service that may keep it.
func (a *app) observe(ctx context.Context, g state.Gateway, r gateway.Runtime) GatewayDocument {
	began := time.Now()
	service := a.lookAtService(ctx, g.Name)
	o := r.Observe(ctx)
	if p, ok := advisory.Of(setUp(g)); ok {
		o.Reason, o.Message, o.Hints = p.ID, p.Error(), p.Commands()
	}
	doc := gatewayDocument(g.Name, r.Name(), o)
	doc.addService(service(o), o)
	doc.Elapsed = health.Micros(time.Since(began))
	return a.gatewayAbout(doc)
}

// gatewayDocument: a gateway that works but would be started differently now, or of
// which something should be known, is degraded.
func gatewayDocument(name, runtimeName string, o gateway.Observation) GatewayDocument {
	doc := GatewayDocument{Verdict: health.SummaryUnknown, Gateway: name, Runtime: runtimeName, Reason: o.Reason,
		Message: credential.Redact(o.Message), PID: o.Identity.PID, InstanceID: o.Identity.InstanceID, Version: o.Identity.Version,
		BuildID: o.Identity.BuildID, Drift: orEmpty(o.Drift), Caveats: caveatsOf(o.Caveats), Evidence: evidenceOf(o.Evidence), Hints: hintsOf(o.Reason, o.Hints)}
	if e, broke := health.Broken(o.Evidence, o.Message); broke && o.Verdict != health.OK {
		doc.Broken = e.Probe
	}
	if o.Endpoint.Port != 0 {
		doc.Endpoint = address(o.Endpoint)
	}
	if !o.Identity.StartedAt.IsZero() {
		doc.StartedAt = &o.Identity.StartedAt
	}
	switch {
	case o.Verdict == health.Failed:
		doc.Verdict = health.SummaryFailed
	case o.Verdict == health.OK && len(o.Drift)+len(o.Caveats) > 0:
		doc.Verdict = health.SummaryDegraded
	case o.Verdict == health.OK:
		doc.Verdict = health.SummaryOK
	}
	return doc
}

func (a *app) renderGateway(doc GatewayDocument) {
	t := a.Streams.OutTerminal
	a.Streams.Print("%s: %s", t.Verdict(ui.MarkOf(string(doc.Verdict))), credential.Redact(doc.Message))
	table := ui.Table{Indent: "  "}
	row := func(name, value string) {
		if value != "" {
			table.Row(name, value)
		}
	}
	row("gateway", doc.Gateway+" ("+doc.Runtime+")")
	row("endpoint", doc.Endpoint)
	if doc.PID != 0 {
		row("process", fmt.Sprintf("%d", doc.PID))
	}
	row("version", doc.Version)
	row("reason", doc.Reason+reasonText(doc.Reason))
	if doc.Broken != "" && slices.ContainsFunc(doc.Evidence, func(e health.Evidence) bool { return !e.Asked() }) {
		row("broke at", doc.Broken+"; what comes after it was not asked")
	}
	row("drift", strings.Join(doc.Drift, "; "))
	for _, c := range doc.Caveats {
		row("caveat", credential.Redact(c.Message))
	}
	if s := doc.Service; s != nil {
		row("service", strings.TrimSpace(s.Unit+" "+s.Verdict.String()))
	}
	row("asked in", tookText(time.Duration(doc.Elapsed)))
	a.writeTable(&table)
	a.renderEvidence(doc.Evidence)
	if s := doc.Service; s != nil && s.Verdict != health.OK {
		a.Streams.Print("  service %s", a.Streams.OutTerminal.Bold(s.Unit))
		a.renderEvidence(s.Evidence)
	}
	if doc.Verdict != health.SummaryOK {
		a.Streams.Next(doc.Hints...)
	}
}

// renderEvidence prints each probe with its answer and how long that took.
func (a *app) renderEvidence(evidence []health.Evidence) {
	t := a.Streams.OutTerminal
	table := ui.Table{Indent: "  "}
	for _, e := range evidence {
		if !e.Asked() {
			table.Row(t.Faint("-"), "", t.Faint(e.Probe), t.Faint(e.Answer))
			continue
		}
		table.Row(t.Glyph(ui.MarkOf(e.Verdict.String())), t.Faint(fmt.Sprintf("%7s", tookText(time.Duration(e.Took)))), e.Probe, credential.Redact(e.Answer))
	}
	a.writeTable(&table)
}

// tookText is a duration to two or three digits; "" for none.
func tookText(d time.Duration) string {
	switch {
	case d <= 0:
		return ""
	case d < time.Microsecond:
		return "<1µs"
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(time.Millisecond).String()
}

func (a *app) writeTable(t *ui.Table) {
	t.Width = a.Streams.OutTerminal.Width
	// A closed standard output shows in the exit code of JSON documents and pipes
	// deliver SIGPIPE; there is nobody to tell here.
	_, _ = t.WriteTo(a.Streams.Out)
}

func (a *app) gatewayLogs() *cobra.Command {
	var lines int
	var follow bool
	cmd := &cobra.Command{
		Use:     "logs",
		Short:   "Show the gateway's log",
		Long:    "Show the last lines of the gateway daemon's log, oldest first. It works with the gateway dead.",
		Example: "  creel gateway logs --lines 50\n  creel gateway logs --follow",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkLines(lines); err != nil {
				return err
			}
			g, err := a.paths()
			if err != nil {
				return err
			}
			r, err := a.runtime(g)
			if err != nil {
				return err
			}
			// What a gateway repeats of what it was told can hold anything.
			w := printable.NewWriter(func(l string) { a.Streams.Print("%s", credential.Redact(l)) })
			err = r.Logs(cmd.Context(), w, lines, follow)
			w.Flush()
			if follow && cmd.Context().Err() != nil {
				return exitCode(ExitInterrupted)
			}
			if err != nil {
				return fmt.Errorf("read the gateway's log: %w", err)
			}
			return nil
		},
	}
	logFlags(cmd, &lines, &follow)
	return cmd
}

// hintsOf are the next commands for a reason: the given ones, else those of the
// advisory with that id.
func hintsOf(reason string, given []string) []string {
	if len(given) > 0 {
		return given
	}
	found, _ := advisory.Lookup(reason)
	return orEmpty(slices.Clone(found.Commands))
}

// orEmpty keeps JSON lists from being null.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
