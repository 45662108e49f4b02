package layer

import (
	"context"
	"fmt"
	"strings"
	"time"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/gateway"
	"creel/internal/health"
	"creel/internal/sandbox"
)

type agentLayer struct {
	session *Session
	want    WantedSandbox
	examine []Examination
}

// Examination looks closer at an agent that is well, inside its sandbox. What it
// finds is evidence and never changes the verdict.
type Examination func(ctx context.Context, c gateway.Client, in gateway.Inspection) []health.Evidence

// NewAgent is the layer of the program that a sandbox exists for.
func NewAgent(s *Session, want WantedSandbox, examine ...Examination) Layer {
	return &agentLayer{s, want, examine}
}

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
	if in.Partial {
		return judgePartly(in)
	}
	r := judgeAgent(in, a.want.Spec.Restart, time.Now())
	if m, is := a.want.missing(in); is {
		m.Evidence, r = r.Evidence, m
	} else if r.Verdict == health.Failed {
		r.Hints = []string{"creel logs " + in.Name}
	}
	if r.Verdict == health.OK && in.State.Main.State == sandbox.ProcRunning && len(a.examine) > 0 {
		if c, err := a.session.Client(ctx); err == nil { // it answered a moment ago
			for _, examine := range a.examine {
				r.Evidence = append(r.Evidence, examine(ctx, c, in)...)
			}
		}
	}
	return r
}

// judgePartly is for a gateway that tells the phase only: there a main process that
// ends takes the phase ready with it.
func judgePartly(in gateway.Inspection) health.Result {
	e := health.Evidence{Probe: "phase", Answer: string(in.Phase), Verdict: health.OK}
	if in.Phase == sandbox.Ready {
		r := ok("its main process runs: the sandbox is ready")
		r.Evidence = []health.Evidence{e}
		return r
	}
	e.Verdict = health.Failed
	r := failed("agent-not-running", "the sandbox is in phase %s: %s", in.Phase, orElse(in.Message, "no reason was given"))
	r.Evidence, r.Hints = []health.Evidence{e}, []string{"creel logs " + in.Name}
	return r
}

// judgeAgent is what an inspection means for the agent, now.
func judgeAgent(in gateway.Inspection, restart sandbox.RestartPolicy, now time.Time) health.Result {
	main := in.State.Main
	process := health.Evidence{Probe: "main process", Answer: describeMain(main), Verdict: health.OK}
	switch {
	case main.State == sandbox.ProcRunning:
	case main.State == sandbox.ProcExited && finished(main, restart):
		// A job that is done is not to be done again.
		r := ok("finished with exit code 0")
		r.Evidence = []health.Evidence{process}
		return r
	default:
		process.Verdict = health.Failed
		reason := "agent-not-running"
		if main.State == sandbox.ProcExited || main.State == sandbox.ProcStopped {
			reason = "agent-ended"
		}
		r := failed(reason, "%s", describeMain(main))
		r.Evidence = []health.Evidence{process}
		return r
	}
	if in.Dashboard.TargetPort == 0 && in.Health.Message == "" {
		r := ok("%s", describeMain(main))
		r.Evidence = []health.Evidence{process}
		return r
	}
	asked := health.Evidence{Probe: "health endpoint, from inside", Answer: in.Health.Message, Verdict: in.Health.Verdict, Took: health.Micros(in.Health.Took)}
	// Shortly after its start an agent that does not answer is on its way up: that
	// is something to wait for, whether it was refused or could not be asked.
	var r health.Result
	switch {
	case in.Health.Verdict == health.OK:
		r = ok("%s, healthy", describeMain(main))
	case young(main, now):
		// What it answered is evidence: that nothing listens yet is no fault of its own.
		r = failed("agent-starting", "the agent does not answer yet")
	case in.Health.Verdict == health.Failed:
		r = failed("agent-unhealthy", "%s", in.Health.Message)
	default:
		r = unknown("agent-unknown", fmt.Errorf("%s", orElse(in.Health.Message, "its health endpoint was not asked")))
	}
	r.Evidence = []health.Evidence{process, asked}
	return r
}

// young reports that the main process was started so recently that it may not
// answer yet.
func young(m sandbox.MainProcess, now time.Time) bool {
	return m.State == sandbox.ProcRunning && !m.Since.IsZero() && now.Sub(m.Since) < budget.Of(budget.AgentHealthy)
}

// finished reports that the main process did what it was for.
func finished(m sandbox.MainProcess, restart sandbox.RestartPolicy) bool {
	return m.LastExitCode != nil && *m.LastExitCode == 0 && (restart == sandbox.RestartNever || restart == sandbox.RestartOnFailure)
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

// Plan waits for an agent that is on its way or that its supervisor starts
// again, and restarts one that ended for good or hangs.
func (a *agentLayer) Plan(_ context.Context, found health.Result) []Action {
	if found.Verdict != health.Failed {
		return nil
	}
	switch found.Reason {
	case "agent-starting", "agent-not-running":
		return []Action{{ID: "await-agent", Title: "wait for the agent of " + a.want.Name}}
	case "agent-ended", "agent-unhealthy", programMissing:
		return []Action{{ID: "restart-agent", Title: "restart the agent of " + a.want.Name + "; the workspace stays", Disturbs: []string{a.Subject()}}}
	}
	return nil
}

func (a *agentLayer) Mend(ctx context.Context, do Action, report Progress) error {
	switch do.ID {
	case "await-agent":
	case "restart-agent":
		c, err := a.session.Client(ctx)
		if err != nil {
			return err
		}
		if err := restart(ctx, c, a.want.Name); err != nil {
			return err
		}
		if _, err := c.WaitSandbox(ctx, a.want.Name, gateway.Progress(report)); err != nil {
			return err
		}
	default:
		return noSuchAction(a, do)
	}
	return awaitOK(ctx, a, "wait for the agent of "+a.want.Name, report, func(r health.Result) bool {
		return r.Reason == "agent-ended" || r.Reason == programMissing
	})
}

// awaitOK looks at a layer again and again until settled says that waiting will
// change nothing more, or the budget for an agent on its way up ends.
func awaitOK(ctx context.Context, l Layer, operation string, report Progress, settled func(health.Result) bool) error {
	ctx, cancel := budget.Context(ctx, budget.AgentHealthy, operation)
	defer cancel()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	var r health.Result
	for {
		if now := l.Inspect(ctx); ctx.Err() == nil { // else it says only that the time is over
			r = now
		}
		switch {
		case ctx.Err() != nil:
		case r.Verdict == health.OK:
			return nil
		case settled(r):
			return advisory.New(r.Reason, operation+": "+inFull(r), nil, r.Hints...)
		}
		report(r.Message)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return advisory.New(r.Reason, operation+": "+inFull(r), context.Cause(ctx), r.Hints...)
		}
	}
}

// inFull is a result's message with what was answered instead of what should have
// been, which a message about a start that is under way leaves out.
func inFull(r health.Result) string {
	text := r.Message
	for _, e := range r.Evidence {
		if e.Verdict != health.OK && e.Answer != "" && !strings.Contains(text, e.Answer) {
			text += fmt.Sprintf(" (%s: %s)", e.Probe, e.Answer)
		}
	}
	return text
}
