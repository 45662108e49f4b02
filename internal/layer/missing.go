package layer

import (
	"fmt"

	"creel/internal/agent"
	"creel/internal/gateway"
	"creel/internal/health"
	"creel/internal/sandbox"
)

// programMissing is the reason of an agent whose program its sandbox does not have.
const programMissing = "program-missing"

// exitNotFound is what a shell ends with that does not find a program, and so do env
// and Creel's own way into an agent.
const exitNotFound = 127

// missing recognises an agent that does not run because its program is not there, and
// says what to do, the same for the sandbox and for the agent in it.
func (w WantedSandbox) missing(in gateway.Inspection) (health.Result, bool) {
	main := in.State.Main
	ended := main.State == sandbox.ProcExited || main.State == sandbox.ProcBackoff
	name := agent.Program(w.Spec.Agent, w.Spec.Command)
	var r health.Result
	var then []string // once it is there
	switch {
	case in.Phase == sandbox.Error && in.Reason == programMissing:
		r = failed(programMissing, "%s is not in the sandbox", name)
		then = []string{"creel start " + w.Name} // it has written no log
	case ended && main.LastExitCode != nil && *main.LastExitCode == exitNotFound:
		r = failed(programMissing, "%s, or what it is started with, is not in the sandbox (exit code %d)", name, exitNotFound)
		then = []string{"creel onboard --name " + w.Name, "creel logs " + w.Name} // it may be waited for otherwise
	default:
		return health.Result{}, false
	}
	if m, err := agent.Lookup(w.Spec.Agent); err == nil && len(m.Default) > 0 && name == m.Default[0] {
		r.Hints = append(m.Install, then...)
	} else {
		r.Hints = append([]string{fmt.Sprintf("creel onboard --name %s -- PROGRAM", w.Name)}, then...)
	}
	return r, true
}
