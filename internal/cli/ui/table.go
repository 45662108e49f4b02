package ui

import (
	"io"
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// Table prints rows in columns aligned by what a terminal shows, not by bytes.
// Columns are separated by two spaces; the last one is not padded.
type Table struct {
	Indent string
	Header []string // empty: none
	// Width is the terminal's: what does not fit of the last column goes on below
	// itself. 0 is as wide as it takes.
	Width int
	rows  [][]string
}

// leastWrapped is the narrowest last column that is worth wrapping.
const leastWrapped = 24

// Row adds one row.
func (t *Table) Row(cells ...string) {
	row := make([]string, len(cells))
	for i, cell := range cells {
		row[i] = fit(cell)
	}
	t.rows = append(t.rows, row)
}

// WriteTo implements io.WriterTo.
func (t *Table) WriteTo(w io.Writer) (int64, error) {
	rows := t.rows
	if len(t.Header) > 0 {
		rows = append([][]string{t.Header}, rows...)
	}
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], ansi.StringWidth(cell))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		line := t.Indent
		for i, cell := range row {
			if room := t.Width - ansi.StringWidth(line); i == len(row)-1 && i > 0 && room >= leastWrapped {
				cell = strings.ReplaceAll(ansi.Wrap(cell, room, ""), "\n", "\n"+strings.Repeat(" ", ansi.StringWidth(line)))
			}
			line += cell
			if i < len(row)-1 {
				line += strings.Repeat(" ", widths[i]-ansi.StringWidth(cell)+2)
			}
		}
		b.WriteString(strings.TrimRight(line, " "))
		b.WriteByte('\n')
	}
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}
