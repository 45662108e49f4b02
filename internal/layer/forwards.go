package layer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"creel/internal/advisory"
	"creel/internal/gateway"
	"creel/internal/health"
	"creel/internal/sandbox"
)

// forwardProbe begins the name of the evidence about one forward.
const forwardProbe = "forward "

// forwardsFound is what is seen of the forwards beside a dashboard.
type forwardsFound struct {
	problems  []problem // of those that are not as wanted
	listening int
	evidence  []health.Evidence
	caveats   []health.Caveat
}

// problem is why a forward is not as wanted.
type problem struct{ reason, message string }

// judgeForwards compares what is forwarded with what is wanted.
func judgeForwards(want []sandbox.Forward, have []gateway.Forward, tier sandbox.Tier) forwardsFound {
	var found forwardsFound
	if tier == sandbox.TierLandlock && len(want) > 0 {
		found.problems = []problem{{"forward-unreachable", "the sandbox has no network of its own, so only its dashboard can be reached"}}
	}
	for _, w := range want {
		i := slices.IndexFunc(have, func(f gateway.Forward) bool {
			return f.WantedPort == w.Port && (w.Port != 0 || f.TargetPort == w.TargetPort)
		})
		if i < 0 {
			found.wrong(describeWanted(w), "forward-differs", fmt.Sprintf("port %d inside is not forwarded yet", w.TargetPort))
			continue
		}
		found.judge(w, have[i])
		have = slices.Delete(slices.Clone(have), i, i+1)
	}
	for _, f := range have {
		found.wrong(describeForward(f), "forward-differs", fmt.Sprintf("port %d is forwarded, which is not wanted", f.Port))
	}
	return found
}

// judge is about one forward that is wanted and known to the gateway.
func (found *forwardsFound) judge(want sandbox.Forward, have gateway.Forward) {
	name := describeForward(have)
	switch {
	case have.Reason != "":
		found.wrong(name, have.Reason, have.Error)
		return
	case !have.Bound:
		found.wrong(name, "forward-not-bound", orElse(have.Error, "it is not bound"))
		return
	case have.Bind != want.Bind || have.TargetPort != want.TargetPort:
		found.wrong(name, "forward-differs", fmt.Sprintf("port %d leads to port %d inside and is bound to %s, %s is wanted", have.Port, have.TargetPort, have.Bind, describeWanted(want)))
		return
	}
	found.listening++
	answer := fmt.Sprintf("listens for port %d inside, %d connections", have.TargetPort, have.Connections)
	if have.Connections == 1 {
		answer = fmt.Sprintf("listens for port %d inside, 1 connection", have.TargetPort)
	}
	if displaced := have.Displaced(); displaced != "" {
		answer += "; " + displaced
	}
	found.evidence = append(found.evidence, health.Evidence{Probe: forwardProbe + name, Answer: answer, Verdict: health.OK})
	if have.Exposed() {
		found.caveats = append(found.caveats, health.Caveat{Advisory: "forward-exposed",
			Message: fmt.Sprintf("port %d listens on %s, not on this machine alone, and leads to port %d inside", have.Port, have.Bind, have.TargetPort)})
	}
	found.caveats = append(found.caveats, full(have)...)
}

// full is the caveat of a listener that had to refuse connections.
func full(f gateway.Forward) []health.Caveat {
	if f.Refused == 0 {
		return nil
	}
	return []health.Caveat{{Advisory: "forward-full",
		Message: fmt.Sprintf("port %d refused or ended %d connections because there were too many", f.Port, f.Refused)}}
}

func (found *forwardsFound) wrong(name, reason, message string) {
	found.evidence = append(found.evidence, health.Evidence{Probe: forwardProbe + name, Answer: message, Verdict: health.Failed})
	found.problems = append(found.problems, problem{reason, message})
}

func describeWanted(f sandbox.Forward) string {
	port := "any port"
	if f.Port != 0 {
		port = strconv.Itoa(f.Port)
	}
	return fmt.Sprintf("%s:%s to %d", f.Bind, port, f.TargetPort)
}

func describeForward(f gateway.Forward) string {
	return net.JoinHostPort(f.Bind, strconv.Itoa(f.Port))
}

// with adds what was found of the forwards to what was found of the dashboard.
func (found forwardsFound) with(r health.Result) health.Result {
	r.Evidence = append(r.Evidence, found.evidence...)
	r.Caveats = append(r.Caveats, found.caveats...)
	switch {
	case len(found.problems) > 0:
		return found.withProblems(r)
	case r.Verdict != health.OK:
	case found.listening == 1:
		r.Message += "; 1 forward listens"
	case found.listening > 1:
		r.Message += fmt.Sprintf("; %d forwards listen", found.listening)
	}
	return r
}

// withProblems names every forward that is not as wanted: in the place of a dashboard
// that is well, after one that is not.
func (found forwardsFound) withProblems(r health.Result) health.Result {
	var says, hints []string
	if r.Verdict != health.OK {
		says, hints = []string{r.Message}, slices.Clone(r.Hints)
	}
	for _, p := range found.problems {
		if !slices.Contains(says, p.message) { // such as that the sandbox is starting
			says = append(says, p.message)
		}
		known, _ := advisory.Lookup(p.reason)
		for _, h := range known.Commands {
			if !slices.Contains(hints, h) {
				hints = append(hints, h)
			}
		}
	}
	if r.Verdict == health.OK {
		r.Verdict, r.Reason = health.Failed, found.problems[0].reason
	}
	r.Message, r.Hints = strings.Join(says, "; "), hints
	return r
}

// toForward is the action for forwards that are not as wanted; empty when all are.
func (d *dashboardLayer) toForward(found health.Result) []Action {
	var names []string
	for _, e := range found.Evidence {
		if name, is := strings.CutPrefix(e.Probe, forwardProbe); is && e.Verdict == health.Failed {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return []Action{{ID: "set-forwards", Title: fmt.Sprintf("set the forwards of %s (%s); its agent goes on", d.want.Name, strings.Join(names, ", "))}}
}

// listen has the gateway listen as wanted, and returns what could not be.
func (d *dashboardLayer) listen(ctx context.Context) error {
	c, err := d.session.Client(ctx)
	if err != nil {
		return err
	}
	updater, can := c.(gateway.Updater)
	if !can {
		return advisory.New("sandbox-differs", "this gateway cannot change a sandbox in place", nil)
	}
	in, err := updater.UpdateForwards(ctx, d.want.Name, d.want.Spec)
	if err != nil {
		return err
	}
	var problems []error
	for _, f := range append([]gateway.Forward{in.Dashboard}, in.Forwards...) {
		if f.Reason != "" {
			problems = append(problems, advisory.New(f.Reason, f.Error, nil))
		}
	}
	return errors.Join(problems...)
}
