package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"creel/internal/advisory"
	"creel/internal/bundle"
	"creel/internal/credential"
	"creel/internal/gateway/kube/rollout"
	"creel/internal/kubeapi"
)

// readSet reads the gateway's StatefulSet. Where there is none the error is the
// advisory "gateway-statefulset-absent"; only the API's own word makes it absent.
func (c *cluster) readSet(ctx context.Context) (rollout.StatefulSet, error) {
	var set rollout.StatefulSet
	operation := fmt.Sprintf("read StatefulSet %s/%s", c.api.Namespace(), c.set)
	err := c.api.Read(ctx, operation, c.api.Get().AbsPath(c.api.Path("apis/apps/v1", "statefulsets", c.set)), "StatefulSet", &set)
	switch {
	case kubeapi.IsAbsent(err, "statefulsets", c.set):
		why, err := c.api.NamespaceGone(ctx)
		if err != nil && !kubeapi.IsForbidden(err) {
			return set, err
		}
		if why == "" { // or nobody may look at namespaces, and no gateway is in it either way
			why = fmt.Sprintf("StatefulSet %q does not exist in namespace %q", c.set, c.api.Namespace())
		}
		return set, c.absent(why)
	case err != nil:
		return set, c.advise(ctx, err, "get", "statefulsets.apps")
	case set.Metadata.Name != c.set || set.Metadata.UID == "":
		return set, advisory.New("cluster-not-kubernetes", operation+": the answer is about another object", nil)
	case set.Metadata.DeletionTimestamp != nil:
		return set, c.absent(fmt.Sprintf("StatefulSet %q in namespace %q is being deleted", c.set, c.api.Namespace()))
	}
	return set, nil
}

const absentSet = "gateway-statefulset-absent"

func (c *cluster) absent(why string) error {
	return advisory.New(absentSet, why, nil, c.api.KubectlCluster("get statefulsets --all-namespaces"), c.api.Kubectl("get statefulsets,pods"))
}

// advise adds to an error about a missing right how it is granted.
func (c *cluster) advise(ctx context.Context, err error, verbs, resources string) error {
	p, ok := advisory.Of(err)
	if !ok || p.ID != "cluster-forbidden" || len(p.Hints) > 0 {
		return err
	}
	kind, _, _ := strings.Cut(strings.ReplaceAll(resources, "/", "-"), ".")
	p.Hints = c.api.Grant(ctx, kubeapi.Role{Name: "creel-" + kind, Verbs: verbs, Resources: resources})
	return err
}

// readPods reads those pods of a set that it made, by their names: nothing is
// listed, and of one that is not there nothing is said.
func (c *cluster) readPods(ctx context.Context, set rollout.StatefulSet) ([]rollout.Pod, error) {
	names := set.PodNames()
	found := make([]*rollout.Pod, len(names))
	err := kubeapi.InParallel(names, func(i int, name string) error {
		p, err := c.readPod(ctx, name)
		if p != nil && set.Owns(*p) {
			found[i] = p
		}
		return err
	})
	if err != nil {
		return nil, c.advise(ctx, err, "get", "pods")
	}
	var pods []rollout.Pod
	for _, p := range found {
		if p != nil {
			pods = append(pods, *p)
		}
	}
	return pods, nil
}

// readPod returns nil without an error for a pod that does not exist.
func (c *cluster) readPod(ctx context.Context, name string) (*rollout.Pod, error) {
	p := &rollout.Pod{}
	err := c.api.Read(ctx, fmt.Sprintf("read Pod %s/%s", c.api.Namespace(), name), c.api.Get().AbsPath(c.api.Path("api/v1", "pods", name)), "Pod", p)
	switch {
	case kubeapi.IsAbsent(err, "pods", name):
		return nil, nil
	case err != nil:
		return nil, err
	}
	tidy(p)
	return p, nil
}

