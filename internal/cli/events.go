package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"creel/internal/cli/ui"
	"creel/internal/credential"
	"creel/internal/health"
	"creel/internal/layer"
	"creel/internal/onboard/ladder"
)

// renderer turns the events of a run into what a user sees.
type renderer struct {
	app      *app
	progress *ui.Progress
	gateway  string // its name
	plan     bool   // only the plan is wanted
	last     []health.Result

	shown   int                    // number of the step whose heading was printed last
	waiting map[int][]ladder.Event // events of later steps, which run at the same time
}

func (a *app) newRenderer(gateway string, planOnly bool) *renderer {
	return &renderer{app: a, gateway: gateway, progress: ui.NewProgress(a.Streams), plan: planOnly}
}

// text shows events to a person. Steps of different sandboxes run at the same
// time; they are shown one after the other, in the order of their numbers.
func (r *renderer) text(e ladder.Event) {
	switch e.Type {
	case ladder.Planned:
		r.planned(e)
	case ladder.Resumed:
		r.progress.Line(e.Message)
	case ladder.StepStarted, ladder.Progressed, ladder.StepEnded:
		if r.waiting == nil {
			r.waiting = map[int][]ladder.Event{}
		}
		r.waiting[e.N] = append(r.waiting[e.N], e)
		r.catchUp()
	case ladder.Summarized:
		r.last = normal(e.Results)
		r.flush()
	case ladder.RunEnded:
		r.flush()
	}
	// Heartbeats come from Progress, which also knows when it rewrites a line.
}

// talk shows events to a person who reads standard error while standard output is
// kept for a document.
func (r *renderer) talk(e ladder.Event) {
	plan := r.plan
	r.plan = false
	r.text(e)
	r.plan = plan
}

// catchUp shows what is known of the step that is on screen, and goes on to the
// next ones as steps end.
func (r *renderer) catchUp() {
	next := max(r.shown, 1)
	for {
		events := r.waiting[next]
		delete(r.waiting, next)
		ended := false
		for _, e := range events {
			ended = r.step(e) || ended
		}
		if !ended {
			return
		}
		next++
		r.shown = next
	}
}

// flush shows what is left: steps above one that never ended.
func (r *renderer) flush() {
	for _, n := range slices.Sorted(maps.Keys(r.waiting)) {
		for _, e := range r.waiting[n] {
			r.step(e)
		}
		r.progress.Close()
	}
	r.waiting = nil
	r.progress.Close()
}

// step shows one event and reports whether its step ended with it.
func (r *renderer) step(e ladder.Event) bool {
	switch e.Type {
	case ladder.StepStarted:
		r.progress.Close()
		r.progress.Step(e.N, e.Of, e.Title)
	case ladder.Progressed:
		r.progress.Report()(e.Message)
	case ladder.StepEnded:
		// The rest of a failure follows when everything has ended.
		r.progress.End(ui.MarkOf(e.Verdict), firstLine(e.Message))
		return true
	}
	return false
}

// jsonl writes one event a line.
func (r *renderer) jsonl(e ladder.Event) {
	e.Message = credential.Redact(e.Message)
	e.Results = r.app.resultsAbout(r.gateway, e.Results)
	if len(e.Hints) > 0 {
		e.Hints = r.app.about(r.gateway, e.Hints)
	}
	// Whoever reads a closed pipe is gone; the run itself goes on to its end.
	_ = r.app.Streams.JSONLine(e)
}

// planned shows what will be done and whom it disturbs: as talk before it is
// done, as data when only the plan is wanted.
func (r *renderer) planned(e ladder.Event) {
	var b strings.Builder
	t := r.app.Streams.ErrTerminal
	if r.plan {
		t = r.app.Streams.OutTerminal
	}
	stuck := e.Verdict == string(health.SummaryFailed) || e.Verdict == string(health.SummaryUnknown)
	switch {
	case len(e.Actions) == 0 && stuck:
		b.WriteString("Nothing is done: what is not ok is not Creel's to mend.\n")
	case len(e.Actions) == 0 && !e.Changed:
		b.WriteString("Nothing to do: everything is as wanted.\n")
	case len(e.Actions) == 0:
		b.WriteString("Only the recorded answers change; nothing running does.\n")
		writeWishes(&b, e.Wishes)
	default:
		writeWishes(&b, e.Wishes)
		writePlan(&b, t, e.Actions)
	}
	for _, f := range e.Results {
		if f.Verdict == health.Failed && len(e.Actions) == 0 && r.plan {
			fmt.Fprintf(&b, "%s %s: %s\n", t.Glyph(ui.MarkFailed), describeLayer(f), credential.Redact(f.Message))
		}
		if f.Verdict == health.Unknown && f.BlockedBy == "" {
			fmt.Fprintf(&b, "%s %s: %s\n", t.Glyph(ui.MarkUnknown), describeLayer(f), credential.Redact(f.Message))
		}
	}
	text := strings.TrimRight(b.String(), "\n")
	if r.plan {
		r.app.Streams.Print("%s", text)
		return
	}
	r.app.Streams.Say("%s", text)
}

// writeWishes lists what is wanted otherwise than it is recorded.
func writeWishes(b *strings.Builder, wishes []string) {
	for _, w := range wishes {
		fmt.Fprintf(b, "  %s\n", credential.Redact(w))
	}
}

func writePlan(b *strings.Builder, t ui.Terminal, actions []layer.Action) {
	fmt.Fprintf(b, "%s\n", t.Bold("Plan:"))
	disturbs := false
	for _, action := range actions {
		fmt.Fprintf(b, "  %s %s\n", t.Glyph(ui.MarkInfo), credential.Redact(action.Title))
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
