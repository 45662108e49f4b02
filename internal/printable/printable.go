// Package printable makes lines of what other programs wrote fit to be shown: nothing
// in them drives the reader's terminal.
package printable

import (
	"bytes"

	"github.com/charmbracelet/x/ansi"
)

// Line takes colours and other sequences for terminals out of a line, and shows what is
// left of control characters and of bytes that are no text as U+FFFD.
func Line(s string) string {
	clean := []rune(ansi.Strip(s))
	for i, r := range clean {
		if r != '\t' && (r < 0x20 || r == 0x7f || (r >= 0x80 && r < 0xa0)) {
			clean[i] = '\uFFFD'
		}
	}
	return string(clean)
}

// Longest is how many bytes of a line without an end are kept before they are handed
// on as one.
const Longest = 64 << 10

// Writer hands on whole lines of what is written to it, each without its end and as
// Line makes it.
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
	line := string(bytes.TrimSuffix(w.rest[:n], []byte("\r")))
	w.rest = w.rest[next:]
	w.line(Line(line))
}
