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
	Console = "console" // the chat page built into this executable
	Command = "command" // any program the user names
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
	// Command is the argv of the main process. It is empty for an agent whose
	// command the user gives.
	Command []string
	// Port is where its dashboard listens inside; 0 means that it has none unless
	// the user names a port.
	Port          int
	HealthPath    string // e.g. "/health"; empty without one
	WebSocketPath string // e.g. "/ws"; empty without one
	// Preface: it reads what a gateway says in front of each connection (package
	// dashboard/preface).
	Preface bool
}

// NeedsCommand reports whether the user has to give the command.
func (m Manifest) NeedsCommand() bool { return len(m.Command) == 0 }

// All returns the manifests, sorted by name.
func All() []Manifest {
	return []Manifest{
		{Name: Command, Title: "Your own command"},
		{
			Name: Console, Title: "Creel console",
			Command: []string{InsideExecutable, "agent", "console"},
			Port:    DefaultPort, HealthPath: "/health", WebSocketPath: "/ws", Preface: true,
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

// Lookup finds an agent by its name. The error is *Unknown.
func Lookup(name string) (Manifest, error) {
	all := All()
	i := slices.IndexFunc(all, func(m Manifest) bool { return m.Name == name })
	if i < 0 {
		return Manifest{}, &Unknown{Name: name}
	}
	return all[i], nil
}
