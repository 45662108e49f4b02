// Package confine runs programs that cannot reach what they were not given. A
// supervisor starts a Box, whose first process is confined before it starts
// anything else, and asks it over a socketpair to spawn, signal, listen and dial.
// It knows nothing of gateways, agents or policies beyond lists of paths; it must
// not import them.
package confine

import (
	"time"

	"creel/internal/sandbox"
)

// Paths that every program in a Box of the tier namespaces sees.
const (
	WorkspacePath  = "/sandbox"         // the workspace, HOME of everything inside
	ExecutablePath = "/opt/creel/creel" // this program
	// InsideUID and InsideGID are who everything inside the namespaces is.
	InsideUID = 1000
	InsideGID = 1000
	// MarkerVariable is in the environment of every program a Box starts; its
	// value is the sandbox's id.
	MarkerVariable = "CREEL_SANDBOX_ID"
)

// Profile is what a Box should be. It travels as JSON on an inherited descriptor.
type Profile struct {
	SandboxID string       `json:"sandbox_id"`
	Tier      sandbox.Tier `json:"tier"` // wanted; TierAuto chooses
	// RiskAccepted permits TierUnconfined; see Choose. Nothing else does.
	RiskAccepted bool   `json:"risk_accepted"`
	Workspace    string `json:"workspace"`  // directory on the host
	Executable   string `json:"executable"` // this program on the host, readable by HostUID
	HostUID      int    `json:"host_uid"`   // who the programs are outside
	HostGID      int    `json:"host_gid"`
	Hostname     string `json:"hostname"`
	// RelayPort is the loopback port that the programs may connect to; the Box
	// may choose another in tiers without a network of their own: see
	// Box.RelayPort.
	RelayPort int `json:"relay_port"`
	// DashboardPort is the port that the agent may bind, 0 for none; see
	// Box.DashboardPort.
	DashboardPort int `json:"dashboard_port"`
	// ReadOnly and ReadWrite are the policy's filesystem lists: absolute paths on
	// the host. Those that do not exist are left out.
	ReadOnly  []string `json:"read_only"`
	ReadWrite []string `json:"read_write"`
	// Hidden are directories of the host that no path of the lists may show,
	// beside the homes of users. Those above the workspace are taken to be the
	// caller's own: root's are opened for traversal where there are no namespaces.
	Hidden []string `json:"hidden"`
	Limits Limits   `json:"limits"`
}

// Limits bound what the programs of one Box use. Zero means the default.
type Limits struct {
	OpenFiles uint64 `json:"open_files"` // per process, default 65536
	Processes uint64 `json:"processes"`  // per Box, default 4096
	TempBytes uint64 `json:"temp_bytes"` // size of each private tmpfs, default 1 GiB
}

// Command is a program to start inside a Box.
type Command struct {
	Argv []string // Argv[0] is looked up in Env's PATH when it has no slash
	Env  []string // NAME=VALUE, complete but for MarkerVariable
	Dir  string   // inside; empty is the workspace
	TTY  bool     // a terminal of its own instead of the given files
	Cols int      // of the terminal; 0 is 80
	Rows int      // of the terminal; 0 is 24
}

// ExitStatus is how a process ended.
type ExitStatus struct {
	Code   int // as a shell says it: 128+N for signal N
	Signal int // 0 unless a signal ended it
	At     time.Time
}
