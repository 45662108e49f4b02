package ui

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"

	"creel/internal/advisory"
	"creel/internal/printable"
)

var smart = Terminal{TTY: true, Smart: true, Colour: true, UTF8: true, Width: 40}

func environment(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestCapabilities(t *testing.T) {
	for _, c := range []struct {
		name string
		tty  bool
		env  []string
		want Terminal
	}{
		{"file", false, []string{"TERM", "xterm", "LANG", "C.UTF-8"}, Terminal{UTF8: true, Width: 100}},
		{"terminal", true, []string{"TERM", "xterm"}, Terminal{TTY: true, Smart: true, Colour: true, Width: 100}},
		{"dumb", true, []string{"TERM", "dumb"}, Terminal{TTY: true, Width: 100}},
		{"no TERM", true, nil, Terminal{TTY: true, Width: 100}},
		{"NO_COLOR", true, []string{"TERM", "xterm", "NO_COLOR", "1"}, Terminal{TTY: true, Smart: true, Width: 100}},
		{"CI", true, []string{"TERM", "xterm", "CI", "true"}, Terminal{TTY: true, Width: 100}},
		{"CI off", true, []string{"TERM", "xterm", "CI", "false"}, Terminal{TTY: true, Smart: true, Colour: true, Width: 100}},
		{"COLUMNS", true, []string{"TERM", "xterm", "COLUMNS", "60"}, Terminal{TTY: true, Smart: true, Colour: true, Width: 60}},
		{"LC_ALL beats LANG", true, []string{"TERM", "xterm", "LC_ALL", "C", "LANG", "C.UTF-8"}, Terminal{TTY: true, Smart: true, Colour: true, Width: 100}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, capabilities(c.tty, 100, environment(c.env...))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestNewStreamsOnATerminal(t *testing.T) {
	master, slave, err := pty.Open()
	if err != nil {
		t.Skipf("no pseudo terminal: %v", err)
	}
	defer func() { _, _ = master.Close(), slave.Close() }()
	if err := pty.Setsize(slave, &pty.Winsize{Rows: 24, Cols: 77}); err != nil {
		t.Fatal(err)
	}
	s := NewStreams(slave, slave, slave, environment("TERM", "xterm"))
	if !s.Interactive || s.OutTerminal.Width != 77 || !s.ErrTerminal.Colour {
		t.Errorf("a terminal is %+v", s)
	}
	if s := NewStreams(slave, slave, slave, environment("TERM", "xterm", "CI", "1")); s.Interactive {
		t.Error("a CI job would be asked")
	}
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if s := NewStreams(file, slave, slave, environment("TERM", "xterm")); s.Interactive {
		t.Error("nobody can answer on /dev/null")
	}
}

func TestTable(t *testing.T) {
	table := Table{Indent: "  ", Header: []string{"NAME", "WHAT", "LAST"}}
	table.Row("日本", smart.paint(green, "✓ ok"), "x")
	table.Row("longer name", "plain")
	var b bytes.Buffer
	if _, err := table.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	want := "  NAME         WHAT   LAST\n" +
		"  日本         \x1b[32m✓ ok\x1b[0m   x\n" +
		"  longer name  plain\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

func TestVerdictHasAWordEverywhere(t *testing.T) {
	for mark, want := range map[Mark][2]string{
		MarkOK: {"✓ ok", "+ ok"}, MarkDegraded: {"! degraded", "! degraded"}, MarkFailed: {"✗ failed", "x failed"},
		MarkUnknown: {"? unknown", "? unknown"},
	} {
		if got := (Terminal{UTF8: true}).Verdict(mark); got != want[0] {
			t.Errorf("UTF-8: %q, want %q", got, want[0])
		}
		if got := (Terminal{}).Verdict(mark); got != want[1] {
			t.Errorf("ASCII: %q, want %q", got, want[1])
		}
	}
}

func TestProgressPlain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b screen
		p := NewProgress(Streams{Err: &b})
		p.Step(1, 2, "Gateway")
		p.Wait("starting")
		p.Wait("starting")
		time.Sleep(11 * time.Second)
		synctest.Wait()
		p.Wait("waiting for https://u:pw@h")
		p.End(MarkOK, "it runs")
		p.Step(2, 2, "Sandbox")
		p.End(MarkFailed, "it does not")
		p.Close()
		want := "[1/2] Gateway\n" +
			"  starting...\n" +
			"  still: starting (5 s)\n" +
			"  still: starting (10 s)\n" +
			"  waiting for https://REDACTED@h...\n" +
			"  + it runs (11 s)\n" +
			"[2/2] Sandbox\n" +
			"  x failed it does not\n"
		if diff := cmp.Diff(want, b.take()); diff != "" {
			t.Error(diff)
		}
	})
}

// screen is what a terminal was sent since it was last looked at.
type screen struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *screen) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.b.Reset()
	return s.b.String()
}

