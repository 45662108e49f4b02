// Package onboard turns what a user says into a stack that stands: it settles
// what is wanted, shows the plan with its consequences, asks, and walks the
// ladder. Running it again is the resume.
package onboard

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/credential"
	"creel/internal/desired"
	"creel/internal/health"
	"creel/internal/layer"
	"creel/internal/onboard/ladder"
	"creel/internal/state"
)

// Stack is the layers that a document asks for, lowest first.
type Stack struct {
	Layers []layer.Layer
	Close  func() error
}

// Plan is what a run would do.
type Plan struct {
	Changed bool            // the desired state is not the recorded one
	Found   []health.Result // in the order of layers
	Actions []layer.Action  // lowest first
}

// Empty reports that nothing would be done.
func (p Plan) Empty() bool { return !p.Changed && len(p.Actions) == 0 }

// Disturbs lists whom the plan disturbs, without repetition.
func (p Plan) Disturbs() []string {
	var all []string
	for _, a := range p.Actions {
		for _, s := range a.Disturbs {
			if !slices.Contains(all, s) {
				all = append(all, s)
			}
		}
	}
	return all
}

// Options of a run.
type Options struct {
	Gateway  state.Gateway
	Document desired.Document
	Recorded *desired.Document // nil when nothing is recorded
	Key      credential.Secret // the provider's key, if one was given
	// Build makes the layers; it does no I/O.
	Build func(desired.Document, credential.Secret) (Stack, error)
	// PlanOnly inspects and plans, and writes nothing.
	PlanOnly bool
	// Resume insists that there is something to resume.
	Resume bool
	// Consent is asked before anything is touched; nil consents.
	Consent func(ctx context.Context, p Plan) (bool, error)
	Report  ladder.Report
	Command string // for whoever finds the lock held, e.g. "creel onboard"
	// Undo removes a sandbox that this run created, when the run is interrupted.
	Undo func(ctx context.Context, sandbox string) error
	// AfterEntry is called when a journal entry is on disk; nil is fine.
	AfterEntry func(ladder.Entry)
}

// Outcome is what came of a run.
type Outcome struct {
	ladder.Outcome
	Plan     Plan
	Declined bool // consent was asked for and not given
}

// Run makes the stack stand. A run over a stack that stands changes nothing,
// not even a file. *state.Busy when another run holds the gateway's lock.
func Run(ctx context.Context, o Options) (out Outcome, err error) {
	if o.Report == nil {
		o.Report = func(ladder.Event) {}
	}
	began, run := time.Now(), uuid.NewString()
	entries, err := ladder.ReadJournal(o.Gateway.Journal())
	if p, _ := advisory.Of(err); err != nil && (p == nil || p.ID != "journal-corrupt") {
		return out, err
	}
	if o.Resume && len(entries) == 0 && o.Recorded == nil {
		return out, advisory.New("nothing-to-resume", "no earlier run is recorded for gateway "+o.Gateway.Name, nil)
	}
	stack, err := o.Build(o.Document, o.Key)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, stack.Close()) }()
	emit := func(e ladder.Event) {
		e.At, e.Run, e.Elapsed = time.Now().UTC(), run, time.Since(began).Milliseconds()
		o.Report(e)
	}
	emit(ladder.Event{Type: ladder.RunStarted, Of: len(stack.Layers), Message: o.Command})

	out.Run = run
	out.Plan, err = plan(ctx, o, stack)
	if err != nil {
		return out, err
	}
	emit(ladder.Event{Type: ladder.Planned, Actions: out.Plan.Actions, Changed: !out.Plan.Empty(),
		Results: out.Plan.Found, Verdict: string(health.Summarize(out.Plan.Found))})
	if o.PlanOnly {
		out.Results, out.Summary = out.Plan.Found, health.Summarize(out.Plan.Found)
		return out, nil
	}
	if out.Plan.Empty() && health.Summarize(out.Plan.Found) != health.SummaryFailed && health.Summarize(out.Plan.Found) != health.SummaryUnknown {
		out.Results, out.Summary = out.Plan.Found, health.Summarize(out.Plan.Found)
		emit(ladder.Event{Type: ladder.Summarized, Verdict: string(out.Summary), Results: out.Results})
		emit(ladder.Event{Type: ladder.RunEnded, Verdict: string(out.Summary), Message: "nothing to do"})
		return out, nil
	}
	if o.Consent != nil && len(out.Plan.Actions) > 0 {
		agreed, err := o.Consent(ctx, out.Plan)
		if err != nil || !agreed {
			out.Declined = true
			return out, err
		}
	}
	lock, err := state.TryLock(o.Gateway.Lock(), o.Command)
	if err != nil {
		return out, lockProblem(err)
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	if o.Recorded == nil || !o.Recorded.Equal(o.Document) {
		if err := o.Document.Save(o.Gateway.Desired()); err != nil {
			return out, err
		}
	}
	journal, err := ladder.OpenJournal(o.Gateway.Journal(), o.AfterEntry)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, journal.Close()) }()
	for _, m := range resumed(entries, stack.Layers, out.Plan.Found) {
		emit(ladder.Event{Type: ladder.Resumed, Message: m})
	}

	var created []string
	out.Outcome, err = ladder.Walk(ctx, stack.Layers, ladder.Options{Run: run, Journal: journal, Report: o.Report, Acting: func(l layer.Layer, a layer.Action) {
		if a.ID == "create-sandbox" {
			created = append(created, strings.TrimPrefix(l.Subject(), "sandbox/"))
		}
	}})
	if ctx.Err() != nil && o.Undo != nil {
		err = errors.Join(err, undo(ctx, o, created))
	}
	emit(ladder.Event{Type: ladder.RunEnded, Verdict: string(out.Summary), Changed: out.Changed})
	return out, err
}

