package ladder

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"creel/internal/advisory"
	"creel/internal/health"
	"creel/internal/layer"
)

// heartbeatEvery is how often a step that goes on says so.
const heartbeatEvery = 2 * time.Second

// maxRounds bounds how often one layer is mended in one walk: a second action
// may only become visible after the first.
const maxRounds = 3

// Options of a walk.
type Options struct {
	// Run identifies the run in journal and events; empty makes a UUID.
	Run     string
	Journal *Journal // nil records nothing
	Report  Report   // nil reports nothing
	// Acting is told of each action that is about to be done; nil is fine.
	Acting func(layer.Layer, layer.Action)
}

// Outcome is what came of a walk.
type Outcome struct {
	Run     string
	Changed bool            // something was mended
	Results []health.Result // fresh inspections at the end, in the order of layers
	Summary health.Summary
}

// NotMended is the error of a layer that is not ok after mending, or that must
// not be mended.
type NotMended struct {
	Title  string
	Result health.Result
	Cause  error // of the last action; may be nil
}

// Error says which layer and why.
func (e *NotMended) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("%s: %v", e.Title, e.Cause)
	}
	return fmt.Sprintf("%s: %s", e.Title, e.Result.Message)
}

// Unwrap returns the cause; without one a Problem that names the advisory.
func (e *NotMended) Unwrap() error {
	if e.Cause != nil {
		return e.Cause
	}
	return advisory.New(e.Result.Reason, e.Result.Message, nil, e.Result.Hints...)
}

type walk struct {
	Options
	began  time.Time
	layers []layer.Layer
}

// Walk goes up the layers: each is inspected, mended if it is not ok, and
// inspected again; it stops at the first that does not become ok. Unknown is
// never mended. The outcome's results are inspected anew at the end. An error is
// *NotMended, the journal's, or ctx's.
func Walk(ctx context.Context, layers []layer.Layer, opts Options) (out Outcome, err error) {
	if opts.Run == "" {
		opts.Run = uuid.NewString()
	}
	if opts.Report == nil {
		opts.Report = func(Event) {}
	}
	w := &walk{Options: opts, began: time.Now(), layers: layers}
	out.Run = opts.Run
	if err := w.record(Entry{Kind: KindRunStarted}); err != nil {
		return out, err
	}
	for i, l := range layers {
		changed, stepErr := w.step(ctx, i, l)
		out.Changed = out.Changed || changed
		if stepErr != nil {
			err = stepErr
			break
		}
	}
	if ctx.Err() == nil {
		out.Results = Inspect(ctx, layers)
		out.Summary = health.Summarize(out.Results)
		w.emit(Event{Type: Summarized, Verdict: string(out.Summary), Results: out.Results, Elapsed: w.elapsed()})
	}
	end := Entry{Kind: KindRunEnded, OK: err == nil && (out.Summary == health.SummaryOK || out.Summary == health.SummaryDegraded)}
	if err != nil {
		end.Error = reasonOf(err)
	}
	return out, errors.Join(err, w.record(end))
}

// step brings one layer to ok or says why not.
func (w *walk) step(ctx context.Context, i int, l layer.Layer) (changed bool, err error) {
	began := time.Now()
	e := Event{N: i + 1, Of: len(w.layers), Layer: string(l.ID()), Subject: l.Subject(), Title: l.Title()}
	started := e
	started.Type = StepStarted
	w.emit(started)

	found := inspect(ctx, l)
	var cause error
	for round := 0; found.Verdict == health.Failed && round < maxRounds && ctx.Err() == nil; round++ {
		actions := l.Plan(ctx, found)
		if len(actions) == 0 {
			break
		}
		for _, do := range actions {
			if cause = w.mend(ctx, e, l, do, began); cause != nil {
				break
			}
			changed = true
		}
		if cause != nil {
			break
		}
		found = inspect(ctx, l)
	}
	if cause != nil && ctx.Err() == nil {
		found = inspect(ctx, l)
	}
	ended := e
	ended.Type, ended.Message, ended.Changed, ended.Elapsed = StepEnded, found.Message, changed, time.Since(began).Milliseconds()
	ended.Verdict = string(health.Summarize([]health.Result{found}))
	if found.Verdict != health.OK {
		ended.Reason, ended.Hints = found.Reason, found.Hints
	}
	if cause != nil {
		ended.Verdict, ended.Message, ended.Reason = health.Failed.String(), cause.Error(), reasonOf(cause)
	}
	w.emit(ended)
	switch {
	case ctx.Err() != nil:
		return changed, context.Cause(ctx)
	case cause != nil || found.Verdict != health.OK:
		return changed, &NotMended{Title: l.Title(), Result: found, Cause: cause}
	}
	return changed, nil
}

// mend does one action with its intent and outcome in the journal.
func (w *walk) mend(ctx context.Context, step Event, l layer.Layer, do layer.Action, began time.Time) error {
	entry := Entry{Kind: KindIntent, Layer: string(l.ID()), Subject: l.Subject(), Action: do.ID}
	if err := w.record(entry); err != nil {
		return err
	}
	if w.Acting != nil {
		w.Acting(l, do)
	}
	err := w.watched(step, began, func(progress layer.Progress) error {
		progress(do.Title)
		return l.Mend(ctx, do, progress)
	})
	entry.Kind, entry.OK = KindOutcome, err == nil
	if err != nil {
		entry.Error = reasonOf(err)
	}
	return errors.Join(err, w.record(entry))
}

// watched runs work and reports its progress, with a heartbeat while it is silent.
// All events come from this goroutine.
func (w *walk) watched(step Event, began time.Time, work func(layer.Progress) error) error {
	messages, ended := make(chan string, 16), make(chan error, 1)
	go func() {
		err := work(func(m string) { messages <- m })
		close(messages)
		ended <- err
	}()
	beat := time.NewTicker(heartbeatEvery)
	defer beat.Stop()
	last := ""
	say := func(t EventType, message string) {
		e := step
		e.Type, e.Message, e.Elapsed = t, message, time.Since(began).Milliseconds()
		w.emit(e)
	}
	for {
		select {
		case m, more := <-messages:
			if !more {
				return <-ended
			}
			if m != last {
				last = m
				say(Progressed, m)
			}
		case <-beat.C:
			say(Heartbeat, last)
		}
	}
}

func (w *walk) record(e Entry) error {
	if w.Journal == nil {
		return nil
	}
	e.Run = w.Run
	return w.Journal.Append(e)
}

func (w *walk) emit(e Event) {
	e.At, e.Run = time.Now().UTC(), w.Run
	w.Report(e)
}

func (w *walk) elapsed() int64 { return time.Since(w.began).Milliseconds() }

// reasonOf is the advisory's id, for records that must hold no free text.
func reasonOf(err error) string {
	if p, ok := advisory.Of(err); ok {
		return p.ID
	}
	if errors.Is(err, context.Canceled) {
		return "interrupted"
	}
	return "failed"
}
