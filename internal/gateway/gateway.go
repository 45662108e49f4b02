// Package gateway is the contract between those who need a gateway (layers,
// commands) and the ways to run one (runtimes), and the domain view of its API.
// It imports no runtime and no generated code.
package gateway

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"creel/internal/bundle"
	"creel/internal/credential"
	"creel/internal/dashboard"
	"creel/internal/health"
	"creel/internal/inference"
	"creel/internal/sandbox"
)

// Endpoint is where a gateway answers.
type Endpoint struct {
	Host string // "127.0.0.1"
	Port int    // 0 when not known
	// Plaintext: it answers without TLS.
	Plaintext bool
}

// URL is the endpoint as people and OpenShell clients write it.
func (e Endpoint) URL() string {
	scheme := "https://"
	if e.Plaintext {
		scheme = "http://"
	}
	return scheme + net.JoinHostPort(e.Host, strconv.Itoa(e.Port))
}

// Observation is what was seen of a gateway just now. Problems are data.
type Observation struct {
	Verdict  health.Verdict
	Reason   string // advisory id when not OK, e.g. "gateway-not-running", "gateway-hung"
	Message  string
	Evidence []health.Evidence
	Hints    []string
	// Absent is positive proof that no process of this gateway runs.
	Absent   bool
	Identity Identity // zero unless the identity link of the chain held
	Endpoint Endpoint // as recorded, even when nothing answers
	// Caveats are true of a gateway that works and worth knowing, e.g. that it is
	// asked in plaintext.
	Caveats []health.Caveat
	// Drift says what differs from what would be started now (another build of
	// the executable, other settings); empty when nothing does.
	Drift []string
}

// Identity is who answers at the endpoint.
type Identity struct {
	Gateway    string
	InstanceID string
	PID        int
	StartedAt  time.Time
	Version    string
	BuildID    string
}

// Progress receives one sentence about observed state, e.g. "waiting for health". One
// that begins with "warning: " is worth knowing afterwards, too.
type Progress func(message string)

// Runtime runs one gateway.
type Runtime interface {
	// Name is "embedded", "openshell", "k3s", "kubernetes" or "external".
	Name() string
	// Observe asks the whole evidence chain: process, TCP, TLS (with and without
	// our certificate), Health, identity. It never fails and never mutates. The chain
	// ends within the probe budget. A gateway in a container or in a cluster is looked
	// for there first, each question within a budget of its own (probe for the engine,
	// cluster for the API), which is added: whoever waits for several sets a limit.
	Observe(ctx context.Context) Observation
	// Start returns when the gateway is ready, has exited or is out of budget.
	// Starting a running gateway changes nothing; a runtime whose gateway takes new
	// settings at a start only restarts one that has drifted.
	Start(ctx context.Context, report Progress) error
	// Stop returns when the gateway has ended. Sandboxes go on. Stopping a
	// stopped gateway changes nothing.
	Stop(ctx context.Context, report Progress) error
	// Secrets is where its bootstrap secrets are, with what they must satisfy. A
	// runtime whose gateway waits for its secrets repairs them in its start loop
	// (bundle.Repair, which on a good set only looks), before it asks for health.
	Secrets() bundle.Target
	// Endpoint is the recorded endpoint; Port 0 before the first start.
	Endpoint() Endpoint
	// Logs writes the last lines of the daemon's log as they are, which is neither
	// redacted nor fit for a terminal; with follow it goes on until ctx ends. lines 0
	// means all.
	Logs(ctx context.Context, w io.Writer, lines int, follow bool) error
	// Dial connects with the client certificate.
	Dial(ctx context.Context) (Client, error)
}

// Fixed is a Runtime whose gateway somebody else runs: it is neither started nor
// stopped, and it brings its own secrets and registration.
type Fixed interface {
	Runtime
	Fixed() bool
}

// Housing is a Runtime whose gateway lives, with its bootstrap secrets and its
// sandboxes, in a place that is started and stopped as a whole. The place was made
// by somebody else.
type Housing interface {
	Runtime
	// Housed lists the sandboxes that stop with the gateway, by name.
	Housed(ctx context.Context) ([]string, error)
}

