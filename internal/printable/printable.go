// Package printable makes what others wrote fit to be shown: nothing in it drives the
// reader's terminal.
package printable

import (
	"bytes"
	"regexp"
	"strings"
	"unicode/utf8"
)

// sequences are what terminals act upon that is complete (ECMA-48): colours, cursor
// movements, window titles, the clipboard, character sets.
var sequences = regexp.MustCompile(`\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)|\x1b[ -/]+[0-~]`)

// Control reports a character that changes what a terminal does, or the order in
// which it shows the others. Tabs and line feeds do not count.
func Control(r rune) bool {
	switch {
	case r == '\t' || r == '\n':
		return false
	case r < 0x20, r == 0x7f, r >= 0x80 && r < 0xa0:
		return true
	}
	return r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}

// Text takes sequences for terminals out of text, and shows what is left of control
// characters and of bytes that are no text as U+FFFD. Of a sequence without an end
// the rest is shown: it may be the cause that is looked for. Lines stay lines.
func Text(text string) string {
	if utf8.ValidString(text) && !strings.ContainsFunc(text, Control) {
		return text
	}
	text = sequences.ReplaceAllString(text, "")
	text = strings.TrimSuffix(strings.ReplaceAll(text, "\r\n", "\n"), "\r")
	return strings.Map(func(r rune) rune {
		if Control(r) {
			return utf8.RuneError
		}
		return r
	}, text)
}

// Longest is how many bytes of a line without an end are kept before they are handed
// on as one.
const Longest = 64 << 10

// Writer hands on whole lines of what is written to it, each without its end and as
// Text makes it.
type Writer struct {
	line func(string)
	rest []byte
}

// NewWriter makes one that calls line.
func NewWriter(line func(string)) *Writer { return &Writer{line: line} }

// Write implements io.Writer; it never fails.
func (w *Writer) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		n := bytes.IndexByte(w.rest, '\n')
		switch {
		case n >= 0 && n <= Longest:
			w.hand(n, n+1)
		case len(w.rest) > Longest:
			w.hand(Longest, Longest)
		default:
			return len(p), nil
		}
	}
}

// Flush hands on a last line that was not ended.
func (w *Writer) Flush() {
	if len(w.rest) > 0 {
		w.hand(len(w.rest), len(w.rest))
	}
}

func (w *Writer) hand(n, next int) {
	line := Text(string(w.rest[:n]))
	w.rest = w.rest[next:]
	w.line(line)
}
