package cli

import (
	"encoding/json"
	"fmt"
	"strings"

	"creel/internal/cli/ui"
	"creel/internal/health"
	"creel/internal/layer"
	"creel/internal/onboard/ladder"
)

// renderer turns the events of a run into what a user sees.
type renderer struct {
	app      *app
	progress *ui.Progress
	plan     bool // only the plan is wanted
	last     []health.Result
}

func (a *app) newRenderer(planOnly bool) *renderer {
	return &renderer{app: a, progress: ui.NewProgress(a.Streams), plan: planOnly}
}

// text shows events to a person.
func (r *renderer) text(e ladder.Event) {
	p := r.progress
	switch e.Type {
	case ladder.Planned:
		r.planned(e)
	case ladder.Resumed:
		p.Line(e.Message)
	case ladder.StepStarted:
		p.Step(e.N, e.Of, stepTitle(e))
	case ladder.Progressed:
		p.Wait(e.Message)
	case ladder.StepEnded:
		p.End(ui.MarkOf(e.Verdict), e.Message)
	case ladder.Summarized:
		p.Close()
		r.last = normal(e.Results)
	case ladder.RunEnded:
		p.Close()
	}
	// Heartbeats come from Progress, which also knows when it rewrites a line.
}

// jsonl writes one event a line.
func (r *renderer) jsonl(e ladder.Event) {
	encoder := json.NewEncoder(r.app.Streams.Out)
	encoder.SetEscapeHTML(false)
	e.Message = ui.Redact(e.Message)
	e.Results = normal(e.Results)
	// Whoever reads a closed pipe is gone; the run itself goes on to its end.
	_ = encoder.Encode(e)
}

func stepTitle(e ladder.Event) string {
	if s, isSandbox := strings.CutPrefix(e.Subject, "sandbox/"); isSandbox {
		return e.Title + " " + s
	}
	return e.Title
}

// planned shows what will be done and whom it disturbs: as talk before it is
// done, as data when only the plan is wanted.
func (r *renderer) planned(e ladder.Event) {
	var b strings.Builder
	t := r.app.Streams.ErrTerminal
	if r.plan {
		t = r.app.Streams.OutTerminal
	}
	switch {
	case len(e.Actions) == 0 && !e.Changed:
		b.WriteString("Nothing to do: everything is as wanted.\n")
	case len(e.Actions) == 0:
		b.WriteString("Only the recorded answers change; nothing running does.\n")
	default:
		writePlan(&b, t, e.Actions)
	}
	for _, f := range e.Results {
		if f.Verdict == health.Unknown && f.BlockedBy == "" {
			fmt.Fprintf(&b, "%s %s: %s\n", t.Glyph(ui.MarkUnknown), describeLayer(f), ui.Redact(f.Message))
		}
	}
	text := strings.TrimRight(b.String(), "\n")
	if r.plan {
		r.app.Streams.Print("%s", text)
		return
	}
	r.app.Streams.Say("%s", text)
}

func writePlan(b *strings.Builder, t ui.Terminal, actions []layer.Action) {
	fmt.Fprintf(b, "%s\n", t.Bold("Plan:"))
	disturbs := false
	for _, action := range actions {
		fmt.Fprintf(b, "  %s %s\n", t.Glyph(ui.MarkInfo), ui.Redact(action.Title))
		if len(action.Disturbs) > 0 {
			disturbs = true
			fmt.Fprintf(b, "      disturbs %s\n", strings.Join(action.Disturbs, ", "))
		}
		if action.Destructive {
			fmt.Fprintf(b, "      %s something is lost that cannot be made again\n", t.Glyph(ui.MarkDegraded))
		}
	}
	if !disturbs {
		b.WriteString("Nobody is disturbed.\n")
	}
}
