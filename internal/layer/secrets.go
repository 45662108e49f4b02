package layer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"creel/internal/bundle"
	"creel/internal/gateway"
	"creel/internal/health"
)

type secretsLayer struct{ runtime gateway.Runtime }

// NewSecrets is the layer of the gateway's bootstrap secrets.
func NewSecrets(r gateway.Runtime) Layer { return &secretsLayer{r} }

func (s *secretsLayer) ID() ID          { return Secrets }
func (s *secretsLayer) Subject() string { return "secrets" }
func (s *secretsLayer) Title() string   { return "Bootstrap secrets" }

func (s *secretsLayer) Inspect(ctx context.Context) health.Result {
	began := time.Now()
	want, snapshot, err := bundle.Survey(ctx, s.runtime.Secrets())
	if errors.Is(err, bundle.ErrNotApplicable) {
		// That is known: there is no gateway that could have any.
		r := unknown("secrets-not-applicable", err)
		r.Verdict = health.Failed
		return r
	}
	if err != nil {
		return unknown("secrets-unknown", err)
	}
	report := bundle.Inspect(snapshot, want, began)
	var r health.Result
	switch worst := report.Worst(); report.Verdict() {
	case health.OK:
		r = ok("complete, fitting and valid")
		r.Caveats = report.Caveats
	case health.Failed:
		r = failed("secrets-"+string(worst.Class), "%s", report)
		r.Absent, r.Hints = report.Absent(), report.Commands()
	default:
		r = failed("secrets-unknown", "%s", report)
		r.Verdict = health.Unknown
	}
	for _, f := range report.Findings {
		v := health.Failed
		if f.Class == bundle.OK || f.Class == bundle.Expiring {
			v = health.OK
		}
		r.Evidence = append(r.Evidence, health.Evidence{Probe: "member " + f.Member, Answer: strings.TrimSpace(string(f.Class) + " " + f.Detail), Verdict: v})
	}
	if n := len(r.Evidence); n > 0 {
		r.Evidence[n-1].Took = health.Micros(time.Since(began))
	}
	return r
}

// Plan issues what can be issued without losing anything in use. What needs
// consent is left to "creel gateway secrets repair --replace".
func (s *secretsLayer) Plan(ctx context.Context, found health.Result) []Action {
	if found.Verdict != health.Failed {
		return nil
	}
	want, snapshot, err := bundle.Survey(ctx, s.runtime.Secrets())
	if err != nil {
		return nil
	}
	plan := bundle.MakePlan(bundle.Inspect(snapshot, want, time.Now())).Automatic()
	if len(plan.Steps) == 0 {
		return nil
	}
	var names []string
	for _, step := range plan.Steps {
		names = append(names, step.Member)
	}
	return []Action{{ID: "issue-secrets", Title: "issue bootstrap secrets: " + strings.Join(names, ", ")}}
}

func (s *secretsLayer) Mend(ctx context.Context, do Action, report Progress) error {
	if do.ID != "issue-secrets" {
		return noSuchAction(s, do)
	}
	out, err := bundle.Repair(ctx, s.runtime.Secrets(), time.Now(), bundle.RepairOptions{})
	if err != nil {
		return err
	}
	report(fmt.Sprintf("issued %s", strings.Join(out.Written, ", ")))
	return nil
}
