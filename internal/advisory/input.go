package advisory

// input lists what is wrong with what a user typed or set. Every one of them
// ends a command with exit code 2.
var input = []Advisory{
	{ID: "usage", Severity: Error, Layer: "input", Title: "the command line is not understood",
		Reason:   "A command, flag or argument does not exist or is used in a way it cannot be.",
		Commands: []string{"creel help"}, Blocking: true},
	{ID: "flag-conflict", Severity: Error, Layer: "input", Title: "two answers contradict each other",
		Reason:   "Two flags or environment variables say different things about the same question; Creel does not choose between them.",
		Commands: []string{"creel help onboard", "creel help environment"}, Blocking: true},
	{ID: "budget-invalid", Severity: Error, Layer: "input", Title: "a time budget is not a duration",
		Reason:   "A CREEL_BUDGET_ variable must be a positive duration such as 5s or 2m.",
		Commands: []string{"creel help budgets"}, Blocking: true},
	{ID: "name-invalid", Severity: Error, Layer: "input", Title: "a name is not usable",
		Reason:   "Names are DNS labels: they begin with a lower-case letter and hold at most 19 lower-case letters, digits and single hyphens. The names of commands are reserved.",
		Commands: []string{"creel onboard --name NAME"}, Blocking: true},
	{ID: "sandbox-ambiguous", Severity: Error, Layer: "input", Title: "which sandbox is meant is not clear",
		Reason:   "The sandbox can be left out only when there is exactly one.",
		Commands: []string{"creel list"}, Blocking: true},
	{ID: "confirmation-needed", Severity: Error, Layer: "input", Title: "the command needs a yes",
		Reason:   "Something is changed or removed, nobody can be asked because there is no terminal, and --yes was not given.",
		Commands: []string{"creel help"}, Blocking: true},
	{ID: "terminal-needed", Severity: Error, Layer: "input", Title: "the command needs a terminal",
		Reason:   "An interactive session can only be opened from a terminal. A single command runs without one.",
		Commands: []string{"creel exec SANDBOX -- /bin/sh -c pwd"}, Blocking: true},
	{ID: "home-invalid", Severity: Error, Layer: "input", Title: "the place for Creel's files cannot be used",
		Reason:   "CREEL_HOME must name a directory, or nothing that exists yet; without it HOME must be set.",
		Commands: []string{"creel help environment"}, Blocking: true},
}
