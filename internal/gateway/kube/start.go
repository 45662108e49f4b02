package kube

import (
	"context"
	"fmt"
	"time"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/bundle"
	"creel/internal/gateway"
	"creel/internal/gateway/kube/rollout"
	"creel/internal/gateway/launch"
	"creel/internal/health"
	"creel/internal/host"
)

// lookAgain is the pause between two looks at a gateway on its way up.
const lookAgain = 500 * time.Millisecond

// Start repairs the bootstrap secrets that the gateway's pod waits for, waits for the
// rollout, keeps the port-forward, and returns when the whole chain holds, when
// something is found that waiting cannot mend, or when the rollout budget is used up.
// What it did stays either way: the gateway is not its own. A set that is scaled to
// nothing is its owner's decision.
func (r *Runtime) Start(ctx context.Context, report gateway.Progress) error {
	return r.bringUp(ctx, report, false)
}

// Restart has the set's controller replace the pods, by an annotation of the pod
// template, and then does what Start does until the new ones serve.
func (r *Runtime) Restart(ctx context.Context, report gateway.Progress) error {
	return r.bringUp(ctx, report, true)
}

func (r *Runtime) bringUp(ctx context.Context, report gateway.Progress, restart bool) error {
	if report == nil {
		report = func(string) {}
	}
	g := r.cfg.Gateway
	if err := host.CheckWritable(g.Dir()); err != nil {
		return err
	}
	k, err := r.open()
	if err != nil {
		return err
	}
	ctx, cancel := budget.Context(ctx, budget.Rollout, "bring gateway "+g.Name+" up in its cluster")
	defer cancel()
	if _, declared := r.declared(); declared && r.lookForward().held {
		if err := r.Detach(ctx, report); err != nil { // of before it was declared
			return err
		}
	}
	u := &bringingUp{r: r, k: k, report: report}
	if restart {
		if err := u.restart(ctx); err != nil {
			return err
		}
	}
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		done, err := u.step(ctx)
		if done || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return u.failed(context.WithoutCancel(ctx), context.Cause(ctx))
		}
	}
}

// bringingUp is one attempt to bring the gateway up.
type bringingUp struct {
	r      *Runtime
	k      *cluster
	report gateway.Progress
	// rolled: pods that serve are not enough, it has to be those of the latest
	// revision.
	rolled bool
	said   string
	last   gateway.Observation // the last that was not cut short
	sight  sight
	bad    error // why secrets could not be repaired, last time
}

// say reports what changed.
func (u *bringingUp) say(message string) {
	if message != u.said {
		u.said = message
		u.report(message)
	}
}

func (u *bringingUp) restart(ctx context.Context) error {
	set, err := u.k.readSet(ctx)
	if err != nil {
		return err
	}
	if set.Replicas() == 0 {
		cause := rollout.Judge(rollout.Seen{Now: time.Now(), Set: set}).Causes[0]
		return advisory.New(cause.ID, cause.Message, nil, hints(u.k, cause)...)
	}
	u.report(fmt.Sprintf("telling statefulset %s to start its pods again", u.k.set))
	if _, err := u.k.store.Roll(ctx, nil); err != nil {
		if p, ok := advisory.Of(err); ok && p.ID == "secrets-not-rolled" { // the same, for another reason
			return advisory.New("gateway-rolling", "the gateway does not start again by itself", err, p.Commands()...)
		}
		return fmt.Errorf("restart gateway %s: %w", u.r.cfg.Gateway.Name, err)
	}
	u.rolled = true
	return nil
}

// step repairs and looks once. done is true when the gateway is up; an error ends
// the attempt.
func (u *bringingUp) step(ctx context.Context) (done bool, err error) {
	if err := u.repair(ctx); err != nil {
		return false, err
	}
	o, s := u.r.observe(ctx)
	if s.looked && s.report.Verdict == health.OK && u.bad == nil {
		if _, declared := u.r.declared(); !declared {
			// It leads to the pod, or will soon; what it leads to is asked next.
			if err := u.r.ensureForward(ctx, u.k, u.report); err != nil {
				return false, err
			}
			if o.Verdict != health.OK {
				o, s = u.r.observe(ctx)
			}
		}
	}
	if u.last.Evidence == nil || !launch.Over(ctx) {
		u.last, u.sight = o, s
	}
	moving := s.report.Rolling != "" && !s.report.Held && u.rolled
	switch {
	case launch.Over(ctx):
		return false, nil
	case o.Verdict == health.OK && !moving && u.bad == nil:
		u.report(o.Message)
		return true, nil
	case o.Absent, o.Verdict == health.Unknown && !passing(o.Reason):
		return false, u.failed(ctx, nil)
	case s.cause() != nil && s.cause().Final:
		return false, u.failed(ctx, nil)
	case o.Reason == outdated && !moving:
		return false, u.failed(ctx, nil)
	case moving:
		u.say("waiting: " + s.report.Rolling)
	default:
		u.say("waiting: " + o.Message)
	}
	return false, nil
}

