package rollout

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"creel/internal/advisory"
	"creel/internal/health"
)

// Grace is how long a pod may be in a state that the cluster tries to leave by
// itself before waiting for it is called hopeless: an image that is pulled again,
// a node that is added, a program that is started again.
const Grace = 30 * time.Second

// Seen is everything that was looked at.
type Seen struct {
	Now time.Time
	Set StatefulSet
	// Pods are those there are of the set's, that it owns.
	Pods []Pod
	// Events are about the set and its pods, or are not believed.
	Events []Event
	// Members are the names that the gateway's bootstrap secrets are stored under,
	// and Missing those of them that positively do not exist.
	Members, Missing []string
}

// Cause is why a gateway's pod does not serve.
type Cause struct {
	ID      string // of an advisory
	Message string // one sentence, lower case, no full stop
	// Final: waiting will not mend it.
	Final bool
	// Repair: a repair of the bootstrap secrets mends it, or has mended it.
	Repair bool
	// Commands are kubectl's words that show more or mend it, e.g.
	// "describe pod openshell-0".
	Commands []string
	// Pod and Container, if not empty, are whose last words may say more.
	Pod, Container string
}

// Fact is one thing that was looked at, for the evidence.
type Fact struct {
	Probe, Answer string
	Verdict       health.Verdict
}

// Report is what is to be said of a gateway's set.
type Report struct {
	// Verdict is OK when a pod is ready, whatever the others do.
	Verdict health.Verdict
	Ready   []Pod   // those that can be talked to, in the set's order; one at least when OK
	Causes  []Cause // why pods do not serve, the gravest first; one at least unless OK
	// Rolling says what is not as the set wants it yet although a pod serves; empty
	// when all is.
	Rolling string
	// Held: the rest of the rolling waits until somebody deletes pods.
	Held  bool
	Facts []Fact
}

// Judge says how a gateway's set is.
func Judge(s Seen) Report {
	r := Report{Verdict: health.Failed}
	set := s.Set
	replicas := set.Replicas()
	unseen := set.Status.ObservedGeneration < set.Metadata.Generation
	ready := slices.DeleteFunc(slices.Clone(s.Pods), func(p Pod) bool { return !p.Ready() })
	r.Facts = append(r.Facts, setFact(set, len(ready), unseen))
	for _, p := range s.Pods {
		f := Fact{Probe: "pod " + p.Metadata.Name, Answer: describe(p), Verdict: health.OK}
		if !p.Ready() {
			cause := s.pod(p)
			r.Causes = append(r.Causes, cause)
			f.Verdict = health.Failed
		}
		r.Facts = append(r.Facts, f)
	}
	if replicas == 0 {
		name := set.Metadata.Name
		r.Causes = []Cause{{ID: "gateway-scaled-down", Final: true, Commands: []string{"scale statefulset " + name + " --replicas=1"},
			Message: fmt.Sprintf("statefulset %s is scaled to 0 by whoever runs it", name)}}
		return r
	}
	if len(s.Pods) < min(replicas, mostPods) {
		r.Causes = append(r.Causes, s.podless(unseen))
	}
	slices.SortStableFunc(r.Causes, func(a, b Cause) int { return gravity(b) - gravity(a) })
	r.Rolling, r.Held = s.rolling(len(ready), unseen)
	if len(ready) > 0 {
		r.Verdict, r.Ready = health.OK, ready
	}
	return r
}

// about is a command about an object that an event names, and anybody may write
// events: the name is one word of a shell and no flag, whatever it is.
func about(command, name string) string {
	if strings.HasPrefix(name, "-") {
		command += " --"
	}
	return command + " " + advisory.Quote(name)
}

func gravity(c Cause) int {
	switch {
	case c.Final:
		return 2
	case c.ID != notReady:
		return 1
	}
	return 0
}

func setFact(set StatefulSet, ready int, unseen bool) Fact {
	f := Fact{Probe: "statefulset " + set.Metadata.Name, Verdict: health.OK,
		Answer: fmt.Sprintf("%d of %d ready, generation %d observed", ready, set.Replicas(), set.Status.ObservedGeneration)}
	if unseen {
		f.Answer += fmt.Sprintf(", generation %d not yet", set.Metadata.Generation)
	}
	if ready == 0 {
		f.Verdict = health.Failed
	}
	return f
}

// describe is a pod in a few words.
func describe(p Pod) string {
	words := []string{p.Status.Phase}
	if p.Status.Phase == "" {
		words[0] = "Pending"
	}
	if p.Metadata.DeletionTimestamp != nil {
		words = append(words, "being deleted")
	}
	restarts := 0
	for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		restarts += c.RestartCount
		if c.State.Waiting != nil && c.State.Waiting.Reason != "" {
			words = append(words, c.State.Waiting.Reason)
		}
	}
	if p.Ready() {
		words = append(words, "ready")
	}
	if p.Spec.NodeName != "" {
		words = append(words, "on node "+p.Spec.NodeName)
	}
	return strings.Join(append(words, fmt.Sprintf("%d restarts", restarts)), ", ")
}

// rolling says what is still to come although a pod may serve.
func (s Seen) rolling(ready int, unseen bool) (what string, held bool) {
	set := s.Set
	if unseen {
		return fmt.Sprintf("the cluster has not taken up the latest change of statefulset %s (generation %d, observed %d)",
			set.Metadata.Name, set.Metadata.Generation, set.Status.ObservedGeneration), false
	}
	for _, p := range s.Pods {
		if revision := p.Metadata.Labels["controller-revision-hash"]; revision != "" && set.Status.UpdateRevision != "" && revision != set.Status.UpdateRevision {
			held := set.Spec.UpdateStrategy.Type == "OnDelete" || set.Spec.UpdateStrategy.RollingUpdate.Partition > 0
			what := "pod " + p.Metadata.Name + " is still of the revision before the latest change"
			if held {
				what += ", and statefulset " + set.Metadata.Name + " leaves it to somebody to delete it"
			}
			return what, held
		}
	}
	if replicas := set.Replicas(); ready < min(replicas, mostPods) {
		return fmt.Sprintf("%d of %d pods are ready", ready, replicas), false
	}
	return "", false
}

// believed are the events of some reasons about an object, newest first. One about
// an object of the same name that was there before has another uid.
func (s Seen) believed(uid string, since time.Time, reasons ...string) []Event {
	var found []Event
	for _, e := range s.Events {
		// Events have whole seconds where the times of objects are compared with.
		if e.InvolvedObject.UID == uid && slices.Contains(reasons, e.Reason) && !e.last().Before(since.Truncate(time.Second)) {
			found = append(found, e)
		}
	}
	slices.SortStableFunc(found, func(a, b Event) int { return b.last().Compare(a.last()) })
	return found
}

// lasting reports that a state which began then has had its time to change.
func (s Seen) lasting(since time.Time) bool { return s.Now.Sub(since) >= Grace }
