package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"creel/internal/bundle"
	"creel/internal/cli/ui"
	"creel/internal/desired"
	"creel/internal/health"
	"creel/internal/layer"
)

type repairOptions struct {
	placeFlags
	plan, replace, yes, json bool
	// attach replaces the client files of a registration even when it cannot be
	// shown that it is of this gateway.
	attach bool
	// rotate renews what is expiring, or with all every leaf.
	rotate, all bool
}

// SecretsRepairDocument is what `creel gateway secrets repair --json` prints.
type SecretsRepairDocument struct {
	Verdict       health.Summary      `json:"verdict"`
	Gateway       string              `json:"gateway"`
	Place         string              `json:"place"`
	NotApplicable string              `json:"not_applicable"`
	Planned       bool                `json:"planned"`
	Repaired      bool                `json:"repaired"`
	Written       []string            `json:"written"`
	Rolled        bool                `json:"rolled"`
	Plan          []SecretsStepDetail `json:"plan"`
	Remaining     []string            `json:"remaining"`
	Hints         []string            `json:"hints"`
}

func (a *app) secretsRepair() *cobra.Command {
	var o repairOptions
	cmd := &cobra.Command{
		Use:   "repair",
		Short: "Make what is missing or broken again",
		Long: `Issue again what is missing or broken, and only that. What may be in use is only
replaced with --replace; the old values are kept in a backup, and a gateway in a
cluster is rolled so that it takes the new ones. What could not be read is unknown
and is never repaired (exit code 4). In a cluster where there is no gateway yet
nothing is done; on this machine a gateway gets its secrets before its first start.`,
		Example: "  creel gateway secrets repair --plan\n  creel gateway secrets repair --replace --yes\n" +
			"  creel gateway secrets repair --context NAME --namespace openshell",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.repairSecrets(cmd, o) },
	}
	f := cmd.Flags()
	f.BoolVar(&o.plan, "plan", false, "only say what would be done")
	f.BoolVar(&o.replace, "replace", false, "also replace what may be in use")
	f.BoolVar(&o.attach, "attach", false, "give OpenShell clients of this machine the cluster's client certificate, whatever they have now")
	yesFlag(cmd, &o.yes)
	jsonFlag(cmd, &o.json)
	o.placeFlags.add(cmd)
	return cmd
}

func (o repairOptions) renewal() bundle.Renewal {
	switch {
	case o.all:
		return bundle.RenewAll
	case o.rotate:
		return bundle.RenewExpiring
	case o.replace:
		return bundle.RenewReplacing
	}
	return bundle.RenewNothing
}

func (a *app) repairSecrets(cmd *cobra.Command, o repairOptions) (err error) {
	ctx := cmd.Context()
	place, err := o.place(a)
	if err != nil {
		return err
	}
	if o.attach && place.Kind == PlaceRuntime {
		return usage("flag-conflict", "--attach is about a gateway in a cluster: name it with --kubeconfig, --context, --namespace or --container")
	}
	// A cluster has its own way to keep two writers apart; what is on this machine has
	// none.
	if !o.plan && (place.Kind == PlaceRuntime || place.Recorded) {
		l, _, problem := a.lockAny(cmd)
		if problem != nil {
			return problem
		}
		defer unlock(l, &err)
	}
	found, err := a.surveySecrets(ctx, place)
	if err != nil {
		return err
	}
	if o.rotate && place.Kind != PlaceRuntime && found.notApplicable == "" {
		return a.rotateCluster(ctx, o, place, found)
	}
	plan := bundle.MakeRenewal(found.report, o.renewal())
	doc := SecretsRepairDocument{Gateway: place.Gateway, Place: place.String(), NotApplicable: found.notApplicable, Planned: o.plan,
		Written: []string{}, Plan: steps(plan), Remaining: []string{}, Hints: []string{}}
	owed := found.snapshot.Unrolled
	if o.plan || !plan.NeedsRepair && len(owed) == 0 {
		var problem error
		if len(owed) > 0 {
			a.Streams.Say("a repair would also start the gateway again, for %s", strings.Join(owed, ", "))
		}
		// A repair that was interrupted may not have come this far.
		if !o.plan && place.Kind != PlaceRuntime && found.notApplicable == "" {
			doc.Hints, problem = a.attachCluster(ctx, o, place, found, found)
		}
		return errors.Join(problem, a.finishRepair(o, place, doc, found.report))
	}
	a.saySteps(doc.Plan)
	if o.replace && len(plan.Consent()) > 0 {
		if err := a.confirm(ctx, "Replace what may be in use?", o.yes); err != nil {
			return err
		}
	}
	out, err := bundle.Repair(ctx, found.target, time.Now(), bundle.RepairOptions{Replace: o.replace, Renew: o.renewal(),
		Progress: func(m string) { a.Streams.Say("%s", m) }})
	doc.Repaired, doc.Written, doc.Rolled, doc.NotApplicable = out.Repaired, orEmpty(out.Written), out.Rolled, out.NotApplicable
	after := out.After
	if isUnknown(after) {
		after = out.Before // nothing was written: it is as it was
	}
	if len(out.Written) > 0 || out.Rolled {
		hints, problem := a.afterRepair(ctx, o, place, found, out)
		doc.Hints, err = append(doc.Hints, hints...), errors.Join(err, problem)
	}
	if err != nil {
		a.Streams.Problem(explain(place.explain(err)))
	}
	finish := a.finishRepair(o, place, doc, after)
	if err != nil && finish == nil {
		return exitCode(ExitFailed)
	}
	return finish
}

