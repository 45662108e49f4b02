package ui

import (
	"creel/internal/printable"
	"regexp"
	"strings"
)

// Mark is a verdict as a person sees it: a glyph, a word and a colour. The word
// is always there, so that nothing depends on colour or on a font.
type Mark uint8

// The marks.
const (
	MarkUnknown Mark = iota
	MarkOK
	MarkDegraded
	MarkFailed
	MarkInfo
)

// MarkOf turns a verdict's or summary's word into a mark; any other word is
// MarkUnknown.
func MarkOf(word string) Mark {
	switch word {
	case "ok":
		return MarkOK
	case "degraded":
		return MarkDegraded
	case "failed":
		return MarkFailed
	}
	return MarkUnknown
}

type appearance struct{ glyph, ascii, word, colour string }

func (m Mark) appearance() appearance {
	switch m {
	case MarkOK:
		return appearance{"✓", "+", "ok", green}
	case MarkDegraded:
		return appearance{"!", "!", "degraded", yellow}
	case MarkFailed:
		return appearance{"✗", "x", "failed", red}
	case MarkInfo:
		return appearance{"•", "*", "", ""}
	default:
		return appearance{"?", "?", "unknown", yellow}
	}
}

// SGR sequences; the basic eight colours follow the user's own palette.
const (
	bold   = "\x1b[1m"
	faint  = "\x1b[2m"
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	reset  = "\x1b[0m"
)

// paints are the sequences above.
var paints = regexp.MustCompile(`\x1b\[(?:0|1|2|31|32|33)m`)

// fit is printable.Text for text that has been painted: of what reaches a
// terminal by way of others only these colours are left.
func fit(painted string) string {
	var b strings.Builder
	at := 0
	for _, p := range paints.FindAllStringIndex(painted, -1) {
		b.WriteString(printable.Text(painted[at:p[0]]))
		b.WriteString(painted[p[0]:p[1]])
		at = p[1]
	}
	b.WriteString(printable.Text(painted[at:]))
	return b.String()
}

func (t Terminal) paint(colour, s string) string {
	if !t.Colour || colour == "" || s == "" {
		return s
	}
	return colour + s + reset
}

// Bold emphasises s where colours are shown.
func (t Terminal) Bold(s string) string { return t.paint(bold, s) }

// Faint de-emphasises s where colours are shown.
func (t Terminal) Faint(s string) string { return t.paint(faint, s) }

// Glyph is the mark's sign alone.
func (t Terminal) Glyph(m Mark) string {
	a := m.appearance()
	if t.UTF8 {
		return t.paint(a.colour, a.glyph)
	}
	return t.paint(a.colour, a.ascii)
}

// Verdict is the mark's sign and word, e.g. "✓ ok".
func (t Terminal) Verdict(m Mark) string {
	a := m.appearance()
	glyph := a.ascii
	if t.UTF8 {
		glyph = a.glyph
	}
	return t.paint(a.colour, strings.TrimSpace(glyph+" "+a.word))
}
