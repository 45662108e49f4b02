package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/desired"
	"creel/internal/gateway"
	"creel/internal/health"
	"creel/internal/sandbox"
	"creel/internal/state"
)

// recorded is the desired state of a gateway and whether there is one.
func recorded(g state.Gateway) (desired.Document, bool, error) {
	d, err := desired.Load(g.Desired())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return desired.New(g.Name), false, nil
	case err != nil:
		return desired.New(g.Name), false, err
	}
	return d, true, nil
}

// setUp refuses a gateway of which there is nothing: nobody can be asked, and there is
// nothing to start or to stop. Where that cannot be told, the command goes on and says
// what it meets.
func setUp(g state.Gateway) error {
	if there, err := g.SetUp(); there || err != nil {
		return nil //nolint:nilerr // unknown is not absent
	}
	return advisory.New("gateway-not-set-up", "nothing has been set up for gateway "+g.Name, nil)
}

// begun reports whether a recorded gateway has come to be, and with it its runtime. It
// counts as one where that cannot be told: one that somebody else runs leaves no trace
// here, and one in a cluster none before it serves, when its secrets may be there.
func begun(g state.Gateway, recorded desired.Document) bool {
	yes, err := g.Begun()
	return yes || err != nil || recorded.Runtime == desired.External || recorded.Runtime == desired.Kubernetes
}

// runtime is the runtime of a gateway that has been set up.
func (a *app) runtime(g state.Gateway) (gateway.Runtime, error) {
	if err := setUp(g); err != nil {
		return nil, err
	}
	return a.Runtime(g.Name)
}

// noGateway reports a problem that says positively that no gateway runs, which
// therefore keeps nothing back.
func noGateway(p *ProblemDocument) bool {
	return p != nil && (p.Advisory == "gateway-not-running" || p.Advisory == "gateway-not-set-up")
}

// withGateway connects to the gateway that is meant and calls use.
func (a *app) withGateway(ctx context.Context, use func(gateway.Client) error) (err error) {
	g, err := a.paths()
	if err != nil {
		return err
	}
	r, err := a.runtime(g)
	if err != nil {
		return err
	}
	c, err := r.Dial(ctx)
	if err != nil {
		return whyNot(ctx, r, err)
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := use(c); err != nil {
		return whyNot(ctx, r, err)
	}
	return nil
}

// whyNot explains an error of the gateway's API: one without an advisory may come
// from the gateway itself, and then the chain of evidence knows more.
func whyNot(ctx context.Context, r gateway.Runtime, err error) error {
	var code exitCode
	if _, explained := advisory.Of(err); explained || errors.As(err, &code) || ctx.Err() != nil {
		return err
	}
	o := r.Observe(ctx)
	if o.Verdict == health.OK || o.Reason == "" {
		return err
	}
	return advisory.New(o.Reason, o.Message, err, o.Hints...)
}

// withSandbox connects to the gateway and finds the sandbox that is meant: the
// named one, or the only one.
func (a *app) withSandbox(ctx context.Context, name string, use func(gateway.Client, gateway.Inspection) error) error {
	if err := checkSandboxName(name); err != nil {
		return err
	}
	a.Streams.Sandbox = name
	return a.withGateway(ctx, func(c gateway.Client) error {
		s, err := find(ctx, c, name)
		if err != nil {
			return err
		}
		a.Streams.Sandbox = s.Name
		return use(c, s)
	})
}

// sandboxOf is the sandbox that a subject is about; empty when it is about none.
func sandboxOf(subject string) string {
	name, is := strings.CutPrefix(subject, "sandbox/")
	if !is {
		return ""
	}
	return name
}

// withRunning is withSandbox for what needs the sandbox to run.
func (a *app) withRunning(ctx context.Context, name string, use func(gateway.Client, gateway.Inspection) error) error {
	return a.withSandbox(ctx, name, func(c gateway.Client, s gateway.Inspection) error {
		if s.Phase == sandbox.Stopped || s.Phase == sandbox.Stopping {
			return advisory.New("sandbox-stopped", fmt.Sprintf("sandbox %s is %s", s.Name, s.Phase), nil)
		}
		return use(c, s)
	})
}

func checkSandboxName(name string) error {
	if name == "" {
		return nil
	}
	if err := sandbox.CheckName(name); err != nil {
		return usageCause("name-invalid", fmt.Errorf("sandbox %w", err), "creel list")
	}
	return nil
}

// find asks the gateway once.
func find(ctx context.Context, c gateway.Client, name string) (gateway.Inspection, error) {
	ctx, cancel := budget.Context(ctx, budget.Probe, "ask the gateway for its sandboxes")
	defer cancel()
	var names []string
	if name != "" {
		names = []string{name}
	}
	all, err := c.Inspect(ctx, false, names...)
	if err != nil {
		return gateway.Inspection{}, fmt.Errorf("ask the gateway for its sandboxes: %w", err)
	}
	switch {
	case len(all) == 1 && (name == "" || all[0].Name == name):
		// A gateway that is not ours may call a sandbox anything; the name would go into
		// commands.
		return all[0], checkSandboxName(all[0].Name)
	case name != "":
		return gateway.Inspection{}, noSandbox(name)
	case len(all) == 0:
		return gateway.Inspection{}, advisory.New("sandbox-none", "the gateway has no sandbox", gateway.ErrNotFound)
	}
	have := make([]string, len(all))
	for i, s := range all {
		have[i] = s.Name
	}
	return gateway.Inspection{}, ambiguous(have)
}

func noSandbox(name string) error {
	return advisory.New("sandbox-missing", fmt.Sprintf("the gateway has no sandbox %q", name), gateway.ErrNotFound, "creel list", "creel onboard --name "+name)
}

func ambiguous(names []string) error {
	return usage("sandbox-ambiguous", "name one of "+strings.Join(names, ", "))
}

// wantedSandbox is the sandbox that is meant by the desired state alone, without
// the gateway. Empty means that the desired state does not tell.
func wantedSandbox(d desired.Document, name string) (string, error) {
	if name != "" {
		return name, checkSandboxName(name)
	}
	switch len(d.Sandboxes) {
	case 0:
		return "", nil
	case 1:
		return d.Sandboxes[0].Name, nil
	}
	names := make([]string, len(d.Sandboxes))
	for i, s := range d.Sandboxes {
		names[i] = s.Name
	}
	return "", ambiguous(names)
}

// mean notes which sandbox a command is about that ends before any gateway is asked,
// so that its advice names it: the named one, or the only one that is recorded.
func (a *app) mean(name string) error {
	g, err := a.paths()
	if err != nil {
		return err
	}
	doc, _, err := recorded(g)
	if err != nil {
		doc = desired.Document{} // that it cannot be read is not what ended the command
	}
	if name, err = wantedSandbox(doc, name); err != nil {
		return err
	}
	a.Streams.Sandbox = name
	return nil
}

// completeSandbox offers the recorded sandboxes' names to a shell. It asks no
// gateway, so that pressing a key is never slow.
func (a *app) completeSandbox(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 || a.Roots == nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	g, err := a.paths()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	d, _, err := recorded(g)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []cobra.Completion
	for _, s := range d.Sandboxes {
		names = append(names, s.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
