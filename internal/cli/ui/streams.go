// Package ui is how Creel talks to a person: streams, terminal detection,
// progress, tables, prompts, errors and redaction. Data goes to standard output,
// talk to standard error. It knows no command and no layer.
package ui

import (
	"creel/internal/credential"
	"creel/internal/printable"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/term"
)

// Streams are the three standard streams with what is known about them.
type Streams struct {
	In  io.Reader
	Out io.Writer // data
	Err io.Writer // talk

	// OutTerminal and ErrTerminal say how to write to Out and Err.
	OutTerminal Terminal
	ErrTerminal Terminal
	// Interactive is set when a person can be asked: In and Err are terminals
	// and this is not a CI job.
	Interactive bool
	// Gateway is the one that a flag named; the next commands are about it. Empty
	// where a command line without that flag means the same.
	Gateway string
	// Sandbox is the one that a command turned out to be about; the next commands name
	// it. Empty where there is none, or more than one.
	Sandbox string
}

// Terminal says what a stream can show. The zero value is a plain file.
type Terminal struct {
	TTY    bool // a terminal of whatever kind
	Smart  bool // lines may be rewritten: a terminal, not "dumb", not in CI
	Colour bool // Smart, and NO_COLOR is not set
	UTF8   bool // the locale can show ✓
	Width  int  // columns, 0 when not known
}

// fileDescriptor is what *os.File offers.
type fileDescriptor interface{ Fd() uintptr }

// NewStreams looks at the three files and the environment (TERM, NO_COLOR, CI,
// LC_ALL, LC_CTYPE, LANG, COLUMNS).
func NewStreams(in, out, err *os.File, getenv func(string) string) Streams {
	s := Streams{In: in, Out: out, Err: err}
	s.OutTerminal = detect(out, getenv)
	s.ErrTerminal = detect(err, getenv)
	s.Interactive = isTerminal(in) && s.ErrTerminal.TTY && !inCI(getenv)
	return s
}

func isTerminal(f fileDescriptor) bool { return term.IsTerminal(int(f.Fd())) }

func detect(f fileDescriptor, getenv func(string) string) Terminal {
	width := 0
	tty := isTerminal(f)
	if tty {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil {
			width = w
		}
	}
	return capabilities(tty, width, getenv)
}

// capabilities decides from the facts; NO_COLOR follows no-color.org: any
// non-empty value counts.
func capabilities(tty bool, width int, getenv func(string) string) Terminal {
	t := Terminal{TTY: tty, Width: width, UTF8: utf8Locale(getenv)}
	if n, err := strconv.Atoi(getenv("COLUMNS")); err == nil && n > 0 && tty {
		t.Width = n
	}
	name := getenv("TERM")
	t.Smart = tty && name != "" && name != "dumb" && !inCI(getenv)
	t.Colour = t.Smart && getenv("NO_COLOR") == ""
	return t
}

func inCI(getenv func(string) string) bool {
	v := strings.ToLower(getenv("CI"))
	return v != "" && v != "false" && v != "0"
}

// utf8Locale follows the precedence of setlocale(3).
func utf8Locale(getenv func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToLower(getenv(name)); v != "" {
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return false
}

// Say writes one line of talk, redacted.
func (s Streams) Say(format string, args ...any) {
	fmt.Fprintln(s.Err, credential.Mask(fit(fmt.Sprintf(format, args...))))
}

// Print writes one line of data.
func (s Streams) Print(format string, args ...any) {
	fmt.Fprintln(s.Out, fit(fmt.Sprintf(format, args...)))
}

// JSON writes v as exactly one indented document with a trailing newline.
func (s Streams) JSON(v any) error { return s.encode(v, "  ") }

// JSONLine writes v as a document on one line.
func (s Streams) JSONLine(v any) error { return s.encode(v, "") }

func (s Streams) encode(v any, indent string) error {
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", indent)
	err := encoder.Encode(v)
	if err == nil {
		_, err = io.WriteString(s.Out, escaped(b.String()))
	}
	if err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}

// escaped writes the control characters in a JSON document that encoding/json leaves
// as they are, all of them in strings, as it does the others.
func escaped(document string) string {
	if !strings.ContainsFunc(document, printable.Control) {
		return document
	}
	var b strings.Builder
	for _, r := range document {
		if printable.Control(r) {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}
