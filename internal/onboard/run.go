// Package onboard turns what a user says into a stack that stands: it settles
// what is wanted, shows the plan with its consequences, asks, and walks the
// ladder. Running it again is the resume.
package onboard

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"creel/internal/advisory"
	"creel/internal/credential"
	"creel/internal/desired"
	"creel/internal/health"
	"creel/internal/host"
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
	// Consent is asked before anything is touched, and again before an action that
	// disturbs or loses more than the plan said; nil consents.
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
	damaged, _ := advisory.Of(err)
	if err != nil && (damaged == nil || damaged.ID != "journal-corrupt") {
		return out, err
	}
	if o.Resume && len(entries) == 0 && o.Recorded == nil {
		return out, advisory.New("nothing-to-resume", "no earlier run is recorded for gateway "+o.Gateway.Name, nil)
	}
	before := o.Recorded
	if before == nil { // a fresh start over a document that may be there, but must be ours to replace
		if before, err = desired.Recorded(o.Gateway.Desired()); err != nil {
			return out, err
		}
	}
	stack, err := o.Build(o.Document, o.Key)
	if err != nil {
		return out, err
	}
	if stack.Close != nil {
		defer func() { err = errors.Join(err, stack.Close()) }()
	}
	emit := func(e ladder.Event) {
		e.At, e.Run, e.Elapsed = time.Now().UTC(), run, time.Since(began).Milliseconds()
		o.Report(e)
	}
	emit(ladder.Event{Type: ladder.RunStarted, Of: len(stack.Layers), Message: o.Command})
	if damaged != nil {
		emit(ladder.Event{Type: ladder.Resumed, Message: "[resume] The journal is damaged; it is set aside at the next change: " + damaged.Error(), Reason: damaged.ID})
	}

	out.Run = run
	out.Plan, err = plan(ctx, o, stack)
	if err != nil {
		return out, err
	}
	var wishes []string
	if o.Recorded != nil {
		for _, c := range Changes(o.Recorded, o.Document) {
			wishes = append(wishes, c.String())
		}
	}
	emit(ladder.Event{Type: ladder.Planned, Actions: out.Plan.Actions, Changed: !out.Plan.Empty(), Wishes: wishes,
		Results: out.Plan.Found, Verdict: string(health.Summarize(out.Plan.Found))})
	if o.PlanOnly {
		out.Results, out.Summary = out.Plan.Found, health.Summarize(out.Plan.Found)
		return out, nil
	}
	done := func(message string) {
		out.Results, out.Summary = out.Plan.Found, health.Summarize(out.Plan.Found)
		emit(ladder.Event{Type: ladder.Summarized, Verdict: string(out.Summary), Results: out.Results})
		emit(ladder.Event{Type: ladder.RunEnded, Verdict: string(out.Summary), Message: message})
	}
	if s := health.Summarize(out.Plan.Found); out.Plan.Empty() && (s == health.SummaryOK || s == health.SummaryDegraded) {
		done("nothing to do")
		return out, nil
	}
	if i := hopeless(ctx, stack.Layers, out.Plan.Found); i >= 0 {
		// Nobody but the user can mend it; until then nothing is begun.
		done("nothing was touched")
		return out, &ladder.NotMended{Title: stack.Layers[i].Title(), Result: out.Plan.Found[i]}
	}
	if held, holder, err := state.Held(o.Gateway.Lock()); err == nil && held {
		return out, lockProblem(o.Gateway.Lock(), &state.Busy{Path: o.Gateway.Lock(), Holder: holder})
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
		return out, lockProblem(o.Gateway.Lock(), err)
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	if err := unchanged(o.Gateway, before); err != nil {
		return out, err
	}
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
	agreement := &agreement{agreed: out.Plan, consent: o.Consent, show: emit}
	out.Outcome, err = ladder.Walk(ctx, stack.Layers, ladder.Options{Run: run, Journal: journal, Report: o.Report, Agree: agreement.covers, Acting: func(l layer.Layer, a layer.Action) {
		if a.ID == "create-sandbox" {
			created = append(created, strings.TrimPrefix(l.Subject(), "sandbox/"))
		}
	}})
	end := ladder.Event{Type: ladder.RunEnded, Verdict: string(out.Summary), Changed: out.Changed}
	if ctx.Err() != nil {
		end.Verdict, end.Message, end.Reason = health.Unknown.String(), "interrupted", "interrupted"
		if o.Undo != nil && len(created) > 0 {
			emit(ladder.Event{Type: ladder.Progressed, Message: "removing what this run created: sandbox " + strings.Join(created, ", sandbox ")})
			undone := undo(ctx, o, run, journal, created)
			err = errors.Join(err, undone)
			if undone == nil {
				end.Message = "interrupted; what this run created was removed again"
			}
		}
	}
	emit(end)
	return out, err
}

// hopeless is the index of a layer below all sandboxes that no action of its own
// could mend: the machine, or what the gateway's own files say. -1 without one.
func hopeless(ctx context.Context, layers []layer.Layer, found []health.Result) int {
	for i, l := range layers {
		r := found[i]
		switch l.ID() {
		case layer.Host:
			if r.Verdict != health.OK {
				return i
			}
		case layer.Secrets, layer.Gateway:
			if r.Verdict == health.Failed && r.BlockedBy == "" && len(l.Plan(ctx, r)) == 0 {
				return i
			}
		}
	}
	return -1
}

// unchanged refuses to go on when somebody else changed what is wanted between
// this run's reading it and its getting the lock: the plan was made for another
// wish.
func unchanged(g state.Gateway, before *desired.Document) error {
	now, err := desired.Recorded(g.Desired())
	if err != nil {
		return err
	}
	if (now == nil) != (before == nil) || now != nil && !now.Equal(*before) {
		return advisory.New("desired-changed", "the desired state of gateway "+g.Name+" was changed by another command meanwhile", nil)
	}
	return nil
}

func plan(ctx context.Context, o Options, stack Stack) (Plan, error) {
	found := ladder.Inspect(ctx, stack.Layers)
	if ctx.Err() != nil {
		return Plan{}, ctx.Err()
	}
	return Plan{
		Changed: o.Recorded == nil || !o.Recorded.Equal(o.Document),
		Found:   found,
		Actions: ladder.Plan(ctx, stack.Layers, found),
	}, nil
}

func lockProblem(path string, err error) error {
	var busy *state.Busy
	if errors.As(err, &busy) {
		return advisory.New("gateway-busy", "another command is changing this gateway", err)
	}
	explained := host.Explain(err, path)
	if _, ok := advisory.Of(explained); ok {
		return explained
	}
	return advisory.New("state-unwritable", "take the gateway's lock", err)
}
