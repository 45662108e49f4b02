package ui

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"charm.land/huh/v2"

	"creel/internal/credential"
)

// Choice is one of several answers.
type Choice struct {
	Value string
	Label string // what a person reads; empty means Value
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

// NewPrompter asks on the terminal of s: questions go to Err, answers come from
// In.
func NewPrompter(s Streams) Prompter { return terminalPrompter{s} }

type terminalPrompter struct{ streams Streams }

func (p terminalPrompter) run(ctx context.Context, field huh.Field) error {
	form := huh.NewForm(huh.NewGroup(field)).WithInput(p.streams.In).WithOutput(p.streams.Err).WithShowHelp(false)
	// A terminal that cannot move its cursor, or a user of a screen reader, gets
	// plain questions.
	form = form.WithAccessible(!p.streams.ErrTerminal.Smart)
	switch err := form.RunWithContext(ctx); {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, huh.ErrUserAborted):
		return ErrAborted
	default:
		return fmt.Errorf("ask: %w", err)
	}
}

func (p terminalPrompter) Confirm(ctx context.Context, question string, preferred bool) (bool, error) {
	yes := preferred
	if err := p.run(ctx, huh.NewConfirm().Title(question).Affirmative("Yes").Negative("No").Value(&yes)); err != nil {
		return false, err
	}
	p.remember(question, map[bool]string{true: "yes", false: "no"}[yes])
	return yes, nil
}

// remember leaves the answer on a screen whose prompt was wiped away.
func (p terminalPrompter) remember(question, answer string) {
	if p.streams.ErrTerminal.Smart {
		p.streams.Say("%s %s", p.streams.ErrTerminal.Faint(strings.TrimRight(question, "?:")+":"), answer)
	}
}

func (p terminalPrompter) Choose(ctx context.Context, question string, choices []Choice, preferred string) (string, error) {
	options := make([]huh.Option[string], len(choices))
	for i, c := range choices {
		label := c.Label
		if label == "" {
			label = c.Value
		}
		options[i] = huh.NewOption(label, c.Value)
	}
	answer := preferred
	if err := p.run(ctx, huh.NewSelect[string]().Title(question).Options(options...).Value(&answer)); err != nil {
		return "", err
	}
	p.remember(question, answer)
	return answer, nil
}

func (p terminalPrompter) Text(ctx context.Context, question, preferred string, check func(string) error) (string, error) {
	answer := preferred
	field := huh.NewInput().Title(question).Value(&answer)
	if check != nil {
		field = field.Validate(check)
	}
	if err := p.run(ctx, field); err != nil {
		return "", err
	}
	p.remember(question, answer)
	return answer, nil
}

func (p terminalPrompter) Secret(ctx context.Context, question string) (credential.Secret, error) {
	var answer string
	err := p.run(ctx, huh.NewInput().Title(question).EchoMode(huh.EchoModePassword).Value(&answer))
	return credential.NewSecret(answer), err
}
