// Package ladder walks layers: it inspects them from the bottom up, plans what
// mending would do, and mends what is not ok. It records intents and outcomes in
// the journal and reports events; it knows no layer in particular.
package ladder

import (
	"time"

	"creel/internal/health"
	"creel/internal/layer"
)

// EventType says what an event is about.
type EventType string

// The types of events, in the order in which a run produces them.
const (
	RunStarted  EventType = "run-started"
	Planned     EventType = "plan"
	Resumed     EventType = "resume"       // a step of an earlier run is reused or must be done again
	StepStarted EventType = "step-started" // a layer is looked at
	Progressed  EventType = "progress"     // something observed while mending
	Heartbeat   EventType = "heartbeat"    // still at it
	StepEnded   EventType = "step-ended"
	Summarized  EventType = "summary" // fresh inspections at the end
	RunEnded    EventType = "run-ended"
)

// Event is one thing that happened in a run. With --output jsonl each is one
// line; docs/json.md lists the fields.
type Event struct {
	Type    EventType       `json:"type"`
	At      time.Time       `json:"at"`
	Run     string          `json:"run"`                // UUID of the run
	N       int             `json:"n,omitempty"`        // number of the step, from 1
	Of      int             `json:"of,omitempty"`       // number of steps
	Layer   string          `json:"layer,omitempty"`    // layer id
	Subject string          `json:"subject,omitempty"`  // e.g. "sandbox/claw"
	Title   string          `json:"title,omitempty"`    // step heading, e.g. "Gateway"
	Message string          `json:"message,omitempty"`  // one sentence
	Verdict string          `json:"verdict,omitempty"`  // ok, degraded, failed or unknown
	Changed bool            `json:"changed,omitempty"`  // step-ended, run-ended: something was mended
	Elapsed int64           `json:"elapsed_ms"`         // since the run or, for steps, the step began
	Actions []layer.Action  `json:"actions,omitempty"`  // plan
	Wishes  []string        `json:"wishes,omitempty"`   // plan: what is wanted otherwise than it is recorded
	Results []health.Result `json:"results,omitempty"`  // summary
	Reason  string          `json:"reason,omitempty"`   // advisory id when not ok
	Hints   []string        `json:"commands,omitempty"` // runnable next commands when not ok
}

// Report receives events. It is called from one goroutine at a time.
type Report func(Event)
