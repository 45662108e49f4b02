package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"creel/internal/bundle"
)

func (a *app) secretsRotate() *cobra.Command {
	o := repairOptions{rotate: true}
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Renew certificates before they expire",
		Long: `Renew the certificates of which less than a third of the life is left, or with --all
every one, without breaking connected clients.

On this machine the authority stays: certificates that were issued before remain
good, and the gateway takes its new one without being restarted. A cluster keeps no
authority's key, so there it takes two steps with two minutes between: first gateway
and clients are told to trust a new authority beside the old one, then its
certificates take their places. Run the command again for the second step.`,
		Example: "  creel gateway secrets rotate --plan\n  creel gateway secrets rotate --all\n  creel gateway secrets rotate --context NAME",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.repairSecrets(cmd, o) },
	}
	f := cmd.Flags()
	f.BoolVar(&o.plan, "plan", false, "only say what would be done")
	f.BoolVar(&o.all, "all", false, "also renew what is not expiring yet")
	yesFlag(cmd, &o.yes)
	jsonFlag(cmd, &o.json)
	o.placeFlags.add(cmd)
	return cmd
}

// rotateCluster does the next step of a rotation in a cluster.
func (a *app) rotateCluster(ctx context.Context, o repairOptions, p Place, found survey) error {
	doc := SecretsRepairDocument{Gateway: p.Gateway, Place: p.String(), Planned: o.plan, Written: []string{}, Plan: []SecretsStepDetail{},
		Remaining: []string{}, Hints: []string{}}
	want, stepwise := bundle.Rotating(found.want)
	if !stepwise {
		a.Streams.Say("certificates of generation %d sign themselves, so that whoever trusts one must be told of another: "+
			"they are only replaced, with repair --replace", int(found.want.Generation))
		return a.finishRepair(o, p, doc, found.report)
	}
	snapshot, err := found.target.Load(ctx, want)
	if err != nil {
		return &unknownError{fmt.Errorf("read bootstrap secrets: %w", err)}
	}
	next, err := bundle.PlanRotation(snapshot, want, time.Now(), o.all, rand.Reader)
	if err != nil {
		a.Streams.Problem(explain(err))
		return a.finishRepair(o, p, doc, found.report)
	}
	again := p.command("creel gateway secrets rotate")
	owed := len(snapshot.Unrolled) > 0
	switch {
	case owed && next.Stage != bundle.RotationTrust:
		doc.Plan = append(doc.Plan, SecretsStepDetail{Member: bundle.Server, Title: "start the gateway again with what an earlier run wrote",
			Disturbs: []string{"the gateway: it starts again"}})
	case next.Title() != "":
		doc.Plan = append(doc.Plan, SecretsStepDetail{Member: bundle.Server, Title: next.Title(),
			Disturbs: []string{"the gateway: it starts again with what changed"}})
	case next.Stage == bundle.RotationWaiting:
		a.sayWaiting(next.Ready)
		doc.Hints = append(doc.Hints, again)
	}
	if o.plan || len(doc.Plan) == 0 {
		return a.finishRepair(o, p, doc, found.report)
	}
	a.saySteps(doc.Plan)
	if err := a.confirmHarmless(ctx, "Go ahead?", o.yes); err != nil {
		return err
	}
	out, err := bundle.Rotate(ctx, found.target, time.Now(), o.all)
	doc.Written, doc.Rolled, doc.Repaired = orEmpty(out.Written), out.Rolled, err == nil && len(out.Written) > 0
	if len(out.Written) > 0 || out.Rolled {
		now, loadErr := found.target.Load(ctx, want)
		err = errors.Join(err, loadErr)
		if loadErr == nil {
			hints, problem := a.attachCluster(ctx, o, p, found, survey{want: want, snapshot: now})
			doc.Hints, err = append(doc.Hints, hints...), errors.Join(err, problem)
		}
	}
	if err != nil {
		a.Streams.Problem(explain(p.explain(err)))
		return errors.Join(exitCode(ExitFailed), a.finishRepair(o, p, doc, out.After))
	}
	switch out.Rotation.Stage {
	case bundle.RotationTrust:
		a.Streams.Say("run it again in %s, when clients have read the new authority", bundle.TrustTime)
		doc.Hints = append(doc.Hints, again)
	case bundle.RotationWaiting:
		a.sayWaiting(out.Rotation.Ready)
		doc.Hints = append(doc.Hints, again)
	}
	return a.finishRepair(o, p, doc, out.After)
}

func (a *app) sayWaiting(ready time.Time) {
	a.Streams.Say("gateway and clients are told of the new authority; its certificates can take their places after %s",
		ready.Local().Format(time.TimeOnly))
}

// confirmHarmless asks a person who is there; without one what loses nothing goes
// ahead.
func (a *app) confirmHarmless(ctx context.Context, question string, yes bool) error {
	return a.ask(ctx, question, yes || !a.Streams.Interactive, true)
}
