package advisory

var forward = []Advisory{
	{
		ID: "forward-port-taken", Severity: Error, Layer: "dashboard", Blocking: true,
		Title:    "A forward's port is taken",
		Reason:   "Another program listens on the port that was asked for by name, and no other port is taken instead of an explicit one. The sandbox and its other forwards are not affected. Leave the port out, as in :TARGET, to have a free one.",
		Commands: []string{"creel forward list", "creel forward start SANDBOX :PORT"},
	},
	{
		ID: "forward-not-bound", Severity: Error, Layer: "dashboard",
		Title:     "A forward has no listener",
		Reason:    "The gateway could not listen for a port that is forwarded into a sandbox, so nothing can use it. The sandbox itself is not affected.",
		Commands:  []string{"creel forward list", "creel repair"},
		DependsOn: []string{"gateway-not-running"},
	},
	{
		ID: "forward-differs", Severity: Error, Layer: "dashboard",
		Title:    "The forwards are not as recorded",
		Reason:   "What the gateway forwards into a sandbox is not what is recorded for it. Mending it does not disturb the agent.",
		Commands: []string{"creel repair"},
	},
	{
		ID: "forward-unreachable", Severity: Error, Layer: "dashboard",
		Title:    "The sandbox has no ports to forward",
		Reason:   "Where confinement fell back to Landlock a sandbox has no network of its own, and its programs can listen on the dashboard's port alone. Every other port there is this machine's, and is not forwarded.",
		Commands: []string{"creel doctor SANDBOX", "creel forward list SANDBOX"},
	},
	{
		ID: "forward-exposed", Severity: Warning, Layer: "dashboard",
		Title:    "A forwarded port can be reached from other machines",
		Reason:   "The listener is bound to every address of this machine because that was asked for. What it leads to is protected only by what the program inside asks for, and the connection is not encrypted by Creel.",
		Commands: []string{"creel forward list", "creel forward stop SANDBOX PORT"},
	},
	{
		ID: "forward-full", Severity: Warning, Layer: "dashboard",
		Title:    "A forward refused connections",
		Reason:   "More connections came than one forward carries at a time, or than one address gets of a dashboard's, so some were reset. Those that were there before went on, but for a dashboard's that had carried nothing for a while.",
		Commands: []string{"creel forward list SANDBOX"},
	},
	{
		ID: "forward-unknown", Severity: Error, Layer: "input", Blocking: true,
		Title:    "There is no such forward",
		Reason:   "Nothing of the sandbox is forwarded on that port of this machine.",
		Commands: []string{"creel forward list"},
	},
	{
		ID: "forward-invalid", Severity: Error, Layer: "input", Blocking: true,
		Title:    "What is to be forwarded is not understood",
		Reason:   "A forward is [BIND:]PORT[:TARGET]: a port of this machine, and the port inside the sandbox that it leads to where that is another. Without a port, as in :TARGET, a free one is taken. BIND is 127.0.0.1, which is the default, or 0.0.0.0 for every machine that reaches this one.",
		Commands: []string{"creel help forward start"},
	},
	{
		ID: "forward-port-used", Severity: Error, Layer: "input", Blocking: true,
		Title:    "The port leads elsewhere already",
		Reason:   "A port of this machine leads to one port of one sandbox, and a forward that is there is not replaced by another. Stop it first, or take another port.",
		Commands: []string{"creel forward list", "creel forward stop SANDBOX PORT"},
	},
	{
		ID: "forward-unrecorded", Severity: Error, Layer: "input", Blocking: true,
		Title:    "The sandbox is not recorded",
		Reason:   "Forwards are recorded with their sandbox, and this one was made by another client. Its own client can forward ports into it.",
		Commands: []string{"creel list"},
	},
	{
		ID: "dashboard-stopped", Severity: Error, Layer: "dashboard",
		Title:    "The dashboard's listener was stopped",
		Reason:   "It was stopped on purpose with creel forward stop; the agent goes on without it.",
		Commands: []string{"creel forward start SANDBOX"},
	},
}
