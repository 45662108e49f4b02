package store

import (
	"time"

	"creel/internal/sandbox"
)

// Sandbox is what the gateway keeps of a sandbox. Its name, id and labels are the
// object's.
type Sandbox struct {
	Spec   sandbox.Spec   `json:"spec"`
	Wanted sandbox.Wanted `json:"wanted"`
	// Deleting is written before anything of the sandbox is destroyed, so that a
	// crash in between finishes the deletion rather than making the sandbox again.
	Deleting    bool              `json:"deleting,omitempty"`
	DeletedAt   time.Time         `json:"deleted_at,omitzero"`
	Annotations map[string]string `json:"annotations,omitempty"`
	// WasReady tells starting again from provisioning.
	WasReady bool `json:"was_ready,omitempty"`
	// Phase and Message are the last that were observed.
	Phase   sandbox.Phase `json:"phase"`
	Message string        `json:"message,omitempty"`
	// DashboardPort is the port that the dashboard's listener had last; it is asked
	// for again after a restart.
	DashboardPort int `json:"dashboard_port,omitempty"`
	// LostPort is a port that the dashboard had and that a process of another user,
	// LostTo, was found to have, until the token is rotated: open pages may have shown
	// it there.
	LostPort int    `json:"lost_port,omitempty"`
	LostTo   string `json:"lost_to,omitempty"`
	// ForwardPorts are the ports that forwards had last for which nobody named one, by
	// their port inside.
	ForwardPorts map[int]int `json:"forward_ports,omitempty"`
	// DashboardToken and RelayToken are sealed by the gateway's keyring.
	DashboardToken []byte `json:"dashboard_token"`
	// TokenUntold is set with a new DashboardToken and until nothing is left that was
	// started with the one before: while it is, the dashboard has no listener.
	TokenUntold bool   `json:"token_untold,omitempty"`
	RelayToken  []byte `json:"relay_token"`
	// PolicyStatus is what the supervisor reported of version 1: "", "loaded" or
	// "failed"; PolicyError is its reason.
	PolicyStatus   string    `json:"policy_status,omitempty"`
	PolicyError    string    `json:"policy_error,omitempty"`
	PolicyLoadedAt time.Time `json:"policy_loaded_at,omitzero"`
}

// Provider is a named set of credentials for a model provider.
type Provider struct {
	Type   string            `json:"type"`
	Config map[string]string `json:"config,omitempty"` // e.g. OPENAI_BASE_URL
	// Credentials maps a key (e.g. OPENAI_API_KEY) to its sealed value.
	Credentials map[string][]byte `json:"credentials,omitempty"`
	ExpiresAtMS map[string]int64  `json:"expires_at_ms,omitempty"`
}

// Route says which provider and model answer; its object name is the route's.
type Route struct {
	Provider    string `json:"provider"`
	Model       string `json:"model"`
	TimeoutSecs uint64 `json:"timeout_secs,omitempty"`
}

// Pages are the ports of this machine at which sandboxes had pages of their own
// making, the newest last. A browser takes what comes later at such a port for the
// same site, and a page may have left a worker there.
type Pages struct {
	Ports []Page `json:"ports"`
}

// Page is a port and the id of the sandbox whose page was there last.
type Page struct {
	Port    int    `json:"port"`
	Sandbox string `json:"sandbox"`
}

// Session is a permission to reach into a sandbox through ForwardTcp. Its object
// name is the SHA-256 of its token in hex: the token itself is not kept.
type Session struct {
	SandboxID string    `json:"sandbox_id"`
	ExpiresAt time.Time `json:"expires_at"`
}
