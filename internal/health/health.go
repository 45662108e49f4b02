// Package health holds the three-valued verdict that every observation in Creel
// ends in. It is a leaf: it imports nothing that could do I/O.
package health

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Verdict is the outcome of looking at something. The zero value is Unknown, so
// a value that nobody set is never mistaken for health.
type Verdict uint8

// The three verdicts.
const (
	Unknown Verdict = iota
	OK
	Failed
)

// String is "unknown", "ok" or "failed".
func (v Verdict) String() string {
	switch v {
	case OK:
		return "ok"
	case Failed:
		return "failed"
	default:
		return "unknown"
	}
}

// ParseVerdict is the inverse of String; anything else is an error and Unknown.
func ParseVerdict(s string) (Verdict, error) {
	switch s {
	case "ok":
		return OK, nil
	case "failed":
		return Failed, nil
	case "unknown":
		return Unknown, nil
	}
	return Unknown, fmt.Errorf("verdict %q is none of ok, failed, unknown", s)
}

// MarshalJSON writes the word.
func (v Verdict) MarshalJSON() ([]byte, error) { return json.Marshal(v.String()) }

// UnmarshalJSON reads the word.
func (v *Verdict) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	p, err := ParseVerdict(s)
	if err != nil {
		return err
	}
	*v = p
	return nil
}

// Evidence is one probe and its answer.
type Evidence struct {
	Probe   string  `json:"probe"`   // what was asked, e.g. "tcp 127.0.0.1:17670"
	Answer  string  `json:"answer"`  // what came back, one line
	Verdict Verdict `json:"verdict"` // what the answer means
	// Took is the duration of the probe in microseconds.
	Took Micros `json:"took_us"`
}

// notAsked begins the answer of a probe that was not asked because an earlier one
// did not hold.
const notAsked = "not asked: "

// NotAsked is the evidence of a probe that was not asked, and why.
func NotAsked(probe, why string) Evidence {
	return Evidence{Probe: probe, Answer: notAsked + why, Verdict: Unknown}
}

// Asked reports whether the probe was asked.
func (e Evidence) Asked() bool {
	return e.Verdict != Unknown || !strings.HasPrefix(e.Answer, notAsked)
}

// Broken is the evidence because of which a chain did not hold: the first that is not
// OK, or the one that says what message says. ok is false when all held.
func Broken(chain []Evidence, message string) (e Evidence, ok bool) {
	for _, one := range chain {
		switch {
		case one.Verdict == OK || !one.Asked():
		case one.Answer == message:
			return one, true
		case !ok:
			e, ok = one, true
		}
	}
	return e, ok
}

// Micros is a duration that is written as whole microseconds in JSON.
type Micros time.Duration

// MarshalJSON writes whole microseconds.
func (m Micros) MarshalJSON() ([]byte, error) {
	return json.Marshal(time.Duration(m).Microseconds())
}

// UnmarshalJSON reads whole microseconds.
func (m *Micros) UnmarshalJSON(b []byte) error {
	var us int64
	if err := json.Unmarshal(b, &us); err != nil {
		return err
	}
	*m = Micros(time.Duration(us) * time.Microsecond)
	return nil
}

// Caveat is something true that the user should know about a layer that holds:
// a protection that is off, an exposure, a value about to expire. A stack whose
// layers all hold but that has a caveat is degraded, not ok.
type Caveat struct {
	Advisory string `json:"advisory"` // id in the advisory registry
	Message  string `json:"message"`
}

// Result is what one inspection found out.
type Result struct {
	Subject  string     `json:"subject"`  // "gateway", "sandbox/demo"
	Layer    string     `json:"layer"`    // id of the layer, e.g. "gateway"
	Verdict  Verdict    `json:"verdict"`  //
	Reason   string     `json:"reason"`   // stable code; an advisory id when not ok
	Message  string     `json:"message"`  // one sentence for a person
	Evidence []Evidence `json:"evidence"` // in the order asked
	Hints    []string   `json:"hints"`    // runnable next commands
	Caveats  []Caveat   `json:"caveats"`  // only when Verdict is OK
	At       time.Time  `json:"at"`
	// Absent is positive proof that the subject does not exist (as opposed to
	// existing and being broken). Only this permits creation.
	Absent bool `json:"absent"`
	// BlockedBy names the subject of a lower layer that is not ok and because of
	// which this one could not be asked.
	BlockedBy string `json:"blocked_by,omitempty"`
}

// Summary is the verdict over many results.
type Summary string

// The four summaries, in the order of the exit codes 0, 3, 1, 4.
const (
	SummaryOK       Summary = "ok"
	SummaryDegraded Summary = "degraded"
	SummaryFailed   Summary = "failed"
	SummaryUnknown  Summary = "unknown"
)

// Summarize reduces results: any failure is failed; otherwise anything unknown
// is unknown; otherwise any caveat is degraded. No results at all is unknown.
func Summarize(results []Result) Summary {
	if len(results) == 0 {
		return SummaryUnknown
	}
	sum := SummaryOK
	for _, r := range results {
		switch {
		case r.Verdict == Failed:
			return SummaryFailed
		case r.Verdict == Unknown:
			sum = SummaryUnknown
		case len(r.Caveats) > 0 && sum == SummaryOK:
			sum = SummaryDegraded
		}
	}
	return sum
}
