package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/cli/ui"
	"creel/internal/gateway"
	"creel/internal/sandbox"
	"creel/internal/state"
)

func (a *app) stopCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "stop [SANDBOX]",
		Short: "Stop a sandbox and keep its workspace",
		Long: `End everything in a sandbox and keep its workspace. It stays stopped until "creel
start" or "creel onboard". Stopping a stopped sandbox changes nothing.`,
		Example:           "  creel stop SANDBOX",
		GroupID:           "use",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeSandbox,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.want(cmd, first(args), sandbox.NotRunning)
		},
	}
}

func (a *app) startCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "start [SANDBOX]",
		Short:             "Start a stopped sandbox",
		Long:              "Start a stopped sandbox and return when it is ready. Starting a running sandbox changes nothing.",
		Example:           "  creel start SANDBOX",
		GroupID:           "use",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeSandbox,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.want(cmd, first(args), sandbox.Running)
		},
	}
}

// want records whether a sandbox shall run and makes it so. The wish is recorded
// first: it is what everything else then works towards.
func (a *app) want(cmd *cobra.Command, name string, wanted sandbox.Wanted) (err error) {
	ctx := cmd.Context()
	l, g, err := a.lock(cmd)
	if err != nil {
		return err
	}
	defer unlock(l, &err)
	p := ui.NewProgress(a.Streams)
	defer p.Close()
	return a.withSandbox(ctx, name, func(c gateway.Client, s gateway.Inspection) error {
		if err := recordWanted(g, s.Name, wanted); err != nil {
			return err
		}
		if wanted == sandbox.NotRunning {
			return stopSandbox(ctx, c, s.Name, p)
		}
		return startSandbox(ctx, c, s.Name, p)
	})
}

func recordWanted(g state.Gateway, name string, wanted sandbox.Wanted) error {
	doc, _, err := recorded(g)
	if err != nil {
		return err
	}
	s, known := doc.Sandbox(name)
	if !known || s.Wanted == wanted {
		return nil
	}
	s.Wanted = wanted
	return doc.With(s).Save(g.Desired())
}

func stopSandbox(ctx context.Context, c gateway.Client, name string, p *ui.Progress) error {
	ctx, cancel := budget.Context(ctx, budget.Operation, "stop sandbox "+name)
	defer cancel()
	p.Wait("stopping sandbox " + name)
	if err := c.StopSandbox(ctx, name); err != nil {
		return fmt.Errorf("stop sandbox %s: %w", name, err)
	}
	p.End(ui.MarkOK, "sandbox "+name+" is stopped; its workspace is kept")
	return nil
}

func startSandbox(ctx context.Context, c gateway.Client, name string, p *ui.Progress) error {
	ctx, cancel := budget.Context(ctx, budget.SandboxReady, "start sandbox "+name)
	defer cancel()
	p.Wait("starting sandbox " + name)
	if err := c.StartSandbox(ctx, name); err != nil {
		return fmt.Errorf("start sandbox %s: %w", name, err)
	}
	return awaitSandbox(ctx, c, name, p)
}

// awaitSandbox waits until a sandbox that is being started is ready.
func awaitSandbox(ctx context.Context, c gateway.Client, name string, p *ui.Progress) error {
	s, err := c.WaitSandbox(ctx, name, p.Report())
	if err != nil {
		return fmt.Errorf("wait for sandbox %s: %w", name, err)
	}
	if s.Phase != sandbox.Ready {
		how := fmt.Sprintf("sandbox %s is %s: %s", name, s.Phase, s.Message)
		if _, explained := advisory.Lookup(s.Reason); explained {
			return namingSandbox(advisory.New(s.Reason, how, nil), "sandbox/"+name)
		}
		return advisory.New("sandbox-start-failed", how, nil, "creel logs "+name, "creel status "+name)
	}
	p.End(ui.MarkOK, "sandbox "+name+" is ready")
	return nil
}
