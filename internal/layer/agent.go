package layer

import (
	"context"
	"fmt"
	"time"

	"creel/internal/budget"
	"creel/internal/gateway"
	"creel/internal/health"
	"creel/internal/sandbox"
)

type agentLayer struct {
	session *Session
	want    WantedSandbox
}

// NewAgent is the layer of the program that a sandbox exists for.
func NewAgent(s *Session, want WantedSandbox) Layer { return &agentLayer{s, want} }

func (a *agentLayer) ID() ID          { return Agent }
func (a *agentLayer) Subject() string { return "sandbox/" + a.want.Name }
func (a *agentLayer) Title() string   { return "Agent of " + a.want.Name }

func (a *agentLayer) Inspect(ctx context.Context) health.Result {
	if a.want.Wanted == sandbox.NotRunning {
		return ok("stopped, as asked")
	}
	in, err := a.session.Sandbox(ctx, a.want.Name)
	switch {
	case absent(err):
		return failed("sandbox-absent", "its sandbox does not exist")
	case err != nil:
		return unknown("gateway-unknown", err)
	}
	return judgeAgent(in)
}

// judgeAgent is what an inspection means for the agent.
func judgeAgent(in gateway.Inspection) health.Result {
	main := in.State.Main
	process := health.Evidence{Probe: "main process", Answer: describeMain(main), Verdict: health.OK}
	if main.State != sandbox.ProcRunning {
		process.Verdict = health.Failed
		r := failed("agent-not-running", "%s", describeMain(main))
		r.Evidence = []health.Evidence{process}
		r.Hints = []string{"creel logs " + in.Name}
		return r
	}
	if in.Dashboard.TargetPort == 0 && in.Health.Message == "" {
		r := ok("%s", describeMain(main))
		r.Evidence = []health.Evidence{process}
		return r
	}
	asked := health.Evidence{Probe: "health endpoint, from inside", Answer: in.Health.Message, Verdict: in.Health.Verdict, Took: health.Micros(in.Health.Took)}
	var r health.Result
	switch in.Health.Verdict {
	case health.OK:
		r = ok("%s, healthy", describeMain(main))
	case health.Failed:
		r = failed("agent-unhealthy", "%s", in.Health.Message)
		r.Hints = []string{"creel logs " + in.Name}
	default:
		r = unknown("agent-unknown", fmt.Errorf("%s", orElse(in.Health.Message, "its health endpoint was not asked")))
	}
	r.Evidence = []health.Evidence{process, asked}
	return r
}

func describeMain(m sandbox.MainProcess) string {
	switch m.State {
	case sandbox.ProcRunning:
		s := fmt.Sprintf("runs (pid %d)", m.PID)
		if m.Restarts > 0 {
			s += fmt.Sprintf(", restarted %d times, last: %s", m.Restarts, m.LastExit)
		}
		return s
	case sandbox.ProcBackoff:
		return fmt.Sprintf("%s; it will be started again (%d restarts so far)", orElse(m.LastExit, "ended"), m.Restarts)
	case "":
		return "nothing is known of its main process"
	}
	return orElse(m.LastExit, string(m.State))
}

// Plan waits: the supervisor restarts the agent by its policy.
func (a *agentLayer) Plan(_ context.Context, found health.Result) []Action {
	if found.Verdict != health.Failed || found.Reason == "sandbox-absent" {
		return nil
	}
	return []Action{{ID: "await-agent", Title: "wait for the agent of " + a.want.Name}}
}

func (a *agentLayer) Mend(ctx context.Context, do Action, report Progress) error {
	if do.ID != "await-agent" {
		return noSuchAction(a, do)
	}
	ctx, cancel := budget.Context(ctx, budget.AgentHealthy, "wait for the agent of "+a.want.Name)
	defer cancel()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := a.session.Refresh(false); err != nil {
			return err
		}
		r := a.Inspect(ctx)
		if r.Verdict == health.OK {
			return nil
		}
		report(r.Message)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %s", context.Cause(ctx), r.Message)
		}
	}
}
