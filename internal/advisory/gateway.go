package advisory

var gateway = []Advisory{
	{
		ID: "gateway-not-running", Severity: Error, Layer: "gateway", Title: "The gateway is not running",
		Reason:   "No process of the gateway runs: its lock is free, or the process that was launched has ended. Running sandboxes go on without it, but cannot be reached.",
		Commands: []string{"creel gateway start"},
	},
	{
		ID: "gateway-not-set-up", Severity: Error, Layer: "gateway", Title: "There is no such gateway yet", Blocking: true,
		Reason:   "Nothing has been set up under this gateway's name: neither is anything recorded of it, nor has it left anything on disk.",
		Commands: []string{"creel onboard"},
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
		ID: "gateway-credential-refused", Severity: Error, Layer: "gateway", Title: "The gateway refuses our credentials",
		Reason:   "It was reached, and the client certificate or the token of its registration does not open it: expired, revoked or another gateway's.",
		Commands: []string{"openshell gateway login", "creel gateway status --json"},
	},
	{
		ID: "gateway-version-unsupported", Severity: Error, Layer: "gateway", Title: "Sandboxes of this gateway's version are not supported",
		Reason:   "Creel speaks the sandbox API of OpenShell 0.0.37 up to, not including, 0.1. The gateway itself is judged all the same.",
		Commands: []string{"creel gateway status", "openshell --version"}, Blocking: true,
	},
	{
		ID: "gateway-call-missing", Severity: Error, Layer: "gateway", Title: "This gateway does not serve what was asked",
		Reason:   "Dashboards, forwards, in-place changes and checks of model providers are calls of Creel's own gateway (runtime embedded); a gateway of OpenShell has none of them, and one of an older Creel may lack some until it is restarted.",
		Commands: []string{"creel gateway status", "creel list"},
	},
	{
		ID: "gateway-external", Severity: Error, Layer: "gateway", Title: "Somebody else runs this gateway",
		Reason:   "Its runtime is external: Creel asks it and uses it, and never starts, stops or changes it.",
		Commands: []string{"creel gateway status"},
	},
	{
		ID: "gateway-endpoint-differs", Severity: Error, Layer: "gateway", Title: "The registration is for another endpoint",
		Reason:   "The endpoint that is wanted is not the one that the gateway's credentials were registered for. They are sent to nobody else.",
		Commands: []string{"creel onboard --runtime external --gateway-endpoint URL"}, Blocking: true,
	},
	{
		ID: "gateway-plaintext", Severity: Warning, Layer: "gateway", Title: "The gateway is asked in plaintext",
		Reason:   "Without TLS nothing proves who answers, and without a client certificate every process of the machine may command the gateway.",
		Commands: []string{"creel gateway status --json"},
	},
	{
		ID: "gateway-token-expired", Severity: Error, Layer: "gateway", Title: "The gateway's token has expired",
		Reason:   "The registration holds a token whose time is over. That says nothing about the gateway.",
		Commands: []string{"openshell gateway login"},
	},
	{
		ID: "gateway-token-exposed", Severity: Error, Layer: "gateway", Title: "A token would travel in plaintext",
		Reason:   "The registered endpoint is on another machine and has no TLS. Whoever is on the way could command the gateway with the token, so it is not sent.",
		Commands: []string{"openshell gateway add URL"}, Blocking: true,
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
		Reason:   "It was linked against a newer glibc than this machine has; the message says which. Creel's own static build (CGO_ENABLED=0) needs none; an openshell-gateway has to be one that was built for this system.",
		Commands: []string{"ldd --version", "CGO_ENABLED=0 go build ./cmd/creel", "creel onboard --gateway OTHER --runtime embedded"}, Blocking: true,
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
		ID: "gateway-docker-unreachable", Severity: Error, Layer: "gateway", Title: "The gateway cannot reach Docker",
		Reason:   "Its driver runs sandboxes in containers, and the Docker daemon did not answer or refused this user.",
		Commands: []string{"docker info", "creel gateway start"}, Blocking: true,
	},
	{
		ID: "openshell-disagrees", Severity: Error, Layer: "gateway", Title: "OpenShell's own program does not find the gateway",
		Reason:   "The gateway answers Creel, and the openshell program says otherwise: its registration is damaged or leads elsewhere, or the program is of another time.",
		Commands: []string{"openshell status -g NAME", "openshell gateway info -g NAME", "creel gateway start"},
	},
	{
		ID: "gateway-port-fixed", Severity: Warning, Layer: "gateway", Title: "The gateway's container publishes another port than is wanted",
		Reason:   "Which ports a container publishes is decided when it is made, and Creel makes none. The gateway is used where it is.",
		Commands: []string{"docker port NAME", "creel onboard --gateway-only --gateway-port PORT"},
	},
	{
		ID: "gateway-image-differs", Severity: Warning, Layer: "gateway", Title: "The gateway's image and the openshell program are of different versions",
		Reason:   "It works. Bringing both together makes the gateway's container anew, which ends the sandboxes in it; Creel pulls no images and leaves that to you.",
		Commands: []string{"openshell --version", "creel onboard --gateway OTHER --runtime embedded"},
	},
	{
		ID: "gateway-cdi", Severity: Error, Layer: "gateway", Title: "A device specification (CDI) is wrong",
		Reason:   "The container engine could not use what describes the GPUs of this machine.",
		Commands: []string{"nvidia-ctk cdi list", "sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml", "creel gateway start"}, Blocking: true,
	},
	{
		ID: "gateway-binary-missing", Severity: Error, Layer: "gateway", Title: "openshell-gateway was not found",
		Reason:   "The runtime openshell runs the program openshell-gateway, which is neither named by CREEL_OPENSHELL_GATEWAY_BIN nor in the usual places.",
		Commands: []string{"CREEL_OPENSHELL_GATEWAY_BIN=/path/to/openshell-gateway creel gateway start", "creel onboard --gateway OTHER --runtime embedded"}, Blocking: true,
	},
	{
		ID: "gateway-log-missing", Severity: Info, Layer: "gateway", Title: "The gateway has no log yet",
		Reason:   "It was never started, or its state was removed.",
		Commands: []string{"creel gateway start"},
	},
	{
		ID: "database-newer", Severity: Error, Layer: "gateway", Blocking: true, Title: "The gateway's database is of a newer version",
		Reason:   "A newer version of the gateway wrote it, and this one does not know what it means. Nothing was changed; install the newer version again.",
		Commands: []string{"creel version"},
	},
	{
		ID: "database-foreign", Severity: Error, Layer: "gateway", Blocking: true, Title: "The gateway's database is another program's file",
		Reason:   "A file that Creel did not write is where the gateway's database belongs. Nothing was changed; move it away, and the gateway makes its own.",
		Commands: []string{"mv FILE FILE.moved", "creel gateway start"},
	},
	{
		ID: "database-corrupt", Severity: Error, Layer: "gateway", Blocking: true, Title: "The gateway's database is damaged",
		Reason:   "It cannot be read, or its content contradicts itself. Nothing was changed. Moved away, it is rebuilt from the sandboxes on disk; providers have to be set again.",
		Commands: []string{"mv FILE FILE.damaged", "creel gateway start", "creel inference set"},
	},
	{
		ID: "credential-key-unusable", Severity: Error, Layer: "gateway", Blocking: true, Title: "The key of stored credentials cannot be used",
		Reason:   "The file that decrypts stored provider credentials is damaged or is not ours. A new one could not open what the old one sealed, so none is made.",
		Commands: []string{"mv FILE FILE.damaged", "creel gateway start", "creel inference set"},
	},
	{
		ID: "gateway-socket-taken", Severity: Error, Layer: "gateway", Blocking: true, Title: "Another process answers on the gateway's socket",
		Reason:   "A process that lives holds the Unix socket on which supervisors reach this gateway.",
		Commands: []string{"creel gateway status"},
	},
	{
		ID: "sandbox-not-connected", Severity: Error, Layer: "sandbox", Title: "The sandbox is not connected to the gateway",
		Reason:   "Its supervisor holds no session at present: it is starting, was stopped, or is reconnecting after the gateway was restarted.",
		Commands: []string{"creel status SANDBOX", "creel logs SANDBOX"},
	},
	{
		ID: "sandbox-busy", Severity: Error, Layer: "sandbox", Title: "Too many connections into the sandbox",
		Reason:   "At most 32 connections into one sandbox and 256 into all of a gateway's are being opened at a time, or open as streams through its supervisor (commands, shells, OpenShell clients). Those of dashboards and forwards, which it hands over, no longer count once they are open.",
		Commands: []string{"creel status SANDBOX"},
	},
	{
		ID: "provider-missing", Severity: Error, Layer: "inference", Title: "No such model provider is stored",
		Reason:   "A route can only name a provider whose credential the gateway keeps.",
		Commands: []string{"creel inference set"},
	},
}
