package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"creel/internal/cli/ui"
)

// usualWidth is how wide help is where no terminal says.
const usualWidth = 80

// helpWidth is how wide help is.
func (a *app) helpWidth() int {
	if w := a.Streams.OutTerminal.Columns(); w > 0 {
		return w
	}
	return usualWidth
}

// showHelp has the library's help broken between words, at the terminal's width.
func (a *app) showHelp(root *cobra.Command) {
	root.SetUsageTemplate(strings.NewReplacer(
		".FlagUsages ", fmt.Sprintf(".FlagUsagesWrapped %d ", a.helpWidth()),
		`Use "{{.CommandPath}} [command] --help" for more information about a command.`, "More about a command: {{.CommandPath}} COMMAND --help",
	).Replace(root.UsageTemplate()))
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) {
		a.Streams.Print("%s", ui.Reflow(strings.TrimSpace(cmd.Long), a.helpWidth()))
		if cmd.Runnable() || cmd.HasSubCommands() {
			a.Streams.Print("\n%s", strings.TrimRight(cmd.UsageString(), "\n"))
		}
	})
}

// helpCommand shows the help of a command or of a topic. The library's own answers a
// word that is neither with the help of everything, as if it had been asked for.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND…]",
		Short: "Show the help of a command or a topic",
		Long:  "Show the help of a command, or of a topic: budgets, environment, exit-codes.",
		Example: "  creel help onboard\n  creel help gateway status\n" +
			"  creel help environment",
		GroupID: "other",
		Args:    cobra.ArbitraryArgs,
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			about, err := helpedBy(cmd.Root(), args)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var names []cobra.Completion
			for _, c := range about.Commands() {
				if !c.Hidden {
					names = append(names, cobra.CompletionWithDesc(c.Name(), c.Short))
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			about, err := helpedBy(cmd.Root(), args)
			if err != nil {
				return err
			}
			about.InitDefaultHelpFlag() // so that it is in the help
			return about.Help()
		},
	}
}

// helpedBy finds the command or topic that the words lead to.
func helpedBy(root *cobra.Command, words []string) (*cobra.Command, error) {
	at := root
	for _, word := range words {
		i := slices.IndexFunc(at.Commands(), func(c *cobra.Command) bool { return c.Name() == word || c.HasAlias(word) })
		if i < 0 {
			detail := fmt.Sprintf("there is no help about %q", word)
			if at != root {
				detail += fmt.Sprintf(" under %q", at.CommandPath())
			}
			return nil, usage("usage", detail+meant(at, word), helpOf(at))
		}
		at = at.Commands()[i]
	}
	return at, nil
}

// meant names the commands that a mistyped word is close to.
func meant(parent *cobra.Command, word string) string {
	parent.SuggestionsMinimumDistance = 2 // letters to change
	close := parent.SuggestionsFor(word)
	if len(close) == 0 {
		return ""
	}
	return "; did you mean " + strings.Join(close, " or ") + "?"
}

// helpOf is the command line that explains a command.
func helpOf(cmd *cobra.Command) string {
	words := ""
	for c := cmd; c.HasParent(); c = c.Parent() {
		words = " " + c.Name() + words
	}
	return "creel help" + words
}
