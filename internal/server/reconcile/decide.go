// Package reconcile decides what has to be done for a sandbox given what is seen
// of it. It is pure: the daemon observes, asks Decide and acts.
package reconcile

import (
	"fmt"
	"time"

	"creel/internal/sandbox"
)

// Observed is everything that a decision depends on.
type Observed struct {
	Wanted   sandbox.Wanted
	Deleting bool
	WasReady bool // it was Ready once: coming up again is starting, not provisioning
	Liveness sandbox.Liveness
	// Outdated is set while what runs may have been started with a dashboard token that
	// is not to open it any more.
	Outdated bool
	// Connected is whether its supervisor holds a session; Unconnected how long it
	// has been alive without one.
	Connected   bool
	Unconnected time.Duration
	// Report is what the supervisor said of its sandbox, nil before it said anything.
	Report *sandbox.State
	// RetryIn is how long to wait before the next attempt to start, LastError why
	// the last one did not succeed.
	RetryIn   time.Duration
	LastError string
}

// Act is what is to be done.
type Act string

// The acts. Wait does nothing.
const (
	Wait    Act = "wait"
	Start   Act = "start"
	Stop    Act = "stop"
	Destroy Act = "destroy"
)

// Decision is an act, what the sandbox's phase is meanwhile, and after how long to
// look again if nothing happens before.
type Decision struct {
	Act     Act
	Phase   sandbox.Phase
	Message string
	Again   time.Duration
}

// How often a sandbox is looked at.
const (
	settled = 10 * time.Second // it is as wanted
	moving  = time.Second      // something is under way that is also reported
	unsure  = 2 * time.Second  // it could not be looked at
)

// patience is how long a living supervisor may be without a session before its
// sandbox counts as unknown. It reconnects with a back-off of up to 30 s.
const patience = 40 * time.Second

// Decide says what to do. Nothing is started or stopped on what could not be
// determined, and nothing but Deleting destroys.
func Decide(o Observed) Decision {
	if o.Deleting {
		return Decision{Destroy, sandbox.Deleting, "being deleted", moving}
	}
	if !o.Liveness.Known {
		return Decision{Wait, sandbox.UnknownPhase, "whether its supervisor lives could not be determined: " + o.Liveness.Reason, unsure}
	}
	if o.Wanted == sandbox.NotRunning {
		if o.Liveness.Alive {
			return Decision{Stop, sandbox.Stopping, "stopping", moving}
		}
		return Decision{Wait, sandbox.Stopped, "stopped", settled}
	}
	rising := sandbox.Provisioning
	if o.WasReady {
		rising = sandbox.Starting
	}
	switch {
	case o.Liveness.Alive && o.Outdated:
		return Decision{Stop, sandbox.Starting, "ending what was started with its old dashboard token", moving}
	case !o.Liveness.Alive && o.RetryIn > 0:
		return Decision{Wait, sandbox.Error, "did not start: " + o.LastError, o.RetryIn}
	case !o.Liveness.Alive:
		return Decision{Start, rising, "starting its supervisor", moving}
	case !o.Connected && o.Unconnected > patience:
		return Decision{Wait, sandbox.UnknownPhase, fmt.Sprintf("its supervisor (pid %d) lives but has not connected to the gateway", o.Liveness.PID), unsure}
	case !o.Connected:
		return Decision{Wait, rising, "waiting for its supervisor to connect", moving}
	case o.Report == nil:
		return Decision{Wait, rising, "waiting for its supervisor's report", moving}
	}
	return byMain(o.Report.Main, rising)
}

func byMain(m sandbox.MainProcess, rising sandbox.Phase) Decision {
	switch m.State {
	case sandbox.ProcRunning:
		return Decision{Wait, sandbox.Ready, "", settled}
	case sandbox.ProcBackoff:
		return Decision{Wait, sandbox.Error, "main process " + ended(m) + "; it is started again", settled}
	case sandbox.ProcExited:
		return Decision{Wait, sandbox.Error, "main process " + ended(m), settled}
	case sandbox.ProcStopped:
		return Decision{Wait, rising, "main process was stopped", moving}
	default:
		return Decision{Wait, rising, "main process is starting", moving}
	}
}

func ended(m sandbox.MainProcess) string {
	switch {
	case m.LastExit != "":
		return m.LastExit
	case m.LastExitCode != nil:
		return fmt.Sprintf("exited with code %d", *m.LastExitCode)
	}
	return "ended"
}

// Backoff is how long to wait before attempt n+1 to start, n failures after the
// last success: 1 s, doubling, at most 30 s; nothing before the first failure.
func Backoff(failures int) time.Duration {
	const longest = 30 * time.Second
	if failures <= 0 {
		return 0
	}
	if failures > 5 {
		return longest
	}
	return min(longest, time.Second<<(failures-1))
}
