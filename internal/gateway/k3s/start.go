package k3s

import (
	"context"
	"errors"
	"fmt"
	"time"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/bundle"
	"creel/internal/gateway"
	"creel/internal/health"
	"creel/internal/host"
	"creel/internal/host/engine"
	"creel/internal/registration"
)

// How often a gateway on its way up is looked at. Asking its endpoint costs next to
// nothing. Looking into the cluster runs programs in the container: often while
// something is missing there, seldom when nothing is.
const (
	askAgain   = 250 * time.Millisecond
	lookInside = time.Second
	insideGood = 5 * time.Second
)

// Start starts the container if it does not run, and sees to the gateway in it until
// it is ready: bootstrap secrets are repaired, OpenShell clients are given what opens
// it, and it has to answer. It returns then, when the container ends, or when the
// container-start budget is used up; what it has started stays. A gateway that
// answers although its container cannot be looked at is used as it is; beyond that
// nothing is done to a container that is missing or not seen.
func (r *Runtime) Start(ctx context.Context, report gateway.Progress) error {
	return r.bringUp(ctx, budget.ContainerStart, report)
}

func (r *Runtime) bringUp(ctx context.Context, limit budget.Name, report gateway.Progress) error {
	if report == nil {
		report = func(string) {}
	}
	g := r.cfg.Gateway
	if err := host.CheckWritable(g.Dir()); err != nil {
		return err
	}
	ctx, cancel := budget.Context(ctx, limit, "wait until gateway "+g.Name+" is ready")
	defer cancel()
	box, there, _ := r.look(ctx)
	switch there {
	case unseen, missing:
		o := r.observe(ctx, nil)
		if o.Verdict != health.OK {
			return advisory.New(o.Reason, "gateway "+g.Name+" cannot be started", errors.New(o.Message), o.Hints...)
		}
		report(o.Message)
		for _, c := range o.Caveats {
			report("warning: " + c.Message)
		}
		return nil
	case held:
		return r.notRunning("gateway "+g.Name+" cannot be started", box)
	case stopped:
		report(fmt.Sprintf("starting container %s, which is %s", box.Name, how(box)))
		if err := r.cfg.Engine.Start(ctx, box.Name); err != nil {
			return err
		}
		var err error
		if box, there, err = r.look(ctx); there == unseen {
			return fmt.Errorf("start gateway %s: %w", g.Name, err)
		}
	}
	a := &attempt{Runtime: r, report: report, box: box}
	return a.await(ctx)
}

// attempt is one start of a gateway.
type attempt struct {
	*Runtime
	report gateway.Progress
	box    engine.Container
	said   map[string]bool

	keys     *keys
	due      time.Time // when to look into the cluster again
	looked   bool
	trouble  error // why the secrets are not good
	attached bool  // OpenShell clients have what opens it
	last     observation
	disagree string // what OpenShell's own program has against it
}

// say reports what was not said before.
func (a *attempt) say(message string) {
	if !a.said[message] {
		if a.said == nil {
			a.said = map[string]bool{}
		}
		a.said[message] = true
		a.report(message)
	}
}

// await polls until the gateway is ready.
func (a *attempt) await(ctx context.Context) error {
	ended, forget := a.end(ctx)
	defer forget()
	for {
		if !time.Now().Before(a.due) {
			a.lookInside(ctx)
		}
		if o := a.observe(ctx, a.keys); len(a.last.Evidence) == 0 || ctx.Err() == nil {
			a.last = o // not one that was cut short, if there is another
		}
		select {
		case code := <-ended:
			return a.hasEnded(code)
		default:
		}
		if a.last.there == stopped { // the engine did not tell
			return a.hasEnded(a.last.box.ExitCode)
		}
		if a.last.Verdict == health.OK && a.agreed(ctx) {
			return a.ready()
		}
		pause := askAgain
		if a.disagree != "" {
			pause = lookInside // asking costs as much
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case code := <-ended:
			t.Stop()
			return a.hasEnded(code)
		case <-ctx.Done():
			t.Stop()
			return a.notReady(ctx)
		}
	}
}

