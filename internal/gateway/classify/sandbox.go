package classify

import (
	"slices"
	"strings"
)

// terminal are the phases that nobody needs to wait in.
var terminal = []string{"Error", "Failed", "CrashLoopBackOff", "ImagePullBackOff", "Evicted"}

// Row is the columns of the first row of `openshell sandbox list` whose first
// column is the name; nil when there is none. claw is not claw-2.
func Row(list, name string) []string {
	if name == "" {
		return nil
	}
	for line := range strings.Lines(Plain(list)) {
		if columns := strings.Fields(line); len(columns) > 0 && columns[0] == name {
			return columns
		}
	}
	return nil
}

// Ready reports whether the list calls the sandbox ready. A sandbox may be called
// like a phase: its name is no column of that kind.
func Ready(list, name string) bool {
	row := Row(list, name)
	if row == nil || slices.Contains(row[1:], "NotReady") {
		return false
	}
	return slices.Contains(row[1:], "Ready") || slices.Contains(row[1:], "Running")
}

// TerminalPhase is the phase that ends waiting for the sandbox at once; empty
// when the list names none.
func TerminalPhase(list, name string) string {
	row := Row(list, name)
	if row == nil {
		return ""
	}
	for _, column := range row[1:] {
		if slices.Contains(terminal, column) {
			return column
		}
	}
	return ""
}
