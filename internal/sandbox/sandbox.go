// Package sandbox holds what a sandbox is, in the project's own terms, and the
// contract that every way of running one (a driver) keeps. It carries no
// generated code and does no I/O.
package sandbox

import (
	"context"
	"time"

	"creel/internal/credential"
	"creel/internal/dashboard"
)

// Phase is where a sandbox is in its life.
type Phase string

// The phases, as OpenShell names them.
const (
	Provisioning Phase = "provisioning"
	Ready        Phase = "ready"
	Error        Phase = "error"
	Deleting     Phase = "deleting"
	UnknownPhase Phase = "unknown"
	Stopping     Phase = "stopping"
	Stopped      Phase = "stopped"
	Starting     Phase = "starting"
)

// Wanted is what the user asked of a sandbox.
type Wanted string

// A sandbox is wanted running or stopped.
const (
	Running    Wanted = "running"
	NotRunning Wanted = "stopped"
)

// RestartPolicy says when the main process is started again after it ended.
type RestartPolicy string

// The restart policies.
const (
	RestartAlways    RestartPolicy = "always"
	RestartOnFailure RestartPolicy = "on-failure"
	RestartNever     RestartPolicy = "never"
)

// Tier is how strongly a process sandbox is confined.
type Tier string

// The tiers. Auto chooses namespaces where they work, else landlock; only where
// neither does, and the risk was accepted, unconfined.
const (
	TierAuto       Tier = "auto"
	TierNamespaces Tier = "namespaces"
	TierLandlock   Tier = "landlock"
	TierUnconfined Tier = "unconfined"
)

// Dashboard is the agent's web page: where it listens inside and where the
// gateway's listener should be.
type Dashboard struct {
	// TargetPort is the agent's port inside the sandbox; 0 means no dashboard.
	TargetPort int `json:"target_port"`
	// Bind is the listener's address, "127.0.0.1" by default.
	Bind string `json:"bind"`
	// Port is the wanted port of the listener; 0 means 18789 or the next free.
	Port int `json:"port"`
	// PortExplicit is set when the user named Port: then no other is taken.
	PortExplicit bool   `json:"port_explicit"`
	HealthPath   string `json:"health_path"`    // e.g. "/health"; empty without one
	WebSocket    string `json:"websocket_path"` // e.g. "/ws"; empty without one
	// Stopped is set when the listener should not be there.
	Stopped bool `json:"stopped,omitempty"`
	// Access is what was declared about how it is reached.
	dashboard.Access
}

// Spec is what a sandbox should be.
type Spec struct {
	Agent       string            `json:"agent"`       // name of a manifest, e.g. "console"
	Command     []string          `json:"command"`     // argv of the main process
	Environment map[string]string `json:"environment"` // added to the sandbox's own
	TTY         bool              `json:"tty"`
	Restart     RestartPolicy     `json:"restart"`
	Confinement Tier              `json:"confinement"`
	// RiskAccepted permits the tier unconfined; it never chooses it where a
	// stronger one works.
	RiskAccepted bool      `json:"risk_accepted,omitempty"`
	Dashboard    Dashboard `json:"dashboard"`
	// Forwards are the ports inside that are reached beside the dashboard.
	Forwards []Forward `json:"forwards,omitempty"`
	// Policy is the policy document as canonical JSON (package policy).
	Policy []byte `json:"policy"`
	// PolicyHash is the SHA-256 of Policy in hex.
	PolicyHash string            `json:"policy_hash"`
	Providers  []string          `json:"providers"`
	Labels     map[string]string `json:"labels"`
	LogLevel   string            `json:"log_level"`
}

// Protection is one mechanism of confinement and whether it is in force.
type Protection struct {
	Name   string `json:"name"`   // "user namespace", "landlock", "seccomp", …
	On     bool   `json:"on"`     //
	Detail string `json:"detail"` // e.g. "ABI 7", or why it is off
}

// Confinement is what was really applied.
type Confinement struct {
	Tier        Tier         `json:"tier"`
	Reason      string       `json:"reason"` // why not namespaces; empty for namespaces
	Protections []Protection `json:"protections"`
}

// ProcessState is where a main process is.
type ProcessState string

// The states of a main process.
const (
	ProcStarting ProcessState = "starting"
	ProcRunning  ProcessState = "running"
	ProcBackoff  ProcessState = "backoff" // ended, will be started again
	ProcExited   ProcessState = "exited"  // ended, stays so
	ProcStopped  ProcessState = "stopped" // ended because asked to
)

