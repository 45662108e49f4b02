package bundle

import (
	"fmt"
	"strings"
	"time"

	"creel/internal/advisory"
	"creel/internal/health"
)

// Class is what is the matter with one member. The zero value means that nobody
// looked.
type Class string

// The classes, best first.
const (
	OK          Class = "ok"
	Expiring    Class = "expiring"      // less than a third of its life is left
	NotYetValid Class = "not-yet-valid" // begins more than Skew from now
	Expired     Class = "expired"       // its end has passed
	WrongName   Class = "wrong-name"    // does not cover a name that is needed
	WrongUsage  Class = "wrong-usage"   // not made for what it is used for
	Mismatched  Class = "mismatched"    // its parts do not fit each other, or the CA
	Malformed   Class = "malformed"     // does not parse
	Incomplete  Class = "incomplete"    // a key is missing or empty
	Absent      Class = "absent"        // positively not there
)

// classes in the order of severity; the index is the severity.
func classes() []Class {
	return []Class{OK, Expiring, NotYetValid, Expired, WrongName, WrongUsage, Mismatched, Malformed, Incomplete, Absent}
}

func (c Class) severity() int {
	for i, k := range classes() {
		if k == c {
			return i
		}
	}
	return -1
}

// Good reports whether a gateway works with a member of this class.
func (c Class) Good() bool { return c == OK || c == Expiring }

// Advisory is the id of the advisory for this class; empty for OK.
func (c Class) Advisory() string {
	if c == OK || c == "" {
		return ""
	}
	return "secrets-" + string(c)
}

// Skew is how far in the future a certificate's beginning may lie: its issuer's
// clock may be ahead of ours, and waiting mends that. There is no such grace at
// the end, where waiting mends nothing and handshakes already fail.
const Skew = 5 * time.Minute

// Finding is what Inspect has to say about one member. It holds no key material.
type Finding struct {
	Member      string    `json:"member"`
	Name        string    `json:"name"` // what it is stored under
	Class       Class     `json:"class"`
	Detail      string    `json:"detail,omitempty"`
	Subject     string    `json:"subject,omitempty"`     // of its certificate, RFC 4514
	Names       []string  `json:"names,omitempty"`       // subject alternative names
	NotBefore   time.Time `json:"not_before,omitzero"`   //
	NotAfter    time.Time `json:"not_after,omitzero"`    //
	Fingerprint string    `json:"fingerprint,omitempty"` // SHA-256 of the certificate in hex; the kid of a token key
	// Automatic: mending it needs nobody's consent, because nothing that is in
	// use is lost.
	Automatic bool `json:"automatic"`
	// KeepsKey: mending it keeps its private key and only makes again what
	// follows from it.
	KeepsKey bool `json:"keeps_key,omitempty"`
	// WrongType: the stored object has a type that cannot be changed; writing it
	// means deleting it first.
	WrongType bool `json:"wrong_type,omitempty"`
}

// String is the finding in words, e.g. "server is expired: ended 2026-01-02".
func (f Finding) String() string {
	s := fmt.Sprintf("%s is %s", f.Name, strings.ReplaceAll(string(f.Class), "-", " "))
	if f.Detail != "" {
		s += ": " + f.Detail
	}
	return s
}

// Report is the state of a whole set.
type Report struct {
	Generation Generation      `json:"generation"`
	Layout     Layout          `json:"layout"`
	Findings   []Finding       `json:"findings"`       // in the fixed order of the set
	CAKey      bool            `json:"ca_key_at_hand"` // a leaf can be issued from the CA that is there
	Caveats    []health.Caveat `json:"caveats"`        // true, worth knowing, no failure
}

// Verdict is OK when every member is good, and Unknown for a report about
// nothing.
func (r Report) Verdict() health.Verdict {
	if len(r.Findings) == 0 {
		return health.Unknown
	}
	for _, f := range r.Findings {
		if !f.Class.Good() {
			return health.Failed
		}
	}
	return health.OK
}

// Worst is the first finding of the gravest class; the zero Finding for a report
// about nothing.
func (r Report) Worst() Finding {
	var worst Finding
	for i, f := range r.Findings {
		if i == 0 || f.Class.severity() > worst.Class.severity() {
			worst = f
		}
	}
	return worst
}

// Problem is why no gateway proves itself with the set, with what mends it; nil when
// every member is good.
func (r Report) Problem() error {
	if r.Verdict() == health.OK {
		return nil
	}
	return advisory.New(r.Worst().Class.Advisory(), r.String(), nil, r.Commands()...)
}

// Commands mend a set that is not good. They name consent where nothing less does.
func (r Report) Commands() []string {
	id := r.Worst().Class.Advisory()
	if len(MakePlan(r).Consent()) > 0 && (id == Absent.Advisory() || id == NotYetValid.Advisory()) {
		id = needConsent
	}
	a, _ := advisory.Lookup(id)
	return a.Commands
}

// Absent reports that no member exists: there is nothing to lose.
func (r Report) Absent() bool {
	for _, f := range r.Findings {
		if f.Class != Absent {
			return false
		}
	}
	return len(r.Findings) > 0
}

// Find returns the finding about a member; the zero Finding when there is none.
func (r Report) Find(member string) Finding {
	for _, f := range r.Findings {
		if f.Member == member {
			return f
		}
	}
	return Finding{}
}

// Bad lists the findings that are not good.
func (r Report) Bad() []Finding {
	var bad []Finding
	for _, f := range r.Findings {
		if !f.Class.Good() {
			bad = append(bad, f)
		}
	}
	return bad
}

// String is one sentence for a person.
func (r Report) String() string {
	bad := r.Bad()
	switch {
	case len(r.Findings) == 0:
		return "bootstrap secrets were not inspected"
	case r.Absent():
		return "no bootstrap secret exists yet"
	case len(bad) == 0:
		return fmt.Sprintf("all %d bootstrap secrets are complete, fit each other and are valid", len(r.Findings))
	}
	words := make([]string, len(bad))
	for i, f := range bad {
		words[i] = f.String()
	}
	return strings.Join(words, "; ")
}
