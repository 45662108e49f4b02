// Package agent lists the programs that a sandbox can exist for: what starts
// each and how its dashboard is reached. It decides nothing about a sandbox and
// does no I/O; the built-in agent itself is package console.
package agent

import (
	"fmt"
	"slices"
	"strings"
)

// The names of the agents.
const (
	Console  = "console"  // the chat page built into this executable
	OpenClaw = "openclaw" // OpenClaw, which the user has installed
	Command  = "command"  // any program the user names
)

// DefaultPort is where a dashboard listens when nobody says otherwise, inside a
// sandbox and outside.
const DefaultPort = 18789

// InsideExecutable is where a namespaced sandbox sees this executable.
const InsideExecutable = "/opt/creel/creel"

// Manifest describes an agent.
type Manifest struct {
	Name  string
	Title string // for people, e.g. "Creel console"
	// Command is the argv of the main process, or what comes before the user's words.
	Command []string
	// Program says whether the user names the program, and Default is the one that is
	// run when he may and does not.
	Program Need
	Default []string
	// Install are commands that bring the default program to where a sandbox sees it.
	Install []string
	// Port is where its dashboard listens inside; 0 means that it has none unless
	// the user names a port.
	Port          int
	HealthPath    string // e.g. "/health"; empty without one
	WebSocketPath string // e.g. "/ws"; empty without one
	// Protocol is what is spoken there: empty for Creel's own, or the agent's name.
	Protocol string
	// Preface: it reads what a gateway says in front of each connection (package
	// dashboard/preface).
	Preface bool
}

// Need is whether something has to be given.
type Need uint8

// The needs.
const (
	Never Need = iota
	Optional
	Required
)

// Argv is the main process of an agent for which the user named program, empty when
// he named none.
func (m Manifest) Argv(program []string) []string {
	if len(program) == 0 {
		program = m.Default
	}
	return slices.Concat(m.Command, program)
}

// Program is the user's program in the argv of an agent's main process, or the
// agent's own where the user names none; empty when nothing is known.
func Program(name string, argv []string) string {
	if m, err := Lookup(name); err == nil {
		if len(argv) == 0 {
			argv = m.Argv(nil)
		}
		if n := len(m.Command); m.Program != Never && len(argv) > n && slices.Equal(argv[:n], m.Command) {
			argv = argv[n:]
		}
	}
	if len(argv) == 0 {
		return ""
	}
	return argv[0]
}

// All returns the manifests, sorted by name.
func All() []Manifest {
	return []Manifest{
		{Name: Command, Title: "Your own command", Program: Required},
		{
			Name: Console, Title: "Creel console",
			Command: []string{InsideExecutable, "agent", "console"},
			Port:    DefaultPort, HealthPath: "/health", WebSocketPath: "/ws", Preface: true,
		},
		{
			Name: OpenClaw, Title: "OpenClaw",
			Command: []string{InsideExecutable, "agent", "openclaw", "--"}, Program: Optional, Default: []string{"openclaw"},
			Install: []string{"npm install --global --prefix /usr/local openclaw"},
			Port:    DefaultPort, HealthPath: "/health", WebSocketPath: "/", Protocol: OpenClaw,
		},
	}
}

// Names returns the names of all agents, sorted.
func Names() []string {
	var names []string
	for _, m := range All() {
		names = append(names, m.Name)
	}
	return names
}

// Unknown is the error of a name that is no agent.
type Unknown struct{ Name string }

// Error lists the names that would be right.
func (u *Unknown) Error() string {
	return fmt.Sprintf("agent %q is none of %s", u.Name, strings.Join(Names(), ", "))
}

// ToldAtStart reports that an agent judges by itself who may open its page and
// learns what is declared about that when it is started.
func ToldAtStart(name string) bool {
	m, err := Lookup(name)
	return err == nil && m.Protocol != ""
}

// ReadsPreface reports that an agent of this build, started with command, reads a
// preface: one whose program the user names may not, whatever it is called.
func ReadsPreface(name string, command []string) bool {
	m, err := Lookup(name)
	return err == nil && m.Preface && (len(command) == 0 || slices.Equal(command, m.Command))
}

// Lookup finds an agent by its name. The error is *Unknown.
func Lookup(name string) (Manifest, error) {
	all := All()
	i := slices.IndexFunc(all, func(m Manifest) bool { return m.Name == name })
	if i < 0 {
		return Manifest{}, &Unknown{Name: name}
	}
	return all[i], nil
}
