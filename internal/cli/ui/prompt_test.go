package ui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/term"

	"creel/internal/printable"
)

// person sits at the far end of a pseudo terminal.
type person struct {
	t      *testing.T
	master *os.File
	shown  screen
	seen   chan struct{} // something was shown
}

// sit opens a terminal and returns who sits at it, and the near end.
func sit(t *testing.T) (*person, *os.File) {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Skipf("no pseudo terminal: %v", err)
	}
	if err := pty.Setsize(slave, &pty.Winsize{Rows: 24, Cols: 80}); err != nil {
		t.Fatal(err)
	}
	p := &person{t: t, master: master, seen: make(chan struct{}, 1)}
	done := make(chan struct{})
	go func() { // what is written must be read, or the terminal's buffer fills
		defer close(done)
		buffer := make([]byte, 4096)
		for {
			n, err := master.Read(buffer)
			_, _ = p.shown.Write(buffer[:n])
			select {
			case p.seen <- struct{}{}:
			default:
			}
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { _ = slave.Close(); <-done; _ = master.Close() })
	return p, slave
}

// types sends keys.
func (p *person) types(keys string) {
	if _, err := p.master.WriteString(keys); err != nil {
		p.t.Error(err)
	}
}

// sees waits until the text was shown since the last time, and takes what was shown.
func (p *person) sees(ctx context.Context, text string) string {
	all := ""
	for {
		if all += p.shown.take(); strings.Contains(all, text) {
			return all
		}
		select {
		case <-p.seen:
		case <-ctx.Done():
			p.t.Errorf("%q is not shown, but %q", text, all)
			return all
		}
	}
}

