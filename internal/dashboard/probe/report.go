// Package probe asks a dashboard, from outside and the way a browser would,
// whether it opens: TCP, health over HTTP, the page, the WebSocket with the right
// and with a wrong origin, the right and a wrong token; and at the public URL
// whether what stands in front passes all of it on. It only asks; it mends and
// remembers nothing.
package probe

import (
	"creel/internal/credential"
	"creel/internal/dashboard"
	"creel/internal/health"
)

// Target is the dashboard to ask.
type Target struct {
	Host string // where the listener is bound; a wildcard is asked on loopback
	Port int
	// HealthPath is asked over HTTP; without one any answer below 500 to "/" will do.
	HealthPath string
	// WebSocketPath is empty for an agent whose page needs none: then neither the
	// page nor origins nor tokens are asked about.
	WebSocketPath string
	Token         credential.Secret
	Access        dashboard.Access // as declared
	// Origins are those of the pages that open it, beside its own and the declared one,
	// e.g. "http://192.0.2.7:18789". Only an agent that judges them by itself is asked.
	Origins []string
	// Protocol is what is spoken on the WebSocket: empty for that of Creel's own
	// agent.
	Protocol string
}

// OpenClaw is the Protocol of OpenClaw's control UI.
const OpenClaw = "openclaw"

// Report is what came back.
type Report struct {
	Verdict  health.Verdict
	Reason   string // advisory id; empty when OK
	Message  string // one sentence for a person
	Evidence []health.Evidence
	// Caveats are true of a dashboard that opens: what its agent leaves to others.
	Caveats []health.Caveat
}
