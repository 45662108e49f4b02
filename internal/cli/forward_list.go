package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"creel/internal/budget"
	"creel/internal/cli/ui"
	"creel/internal/credential"
	"creel/internal/dashboard"
	"creel/internal/desired"
	"creel/internal/gateway"
	"creel/internal/sandbox"
)

// ForwardsDocument is what `creel forward list --json` prints.
type ForwardsDocument struct {
	Gateway string `json:"gateway"`
	// Answered says whether the gateway could be asked; without it only what is
	// recorded is listed, and nothing is known of it.
	Answered bool             `json:"answered"`
	Problem  *ProblemDocument `json:"problem"`
	Forwards []ForwardEntry   `json:"forwards"`
}

// ForwardEntry is one forward in a ForwardsDocument.
type ForwardEntry struct {
	Sandbox     string `json:"sandbox"`
	Kind        string `json:"kind"`
	Bind        string `json:"bind"`
	Port        int    `json:"port"`
	WantedPort  int    `json:"wanted_port"`
	TargetPort  int    `json:"target_port"`
	Status      string `json:"status"`
	Message     string `json:"message"`
	Exposed     bool   `json:"exposed"`
	Recorded    bool   `json:"recorded"`
	Connections int    `json:"connections"`
	Refused     int    `json:"refused"`
}

// The states of a forward.
const (
	forwardListening = "listening"
	forwardStopped   = "stopped" // on purpose
	forwardWaiting   = "waiting" // its sandbox does not run
	forwardFailed    = "failed"
	forwardUnknown   = "unknown"
)

