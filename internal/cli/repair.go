package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"creel/internal/advisory"
	"creel/internal/health"
	"creel/internal/layer"
	"creel/internal/onboard"
)

// RepairDocument is what `creel repair --json` prints.
type RepairDocument struct {
	Verdict health.Summary `json:"verdict"`
	Gateway string         `json:"gateway"`
	// Planned: only the plan was wanted, and nothing was done.
	Planned bool            `json:"planned"`
	Changed bool            `json:"changed"`
	Actions []layer.Action  `json:"actions"`
	Layers  []health.Result `json:"layers"`
}

func (a *app) repairCommand() *cobra.Command {
	var r runOptions
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "repair",
		Short: "Mend what has failed, and only that",
		Long: `Look at every layer, lowest first, and mend those that failed, as they are recorded;
what is well is left alone. Nothing is mended that could not be determined, and
nothing that is in use is replaced: what needs your decision is named with the
command for it. The exit code is that of the verdict afterwards, with --plan of the
verdict now.`,
		Example: "  creel repair --plan\n  creel repair --yes",
		GroupID: "start",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r.output, r.judges = "text", true
			if asJSON {
				r.output = outputDocument
				a.Streams.Interactive = false
			}
			return a.repair(cmd, r)
		},
	}
	cmd.Flags().BoolVar(&r.plan, "plan", false, "only say what would be done, and whom it would disturb")
	yesFlag(cmd, &r.yes)
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (a *app) repair(cmd *cobra.Command, r runOptions) error {
	g, err := a.paths()
	if err != nil {
		return err
	}
	doc, there, err := recorded(g)
	if err != nil {
		return err
	}
	if !there {
		return advisory.New("nothing-to-repair", fmt.Sprintf("nothing is recorded for gateway %s", g.Name), nil)
	}
	o := onboard.Options{Gateway: g, Document: doc, Recorded: &doc}
	if o.Key, err = a.key(cmd.Context(), doc); err != nil {
		return err
	}
	return a.run(cmd, r, o, "")
}

func (a *app) printRepair(ctx context.Context, o onboard.Options, out onboard.Outcome) error {
	if ctx.Err() != nil || len(out.Results) == 0 && len(out.Plan.Found) == 0 {
		return nil // it ended before there was anything to say
	}
	results := out.Results
	if len(results) == 0 {
		results = out.Plan.Found
	}
	return a.Streams.JSON(RepairDocument{Verdict: health.Summarize(results), Gateway: o.Gateway.Name, Planned: o.PlanOnly,
		Changed: out.Changed, Actions: orEmpty(out.Plan.Actions), Layers: a.resultsAbout(o.Gateway.Name, results)})
}