// afterRepair tells those who have copies of what was written, and says what is
// left to the user.
func (a *app) afterRepair(ctx context.Context, o repairOptions, p Place, before survey, out bundle.Outcome) (hints []string, err error) {
	if p.Kind == PlaceRuntime {
		switch {
		case out.OnlyRenewed():
			hints = []string{p.command("creel status")}
		case out.Before.Absent(): // no gateway has ever run with it
			hints = []string{p.command("creel onboard")}
		default:
			hints = []string{p.command("creel gateway restart"), p.command("creel onboard")}
		}
		return hints, a.attach(ctx)
	}
	if out.Rolled {
		a.Streams.Say("the gateway starts again with its new secrets")
	}
	want, now, err := bundle.Survey(ctx, before.target)
	if err != nil {
		return nil, fmt.Errorf("attach the registration again: %w", err)
	}
	hints, err = a.attachCluster(ctx, o, p, before, survey{want: want, snapshot: now})
	return append(hints, p.command("creel gateway secrets inspect")), err
}

// attachCluster attaches the registration of a cluster's gateway again: its client
// certificate may be another one now than before.
func (a *app) attachCluster(ctx context.Context, o repairOptions, p Place, before, now survey) (hints []string, err error) {
	files, err := bundle.OpenClient(now.snapshot, now.want)
	if err != nil {
		return nil, nil // it is not good yet, which is said elsewhere
	}
	belongs := func(certificate []byte) bool { return bundle.Belongs(before.snapshot, before.want, certificate) }
	what, err := a.AttachRegistration(p.Gateway, files, belongs, o.attach && !p.Recorded)
	switch {
	case err == nil && what == "of-this-machine" && p.Recorded:
		return nil, a.attach(ctx) // for this very gateway
	case err == nil && what == "not-proven" && p.Recorded && o.attach:
		what, err = a.AttachRegistration(p.Gateway, files, belongs, true)
	}
	switch {
	case err != nil && !o.attach:
		a.Streams.Problem(explain(err)) // the secrets are good all the same
	case err != nil:
		return nil, err
	case what == "attached":
		a.Streams.Say("OpenShell clients of this machine have the new client certificate of gateway %s", p.Gateway)
	case what == "not-proven":
		a.Streams.Say("OpenShell clients of this machine know a gateway %s with a certificate that cannot be shown to be of this cluster; it was left alone", p.Gateway)
		hints = append(hints, p.command("creel gateway secrets repair --attach"))
	case what == "not-registered" && o.attach:
		a.Streams.Say("OpenShell clients of this machine do not know a gateway %s", p.Gateway)
	}
	return hints, nil
}

// attach brings the registration for OpenShell clients up to date, if there is
// one of ours. It is the registration's own layer that does it.
func (a *app) attach(ctx context.Context) (err error) {
	g, err := a.paths()
	if err != nil {
		return err
	}
	doc, _, err := recorded(g)
	if err != nil {
		doc = desired.New(g.Name) // the secrets are good all the same
	}
	stack, err := a.Layers(ctx, doc, Scope{Only: []layer.ID{layer.Registration}})
	if err != nil {
		return err
	}
	if stack.Close != nil {
		defer func() { err = errors.Join(err, stack.Close()) }()
	}
	for _, l := range stack.Layers {
		found := l.Inspect(ctx)
		if found.Verdict != health.Failed || found.Absent {
			continue // nobody registered it, or it is as it should be
		}
		for _, do := range l.Plan(ctx, found) {
			if err := l.Mend(ctx, do, func(m string) { a.Streams.Say("%s", m) }); err != nil {
				return fmt.Errorf("register the gateway for OpenShell clients again: %w", err)
			}
			a.Streams.Say("OpenShell clients find the gateway again: its registration was written anew")
		}
	}
	return nil
}

func isUnknown(r bundle.Report) bool { return len(r.Findings) == 0 }

func (a *app) saySteps(steps []SecretsStepDetail) {
	for _, s := range steps {
		a.Streams.Say("  %s %s", a.Streams.ErrTerminal.Glyph(ui.MarkInfo), s.Title)
		for _, d := range s.Disturbs {
			a.Streams.Say("      disturbs %s", d)
		}
	}
}

// finishRepair prints how the set is after a repair, or what a repair would do.
func (a *app) finishRepair(o repairOptions, p Place, doc SecretsRepairDocument, after bundle.Report) error {
	doc.Verdict = health.SummaryUnknown
	if !isUnknown(after) {
		doc.Verdict = health.Summarize([]health.Result{{Verdict: after.Verdict(), Caveats: after.Caveats}})
	}
	for _, f := range after.Bad() {
		doc.Remaining = append(doc.Remaining, f.String())
	}
	code := asError(ofSummary(doc.Verdict))
	if doc.NotApplicable != "" {
		code = nil // there is nothing to repair
	}
	if o.json {
		doc.Hints = a.about(p.Gateway, doc.Hints)
		return errors.Join(a.Streams.JSON(doc), code)
	}
	switch {
	case doc.NotApplicable != "":
		a.Streams.Print("%s; nothing was touched", doc.NotApplicable)
	case len(doc.Plan) == 0 && !doc.Repaired && !doc.Rolled && len(doc.Hints) == 0:
		a.Streams.Print("%s; nothing to do", after)
	case len(doc.Plan) == 0:
		a.Streams.Print("%s", after)
		a.Streams.Next(doc.Hints...)
	case o.plan:
		table := ui.Table{Indent: "  "}
		for _, s := range doc.Plan {
			consent := ""
			if s.NeedsConsent {
				consent = "needs --replace"
			}
			table.Row(s.Title, consent, strings.Join(s.Disturbs, "; "))
		}
		a.Streams.Print("would do:")
		a.writeTable(&table)
	default:
		a.Streams.Print("%s", after)
		a.Streams.Next(doc.Hints...)
	}
	return code
}
