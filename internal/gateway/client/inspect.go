package client

import (
	"context"
	"time"

	creelv1 "creel/api/creel/v1"
	"creel/internal/budget"
	"creel/internal/gateway"
	"creel/internal/health"
	"creel/internal/sandbox"
)

// Inspect implements gateway.Client.
func (c *client) Inspect(ctx context.Context, probe bool, names ...string) ([]gateway.Inspection, error) {
	const operation = "inspect sandboxes"
	ctx, cancel := budget.Context(ctx, budget.Operation, operation)
	defer cancel()
	r, err := c.creel.InspectSandboxes(ctx, &creelv1.InspectSandboxesRequest{Names: names, Probe: probe})
	if err != nil {
		return nil, c.problem(ctx, operation, err)
	}
	out := make([]gateway.Inspection, 0, len(r.GetSandboxes()))
	for _, s := range r.GetSandboxes() {
		out = append(out, inspectionFrom(s))
	}
	return out, nil
}

func inspectionFrom(s *creelv1.SandboxInspection) gateway.Inspection {
	var forwards []gateway.Forward
	for _, f := range s.GetForwards() {
		forwards = append(forwards, forwardFrom(f))
	}
	return gateway.Inspection{Name: nameFrom(s.GetName()), ID: s.GetId(), Agent: s.GetAgentName(), Phase: sandbox.Phase(s.GetPhase()),
		Message: s.GetMessage(), Reason: s.GetReason(), Wanted: sandbox.Wanted(s.GetWanted()), Connected: s.GetConnected(),
		ConnectedSince: at(s.GetConnectedSinceMs()), State: stateFrom(s.GetState()), Health: healthFrom(s.GetAgent()),
		Dashboard: forwardFrom(s.GetDashboard()), PolicyDeclared: s.GetPolicyDeclared(), Model: s.GetModel(), CreatedAt: at(s.GetCreatedAtMs()),
		Labels: s.GetLabels(), Forwards: forwards}
}

// at is the moment of a time in milliseconds; 0 is no moment.
func at(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// verdictFrom takes a word it does not know for what it is: unknown.
func verdictFrom(word string) health.Verdict {
	v, err := health.ParseVerdict(word)
	if err != nil {
		return health.Unknown
	}
	return v
}

func healthFrom(a *creelv1.AgentHealth) gateway.AgentHealth {
	return gateway.AgentHealth{Verdict: verdictFrom(a.GetVerdict()), Message: a.GetMessage(), HTTPStatus: int(a.GetHttpStatus()),
		Took: time.Duration(a.GetTookUs()) * time.Microsecond}
}

func forwardFrom(f *creelv1.Forward) gateway.Forward {
	return gateway.Forward{Sandbox: f.GetSandbox(), Bind: f.GetBind(), Port: int(f.GetPort()), WantedPort: int(f.GetWantedPort()),
		TargetPort: int(f.GetTargetPort()), Bound: f.GetBound(), Stopped: f.GetStopped(), Error: f.GetError(), Reason: f.GetReason(),
		TakenPort: int(f.GetTakenPort()), TakenBy: f.GetTakenBy(),
		LostPort: int(f.GetLostPort()), LostTo: f.GetLostTo(), Connections: int(f.GetConnections()), Refused: f.GetRefused()}
}

func stateFrom(p *creelv1.SandboxState) sandbox.State {
	s := sandbox.State{PolicyApplied: p.GetPolicyApplied(), PolicyEnforced: p.GetPolicyEnforced(),
		SupervisorPID: int(p.GetSupervisorPid()), AgentPort: int(p.GetAgentPort()), RelayRequests: p.GetRelayRequests(), ReadsPreface: p.GetReadsPreface()}
	c := p.GetConfinement()
	s.Confinement = sandbox.Confinement{Tier: sandbox.Tier(c.GetTier()), Reason: c.GetReason()}
	for _, x := range c.GetProtections() {
		s.Confinement.Protections = append(s.Confinement.Protections, sandbox.Protection{Name: x.GetName(), On: x.GetOn(), Detail: x.GetDetail()})
	}
	m := p.GetMain()
	s.Main = sandbox.MainProcess{State: sandbox.ProcessState(m.GetState()), PID: int(m.GetPid()), Restarts: int(m.GetRestarts()),
		LastExit: m.GetLastExit(), InstanceID: m.GetInstanceId(), Since: at(m.GetSinceMs())}
	if m != nil && m.LastExitCode != nil {
		code := int(m.GetLastExitCode())
		s.Main.LastExitCode = &code
	}
	return s
}
