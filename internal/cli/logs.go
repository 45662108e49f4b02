package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"creel/internal/gateway"
)

type logsOptions struct {
	sandbox string
	lines   int
	follow  bool
}

func (a *app) logsCommand() *cobra.Command {
	var o logsOptions
	cmd := &cobra.Command{
		Use:               "logs [SANDBOX]",
		Short:             "Show what a sandbox's agent and supervisor wrote",
		Long:              "Show the last lines that a sandbox's agent and supervisor wrote, oldest first.",
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
	return a.withSandbox(ctx, o.sandbox, func(c gateway.Client, s gateway.Inspection) error {
		t := a.Streams.OutTerminal
		err := c.Logs(ctx, s.Name, o.lines, o.follow, func(l gateway.LogLine) {
			prefix := l.At.Local().Format("15:04:05") + " " + fmt.Sprintf("%-10s", l.Source)
			a.Streams.Print("%s %s", t.Faint(prefix), printable(l.Message))
		})
		if o.follow && ctx.Err() != nil {
			return exitCode(ExitInterrupted)
		}
		if err != nil {
			return fmt.Errorf("read the log of %s: %w", s.Name, err)
		}
		return nil
	})
}

// printable takes control characters out of what an agent wrote: a log must not
// be able to drive the reader's terminal.
func printable(s string) string {
	clean := []rune(s)
	for i, r := range clean {
		if r != '\t' && (r < 0x20 || r == 0x7f || (r >= 0x80 && r < 0xa0)) {
			clean[i] = '\uFFFD'
		}
	}
	return string(clean)
}
