package kube

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"slices"
	"time"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/gateway"
	"creel/internal/gateway/kube/rollout"
	"creel/internal/gateway/launch"
	"creel/internal/health"
	"creel/internal/host"
	"creel/internal/state"
	"creel/internal/version"
)

// The port-forward is a process of its own, so that it outlives the command that
// started it. Its liveness is the held lock; its marker says where it listens and
// where it leads to.

// forward is what was seen of the port-forward.
type forward struct {
	marker marker
	// running: a process holds the lock, and it is the one that the marker names.
	running bool
	// held: some process holds the lock, or may.
	held    bool
	verdict health.Verdict // of a forward that does not run
	reason  string
	message string
	took    time.Duration
}

// serves reports that it runs and leads to a pod.
func (f forward) serves() bool { return f.running && f.marker.Link.Pod != "" }

// lookForward looks at the process.
func (r *Runtime) lookForward() (f forward) {
	began := time.Now()
	defer func() { f.took = time.Since(began) }()
	g := r.cfg.Gateway
	is := func(v health.Verdict, reason, format string, args ...any) forward {
		f.verdict, f.reason, f.message = v, reason, fmt.Sprintf(format, args...)
		return f
	}
	held, holder, err := state.Held(g.File(state.PortForwardLock))
	if err != nil {
		f.held = true
		return is(health.Unknown, "gateway-unknown", "whether the port-forward runs could not be asked: %v", err)
	}
	f.held = held
	m, markerErr := readMarker(g)
	switch {
	case !held && markerErr == nil:
		return is(health.Failed, "gateway-forward-down", "the port-forward (pid %d) has ended without saying so", m.PID)
	case !held:
		return is(health.Failed, "gateway-forward-down", "the port-forward does not run")
	case errors.Is(markerErr, fs.ErrNotExist):
		return is(health.Failed, "gateway-forward-down", "the port-forward is starting or stopping (pid %d)", holder.PID)
	case idOf(markerErr, "") == "gateway-marker-newer":
		return is(health.Failed, "gateway-marker-newer", "%v", markerErr)
	case idOf(markerErr, "") == "gateway-marker-invalid":
		return is(health.Failed, "gateway-forward-down", "which process the port-forward is cannot be told: %v", markerErr)
	case markerErr != nil:
		return is(health.Unknown, "gateway-unknown", "which process the port-forward is could not be asked: %v", markerErr)
	}
	p, err := r.lookup(m.PID)
	switch host.StandingOf(p, err, m.ProcessStart) {
	case host.Unseen:
		return is(health.Unknown, "gateway-unknown", "the port-forward (pid %d) could not be looked at: %v", m.PID, err)
	case host.Halted:
		return is(health.Failed, "gateway-forward-down", "the port-forward (pid %d) is stopped by a signal", m.PID)
	case host.Ended:
		return is(health.Failed, "gateway-forward-down", "the port-forward (pid %d) is ending", m.PID)
	case host.Nobody, host.Another:
		return is(health.Failed, "gateway-forward-down", "which process the port-forward is cannot be told: %s names another than the one that holds the lock", state.PortForwardFile)
	}
	f.marker, f.running = m, true
	if m.Link.Pod == "" {
		return is(health.Failed, "gateway-forward-waiting", "the port-forward has no pod to lead to: %s", m.Link.Problem)
	}
	return is(health.OK, "", "to port %d of pod %s since %s", m.Link.PodPort, m.Link.Pod, m.Link.Since.Local().Format(time.TimeOnly))
}

// leadsTo judges the port-forward as the way to one of the pods that are ready, of
// which there is one at least: any of them serves. The pod is the one that it leads to,
// else the first.
func (f forward) leadsTo(ready []rollout.Pod) (pod rollout.Pod, v health.Verdict, reason, message string) {
	if !f.serves() {
		return ready[0], f.verdict, f.reason, f.message
	}
	i := slices.IndexFunc(ready, func(p rollout.Pod) bool { return p.Metadata.UID == f.marker.Link.PodUID })
	if i < 0 {
		return ready[0], health.Failed, "gateway-forward-waiting",
			fmt.Sprintf("the port-forward leads to pod %s, which is gone or not ready, and not to pod %s yet", f.marker.Link.Pod, ready[0].Metadata.Name)
	}
	return ready[i], f.verdict, f.reason, f.message
}

// drift says what of a running port-forward would be otherwise if it were started
// now.
func (r *Runtime) drift(k *cluster, m marker) []string {
	var d []string
	if mine := version.BuildID(); mine != "" && m.BuildID != mine {
		d = append(d, fmt.Sprintf("the port-forward (pid %d) is another build of creel", m.PID))
	}
	if m.Place != k.place() {
		d = append(d, fmt.Sprintf("the port-forward leads to statefulset %s in namespace %s of %s", m.Place.StatefulSet, m.Place.Namespace, m.Place.Server))
	}
	if r.cfg.PortExplicit && r.cfg.Port != 0 && r.cfg.Port != m.Port {
		d = append(d, fmt.Sprintf("the port-forward listens on port %d, wanted is %d", m.Port, r.cfg.Port))
	}
	return d
}

