package console

import "sync"

// maxBehind is how many events a page may lag behind before it is disconnected;
// it comes back and gets everything with its hello.
const maxBehind = 256

// viewer is one connected page, and what it has not been sent yet. Pieces of the
// same answer that wait are joined, so a slow page gets fewer and larger ones.
type viewer struct {
	wake chan struct{}

	mu     sync.Mutex
	behind []event
	lost   bool
}

func newViewer() *viewer { return &viewer{wake: make(chan struct{}, 1)} }

// put queues an event; false means that the page lags too far behind.
func (v *viewer) put(e event) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	last := len(v.behind) - 1
	switch {
	case v.lost:
		return false
	case last >= 0 && e.Type == "delta" && v.behind[last].Type == "delta" && v.behind[last].ID == e.ID:
		v.behind[last].Text += e.Text
	case len(v.behind) < maxBehind:
		v.behind = append(v.behind, e)
	default:
		v.behind, v.lost = nil, true
	}
	select {
	case v.wake <- struct{}{}:
	default: // it is woken already
	}
	return !v.lost
}

// take returns what is queued, in order, and whether something had to be dropped.
func (v *viewer) take() ([]event, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	events := v.behind
	v.behind = nil
	return events, v.lost
}
