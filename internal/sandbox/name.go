package sandbox

import (
	"fmt"
	"regexp"
	"slices"
)

// MaxName is the longest sandbox name.
const MaxName = 19

var namePattern = regexp.MustCompile(`^[a-z]([-a-z0-9]*[a-z0-9])?$`)

// Reserved are words that name commands and therefore no sandbox or gateway.
func Reserved() []string {
	return []string{"all", "apply", "backup", "completion", "connect", "dashboard", "debug", "destroy", "doctor",
		"exec", "forward", "gateway", "help", "inference", "list", "logs", "onboard", "plan", "policy", "provider",
		"repair", "restore", "start", "status", "stop", "supervise", "uninstall", "version"}
}

// CheckName reports why a name cannot name a sandbox or a gateway: it must be a DNS label
// of at most 19 characters that starts with a letter, without "--", and not a
// reserved word.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("a name is empty")
	case len(name) > MaxName:
		return fmt.Errorf("name %q has %d characters, at most %d are allowed", name, len(name), MaxName)
	case !namePattern.MatchString(name):
		return fmt.Errorf("name %q must begin with a lower-case letter and hold only lower-case letters, digits and single hyphens, the last not a hyphen", name)
	case regexp.MustCompile(`--`).MatchString(name):
		return fmt.Errorf("name %q must not contain two hyphens in a row", name)
	case slices.Contains(Reserved(), name):
		return fmt.Errorf("name %q is the name of a command", name)
	}
	return nil
}