// tidy makes printable lines of all that a pod's owner, or what runs in it, can word.
func tidy(p *rollout.Pod) {
	p.Status.Message, p.Status.Reason = said(p.Status.Message), said(p.Status.Reason)
	for i := range p.Status.Conditions {
		p.Status.Conditions[i].Message = said(p.Status.Conditions[i].Message)
	}
	for _, containers := range [][]rollout.Container{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for i := range containers {
			for _, state := range []*rollout.State{&containers[i].State, &containers[i].LastState} {
				if w := state.Waiting; w != nil {
					w.Message, w.Reason = said(w.Message), said(w.Reason)
				}
				if t := state.Terminated; t != nil {
					t.Message, t.Reason = said(t.Message), said(t.Reason)
				}
			}
			containers[i].Image = said(containers[i].Image)
		}
	}
	for _, containers := range [][]rollout.ContainerSpec{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range containers {
			containers[i].Image = said(containers[i].Image)
		}
	}
}

// mostEvents is how many events about one object are read: the API keeps them for an
// hour and counts repetitions in one.
const mostEvents = "100"

// readEvents reads the events about objects, by their uids.
func (c *cluster) readEvents(ctx context.Context, uids []string) ([]rollout.Event, error) {
	found := make([][]rollout.Event, len(uids))
	err := kubeapi.InParallel(uids, func(i int, uid string) error {
		var list struct {
			Items []rollout.Event `json:"items"`
		}
		request := c.api.Get().AbsPath(c.api.Path("api/v1", "events")).Param("fieldSelector", "involvedObject.uid="+uid).Param("limit", mostEvents)
		err := c.api.Read(ctx, "list events of namespace "+c.api.Namespace(), request, "EventList", &list)
		found[i] = list.Items
		return err
	})
	if err != nil {
		return nil, c.advise(ctx, err, "list", "events")
	}
	all := slices.Concat(found...)
	for i := range all {
		all[i].Message = said(all[i].Message)
	}
	return all, nil
}

// said makes one printable line of what somebody in the cluster said: an event and a
// container's last words can hold anything.
func said(text string) string {
	const most = 600
	text = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, "?"), func(r rune) bool { return !unicode.IsPrint(r) || r == ' ' }), " ")
	text = credential.Redact(text)
	if r := []rune(text); len(r) > most {
		text = string(r[:most]) + "…"
	}
	return text
}

// look is everything that was seen of the gateway at one moment.
type look struct {
	seen     rollout.Seen
	eventErr error // why events could not be read; what they would say is not known then

	// What the gateway's clients need, or why it could not be read.
	want      bundle.Requirements
	snapshot  bundle.Snapshot
	secretErr error
}

// look reads the set, its pods, its secrets and, unless all is well, the events. Its
// error says why the gateway cannot be judged.
func (c *cluster) look(ctx context.Context) (l look, err error) {
	read := make(chan struct{})
	go func() {
		defer close(read)
		l.want, l.snapshot, l.secretErr = bundle.Survey(ctx, c.store)
	}()
	set, err := c.readSet(ctx)
	var pods []rollout.Pod
	if err == nil {
		pods, err = c.readPods(ctx, set)
	}
	<-read
	if err != nil {
		return l, err
	}
	l.seen = rollout.Seen{Now: time.Now(), Set: set, Pods: pods}
	if l.secretErr == nil {
		l.seen.Members = l.want.Stored()
		for _, f := range bundle.Inspect(l.snapshot, l.want, l.seen.Now).Findings {
			if f.Class == bundle.Absent && !slices.Contains(l.seen.Missing, f.Name) {
				l.seen.Missing = append(l.seen.Missing, f.Name)
			}
		}
	}
	settled := len(pods) >= len(set.PodNames()) && !slices.ContainsFunc(pods, func(p rollout.Pod) bool { return !p.Ready() })
	if settled || set.Replicas() == 0 {
		return l, nil
	}
	uids := []string{set.Metadata.UID}
	for _, p := range pods {
		uids = append(uids, p.Metadata.UID)
	}
	l.seen.Events, l.eventErr = c.readEvents(ctx, uids)
	return l, nil
}

// isAbsentSet reports that the gateway positively is not in the cluster.
func isAbsentSet(err error) bool {
	p, ok := advisory.Of(err)
	return ok && p.ID == absentSet
}

// idOf is the advisory of an error; otherwise for one without.
func idOf(err error, otherwise string) string {
	if p, ok := advisory.Of(err); ok {
		return p.ID
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "cluster-timeout"
	}
	return otherwise
}
