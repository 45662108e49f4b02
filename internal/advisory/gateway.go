package advisory

var gateway = []Advisory{
	{
		ID: "gateway-not-running", Severity: Error, Layer: "gateway", Title: "The gateway is not running",
		Reason:   "No process holds the gateway's lock. Running sandboxes go on without it, but cannot be reached.",
		Commands: []string{"creel gateway start"},
	},
	{
		ID: "gateway-not-ready", Severity: Error, Layer: "gateway", Title: "The gateway is starting or stopping",
		Reason:   "A gateway process holds the lock and has not said yet that it serves, or is ending.",
		Commands: []string{"creel gateway status", "creel gateway logs"},
	},
	{
		ID: "gateway-already-running", Severity: Error, Layer: "gateway", Title: "The gateway runs already",
		Reason:   "Another process holds the gateway's daemon lock; there is one daemon a gateway.",
		Commands: []string{"creel gateway status", "creel gateway restart"},
	},
	{
		ID: "gateway-unknown", Severity: Error, Layer: "gateway", Title: "The gateway could not be asked",
		Reason:   "What would tell whether it runs could not be read. That says nothing about the gateway itself, so nothing is done to it.",
		Commands: []string{"creel gateway status"},
	},
	{
		ID: "gateway-unidentified", Severity: Error, Layer: "gateway", Title: "The gateway's process cannot be identified",
		Reason:   "The daemon lock is held, and neither the marker nor the lock file names the process that holds it. Creel signals no process it cannot identify.",
		Commands: []string{"fuser -v FILE", "creel gateway status"},
	},
	{
		ID: "gateway-marker-invalid", Severity: Error, Layer: "gateway", Title: "The running gateway's marker is damaged",
		Reason:   "A gateway holds the lock, and the file that says where it serves is not what Creel wrote. A restart writes it again; sandboxes go on.",
		Commands: []string{"creel gateway restart"},
	},
	{
		ID: "gateway-marker-newer", Severity: Error, Layer: "gateway", Title: "A newer Creel runs the gateway",
		Reason:   "The file that says where the gateway serves was written by a newer version. This one does not touch it.",
		Commands: []string{"creel version", "creel gateway logs"}, Blocking: true,
	},
	{
		ID: "gateway-marker-stale", Severity: Error, Layer: "gateway", Title: "The marker names another process",
		Reason:   "The lock is held, but the process that the marker names has ended, or its number belongs to another process by now.",
		Commands: []string{"creel gateway restart"},
	},
	{
		ID: "gateway-unreachable", Severity: Error, Layer: "gateway", Title: "The gateway's port does not answer",
		Reason:   "The process lives, and nothing accepts connections at the endpoint that it recorded.",
		Commands: []string{"creel gateway restart", "creel gateway logs"},
	},
	{
		ID: "gateway-hung", Severity: Error, Layer: "gateway", Title: "The gateway hangs",
		Reason:   "The process lives and accepts connections, or is stopped by a signal, and answers nothing within the probe budget.",
		Commands: []string{"creel gateway restart", "creel gateway logs"},
	},
	{
		ID: "gateway-foreign-listener", Severity: Error, Layer: "gateway", Title: "Something else listens on the gateway's port",
		Reason:   "Whoever answers at the recorded endpoint does not have a certificate of this gateway's authority.",
		Commands: []string{"ss -ltnp", "creel gateway restart"},
	},
	{
		ID: "gateway-tls-failed", Severity: Error, Layer: "gateway", Title: "No TLS with the gateway",
		Reason:   "The connection ended before TLS came about.",
		Commands: []string{"creel gateway secrets inspect", "creel gateway restart"},
	},
	{
		ID: "gateway-certificate-invalid", Severity: Error, Layer: "gateway", Title: "The gateway's certificate is not valid now",
		Reason:    "It has expired or is not valid yet. A clock that is wrong looks the same.",
		Commands:  []string{"creel gateway secrets inspect", "creel gateway secrets repair"},
		DependsOn: []string{"secrets-expired"},
	},
	{
		ID: "gateway-certificate-refused", Severity: Error, Layer: "gateway", Title: "The gateway refuses our certificate",
		Reason:   "The running gateway trusts another authority than the one on disk: the bootstrap secrets were replaced after it started.",
		Commands: []string{"creel gateway restart", "creel gateway secrets inspect"},
	},
	{
		ID: "gateway-open", Severity: Error, Layer: "gateway", Title: "The gateway lets strangers in",
		Reason:   "A caller without client certificate was answered. Every process of this machine could command the gateway.",
		Commands: []string{"creel gateway stop", "creel gateway start"}, Blocking: true,
	},
	{
		ID: "gateway-unhealthy", Severity: Error, Layer: "gateway", Title: "The gateway is not healthy",
		Reason:   "It was reached over TLS and did not answer the Health call with healthy.",
		Commands: []string{"creel gateway logs", "creel gateway restart"},
	},
	{
		ID: "gateway-not-ours", Severity: Error, Layer: "gateway", Title: "Another gateway answers",
		Reason:   "The instance that answers is not the one that the marker on disk names.",
		Commands: []string{"creel gateway status", "creel gateway restart"},
	},
	{
		ID: "gateway-start-failed", Severity: Error, Layer: "gateway", Title: "The gateway did not start",
		Reason:   "Its process ended, or answered wrongly, before it was ready. Its last words are in the message and in the log.",
		Commands: []string{"creel gateway logs", "creel gateway start"}, Blocking: true,
	},
	{
		ID: "gateway-start-timeout", Severity: Error, Layer: "gateway", Title: "The gateway did not become ready in time",
		Reason:   "The gateway-start budget ran out. The process was ended, so that no half-started gateway is left.",
		Commands: []string{"creel gateway logs", "CREEL_BUDGET_GATEWAY_START=60s creel gateway start"}, Blocking: true,
	},
	{
		ID: "gateway-stop-failed", Severity: Error, Layer: "gateway", Title: "The gateway did not end",
		Reason:   "Not even SIGKILL ended its process in time; it is probably waiting for a disk.",
		Commands: []string{"creel gateway status"},
	},
	{
		ID: "gateway-crashed", Severity: Error, Layer: "gateway", Title: "The gateway crashed",
		Reason:   "Its log ends in a Go panic. That is a mistake in Creel; the lines above it say where.",
		Commands: []string{"creel gateway logs", "creel version"}, Blocking: true,
	},
	{
		ID: "gateway-glibc", Severity: Error, Layer: "gateway", Title: "The executable needs a newer C library",
		Reason:   "It was linked against a newer glibc than this machine has. A static build (CGO_ENABLED=0) needs none.",
		Commands: []string{"ldd --version", "CGO_ENABLED=0 go build ./cmd/creel"}, Blocking: true,
	},
	{
		ID: "gateway-library-missing", Severity: Error, Layer: "gateway", Title: "The executable needs a library that is missing",
		Reason:   "It was linked dynamically. A static build (CGO_ENABLED=0) needs no libraries.",
		Commands: []string{"CGO_ENABLED=0 go build ./cmd/creel"}, Blocking: true,
	},
	{
		ID: "gateway-executable-broken", Severity: Error, Layer: "gateway", Title: "The executable cannot be run",
		Reason:   "It is damaged, cut short or made for another kind of machine.",
		Commands: []string{"creel version"}, Blocking: true,
	},
	{
		ID: "gateway-log-missing", Severity: Info, Layer: "gateway", Title: "The gateway has no log yet",
		Reason:   "It was never started, or its state was removed.",
		Commands: []string{"creel gateway start"},
	},
}
