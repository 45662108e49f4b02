package advisory

var upgrade = []Advisory{
	{
		ID: "gateway-drifted", Severity: Warning, Layer: "gateway", Title: "The gateway runs with other settings or another build",
		Reason:   "It answers, but would be started differently now. An upgrade replaces it, and takes the old one back if the new one does not come up; sandboxes of Creel's own gateway are not disturbed.",
		Commands: []string{"creel gateway upgrade --plan", "creel gateway upgrade"},
	},
	{
		ID: "gateway-upgrade-failed", Severity: Error, Layer: "gateway", Blocking: true, Title: "The new gateway did not come up; the old one is back",
		Reason:   "The new gateway was ended, and what it wrote is below upgrade/refused in the gateway's directory. The old one runs again from the database that it had.",
		Commands: []string{"creel gateway logs", "creel gateway status", "creel gateway upgrade"},
	},
	{
		ID: "gateway-upgrade-stranded", Severity: Error, Layer: "gateway", Blocking: true, Title: "Neither the new nor the old gateway came up",
		Reason:   "The old gateway's files are back in their place, and no gateway runs; running sandboxes of Creel's own gateway go on. The next start tries the new one and the old one again.",
		Commands: []string{"creel gateway logs", "creel gateway start"},
	},
	{
		ID: "gateway-upgrade-unfinished", Severity: Warning, Layer: "gateway", Title: "An upgrade of the gateway was interrupted",
		Reason:   "One of its two gateways is healthy. The next start forgets the upgrade, or finishes it when no gateway runs any more.",
		Commands: []string{"creel gateway start"},
	},
	{
		ID: "gateway-upgrade-interrupted", Severity: Error, Layer: "gateway", Blocking: true, Title: "An interrupted upgrade is to be finished first",
		Reason:   "What is on disk is the old gateway's, and another build was started without a command that keeps it first. It did not serve. A start through the command line finishes the upgrade, with a way back.",
		Commands: []string{"creel gateway start"},
	},
	{
		ID: "gateway-upgrade-elsewhere", Severity: Error, Layer: "gateway", Blocking: true, Title: "An upgrade of another runtime was interrupted",
		Reason:   "The gateway was being upgraded as another runtime. What was kept for that is not to be lost: no command changes a recorded runtime, so that the answers were edited or lost. Moved away, they are asked for again, and a start as the former runtime finishes the upgrade.",
		Commands: []string{"creel gateway status"},
	},
	{
		ID: "gateway-upgrade-no-way-back", Severity: Error, Layer: "gateway", Blocking: true, Title: "The old gateway could not be kept",
		Reason:   "Its executable is gone from disk and could not be copied from its process, so there would be no way back. It was not stopped. Stopping and starting it by hand replaces it without a way back.",
		Commands: []string{"creel gateway status", "creel gateway stop", "creel gateway start"},
	},
	{
		ID: "gateway-upgrade-unsupported", Severity: Error, Layer: "gateway", Blocking: true, Title: "Creel does not upgrade this gateway",
		Reason:   "Somebody else runs it, or it is upgraded with the tools of where it runs. Creel judges it all the same.",
		Commands: []string{"creel gateway status"},
	},
	{
		ID: "gateway-downgrade", Severity: Error, Layer: "gateway", Blocking: true, Title: "The gateway to start is older than its database",
		Reason:   "A newer openshell-gateway served from this database last, and an older one may misread it. Nothing was changed. Install the newer one again, or allow the older one; if it does not come up, the database is put back.",
		Commands: []string{"openshell-gateway --version", "creel gateway upgrade --allow-downgrade"},
	},
	{
		ID: "gateway-record-newer", Severity: Error, Layer: "gateway", Blocking: true, Title: "A newer Creel wrote the gateway's state",
		Reason:   "A file that says which gateway ran last, or which upgrade is under way, is of a newer version. This one does not touch it; use the newer Creel.",
		Commands: []string{"creel version"},
	},
	{
		ID: "gateway-record-invalid", Severity: Error, Layer: "gateway", Blocking: true, Title: "A record of the gateway is damaged",
		Reason:   "The file that says which gateway ran last, or which upgrade is under way, is not what Creel wrote. Nothing was changed. Moved away, nothing is known of earlier gateways; what an interrupted upgrade kept stays below upgrade/kept.",
		Commands: []string{"mv FILE FILE.damaged", "creel gateway start"},
	},
}