func (c *cluster) place() place {
	return place{Server: c.api.Server(), Namespace: c.api.Namespace(), StatefulSet: c.set}
}

// ensureForward makes a port-forward run as it would be started now.
func (r *Runtime) ensureForward(ctx context.Context, k *cluster, report gateway.Progress) error {
	f := r.lookForward()
	switch {
	case f.running && len(r.drift(k, f.marker)) == 0:
		return nil
	case f.verdict == health.Unknown: // nothing is ended on that
		return advisory.New(f.reason, f.message, nil)
	case f.held:
		if err := r.Detach(ctx, report); err != nil {
			return err
		}
	}
	return r.launch(ctx, report)
}

// askAgain is the pause between two looks at a port-forward on its way up.
const askAgain = 20 * time.Millisecond

// launch starts the port-forward and returns when it listens and has looked for a
// pod, has ended, or is out of time.
func (r *Runtime) launch(ctx context.Context, report gateway.Progress) error {
	g := r.cfg.Gateway
	self, err := r.cfg.Self()
	if err != nil {
		return err
	}
	if err := state.MkdirAll(g.Dir()); err != nil {
		return host.Explain(err, g.Dir())
	}
	log := g.File(state.PortForwardLog)
	launch.RotateLog(log)
	report("starting the port-forward")
	cmd := exec.Command(self, "gateway", "forward", "--gateway", g.Name)
	cmd.Env = r.environment()
	c, err := launch.Start(cmd, log)
	if err != nil {
		return host.Explain(fmt.Errorf("start %s: %w", self, err), self)
	}
	c.What, c.Port = "the port-forward", r.cfg.Port
	ctx, cancel := budget.Context(ctx, budget.GatewayStart, "start the port-forward")
	defer cancel()
	tick := time.NewTicker(askAgain)
	defer tick.Stop()
	for {
		if f := r.lookForward(); f.running && f.marker.PID == c.PID() && f.marker.Link.Problem != notYet {
			report(fmt.Sprintf("the port-forward listens at %s (pid %d)", f.marker.endpoint().URL(), c.PID()))
			return nil
		}
		select {
		case <-tick.C:
		case <-c.Exited():
			return failedForward(c.Failed("", "", nil, nil))
		case <-ctx.Done():
			return failedForward(c.Failed("", "", nil, context.Cause(ctx)))
		}
	}
}

// failedForward gives a failure for no reason that shows the advisory of this kind of
// process.
func failedForward(err error) error {
	if p, ok := advisory.Of(err); ok && (p.ID == launch.StartFailed || p.ID == "gateway-start-timeout") {
		return advisory.New("gateway-forward-failed", p.Detail, p.Cause)
	}
	return err
}

// Detach ends the port-forward and returns when it has ended: asked first, killed
// when the gateway-stop budget is used up. Only a process that is identified by the
// lock and its start time is signalled.
func (r *Runtime) Detach(ctx context.Context, report gateway.Progress) error {
	if report == nil {
		report = func(string) {}
	}
	g := r.cfg.Gateway
	pid, start, err := r.identify()
	if err != nil {
		return err
	}
	if pid == 0 {
		report("the port-forward does not run")
		return host.Explain(state.RemoveIfExists(g.File(state.PortForwardFile)), g.Dir())
	}
	p, err := launch.OpenProcess(pid, start)
	if errors.Is(err, host.ErrNoProcess) {
		return nil // ended since we looked
	}
	if err != nil {
		return fmt.Errorf("stop the port-forward: %w", err)
	}
	defer p.Close()
	report(fmt.Sprintf("ending the port-forward (pid %d)", pid))
	if err := p.Signal(launch.Terminate); err != nil {
		return fmt.Errorf("stop the port-forward: %w", err)
	}
	err = p.Wait(ctx, budget.GatewayStop)
	var expired *budget.Expired
	if errors.As(err, &expired) && expired.Budget == budget.GatewayStop {
		if err := p.Signal(launch.Kill); err != nil {
			return fmt.Errorf("kill the port-forward: %w", err)
		}
		err = p.Wait(ctx, budget.Operation)
	}
	if err != nil {
		return advisory.New("gateway-stop-failed", fmt.Sprintf("the port-forward (pid %d) did not end", pid), err)
	}
	return host.Explain(state.RemoveIfExists(g.File(state.PortForwardFile)), g.Dir())
}

// identify names the process that holds the lock; pid 0 when it is free.
func (r *Runtime) identify() (pid int, start uint64, err error) {
	g := r.cfg.Gateway
	return launch.Holder(g.File(state.PortForwardLock), "the port-forward", func() (int, uint64, error) {
		m, err := readMarker(g)
		return m.PID, m.ProcessStart, err
	})
}