// passing reports that what could not be asked may be answered in a moment. A missing
// right or a wrong kubeconfig is nothing that waiting mends.
func passing(reason string) bool {
	switch reason {
	case "cluster-unreachable", "cluster-timeout", "cluster-unhealthy", "cluster-secret-going", "gateway-unknown", "secrets-unusable":
		return true
	}
	return false
}

// repair makes the bootstrap secrets good, which on a good set only looks.
func (u *bringingUp) repair(ctx context.Context) error {
	first := u.last.Evidence == nil
	before := &remembering{Target: u.k.store}
	out, err := bundle.Repair(ctx, before, time.Now(), bundle.RepairOptions{Progress: u.report})
	u.bad = err
	u.rolled = u.rolled || out.Rolled
	if len(out.Written) > 0 && u.r.cfg.Repaired != nil {
		if problem := u.r.cfg.Repaired(ctx, before.belonged); problem != nil {
			u.report("clients of this machine do not have the new secrets: " + problem.Error())
		}
	}
	switch {
	case err == nil, launch.Over(ctx):
		return nil
	case !first && passing(idOf(err, "")), idOf(err, "") == "secrets-changed":
		return nil // the API is away for a moment, or somebody else repairs
	}
	return err
}

// remembering is a target that keeps what was first read from it.
type remembering struct {
	bundle.Target
	want   bundle.Requirements
	before *bundle.Snapshot
}

// Load implements bundle.Store.
func (r *remembering) Load(ctx context.Context, want bundle.Requirements) (bundle.Snapshot, error) {
	s, err := r.Target.Load(ctx, want)
	if err == nil && r.before == nil {
		r.want, r.before = want, &s
	}
	return s, err
}

func (r *remembering) belonged(certificate []byte) bool {
	return r.before != nil && bundle.Belongs(*r.before, r.want, certificate)
}

// failed says why the gateway did not come up, with the last words of a container
// that ends again and again. why is nil when waiting longer would not have helped.
func (u *bringingUp) failed(ctx context.Context, why error) error {
	o := u.last
	f := &launch.StartFailure{Ended: o.Message, Evidence: o.Evidence, Cause: why}
	reason, what, next := o.Reason, "gateway "+u.r.cfg.Gateway.Name+" is not up", o.Hints
	switch {
	case u.bad != nil && (o.Verdict == health.OK || reason == ""):
		f.Ended, reason = u.bad.Error(), idOf(u.bad, "secrets-unknown")
	case o.Verdict == health.OK: // in a pod that is to be replaced
		f.Ended, reason, what = u.sight.report.Rolling, "gateway-rolling", "gateway "+u.r.cfg.Gateway.Name+" did not start again"
		next = []string{u.k.api.Kubectl("rollout status statefulset " + u.k.set), u.k.api.Kubectl("describe statefulset " + u.k.set)}
	}
	if why != nil {
		f.Said = why.Error()
	}
	if cause := u.sight.cause(); cause != nil && cause.Container != "" {
		f.LogPath = fmt.Sprintf("container %s of pod %s", cause.Container, cause.Pod)
		f.Log = u.k.lastWords(ctx, cause.Pod, cause.Container)
	}
	if reason == "" {
		reason = "gateway-unknown"
	}
	return advisory.New(reason, what, f, next...)
}

// lastWords are the last lines of the container's run before this one, or of this
// one.
func (c *cluster) lastWords(ctx context.Context, pod, container string) []string {
	for _, previous := range []bool{true, false} {
		text, err := c.readLog(ctx, logRequest{pod: pod, container: container, lines: launch.FailureLines, previous: previous})
		if lines := launch.LastLines(text, launch.FailureLines); err == nil && len(lines) > 0 {
			return lines
		}
	}
	return nil
}

// Stop ends the port-forward, and refuses to stop the gateway: it is everybody's who
// uses it in the cluster.
func (r *Runtime) Stop(ctx context.Context, report gateway.Progress) error {
	if err := r.Detach(ctx, report); err != nil {
		return err
	}
	return advisory.New("gateway-in-cluster", fmt.Sprintf("no port-forward runs; gateway %s goes on in its cluster", r.cfg.Gateway.Name), nil,
		r.options().Kubectl("scale statefulset "+advisory.Quote(r.cfg.StatefulSet)+" --replicas=0"), "creel gateway start")
}
