package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/cli/ui"
	"creel/internal/credential"
	"creel/internal/health"
	"creel/internal/layer"
	"creel/internal/onboard/ladder"
	"creel/internal/state"
)

// watchEvery is how often status --watch looks again.
const watchEvery = 2 * time.Second

// StatusDocument is what `creel status --json` prints.
type StatusDocument struct {
	Verdict health.Summary `json:"verdict"`
	Gateway string         `json:"gateway"`
	Message string         `json:"message"`
	// Recorded says whether a desired state exists; without one only the
	// gateway's own layers are judged.
	Recorded bool             `json:"recorded"`
	Problem  *ProblemDocument `json:"problem"`
	Layers   []health.Result  `json:"layers"`
	Hints    []string         `json:"hints"`
	At       time.Time        `json:"at"`
	// Elapsed is how long looking took, in microseconds.
	Elapsed health.Micros `json:"elapsed_us"`
}

type statusOptions struct {
	sandbox     string
	json, watch bool
	evidence    bool
	all         bool
}

func (a *app) statusCommand() *cobra.Command {
	var o statusOptions
	cmd := &cobra.Command{
		Use:   "status [SANDBOX]",
		Short: "Say how everything is, just now",
		Long: `Look at every layer just now and say how it is. The first line is the verdict: ok,
degraded, failed or unknown, which is also the exit code (0, 3, 1, 4). Nothing is
changed. With --all it is one line for each gateway, and the verdict over all; a
gateway that takes longer than 30 seconds is unknown.`,
		Example:           "  creel status\n  creel status SANDBOX --json\n  creel status --watch\n  creel status --all",
		GroupID:           "look",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeSandbox,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.sandbox = first(args)
			if o.all && o.sandbox != "" {
				return usage("flag-conflict", "--all looks at every gateway, and a sandbox is one's", "creel help status")
			}
			if o.all {
				return a.statusAll(cmd.Context(), o.json)
			}
			if o.watch {
				return a.watch(cmd.Context(), o)
			}
			return a.status(cmd.Context(), o)
		},
	}
	jsonFlag(cmd, &o.json)
	cmd.Flags().BoolVarP(&o.watch, "watch", "w", false, "look again every two seconds until interrupted")
	exclusive(cmd, "json", "watch")
	allFlag(cmd, &o.all)
	exclusive(cmd, "all", "watch")
	return cmd
}

func (a *app) doctorCommand() *cobra.Command {
	o := statusOptions{evidence: true}
	cmd := &cobra.Command{
		Use:   "doctor [SANDBOX]",
		Short: "Say how everything is, with the evidence and the reasons",
		Long: `Like "creel status", with every probe and its answer, a closer look at what is well,
and the advisory behind each problem. Effects of a known cause are folded under it. Nothing is changed.`,
		Example:           "  creel doctor\n  creel doctor SANDBOX --json",
		GroupID:           "look",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeSandbox,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.sandbox = first(args)
			return a.status(cmd.Context(), o)
		},
	}
	jsonFlag(cmd, &o.json)
	return cmd
}

func (a *app) status(ctx context.Context, o statusOptions) error {
	doc, err := a.inspect(ctx, o.sandbox, o.evidence)
	if err != nil {
		return err
	}
	if o.evidence { // that is what was asked
		doc.Hints = slices.DeleteFunc(doc.Hints, func(h string) bool { return h == "creel doctor" })
	}
	if o.json {
		err = a.Streams.JSON(doc)
	} else {
		a.renderStatus(doc, o.evidence)
	}
	return errors.Join(err, asError(ofSummary(doc.Verdict)))
}

// inspect looks at everything. Its error is one of the command line; what is
// wrong with the stack is in the document.
func (a *app) inspect(ctx context.Context, name string, deep bool) (StatusDocument, error) {
	if err := checkSandboxName(name); err != nil {
		return StatusDocument{}, err
	}
	g, err := a.paths()
	if p, explained := advisory.Of(err); explained && p.ID == "home-untrusted" {
		// What is there is not even looked at: a desired state can name programs.
		gateway, _ := a.gatewayName()
		doc := a.unansweredStatus(gateway, err)
		doc.Hints = doc.Problem.Commands
		return doc, nil
	}
	if err != nil {
		return StatusDocument{}, err
	}
	return a.inspectGateway(ctx, g, name, deep)
}