// MainProcess is what the supervisor knows of the agent's process.
type MainProcess struct {
	State        ProcessState `json:"state"`
	PID          int          `json:"pid"` // the host's process id
	Restarts     int          `json:"restarts"`
	LastExitCode *int         `json:"last_exit_code,omitempty"` // 128+N for signal N
	LastExit     string       `json:"last_exit"`                // "exited with code 1", "killed by signal 9"
	Since        time.Time    `json:"since"`
	InstanceID   string       `json:"instance_id"` // new at every start
}

// State is what a supervisor observes of its sandbox.
type State struct {
	Confinement    Confinement `json:"confinement"`
	Main           MainProcess `json:"main"`
	PolicyApplied  string      `json:"policy_applied"`
	PolicyEnforced string      `json:"policy_enforced"`
	SupervisorPID  int         `json:"supervisor_pid"`
	AgentPort      int         `json:"agent_port"`
	RelayRequests  uint64      `json:"relay_requests"`
	// ReadsPreface: the agent that was started reads who connected, and what is
	// declared about access, in front of each connection to its dashboard (package
	// dashboard/preface). That depends on the build that runs it, not on any wish.
	ReadsPreface bool `json:"reads_preface"`
}

// Launch is everything a supervisor is started with. It is written to
// launch.json in the sandbox's directory; it holds no provider credential.
type Launch struct {
	ID            string `json:"id"` // UUID
	Name          string `json:"name"`
	Gateway       string `json:"gateway"`
	GatewaySocket string `json:"gateway_socket"`
	Dir           string `json:"dir"` // the sandbox's directory (package state)
	// Executable is the copy of creel that runs inside as the console agent.
	Executable string `json:"executable"`
	Spec       Spec   `json:"spec"`
	// HostUID and HostGID are who the sandbox's processes are outside. Equal to
	// the caller's for an ordinary user; a number of its own when creel is root.
	HostUID int `json:"host_uid"`
	HostGID int `json:"host_gid"`
	// DashboardToken guards the agent's dashboard; the agent gets it in
	// CREEL_DASHBOARD_TOKEN. RelayToken guards the inference relay; the agent
	// gets it as OPENAI_API_KEY. Neither is a provider credential.
	DashboardToken string `json:"dashboard_token"`
	RelayToken     string `json:"relay_token"`
	// Hidden are further directories that must not be visible inside.
	Hidden []string `json:"hidden"`
}

// Handle is the durable record of a sandbox, in handle.json beside its
// workspace. The store can be rebuilt from it.
type Handle struct {
	Version   int       `json:"version"` // the driver's
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Gateway   string    `json:"gateway"`
	CreatedAt time.Time `json:"created_at"`
	Driver    string    `json:"driver"` // "process"
	HostUID   int       `json:"host_uid"`
	HostGID   int       `json:"host_gid"`
	Spec      Spec      `json:"spec"`
}

// Liveness is what a driver can tell of a sandbox without asking inside.
type Liveness struct {
	Alive  bool
	Known  bool // false: could not be determined; Alive means nothing then
	PID    int  // supervisor, 0 when not known
	Reason string
}

// Driver runs sandboxes. Every method is bounded by its context and is safe for
// concurrent use on different sandboxes.
type Driver interface {
	// Name is "process", "docker" or "kubernetes".
	Name() string
	// Prepare makes the sandbox's durable directories and returns its handle.
	// Preparing what is prepared changes nothing.
	Prepare(ctx context.Context, id, name, gateway string, spec Spec) (Handle, error)
	// Start runs the sandbox's supervisor and returns when it has said that it is
	// up (confinement in force, main process started) or has failed. token is the
	// supervisor's credential for the gateway. Starting what runs changes nothing.
	Start(ctx context.Context, h Handle, token, dashboard, relay credential.Secret) error
	// Renew replaces the supervisor's credential for the gateway.
	Renew(ctx context.Context, h Handle, token credential.Secret) error
	// NewDashboardToken replaces what the sandbox was started with, so that the old
	// token does not come back from there. It is for a sandbox that does not run. One
	// that was never started has nothing to replace.
	NewDashboardToken(ctx context.Context, h Handle, dashboard credential.Secret) error
	// Observe tells whether the sandbox's supervisor lives.
	Observe(ctx context.Context, h Handle) Liveness
	// Stop ends the sandbox's processes, all of them, and returns when they have
	// ended. Stopping what is stopped changes nothing.
	Stop(ctx context.Context, h Handle) error
	// Destroy stops the sandbox and removes everything of it, the workspace too.
	// Destroying what is gone changes nothing.
	Destroy(ctx context.Context, h Handle) error
	// Handles lists what is on disk, however it came there.
	Handles(ctx context.Context) ([]Handle, error)
}