func TestProgressSmart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b screen
		p := NewProgress(Streams{Err: &b, ErrTerminal: smart})
		p.Step(1, 1, "Gateway")
		p.Wait("starting")
		time.Sleep(frameEvery)
		synctest.Wait()
		p.Line("a line of its own")
		time.Sleep(8 * frameEvery)
		synctest.Wait()
		b.take()
		time.Sleep(frameEvery)
		synctest.Wait()
		if got, want := b.take(), "\r\x1b[K  ⠋ starting (1 s)"; got != want {
			t.Errorf("after more than a second: %q, want %q", got, want)
		}
		p.Wait("a message that is longer than the terminal is wide")
		live := b.take()
		live = live[strings.LastIndex(live, "\x1b[K")+3:]
		if want := "  ⠋ a message that is longer than the…"; !strings.HasPrefix(live, want[:20]) || len([]rune(live)) > 40 {
			t.Errorf("the live line is not cut to the width: %q", live)
		}
		b.take()
		p.End(MarkOK, "it runs")
		if got, want := b.take(), "\r\x1b[K  \x1b[32m✓\x1b[0m it runs\x1b[2m (1 s)\x1b[0m\n"; got != want {
			t.Errorf("the end is %q, want %q", got, want)
		}
		p.Close()
	})
}

func TestSeconds(t *testing.T) {
	for d, want := range map[time.Duration]string{
		1400 * time.Millisecond: "1 s", 59 * time.Second: "59 s", time.Minute: "1 min 0 s", 80 * time.Second: "1 min 20 s",
	} {
		if got := seconds(d); got != strings.TrimSuffix(want, " 0 s") {
			t.Errorf("seconds(%s) = %q", d, got)
		}
	}
}

func TestProblem(t *testing.T) {
	var b bytes.Buffer
	s := Streams{Err: &b}
	inner := advisory.New("usage", "hidden inside", nil)
	err := fmt.Errorf("start: %w", errors.Join(
		advisory.New("name-invalid", "first", inner),
		advisory.New("no-such-id", "second", nil, "creel list"),
	))
	s.Problem(err)
	first, _ := advisory.Lookup("name-invalid")
	want := "error: start: first: hidden inside\n  second\n" +
		"name-invalid: " + first.Title + "\n  " + first.Reason + "\n" +
		"no-such-id\n" +
		"next:\n  " + first.Commands[0] + "\n  creel list\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
	b.Reset()
	s.Problem(nil)
	if b.Len() > 0 {
		t.Errorf("nothing went wrong, and it says %q", b.String())
	}
	s.Problem(errors.New("dial https://user:canary@host: refused"))
	if strings.Contains(b.String(), "canary") {
		t.Errorf("a secret is printed: %q", b.String())
	}
}

// A next command without the flag would be about another gateway.
func TestNextIsAboutTheGateway(t *testing.T) {
	for command, want := range map[string]string{
		"creel gateway start":                        "creel gateway start --gateway other",
		"creel exec SANDBOX -- sh -c x":              "creel exec SANDBOX --gateway other -- sh -c x",
		"CREEL_BUDGET_PROBE=9s creel status":         "CREEL_BUDGET_PROBE=9s creel status --gateway other",
		"creel onboard --gateway OTHER":              "creel onboard --gateway OTHER",
		"docker start creel":                         "docker start creel",
		"CGO_ENABLED=0 go build ./cmd/creel":         "CGO_ENABLED=0 go build ./cmd/creel",
		"creel gateway secrets repair --gateway one": "creel gateway secrets repair --gateway one",
	} {
		var b bytes.Buffer
		Streams{Err: &b, Gateway: "other"}.Next(command)
		if got := b.String(); got != "next:\n  "+want+"\n" {
			t.Errorf("%q became %q", command, got)
		}
		b.Reset()
		Streams{Err: &b}.Next(command)
		if got := b.String(); got != "next:\n  "+command+"\n" {
			t.Errorf("without a flag %q became %q", command, got)
		}
	}
}

