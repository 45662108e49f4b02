package credential

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// sequences are what terminals act upon that is complete: colours, cursor movements,
// window titles, the clipboard.
var sequences = regexp.MustCompile(`\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)`)

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

// Printable takes sequences for terminals out of text that somebody else may have
// written, and shows what is left of control characters and of bytes that are no
// text as U+FFFD: no message may drive the reader's terminal. Lines stay lines.
func Printable(text string) string {
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