func plan(ctx context.Context, o Options, stack Stack) (Plan, error) {
	found := ladder.Inspect(ctx, stack.Layers)
	if ctx.Err() != nil {
		return Plan{}, context.Cause(ctx)
	}
	return Plan{
		Changed: o.Recorded == nil || !o.Recorded.Equal(o.Document),
		Found:   found,
		Actions: ladder.Plan(ctx, stack.Layers, found),
	}, nil
}

func undo(ctx context.Context, o Options, created []string) error {
	// The interruption must not keep its own clean-up from running; the budget
	// bounds it, and a second interrupt ends the process.
	ctx, cancel := budget.Context(context.WithoutCancel(ctx), budget.Operation, "undo what the interrupted run created")
	defer cancel()
	var problems []error
	for _, name := range created {
		if err := o.Undo(ctx, name); err != nil {
			problems = append(problems, fmt.Errorf("undo sandbox %s: %w", name, err))
		}
	}
	return errors.Join(problems...)
}

func lockProblem(err error) error {
	var busy *state.Busy
	if errors.As(err, &busy) {
		return advisory.New("gateway-busy", "another command is changing this gateway", err)
	}
	return advisory.New("state-unwritable", "take the gateway's lock", err)
}

// resumed says, for each layer that an earlier run worked on, whether it is
// reused. The words are those that users of earlier tools look for.
func resumed(entries []ladder.Entry, layers []layer.Layer, found []health.Result) []string {
	if len(entries) == 0 {
		return nil
	}
	worked := map[string]bool{}
	for _, e := range entries {
		if e.Kind == ladder.KindOutcome && e.OK {
			worked[e.Subject] = true
		}
	}
	var said []string
	for i, l := range layers {
		good := found[i].Verdict == health.OK
		switch {
		case l.ID() == layer.Host && good:
			said = append(said, "[resume] Skipping preflight")
		case l.ID() == layer.Gateway && good:
			said = append(said, "[resume] Skipping gateway (running)")
		case l.ID() == layer.Gateway && worked[l.Subject()]:
			said = append(said, "[resume] Recorded gateway is unhealthy; "+found[i].Message)
		case l.ID() == layer.Sandbox && good:
			said = append(said, "[resume] Skipping sandbox")
		case l.ID() == layer.Sandbox && found[i].Absent && worked[l.Subject()]:
			said = append(said, "[resume] Recorded sandbox state is unavailable; recreating it.")
		}
	}
	return said
}
