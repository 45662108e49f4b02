package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"creel/internal/budget"
	"creel/internal/cli/ui"
)

// topics are pages of help that are no commands.
func (a *app) topics() []*cobra.Command {
	return []*cobra.Command{
		{Use: "budgets", Short: "Every time limit, and how to change it", Long: budgetsPage(a.helpWidth())},
		{Use: "exit-codes", Short: "What the exit codes mean", Long: exitCodesPage(a.helpWidth())},
		{Use: "environment", Short: "Environment variables", Long: environmentPage(a.helpWidth())},
	}
}

func budgetsPage(width int) string {
	t := ui.Table{Indent: "  ", Width: width, Header: []string{"VARIABLE", "DEFAULT", "MEANING"}}
	for _, e := range budget.Table() {
		t.Row(e.Name.Variable(), e.Default.String(), e.Meaning)
	}
	return ui.Reflow("Every wait has a named time limit. An error on expiry names the operation and the "+
		"budget: gateway-start is changed by CREEL_BUDGET_GATEWAY_START with a duration such as 5s or 2m.", width) + "\n\n" + render(&t)
}

func exitCodesPage(width int) string {
	t := ui.Table{Indent: "  ", Width: width}
	for _, row := range [][2]string{
		{"0", "ok"},
		{"1", "failed"},
		{"2", "usage: a flag, argument, variable or file is not right; nothing was done"},
		{"3", "degraded: it works, and there is something you should know"},
		{"4", "unknown: it could not be determined"},
		{"5", "busy: another command is changing this gateway"},
		{"130", "interrupted"},
	} {
		t.Row(row[0], row[1])
	}
	return "exec and connect return the exit code of the command that ran. All others:\n\n" + render(&t)
}

// environmentPage has a line for each variable, with the meaning beside the first of
// those that mean the same.
func environmentPage(width int) string {
	rows := environmentTable()
	widest := 0
	for _, row := range rows {
		for name := range strings.SplitSeq(row[0], " ") {
			widest = max(widest, len(name))
		}
	}
	t := ui.Table{Indent: "  "}
	for _, row := range rows {
		names, meaning := strings.Split(row[0], " "), ui.Wrap(row[1], width-len("  ")-widest-len("  "))
		for i := range max(len(names), len(meaning)) {
			t.Row(at(names, i), at(meaning, i))
		}
	}
	return ui.Reflow("A flag goes before a variable, a variable before what was recorded. The NEMOCLAW_ "+
		"names are accepted with the same meaning as the CREEL_ names above them.", width) + "\n\n" + render(&t)
}

// at is the line of that number, or an empty one.
func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return ""
}

func render(t *ui.Table) string {
	var b strings.Builder
	_, _ = t.WriteTo(&b) // a strings.Builder cannot fail
	return strings.TrimRight(b.String(), "\n")
}
