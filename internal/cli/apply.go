package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"creel/internal/credential"
	"creel/internal/desired"
	"creel/internal/onboard"
	"creel/internal/state"
)

type applyOptions struct {
	runOptions
	file string
}

func (a *app) applyCommand() *cobra.Command {
	var o applyOptions
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Make a gateway be as a file says",
		Long: `Read the desired state of a gateway from a file, show the plan, ask, and bring it
about. The file has the form of the one that "creel onboard" writes. A sandbox that
the file no longer names is kept; only "creel destroy" removes one.`,
		Example: "  creel apply -f FILE\n  creel apply -f FILE --yes --output jsonl",
		GroupID: "start",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.apply(cmd, o) },
	}
	fileFlag(cmd, &o.file)
	runFlags(cmd.Flags(), &o.runOptions)
	cmd.Flags().BoolVar(&o.plan, "plan", false, "only show what would be done")
	if err := cmd.MarkFlagRequired("file"); err != nil {
		panic(err) // declared above
	}
	return cmd
}

func (a *app) planCommand() *cobra.Command {
	o := applyOptions{runOptions: runOptions{plan: true}}
	cmd := &cobra.Command{
		Use:     "plan [-f FILE]",
		Short:   "Show what would be done, and whom it would disturb",
		Long:    "Show what would be done to be as recorded, or as a file says, and whom it would disturb. Nothing is changed.",
		Example: "  creel plan\n  creel plan -f FILE",
		GroupID: "start",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.apply(cmd, o) },
	}
	fileFlag(cmd, &o.file)
	cmd.Flags().StringVar(&o.output, "output", "text", "text, or jsonl for one event a line (docs/json.md)")
	return cmd
}

func fileFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVarP(file, "file", "f", "", "desired state (YAML); - is standard input")
}

func (a *app) apply(cmd *cobra.Command, o applyOptions) error {
	g, err := a.paths()
	if err != nil {
		return err
	}
	before, there, err := recorded(g)
	wanted := before
	if o.file != "" {
		if wanted, err = a.readDocument(o.file); err != nil {
			return err
		}
		if a.gatewayFlag != "" && a.gatewayFlag != wanted.Name {
			return usage("flag-conflict", fmt.Sprintf("--gateway %s and --file %s cannot be used together: the file is about gateway %s",
				a.gatewayFlag, o.file, wanted.Name))
		}
		g = state.Gateway{Roots: g.Roots, Name: wanted.Name}
		before, there, err = recorded(g)
	}
	if err != nil {
		return err
	}
	run := onboard.Options{Gateway: g, Document: wanted}
	if there {
		if before.Runtime != wanted.Runtime && begun(g, before) {
			return onboard.RuntimeChanged(before, wanted.Runtime)
		}
		run.Recorded = &before
		if o.output != "jsonl" {
			a.sayKept(before, wanted)
		}
	}
	if run.Key, err = a.key(cmd.Context(), wanted); err != nil {
		return err
	}
	return a.run(cmd, o.runOptions, run, "")
}

// sayKept names the sandboxes that are no longer wanted and stay all the same.
func (a *app) sayKept(before, wanted desired.Document) {
	for _, s := range before.Sandboxes {
		if _, still := wanted.Sandbox(s.Name); !still {
			a.Streams.Say("sandbox %s is no longer recorded and is kept; remove it with: creel destroy %s", s.Name, s.Name)
		}
	}
}

// key is the provider's key as the environment has it, found by the rules of
// onboard; empty when it has none, which is fine when one is stored.
func (a *app) key(ctx context.Context, wanted desired.Document) (credential.Secret, error) {
	_, key, err := onboard.SettleInference(ctx, onboard.Inputs{Gateway: wanted.Name, Recorded: &wanted, Getenv: a.without(onboard.Questions())})
	return key, err
}

// without is the environment without the answers to some questions.
func (a *app) without(questions []onboard.Question) func(string) string {
	hidden := map[string]bool{}
	for _, q := range questions {
		for _, name := range q.Env {
			hidden[name] = true
		}
	}
	return func(name string) string {
		if hidden[name] {
			return ""
		}
		return a.Getenv(name)
	}
}

// readAll reads at most limit bytes.
func readAll(r io.Reader, limit int64) ([]byte, error) { return io.ReadAll(io.LimitReader(r, limit)) }
