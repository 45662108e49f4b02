package server

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Limits on commands (API notes, §2.4).
const (
	maxArguments = 1024
	maxArgument  = 32 << 10
	maxCommand   = 256 << 10
	// maxTotal bounds command and environment; the kernel takes twice that.
	maxTotal = 1 << 20
)

// checkTotal is for a command with its environment, each checked before.
func checkTotal(argv []string, env map[string]string) error {
	total := 0
	for _, a := range argv {
		total += len(a) + 1
	}
	for k, v := range env {
		total += len(k) + len(v) + 2
	}
	if total > maxTotal {
		return fmt.Errorf("command and environment have %d bytes, at most %d are allowed", total, maxTotal)
	}
	return nil
}

func checkCommand(argv []string) error {
	if len(argv) == 0 || argv[0] == "" {
		return errors.New("command is empty")
	}
	if len(argv) > maxArguments {
		return fmt.Errorf("command has %d arguments, at most %d are allowed", len(argv), maxArguments)
	}
	total := 0
	for i, a := range argv {
		if len(a) > maxArgument {
			return fmt.Errorf("argument %d has %d bytes, at most %d are allowed", i, len(a), maxArgument)
		}
		if strings.ContainsRune(a, 0) {
			return fmt.Errorf("argument %d holds a NUL", i)
		}
		total += len(a) + 1
	}
	if total > maxCommand {
		return fmt.Errorf("command has %d bytes, at most %d are allowed", total, maxCommand)
	}
	return nil
}

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func checkEnvironment(env map[string]string) error {
	for k, v := range env {
		if !variableName.MatchString(k) {
			return fmt.Errorf("%q cannot name an environment variable", k)
		}
		if len(v) > maxArgument || strings.ContainsRune(v, 0) {
			return fmt.Errorf("value of environment variable %s is too long or holds a NUL", k)
		}
	}
	return nil
}

// page applies the defaults and limits of lists.
func page(limit, offset uint32) (int, int) {
	const usual, most = 100, 1000
	if limit == 0 {
		limit = usual
	}
	return int(min(limit, most)), int(offset)
}
