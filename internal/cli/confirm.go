package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"creel/internal/advisory"
	"creel/internal/cli/ui"
	"creel/internal/credential"
	"creel/internal/onboard"
)

func (a *app) prompter() ui.Prompter {
	if a.Prompter != nil {
		return a.Prompter
	}
	return ui.NewPrompter(a.Streams)
}

// confirm asks a yes-or-no question unless yes was given. Without a terminal
// nobody can be asked: that is an error which names --yes. The Enter key means no:
// what is asked about cannot be undone.
func (a *app) confirm(ctx context.Context, question string, yes bool) error {
	return a.ask(ctx, question, yes, false)
}

func (a *app) ask(ctx context.Context, question string, yes, preferred bool) error {
	if yes {
		return nil
	}
	if !a.Streams.Interactive {
		return usage("confirmation-needed", fmt.Sprintf("%q cannot be asked without a terminal; --yes answers it", question), a.again("--yes"))
	}
	agreed, err := a.prompter().Confirm(ctx, question, preferred)
	switch {
	case errors.Is(err, ui.ErrAborted):
		agreed = false
	case err != nil:
		return err
	}
	if !agreed {
		return declined()
	}
	return nil
}

// again is this command line with one more flag, for a hint. A word that a shell
// would read differently is left for the user to repeat.
func (a *app) again(flag string) string {
	words := []string{"creel"}
	for i, word := range a.args {
		if word == "--" {
			return strings.Join(append(append(words, flag), a.args[i:]...), " ")
		}
		if !advisory.IsPlain(word) {
			return strings.Join(append(words, flag), " ")
		}
		words = append(words, word)
	}
	return strings.Join(append(words, flag), " ")
}

func declined() error {
	return advisory.New("not-confirmed", "nothing was changed", nil)
}

// asker lets package onboard ask through ui.
type asker struct{ prompter ui.Prompter }

func (p asker) Select(ctx context.Context, title string, options []onboard.Option, chosen string) (string, error) {
	choices := make([]ui.Choice, len(options))
	for i, o := range options {
		choices[i] = ui.Choice{Value: o.Value, Label: o.Label}
	}
	answer, err := p.prompter.Choose(ctx, title, choices, chosen)
	return answer, left(err)
}

func (p asker) Input(ctx context.Context, title, value string, check func(string) error) (string, error) {
	answer, err := p.prompter.Text(ctx, title, value, check)
	return answer, left(err)
}

func (p asker) Secret(ctx context.Context, title string) (credential.Secret, error) {
	answer, err := p.prompter.Secret(ctx, title)
	return answer, left(err)
}

// left turns a prompt that was left into a decision against the command.
func left(err error) error {
	if errors.Is(err, ui.ErrAborted) {
		return declined()
	}
	return err
}
