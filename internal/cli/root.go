package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/host"
	"creel/internal/onboard/ladder"
	"creel/internal/sandbox"
	"creel/internal/state"
)

// DefaultGateway is the gateway that commands mean when none is named.
const DefaultGateway = "creel"

// Main runs one command line and returns its exit code. ctx ends with the first
// interrupt.
func Main(ctx context.Context, args []string, deps Deps) int {
	a := &app{Deps: deps, args: args}
	said := &written{Writer: a.Streams.Out}
	a.Streams.Out = said
	root := newRoot(a)
	root.SetArgs(args)
	root.SetOut(a.Streams.Out)
	root.SetErr(a.Streams.Err)
	root.SetIn(a.Streams.In)
	ran, err := root.ExecuteContextC(ctx)
	if err == nil {
		return ExitOK
	}
	var code exitCode
	if errors.As(err, &code) {
		return int(code)
	}
	err = withHelp(ran, explain(err))
	exit := codeOf(ctx, err)
	if exit == ExitInterrupted {
		a.Streams.Say("interrupted")
		return exit
	}
	var notMended *ladder.NotMended
	if errors.As(err, &notMended) {
		a.Streams.Sandbox = sandboxOf(notMended.Result.Subject)
	}
	a.Streams.Problem(err)
	if asked := ran.Flags().Lookup("json"); !said.any && asked != nil && asked.Value.String() == "true" {
		a.failedDocument(err)
	}
	return exit
}

// written remembers whether anything was written.
type written struct {
	io.Writer
	any bool
}

func (w *written) Write(b []byte) (int, error) {
	w.any = w.any || len(b) > 0
	return w.Writer.Write(b)
}

// FailedDocument is what a command prints with --json that ended before there was
// anything else to say.
type FailedDocument struct {
	Problem *ProblemDocument `json:"problem"`
}

func (a *app) failedDocument(why error) {
	p := problemDocument(why)
	if name, err := a.gatewayName(); err == nil {
		p = a.problemAbout(name, p)
	}
	// The exit code is that of a failure already.
	_ = a.Streams.JSON(FailedDocument{Problem: p})
}

// explain gives an advisory to errors of contracts that cannot name one.
func explain(err error) error {
	var notDirectory *state.NotDirectory
	_, explained := advisory.Of(err)
	switch {
	case explained:
		return err
	case errors.As(err, &notDirectory):
		return usageCause("home-invalid", err)
	case isCobraUsage(err):
		return usageCause("usage", err)
	}
	return busyProblem(err)
}

// isCobraUsage recognises the usage errors that cobra returns without a hook and
// without a type.
func isCobraUsage(err error) bool {
	return slices.ContainsFunc([]string{"unknown command ", "required flag(s) "},
		func(prefix string) bool { return strings.HasPrefix(err.Error(), prefix) })
}

// app is what a command works with: the dependencies and the global flags.
type app struct {
	Deps
	args        []string // the command line
	gatewayFlag string
}

// NewRoot builds the command tree. It runs nothing and asks nothing, so that
// documentation and tests can walk it with zero Deps.
func NewRoot(deps Deps) *cobra.Command { return newRoot(&app{Deps: deps}) }

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "creel",
		Short: "Run confined AI agents on this machine",
		Long: `Creel takes a bare machine to a confined AI agent whose dashboard opens, keeps it
there, says truthfully how it is, and mends what broke.

Begin with "creel onboard": it shows what it will do, asks, and does it. Running
it again is how everything is repaired or changed.`,
		Example:       "  creel onboard\n  creel status\n  creel dashboard --open",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	root.PersistentFlags().StringVar(&a.gatewayFlag, "gateway", "",
		"name of the gateway (environment CREEL_GATEWAY; default \""+DefaultGateway+"\")")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return usageCause("usage", inWords(err))
	})
	for _, g := range groups() {
		root.AddGroup(&cobra.Group{ID: g.id, Title: g.title})
	}
	a.addCommands(root)
	checkArgs(root)
	return root
}

type group struct{ id, title string }

