// Package advisory is the registry of coded, documented problems. Every failure
// that a user can see names one. It is a leaf: immutable tables, no I/O.
package advisory

import (
	"errors"
	"regexp"
	"slices"
	"strings"
)

// Severity says how much an advisory matters.
type Severity string

// The severities.
const (
	Info    Severity = "info"
	Warning Severity = "warning"
	Error   Severity = "error"
)

// Advisory is a known problem: why it happens and which commands fix it.
type Advisory struct {
	ID       string   // stable kebab-case code
	Severity Severity //
	Layer    string   // the layer it shows in, or "input"
	Title    string   // a few words
	Reason   string   // why, in one or two sentences
	// Commands are runnable next steps. A line that begins with "creel " must
	// parse against the command tree; SANDBOX, FILE, PORT and NAME stand for
	// values.
	Commands  []string
	Blocking  bool     // onboarding cannot go on past it
	DependsOn []string // ids of causes; an effect is folded under a cause that is present
}

// All returns every advisory, sorted by id.
func All() []Advisory {
	var all []Advisory
	for _, t := range [][]Advisory{host, secrets, container, cluster, gateway, service, workload, upgrade, registration, inference, sandbox, dashboard, forward, state, input} {
		all = append(all, t...)
	}
	slices.SortFunc(all, func(a, b Advisory) int { return strings.Compare(a.ID, b.ID) })
	return all
}

// Lookup finds an advisory by its id.
func Lookup(id string) (Advisory, bool) {
	for _, a := range All() {
		if a.ID == id {
			return a, true
		}
	}
	return Advisory{}, false
}

// Problem is an error that carries an advisory. It wraps its cause.
type Problem struct {
	ID     string   // advisory id
	Detail string   // what happened here, one sentence, lower case, no full stop
	Hints  []string // more specific commands than the advisory's own; may be empty
	Cause  error    // may be nil
}

// New makes a Problem. cause may be nil.
func New(id, detail string, cause error, hints ...string) *Problem {
	return &Problem{ID: id, Detail: detail, Cause: cause, Hints: hints}
}

// Error is the detail followed by the cause.
func (p *Problem) Error() string {
	switch {
	case p.Cause == nil:
		return p.Detail
	case p.Detail == "":
		return p.Cause.Error()
	}
	return p.Detail + ": " + p.Cause.Error()
}

// Unwrap returns the cause.
func (p *Problem) Unwrap() error { return p.Cause }

// Commands are the hints, or else the advisory's commands.
func (p *Problem) Commands() []string {
	if len(p.Hints) > 0 {
		return p.Hints
	}
	a, _ := Lookup(p.ID)
	return a.Commands
}

// At says which file the problem is about: it takes the place of FILE in the
// advisory's commands.
func (p *Problem) At(path string) *Problem {
	for _, command := range p.Commands() {
		p.Hints = append(p.Hints, fileWord.ReplaceAllStringFunc(command, func(word string) string {
			return Quote(path + strings.TrimPrefix(word, "FILE"))
		}))
	}
	return p
}

// fileWord is FILE as a word of a command, or with an ending as in FILE.damaged.
var fileWord = regexp.MustCompile(`\bFILE(?:\.[a-z]+)?\b`)

// Of returns the outermost Problem in err's chain.
func Of(err error) (*Problem, bool) {
	var p *Problem
	if errors.As(err, &p) {
		return p, true
	}
	return nil, false
}

// IsPlain reports that a shell reads a word as it is.
func IsPlain(word string) bool {
	return word != "" && strings.Trim(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_./:=,@%+") == ""
}

// QuoteAll makes a command line of words that a user may copy into a shell.
func QuoteAll(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = Quote(w)
	}
	return strings.Join(quoted, " ")
}

// Quote makes one word of a command line that a user may copy into a shell.
func Quote(word string) string {
	if IsPlain(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
