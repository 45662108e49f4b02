package supervisor

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"creel/internal/agent"
	"creel/internal/dashboard"
	"creel/internal/sandbox"
	"creel/internal/supervisor/box"
	"creel/internal/supervisor/confine"
)

// searchPath is PATH inside.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// dashboardToken is given to the agent alone.
const dashboardToken = "CREEL_DASHBOARD_TOKEN"

// dashboardOrigins are, separated by commas, those of the pages that may connect to
// an agent which judges that by itself.
const dashboardOrigins = "CREEL_DASHBOARD_ORIGINS"

// environment is what programs inside are started with. forMain adds what only the
// main process gets; addresses are those by which this machine is known. What the user added may not change what Creel says of
// itself or where models are reached.
func environment(l sandbox.Launch, b box.Box, shell string, addresses []string, forMain bool) ([]string, error) {
	confinement, err := json.Marshal(b.Confinement())
	if err != nil {
		return nil, fmt.Errorf("encode confinement: %w", err)
	}
	all := map[string]string{
		"PATH": searchPath, "LANG": "C.UTF-8", "TERM": "xterm-256color", "SHELL": shell,
		"HOME": b.Workspace(), "USER": "sandbox", "LOGNAME": "sandbox",
	}
	for name, value := range l.Spec.Environment {
		if !strings.HasPrefix(name, "CREEL_") && !strings.HasPrefix(name, "OPENAI_") {
			all[name] = value
		}
	}
	all["OPENAI_BASE_URL"] = "http://127.0.0.1:" + strconv.Itoa(b.RelayPort()) + "/v1"
	all["OPENAI_API_KEY"] = l.RelayToken
	all["CREEL_SANDBOX"] = l.Name
	all["CREEL_CONFINEMENT"] = string(confinement)
	all["CREEL_POLICY_HASH"] = l.Spec.PolicyHash
	if port := b.DashboardPort(); port > 0 {
		all["CREEL_AGENT_PORT"] = strconv.Itoa(port)
		if forMain {
			all["PORT"] = strconv.Itoa(port)
		}
	}
	if forMain {
		all[dashboardToken] = l.DashboardToken
		if d := l.Spec.Dashboard; d.TargetPort != 0 && agent.ToldAtStart(l.Spec.Agent) {
			// The machine's addresses now are no part of what is wanted: they change.
			origins, err := dashboard.Origins(dashboard.Machine{Addresses: addresses}, d.Access,
				dashboard.Listener{Bind: d.Bind, Port: cmp.Or(d.Port, d.TargetPort)})
			if err != nil {
				return nil, fmt.Errorf("derive the origins of the dashboard: %w", err)
			}
			all[dashboardOrigins] = strings.Join(origins, ",")
		}
	}
	out := make([]string, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if name != confine.MarkerVariable { // the Box adds it
			out = append(out, name+"="+all[name])
		}
	}
	return out, nil
}

// command is the main process. The path of this program is one in namespaces and
// another elsewhere; no command at all is a login shell, as OpenShell has it.
func command(spec sandbox.Spec, b box.Box, shell string) (argv []string, tty bool) {
	argv, tty = slices.Clone(spec.Command), spec.TTY
	if len(argv) == 0 && spec.Agent == "console" {
		argv = []string{confine.ExecutablePath, "agent", "console"}
	}
	if len(argv) == 0 {
		return []string{shell, "-l"}, true
	}
	if argv[0] == confine.ExecutablePath {
		argv[0] = b.Executable()
	}
	return argv, tty
}
