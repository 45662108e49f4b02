package ui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/charmbracelet/x/ansi"
	"golang.org/x/term"

	"creel/internal/credential"
)

// screenPrompter asks on a terminal whose lines can be rewritten. A question is wiped
// away when it was answered, and one line with the answer is left.
type screenPrompter struct{ streams Streams }

// picture is what a question looks like at a moment.
type picture struct {
	lines    []string
	row, col int // where the cursor is
}

// run shows a question and hands it each key until press says that it was answered.
func (p screenPrompter) run(ctx context.Context, draw func(width, height int) picture, press func(key) (answered bool)) (err error) {
	keys, err := openKeyboard(ctx, p.streams.In, true)
	if err != nil {
		return asked(err)
	}
	defer func() { err = errors.Join(err, keys.close()) }()
	const pasteMarked, pasteUnmarked = "\x1b[?2004h", "\x1b[?2004l" // xterm: what is pasted is put between marks
	screen := drawing{w: p.streams.Err}
	fmt.Fprint(p.streams.Err, pasteMarked)
	defer func() { fmt.Fprint(p.streams.Err, screen.wipe(), pasteUnmarked) }()
	for {
		width, height := p.size()
		screen.show(draw(width, height), width)
		k, err := readKey(keys.readByte)
		if err != nil {
			return asked(err)
		}
		if k.kind == keyLeave {
			return ErrAborted
		}
		if press(k) {
			return nil
		}
	}
}

// size is the terminal's, as it is now.
func (p screenPrompter) size() (width, height int) {
	if f, ok := p.streams.Err.(fileDescriptor); ok {
		if w, h, err := term.GetSize(int(f.Fd())); err == nil && w > 0 && h > 0 {
			return w, h
		}
	}
	if w := p.streams.ErrTerminal.Width; w > 0 {
		return w, 24
	}
	return 80, 24
}

// drawing is what is on the screen of a question. The cursor stays in it.
type drawing struct {
	w   io.Writer
	row int // of the cursor, counted from the drawing's first line
}

// show puts one picture in the place of another. Each line takes one row, so that it is
// known how far up the first one is.
func (d *drawing) show(p picture, width int) {
	var b strings.Builder
	b.WriteString(d.wipe())
	for i, l := range p.lines {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(ansi.Truncate(fit(l), width-1, ""))
	}
	up(&b, len(p.lines)-1-p.row)
	b.WriteString("\r")
	if p.col > 0 {
		fmt.Fprintf(&b, "\x1b[%dC", p.col)
	}
	fmt.Fprint(d.w, b.String())
	d.row = p.row
}

// wipe goes to where the drawing began and clears all that follows.
func (d *drawing) wipe() string {
	var b strings.Builder
	up(&b, d.row)
	d.row = 0
	return b.String() + "\r\x1b[J"
}

func up(b *strings.Builder, rows int) {
	if rows > 0 {
		fmt.Fprintf(b, "\x1b[%dA", rows)
	}
}

// remember leaves the answer on a screen whose question was wiped away.
func (p screenPrompter) remember(question, answer string) {
	p.streams.Say("%s %s", p.streams.ErrTerminal.Faint(strings.TrimRight(question, "?:")+":"), answer)
}

// heading is a question in front of its answer.
func (p screenPrompter) heading(question string) string {
	if !strings.HasSuffix(question, "?") {
		question += ":"
	}
	return p.streams.ErrTerminal.Bold(question) + " "
}

func (p screenPrompter) Confirm(ctx context.Context, question string, preferred bool) (bool, error) {
	title := p.heading(question) + yesOrNo(preferred) + " "
	yes := preferred
	err := p.run(ctx, func(width, _ int) picture {
		return picture{lines: []string{title}, col: min(ansi.StringWidth(title), width-1)}
	}, func(k key) (ok bool) {
		if k.kind == keyEnter {
			return true
		}
		if k.kind == keyText {
			yes, ok = parseYes(k.text, preferred)
		}
		return ok && strings.TrimSpace(k.text) != ""
	})
	if err != nil {
		return false, err
	}
	p.remember(question, map[bool]string{true: "yes", false: "no"}[yes])
	return yes, nil
}

func (p screenPrompter) Choose(ctx context.Context, question string, choices []Choice, preferred string) (string, error) {
	at := max(0, slices.IndexFunc(choices, func(c Choice) bool { return c.Value == preferred }))
	t := p.streams.ErrTerminal
	err := p.run(ctx, func(_, height int) picture {
		shown := min(len(choices), max(1, height-2))
		from := min(max(0, at-shown/2), len(choices)-shown)
		lines := []string{p.heading(question) + t.Faint("(arrows, Enter)")}
		for i, c := range choices[from : from+shown] {
			if from+i == at {
				lines = append(lines, t.paint(green, "> "+c.label()))
			} else {
				lines = append(lines, "  "+c.label())
			}
		}
		return picture{lines: lines, row: 1 + at - from}
	}, func(k key) bool {
		switch {
		case k.kind == keyEnter:
			return true
		case k.kind == keyUp || k.text == "k":
			at = max(0, at-1)
		case k.kind == keyDown || k.text == "j":
			at = min(len(choices)-1, at+1)
		case k.kind == keyStart:
			at = 0
		case k.kind == keyFinish:
			at = len(choices) - 1
		}
		return false
	})
	if err != nil {
		return "", err
	}
	p.remember(question, choices[at].Value)
	return choices[at].Value, nil
}

func (p screenPrompter) Text(ctx context.Context, question, preferred string, check func(string) error) (string, error) {
	answer, err := p.line(ctx, question, preferred, check, func(l *line, width int) (string, int) { return l.view(width) })
	if err == nil {
		p.remember(question, answer)
	}
	return answer, err
}

func (p screenPrompter) Secret(ctx context.Context, question string) (credential.Secret, error) {
	answer, err := p.line(ctx, question, "", nil, func(l *line, width int) (string, int) {
		stars := line{[]rune(strings.Repeat("*", len(l.text))), l.at}
		return stars.view(width)
	})
	return credential.NewSecret(answer), err
}

// line asks for a line; view shows what was typed.
func (p screenPrompter) line(ctx context.Context, question, preferred string, check func(string) error, view func(l *line, width int) (string, int)) (string, error) {
	edited := newLine(preferred)
	title, wrong, left := p.heading(question), error(nil), false
	err := p.run(ctx, func(width, _ int) picture {
		used := ansi.StringWidth(title)
		shown, cursor := view(&edited, max(1, width-1-used))
		pic := picture{lines: []string{title + shown}, col: min(used+cursor, width-1)}
		if wrong != nil {
			pic.lines = append(pic.lines, "  "+p.streams.ErrTerminal.paint(red, wrong.Error()))
		}
		return pic
	}, func(k key) bool {
		switch {
		case k.kind == keyEnd && len(edited.text) == 0:
			left = true
			return true
		case k.kind == keyEnter:
			wrong = passes(check, string(edited.text))
			return wrong == nil
		}
		edited.press(k)
		return false
	})
	if left && err == nil {
		err = ErrAborted
	}
	return strings.TrimSpace(string(edited.text)), err
}
