package ui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"creel/internal/credential"
)

// plainPrompter asks with lines that are never rewritten, and lets the terminal edit
// the answer.
type plainPrompter struct{ streams Streams }

// ask shows a question until accept takes the answer.
func (p plainPrompter) ask(ctx context.Context, question string, accept func(answer string) error) (err error) {
	keys, err := openKeyboard(ctx, p.streams.In, false)
	if err != nil {
		return asked(err)
	}
	defer func() { err = errors.Join(err, keys.close()) }()
	for {
		fmt.Fprint(p.streams.Err, fit(question)+" ")
		answer, err := readLine(keys)
		if err != nil {
			fmt.Fprintln(p.streams.Err)
			return asked(err)
		}
		wrong := accept(strings.TrimSpace(answer))
		if wrong == nil {
			return nil
		}
		p.streams.Say("%s", wrong)
	}
}

// readLine reads a line that the terminal has let the user finish.
func readLine(keys *keyboard) (string, error) {
	var read []byte
	for {
		b, err := keys.readByte(forever)
		switch {
		case errors.Is(err, io.EOF):
			return "", ErrAborted // Ctrl-D
		case err != nil:
			return "", err
		case b == '\n' || b == '\r':
			return string(read), nil
		case len(read) < maxPaste:
			read = append(read, b)
		}
	}
}

func (p plainPrompter) Confirm(ctx context.Context, question string, preferred bool) (yes bool, err error) {
	err = p.ask(ctx, question+" "+yesOrNo(preferred), func(answer string) error {
		var ok bool
		if yes, ok = parseYes(answer, preferred); !ok {
			return errors.New("answer with y or n")
		}
		return nil
	})
	return yes && err == nil, err
}

func (p plainPrompter) Choose(ctx context.Context, question string, choices []Choice, preferred string) (string, error) {
	p.streams.Say("%s", question)
	chosen, usual := preferred, ""
	for i, c := range choices {
		p.streams.Say("%d. %s", i+1, c.label())
		if c.Value == preferred {
			usual = fmt.Sprintf(" [%d]", i+1)
		}
	}
	err := p.ask(ctx, fmt.Sprintf("A number from 1 to %d%s:", len(choices), usual), func(answer string) error {
		if answer == "" && usual != "" {
			return nil
		}
		for i, c := range choices {
			if answer == strconv.Itoa(i+1) || answer == c.Value {
				chosen = c.Value
				return nil
			}
		}
		return fmt.Errorf("answer with a number from 1 to %d", len(choices))
	})
	return chosen, err
}

func (p plainPrompter) Text(ctx context.Context, question, preferred string, check func(string) error) (string, error) {
	title, given := question+":", preferred
	if preferred != "" {
		title = fmt.Sprintf("%s [%s]:", question, preferred)
	}
	err := p.ask(ctx, title, func(answer string) error {
		if given = answer; answer == "" {
			given = preferred
		}
		return passes(check, given)
	})
	return given, err
}

// Secret reads the keys itself, because the terminal would show them.
func (p plainPrompter) Secret(ctx context.Context, question string) (answer credential.Secret, err error) {
	keys, err := openKeyboard(ctx, p.streams.In, true)
	if err != nil {
		return answer, asked(err)
	}
	defer func() {
		err = errors.Join(err, keys.close())
		fmt.Fprintln(p.streams.Err)
	}()
	fmt.Fprint(p.streams.Err, fit(question)+": ")
	typed := newLine("")
	for {
		k, err := readKey(keys.readByte)
		switch {
		case err != nil:
			return answer, asked(err)
		case k.kind == keyLeave || k.kind == keyEnd && len(typed.text) == 0:
			return answer, ErrAborted
		case k.kind == keyEnter:
			return credential.NewSecret(strings.TrimSpace(string(typed.text))), nil
		}
		typed.press(k)
	}
}
