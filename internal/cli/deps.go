// Package cli is the command line: the cobra tree with one file a command, each
// an options struct, one call and one rendering. It sees contracts only and never
// names a runtime, a driver, a store or the server; Deps brings those.
package cli

import (
	"context"
	"io"

	"creel/internal/bundle"
	"creel/internal/cli/ui"
	"creel/internal/credential"
	"creel/internal/dashboard"
	"creel/internal/desired"
	"creel/internal/gateway"
	"creel/internal/layer"
	"creel/internal/onboard/ladder"
	"creel/internal/state"
)

// Deps is everything the commands need from the rest of the program. The
// composition root fills all of it; a function that a command does not call may
// be nil in tests.
type Deps struct {
	Streams ui.Streams
	Getenv  func(string) string
	Build   Build

	// Roots finds where state lives. It is asked once, by commands that need it,
	// so that version and help work with a bad CREEL_HOME.
	Roots func() (state.Roots, error)

	// Runtime returns the runtime of the named gateway as its desired state says,
	// or the embedded one when nothing is recorded.
	Runtime func(gatewayName string) (gateway.Runtime, error)

	// ClusterSecrets opens the bootstrap secrets of a gateway in a cluster. It reads
	// configuration and asks no cluster.
	ClusterSecrets func(ctx context.Context, p Place) (bundle.Target, error)

	// AttachRegistration gives OpenShell clients that know a cluster's gateway under
	// this name its client files. It returns "attached", "current",
	// "not-registered", "of-this-machine", or "not-proven" when only force would do
	// it.
	AttachRegistration func(gatewayName string, c bundle.ClientFiles, belongs func(certificate []byte) bool, force bool) (string, error)

	// Prompter asks the user; nil is the terminal of Streams. It is only asked when
	// Streams.Interactive.
	Prompter ui.Prompter

	// AfterEntry is called when a journal entry is on disk; nil is fine.
	AfterEntry func(ladder.Entry)

	// Layers builds the layers of what is wanted, lowest first. It dials nothing.
	Layers func(ctx context.Context, wanted desired.Document, scope Scope) (Stack, error)

	// ProbeDashboard proves that a dashboard opens: listener, page, WebSocket,
	// right and wrong token. d.Token holds the token.
	ProbeDashboard layer.Probe

	// ProbePublicURL proves that it opens at its public URL. No token is sent there.
	ProbePublicURL layer.Probe

	// Machine is how the person sits at this machine now.
	Machine func() dashboard.Machine

	// OpenBrowser shows a URL that carries no secret to the user. It may return
	// before or after the browser has fetched it; ctx is not ended once it was.
	OpenBrowser func(ctx context.Context, url string) error

	// Destroy removes one sandbox and everything of it, whether or not its gateway
	// answers, and returns false when there was none. The caller holds the
	// gateway's lock and has removed the sandbox from the desired state.
	Destroy func(ctx context.Context, gatewayName, sandboxName string, report gateway.Progress) (existed bool, err error)

	// SavedLog writes the last lines that a sandbox's agent wrote, from the files on
	// disk, whether or not a gateway or a sandbox runs; gateway.ErrNotFound when
	// there is no such sandbox on disk.
	SavedLog func(ctx context.Context, gatewayName, sandboxName string, w io.Writer, lines int, follow bool) error

	// Uninstall removes everything of one gateway: processes, sandboxes, state,
	// registration, desired state. With plan it only says what it would remove.
	// It works with the gateway dead and with corrupt state. The caller holds the
	// gateway's lock, whose file goes last.
	Uninstall func(ctx context.Context, gatewayName string, plan bool, report gateway.Progress) (Removal, error)

	// Service looks at the unit of a service manager that may keep the gateway, while
	// somebody else observes that; what it returns judges both. Without a unit no
	// manager is asked.
	Service func(ctx context.Context, gatewayName string) func(seen gateway.Observation) gateway.Service

	// InstallService has the gateway kept by the service manager and proves it;
	// changed is false when it was so already. The caller holds the gateway's lock.
	InstallService func(ctx context.Context, gatewayName string, report gateway.Progress) (s gateway.Service, changed bool, err error)

	// UninstallService takes that back; a gateway that runs goes on. removed is false
	// when there was no service. The caller holds the gateway's lock.
	UninstallService func(ctx context.Context, gatewayName string, report gateway.Progress) (removed bool, err error)

	// Serve is the gateway daemon: it returns when ctx ended and everything was
	// drained.
	Serve func(ctx context.Context, gatewayName string) error
	// Forward is the port-forward to a gateway in a cluster; it returns when ctx ended.
	Forward func(ctx context.Context, gatewayName string) error
	// Supervise is the supervisor of the sandbox in dir; it returns an exit code.
	Supervise func(ctx context.Context, dir string) int
	// Confine is the child stage of confinement; it returns an exit code.
	Confine func(ctx context.Context) int
	// Console is the built-in agent inside a sandbox; it returns an exit code.
	Console func(ctx context.Context) int
	// OpenClaw becomes the agent of that name inside a sandbox; it returns an exit
	// code when it could not.
	OpenClaw func(program []string) int
}

// Scope selects layers. The zero value selects all.
type Scope struct {
	// Sandbox keeps of the sandboxes' layers only this one's.
	Sandbox string
	// Only keeps these layers.
	Only []layer.ID
	// Deep looks closer at what is well.
	Deep bool
	// Key is the model provider's key as the user supplies it now; nil or empty
	// when there is none.
	Key func() credential.Secret
}

// Stack is layers with what they share.
type Stack struct {
	Layers []layer.Layer
	Close  func() error // gives connections back; nil when there are none
}

// Build says which executable this is.
type Build struct {
	Version string // e.g. "0.1.0" or "devel"
	ID      string // identifies the executable's content
}

// Removal is what Uninstall removed or would remove.
type Removal struct {
	Sandboxes []string // names
	Paths     []string // files and directories
	Processes []string // e.g. "gateway daemon (pid 42)"
	Cluster   []string // what Creel left in a cluster, e.g. "Secret openshell/x of https://…"
	Stays     []string // what is left on purpose, and what would end it
}

// Empty reports that there was nothing of ours.
func (r Removal) Empty() bool {
	return len(r.Sandboxes) == 0 && len(r.Paths) == 0 && len(r.Processes) == 0 && len(r.Cluster) == 0
}
