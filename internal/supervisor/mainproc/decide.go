package mainproc

import (
	"time"

	"creel/internal/sandbox"
)

// Backoff is the wait between an end and the next start: First, doubled each
// time up to Most, First again after a run of at least Reset.
type Backoff struct{ First, Most, Reset time.Duration }

// Defaults are one second up to thirty, and again one after thirty of running.
func Defaults() Backoff {
	return Backoff{First: time.Second, Most: 30 * time.Second, Reset: 30 * time.Second}
}

func (b Backoff) next(wait time.Duration) time.Duration { return min(2*wait, b.Most) }

// after decides what follows the end of a main process.
func after(policy sandbox.RestartPolicy, code int, stopped bool) sandbox.ProcessState {
	switch {
	case stopped:
		return sandbox.ProcStopped
	case policy == sandbox.RestartNever, policy == sandbox.RestartOnFailure && code == 0:
		return sandbox.ProcExited
	}
	return sandbox.ProcBackoff
}
