package advisory

var registration = []Advisory{
	{
		ID: "registration-unusable", Severity: Error, Layer: "registration", Title: "The registration cannot be used",
		Reason:   "What OpenShell clients keep of this gateway is damaged or incomplete: an endpoint, a certificate or a token is missing or does not parse.",
		Commands: []string{"openshell gateway list", "creel gateway status --json"},
	},
	{
		ID: "registration-absent", Severity: Error, Layer: "registration", Title: "OpenShell clients do not know the gateway",
		Reason:    "The record by which OpenShell clients find a gateway, or a part of it, does not exist.",
		Commands:  []string{"creel onboard"},
		DependsOn: []string{"secrets-absent"},
	},
	{
		ID: "registration-stale", Severity: Error, Layer: "registration", Title: "The OpenShell registration is out of date",
		Reason:    "It names another endpoint or holds another certificate than the gateway has now.",
		Commands:  []string{"creel onboard"},
		DependsOn: []string{"secrets-absent"},
	},
	{
		ID: "registration-foreign", Severity: Error, Layer: "registration", Title: "Another gateway is registered under this name", Blocking: true,
		Reason:   "OpenShell clients have a registration of this name that Creel did not write. It is never overwritten.",
		Commands: []string{"openshell gateway list", "creel onboard --name NAME"},
	},
	{
		ID: "registration-unknown", Severity: Error, Layer: "registration", Title: "The OpenShell registration could not be read", Blocking: true,
		Reason:   "Whose it is could not be determined, so nothing is written over it.",
		Commands: []string{"creel status"},
	},
	{
		ID: "registration-record-invalid", Severity: Error, Layer: "registration", Title: "The note of what was registered is damaged", Blocking: true,
		Reason:   "The file that says which registration files are Creel's own does not parse or was written by a newer version, so nothing of the registration is touched.",
		Commands: []string{"creel version", "creel status"},
	},
	{
		ID: "registration-write", Severity: Error, Layer: "registration", Title: "The OpenShell registration could not be written", Blocking: true,
		Reason:   "The directory that OpenShell clients read refused: no permission, a read-only or a full disk.",
		Commands: []string{"df -h .", "creel onboard"},
	},
}