// inspectGateway is inspect for one gateway.
func (a *app) inspectGateway(ctx context.Context, g state.Gateway, name string, deep bool) (doc StatusDocument, err error) {
	defer func() { doc = a.statusAbout(doc) }()
	began := time.Now()
	doc = StatusDocument{Verdict: health.SummaryUnknown, Gateway: g.Name, Layers: []health.Result{}, Hints: []string{}, At: began.UTC()}
	ctx, cancel := budget.Context(ctx, budget.Operation, "look at every layer")
	defer cancel()
	wanted, there, err := recorded(g)
	doc.Recorded = there
	if err == nil && name != "" {
		if _, known := wanted.Sandbox(name); !known {
			return doc, noSandbox(name)
		}
	}
	var stack Stack
	if err == nil {
		stack, err = a.Layers(ctx, wanted, Scope{Sandbox: name, Deep: deep})
	}
	if err != nil {
		doc.Problem = problemDocument(err)
		doc.Message = "what is wanted could not be read"
		doc.Hints = doc.Problem.Commands
		return doc, nil
	}
	doc.Layers = normal(ladder.Inspect(ctx, stack.Layers))
	if stack.Close != nil {
		err = stack.Close()
	}
	doc.Verdict = health.Summarize(doc.Layers)
	doc.Message = statusMessage(doc, len(wanted.Sandboxes))
	doc.Hints = statusHints(doc)
	doc.Elapsed = health.Micros(time.Since(began))
	if ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled) {
		return doc, context.Canceled
	}
	return doc, err
}

// normal keeps lists in JSON from being null, and out of the texts what is not shown
// either.
func normal(results []health.Result) []health.Result {
	for i := range results {
		r := &results[i]
		r.Message, r.Evidence, r.Caveats, r.Hints = credential.Redact(r.Message), evidenceOf(r.Evidence), caveatsOf(r.Caveats), orEmpty(r.Hints)
	}
	return results
}

// evidenceOf is evidence for a document.
func evidenceOf(all []health.Evidence) []health.Evidence {
	out := orEmpty(slices.Clone(all))
	for i := range out {
		out[i].Answer = credential.Redact(out[i].Answer)
	}
	return out
}

// caveatsOf is caveats for a document.
func caveatsOf(all []health.Caveat) []health.Caveat {
	out := orEmpty(slices.Clone(all))
	for i := range out {
		out[i].Message = credential.Redact(out[i].Message)
	}
	return out
}

func statusMessage(doc StatusDocument, sandboxes int) string {
	if !doc.Recorded {
		return "nothing has been set up for gateway " + doc.Gateway
	}
	what := fmt.Sprintf("gateway %s, %d sandboxes", doc.Gateway, sandboxes)
	if sandboxes == 1 {
		what = fmt.Sprintf("gateway %s, 1 sandbox", doc.Gateway)
	}
	if where := faulty(doc); where != "" {
		return fmt.Sprintf("%s at %s: %s", doc.Verdict, where, what)
	}
	return what
}

// mostNamed is how many layers a verdict names.
const mostNamed = 3

// faulty names the layers that the verdict is about: causes, not what only suffers from
// them. It is empty when all is well.
func faulty(doc StatusDocument) string {
	if doc.Verdict == health.SummaryOK {
		return ""
	}
	var names []string
	for _, r := range doc.Layers {
		if verdictOf(r) == doc.Verdict && r.BlockedBy == "" && !folded(r, doc.Layers) {
			names = append(names, describeLayer(r))
		}
	}
	if more := len(names) - mostNamed; more > 0 {
		names = append(names[:mostNamed], fmt.Sprintf("%d more", more))
	}
	return listed(names)
}

