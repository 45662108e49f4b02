package advisory

var dashboard = []Advisory{
	{
		ID: "dashboard-not-bound", Severity: Error, Layer: "dashboard", Blocking: true,
		Title:     "The dashboard has no listener",
		Reason:    "The gateway did not bind a port for this sandbox's dashboard, so nothing can open it.",
		Commands:  []string{"creel onboard", "creel gateway restart"},
		DependsOn: []string{"gateway-not-running"},
	},
	{
		ID: "dashboard-port-taken", Severity: Error, Layer: "dashboard", Blocking: true,
		Title:    "The dashboard's port is taken",
		Reason:   "Another program listens on the port that was asked for by name, and no other port is taken instead of an explicit one. The sandbox itself is not affected.",
		Commands: []string{"creel onboard --dashboard-port PORT"},
	},
	{
		ID: "dashboard-not-listening", Severity: Error, Layer: "dashboard", Blocking: true,
		Title:     "Nothing listens at the dashboard's address",
		Reason:    "A TCP connection to the dashboard's address was refused. The gateway, which holds the listener, is not running or has lost it.",
		Commands:  []string{"creel gateway start", "creel onboard"},
		DependsOn: []string{"gateway-not-running", "dashboard-not-bound"},
	},
	{
		ID: "dashboard-silent", Severity: Error, Layer: "dashboard", Blocking: true,
		Title:    "The dashboard accepts connections but does not answer",
		Reason:   "The listener is bound, but no answer came through it within the probe budget. The agent behind it hangs, or the sandbox is not connected to the gateway.",
		Commands: []string{"creel logs SANDBOX", "creel stop SANDBOX", "creel start SANDBOX"},
	},
	{
		ID: "dashboard-unhealthy", Severity: Error, Layer: "dashboard", Blocking: true,
		Title:    "The dashboard's health endpoint reports a fault",
		Reason:   "Something answers at the dashboard's address, but not as the agent's health endpoint should.",
		Commands: []string{"creel logs SANDBOX", "creel stop SANDBOX", "creel start SANDBOX"},
	},
	{
		ID: "dashboard-page", Severity: Error, Layer: "dashboard", Blocking: true,
		Title:     "The dashboard's page does not open",
		Reason:    "The health endpoint answers, but the page itself is not served as HTML.",
		Commands:  []string{"creel logs SANDBOX"},
		DependsOn: []string{"dashboard-unhealthy"},
	},
	{
		ID: "dashboard-websocket", Severity: Error, Layer: "dashboard", Blocking: true,
		Title:     "The dashboard's WebSocket does not open",
		Reason:    "The page is served, but a WebSocket with the page's own origin is not accepted, so the page would load and never connect.",
		Commands:  []string{"creel logs SANDBOX", "creel stop SANDBOX", "creel start SANDBOX"},
		DependsOn: []string{"dashboard-unhealthy"},
	},
	{
		ID: "dashboard-origin-open", Severity: Error, Layer: "dashboard", Blocking: true,
		Title:    "The dashboard lets other websites in",
		Reason:   "A WebSocket that claimed to come from another website was accepted. Any page that is open in the browser could then try to talk to the agent.",
		Commands: []string{"creel stop SANDBOX"},
	},
	{
		ID: "dashboard-token-refused", Severity: Error, Layer: "dashboard", Blocking: true,
		Title:    "The dashboard refuses its own token",
		Reason:   "The agent was started with another token than the one on record, so the URL that Creel would give does not open it.",
		Commands: []string{"creel stop SANDBOX", "creel start SANDBOX"},
	},
	{
		ID: "dashboard-token-limited", Severity: Warning, Layer: "dashboard",
		Title:    "The dashboard lets nobody in for a while",
		Reason:   "Too many wrong tokens were shown, and the agent refuses everybody for some minutes. Whether it would take the right one cannot be said until then.",
		Commands: []string{"creel logs SANDBOX", "creel dashboard SANDBOX"},
	},
	{
		ID: "dashboard-token-open", Severity: Error, Layer: "dashboard", Blocking: true,
		Title:    "The dashboard accepts any token",
		Reason:   "A made-up token was accepted, so whoever reaches the port can use the agent.",
		Commands: []string{"creel stop SANDBOX"},
	},
	{
		ID: "dashboard-token-unknown", Severity: Warning, Layer: "dashboard",
		Title:    "The dashboard's token could not be checked",
		Reason:   "The gateway did not say which token the agent was started with, so nothing is known about who can open the dashboard.",
		Commands: []string{"creel gateway status"},
	},
	{
		ID: "dashboard-not-asked", Severity: Warning, Layer: "dashboard",
		Title:    "The dashboard could not be asked",
		Reason:   "The questions to the dashboard were broken off before an answer came, so nothing is known about it.",
		Commands: []string{"creel status SANDBOX"},
	},
	{
		ID: "dashboard-exposed", Severity: Warning, Layer: "dashboard",
		Title:    "The dashboard can be reached from other machines",
		Reason:   "Its listener is bound to every address of this machine because that was asked for. Whoever has the token can use the agent; the connection is not encrypted.",
		Commands: []string{"creel dashboard SANDBOX"},
	},
	{
		ID: "dashboard-url-invalid", Severity: Error, Layer: "input", Blocking: true,
		Title:    "The dashboard's URL or port cannot be used",
		Reason:   "A dashboard URL is http or https with a host, and a port is a number from 1 to 65535.",
		Commands: []string{"creel onboard --dashboard-port 18789"},
	},
	{
		ID: "dashboard-bind-invalid", Severity: Error, Layer: "input", Blocking: true,
		Title:    "The dashboard's bind address cannot be used",
		Reason:   "The listener is bound to loopback, which is the default, or to 0.0.0.0, which must be asked for by exactly that value. Nothing in between is supported.",
		Commands: []string{"creel onboard"},
	},
}
