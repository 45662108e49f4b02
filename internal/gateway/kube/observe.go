package kube

import (
	"context"
	"fmt"
	"slices"
	"time"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/gateway"
	"creel/internal/gateway/client"
	"creel/internal/gateway/evidence"
	"creel/internal/gateway/kube/rollout"
	"creel/internal/health"
)

// The links that a runtime of a process has not.
const (
	linkCluster = "cluster"
	linkRollout = "rollout"
	linkSecrets = "bootstrap secrets"
	linkForward = "port-forward"
)

// Observe asks the chain: the cluster, the set's rollout, the bootstrap secrets, the
// port-forward, TCP, TLS, Health, identity. What broke decides; what comes after it
// is not asked. It ends within the budgets of one look at a cluster and one probe, and
// where no answer comes through the port-forward within as much again: then the pod is
// asked through a tunnel of this process.
func (r *Runtime) Observe(ctx context.Context) gateway.Observation {
	o, _ := r.observe(ctx)
	return o
}

// sight is what an observation was made of, for who waits.
type sight struct {
	report rollout.Report
	looked bool // report is of something
}

// cause is the gravest reason why no pod serves; nil when one does, or nothing is
// known.
func (s sight) cause() *rollout.Cause {
	if !s.looked || s.report.Verdict == health.OK || len(s.report.Causes) == 0 {
		return nil
	}
	return &s.report.Causes[0]
}

func (r *Runtime) observe(ctx context.Context) (gateway.Observation, sight) {
	var c evidence.Chain
	o := gateway.Observation{Endpoint: r.Endpoint()}
	s := sight{}
	conclude := func() (gateway.Observation, sight) {
		c.Conclude()
		o.Verdict, o.Reason, o.Message, o.Evidence = c.Verdict, c.Reason, c.Message, c.Evidence
		if a, ok := advisory.Lookup(o.Reason); ok && len(o.Hints) == 0 && o.Verdict != health.OK {
			o.Hints = a.Commands
		}
		return o, s
	}
	broken := func(link string, v health.Verdict, err error, began time.Time) (gateway.Observation, sight) {
		if p, ok := advisory.Of(err); ok {
			o.Hints = p.Commands()
		}
		c.Break(link, link, v, idOf(err, "gateway-unknown"), err.Error(), time.Since(began))
		c.Skip(r.linksAfter(link)...)
		return conclude()
	}
	began := time.Now()
	k, err := r.open()
	if err != nil {
		return broken(linkCluster, health.Unknown, err, began)
	}
	within, cancel := budget.Context(ctx, budget.Cluster, "look at gateway "+r.cfg.Gateway.Name+" in its cluster")
	l, err := k.look(within)
	cancel()
	if isAbsentSet(err) {
		o.Absent = true
		return broken(linkRollout, health.Failed, err, began)
	}
	if err != nil {
		return broken(linkCluster, health.Unknown, err, began)
	}
	c.Hold(linkCluster+" "+k.api.Server(), "namespace "+k.api.Namespace(), time.Since(began))
	s.report, s.looked = rollout.Judge(l.seen), true
	if !r.askRollout(&c, k, l, s.report, &o) {
		c.Skip(r.linksAfter(linkRollout)...)
		return conclude()
	}
	if l.secretErr != nil {
		return broken(linkSecrets, health.Unknown, l.secretErr, time.Now())
	}
	pod := r.askGateway(ctx, &c, k, l, s.report.Ready, &o)
	conclude()
	if o.Verdict != health.OK {
		return o, s
	}
	o.Message = fmt.Sprintf("gateway %s answers at %s (pod %s, OpenShell %s)", r.cfg.Gateway.Name, o.Endpoint.URL(), pod.Metadata.Name, o.Identity.Version)
	if s.report.Rolling != "" {
		o.Caveats = append(o.Caveats, health.Caveat{Advisory: "gateway-rolling", Message: s.report.Rolling})
	}
	o.Caveats = append(o.Caveats, k.api.Caveats()...)
	if err := client.CheckVersion(o.Identity.Version); err != nil {
		o.Caveats = append(o.Caveats, health.Caveat{Advisory: "gateway-version-unsupported", Message: err.Error()})
	}
	return o, s
}

// linksAfter are those that are not asked when a link broke.
func (r *Runtime) linksAfter(link string) []string {
	all := []string{linkCluster, linkRollout, linkSecrets, linkForward, evidence.TCP, evidence.TLS, evidence.Health, evidence.Identity}
	if _, declared := r.declared(); declared {
		all = slices.Delete(all, 3, 4)
	}
	return all[slices.Index(all, link)+1:]
}

// askRollout puts what the set and its pods are into the chain, and reports whether
// one of them serves.
func (r *Runtime) askRollout(c *evidence.Chain, k *cluster, l look, report rollout.Report, o *gateway.Observation) bool {
	note := func(probe, answer string, v health.Verdict) {
		c.Evidence = append(c.Evidence, health.Evidence{Probe: probe, Answer: answer, Verdict: v})
	}
	for _, f := range report.Facts {
		note(f.Probe, f.Answer, f.Verdict)
	}
	if report.Verdict == health.OK {
		return true
	}
	cause := report.Causes[0]
	o.Hints = hints(k, cause)
	c.Break(linkRollout, linkRollout, report.Verdict, cause.ID, cause.Message, 0)
	for _, other := range report.Causes[1:] {
		note(linkRollout, other.Message, health.Failed)
	}
	if l.eventErr != nil {
		note("events", l.eventErr.Error(), health.Unknown)
		if p, ok := advisory.Of(l.eventErr); ok && !cause.Repair {
			o.Hints = append(o.Hints, p.Commands()...) // what they say may be the reason
		}
	}
	return false
}

