package embedded

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"creel/internal/budget"
)

// inherited are the variables that a daemon gets of its launcher's environment,
// besides the budgets. Everything else stays behind: a provider's key in the
// user's shell is none of the daemon's business and would be readable in /proc.
var inherited = []string{"PATH", "HOME", "LANG", "TZ", "CREEL_HOME",
	"XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_CACHE_HOME"}

// scrubbed is the environment of a daemon. A relative CREEL_HOME is made
// absolute, because the daemon runs in another directory.
func scrubbed(getenv func(string) string) []string {
	var env []string
	add := func(name string) {
		v := getenv(name)
		if v == "" {
			return
		}
		if name == "CREEL_HOME" {
			if abs, err := filepath.Abs(v); err == nil {
				v = abs
			}
		}
		env = append(env, name+"="+v)
	}
	for _, name := range inherited {
		add(name)
	}
	for _, b := range budget.Table() {
		add(b.Name.Variable())
	}
	return env
}

// ServiceEnvironment is what a daemon that a service manager starts has to be given
// to find the same directories, and keep to the same budgets, as one that was
// started from here. What the manager or the directories' own rules say is left to
// them: it may be another value after the next boot.
func ServiceEnvironment(getenv func(string) string) []string {
	usual := fmt.Sprintf("XDG_RUNTIME_DIR=/run/user/%d", os.Geteuid())
	return slices.DeleteFunc(scrubbed(getenv), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains([]string{"PATH", "LANG", "TZ"}, name) || v == usual
	})
}
