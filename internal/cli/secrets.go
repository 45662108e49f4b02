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
	"creel/internal/health"
)

func (a *app) secretsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "secrets",
		Short: "Inspect and repair the gateway's bootstrap secrets",
		Long: `Bootstrap secrets are what a gateway cannot start without: its certificate
authority, its server and client certificates, and the key for sandbox tokens.
Key material is never shown.`,
		Example: "  creel gateway secrets inspect\n  creel gateway secrets repair --plan",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.secretsInspect(), a.secretsRepair(), a.secretsScript())
	return cmd
}

// SecretsDocument is what `creel gateway secrets inspect --json` prints.
type SecretsDocument struct {
	Verdict    health.Summary      `json:"verdict"`
	Gateway    string              `json:"gateway"`
	Generation int                 `json:"generation"`
	Message    string              `json:"message"`
	Members    []SecretDocument    `json:"members"`
	Caveats    []health.Caveat     `json:"caveats"`
	Plan       []SecretsStepDetail `json:"plan"`
}

// SecretDocument is one member in SecretsDocument. It holds no key material.
type SecretDocument struct {
	Member      string     `json:"member"`
	Name        string     `json:"name"`
	Class       string     `json:"class"`
	Detail      string     `json:"detail"`
	Subject     string     `json:"subject"`
	Names       []string   `json:"names"`
	NotBefore   *time.Time `json:"not_before"`
	NotAfter    *time.Time `json:"not_after"`
	Fingerprint string     `json:"fingerprint"`
	Automatic   bool       `json:"automatic"`
}

// SecretsStepDetail is one step of a repair's plan.
type SecretsStepDetail struct {
	Member       string   `json:"member"`
	Title        string   `json:"title"`
	NeedsConsent bool     `json:"needs_consent"`
	Disturbs     []string `json:"disturbs"`
}

// secrets reads and judges the set of the gateway that is meant.
func (a *app) secrets(ctx context.Context, gatewayName string) (bundle.Target, bundle.Report, error) {
	r, err := a.Runtime(gatewayName)
	if err != nil {
		return nil, bundle.Report{}, err
	}
	target := r.Secrets()
	want, snapshot, err := bundle.Survey(ctx, target)
	if err != nil {
		return target, bundle.Report{}, fmt.Errorf("read bootstrap secrets: %w", err)
	}
	return target, bundle.Inspect(snapshot, want, time.Now()), nil
}

func secretsDocument(gatewayName string, r bundle.Report) SecretsDocument {
	doc := SecretsDocument{Gateway: gatewayName, Generation: int(r.Generation), Message: r.String(),
		Members: []SecretDocument{}, Caveats: orEmpty(r.Caveats), Plan: steps(bundle.MakePlan(r))}
	doc.Verdict = health.Summarize([]health.Result{{Verdict: r.Verdict(), Caveats: r.Caveats}})
	for _, f := range r.Findings {
		m := SecretDocument{Member: f.Member, Name: f.Name, Class: string(f.Class), Detail: f.Detail, Subject: f.Subject,
			Names: orEmpty(f.Names), Fingerprint: f.Fingerprint, Automatic: f.Automatic}
		if !f.NotBefore.IsZero() {
			m.NotBefore = &f.NotBefore
		}
		if !f.NotAfter.IsZero() {
			m.NotAfter = &f.NotAfter
		}
		doc.Members = append(doc.Members, m)
	}
	return doc
}

func steps(p bundle.Plan) []SecretsStepDetail {
	list := []SecretsStepDetail{}
	for _, s := range p.Steps {
		list = append(list, SecretsStepDetail{Member: s.Member, Title: s.Title, NeedsConsent: s.Consent,
			Disturbs: orEmpty(s.Disturbs)})
	}
	return list
}

func (a *app) secretsInspect() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "inspect",
		Short:   "Say how each bootstrap secret is",
		Long:    "Say how each bootstrap secret is. Nothing is changed. The exit code is that of the verdict.",
		Example: "  creel gateway secrets inspect\n  creel gateway secrets inspect --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			name, err := a.gatewayName()
			if err != nil {
				return err
			}
			_, report, err := a.secrets(cmd.Context(), name)
			if err != nil {
				// Not readable is not broken: nothing is known.
				a.Streams.Problem(explain(err))
				report = bundle.Report{}
			}
			doc := secretsDocument(name, report)
			if asJSON {
				err = a.Streams.JSON(doc)
			} else {
				err = nil
				a.renderSecrets(doc)
			}
			return errors.Join(err, asError(ofSummary(doc.Verdict)))
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (a *app) renderSecrets(doc SecretsDocument) {
	t := a.Streams.OutTerminal
	a.Streams.Print("%s: %s", t.Verdict(ui.MarkOf(string(doc.Verdict))), doc.Message)
	table := ui.Table{Indent: "  "}
	for _, m := range doc.Members {
		mark := ui.MarkFailed
		switch bundle.Class(m.Class) {
		case bundle.OK:
			mark = ui.MarkOK
		case bundle.Expiring:
			mark = ui.MarkDegraded
		}
		until := ""
		if m.NotAfter != nil {
			until = "until " + m.NotAfter.Format(time.DateOnly)
		}
		table.Row(t.Glyph(mark), m.Name, m.Class, until, m.Detail)
	}
	a.writeTable(&table)
	for _, c := range doc.Caveats {
		a.Streams.Print("  %s %s", t.Glyph(ui.MarkDegraded), c.Message)
	}
	if doc.Verdict == health.SummaryFailed {
		a.Streams.Next("creel gateway secrets repair")
	}
}

