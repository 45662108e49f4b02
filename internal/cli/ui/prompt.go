package ui

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"creel/internal/credential"
)

// Choice is one of several answers.
type Choice struct {
	Value string
	Label string // what a person reads; empty means Value
}

func (c Choice) label() string {
	if c.Label == "" {
		return c.Value
	}
	return c.Label
}

// ErrAborted is the answer of someone who left a prompt.
var ErrAborted = errors.New("the prompt was left")

// Prompter asks a person. It is only used where Streams.Interactive holds.
type Prompter interface {
	// Confirm asks a yes-or-no question; preferred is what the Enter key means.
	Confirm(ctx context.Context, question string, preferred bool) (bool, error)
	// Choose offers answers; preferred is the value that is selected first.
	Choose(ctx context.Context, question string, choices []Choice, preferred string) (string, error)
	// Text asks for a line. check, which may be nil, says why an answer will not do.
	Text(ctx context.Context, question, preferred string, check func(string) error) (string, error)
	// Secret asks for a value that is not shown while it is typed.
	Secret(ctx context.Context, question string) (credential.Secret, error)
}

// NewPrompter asks on the terminal of s: questions go to Err, answers come from In,
// which is a file. Of In it takes no byte more than its questions need.
func NewPrompter(s Streams) Prompter {
	if s.ErrTerminal.Smart {
		return screenPrompter{s}
	}
	return plainPrompter{s} // also for a user of a screen reader: TERM=dumb
}

// asked is an error of asking, whatever it was.
func asked(err error) error {
	if err == nil || errors.Is(err, ErrAborted) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fmt.Errorf("ask: %w", err)
}

// yesOrNo shows which answer the Enter key means.
func yesOrNo(preferred bool) string {
	if preferred {
		return "[Y/n]"
	}
	return "[y/N]"
}

// parseYes reads an answer to a yes-or-no question; Enter alone means preferred.
func parseYes(answer string, preferred bool) (yes, ok bool) {
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "":
		return preferred, true
	case "y", "yes":
		return true, true
	case "n", "no":
		return false, true
	}
	return false, false
}

func passes(check func(string) error, answer string) error {
	if check == nil {
		return nil
	}
	return check(answer)
}
