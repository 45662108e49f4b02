package cli

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
)

// Placeholders are the words that stand for values in printed commands, with a
// value that parses.
func placeholders() map[string]string {
	return map[string]string{"SANDBOX": "claw", "NAME": "claw", "FILE": "file.yaml", "PORT": "18789", "PROGRAM": "program"}
}

var assignment = regexp.MustCompile(`^[A-Z_][A-Z0-9_]*=\S*$`)

// CheckCommand reports why a printed line would not be understood as a command
// line of this program. Lines of other programs are none of its business. It runs
// nothing.
func CheckCommand(line string) error {
	words, err := words(line)
	if err != nil {
		return err
	}
	if len(words) > 0 && words[0] == "env" {
		words = words[1:]
	}
	for len(words) > 0 && assignment.MatchString(words[0]) {
		words = words[1:]
	}
	if len(words) == 0 || words[0] != "creel" {
		return nil
	}
	for i, w := range words {
		if value, ok := placeholders()[w]; ok {
			words[i] = value
		}
	}
	return checkWords(NewRoot(Deps{}), words[1:])
}

func checkWords(root *cobra.Command, args []string) error {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	cmd, rest, err := root.Find(args)
	if err != nil {
		return err
	}
	if cmd.Name() == "help" && cmd.Parent() == root {
		if _, err := helpedBy(root, rest); err != nil {
			return err
		}
		return nil
	}
	if cmd.DisableFlagParsing {
		return nil
	}
	if cmd.IsAdditionalHelpTopicCommand() {
		return fmt.Errorf("%q is no command but a page of help", cmd.CommandPath())
	}
	cmd.InitDefaultHelpFlag()
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
		return err
	}
	return cmd.ValidateRequiredFlags()
}

// words splits a line as a shell would, as far as printed commands need it:
// blanks, single and double quotes, and a comment at the end.
func words(line string) ([]string, error) {
	var list []string
	var word strings.Builder
	inside, quote := false, rune(0)
	end := func() {
		if inside {
			list = append(list, word.String())
		}
		word.Reset()
		inside = false
	}
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, inside = r, true
		case r == ' ' || r == '\t':
			end()
		case r == '#' && !inside:
			return list, nil
		default:
			inside = true
			word.WriteRune(r)
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("a quote does not end in %q", line)
	}
	end()
	return list, nil
}
