package server

import (
	"context"
	"maps"
	"sync"
	"time"

	"creel/internal/sandbox"
	"creel/internal/server/feed"
)

// entry is what the daemon knows of one sandbox beside its record.
type entry struct {
	id   string
	name string
	feed *feed.Feed
	wake chan struct{}
	// risen is closed when the sandbox is Ready for the first time under this
	// daemon.
	risen chan struct{}

	binding  sync.Mutex    // held while listeners are bound or closed
	openings chan struct{} // one place a connection that a listener opens

	mu      sync.Mutex
	up      bool // risen is closed
	phase   sandbox.Phase
	message string
	reason  string    // advisory that explains the phase; empty without one
	changed time.Time // of phase or message
	report  *sandbox.State
	// reported is closed, and replaced, with the next report.
	reported chan struct{}
	// loose is since when the supervisor has been alive without a session.
	loose     time.Time
	listeners map[slot]listener
	// asked: a wish came since the last look, so that what failed before it does not
	// count. wishes counts them, from 1: what was decided before the newest is no
	// longer said.
	asked  bool
	wishes uint64
	// interrupt ends the act under way, when what is wanted changed.
	interrupt context.CancelFunc
}

func newEntry(id, name string) *entry {
	return &entry{id: id, name: name, feed: feed.New(), wake: make(chan struct{}, 1), risen: make(chan struct{}), changed: time.Now(), wishes: 1,
		openings: make(chan struct{}, concurrentOpenings), listeners: map[slot]listener{}, reported: make(chan struct{})}
}

// nudge has the sandbox looked at soon.
func (e *entry) nudge() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// overrule ends what is being done for the sandbox and has it looked at anew.
func (e *entry) overrule() {
	e.mu.Lock()
	if e.interrupt != nil {
		e.interrupt()
	}
	e.mu.Unlock()
	e.nudge()
}

// ask notes a new wish.
func (e *entry) ask() {
	e.mu.Lock()
	e.asked = true
	e.wishes++
	e.mu.Unlock()
}

// takeAsked reports whether a wish came since it was called last, and the number
// of the newest.
func (e *entry) takeAsked() (asked bool, wish uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	asked, e.asked = e.asked, false
	return asked, e.wishes
}

// acting derives the context of one act that overrule can end.
func (e *entry) acting(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	e.mu.Lock()
	e.interrupt = cancel
	e.mu.Unlock()
	return ctx, func() {
		e.mu.Lock()
		e.interrupt = nil
		e.mu.Unlock()
		cancel()
	}
}

// view is a consistent copy of what may change.
type view struct {
	Phase     sandbox.Phase
	Message   string
	Reason    string
	Changed   time.Time
	Report    *sandbox.State
	Listeners map[slot]listener
}

func (e *entry) view() view {
	e.mu.Lock()
	defer e.mu.Unlock()
	return view{Phase: e.phase, Message: e.message, Reason: e.reason, Changed: e.changed, Report: e.report, Listeners: maps.Clone(e.listeners)}
}

// bound is a copy of what is known of its listeners.
func (e *entry) bound() map[slot]listener {
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.listeners)
}

// listener is what is known of one.
func (e *entry) listener(s slot) listener {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.listeners[s]
}

func (e *entry) set(s slot, l listener) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.listeners[s] = l
}

func (e *entry) drop(s slot) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.listeners, s)
}

func (e *entry) setReport(s *sandbox.State) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.report = s
	close(e.reported)
	e.reported = make(chan struct{})
}

// awaitReport returns what the supervisor says of its sandbox, at the latest when
// ctx is done: until then nobody knows what runs inside.
func (e *entry) awaitReport(ctx context.Context) (*sandbox.State, error) {
	for {
		e.mu.Lock()
		report, next := e.report, e.reported
		e.mu.Unlock()
		if report != nil {
			return report, nil
		}
		select {
		case <-next:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// connection notes whether a living supervisor is connected and returns for how
// long it has not been.
func (e *entry) connection(alive, connected bool, now time.Time) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	if connected || !alive {
		e.loose = time.Time{}
		return 0
	}
	if e.loose.IsZero() {
		e.loose = now
	}
	return now.Sub(e.loose)
}