func bounded(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

var providers = []Choice{{Value: "none", Label: "No model"}, {Value: "ollama"}, {Value: "openai"}}

// The key that answers a prompt is the last one that the prompt takes: what comes next
// belongs to the next prompt, also when it came at once. A reader of an earlier prompt
// that was left behind ate it.
func TestEveryPromptGetsItsKeys(t *testing.T) {
	p, slave := sit(t)
	s := Streams{In: slave, Err: slave, ErrTerminal: smart, Interactive: true}
	for round := range 40 {
		ctx := bounded(t, 10*time.Second)
		ahead := round%2 == 1
		typed := make(chan struct{})
		go func() {
			defer close(typed)
			p.sees(ctx, fmt.Sprintf("Model provider %d?", round))
			if ahead {
				p.types("\x1b[B\rllama3.2\rkey\rn")
				return
			}
			p.types("\x1b[B\r")
			p.sees(ctx, "Model?")
			p.types("llama3.2\r")
			p.sees(ctx, "Key?")
			p.types("key\r")
			p.sees(ctx, "Go ahead?")
			p.types("n")
		}()
		prompter := NewPrompter(s)
		provider, err1 := prompter.Choose(ctx, fmt.Sprintf("Model provider %d?", round), providers, "none")
		model, err2 := prompter.Text(ctx, "Model?", "", nil)
		key, err3 := prompter.Secret(ctx, "Key?")
		yes, err4 := prompter.Confirm(ctx, "Go ahead?", true)
		if err := errors.Join(err1, err2, err3, err4); err != nil || provider != "ollama" || model != "llama3.2" || key.Reveal() != "key" || yes {
			t.Fatalf("round %d (typed ahead: %v): %q, %q, %q, %v: %v", round, ahead, provider, model, key.Reveal(), yes, err)
		}
		<-typed
	}
}

// Whoever reads the terminal after a prompt, a child for example, finds what was typed
// for it, and a terminal as it was.
func TestPromptLeavesTheRest(t *testing.T) {
	p, slave := sit(t)
	before, err := term.GetState(int(slave.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	ctx := bounded(t, 20*time.Second)
	for range 20 {
		p.types("name\nfor the child\n")
		answer, err := NewPrompter(Streams{In: slave, Err: slave, ErrTerminal: smart}).Text(ctx, "Name?", "", nil)
		if err != nil || answer != "name" {
			t.Fatalf("%q, %v", answer, err)
		}
		if after, err := term.GetState(int(slave.Fd())); err != nil || *after != *before {
			t.Fatalf("the terminal is left otherwise than it was: %v", err)
		}
		got := make(chan string, 1)
		go func() {
			buffer := make([]byte, 100)
			n, _ := slave.Read(buffer)
			got <- string(buffer[:n])
		}()
		select {
		case line := <-got:
			if line != "for the child\n" {
				t.Fatalf("the child reads %q", line)
			}
		case <-ctx.Done():
			t.Fatal("the child waits for what was typed for it")
		}
	}
}

// However a prompt ends, the terminal is as it was.
func TestPromptGivesTheTerminalBack(t *testing.T) {
	p, slave := sit(t)
	before, err := term.GetState(int(slave.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	ended := errors.New("terminated")
	for name, c := range map[string]struct {
		keys string
		want error
	}{
		"Ctrl-C":          {"abc\x03", ErrAborted},
		"Ctrl-D":          {"\x04", ErrAborted},
		"the end of time": {"", ended},
		"panic":           {"panic\r", nil},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(bounded(t, 10*time.Second))
			go func() {
				p.sees(ctx, "Name, "+name)
				p.types(c.keys)
				if c.keys == "" {
					cancel(ended)
				}
			}()
			func() {
				defer func() {
					if r := recover(); (r != nil) != (name == "panic") {
						t.Error(r)
					}
				}()
				_, err := NewPrompter(Streams{In: slave, Err: slave, ErrTerminal: smart}).Text(ctx, "Name, "+name, "", func(string) error { panic("x") })
				if !errors.Is(err, c.want) {
					t.Errorf("%v, want %v", err, c.want)
				}
			}()
			if after, err := term.GetState(int(slave.Fd())); err != nil || *after != *before {
				t.Errorf("the terminal is left otherwise than it was: %v", err)
			}
		})
	}
}

// A terminal that cannot move its cursor gets the same questions, without a drawing.
func TestPlainPrompts(t *testing.T) {
	p, slave := sit(t)
	ctx := bounded(t, 10*time.Second)
	prompter := NewPrompter(Streams{In: slave, Err: slave, ErrTerminal: Terminal{TTY: true}})
	typed := make(chan struct{})
	go func() {
		defer close(typed)
		for _, turn := range [][2]string{
			{"[1]:", "4\n"}, {"answer with a number from 1 to 3", "2\n"}, {"Model [m]:", "\n"},
			{"Key:", "not shown\r"}, {"Go ahead? [y/N]", "perhaps\n"}, {"answer with y or n", "yes\n"}, {"Left?", "\x04"},
		} {
			if shown := p.sees(ctx, turn[0]); strings.Contains(shown, "not shown") {
				t.Errorf("the secret is shown: %q", shown)
			}
			p.types(turn[1])
		}
	}()
	provider, err1 := prompter.Choose(ctx, "Model provider", providers, "none")
	model, err2 := prompter.Text(ctx, "Model", "m", nil)
	key, err3 := prompter.Secret(ctx, "Key")
	yes, err4 := prompter.Confirm(ctx, "Go ahead?", false)
	if err := errors.Join(err1, err2, err3, err4); err != nil || provider != "ollama" || model != "m" || key.Reveal() != "not shown" || !yes {
		t.Errorf("%q, %q, %q, %v: %v", provider, model, key.Reveal(), yes, err)
	}
	if _, err := prompter.Text(ctx, "Left?", "", nil); !errors.Is(err, ErrAborted) {
		t.Errorf("after Ctrl-D: %v", err)
	}
	<-typed
}

// typedKeys reads keys from bytes; a pause is where no byte comes in time.
func typedKeys(t *testing.T, input string) (keys []key) {
	at := 0
	for {
		k, err := readKey(func(within time.Duration) (byte, error) {
			switch {
			case at == len(input) && within == forever:
				return 0, io.EOF
			case at == len(input):
				return 0, errLate
			case input[at] == '\xff' && within != forever:
				at++
				return 0, errLate
			}
			at++
			return input[at-1], nil
		})
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			return keys
		}
		if k != (key{}) {
			keys = append(keys, k)
		}
	}
}

func TestKeys(t *testing.T) {
	for input, want := range map[string][]key{
		"aé日":                               {{keyText, "a"}, {keyText, "é"}, {keyText, "日"}},
		"\r\n\x1bOM":                        {{kind: keyEnter}, {kind: keyEnter}, {kind: keyEnter}},
		"\x1b[A\x1bOB\x1b[1;5C\x1b[3~":      {{kind: keyUp}, {kind: keyDown}, {kind: keyRight}, {kind: keyDelete}},
		"\x1b\x1b[Dx":                       {{kind: keyLeft}, {keyText, "x"}},
		"\x1b\xffx":                         {{keyText, "x"}},
		"\x1b[[Ax\x1b[?2026;2$yy\x1bfz":     {{keyText, "x"}, {keyText, "y"}, {keyText, "z"}},
		"\x1b[200~a\nb\x1b[Ac \n\x1b[201~d": {{keyText, "a b[Ac"}, {keyText, "d"}},
		"\xc3\xffx\xc3":                     {{keyText, "x"}},
		"\x1b[20":                           nil,
		"\u202e\u009bx":                     {{keyText, "x"}},
	} {
		if diff := cmp.Diff(want, typedKeys(t, input), cmp.AllowUnexported(key{})); diff != "" {
			t.Errorf("%q:\n%s", input, diff)
		}
	}
}

// Whatever is typed, a line holds only what can be printed, and the cursor is in it.
func FuzzKeys(f *testing.F) {
	f.Add("abc\x1b[D\x7f\x17\x1b[200~x\x1b[201~\xc3\xa9", 5)
	f.Fuzz(func(t *testing.T, input string, width int) {
		l := newLine("")
		for _, k := range typedKeys(t, input) {
			l.press(k)
			if l.at < 0 || l.at > len(l.text) || strings.ContainsFunc(string(l.text), printable.Control) {
				t.Fatalf("%q at %d", string(l.text), l.at)
			}
		}
		if shown, column := l.view(width); width > 2 && (ansi.StringWidth(shown) > width || column > width) {
			t.Fatalf("%q, cursor at %d, in %d columns", shown, column, width)
		}
	})
}
