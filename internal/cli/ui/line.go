package ui

import (
	"slices"
	"unicode"

	"github.com/charmbracelet/x/ansi"
)

// line is a line that is being edited.
type line struct {
	text []rune
	at   int // where the cursor is
}

func newLine(text string) line {
	runes := []rune(text)
	return line{runes, len(runes)}
}

// press changes the line as a key does; a key that means nothing in a line changes
// nothing.
func (l *line) press(k key) {
	switch k.kind {
	case keyText:
		typed := []rune(k.text)
		l.text = slices.Insert(l.text, l.at, typed...)
		l.at += len(typed)
	case keyLeft:
		l.at = max(0, l.at-1)
	case keyRight:
		l.at = min(len(l.text), l.at+1)
	case keyStart:
		l.at = 0
	case keyFinish:
		l.at = len(l.text)
	case keyErase:
		l.cut(max(0, l.at-1), l.at)
	case keyDelete, keyEnd:
		l.cut(l.at, min(len(l.text), l.at+1))
	case keyWord:
		from := l.at
		for from > 0 && unicode.IsSpace(l.text[from-1]) {
			from--
		}
		for from > 0 && !unicode.IsSpace(l.text[from-1]) {
			from--
		}
		l.cut(from, l.at)
	case keyLine:
		l.cut(0, l.at)
	case keyRemains:
		l.cut(l.at, len(l.text))
	}
}

func (l *line) cut(from, to int) {
	l.text, l.at = slices.Delete(l.text, from, to), from
}

// view is the part around the cursor that fits, and the column of the cursor in it.
func (l *line) view(width int) (string, int) {
	from, used := l.at, 0
	for from > 0 {
		if used += ansi.StringWidth(string(l.text[from-1])); used >= width {
			break
		}
		from--
	}
	return ansi.Truncate(string(l.text[from:]), max(width, 1), ""), ansi.StringWidth(string(l.text[from:l.at]))
}
