package launch

import (
	"path/filepath"
	"strings"

	"creel/internal/budget"
)

// inherited are the variables that a process of Creel's own gets of its launcher's
// environment, besides the budgets. Everything else stays behind: a provider's key in
// the user's shell is none of its business and would be readable in /proc.
var inherited = []string{"PATH", "HOME", "LANG", "TZ", "CREEL_HOME",
	"XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_CACHE_HOME"}

// Environment is that of a process of Creel's own, with what else it needs. It runs in
// another directory, so relative paths are made absolute.
func Environment(getenv func(string) string, more ...string) []string {
	var env []string
	add := func(name string) {
		v := getenv(name)
		switch {
		case v == "":
			return
		case name == "CREEL_HOME":
			v = absolute(v)
		case name == "KUBECONFIG":
			list := filepath.SplitList(v)
			for i, path := range list {
				if path != "" {
					list[i] = absolute(path)
				}
			}
			v = strings.Join(list, string(filepath.ListSeparator))
		}
		env = append(env, name+"="+v)
	}
	for _, name := range inherited {
		add(name)
	}
	for _, name := range more {
		add(name)
	}
	for _, b := range budget.Table() {
		add(b.Name.Variable())
	}
	return env
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}
