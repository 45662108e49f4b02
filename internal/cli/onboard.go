package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"creel/internal/advisory"
	"creel/internal/agent"
	"creel/internal/credential"
	"creel/internal/dashboard"
	"creel/internal/desired"
	"creel/internal/health"
	"creel/internal/onboard"
	"creel/internal/onboard/ladder"
	"creel/internal/state"
)

type onboardOptions struct {
	runOptions
	resume, fresh  bool
	nonInteractive bool
	gatewayOnly    bool
	answers        map[onboard.Key]string // only those given as flags
	program        []string
}

// outputDocument prints one JSON document at the end instead of events.
const outputDocument = "document"

// runOptions are what every walk up the ladder can be told.
type runOptions struct {
	plan, yes bool
	output    string
	// judges: the exit code is the verdict's also where only the plan is wanted.
	judges bool
}

// aliases are further names of onboard's flags, for users of other tools and for
// short.
func aliases() map[string]onboard.Key {
	return map[string]onboard.Key{
		"port":            onboard.DashboardPort,
		"control-ui-port": onboard.DashboardPort,
		"port-target":     onboard.AgentPort,
		"bind":            onboard.DashboardBind,
		"chat-ui-url":     onboard.PublicURL,
	}
}

func (a *app) onboardCommand() *cobra.Command {
	var o onboardOptions
	cmd := &cobra.Command{
		Use:   "onboard [-- PROGRAM [ARG…]]",
		Short: "Bring up a gateway and a confined agent, or mend or change them",
		Long: `Settle what is wanted, show the plan with its consequences, ask, and bring everything
up: each layer is inspected, mended if it is not ok, and inspected again.

Running it again is how everything is resumed, repaired and changed: only what is
not as wanted is touched. Answers come from flags, then from the environment
("creel help environment"), then from what was recorded, then from prompts. Without
a terminal nothing is asked: a plan that disturbs nobody goes ahead, any other
needs --yes.`,
		Example: "  creel onboard\n  creel onboard --yes --provider openai --model NAME --credential-env OPENAI_API_KEY\n" +
			"  creel onboard --plan --dashboard-port PORT\n  creel onboard --agent command -- python3 -m http.server 8080\n" +
			"  creel onboard --gateway-only --runtime kubernetes --context NAME",
		GroupID: "start",
		Args: func(cmd *cobra.Command, args []string) error {
			if n := cmd.ArgsLenAtDash(); n > 0 || (n < 0 && len(args) > 0) {
				return fmt.Errorf("unexpected argument %q: a sandbox is named with --name, a program comes after \"--\"", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			o.program = args
			if o.answers, err = givenAnswers(cmd.Flags()); err != nil {
				return err
			}
			return a.onboard(cmd, o)
		},
	}
	f := cmd.Flags()
	for _, q := range onboard.Questions() {
		f.String(string(q.Key), "", q.Meaning+" ("+strings.Join(q.Env, ", ")+")")
	}
	for name, key := range aliases() {
		f.String(name, "", "another name of --"+string(key))
		_ = f.MarkHidden(name) // declared on the line above
	}
	f.BoolVar(&o.gatewayOnly, "gateway-only", false, "want the gateway alone: no sandbox and no model provider")
	f.BoolVar(&o.resume, "resume", false, "insist that there is an earlier run to resume")
	f.BoolVar(&o.fresh, "fresh", false, "forget the recorded answers about this sandbox and the model")
	f.BoolVar(&o.nonInteractive, "non-interactive", false, "never ask (CREEL_NON_INTERACTIVE, NEMOCLAW_NON_INTERACTIVE)")
	runFlags(f, &o.runOptions)
	f.BoolVar(&o.plan, "plan", false, "only show what would be done")
	exclusive(cmd, "resume", "fresh")
	complete(cmd)
	return cmd
}

func runFlags(f *pflag.FlagSet, o *runOptions) {
	f.BoolVarP(&o.yes, "yes", "y", false, "go ahead without asking (CREEL_YES, NEMOCLAW_YES)")
	f.StringVar(&o.output, "output", "text", "text, or jsonl for one event a line (docs/json.md)")
}

// complete offers a shell the answers that are a matter of choice.
func complete(cmd *cobra.Command) {
	for flag, values := range map[string][]string{
		"agent": agent.Names(), "runtime": desired.Runtimes(), "driver": {"process"},
		"dashboard-bind": {dashboard.Loopback, dashboard.Everybody}, "confinement": {"auto", "namespaces", "landlock"}, "restart": {"always", "on-failure", "never"},
		"output": {"text", "jsonl"}, "accept-risk": {"unconfined"},
	} {
		if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
			panic(err) // the flags are this command's own
		}
	}
}

// givenAnswers are the flags that were given, under their own names. One question
// answered twice in different ways is a conflict.
func givenAnswers(f *pflag.FlagSet) (map[onboard.Key]string, error) {
	answers, from := map[onboard.Key]string{}, map[onboard.Key]string{}
	var problem error
	f.Visit(func(flag *pflag.Flag) {
		key := onboard.Key(flag.Name)
		if alias, ok := aliases()[flag.Name]; ok {
			key = alias
		} else if !isQuestion(key) {
			return
		}
		value := flag.Value.String()
		if before, ok := answers[key]; ok && before != value && problem == nil {
			problem = usage("flag-conflict", fmt.Sprintf("--%s %s and --%s %s cannot be used together: they answer the same question",
				from[key], before, flag.Name, value))
		}
		if value == "" && !key.Erasable() && problem == nil {
			problem = usage("usage", "--"+flag.Name+" is empty")
		}
		answers[key], from[key] = value, flag.Name
	})
	return answers, problem
}

func isQuestion(key onboard.Key) bool {
	for _, q := range onboard.Questions() {
		if q.Key == key {
			return true
		}
	}
	return false
}

// switchOn is a boolean variable under one of its names.
func (a *app) switchOn(names ...string) (bool, error) {
	for _, name := range names {
		switch v := a.Getenv(name); strings.ToLower(v) {
		case "":
		case "1", "true", "yes", "on":
			return true, nil
		case "0", "false", "no", "off":
			return false, nil
		default:
			return false, usage("usage", fmt.Sprintf("%s=%q is neither yes nor no", name, v))
		}
	}
	return false, nil
}

func (a *app) onboard(cmd *cobra.Command, o onboardOptions) error {
	ctx := cmd.Context()
	g, err := a.paths()
	if err != nil {
		return err
	}
	quiet, err := a.switchOn("CREEL_NON_INTERACTIVE", "NEMOCLAW_NON_INTERACTIVE")
	if err != nil {
		return err
	}
	if o.nonInteractive || quiet || o.output == "jsonl" {
		a.Streams.Interactive = false
	}
	doc, there, err := recorded(g)
	if err != nil {
		return err
	}
	in := onboard.Inputs{Gateway: g.Name, Flags: o.answers, Command: o.program, GatewayOnly: o.gatewayOnly, Getenv: a.Getenv}
	if a.Streams.Interactive && !o.plan {
		in.Prompter = asker{a.prompter()}
	}
	var before *desired.Document
	if there {
		before = &doc
		in.Recorded, in.Begun = before, begun(g, doc)
		if o.fresh {
			if err := forget(&in, doc); err != nil {
				return err
			}
		}
	}
	settled, err := onboard.Settle(ctx, in)
	if err != nil {
		return err
	}
	if o.output != "jsonl" {
		for _, note := range settled.Notes {
			a.Streams.Say("%s", note)
		}
	}
	return a.run(cmd, o.runOptions, onboard.Options{Gateway: g, Document: settled.Document, Recorded: before,
		Key: settled.Key, Resume: o.resume}, settled.Sandbox)
}

// forget leaves of what is recorded only the other sandboxes, and how and where the
// gateway is run and reached.
func forget(in *onboard.Inputs, doc desired.Document) error {
	rest := doc
	rest.Inference = desired.New(doc.Name).Inference
	in.Recorded, in.Fresh = &rest, true
	if in.GatewayOnly {
		return nil // a recorded sandbox is destroyed, not forgotten
	}
	name := in.Flags[onboard.Name]
	if name == "" {
		name = firstSet(in.Getenv, onboard.Name)
	}
	if name == "" {
		var err error
		if name, err = wantedSandbox(doc, ""); err != nil {
			return err
		}
	}
	rest = rest.Without(name)
	if name != "" {
		in.Flags[onboard.Name] = name
	}
	return nil
}

// firstSet is a question's answer in the environment.
func firstSet(getenv func(string) string, key onboard.Key) string {
	for _, q := range onboard.Questions() {
		if q.Key != key {
			continue
		}
		for _, name := range q.Env {
			if v := getenv(name); v != "" {
				return v
			}
		}
	}
	return ""
}

// run walks up the ladder and shows it. about is the sandbox to name in the end;
// empty names none.
func (a *app) run(cmd *cobra.Command, r runOptions, o onboard.Options, about string) error {
	ctx := cmd.Context()
	if err := oneOf("output", r.output, "text", "jsonl"); err != nil && r.output != outputDocument {
		return err
	}
	yes, err := a.switchOn("CREEL_YES", "NEMOCLAW_YES")
	if err != nil {
		return err
	}
	show := a.newRenderer(o.Gateway.Name, r.plan)
	defer show.progress.Close()
	switch r.output {
	case "jsonl":
		o.Report = show.jsonl
	case outputDocument:
		o.Report = show.talk
	default:
		o.Report = show.text
	}
	o.Command, o.PlanOnly, o.AfterEntry = cmd.CommandPath(), r.plan, a.AfterEntry
	o.Build = func(d desired.Document, key credential.Secret) (onboard.Stack, error) {
		s, err := a.Layers(ctx, d, Scope{Key: func() credential.Secret { return key }})
		if s.Close == nil {
			s.Close = func() error { return nil }
		}
		return onboard.Stack{Layers: s.Layers, Close: s.Close}, err
	}
	o.Consent = func(ctx context.Context, p onboard.Plan) (bool, error) {
		return a.consent(ctx, p, r.yes || yes)
	}
	o.Undo = func(ctx context.Context, name string) error {
		_, err := a.Destroy(ctx, o.Gateway.Name, name, show.progress.Report())
		return err
	}
	out, err := onboard.Run(ctx, o)
	show.progress.Close()
	switch {
	case r.output == outputDocument:
		err = errors.Join(err, a.printRepair(ctx, o, out))
	case r.output == "text" && !r.plan:
		a.summary(o.Gateway, o.Document, show.last, about, err)
	}
	var unknown *ladder.NotMended
	switch {
	case err != nil && ctx.Err() == nil && errors.As(err, &unknown) && unknown.Cause == nil && unknown.Result.Verdict == health.Unknown:
		a.Streams.Problem(err)
		return exitCode(ExitUnknown)
	case err != nil:
		return err
	case out.Declined:
		return declined()
	case r.plan && !r.judges:
		return nil
	}
	return asError(ofSummary(out.Summary))
}

// consent asks for a plan. Without a terminal a plan that disturbs nobody and
// loses nothing is only what was asked for.
func (a *app) consent(ctx context.Context, p onboard.Plan, yes bool) (bool, error) {
	if yes {
		return true, nil
	}
	harmless := len(p.Disturbs()) == 0 && !losesSomething(p)
	if !a.Streams.Interactive && harmless {
		return true, nil
	}
	err := a.ask(ctx, "Go ahead?", false, harmless)
	if p, ok := advisory.Of(err); ok && p.ID == "not-confirmed" {
		return false, nil
	}
	return err == nil, err
}

func losesSomething(p onboard.Plan) bool {
	for _, action := range p.Actions {
		if action.Destructive {
			return true
		}
	}
	return false
}

// summary prints fresh inspections, and what to do now unless failure says that.
func (a *app) summary(g state.Gateway, wanted desired.Document, results []health.Result, about string, failure error) {
	if len(results) == 0 {
		return
	}
	doc := StatusDocument{Verdict: health.Summarize(results), Gateway: g.Name, Recorded: true, Layers: results}
	doc.Message = statusMessage(doc, len(wanted.Sandboxes))
	var b strings.Builder
	writeStatus(&b, a.Streams.OutTerminal, doc, false)
	a.Streams.Print("%s", strings.TrimRight(b.String(), "\n"))
	switch {
	case failure != nil: // it names the next commands
	case doc.Verdict == health.SummaryFailed || doc.Verdict == health.SummaryUnknown:
		a.Streams.Next(statusHints(doc)...) // everything was done, and something else is not well by now
	case about != "" && hasDashboard(wanted, about):
		open := "creel dashboard " + about
		if a.Machine().Browser() {
			open += " --open"
		}
		a.Streams.Next(open, "creel connect "+about)
	case about != "":
		a.Streams.Next("creel logs "+about, "creel connect "+about)
	}
}

func hasDashboard(d desired.Document, name string) bool {
	s, ok := d.Sandbox(name)
	if !ok {
		return false
	}
	spec, err := s.Spec(false)
	return err == nil && spec.Dashboard.TargetPort != 0
}

// readDocument reads a desired state from a file, or from standard input for "-".
func (a *app) readDocument(path string) (desired.Document, error) {
	if path == "-" {
		content, err := readAll(a.Streams.In, desired.MaxSize+1)
		if err != nil {
			return desired.Document{}, fmt.Errorf("read standard input: %w", err)
		}
		return desired.Parse("standard input", content)
	}
	d, err := desired.Load(path)
	if errors.Is(err, os.ErrNotExist) {
		return d, usageCause("usage", fmt.Errorf("read %s: %w", path, err))
	}
	return d, err
}