func groups() []group {
	return []group{
		{"start", "Set up and change:"},
		{"look", "Look:"},
		{"use", "Use a sandbox:"},
		{"gateway", "Gateway and models:"},
		{"other", "Other:"},
	}
}

// checkArgs makes errors about arguments usage errors, everywhere in the tree.
func checkArgs(cmd *cobra.Command) {
	validate := cmd.Args
	if validate != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			err := validate(cmd, args)
			if err != nil && cmd.HasSubCommands() {
				err = fmt.Errorf("unknown command %q for %q%s", args[0], cmd.CommandPath(), meant(cmd, args[0]))
			}
			if err != nil {
				return asUsage(wrongCount(cmd, args, err))
			}
			return nil
		}
	}
	for _, c := range cmd.Commands() {
		checkArgs(c)
	}
}

func asUsage(err error) error {
	if isUsage(err) {
		return err
	}
	return usageCause("usage", err)
}

// exclusive makes it a conflict to give both flags.
func exclusive(cmd *cobra.Command, one, other string) {
	earlier := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		if earlier != nil {
			if err := earlier(cmd, args); err != nil {
				return err
			}
		}
		if cmd.Flags().Changed(one) && cmd.Flags().Changed(other) {
			return usage("flag-conflict", fmt.Sprintf("--%s and --%s cannot be used together", one, other))
		}
		return nil
	}
}

// gatewayName is the gateway meant: --gateway, CREEL_GATEWAY, "creel".
// Every command that works on a gateway comes by here, so the time budgets that
// it will use are checked here.
func (a *app) gatewayName() (string, error) {
	if err := budget.Check(); err != nil {
		return "", usageCause("budget-invalid", err)
	}
	name, from := a.gatewayFlag, "--gateway"
	if name == "" {
		name, from = a.Getenv("CREEL_GATEWAY"), "CREEL_GATEWAY"
	}
	if name == "" {
		return DefaultGateway, nil
	}
	if err := sandbox.CheckName(name); err != nil {
		return "", usageCause("name-invalid", fmt.Errorf("%s: %w", from, err), "creel gateway status --all", "creel onboard --gateway NAME")
	}
	if a.gatewayFlag != "" {
		a.Streams.Gateway = name
	}
	return name, nil
}

// roots is where everything of Creel's lies.
func (a *app) roots() (state.Roots, error) {
	roots, err := a.Roots()
	if _, explained := advisory.Of(err); err != nil && !explained {
		err = usageCause("home-invalid", err)
	}
	return roots, err
}

// paths are the files of the gateway that is meant.
func (a *app) paths() (state.Gateway, error) {
	name, err := a.gatewayName()
	if err != nil {
		return state.Gateway{}, err
	}
	roots, err := a.roots()
	if err != nil {
		return state.Gateway{}, err
	}
	return roots.Gateway(name), nil
}

// lock takes the gateway's lock for a command that changes something of a gateway that
// has been set up.
func (a *app) lock(cmd *cobra.Command) (*state.Lock, state.Gateway, error) {
	g, err := a.paths()
	if err == nil {
		err = setUp(g)
	}
	if err != nil {
		return nil, g, err
	}
	return a.lockAny(cmd)
}

// lockAny is lock for a command that makes or removes what there is of a gateway.
func (a *app) lockAny(cmd *cobra.Command) (*state.Lock, state.Gateway, error) {
	g, err := a.paths()
	if err != nil {
		return nil, g, err
	}
	l, err := state.TryLock(g.Lock(), cmd.CommandPath())
	return l, g, host.Explain(err, g.Lock())
}

// unlock gives a lock back; the error of the work goes first.
func unlock(l *state.Lock, err *error) {
	*err = errors.Join(*err, l.Unlock())
}

// oneOf is a usage error for a flag whose value is not among the valid ones.
func oneOf(flag, value string, valid ...string) error {
	if slices.Contains(valid, value) {
		return nil
	}
	return usage("usage", fmt.Sprintf("--%s %q is none of %s", flag, value, strings.Join(valid, ", ")))
}
