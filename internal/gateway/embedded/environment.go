package embedded

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"creel/internal/gateway/launch"
)

// ServiceEnvironment is what a daemon that a service manager starts has to be given
// to find the same directories, and keep to the same budgets, as one that was
// started from here. What the manager or the directories' own rules say is left to
// them: it may be another value after the next boot.
func ServiceEnvironment(getenv func(string) string) []string {
	usual := fmt.Sprintf("XDG_RUNTIME_DIR=/run/user/%d", os.Geteuid())
	return slices.DeleteFunc(launch.Environment(getenv), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains([]string{"PATH", "LANG", "TZ"}, name) || v == usual
	})
}
