package advisory

var sandbox = []Advisory{
	{
		ID: "sandbox-partly-known", Severity: Info, Layer: "sandbox", Title: "The gateway tells only part of how the sandbox is",
		Reason:   "A gateway of OpenShell tells the phase of a sandbox. How it is confined, and which policy is enforced, is that gateway's affair; Creel has not seen it.",
		Commands: []string{"creel list", "openshell policy get SANDBOX"},
	},
	{
		ID: "confinement-unavailable", Severity: Error, Layer: "host", Blocking: true,
		Title:    "No confinement available",
		Reason:   "Neither Linux namespaces nor Landlock with network rules (ABI 4, Linux 6.7) work for this user on this machine, so an agent could reach everything you can.",
		Commands: []string{"creel doctor", "creel onboard --confinement auto --accept-risk unconfined"},
	},
	{
		ID: "confinement-risk", Severity: Error, Layer: "input", Blocking: true,
		Title:    "Risk not accepted",
		Reason:   "A sandbox without confinement can read, change and send whatever its user can. It is only started when that is accepted in so many words.",
		Commands: []string{"creel onboard --confinement unconfined --accept-risk unconfined"},
	},
	{
		ID: "confinement-degraded", Severity: Warning, Layer: "sandbox",
		Title:    "Weaker confinement",
		Reason:   "User namespaces are not permitted here. The sandbox runs under Landlock and seccomp alone: it has no private view of files, processes or network, only rules about them.",
		Commands: []string{"creel doctor", "creel status"},
	},
	{
		ID: "confinement-off", Severity: Error, Layer: "sandbox",
		Title:    "Sandbox is not confined",
		Reason:   "The sandbox was started with the risk of running unconfined accepted. Nothing keeps its programs from your files and network.",
		Commands: []string{"creel destroy SANDBOX", "creel onboard"},
	},
	{
		ID: "confinement-failed", Severity: Error, Layer: "sandbox",
		Title:    "Confinement could not be applied",
		Reason:   "A step of confining the sandbox failed, or a protection was not observed to be in force after it was applied. The sandbox was not started.",
		Commands: []string{"creel doctor", "creel logs SANDBOX"},
	},
	{
		ID: "policy-path-refused", Severity: Error, Layer: "sandbox", Blocking: true,
		Title:    "A policy path may not be shown",
		Reason:   "The policy's filesystem lists name a path that would show the sandbox a home directory, Creel's own state, or an interface of the host.",
		Commands: []string{"creel apply -f FILE"},
	},
	{
		ID: "workspace-unreachable", Severity: Error, Layer: "sandbox", Blocking: true,
		Title:    "The sandbox's user cannot reach its workspace",
		Reason:   "Without namespaces the sandbox's own user has to walk the real path to its workspace, and a directory on the way is closed to it (root's home usually is).",
		Commands: []string{"env CREEL_HOME=/var/lib/creel creel onboard"},
	},
	{
		ID: "sandbox-start-failed", Severity: Error, Layer: "sandbox",
		Title:    "The sandbox did not start",
		Reason:   "Its supervisor ended, or did not say that it was up within its time. Its log says why.",
		Commands: []string{"creel logs SANDBOX", "creel start SANDBOX"},
	},
	{
		ID: "sandbox-stop-failed", Severity: Error, Layer: "sandbox",
		Title:    "The sandbox did not stop",
		Reason:   "Processes of the sandbox are left although they were killed. A process that waits for a device or a network file system cannot end before that answers.",
		Commands: []string{"creel stop SANDBOX", "creel doctor"},
	},
	{
		ID: "sandbox-record-corrupt", Severity: Error, Layer: "sandbox",
		Title:    "A sandbox's record cannot be read",
		Reason:   "The file handle.json of a sandbox is damaged, foreign or of a newer version. It is left as it is; the other sandboxes are not affected. Moved away, it is made anew from what the gateway knows.",
		Commands: []string{"mv FILE FILE.damaged", "creel start SANDBOX"},
	},
}
