// Package launch is what the runtimes of host processes share: a child that is
// waited for from its first instant, a process that is held so that no signal hits
// another one, the report of a start that failed, and reading a log.
package launch

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/health"
	"creel/internal/host"
	"creel/internal/state"
)

// Child is a launched daemon that is waited for from its first instant.
type Child struct {
	cmd    *exec.Cmd
	exited chan struct{}
	log    string
	offset int64 // of the log, when it was launched
	start  uint64
	// What is launched, for the report of a failure; "gateway" when empty.
	What string
	// Port, if not 0, is the one that the daemon was told to listen on, for a report
	// that says who has it.
	Port int
}

// Start starts cmd in a session of its own, without standard input, with its
// output appended to the log.
func Start(cmd *exec.Cmd, log string) (*Child, error) {
	f, err := os.OpenFile(log, os.O_WRONLY|os.O_APPEND|os.O_CREATE, state.FileMode)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	c := &Child{cmd: cmd, exited: make(chan struct{}), log: log, offset: fi.Size()}
	cmd.Dir = "/" // keeps no directory of the user's busy
	cmd.Stdin, cmd.Stdout, cmd.Stderr = nil, f, f
	cmd.SysProcAttr = OwnSession()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	// Not waited for yet, so the pid is still its own; 0 if it cannot be told.
	c.start, _ = host.ProcessStartTime(cmd.Process.Pid)
	go func() {
		_ = cmd.Wait() // how it ended is in ProcessState
		close(c.exited)
	}()
	return c, nil
}

// PID is the child's.
func (c *Child) PID() int { return c.cmd.Process.Pid }

// Began is the child's start in clock ticks since boot; 0 if it could not be told.
func (c *Child) Began() uint64 { return c.start }

// EndSession ends what a child that has ended left in its session.
func (c *Child) EndSession() error {
	if c.start == 0 {
		return nil
	}
	return EndSession(c.PID(), c.start)
}

// Exited is closed when the child has ended.
func (c *Child) Exited() <-chan struct{} { return c.exited }

// Failed ends what is left of the child and reports why it did not come up. why is
// nil when the child ended by itself or said (said) why it will; asked is what was
// probed last; id is the advisory that it named, if it named one.
func (c *Child) Failed(said, id string, asked []health.Evidence, why error) error {
	f := &StartFailure{LogPath: c.log, Evidence: asked, Said: said, Cause: why}
	gone := c.End(said != "")
	switch {
	case why != nil:
		f.Ended = why.Error()
	default:
		f.Ended = Ended(c.cmd.ProcessState)
	}
	if !gone {
		f.Ended += fmt.Sprintf("; pid %d could not be ended", c.PID())
	}
	written := ReadFrom(c.log, c.offset)
	f.Log = LastLines(written, FailureLines)
	return f.problem(cmp.Or(c.What, "gateway"), id, written, c.Port)
}

// End makes sure that the child has ended: it is asked, then killed. A child that
// is leaving is first left to end by itself.
func (c *Child) End(leaving bool) bool {
	wait := func() bool {
		t := time.NewTimer(budget.Of(budget.Lock))
		defer t.Stop()
		select {
		case <-c.exited:
			return true
		case <-t.C:
			return false
		}
	}
	if leaving && wait() {
		return true
	}
	// Signalling our own unreaped child cannot hit another process.
	_ = c.cmd.Process.Signal(Terminate)
	if wait() {
		return true
	}
	_ = c.cmd.Process.Kill()
	return wait()
}

// Report is why a daemon did not come up that somebody else started, a service
// manager for one: how it ended, what it wrote to the log since offset, and what
// was probed last. id is the advisory, "" for the one that the log names.
func Report(ended, log string, offset int64, asked []health.Evidence, id string, why error) error {
	written := ReadFrom(log, offset)
	f := &StartFailure{LogPath: log, Evidence: asked, Ended: ended, Log: LastLines(written, FailureLines), Cause: why}
	return f.problem("gateway", id, written, 0)
}

func (f *StartFailure) problem(what, id, written string, port int) error {
	if _, known := advisory.Lookup(id); !known {
		id = Diagnose(f.Log)
	}
	if id == "gateway-glibc" {
		f.explainGLIBC(written)
	}
	if id == "port-in-use" && port != 0 {
		if u, ok := host.PortHolder(port); ok {
			f.Ended += fmt.Sprintf("; port %d is held by %s", port, u)
		}
	}
	if id == StartFailed && expired(f.Cause) {
		id = "gateway-start-timeout"
	}
	return advisory.New(id, what+" failed to start", f)
}

// Over reports that a context has ended, or is about to: what asks over a network
// looks at the deadline itself and may be faster than the context's timer.
func Over(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && !time.Now().Before(deadline)
}
