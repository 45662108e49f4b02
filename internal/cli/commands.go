package cli

//go:generate go run creel/internal/cli/docs -dir ../../docs

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"creel/internal/budget"
	"creel/internal/inference"
	"creel/internal/onboard"
)

func isKeyVariable(name string) bool { return slices.Contains(onboard.KeyVariables(), name) }

func (a *app) addCommands(root *cobra.Command) {
	root.AddCommand(
		a.onboardCommand(), a.applyCommand(), a.planCommand(), a.repairCommand(), a.uninstallCommand(),
		a.statusCommand(), a.listCommand(), a.logsCommand(), a.doctorCommand(),
		a.dashboardCommand(), a.forwardCommand(), a.execCommand(), a.connectCommand(), a.startCommand(), a.stopCommand(), a.destroyCommand(),
		a.gatewayCommand(), a.inferenceCommand(),
		a.versionCommand(),
	)
	root.AddCommand(a.hiddenCommands()...)
	root.AddCommand(a.topics()...)
	root.SetHelpCommand(helpCommand())
	a.showHelp(root)
	root.SetCompletionCommandGroupID("other")
}

// environmentTable lists the variables that commands read, with their meaning.
func environmentTable() [][2]string {
	rows := [][2]string{
		{"CREEL_GATEWAY", "name of the gateway (--gateway)"},
		{"CREEL_HOME", "one directory for everything of Creel's, instead of the XDG directories"},
		{"HOME, XDG_CONFIG_HOME, XDG_STATE_HOME, XDG_RUNTIME_DIR", "where Creel's files and sockets lie without CREEL_HOME"},
		{"CREEL_YES, NEMOCLAW_YES", "go ahead without asking (--yes)"},
		{"CREEL_NON_INTERACTIVE, NEMOCLAW_NON_INTERACTIVE", "never ask (--non-interactive)"},
	}
	for _, q := range onboard.Questions() {
		rows = append(rows, [2]string{strings.Join(q.Env, ", "), q.Meaning + " (--" + string(q.Key) + ")"})
	}
	for _, e := range budget.Table() {
		if p := e.Name.Polls(); p.Count != "" {
			rows = append(rows, [2]string{p.Count + ", " + p.Interval, "time limit " + string(e.Name) + ": the one times the other, in seconds"})
		}
	}
	rows = append(rows, [2]string{strings.Join(onboard.KeyVariables(), ", "), "the model provider's key"})
	for _, p := range inference.Providers() {
		if names := slices.DeleteFunc(p.KeyVariables, isKeyVariable); len(names) > 0 && p.Unsupported == "" && p.BaseURL != "" {
			rows = append(rows, [2]string{strings.Join(names, ", "), "key of provider " + p.Name + ", for its own address"})
		}
	}
	return append(rows,
		[2]string{"CREEL_OPENSHELL_GATEWAY_BIN, NEMOCLAW_OPENSHELL_GATEWAY_BIN", "program of runtime openshell; else openshell-gateway where programs usually are"},
		[2]string{"KUBECONFIG", "files that say how a cluster is reached (runtime kubernetes), where none is named"},
		[2]string{"DOCKER_HOST", "container engine of runtimes openshell and k3s"},
		[2]string{"CREEL_BUDGET_…", "time limits (creel help budgets)"},
		[2]string{"NO_COLOR", "no colours"},
		[2]string{"CI", "plain lines, and nothing is asked"},
	)
}