// Remedy is one thing that would be done about a gateway.
type Remedy struct {
	ID          string   // stable code, e.g. "restart-gateway"
	Title       string   // imperative
	Disturbs    []string // subjects, e.g. "sandbox/demo"
	Destructive bool
}

// Mender is a Runtime that knows what is to be done about its gateway, where that
// is not to start what does not run and to restart what has failed.
type Mender interface {
	Runtime
	// Remedies says what would mend the gateway that was found so; nothing for one
	// that is ok or unknown, or that only a person can mend.
	Remedies(ctx context.Context, found health.Result) []Remedy
	// Mend does one of them.
	Mend(ctx context.Context, id string, report Progress) error
}

// Restarter is a Runtime that restarts its gateway in another way than by stopping
// and starting it.
type Restarter interface {
	Runtime
	// Restart returns when a gateway that began after the call is ready, or as Start
	// does.
	Restart(ctx context.Context, report Progress) error
}

// Remote is a Runtime whose gateway runs elsewhere and is its owner's to start and
// to stop: Start mends what keeps it from being ready, waits for it, and makes it
// reachable from this machine; Stop refuses.
type Remote interface {
	Runtime
	// Detach ends what makes it reachable from this machine, and leaves the gateway
	// as it is. Detaching what is detached changes nothing.
	Detach(ctx context.Context, report Progress) error
}

// Service is what was seen, just now, of the unit of a service manager that keeps a
// gateway: starts it at boot and again when it dies.
type Service struct {
	Installed bool   // a service is meant to keep the gateway
	Manager   string // "user" or "system"; "" without a service manager
	Unit      string // "creel-gateway-NAME.service"
	Path      string // the unit file's
	// Verdict is OK only when all of it holds: the unit file is as written, it is
	// loaded, enabled and active, its main process is the gateway that answers, and
	// the manager runs from boot on.
	Verdict  health.Verdict
	Reason   string // advisory id when not OK, e.g. "service-not-enabled"
	Message  string
	Evidence []health.Evidence
	Hints    []string
}

// Inspection is what the gateway observes of one sandbox.
type Inspection struct {
	Name           string
	ID             string
	Agent          string
	Phase          sandbox.Phase
	Message        string
	Reason         string // advisory that explains the phase; empty without one
	Wanted         sandbox.Wanted
	Connected      bool
	ConnectedSince time.Time
	State          sandbox.State
	Health         AgentHealth
	Dashboard      Forward
	Forwards       []Forward // beside the dashboard, as declared
	PolicyDeclared string
	Model          string
	CreatedAt      time.Time
	// Partial: the gateway is not one of Creel's and tells the phase only. What it
	// does not tell (State, Health, policies, Dashboard) is unknown, not absent.
	Partial bool
	// Labels are those of the sandbox's specification; nil when the gateway does
	// not say.
	Labels map[string]string
}

// AgentHealth is the answer of an agent's health endpoint asked from inside.
type AgentHealth struct {
	Verdict    health.Verdict
	Message    string
	HTTPStatus int
	Took       time.Duration
}

// Forward is a listener of the gateway for a port inside a sandbox. Port 0 means
// none.
type Forward struct {
	Sandbox    string
	Bind       string
	Port       int // where it listens, or did last
	WantedPort int // 0 is any
	TargetPort int
	Bound      bool
	Stopped    bool   // on purpose
	Error      string // why it is not bound, or not as wanted
	Reason     string // advisory that explains Error; empty without one
	// TakenPort is the port that it would rather have, TakenBy who had it, e.g.
	// "nginx (pid 123)"; 0 and empty when it has what was tried first.
	TakenPort int
	TakenBy   string
	// LostPort is a port that the dashboard had and that a process of another user,
	// LostTo, was found to have since its token was made; 0 and empty without one.
	LostPort    int
	LostTo      string
	Connections int    // carried now
	Refused     uint64 // so far, because there were too many
}

// Instead says in one sentence, of a listener that was bound just now, why its port
// is another than the first that was tried; empty when it is not.
func (f Forward) Instead() string {
	if !f.displaced() {
		return ""
	}
	return fmt.Sprintf("Port %d is taken by %s. Using port %d instead.", f.TakenPort, f.TakenBy, f.Port)
}

// Displaced says the same at any later time, when whoever had the port may be gone.
func (f Forward) Displaced() string {
	if !f.displaced() {
		return ""
	}
	return fmt.Sprintf("when it was bound, port %d was taken by %s, so it is on port %d", f.TakenPort, f.TakenBy, f.Port)
}

