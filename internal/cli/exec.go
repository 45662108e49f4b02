package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"creel/internal/gateway"
)

type execOptions struct {
	sandbox string
	command []string
	workdir string
	env     []string
	timeout time.Duration
	noStdin bool
}

func (a *app) execCommand() *cobra.Command {
	var o execOptions
	cmd := &cobra.Command{
		Use:   "exec [SANDBOX] -- COMMAND [ARG…]",
		Short: "Run one command inside a sandbox",
		Long: `Run one command inside a sandbox, confined like the agent, and return its exit
code. Standard input is passed on; output and errors stay apart.`,
		Example: "  creel exec SANDBOX -- uname -a\n  creel exec -- /bin/sh -c 'ls -la'\n" +
			"  creel exec SANDBOX --workdir /tmp --env LEVEL=debug -- env",
		GroupID:           "use",
		ValidArgsFunction: a.completeSandbox,
		Args: func(cmd *cobra.Command, args []string) error {
			dash := cmd.ArgsLenAtDash()
			switch {
			case dash < 0:
				return fmt.Errorf("the command comes after \"--\"")
			case dash > 1:
				return fmt.Errorf("one sandbox at most comes before \"--\", not %d", dash)
			case len(args) == dash:
				return fmt.Errorf("there is no command after \"--\"")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			dash := cmd.ArgsLenAtDash()
			o.sandbox, o.command = first(args[:dash]), args[dash:]
			return a.exec(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.workdir, "workdir", "w", "", "directory inside the sandbox (default /sandbox)")
	f.StringArrayVarP(&o.env, "env", "e", nil, "environment variable NAME=VALUE; may be repeated")
	f.DurationVar(&o.timeout, "timeout", 0, "end the command after this long (exit code 124)")
	f.BoolVarP(&o.noStdin, "no-stdin", "n", false, "give the command an empty standard input")
	return cmd
}

func (a *app) exec(ctx context.Context, o execOptions) error {
	env, err := assignments(o.env)
	if err != nil {
		return err
	}
	if o.timeout < 0 {
		return usage("usage", fmt.Sprintf("--timeout %s is negative", o.timeout))
	}
	return a.withRunning(ctx, o.sandbox, func(c gateway.Client, s gateway.Inspection) error {
		var in io.Reader
		if !o.noStdin {
			in = a.Streams.In
		}
		code, err := c.Exec(ctx, gateway.Exec{SandboxID: s.ID, Command: o.command, Workdir: o.workdir, Env: env,
			Timeout: o.timeout, Stdin: in, Stdout: a.Streams.Out, Stderr: a.Streams.Err})
		if err != nil {
			return fmt.Errorf("run %s in %s: %w", o.command[0], s.Name, err)
		}
		return asError(code)
	})
}

// assignments parses NAME=VALUE.
func assignments(list []string) (map[string]string, error) {
	env := make(map[string]string, len(list))
	for _, entry := range list {
		name, value, ok := strings.Cut(entry, "=")
		if !ok || name == "" {
			// The entry itself may hold a secret: only say its form.
			return nil, usage("usage", "an --env value does not have the form NAME=VALUE")
		}
		env[name] = value
	}
	return env, nil
}

func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}
