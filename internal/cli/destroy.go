package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"creel/internal/advisory"
	"creel/internal/cli/ui"
	"creel/internal/gateway"
	"creel/internal/state"
)

func (a *app) destroyCommand() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "destroy [SANDBOX]",
		Short: "Remove a sandbox and its workspace, for good",
		Long: `End everything in a sandbox and remove it with its workspace, for good. Other
sandboxes and the gateway go on. It works with the gateway dead, and not with one
that lives and cannot be asked: stop that first. Destroying what does not exist
changes nothing.`,
		Example:           "  creel destroy SANDBOX\n  creel destroy SANDBOX --yes",
		GroupID:           "use",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeSandbox,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.destroy(cmd, first(args), yes)
		},
	}
	yesFlag(cmd, &yes)
	return cmd
}

func (a *app) destroy(cmd *cobra.Command, name string, yes bool) (err error) {
	ctx := cmd.Context()
	if err := checkSandboxName(name); err != nil {
		return err
	}
	g, err := a.paths()
	if err != nil {
		return err
	}
	if name == "" {
		if name, err = a.onlySandbox(ctx, g); err != nil {
			return err
		}
	}
	nothing := fmt.Sprintf("there is no sandbox %s; nothing was changed", name)
	if isAbsent(g.Dir()) && isAbsent(g.Desired()) {
		a.Streams.Say("%s", nothing) // taking the lock would begin a state directory
		return nil
	}
	if err := a.confirm(ctx, fmt.Sprintf("Remove sandbox %s and its workspace for good?", name), yes); err != nil {
		return err
	}
	l, _, err := a.lockAny(cmd)
	if err != nil {
		return err
	}
	defer unlock(l, &err)
	doc, _, problem := recorded(g)
	if problem != nil {
		// What is wanted cannot be read; what exists can be removed all the same.
		a.Streams.Problem(problem)
	} else if _, known := doc.Sandbox(name); known {
		if err := doc.Without(name).Save(g.Desired()); err != nil {
			return err
		}
	}
	p := ui.NewProgress(a.Streams)
	defer p.Close()
	p.Wait("removing sandbox " + name)
	existed, err := a.Destroy(ctx, g.Name, name, p.Report())
	if err != nil {
		return fmt.Errorf("destroy sandbox %s: %w", name, err)
	}
	if !existed {
		p.End(ui.MarkOK, nothing)
		return nil
	}
	p.End(ui.MarkOK, fmt.Sprintf("sandbox %s and its workspace are gone", name))
	return nil
}

// onlySandbox is the one that is meant when none is named: the only recorded one,
// else the gateway's only one.
func (a *app) onlySandbox(ctx context.Context, g state.Gateway) (name string, err error) {
	doc, _, err := recorded(g)
	if err != nil {
		return "", err
	}
	if name, err = wantedSandbox(doc, ""); name != "" || err != nil {
		return name, err
	}
	err = a.withSandbox(ctx, "", func(_ gateway.Client, s gateway.Inspection) error {
		name = s.Name
		return nil
	})
	return name, err
}

func isAbsent(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist)
}

type uninstallOptions struct{ plan, yes bool }

func (a *app) uninstallCommand() *cobra.Command {
	var o uninstallOptions
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Remove a gateway with everything of it, and nothing else",
		Long: `Stop the gateway, remove its sandboxes with their workspaces, its state, its secrets,
its registration and its recorded answers, for good, and nothing else. It works with
the gateway dead and with damaged state. Doing it again changes nothing. A gateway in
a cluster goes on there; only the backups that Creel made of its secrets are removed.`,
		Example: "  creel uninstall --plan\n  creel uninstall --yes",
		GroupID: "start",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.uninstall(cmd, o) },
	}
	cmd.Flags().BoolVar(&o.plan, "plan", false, "only say what would be removed")
	yesFlag(cmd, &o.yes)
	return cmd
}

func (a *app) uninstall(cmd *cobra.Command, o uninstallOptions) (err error) {
	ctx := cmd.Context()
	g, err := a.paths()
	if err != nil {
		return err
	}
	p := ui.NewProgress(a.Streams)
	defer p.Close()
	plan, err := a.Uninstall(ctx, g.Name, true, p.Report())
	if err != nil {
		return fmt.Errorf("look for what to remove: %w", err)
	}
	if plan.Empty() {
		a.Streams.Say("nothing of gateway %s is here; nothing was changed", g.Name)
		return nil
	}
	if o.plan {
		a.renderRemoval(plan)
		return nil
	}
	if !o.yes {
		a.sayRemoval(plan)
	}
	if err := a.confirm(ctx, "Remove all of this for good?", o.yes); err != nil {
		return err
	}
	l, _, err := a.lockAny(cmd)
	if err != nil {
		return err
	}
	defer unlock(l, &err)
	p.Wait("removing gateway " + g.Name)
	done, err := a.Uninstall(ctx, g.Name, false, p.Report())
	if err != nil {
		return advisory.New("uninstall-incomplete", "not everything could be removed", err)
	}
	p.End(ui.MarkOK, fmt.Sprintf("gateway %s and everything of Creel's of it are gone", g.Name))
	for _, left := range done.Stays {
		a.Streams.Say("stays: %s", left)
	}
	return nil
}

func removalLines(r Removal) []string {
	var lines []string
	for _, p := range r.Processes {
		lines = append(lines, "stop    "+p)
	}
	for _, s := range r.Sandboxes {
		lines = append(lines, "destroy sandbox "+s+" and its workspace")
	}
	for _, c := range r.Cluster {
		lines = append(lines, "delete  "+c)
	}
	for _, p := range r.Paths {
		lines = append(lines, "remove  "+p)
	}
	for _, s := range r.Stays {
		lines = append(lines, "stays   "+s)
	}
	return lines
}

func (a *app) renderRemoval(r Removal) {
	for _, line := range removalLines(r) {
		a.Streams.Print("%s", line)
	}
}

func (a *app) sayRemoval(r Removal) {
	for _, line := range removalLines(r) {
		a.Streams.Say("  %s", line)
	}
}