// end tells when the container ends, as far as the engine does.
func (a *attempt) end(ctx context.Context) (ended <-chan int, forget func()) {
	ctx, cancel := context.WithCancel(ctx)
	codes, done := make(chan int, 1), make(chan struct{})
	go func() {
		defer close(done)
		if code, err := a.cfg.Engine.Exited(ctx, a.box.ID); err == nil {
			codes <- code
		}
	}()
	return codes, func() { cancel(); <-done }
}

// lookInside repairs the bootstrap secrets, which on a good set only looks, and gives
// OpenShell clients what opens the gateway: at once after a repair, which may have
// made another client certificate, and else when the cluster finds itself healthy.
func (a *attempt) lookInside(ctx context.Context) {
	a.due = time.Now().Add(lookInside)
	set := &remembering{Target: a.cfg.Cluster}
	out, err := bundle.Repair(ctx, set, time.Now(), bundle.RepairOptions{Progress: a.say})
	if ctx.Err() != nil && a.looked {
		return // it was cut short: what was found before stands
	}
	switch a.trouble, a.looked = err, true; {
	case ctx.Err() != nil:
		return
	case err == nil && out.NotApplicable != "":
		a.trouble = advisory.New("secrets-not-applicable", "", errors.New(out.NotApplicable))
		a.say("waiting: " + out.NotApplicable)
		return
	case err != nil:
		a.say(err.Error())
	default:
		a.due = time.Now().Add(insideGood)
	}
	k, _ := judgeSet(set.want, set.snapshot)
	if k == nil {
		return
	}
	a.keys = k
	if !out.Repaired && !out.Rolled {
		if v, err := a.cfg.Cluster.HealthCheck(ctx); v != health.OK {
			a.say(fmt.Sprintf("the cluster's own check does not pass: %v", err))
			return
		}
	}
	a.attach(k)
}

// attach gives OpenShell clients the certificate that opens the gateway, and makes it
// the one that they use unless told otherwise where there is no other. What it cannot
// do is told and keeps no gateway from being ready: the registration is a layer of
// its own.
func (a *attempt) attach(k *keys) {
	g := a.cfg.Gateway
	what, err := registration.Renew(g, endpointOf(a.endpoint(a.box)), k.files)
	if err != nil {
		a.say("OpenShell clients are not given its certificate: " + err.Error())
		return
	}
	a.attached = true
	if what == registration.Attached {
		a.say("OpenShell clients have the certificate that opens gateway " + g.Name)
	}
	switch active, err := registration.Select(g); {
	case err != nil:
		a.say("which gateway OpenShell clients use could not be determined: " + err.Error())
	case active != g.Name:
		a.say(fmt.Sprintf("OpenShell clients use gateway %s unless told otherwise, which stays so; openshell gateway select %s changes it", active, g.Name))
	}
}

// agreed asks OpenShell's own program, if there is one, whether it finds the gateway.
func (a *attempt) agreed(ctx context.Context) bool {
	v, text := a.says(ctx)
	a.disagree = ""
	switch v {
	case health.Failed:
		a.disagree = text
		a.say(text)
		return false
	case health.Unknown:
		a.say("OpenShell's own program could not be asked: " + text)
	}
	return true
}

// ready ends an attempt that came to its end.
func (a *attempt) ready() error {
	if a.trouble != nil {
		a.say("warning: the gateway answers, and its bootstrap secrets are not good: " + a.trouble.Error())
	}
	for _, c := range a.last.Caveats {
		a.say("warning: " + c.Message)
	}
	a.report(a.last.Message)
	if a.keys == nil || !a.attached {
		return nil
	}
	return a.remember(a.last.box, a.last.Endpoint, a.keys.files)
}