func (a *app) forwardList() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list [SANDBOX]",
		Aliases: []string{"ls"},
		Short:   "List forwards, those of dashboards among them",
		Long: `List what is forwarded, what should be and is not, and what was stopped on purpose.
Nothing is changed and nothing is probed; "creel status" judges.`,
		Example:           "  creel forward list\n  creel forward list SANDBOX --json",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeSandbox,
		RunE: func(cmd *cobra.Command, args []string) error {
			doc, err := a.forwards(cmd.Context(), first(args))
			if err != nil {
				return err
			}
			if asJSON {
				err = a.Streams.JSON(doc)
			} else {
				a.renderForwards(doc)
			}
			if unknown := !doc.Answered && (len(doc.Forwards) > 0 || doc.Problem != nil && !noGateway(doc.Problem)); unknown {
				return errors.Join(err, exitCode(ExitUnknown))
			}
			return err
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

// forwards asks the gateway once, about one sandbox or all.
func (a *app) forwards(ctx context.Context, name string) (ForwardsDocument, error) {
	if err := checkSandboxName(name); err != nil {
		return ForwardsDocument{}, err
	}
	g, err := a.paths()
	if err != nil {
		return ForwardsDocument{}, err
	}
	wanted, _, problem := recorded(g)
	var have []gateway.Inspection
	err = a.withGateway(ctx, func(c gateway.Client) (err error) {
		ctx, cancel := budget.Context(ctx, budget.Probe, "ask the gateway for its sandboxes")
		defer cancel()
		if name == "" {
			have, err = c.Inspect(ctx, false)
		} else {
			have, err = c.Inspect(ctx, false, name)
		}
		return err
	})
	switch {
	case ctx.Err() != nil:
		return ForwardsDocument{}, err
	case err != nil && (problem == nil || problem.Error() != err.Error()):
		problem = errors.Join(problem, err)
	}
	if name != "" {
		s, known := wanted.Sandbox(name)
		if !known && err == nil && len(have) == 0 {
			return ForwardsDocument{}, noSandbox(name)
		}
		if wanted.Sandboxes = nil; known {
			wanted.Sandboxes = []desired.Sandbox{s}
		}
	}
	return a.forwardsDocument(g.Name, a.Machine().WSL, wanted, have, err == nil, problem)
}

// forwardsDocument merges what is recorded with what the gateway has.
func (a *app) forwardsDocument(name string, wsl bool, wanted desired.Document, have []gateway.Inspection, answered bool, problem error) (ForwardsDocument, error) {
	doc := ForwardsDocument{Gateway: name, Answered: answered, Problem: a.problemAbout(name, problemDocument(problem)), Forwards: []ForwardEntry{}}
	for _, s := range wanted.Sandboxes {
		i := slices.IndexFunc(have, func(i gateway.Inspection) bool { return i.Name == s.Name })
		found := gateway.Inspection{Name: s.Name}
		if i >= 0 {
			found = have[i]
			have = slices.Delete(slices.Clone(have), i, i+1)
		}
		spec, err := s.Spec(wsl)
		if err != nil {
			return doc, err
		}
		doc.Forwards = append(doc.Forwards, entriesOf(spec, s.Wanted, found, answered)...)
	}
	for _, i := range have { // of sandboxes that are not recorded
		doc.Forwards = append(doc.Forwards, entriesOf(sandbox.Spec{}, i.Wanted, i, answered)...)
	}
	return doc, nil
}

// entriesOf are the forwards of one sandbox: its dashboard's, the recorded ones, and
// what else the gateway has.
func entriesOf(spec sandbox.Spec, wanted sandbox.Wanted, i gateway.Inspection, answered bool) []ForwardEntry {
	var entries []ForwardEntry
	add := func(kind string, f gateway.Forward, known, isRecorded bool) {
		e := ForwardEntry{Sandbox: i.Name, Kind: kind, Bind: cmp.Or(f.Bind, dashboard.Loopback), Port: f.Port, WantedPort: f.WantedPort, TargetPort: f.TargetPort,
			Message: credential.Redact(f.Error), Exposed: f.Exposed(), Recorded: isRecorded, Connections: f.Connections, Refused: int(f.Refused)}
		switch {
		case !answered:
			e.Status, e.Message = forwardUnknown, "the gateway could not be asked"
		case f.Stopped && !f.Bound:
			e.Status = forwardStopped
		case wanted == sandbox.NotRunning && !f.Bound:
			e.Status = forwardWaiting
		case !known:
			e.Status, e.Message = forwardFailed, "the gateway does not know of it"
		case f.Bound:
			e.Status, e.Message = forwardListening, strings.TrimSpace(e.Message+" "+f.Displaced())
		default:
			e.Status = forwardFailed
		}
		entries = append(entries, e)
	}
	if d := spec.Dashboard; i.Dashboard.TargetPort != 0 {
		add("dashboard", i.Dashboard, true, d.TargetPort != 0)
	} else if d.TargetPort != 0 {
		add("dashboard", gateway.Forward{Bind: d.Bind, Port: d.Port, WantedPort: d.Port, TargetPort: d.TargetPort, Stopped: d.Stopped}, false, true)
	}
	rest := slices.Clone(i.Forwards)
	for _, w := range spec.Forwards {
		at := slices.IndexFunc(rest, func(f gateway.Forward) bool { return f.WantedPort == w.Port && f.TargetPort == w.TargetPort })
		if at < 0 {
			add("forward", gateway.Forward{Bind: w.Bind, Port: w.Port, WantedPort: w.Port, TargetPort: w.TargetPort}, false, true)
			continue
		}
		add("forward", rest[at], true, true)
		rest = slices.Delete(rest, at, at+1)
	}
	for _, f := range rest {
		add("forward", f, true, false)
	}
	return entries
}

func (a *app) renderForwards(doc ForwardsDocument) {
	if doc.Problem != nil {
		a.sayProblem(doc.Problem)
	}
	if len(doc.Forwards) == 0 {
		if doc.Answered {
			a.Streams.Say("nothing is forwarded")
		}
		return
	}
	t := a.Streams.OutTerminal
	table := ui.Table{Header: []string{"SANDBOX", "BIND", "PORT", "TARGET", "STATUS"}}
	for _, e := range doc.Forwards {
		port := "any"
		if e.Port != 0 {
			port = strconv.Itoa(e.Port)
		}
		table.Row(e.Sandbox, e.Bind, port, strconv.Itoa(e.TargetPort), t.Glyph(forwardMark(e.Status))+" "+describeForward(e))
	}
	a.writeTable(&table)
}

// describeForward is the status in words.
func describeForward(e ForwardEntry) string {
	words := []string{e.Status}
	if e.Kind == "dashboard" {
		words = append(words, "dashboard")
	}
	if e.Exposed {
		words = append(words, "reached from other machines")
	}
	if !e.Recorded {
		words = append(words, "not recorded")
	}
	if e.Refused > 0 {
		words = append(words, fmt.Sprintf("%d connections refused", e.Refused))
	}
	text := strings.Join(words, ", ")
	if e.Message != "" && e.Status != forwardStopped {
		text += ": " + e.Message
	}
	return text
}

func forwardMark(status string) ui.Mark {
	switch status {
	case forwardListening, forwardStopped:
		return ui.MarkOK
	case forwardFailed:
		return ui.MarkFailed
	case forwardUnknown:
		return ui.MarkUnknown
	}
	return ui.MarkInfo
}
