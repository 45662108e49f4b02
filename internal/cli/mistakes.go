package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"creel/internal/advisory"
)

// withHelp advises the help of the command that ran, where its command line or its
// variables are mistaken and nothing better is advised.
func withHelp(ran *cobra.Command, err error) error {
	p, explained := advisory.Of(err)
	switch {
	case !explained || len(p.Hints) > 0:
	case p.ID == "usage":
		return usageCause(p.ID, err, helpOf(ran))
	case p.ID == "flag-conflict":
		return usageCause(p.ID, err, helpOf(ran), "creel help environment")
	}
	return err
}

// inWords says what a flag takes, where its library says which function could not
// parse what.
func inWords(err error) error {
	var invalid *pflag.InvalidValueError
	if !errors.As(err, &invalid) {
		return err
	}
	flag := invalid.GetFlag()
	takes := map[string]string{
		"bool": "true or false", "int": "a whole number", "duration": "a duration such as 5s or 2m",
	}[flag.Value.Type()]
	if takes == "" {
		return err
	}
	return fmt.Errorf("--%s takes %s, not %q", flag.Name, takes, invalid.GetValue())
}

// wrongCount says how a command is called, where its library counts arguments. Other
// errors are what they are.
func wrongCount(cmd *cobra.Command, args []string, err error) error {
	for _, counted := range []string{"accepts ", "requires ", "unknown command "} {
		if strings.HasPrefix(err.Error(), counted) && !cmd.HasSubCommands() {
			return fmt.Errorf("%s given, and the command is: %s", howMany(args), called(cmd))
		}
	}
	return err
}

func howMany(args []string) string {
	switch len(args) {
	case 0:
		return "no argument is"
	case 1:
		return fmt.Sprintf("one argument, %q, is", args[0])
	}
	return fmt.Sprintf("%d arguments are", len(args))
}

// called is a command with its arguments as its help names them.
func called(cmd *cobra.Command) string {
	_, arguments, _ := strings.Cut(cmd.Use, " ")
	return strings.TrimSpace(cmd.CommandPath() + " " + arguments)
}