type repairOptions struct {
	plan, replace, renew, yes, json bool
}

// SecretsRepairDocument is what `creel gateway secrets repair --json` prints.
type SecretsRepairDocument struct {
	Verdict   health.Summary      `json:"verdict"`
	Gateway   string              `json:"gateway"`
	Planned   bool                `json:"planned"`
	Repaired  bool                `json:"repaired"`
	Written   []string            `json:"written"`
	Plan      []SecretsStepDetail `json:"plan"`
	Remaining []string            `json:"remaining"`
	Hints     []string            `json:"hints"`
}

func (a *app) secretsRepair() *cobra.Command {
	var o repairOptions
	cmd := &cobra.Command{
		Use:   "repair",
		Short: "Make what is missing or broken again",
		Long: `Issue again what is missing or broken, and only that. What may be in use is only
replaced with --replace; the old values are kept in a backup.`,
		Example: "  creel gateway secrets repair --plan\n  creel gateway secrets repair --replace --yes",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.repairSecrets(cmd, o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.plan, "plan", false, "only say what would be done")
	f.BoolVar(&o.replace, "replace", false, "also replace what may be in use")
	f.BoolVar(&o.renew, "renew", false, "also renew certificates that are expiring")
	yesFlag(cmd, &o.yes)
	jsonFlag(cmd, &o.json)
	return cmd
}

func (a *app) repairSecrets(cmd *cobra.Command, o repairOptions) (err error) {
	ctx := cmd.Context()
	name, err := a.gatewayName()
	if err != nil {
		return err
	}
	if !o.plan {
		l, _, err := a.lock(cmd)
		if err != nil {
			return err
		}
		defer unlock(l, &err)
	}
	target, report, err := a.secrets(ctx, name)
	if err != nil {
		return err
	}
	plan := bundle.MakePlan(report)
	if o.renew {
		plan = bundle.MakeRenewal(report)
	}
	doc := SecretsRepairDocument{Gateway: name, Planned: o.plan, Written: []string{}, Plan: steps(plan),
		Remaining: []string{}, Hints: []string{}}
	if o.plan || !plan.NeedsRepair {
		return a.finishRepair(o, doc, report)
	}
	a.sayPlan(plan)
	if o.replace && len(plan.Consent()) > 0 {
		if err := a.confirm(ctx, "Replace what may be in use?", o.yes); err != nil {
			return err
		}
	}
	out, err := bundle.Repair(ctx, target, time.Now(), bundle.RepairOptions{Replace: o.replace, Renew: o.renew,
		Progress: func(m string) { a.Streams.Say("%s", m) }})
	doc.Repaired, doc.Written = out.Repaired, orEmpty(out.Written)
	if len(out.Written) > 0 {
		doc.Hints = append(doc.Hints, "creel gateway restart", "creel onboard")
	}
	if finish := a.finishRepair(o, doc, out.After); err == nil || isUnknown(out.After) {
		return errors.Join(err, finish)
	}
	return err
}

func isUnknown(r bundle.Report) bool { return len(r.Findings) == 0 }

func (a *app) sayPlan(p bundle.Plan) {
	for _, s := range p.Steps {
		a.Streams.Say("  %s %s", a.Streams.ErrTerminal.Glyph(ui.MarkInfo), s.Title)
		for _, d := range s.Disturbs {
			a.Streams.Say("      disturbs %s", d)
		}
	}
}

// finishRepair prints how the set is after a repair, or what a repair would do.
func (a *app) finishRepair(o repairOptions, doc SecretsRepairDocument, after bundle.Report) error {
	doc.Verdict = health.Summarize([]health.Result{{Verdict: after.Verdict(), Caveats: after.Caveats}})
	for _, f := range after.Bad() {
		doc.Remaining = append(doc.Remaining, f.String())
	}
	code := asError(ofSummary(doc.Verdict))
	if o.json {
		return errors.Join(a.Streams.JSON(doc), code)
	}
	switch {
	case o.plan && len(doc.Plan) == 0, !o.plan && !doc.Repaired && len(doc.Plan) == 0:
		a.Streams.Print("%s", after.String()+"; nothing to do")
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
		a.Streams.Print("%s", after.String())
		a.Streams.Next(doc.Hints...)
	}
	return code
}
