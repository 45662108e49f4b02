package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
		Short: "Inspect and repair a gateway's bootstrap secrets",
		Long: `Bootstrap secrets are what a gateway cannot start without: its certificate
authority, its server and client certificates, and the key for sandbox tokens or
the SSH handshake. Key material is never shown.

They are looked for where the gateway of this machine keeps them, or, with
--kubeconfig, --context, --namespace or --in-cluster, in a Kubernetes cluster, or,
with --container, in the cluster inside that container.`,
		Example: "  creel gateway secrets inspect\n  creel gateway secrets repair --plan\n" +
			"  creel gateway secrets inspect --context NAME\n  creel gateway secrets repair --container openshell-cluster-NAME",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.secretsInspect(), a.secretsRepair(), a.secretsRotate(), a.secretsScript())
	return cmd
}

// SecretsDocument is what `creel gateway secrets inspect --json` prints.
type SecretsDocument struct {
	Verdict health.Summary `json:"verdict"`
	Gateway string         `json:"gateway"`
	// Place says where was looked, e.g. "this machine".
	Place         string              `json:"place"`
	Generation    int                 `json:"generation"`
	Message       string              `json:"message"`
	NotApplicable string              `json:"not_applicable"`
	Members       []SecretDocument    `json:"members"`
	Caveats       []health.Caveat     `json:"caveats"`
	Plan          []SecretsStepDetail `json:"plan"`
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

// survey is what was found of a set.
type survey struct {
	target   bundle.Target
	want     bundle.Requirements
	snapshot bundle.Snapshot
	report   bundle.Report
	// notApplicable says why there is nothing to judge yet.
	notApplicable string
}

// surveySecrets reads and judges the set at a place. An error of looking is
// unknown: the exit code says so, and nothing is done about it.
func (a *app) surveySecrets(ctx context.Context, p Place) (survey, error) {
	target, err := a.secretsTarget(ctx, p)
	switch {
	case err != nil && (p.Kind == PlaceRuntime || isUsage(err)):
		return survey{}, err
	case err != nil: // where the cluster is cannot be read either
		return survey{}, &unknownError{p.explain(fmt.Errorf("read bootstrap secrets: %w", err))}
	}
	want, snapshot, err := bundle.Survey(ctx, target)
	switch {
	case errors.Is(err, bundle.ErrNotApplicable):
		return survey{target: target, notApplicable: err.Error()}, nil
	case err != nil && ctx.Err() != nil:
		return survey{}, err
	case err != nil:
		return survey{}, &unknownError{p.explain(fmt.Errorf("read bootstrap secrets: %w", err))}
	}
	return survey{target: target, want: want, snapshot: snapshot, report: bundle.Inspect(snapshot, want, time.Now())}, nil
}

func secretsDocument(p Place, s survey) SecretsDocument {
	r := s.report
	doc := SecretsDocument{Verdict: health.SummaryUnknown, Gateway: p.Gateway, Place: p.String(), Generation: int(r.Generation), Message: r.String(),
		NotApplicable: s.notApplicable, Members: []SecretDocument{}, Caveats: orEmpty(r.Caveats), Plan: steps(bundle.MakePlan(r))}
	if s.notApplicable != "" {
		doc.Message = s.notApplicable
	}
	if len(r.Findings) > 0 {
		doc.Verdict = health.Summarize([]health.Result{{Verdict: r.Verdict(), Caveats: r.Caveats}})
	}
	for _, f := range r.Findings {
		m := SecretDocument{Member: f.Member, Name: f.Name, Class: string(f.Class), Detail: f.Detail, Subject: f.Subject,
			Names: orEmpty(f.Names), Fingerprint: f.Fingerprint, Automatic: f.Automatic}
		if !f.NotBefore.IsZero() {
			m.NotBefore, m.NotAfter = &f.NotBefore, &f.NotAfter
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
	var flags placeFlags
	cmd := &cobra.Command{
		Use:   "inspect",
		Short: "Say how each bootstrap secret is",
		Long: `Say how each bootstrap secret is: what it is, whom it names, until when it is valid,
what is wrong with it and what a repair would do. Nothing is changed. The exit code
is that of the verdict; what cannot be read, or is in a cluster that has no gateway
yet, is unknown (4).`,
		Example: "  creel gateway secrets inspect\n  creel gateway secrets inspect --json\n  creel gateway secrets inspect --context NAME --namespace openshell",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			place, err := flags.place(a)
			if err != nil {
				return err
			}
			found, err := a.surveySecrets(cmd.Context(), place)
			var unknown *unknownError
			if err != nil && !errors.As(err, &unknown) {
				return err
			}
			if err != nil { // not readable is not broken: nothing is known
				a.Streams.Problem(explain(err))
			}
			doc := secretsDocument(place, found)
			if asJSON {
				err = a.Streams.JSON(doc)
			} else {
				err = nil
				a.renderSecrets(place, doc)
			}
			return errors.Join(err, asError(ofSummary(doc.Verdict)))
		},
	}
	flags.add(cmd)
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (a *app) renderSecrets(p Place, doc SecretsDocument) {
	t := a.Streams.OutTerminal
	a.Streams.Print("%s: %s", t.Verdict(ui.MarkOf(string(doc.Verdict))), doc.Message)
	if len(doc.Members) == 0 {
		return
	}
	table := ui.Table{Indent: "  ", Header: []string{" ", "SECRET", "IS", "UNTIL", "SUBJECT", "NAMES"}}
	for _, m := range doc.Members {
		until := ""
		if m.NotAfter != nil {
			until = m.NotAfter.Format(time.DateOnly)
		}
		table.Row(t.Glyph(markOfClass(m.Class)), m.Name, m.Class, until, m.Subject, few(m.Names))
	}
	a.writeTable(&table)
	for _, m := range doc.Members {
		i := slices.IndexFunc(doc.Plan, func(s SecretsStepDetail) bool { return s.Member == m.Member })
		if m.Detail == "" && i < 0 {
			continue
		}
		a.Streams.Print("  %s %s", m.Name, strings.TrimSuffix("is "+m.Class+": "+m.Detail, ": "))
		if i < 0 {
			continue
		}
		step := doc.Plan[i]
		consent := ""
		if step.NeedsConsent {
			consent = " (only with --replace)"
		}
		a.Streams.Print("      a repair would %s%s", step.Title, consent)
		for _, d := range step.Disturbs {
			a.Streams.Print("      disturbs %s", d)
		}
	}
	for _, c := range doc.Caveats {
		a.Streams.Print("  %s %s", t.Glyph(ui.MarkDegraded), c.Message)
	}
	if doc.Verdict == health.SummaryFailed {
		repair := "creel gateway secrets repair"
		if slices.ContainsFunc(doc.Plan, func(s SecretsStepDetail) bool { return s.NeedsConsent }) {
			repair += " --replace" // without it a repair would refuse
		}
		a.Streams.Next(p.command(repair))
	}
}

func markOfClass(class string) ui.Mark {
	switch bundle.Class(class) {
	case bundle.OK:
		return ui.MarkOK
	case bundle.Expiring:
		return ui.MarkDegraded
	}
	return ui.MarkFailed
}

// few is a list that fits a table: the first two, and how many more.
func few(names []string) string {
	if len(names) <= 3 {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s, +%d", strings.Join(names[:2], ", "), len(names)-2)
}
