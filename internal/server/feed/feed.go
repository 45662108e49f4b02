// Package feed is what can be watched of one sandbox: its log lines, its events,
// and that its status changed. It keeps a bounded tail in memory and never waits
// for a reader.
package feed

import (
	"slices"
	"sync"

	openshellv1 "creel/api/openshell/v1"
)

// What a feed keeps.
const (
	MaxLines  = 2000
	MaxBytes  = 1 << 20 // of the kept lines' texts
	MaxEvents = 200
	// maxWaiting is how far a reader may fall behind before it is cut off.
	maxWaiting = 512
)

// Update is one thing that happened; exactly one field is set.
type Update struct {
	Log    *openshellv1.SandboxLogLine
	Event  *openshellv1.PlatformEvent
	Status bool // the status changed: ask for the present one
}

// Feed is safe for concurrent use. The zero value is not usable; see New.
type Feed struct {
	mu      sync.Mutex
	lines   []*openshellv1.SandboxLogLine
	bytes   int
	total   uint32
	seen    map[lineKey]struct{} // of the lines kept
	events  []*openshellv1.PlatformEvent
	readers map[*Subscription]struct{}
	closed  bool
}

// lineKey recognizes a line that a supervisor sends again after a reconnect. A
// restarted supervisor counts from the beginning, so the number alone will not do.
type lineKey struct {
	seq string
	at  int64
}

// New returns an empty feed.
func New() *Feed {
	return &Feed{seen: map[lineKey]struct{}{}, readers: map[*Subscription]struct{}{}}
}

// SequenceField is the log line's field that holds the supervisor's line number.
const SequenceField = "seq"

// AppendLines adds log lines in their order, leaving out what it has already.
func (f *Feed) AppendLines(lines ...*openshellv1.SandboxLogLine) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, line := range lines {
		if line == nil || f.known(line) {
			continue
		}
		f.lines = append(f.lines, line)
		f.bytes += size(line)
		f.total++
		for len(f.lines) > MaxLines || f.bytes > MaxBytes && len(f.lines) > 1 {
			f.forgetOldest()
		}
		f.tell(Update{Log: line})
	}
}

func (f *Feed) known(line *openshellv1.SandboxLogLine) bool {
	seq, numbered := line.GetFields()[SequenceField]
	if !numbered {
		return false
	}
	key := lineKey{seq, line.GetTimestampMs()}
	if _, is := f.seen[key]; is {
		return true
	}
	// A replay may begin before what is kept here: that was shown and forgotten.
	if f.total > uint32(len(f.lines)) && len(f.lines) > 0 && line.GetTimestampMs() < f.lines[0].GetTimestampMs() {
		return true
	}
	f.seen[key] = struct{}{}
	return false
}

func (f *Feed) forgetOldest() {
	old := f.lines[0]
	f.lines[0] = nil
	f.lines = f.lines[1:]
	f.bytes -= size(old)
	delete(f.seen, lineKey{old.GetFields()[SequenceField], old.GetTimestampMs()})
}

func size(l *openshellv1.SandboxLogLine) int { return len(l.GetMessage()) + 64 }

// AppendEvent adds an event.
func (f *Feed) AppendEvent(e *openshellv1.PlatformEvent) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append(f.events, e)
	if len(f.events) > MaxEvents {
		f.events = slices.Delete(f.events, 0, len(f.events)-MaxEvents)
	}
	f.tell(Update{Event: e})
}

// StatusChanged tells readers to ask for the status again.
func (f *Feed) StatusChanged() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tell(Update{Status: true})
}

// Lines returns the kept lines, oldest first, and how many there ever were.
func (f *Feed) Lines() ([]*openshellv1.SandboxLogLine, uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.lines), f.total
}

// Close ends all subscriptions: the sandbox is gone.
func (f *Feed) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for s := range f.readers {
		f.drop(s, false)
	}
}

// Subscription delivers updates from the moment it was made.
type Subscription struct {
	feed    *Feed
	updates chan Update
	lagged  bool // set before updates is closed
}

// Tail is what was there at the moment of a subscription: nothing in it is
// delivered again, and nothing is left out between.
type Tail struct {
	Lines  []*openshellv1.SandboxLogLine
	Events []*openshellv1.PlatformEvent
}

// Subscribe begins a subscription; end it with Cancel.
func (f *Feed) Subscribe() (*Subscription, Tail) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := &Subscription{feed: f, updates: make(chan Update, maxWaiting)}
	if f.closed {
		close(s.updates)
	} else {
		f.readers[s] = struct{}{}
	}
	return s, Tail{Lines: slices.Clone(f.lines), Events: slices.Clone(f.events)}
}

// Updates is closed when the sandbox is gone or the reader fell too far behind;
// Lagged tells which.
func (s *Subscription) Updates() <-chan Update { return s.updates }

// Lagged may be asked once Updates is closed.
func (s *Subscription) Lagged() bool {
	s.feed.mu.Lock()
	defer s.feed.mu.Unlock()
	return s.lagged
}

// Cancel ends the subscription.
func (s *Subscription) Cancel() {
	s.feed.mu.Lock()
	defer s.feed.mu.Unlock()
	s.feed.drop(s, false)
}

func (f *Feed) tell(u Update) {
	for s := range f.readers {
		select {
		case s.updates <- u:
		default:
			f.drop(s, true)
		}
	}
}

func (f *Feed) drop(s *Subscription, lagged bool) {
	if _, is := f.readers[s]; is {
		delete(f.readers, s)
		s.lagged = lagged
		close(s.updates)
	}
}
