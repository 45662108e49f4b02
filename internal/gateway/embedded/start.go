package embedded

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/gateway"
	"creel/internal/gateway/launch"
	"creel/internal/health"
	"creel/internal/host"
	"creel/internal/state"
)

// askAgain is the pause between two looks at a gateway that is on its way up.
const askAgain = 20 * time.Millisecond

// alreadyRunning is the advisory of a daemon that found the lock held.
const alreadyRunning = "gateway-already-running"

// Start launches the daemon unless it runs, and returns when the whole chain
// holds, the daemon has ended or the gateway-start budget is used up. A daemon
// that did not come up is not left behind.
func (r *Runtime) Start(ctx context.Context, report gateway.Progress) error {
	if report == nil {
		report = func(string) {}
	}
	g := r.cfg.Gateway
	ctx, cancel := budget.Context(ctx, budget.GatewayStart, "start gateway "+g.Name)
	defer cancel()
	for {
		o, err := r.settle(ctx, report)
		switch {
		case err != nil:
			return err
		case o.Verdict == health.OK:
			report(fmt.Sprintf("gateway %s is running (pid %d)", g.Name, o.Identity.PID))
			r.outside(ctx, o, report)
			return r.finish()
		case !o.Absent:
			// Somebody holds the lock and does not answer as it should. To start
			// another beside it is impossible, to end it is not asked for here.
			if o.Verdict == health.Unknown {
				if err := host.CheckWritable(g.Dir()); err != nil {
					return err // the reason why it could not be asked
				}
			}
			hints := []string{"creel gateway restart"}
			if a, _ := advisory.Lookup(o.Reason); a.Blocking || o.Verdict == health.Unknown {
				hints = o.Hints // what a restart would not mend, or must not touch
			}
			return advisory.New(o.Reason, fmt.Sprintf("gateway %s cannot be started", g.Name), errors.New(o.Message), hints...)
		}
		err = r.bring(ctx, report)
		if p, ok := advisory.Of(err); ok && p.ID == alreadyRunning {
			continue // another start was faster: see what came of it
		}
		return err
	}
}

// settle waits while another daemon of this gateway is starting or stopping and
// returns what is there then.
func (r *Runtime) settle(ctx context.Context, report gateway.Progress) (gateway.Observation, error) {
	said := false
	for {
		o := r.Observe(ctx)
		if o.Verdict == health.OK || o.Absent || o.Reason != "gateway-not-ready" {
			return o, nil
		}
		if !said {
			report(o.Message)
			said = true
		}
		if err := pause(ctx, nil); err != nil {
			return o, advisory.New(o.Reason, o.Message, err, "creel gateway restart", "creel gateway logs")
		}
	}
}

var errExited = errors.New("the process has ended")

// pause waits for the next look, the end of the process, or the context.
func pause(ctx context.Context, exited <-chan struct{}) error {
	t := time.NewTimer(askAgain)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-exited:
		return errExited
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// child is a launched daemon with the pipe on which it answers.
type child struct {
	*launch.Child
	// answered yields the handshake's line, or the error of reading it. It is closed
	// without one when the child has ended without a word.
	answered chan lineRead
	nonce    string
}

type lineRead struct {
	answer answer
	err    error
}

// launch starts the daemon of an executable, which nothing may replace or remove
// while it runs.
func (r *Runtime) launch(ctx context.Context, report gateway.Progress, executable string, with settings) error {
	g := r.cfg.Gateway
	ctx, cancel := budget.Context(ctx, budget.GatewayStart, "start gateway "+g.Name)
	defer cancel()
	report("starting gateway " + g.Name)
	c, err := r.spawn(executable, with)
	if errors.Is(err, syscall.ENOEXEC) {
		return advisory.New("gateway-executable-broken", "gateway failed to start", err)
	}
	if err != nil {
		return host.Explain(fmt.Errorf("start %s: %w", executable, err), executable)
	}
	report(fmt.Sprintf("waiting for the gateway (pid %d)", c.PID()))

	var a answer
	select {
	case read, said := <-c.answered:
		if !said {
			return c.failed(answer{}, nil, nil)
		}
		if a, err = read.answer, read.err; err == nil {
			err = a.check(c.nonce, c.PID())
		}
		if err != nil {
			return c.failed(a, nil, fmt.Errorf("its answer is not usable: %w", err))
		}
	case <-c.Exited():
		return c.failed(c.lastAnswer(ctx), nil, nil)
	case <-ctx.Done():
		return c.failed(a, nil, context.Cause(ctx))
	}
	if a.Error != "" {
		return c.failed(a, nil, nil)
	}
	report(fmt.Sprintf("asking the gateway at %s:%d", a.Endpoint.Host, a.Endpoint.Port))
	var last gateway.Observation
	for {
		o := r.Observe(ctx)
		if last.Evidence == nil || !launch.Over(ctx) {
			last = o // not one that was cut short, if there is another
		}
		if o.Verdict == health.OK && o.Identity.InstanceID == a.InstanceID {
			report(o.Message)
			r.prune(executable)
			return nil
		}
		switch err := pause(ctx, c.Exited()); {
		case errors.Is(err, errExited):
			return c.failed(answer{}, last.Evidence, nil)
		case err != nil:
			return c.failed(answer{}, last.Evidence, err)
		}
	}
}

// spawn starts the daemon in a session of its own with nothing of ours but the
// log and two pipes.
func (r *Runtime) spawn(executable string, with settings) (_ *child, err error) {
	g := r.cfg.Gateway
	if err := state.MkdirAll(g.Dir()); err != nil {
		return nil, err
	}
	downRead, downWrite, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer downRead.Close()
	defer downWrite.Close()
	upRead, upWrite, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer upWrite.Close()

	c := &child{answered: make(chan lineRead, 1), nonce: rand.Text()}
	cmd := exec.Command(executable, "gateway", "serve", "--gateway", g.Name)
	cmd.Env = append(launch.Environment(r.cfg.Getenv), handshakeVariable+"="+handshakeDescriptors)
	cmd.ExtraFiles = []*os.File{downRead, upWrite}
	if c.Child, err = launch.Start(cmd, g.Log()); err != nil {
		_ = upRead.Close()
		return nil, err
	}
	go func() {
		defer close(c.answered)
		defer upRead.Close()
		var read lineRead
		read.err = readLine(upRead, &read.answer)
		if errors.Is(read.err, io.EOF) {
			// Closed without a word: its end is the better news, and comes.
			select {
			case <-c.Exited():
				return
			case <-time.After(budget.Of(budget.Probe)):
			}
		}
		c.answered <- read
	}()
	// A line is smaller than a pipe: this cannot block. A child that has ended
	// already is reported by its end.
	_ = writeLine(downWrite, hello{Nonce: c.nonce, Port: with.Port, PortExplicit: with.PortExplicit})
	return c, nil
}

// lastWord is how long the answer of a child that has ended may take to be read. The
// end of the pipe comes with the child's own; only who inherited it keeps it open.
const lastWord = time.Second

// lastAnswer is what a child that has ended said before, if anything.
func (c *child) lastAnswer(ctx context.Context) answer {
	t := time.NewTimer(lastWord)
	defer t.Stop()
	select {
	case read, said := <-c.answered:
		if said && read.err == nil && read.answer.check(c.nonce, c.PID()) == nil {
			return read.answer
		}
	case <-t.C:
	case <-ctx.Done():
	}
	return answer{}
}

// failed ends what is left of the child and reports. why is nil when the child
// ended by itself or said why it will.
func (c *child) failed(a answer, asked []health.Evidence, why error) error {
	return c.Failed(a.Error, a.Advisory, asked, why)
}
