package advisory

const (
	inspectSecrets = "creel gateway secrets inspect"
	repairSecrets  = "creel gateway secrets repair"
	planSecrets    = "creel gateway secrets repair --plan"
	replaceSecrets = "creel gateway secrets repair --replace"
)

var secrets = []Advisory{
	{
		ID: "secrets-absent", Severity: Error, Layer: "secrets", Title: "Bootstrap secrets do not exist",
		Reason:   "The gateway cannot start without its certificates and its token key, and at least one of them does not exist.",
		Commands: []string{repairSecrets},
	},
	{
		ID: "secrets-incomplete", Severity: Error, Layer: "secrets", Title: "A bootstrap secret is incomplete",
		Reason:   "A part of a secret is missing or empty, as an interrupted write or a hand that deleted a file leaves it.",
		Commands: []string{repairSecrets, replaceSecrets},
	},
	{
		ID: "secrets-malformed", Severity: Error, Layer: "secrets", Title: "A bootstrap secret does not parse",
		Reason:   "A certificate or key is not what its name says. It is only replaced with consent, and the old value is kept in a backup.",
		Commands: []string{inspectSecrets, planSecrets, replaceSecrets},
	},
	{
		ID: "secrets-mismatched", Severity: Error, Layer: "secrets", Title: "Bootstrap secrets do not fit each other",
		Reason:   "A key does not belong to its certificate, or a certificate was issued by another authority, so that TLS handshakes fail.",
		Commands: []string{inspectSecrets, planSecrets, replaceSecrets},
	},
	{
		ID: "secrets-wrong-usage", Severity: Error, Layer: "secrets", Title: "A certificate was made for something else",
		Reason:   "Its key usage does not allow what the gateway uses it for, and the other side of a connection refuses it.",
		Commands: []string{inspectSecrets, replaceSecrets},
	},
	{
		ID: "secrets-wrong-name", Severity: Error, Layer: "secrets", Title: "A certificate does not cover a name that is needed",
		Reason:   "Clients reach the gateway by a name or address that its certificate is not valid for, or a client's certificate names no user.",
		Commands: []string{inspectSecrets, replaceSecrets},
	},
	{
		ID: "secrets-expired", Severity: Error, Layer: "secrets", Title: "A certificate has expired",
		Reason:   "Its validity has ended. What the gateway's own authority issued is issued again; an expired authority is only replaced with consent.",
		Commands: []string{repairSecrets, replaceSecrets},
	},
	{
		ID: "secrets-not-yet-valid", Severity: Error, Layer: "secrets", Title: "A certificate is not valid yet",
		Reason:   "Its validity begins in the future: either it was issued with another clock or this machine's clock is behind.",
		Commands: []string{"date", repairSecrets},
	},
	{
		ID: "secrets-expiring", Severity: Warning, Layer: "secrets", Title: "A certificate will expire",
		Reason:   "Less than a third of its life is left.",
		Commands: []string{inspectSecrets},
	},
	{
		ID: "secrets-key-readable", Severity: Warning, Layer: "secrets", Title: "Other users can read a private key",
		Reason:   "The file's mode lets its group or everybody read it. Whoever read it can act as the gateway or as its user.",
		Commands: []string{"chmod 600 FILE", replaceSecrets},
	},
	{
		ID: "secrets-unknown", Severity: Error, Layer: "secrets", Title: "Bootstrap secrets could not be read", Blocking: true,
		Reason:   "Whether they exist could not be determined, so nothing is written over them.",
		Commands: []string{inspectSecrets},
	},
	{
		ID: "secrets-unusable", Severity: Error, Layer: "secrets", Title: "Bootstrap secrets cannot be used",
		Reason:   "The gateway found its certificates or its token key absent, broken or not fitting each other when it opened them.",
		Commands: []string{inspectSecrets, repairSecrets},
	},
	{
		ID: "secrets-need-consent", Severity: Error, Layer: "secrets", Title: "Replacing bootstrap secrets needs consent", Blocking: true,
		Reason:   "What is broken may be in use, so it is not replaced without being told to. The old values are kept in a backup.",
		Commands: []string{planSecrets, replaceSecrets},
	},
	{
		ID: "secrets-changed", Severity: Error, Layer: "secrets", Title: "Bootstrap secrets changed during the repair",
		Reason:   "Somebody else wrote them between looking and writing, so nothing was overwritten.",
		Commands: []string{repairSecrets},
	},
	{
		ID: "secrets-write", Severity: Error, Layer: "secrets", Title: "Bootstrap secrets could not be written", Blocking: true,
		Reason:   "The place that keeps them refused: no permission, a read-only or a full disk.",
		Commands: []string{"df -h .", repairSecrets},
	},
	{
		ID: "secrets-not-applicable", Severity: Info, Layer: "secrets", Title: "There is no gateway whose bootstrap secrets these could be",
		Reason:   "The namespace or the StatefulSet does not exist. Whoever creates them may create the secrets as well, so nothing is touched before.",
		Commands: []string{inspectSecrets},
	},
	{
		ID: "secrets-not-rolled", Severity: Error, Layer: "secrets", Title: "The gateway was not started again with its new secrets",
		Reason:   "Secrets that were in use were replaced, and the gateway goes on with the old ones until it starts again.",
		Commands: []string{inspectSecrets, "creel gateway restart"},
	},
	{
		ID: "secrets-not-rotated", Severity: Error, Layer: "secrets", Title: "Bootstrap secrets were not rotated",
		Reason:   "Only a set that is good can be renewed without breaking anybody.",
		Commands: []string{inspectSecrets, planSecrets},
	},
}