func (f Forward) displaced() bool {
	return f.TakenPort != 0 && f.Bound && f.Port != f.TakenPort
}

// Exposed reports that other machines can reach it.
func (f Forward) Exposed() bool { return f.Bound && f.Bind != "" && f.Bind != dashboard.Loopback }

// Dashboard is how to open a sandbox's dashboard.
type Dashboard struct {
	Forward    Forward
	Token      credential.Secret // empty unless asked for
	HealthPath string
	WebSocket  string
	Agent      string           // whose page it is; empty where the gateway does not say
	Access     dashboard.Access // as declared
}

// LogLine is one line of a sandbox's log.
type LogLine struct {
	At      time.Time
	Level   string // "info", "warn", "error"
	Source  string // "agent", "supervisor"
	Message string
}

// Exec is a command to run inside a sandbox.
type Exec struct {
	SandboxID string
	Command   []string
	Workdir   string
	Env       map[string]string
	Timeout   time.Duration // 0: none
	TTY       bool
	Cols      int
	Rows      int
	Stdin     io.Reader // nil: empty
	Stdout    io.Writer
	Stderr    io.Writer
	Resize    <-chan [2]int // columns, rows; nil: none
}

// Client is the gateway's API in domain terms. Errors are *advisory.Problem
// where the cause is known; a sandbox that does not exist is ErrNotFound.
type Client interface {
	Close() error
	Identity(ctx context.Context) (Identity, error)

	CreateSandbox(ctx context.Context, name string, spec sandbox.Spec) (Inspection, error)
	// WaitSandbox follows the sandbox until it is Ready or in a terminal phase,
	// calling report with each new phase or event message.
	WaitSandbox(ctx context.Context, name string, report Progress) (Inspection, error)
	StartSandbox(ctx context.Context, name string) error
	StopSandbox(ctx context.Context, name string) error
	// DeleteSandbox returns false when there was none.
	DeleteSandbox(ctx context.Context, name string) (bool, error)
	// Inspect returns the named sandboxes, or all. A name that does not exist is
	// left out. probe asks agents' health endpoints.
	Inspect(ctx context.Context, probe bool, names ...string) ([]Inspection, error)
	Dashboard(ctx context.Context, name string, token bool) (Dashboard, error)
	// Exec returns the exit code.
	Exec(ctx context.Context, e Exec) (int, error)
	// Logs calls line for the last n lines and, with follow, for each new one.
	Logs(ctx context.Context, name string, n int, follow bool, line func(LogLine)) error

	// SetProvider stores a provider's credential and base URL, creating or
	// replacing it.
	SetProvider(ctx context.Context, r inference.Route) error
	// SetRoute makes provider and model answer; SetRoute("", "") removes the route.
	SetRoute(ctx context.Context, provider, model string) error
	// Route returns the route without its key, and whether there is one.
	Route(ctx context.Context) (inference.Route, bool, error)
	// CheckInference asks the provider whether it answers, now or within maxAge.
	CheckInference(ctx context.Context, maxAge time.Duration) (inference.Check, error)
}

// Updater is a Client whose gateway can change a sandbox in place.
type Updater interface {
	// UpdateSandbox replaces what the sandbox should be; its id and workspace stay.
	// Its listeners follow at once, as by UpdateForwards; everything else follows at
	// the sandbox's next start.
	UpdateSandbox(ctx context.Context, name string, spec sandbox.Spec) error
	// RotateDashboardToken gives the sandbox's dashboard a new token and ends every
	// connection through its forward. With restart the gateway starts the sandbox
	// again by itself, and until then nobody reaches its agent; WaitSandbox waits for
	// it.
	RotateDashboardToken(ctx context.Context, name string) (restart bool, err error)
	// UpdateForwards replaces where the dashboard of spec and its forwards listen and
	// how the dashboard is reached, and nothing else of the sandbox. Listeners that are as wanted stay with their
	// connections. What could not be bound is in the inspection: it is wanted all the
	// same and tried again, and a listener that was to move stays where it is
	// meanwhile.
	UpdateForwards(ctx context.Context, name string, spec sandbox.Spec) (Inspection, error)
}
