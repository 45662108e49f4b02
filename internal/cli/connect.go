package cli

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"creel/internal/gateway"
)

func (a *app) connectCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "connect [SANDBOX]",
		Short: "Open a shell inside a sandbox",
		Long: `Open a shell inside a sandbox, confined like the agent. The window's size follows;
the terminal is given back as it was. It ends with the shell, and returns its
exit code.`,
		Example:           "  creel connect\n  creel connect SANDBOX",
		GroupID:           "use",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeSandbox,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.connect(cmd.Context(), first(args))
		},
	}
}

// shell starts the best shell there is as a login shell.
var shell = []string{"/bin/sh", "-c", `if command -v bash >/dev/null; then exec bash -l; else exec sh -l; fi`}

func (a *app) connect(ctx context.Context, name string) error {
	in, ok := a.Streams.In.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) || !a.Streams.OutTerminal.TTY {
		if err := a.mean(name); err != nil {
			return err
		}
		return usage("terminal-needed", "standard input and output are not a terminal")
	}
	return a.withRunning(ctx, name, func(c gateway.Client, s gateway.Inspection) (err error) {
		e := gateway.Exec{SandboxID: s.ID, Command: shell, TTY: true, Stdin: in, Stdout: a.Streams.Out,
			Stderr: a.Streams.Err, Env: map[string]string{}}
		if t := a.Getenv("TERM"); t != "" {
			e.Env["TERM"] = t
		}
		if cols, rows, err := term.GetSize(int(in.Fd())); err == nil {
			e.Cols, e.Rows = cols, rows
		}
		resized, stop := watchSize(in)
		defer stop()
		e.Resize = resized
		before, err := term.MakeRaw(int(in.Fd()))
		if err != nil {
			return fmt.Errorf("put the terminal into raw mode: %w", err)
		}
		defer func() { err = errors.Join(err, term.Restore(int(in.Fd()), before)) }()
		code, err := c.Exec(ctx, e)
		if err != nil {
			return fmt.Errorf("open a shell in %s: %w", s.Name, err)
		}
		return asError(code)
	})
}
