package ui

import (
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// widestText is how wide text is at most: longer lines are hard to read.
const widestText = 100

// Columns is how wide lines of text should be; 0 where that does not matter.
func (t Terminal) Columns() int { return min(t.Width, widestText) }

// Wrap breaks a line between words, so that it fits into width where its words do. A
// width of 0 leaves it as it is.
func Wrap(line string, width int) []string {
	if width <= 0 {
		return []string{line}
	}
	var lines []string
	at, used := "", 0
	for _, word := range strings.Split(line, " ") {
		n := ansi.StringWidth(word)
		switch {
		case at == "" && used == 0:
			at, used = word, n
		case used+1+n <= width:
			at, used = at+" "+word, used+1+n
		default:
			lines = append(lines, at)
			at, used = word, n
		}
	}
	return append(lines, at)
}

// Reflow breaks the paragraphs of a text anew. Lines that begin with a space are a
// table or an example and stay.
func Reflow(text string, width int) string {
	var out, paragraph []string
	flush := func() {
		if len(paragraph) > 0 {
			out = append(out, Wrap(strings.Join(paragraph, " "), width)...)
			paragraph = nil
		}
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if line != "" && line[0] != ' ' {
			paragraph = append(paragraph, line)
			continue
		}
		flush()
		out = append(out, line)
	}
	flush()
	return strings.Join(out, "\n")
}
