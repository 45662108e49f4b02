package ladder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
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
	// Agree is asked before each action; an error keeps it from being done and
	// ends the walk. nil agrees.
	Agree func(ctx context.Context, l layer.Layer, do layer.Action) error
	// Acting is told of each action that is about to be done; nil is fine. It is
	// called from one goroutine at a time.
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

	mu      sync.Mutex // guards Report, Acting, and what follows
	notOK   []layer.Layer
	changed bool
}

// atOnce bounds how many sandboxes are mended at the same time.
const atOnce = 8

// Walk goes up the layers: each is inspected, mended if it is not ok, and
// inspected again. It stops at the first that does not become ok, except that
// sandboxes do not wait for one another, and that a provider or a registration
// that is merely unknown stops nobody. Unknown is never mended. The outcome's
// results are inspected anew at the end. An error is *NotMended (several are
// joined), the journal's, what Agree said, or ctx's.
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
	err = w.climbAll(ctx)
	out.Changed = w.changed
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

// climbAll walks the gateway's own layers and then all sandboxes side by side.
func (w *walk) climbAll(ctx context.Context) error {
	var order []string
	chains := map[string][]int{}
	for i, l := range w.layers {
		s := scope(l)
		if _, seen := chains[s]; !seen && s != "" {
			order = append(order, s)
		}
		chains[s] = append(chains[s], i)
	}
	goOn, err := w.climb(ctx, chains[""])
	if !goOn {
		return err
	}
	errs := make([]error, len(order))
	slots := make(chan struct{}, atOnce)
	var wait sync.WaitGroup
	for i, name := range order {
		wait.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			_, errs[i] = w.climb(ctx, chains[name])
		})
	}
	wait.Wait()
	if ctx.Err() != nil {
		return interrupted(ctx)
	}
	return errors.Join(append([]error{err}, errs...)...)
}

// climb walks layers, lowest first. goOn is false when nothing above them may be
// touched.
func (w *walk) climb(ctx context.Context, steps []int) (goOn bool, err error) {
	for _, i := range steps {
		l := w.layers[i]
		if w.standsOnNotOK(l) {
			continue
		}
		stepErr := w.step(ctx, i, l)
		if stepErr == nil {
			continue
		}
		var notMended *NotMended
		if !beside(w.layers, i) || !errors.As(stepErr, &notMended) || notMended.Cause != nil || notMended.Result.Verdict != health.Unknown {
			return false, errors.Join(err, stepErr)
		}
		err = errors.Join(err, stepErr)
		w.mu.Lock()
		w.notOK = append(w.notOK, l)
		w.mu.Unlock()
	}
	return true, err
}

func (w *walk) standsOnNotOK(l layer.Layer) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.notOK, func(lower layer.Layer) bool { return standsOn(l, lower) })
}

// step brings one layer to ok or says why not.
func (w *walk) step(ctx context.Context, i int, l layer.Layer) error {
	if ctx.Err() != nil {
		return interrupted(ctx)
	}
	began := time.Now()
	e := Event{N: i + 1, Of: len(w.layers), Layer: string(l.ID()), Subject: l.Subject(), Title: l.Title()}
	started := e
	started.Type = StepStarted
	w.emit(started)

	found := w.look(ctx, e, l, began)
	changed := false
	var cause error
	var before []string
	for round := 0; found.Verdict == health.Failed && round < maxRounds && ctx.Err() == nil; round++ {
		actions := l.Plan(ctx, found)
		ids := identify(found, actions)
		if len(actions) == 0 || slices.Equal(ids, before) {
			break // nothing can be done, or it was done and did not help
		}
		before = ids
		for _, do := range actions {
			if cause = w.mend(ctx, e, l, do, began); cause != nil {
				break
			}
			changed = true
		}
		if ctx.Err() == nil {
			found = w.look(ctx, e, l, began)
		}
		if cause != nil {
			break
		}
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
	w.mu.Lock()
	w.changed = w.changed || changed
	w.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return interrupted(ctx)
	case cause != nil || found.Verdict != health.OK:
		return &NotMended{Title: l.Title(), Result: found, Cause: cause}
	}
	return nil
}

// identify tells a round of mending from the one before.
func identify(found health.Result, actions []layer.Action) []string {
	ids := []string{found.Reason}
	for _, a := range actions {
		ids = append(ids, a.ID)
	}
	return ids
}

// look inspects a layer; a long look is heard of.
func (w *walk) look(ctx context.Context, step Event, l layer.Layer, began time.Time) (found health.Result) {
	_ = w.watched(step, began, func(layer.Progress) error {
		found = inspect(ctx, l)
		return nil
	})
	return found
}

// mend does one action with its intent and outcome in the journal.
func (w *walk) mend(ctx context.Context, step Event, l layer.Layer, do layer.Action, began time.Time) error {
	if w.Agree != nil {
		if err := w.Agree(ctx, l, do); err != nil {
			return err
		}
	}
	entry := Entry{Kind: KindIntent, Layer: string(l.ID()), Subject: l.Subject(), Action: do.ID}
	if err := w.record(entry); err != nil {
		return err
	}
	if w.Acting != nil {
		w.mu.Lock()
		w.Acting(l, do)
		w.mu.Unlock()
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

// watched runs work and reports its progress, with a heartbeat while it goes on.
// Progress that comes after work has returned is dropped.
func (w *walk) watched(step Event, began time.Time, work func(layer.Progress) error) error {
	messages, ended := make(chan string), make(chan struct{})
	var err error
	go func() {
		defer close(ended)
		err = work(func(m string) {
			select {
			case messages <- m:
			case <-ended:
			}
		})
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
		case m := <-messages:
			if m != last {
				last = m
				say(Progressed, m)
			}
		case <-beat.C:
			say(Heartbeat, last)
		case <-ended:
			return err
		}
	}
}

// interrupted is the error of a walk whose context ended. It is always
// context.Canceled or context.DeadlineExceeded, and says what ended it when that
// is known.
func interrupted(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if cause == nil || errors.Is(cause, err) {
		return err
	}
	return fmt.Errorf("%w: %w", err, cause)
}

func (w *walk) record(e Entry) error {
	if w.Journal == nil {
		return nil
	}
	e.Run = w.Run
	return w.Journal.Append(e)
}

func (w *walk) emit(e Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
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
