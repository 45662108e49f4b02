package evidence

import (
	"fmt"
	"time"

	"creel/internal/health"
	"creel/internal/host"
)

// AskProcess adds the process link for a gateway that we wrote no lock into: the
// pid is only believed with the time at which its process began, and one that has
// ended and was not waited for (a zombie, to which signal 0 still succeeds) is not
// alive. ended is positive proof that the process is gone.
func AskProcess(c *Chain, pid int, start uint64) (ended bool) {
	probe, began := fmt.Sprintf("process %d", pid), time.Now()
	p, err := host.Lookup(pid)
	took := time.Since(began)
	gone := func(format string, args ...any) bool {
		c.Break(Process, probe, health.Failed, "gateway-not-running", fmt.Sprintf(format, args...), took)
		return true
	}
	switch host.StandingOf(p, err, start) {
	case host.Nobody:
		return gone("process %d has ended", pid)
	case host.Unseen:
		c.Break(Process, probe, health.Unknown, "gateway-unknown", "the process could not be looked at: "+err.Error(), took)
		return false
	case host.Another:
		return gone("the gateway's process has ended; its number %d belongs to another one now", pid)
	case host.Ended:
		return gone("process %d has ended; its parent has not noticed (state %c)", pid, p.State)
	case host.Halted:
		c.Break(Process, probe, health.Failed, "gateway-hung", fmt.Sprintf("process %d is stopped by a signal and answers nothing", pid), took)
		return false
	}
	c.Hold(probe, "alive, start time fits", took)
	return false
}
