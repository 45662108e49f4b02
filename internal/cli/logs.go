package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"creel/internal/gateway"
	"creel/internal/printable"
)

type logsOptions struct {
	sandbox string
	lines   int
	follow  bool
}

func (a *app) logsCommand() *cobra.Command {
	var o logsOptions
	cmd := &cobra.Command{
		Use:   "logs [SANDBOX]",
		Short: "Show what a sandbox's agent and supervisor wrote",
		Long: `Show the last lines that a sandbox's agent and supervisor wrote, oldest first. With
the gateway dead, what the agent has written to disk.`,
		Example:           "  creel logs\n  creel logs SANDBOX --follow\n  creel logs SANDBOX --lines 20",
		GroupID:           "look",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeSandbox,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.sandbox = first(args)
			return a.logs(cmd.Context(), o)
		},
	}
	logFlags(cmd, &o.lines, &o.follow)
	return cmd
}

// logFlags declares the flags of commands that print logs.
func logFlags(cmd *cobra.Command, lines *int, follow *bool) {
	cmd.Flags().IntVarP(lines, "lines", "n", 200, "how many of the last lines; 0 means all there are")
	cmd.Flags().BoolVarP(follow, "follow", "f", false, "go on with new lines until interrupted")
}

func checkLines(lines int) error {
	if lines < 0 {
		return usage("usage", fmt.Sprintf("--lines %d is negative", lines))
	}
	return nil
}

func (a *app) logs(ctx context.Context, o logsOptions) error {
	if err := checkLines(o.lines); err != nil {
		return err
	}
	reached := false
	err := a.withSandbox(ctx, o.sandbox, func(c gateway.Client, s gateway.Inspection) error {
		reached = true
		t := a.Streams.OutTerminal
		err := c.Logs(ctx, s.Name, o.lines, o.follow, func(l gateway.LogLine) {
			prefix := l.At.Local().Format("15:04:05") + " " + fmt.Sprintf("%-10s", l.Source)
			a.Streams.Print("%s %s", t.Faint(prefix), printable.Text(l.Message))
		})
		if o.follow && ctx.Err() != nil {
			return exitCode(ExitInterrupted)
		}
		if err != nil {
			return fmt.Errorf("read the log of %s: %w", s.Name, err)
		}
		return nil
	})
	if err == nil || reached || ctx.Err() != nil || errors.Is(err, gateway.ErrNotFound) || isUsage(err) {
		return err
	}
	return a.savedLog(ctx, o, err)
}

// savedLog shows what is on disk when the gateway cannot be asked: that is when
// somebody most wants to know what the agent wrote.
func (a *app) savedLog(ctx context.Context, o logsOptions, why error) error {
	g, err := a.paths()
	if err != nil {
		return err
	}
	name := o.sandbox
	if name == "" {
		doc, _, err := recorded(g)
		if err != nil {
			return errors.Join(why, err)
		}
		if name, err = wantedSandbox(doc, ""); name == "" || err != nil {
			return errors.Join(why, err)
		}
	}
	lines := printable.NewWriter(func(l string) { a.Streams.Print("%s", l) })
	a.Streams.Say("the gateway cannot be asked (%v); this is what the agent of %s has written to disk:", why, name)
	if err := a.SavedLog(ctx, g.Name, name, lines, o.lines, o.follow); err != nil {
		return fmt.Errorf("%w; and on disk: %w", why, err)
	}
	lines.Flush()
	if o.follow && ctx.Err() != nil {
		return exitCode(ExitInterrupted)
	}
	return nil
}
