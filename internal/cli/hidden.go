package cli

import "github.com/spf13/cobra"

// hiddenCommands are the other processes that this executable becomes. They are
// started by Creel, never by a person.
func (a *app) hiddenCommands() []*cobra.Command {
	var dir string
	supervise := &cobra.Command{
		Use: "supervise", Hidden: true, Args: cobra.NoArgs,
		Short: "Run one sandbox (started by the gateway)",
		Long:  "Run one sandbox: its confinement, main process, inference relay and logs. The gateway starts it.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return asError(a.Supervise(cmd.Context(), dir))
		},
	}
	supervise.Flags().StringVar(&dir, "dir", "", "the sandbox's directory")
	if err := supervise.MarkFlagRequired("dir"); err != nil {
		panic(err) // the flag is declared above
	}
	confine := &cobra.Command{
		Use: "confine", Hidden: true, Args: cobra.ArbitraryArgs, DisableFlagParsing: true,
		Short: "Become the inside of a sandbox (started by the supervisor)",
		Long:  "Become the first process inside a sandbox. The supervisor starts it.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return asError(a.Confine(cmd.Context()))
		},
	}
	console := &cobra.Command{
		Use: "console", Args: cobra.NoArgs,
		Short: "Serve the built-in agent's page (started inside a sandbox)",
		Long:  "Serve the built-in agent's page inside a sandbox. The supervisor starts it.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return asError(a.Console(cmd.Context()))
		},
	}
	openclaw := &cobra.Command{
		Use: "openclaw -- PROGRAM", Args: cobra.MinimumNArgs(1),
		Short: "Become OpenClaw (started inside a sandbox)",
		Long:  "Write the access of its page into OpenClaw's configuration and become it. The supervisor starts it.",
		RunE: func(_ *cobra.Command, args []string) error {
			return asError(a.OpenClaw(args))
		},
	}
	agent := &cobra.Command{
		Use: "agent", Hidden: true, Args: cobra.NoArgs,
		Short: "Programs that run inside a sandbox",
		Long:  "Programs that run inside a sandbox. The supervisor starts them.",
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	agent.AddCommand(console, openclaw)
	return []*cobra.Command{supervise, confine, agent}
}

// gatewayForward is the process that keeps a way to a gateway in a cluster.
func (a *app) gatewayForward() *cobra.Command {
	return &cobra.Command{
		Use: "forward", Hidden: true, Args: cobra.NoArgs,
		Short: "Keep a port-forward to the gateway (started by Creel)",
		Long: `Be the port-forward to a gateway in a cluster, in the foreground, until interrupted.
"creel gateway start" runs it in the background.`,
		Example: "  creel gateway forward",
		RunE: func(cmd *cobra.Command, _ []string) error {
			name, err := a.gatewayName()
			if err != nil {
				return err
			}
			return a.Forward(cmd.Context(), name)
		},
	}
}
