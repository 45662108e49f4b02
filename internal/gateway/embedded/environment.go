package embedded

import (
	"path/filepath"

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