// A next command about one sandbox can be run as it is printed.
func TestNextNamesTheSandbox(t *testing.T) {
	for command, want := range map[string]string{
		"creel logs SANDBOX":                  "creel logs claw",
		"creel exec SANDBOX -- /bin/sh":       "creel exec claw -- /bin/sh",
		"creel dashboard SANDBOX --port PORT": "creel dashboard claw --port PORT",
		"env CREEL_SANDBOX_NAME=x creel list": "env CREEL_SANDBOX_NAME=x creel list",
	} {
		var b bytes.Buffer
		Streams{Err: &b, Sandbox: "claw"}.Next(command)
		if got := b.String(); got != "next:\n  "+want+"\n" {
			t.Errorf("%q became %q", command, got)
		}
	}
}

func TestJSONIsOneDocument(t *testing.T) {
	var b bytes.Buffer
	if err := (Streams{Out: &b}).JSON(map[string]string{"a": "<b>&"}); err != nil {
		t.Fatal(err)
	}
	if want := "{\n  \"a\": \"<b>&\"\n}\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}

func TestScripted(t *testing.T) {
	ctx := context.Background()
	p := &Scripted{Answers: []Answer{{Question: "Go?", Reply: "yes"}, {Reply: "b"}, {Reply: "c"}, {Reply: "bad"}, {Reply: "s"}}}
	if yes, err := p.Confirm(ctx, "Go?", false); !yes || err != nil {
		t.Error(yes, err)
	}
	choices := []Choice{{Value: "a"}, {Value: "b"}}
	if got, err := p.Choose(ctx, "Which?", choices, "a"); got != "b" || err != nil {
		t.Error(got, err)
	}
	if _, err := p.Choose(ctx, "Which?", choices, "a"); err == nil {
		t.Error("an answer that was not offered is accepted")
	}
	if _, err := p.Text(ctx, "What?", "", func(string) error { return errors.New("no") }); err == nil {
		t.Error("an answer that the check refuses is accepted")
	}
	if got, err := p.Secret(ctx, "Key?"); got.Reveal() != "s" || err != nil {
		t.Error(err)
	}
	if _, err := p.Confirm(ctx, "Surprise?", true); err == nil {
		t.Error("a question that nobody expected is answered")
	}
	if diff := cmp.Diff([]string{"Go?", "Which?", "Which?", "What?", "Key?", "Surprise?"}, p.Asked); diff != "" {
		t.Error(diff)
	}
}

// What others wrote drives no terminal on whatever way it gets there; our own colours
// stay.
func TestForeignTextDrivesNoTerminal(t *testing.T) {
	const evil = "x\x1b]0;title\x07\x1b[2J\u009b2Jy"
	var out, talk strings.Builder
	s := Streams{Out: &out, Err: &talk, ErrTerminal: Terminal{Colour: true}}
	s.Print("%s %s", Terminal{Colour: true}.Bold("bold"), evil)
	table := Table{}
	table.Row(evil, Terminal{Colour: true}.Faint(evil))
	if _, err := table.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	s.Say("%s", Terminal{Colour: true}.Bold(evil))
	s.Problem(errors.New(evil))
	s.Next("ls " + evil)
	p := NewProgress(s)
	p.Step(1, 2, evil)
	p.Line(evil)
	p.Wait(evil)
	p.End(MarkFailed, evil)
	all := out.String() + talk.String()
	if strings.Count(all, "x\uFFFD2Jy") != 10 {
		t.Errorf("shown:\n%q", all)
	}
	for _, colour := range []string{bold, faint, red, reset} {
		if !strings.Contains(all, colour) {
			t.Errorf("%q was taken away", colour)
		}
		all = strings.ReplaceAll(all, colour, "")
	}
	if strings.ContainsFunc(all, printable.Control) {
		t.Errorf("left:\n%q", all)
	}
	out.Reset()
	in := map[string]string{"a": evil + "\x7f\u202e"}
	if err := errors.Join(s.JSON(in), s.JSONLine(in)); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsFunc(out.String(), printable.Control) {
		t.Errorf("JSON:\n%q", out.String())
	}
	for d := json.NewDecoder(strings.NewReader(out.String())); d.More(); {
		var back map[string]string
		if err := d.Decode(&back); err != nil || back["a"] != in["a"] {
			t.Errorf("JSON was changed: %q, %v", back, err)
		}
	}
}
