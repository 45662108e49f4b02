package advisory

var state = []Advisory{
	{
		ID: "desired-invalid", Severity: Error, Layer: "input", Title: "The desired state cannot be read", Blocking: true,
		Reason:   "The document has a mistake at the line that is shown. Nothing was changed.",
		Commands: []string{"creel plan -f FILE"},
	},
	{
		ID: "desired-version", Severity: Error, Layer: "input", Title: "The desired state has another version", Blocking: true,
		Reason:   "The document was written for another version of Creel. It is neither used nor rewritten.",
		Commands: []string{"creel version"},
	},
	{
		ID: "desired-unreadable", Severity: Error, Layer: "host", Title: "The desired state cannot be opened", Blocking: true,
		Reason:   "The file exists but cannot be read by this user, or is no file. Under su and sudo, HOME, CREEL_HOME or an XDG variable may still name the earlier user's.",
		Commands: []string{"ls -ld FILE"},
	},
	{
		ID: "state-unwritable", Severity: Error, Layer: "host", Title: "Creel cannot write its state", Blocking: true,
		Reason:   "The file system is read-only or full, or a directory belongs to somebody else.",
		Commands: []string{"creel status"},
	},
	{
		ID: "state-unreadable", Severity: Error, Layer: "host", Title: "A directory of Creel's cannot be listed",
		Reason:   "What is in it is not known, so there may be gateways that are not shown.",
		Commands: []string{"ls -ld FILE"},
	},
	{
		ID: "home-untrusted", Severity: Error, Layer: "host", Title: "Somebody else can change what Creel executes", Blocking: true,
		Reason: "Creel executes programs from its directories and trusts the sockets in them. One of these, or one above them, belongs to another user or lets others write to it, so nothing in them is used. " +
			"Under su and sudo, HOME, CREEL_HOME or an XDG variable may still name the earlier user's. Look at what is in there before it is taken over.",
		Commands: []string{"ls -ld FILE", "chown -hR root: FILE"},
	},
	{
		ID: "journal-corrupt", Severity: Warning, Layer: "host", Title: "The journal is damaged",
		Reason:   "A line of it is no entry. The journal only explains; it is set aside and a new one is begun at the next change.",
		Commands: []string{"creel onboard"},
	},
	{
		ID: "journal-unreadable", Severity: Error, Layer: "host", Title: "The journal cannot be read", Blocking: true,
		Reason:   "The file exists but cannot be read by this user.",
		Commands: []string{"creel status"},
	},
	{
		ID: "journal-newer", Severity: Error, Layer: "host", Title: "The journal is from a newer version", Blocking: true,
		Reason:   "A newer Creel wrote this gateway's state. This version refuses to change it.",
		Commands: []string{"creel version"},
	},
	{
		ID: "desired-changed", Severity: Error, Layer: "input", Title: "Something else was asked for meanwhile", Blocking: true,
		Reason:   "Another command changed what is wanted of this gateway after this one had read it. Nothing was done; run it again to see the new plan.",
		Commands: []string{"creel plan", "creel onboard"},
	},
	{
		ID: "plan-changed", Severity: Error, Layer: "input", Title: "More is needed than was agreed to",
		Reason:   "While mending, something turned out to need an action that disturbs or loses more than the plan said. It was not done.",
		Commands: []string{"creel plan", "creel onboard"},
	},
	{
		ID: "nothing-to-resume", Severity: Error, Layer: "input", Title: "There is nothing to resume", Blocking: true,
		Reason:   "No earlier run is recorded for this gateway.",
		Commands: []string{"creel onboard"},
	},
	{
		ID: "nothing-to-repair", Severity: Error, Layer: "input", Title: "There is nothing to repair", Blocking: true,
		Reason:   "Nothing has been set up under this gateway's name, so it is not known what should be there.",
		Commands: []string{"creel onboard"},
	},
	{
		ID: "gateway-busy", Severity: Error, Layer: "input", Title: "Another command is changing this gateway", Blocking: true,
		Reason:   "Only one command at a time may change a gateway; the message names who holds the lock. Reading is always possible.",
		Commands: []string{"creel status"},
	},
	{
		ID: "host-insufficient", Severity: Error, Layer: "host", Title: "This machine lacks something that is needed", Blocking: true,
		Reason:   "The evidence says what is needed and what was found.",
		Commands: []string{"creel status"},
	},
	{
		ID: "blocked", Severity: Info, Layer: "host", Title: "Not asked because of a layer below",
		Reason:   "What this layer stands on is not ok, so its own state cannot be observed.",
		Commands: []string{"creel status"},
	},
	{
		ID: "gateway-differs", Severity: Error, Layer: "gateway", Title: "The gateway is not reached as wanted",
		Reason:   "The desired state names another port, or TLS where it serves in plaintext, or the other way round. Moving there restarts the gateway; sandboxes go on.",
		Commands: []string{"creel onboard"},
	},
	{
		ID: "inference-absent", Severity: Error, Layer: "inference", Title: "The wanted model provider is not set",
		Reason:   "The gateway has no route to a model provider.",
		Commands: []string{"creel onboard"}, DependsOn: []string{"gateway-not-running"},
	},
	{
		ID: "inference-differs", Severity: Error, Layer: "inference", Title: "Another model answers than the one wanted",
		Reason:   "The gateway's route is not the one of the desired state.",
		Commands: []string{"creel onboard"},
	},
	{
		ID: "sandbox-absent", Severity: Error, Layer: "sandbox", Title: "The sandbox does not exist",
		Reason:   "A healthy gateway has no sandbox of that name.",
		Commands: []string{"creel onboard"},
	},
	{
		ID: "sandbox-differs", Severity: Error, Layer: "sandbox", Title: "The sandbox is not as wanted",
		Reason:   "It was made from another specification. Changing it restarts its agent; the workspace stays.",
		Commands: []string{"creel onboard"},
	},
	{
		ID: "sandbox-stopped", Severity: Error, Layer: "sandbox", Title: "The sandbox is stopped",
		Reason:   "It was stopped. Nothing runs in it, and its workspace is kept.",
		Commands: []string{"creel start SANDBOX"},
	},
	{
		ID: "sandbox-runs", Severity: Error, Layer: "sandbox", Title: "The sandbox should be stopped",
		Reason:   "It is wanted stopped and runs.",
		Commands: []string{"creel stop SANDBOX"},
	},
	{
		ID: "sandbox-error", Severity: Error, Layer: "sandbox", Title: "The sandbox failed",
		Reason:   "Its supervisor did not start, or its main process ended. The message says whether it is started again, which its restart policy decides.",
		Commands: []string{"creel logs SANDBOX", "creel start SANDBOX"},
	},
	{
		ID: "sandbox-unknown", Severity: Warning, Layer: "sandbox", Title: "The state of the sandbox cannot be determined",
		Reason:   "The gateway could not find out whether its supervisor lives. Nothing is created or deleted on that.",
		Commands: []string{"creel status", "creel gateway logs"},
	},
	{
		ID: "sandbox-not-ready", Severity: Error, Layer: "sandbox", Title: "The sandbox is not ready",
		Reason:   "It is on its way up, or its agent keeps ending.",
		Commands: []string{"creel logs SANDBOX"},
	},
	{
		ID: "policy-differs", Severity: Error, Layer: "sandbox", Title: "The policy in force is not the declared one",
		Reason:   "Declared, applied and enforced policy must be the same.",
		Commands: []string{"creel onboard"},
	},
	{
		ID: "agent-not-running", Severity: Error, Layer: "agent", Title: "The agent does not run",
		Reason:   "Its process ended. The log says why; the restart policy says whether it is started again.",
		Commands: []string{"creel logs SANDBOX"}, DependsOn: []string{"sandbox-error", "sandbox-stopped", "program-missing"},
	},
	{
		ID: "agent-ended", Severity: Error, Layer: "agent", Title: "The agent ended and is not started again",
		Reason:   "Its restart policy leaves it ended. The log says why it ended.",
		Commands: []string{"creel logs SANDBOX", "creel onboard"}, DependsOn: []string{"sandbox-error", "sandbox-stopped", "program-missing"},
	},
	{
		ID: "agent-starting", Severity: Warning, Layer: "agent", Title: "The agent is on its way up",
		Reason:   "Its process was started a moment ago and does not answer yet.",
		Commands: []string{"creel status", "creel logs SANDBOX"},
	},
	{
		ID: "agent-unhealthy", Severity: Error, Layer: "agent", Title: "The agent is not healthy",
		Reason:   "Its process runs but its health endpoint does not answer well.",
		Commands: []string{"creel logs SANDBOX"},
	},
	{
		ID: "agent-unknown", Severity: Warning, Layer: "agent", Title: "The agent's health cannot be determined",
		Reason:   "Its health endpoint could not be asked.",
		Commands: []string{"creel status", "creel logs SANDBOX"},
	},
	{
		ID: "dashboard-starting", Severity: Warning, Layer: "dashboard", Title: "The dashboard is on its way up",
		Reason:   "Its agent was started a moment ago and does not serve the page yet.",
		Commands: []string{"creel status", "creel logs SANDBOX"},
	},
	{
		ID: "dashboard-differs", Severity: Error, Layer: "dashboard", Title: "The dashboard is not where it is wanted",
		Reason:   "Its listener moves without disturbing the agent.",
		Commands: []string{"creel onboard"},
	},
}
