package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"creel/internal/advisory"
	"creel/internal/cli/ui"
	"creel/internal/credential"
	"creel/internal/gateway"
)

// UpgradeDocument is what `creel gateway upgrade --json` prints.
type UpgradeDocument struct {
	Gateway string `json:"gateway"`
	Runtime string `json:"runtime"`
	// Planned: only the plan was wanted, and nothing was done.
	Planned  bool             `json:"planned"`
	Changed  bool             `json:"changed"`
	From     ProgramDocument  `json:"from"`
	To       ProgramDocument  `json:"to"`
	Differs  []string         `json:"differs"`
	Disturbs []string         `json:"disturbs"`
	Notes    []string         `json:"notes"`
	Problem  *ProblemDocument `json:"problem"`
}

// ProgramDocument is one build of a gateway.
type ProgramDocument struct {
	Version    string `json:"version"`
	BuildID    string `json:"build_id"`
	Executable string `json:"executable"`
}

type upgradeOptions struct {
	plan, yes, json bool
	gateway.UpgradeOptions
}

func (a *app) gatewayUpgrade() *cobra.Command {
	var o upgradeOptions
	cmd := &cobra.Command{
		Use:   "upgrade",
		Short: "Bring the gateway to the installed version, with a way back",
		Long: `Replace the gateway that runs by what would be started now: another version of the
program, other settings. The old one's database is kept first. If the new gateway does
not prove healthy, the old one is back with everything that it had; an upgrade that was
interrupted is finished by the next start. Where nothing differs nothing is done.

Sandboxes of Creel's own gateway go on and do not notice. An openshell-gateway stops the
containers of its sandboxes when it ends; then the plan names them, and you are asked.`,
		Example: "  creel gateway upgrade --plan\n  creel gateway upgrade",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.json {
				a.Streams.Interactive = false
			}
			return a.upgrade(cmd, o)
		},
	}
	cmd.Flags().BoolVar(&o.plan, "plan", false, "only say what would be replaced, and whom it would disturb")
	cmd.Flags().BoolVar(&o.AllowDowngrade, "allow-downgrade", false, "runtime openshell: let an older gateway at the database of a newer one")
	yesFlag(cmd, &o.yes)
	jsonFlag(cmd, &o.json)
	return cmd
}

func (a *app) upgrade(cmd *cobra.Command, o upgradeOptions) (err error) {
	ctx := cmd.Context()
	g, err := a.paths()
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
	r, err := a.runtime(g)
	if err != nil {
		return err
	}
	u, ok := r.(gateway.Upgrader)
	if !ok {
		return advisory.New("gateway-upgrade-unsupported", fmt.Sprintf("gateway %s is of runtime %s", g.Name, r.Name()), nil)
	}
	plan, err := u.PlanUpgrade(ctx, o.UpgradeOptions)
	doc := upgradeDocument(g.Name, r.Name(), o.plan, plan)
	if !o.json && len(plan.Differs) > 0 {
		a.renderUpgrade(doc)
	}
	if err == nil && !o.plan && len(plan.Differs) > 0 {
		if err = a.agreeToUpgrade(ctx, doc, o.yes); err == nil {
			err = a.carryOut(ctx, u, o)
			doc.Changed = err == nil
		}
	}
	if err != nil {
		err = fmt.Errorf("upgrade the gateway: %w", err)
	}
	switch {
	case o.json:
		doc.Problem = a.problemAbout(g.Name, problemDocument(err))
		return errors.Join(err, a.Streams.JSON(doc))
	case err == nil && len(plan.Differs) == 0:
		a.Streams.Print("nothing to upgrade: gateway %s runs what would be started now", g.Name)
	}
	return err
}

// agreeToUpgrade asks where somebody is disturbed.
func (a *app) agreeToUpgrade(ctx context.Context, doc UpgradeDocument, yes bool) error {
	if len(doc.Disturbs) == 0 {
		return nil
	}
	always, err := a.switchOn("CREEL_YES", "NEMOCLAW_YES")
	if err != nil {
		return err
	}
	return a.ask(ctx, "Upgrade the gateway?", yes || always, false)
}

func (a *app) carryOut(ctx context.Context, u gateway.Upgrader, o upgradeOptions) error {
	p := ui.NewProgress(a.Streams)
	defer p.Close()
	p.Wait("upgrading the gateway")
	if err := u.Upgrade(ctx, o.UpgradeOptions, p.Report()); err != nil {
		return err
	}
	a.runs(ctx, u, p)
	return nil
}

func upgradeDocument(name, runtimeName string, planned bool, u gateway.Upgrade) UpgradeDocument {
	return UpgradeDocument{Gateway: name, Runtime: runtimeName, Planned: planned, From: programDocument(u.From), To: programDocument(u.To),
		Differs: orEmpty(u.Differs), Disturbs: orEmpty(u.Disturbs), Notes: orEmpty(u.Notes)}
}

func programDocument(p gateway.Program) ProgramDocument {
	return ProgramDocument{Version: p.Version, BuildID: p.BuildID, Executable: p.Executable}
}

func (p ProgramDocument) String() string {
	if p == (ProgramDocument{}) {
		return "not known"
	}
	said := "version " + p.Version
	if p.Version == "" {
		said = "unknown version"
	}
	if p.BuildID != "" {
		said += fmt.Sprintf(", build %.12s", p.BuildID)
	}
	return said
}

func (a *app) renderUpgrade(doc UpgradeDocument) {
	a.Streams.Print("gateway %s (%s)", doc.Gateway, doc.Runtime)
	table := ui.Table{Indent: "  "}
	for _, d := range doc.Differs {
		table.Row("differs", credential.Redact(d))
	}
	if same := doc.From.String(); same == doc.To.String() && doc.From != (ProgramDocument{}) {
		table.Row("program", same+", as it is")
	} else {
		table.Row("from", same)
		table.Row("to", doc.To.String())
	}
	disturbs := "nobody"
	if len(doc.Disturbs) > 0 {
		disturbs = strings.Join(doc.Disturbs, ", ")
	}
	table.Row("disturbs", disturbs)
	for _, n := range doc.Notes {
		table.Row("note", credential.Redact(n))
	}
	a.writeTable(&table)
}