// hints are the next commands for a cause.
func hints(k *cluster, cause rollout.Cause) []string {
	var h []string
	if cause.Repair {
		h = append(h, "creel gateway secrets repair")
	}
	for _, command := range cause.Commands {
		h = append(h, k.api.Kubectl(command))
	}
	if !cause.Final {
		h = append(h, "creel gateway start") // which waits
	}
	return h
}

// askGateway asks the gateway itself, the way that clients of this machine reach it:
// at the declared service, or through the port-forward. Where that does not lead to
// the pod, or nothing answers through it, the pod is asked without it, so that it is
// known which of the two is at fault. It returns the pod that the answer is of, as far
// as that can be told.
func (r *Runtime) askGateway(ctx context.Context, c *evidence.Chain, k *cluster, l look, ready []rollout.Pod, o *gateway.Observation) rollout.Pod {
	q := question{gateway: r.cfg.Gateway.Name, pod: ready[0], look: l}
	if e, declared := r.declared(); declared {
		q.put(ctx, c, e)
		o.Identity = q.who
		return q.pod
	}
	f := r.lookForward()
	pod, verdict, reason, message := f.leadsTo(ready)
	q.pod = pod
	if verdict == health.OK {
		m := f.marker
		o.Endpoint, o.Drift = m.endpoint(), r.drift(k, m)
		c.Hold(linkForward+" "+m.endpoint().URL(), message, f.took)
		var through evidence.Chain
		q.put(ctx, &through, m.endpoint())
		if !through.Broken() || ctx.Err() != nil {
			c.Join(through)
			o.Identity = q.who
			return pod
		}
		c.Evidence = append(c.Evidence, through.Evidence...)
		verdict, reason, message = through.Verdict, "gateway-forward-waiting", "through the port-forward: "+through.Message
	}
	c.Join(q.direct(ctx, k))
	if c.Broken() {
		c.Evidence = append(c.Evidence, health.Evidence{Probe: linkForward, Answer: message, Verdict: verdict, Took: health.Micros(f.took)})
		o.Hints = q.hints
		return pod
	}
	c.Break(linkForward, linkForward, verdict, reason, fmt.Sprintf("the gateway in pod %s is healthy, and %s", pod.Metadata.Name, message), f.took)
	return pod
}

// question is what is asked of the gateway in a pod.
type question struct {
	gateway string
	pod     rollout.Pod
	look    look
	who     gateway.Identity
	hints   []string // next commands of a question that could not be put
}

// put asks at an endpoint.
func (q *question) put(ctx context.Context, c *evidence.Chain, e gateway.Endpoint) {
	access, err := accessTo(q.look.snapshot, q.look.want, e)
	if err != nil {
		c.Break(linkSecrets, linkSecrets, health.Unknown, idOf(err, "secrets-unusable"), err.Error(), 0)
		c.Skip(evidence.TCP, evidence.TLS, evidence.Health, evidence.Identity)
		return
	}
	q.who = evidence.Ask(ctx, c, evidence.Target{Endpoint: e, Access: access, Identify: q.identify})
	if c.Reason == "gateway-foreign-listener" || c.Reason == "gateway-certificate-refused" {
		c.Reason = outdated // whoever listens there is a pod of this set
	}
}

// outdated is the advisory of a pod that began before its secrets were replaced.
const outdated = "gateway-secrets-outdated"

// identify: who answered has a certificate of the authority in this set's secrets,
// and was reached in the pod.
func (q *question) identify(version string) (gateway.Identity, evidence.Finding) {
	m := q.pod.Metadata
	return gateway.Identity{Gateway: q.gateway, InstanceID: m.UID, StartedAt: q.pod.Started().UTC(), Version: version},
		evidence.Finding{Verdict: health.OK, Message: fmt.Sprintf("pod %s, with a certificate of the set's own authority, version %s", m.Name, version)}
}

// direct asks through a tunnel of this very process: one call to the cluster, and one
// probe.
func (q *question) direct(ctx context.Context, k *cluster) evidence.Chain {
	var c evidence.Chain
	ctx, cancel := context.WithTimeout(ctx, budget.Of(budget.Cluster)+budget.Of(budget.Probe))
	defer cancel()
	began, port := time.Now(), rollout.Port(q.pod.Spec)
	probe := "tunnel to pod " + q.pod.Metadata.Name
	t, err := k.tunnel(ctx, q.pod.Metadata.Name, port)
	if err != nil {
		if p, ok := advisory.Of(err); ok {
			q.hints = p.Commands()
		}
		c.Break(linkForward, probe, health.Unknown, idOf(err, "gateway-unknown"), err.Error(), time.Since(began))
		return c
	}
	c.Hold(probe, fmt.Sprintf("to port %d, for this question", port), time.Since(began))
	q.put(ctx, &c, t.endpoint())
	if why := t.close(); why != nil && c.Broken() {
		c.Override(evidence.TCP, fmt.Sprintf("port %d of pod %s", port, q.pod.Metadata.Name), health.Failed, "gateway-unreachable", why.Error())
	}
	return c
}