// listed is e.g. "a, b and c".
func listed(names []string) string {
	last := len(names) - 1
	if last < 1 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

func describeLayer(r health.Result) string {
	name, isSandbox := strings.CutPrefix(r.Subject, "sandbox/")
	switch {
	case !isSandbox:
		return r.Layer
	case r.Layer == string(layer.Sandbox):
		return "sandbox " + name
	}
	return r.Layer + " of " + name
}

// headline is a verdict with its message, which may begin with the verdict's word.
func headline(t ui.Terminal, verdict health.Summary, message string) string {
	if rest, begins := strings.CutPrefix(message, string(verdict)+" at "); begins {
		return t.Verdict(ui.MarkOf(string(verdict))) + " at " + credential.Redact(rest)
	}
	return t.Verdict(ui.MarkOf(string(verdict))) + ": " + credential.Redact(message)
}

// statusHints are the next commands: those of causes, not of what only suffers
// from them, and where nothing failed those of what is less than well.
func statusHints(doc StatusDocument) []string {
	if !doc.Recorded {
		return []string{"creel onboard"}
	}
	hints := []string{}
	add := func(about health.Result, commands []string) {
		for _, h := range naming(sandboxOf(about.Subject), commands) {
			if h != "creel status" && !slices.Contains(hints, h) { // that is what was asked
				hints = append(hints, h)
			}
		}
	}
	for _, r := range doc.Layers {
		switch {
		case r.BlockedBy != "" || folded(r, doc.Layers):
		case r.Verdict != health.OK:
			add(r, hintsOf(r.Reason, r.Hints))
		case doc.Verdict == health.SummaryDegraded:
			for _, c := range r.Caveats {
				add(r, hintsOf(c.Advisory, nil))
			}
		}
	}
	if len(hints) == 0 && doc.Verdict != health.SummaryOK && doc.Verdict != health.SummaryDegraded {
		hints = append(hints, "creel onboard")
	}
	return hints
}

// folded reports that the cause of r is among the results.
func folded(r health.Result, all []health.Result) bool {
	known, _ := advisory.Lookup(r.Reason)
	return slices.ContainsFunc(all, func(other health.Result) bool {
		return other.Verdict != health.OK && slices.Contains(known.DependsOn, other.Reason)
	})
}

func (a *app) renderStatus(doc StatusDocument, evidence bool) {
	var b strings.Builder
	writeStatus(&b, a.Streams.OutTerminal, doc, evidence)
	a.Streams.Print("%s", strings.TrimRight(b.String(), "\n"))
	if doc.Problem != nil {
		a.sayProblem(doc.Problem)
		return
	}
	a.Streams.Next(doc.Hints...)
}

const detailIndent = "       "

// writeStatus is the text of a status: the verdict, then one line a layer, the
// sandboxes' layers under their names.
func writeStatus(b *strings.Builder, t ui.Terminal, doc StatusDocument, evidence bool) {
	fmt.Fprintln(b, headline(t, doc.Verdict, doc.Message))
	subject := ""
	detail := func(text string) { // below the layer's name
		for _, line := range ui.Wrap(text, max(0, t.Columns()-len(detailIndent))) {
			fmt.Fprintf(b, "%s%s\n", detailIndent, line)
		}
	}
	for _, r := range doc.Layers {
		if s, isSandbox := strings.CutPrefix(r.Subject, "sandbox/"); isSandbox && s != subject {
			subject = s
			fmt.Fprintf(b, "%s\n", t.Bold("sandbox "+s))
		}
		table := ui.Table{Indent: "  ", Width: t.Columns()}
		table.Row(t.Glyph(ui.MarkOf(string(verdictOf(r)))), fmt.Sprintf("%-12s", r.Layer), credential.Redact(r.Message))
		_, _ = table.WriteTo(b) // a strings.Builder cannot fail
		for _, c := range r.Caveats {
			detail(t.Faint(c.Advisory+":") + " " + credential.Redact(c.Message))
		}
		if r.Verdict != health.OK && r.BlockedBy == "" && r.Reason != "" {
			detail(t.Faint(r.Reason + reasonText(r.Reason)))
		}
		if !evidence {
			continue
		}
		for _, e := range r.Evidence {
			took := tookText(time.Duration(e.Took))
			if took != "" {
				took = " " + t.Faint("("+took+")")
			}
			detail(fmt.Sprintf("%s %s: %s%s", t.Glyph(ui.MarkOf(e.Verdict.String())), e.Probe, credential.Redact(e.Answer), took))
		}
	}
}

func reasonText(id string) string {
	a, known := advisory.Lookup(id)
	if !known || a.Title == "" {
		return ""
	}
	return ": " + a.Title
}

// watch shows the status until interrupted: on a smart terminal in place,
// elsewhere again whenever it changed.
func (a *app) watch(ctx context.Context, o statusOptions) error {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	last := ""
	t := a.Streams.OutTerminal
	for {
		doc, err := a.inspect(ctx, o.sandbox, false)
		if ctx.Err() != nil {
			return exitCode(ExitInterrupted)
		}
		if err != nil {
			return err
		}
		var b strings.Builder
		writeStatus(&b, t, doc, false)
		for _, h := range doc.Hints {
			fmt.Fprintf(&b, "next: %s\n", h)
		}
		switch text := b.String(); {
		case t.Smart:
			a.Streams.Print("\x1b[H\x1b[2J%s\n%s", strings.TrimRight(text, "\n"), t.Faint(doc.At.Local().Format(time.TimeOnly)+", every 2 s; Ctrl-C ends"))
		case text != last:
			last = text
			a.Streams.Print("%s\n%s", doc.At.Format(time.RFC3339), strings.TrimRight(text, "\n"))
		}
		select {
		case <-ctx.Done():
			return exitCode(ExitInterrupted)
		case <-ticker.C:
		}
	}
}

// layersOf keeps the layers with one of the ids.
func layersOf(layers []layer.Layer, ids ...layer.ID) []layer.Layer {
	return slices.DeleteFunc(slices.Clone(layers), func(l layer.Layer) bool { return !slices.Contains(ids, l.ID()) })
}
