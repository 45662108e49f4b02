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
		{Use: "budgets", Short: "Every time limit, and how to change it", Long: budgetsPage()},
		{Use: "exit-codes", Short: "What the exit codes mean", Long: exitCodesPage()},
		{Use: "environment", Short: "Environment variables", Long: environmentPage()},
	}
}

func budgetsPage() string {
	t := ui.Table{Indent: "  ", Header: []string{"BUDGET", "DEFAULT", "VARIABLE", "MEANING"}}
	for _, e := range budget.Table() {
		t.Row(string(e.Name), e.Default.String(), e.Name.Variable(), e.Meaning)
	}
	return "Every wait has a named time limit. An error on expiry names the operation and the\n" +
		"budget. A variable with a duration such as 5s or 2m changes one.\n\n" + render(&t)
}

func exitCodesPage() string {
	t := ui.Table{Indent: "  "}
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

func environmentPage() string {
	t := ui.Table{Indent: "  "}
	for _, row := range environmentTable() {
		t.Row(row[0], row[1])
	}
	return "A flag goes before a variable, a variable before what was recorded. The NEMOCLAW_\n" +
		"names are accepted with the same meaning as the CREEL_ names beside them.\n\n" + render(&t)
}

func render(t *ui.Table) string {
	var b strings.Builder
	_, _ = t.WriteTo(&b) // a strings.Builder cannot fail
	return strings.TrimRight(b.String(), "\n")
}
