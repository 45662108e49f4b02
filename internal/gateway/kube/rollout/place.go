package rollout

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// How the scheduler says why a pod fits nowhere.
var (
	claimMissing = regexp.MustCompile(`persistentvolumeclaims? "([^"]+)" (?:not found|is being deleted)`)
	unbound      = regexp.MustCompile(`(?i)unbound (?:immediate )?PersistentVolumeClaims?`)
	insufficient = regexp.MustCompile(`Insufficient ([A-Za-z0-9./-]+)`)
	taint        = regexp.MustCompile(`untolerated taint(?:\(s\))? (\{[^}]*\})`)
)

// constraints are what else keeps pods off nodes, as the scheduler words it.
var constraints = []struct{ says, means string }{
	{"node affinity/selector", "no node has what its nodeSelector or affinity asks for"},
	{"volume node affinity conflict", "its volume is bound to a node or zone that cannot take it"},
	{"anti-affinity", "its anti-affinity keeps it off the nodes there are"},
	{"topology spread constraints", "its topology spread constraints keep it off the nodes there are"},
	{"Too many pods", "the nodes run as many pods as they may"},
	{"were unschedulable", "nodes are cordoned"},
	{"no nodes available", "the cluster has no node"},
	{"didn't have free ports", "a host port that it wants is taken"},
}

// unscheduled says why a pod has no node.
func (s Seen) unscheduled(p Pod, scheduled Condition, c Cause) Cause {
	name, why := p.Metadata.Name, scheduled.Message
	if e := s.believed(p.Metadata.UID, p.Metadata.CreationTimestamp, "FailedScheduling"); why == "" && len(e) > 0 {
		why = e[0].Message
	}
	c.Final = s.lasting(p.Metadata.CreationTimestamp)
	if scheduled.Reason == "SchedulingGated" {
		c.ID, c.Message = "gateway-unschedulable", "pod "+name+" is held back from scheduling by a gate of its specification"
		return c
	}
	if volumes := waitsFor(p, why); len(volumes) > 0 {
		c.ID = "gateway-volume-unbound"
		c.Message = fmt.Sprintf("pod %s waits for PersistentVolumeClaim %s: %s", name, strings.Join(volumes, ", "), why)
		for _, v := range volumes {
			c.Commands = append(c.Commands, about("describe pvc", v))
		}
		c.Commands = append(c.Commands, "get storageclass")
		return c
	}
	c.ID = "gateway-unschedulable"
	var words []string
	for _, m := range insufficient.FindAllStringSubmatch(why, -1) {
		words = appendNew(words, "short of "+strings.TrimRight(m[1], "."))
	}
	for _, m := range taint.FindAllStringSubmatch(why, -1) {
		words = appendNew(words, "it does not tolerate taint "+m[1])
	}
	for _, k := range constraints {
		if strings.Contains(why, k.says) {
			words = appendNew(words, k.means)
		}
	}
	c.Message = "no node takes pod " + name
	if len(words) > 0 {
		c.Message += ": " + strings.Join(words, "; ")
	}
	if why != "" {
		c.Message += " (" + why + ")"
	}
	c.Commands = append(c.Commands, "describe nodes")
	return c
}

// waitsFor are the claims without which the pod is not scheduled.
func waitsFor(p Pod, why string) []string {
	var names []string
	for _, m := range claimMissing.FindAllStringSubmatch(why, -1) {
		names = appendNew(names, m[1])
	}
	if len(names) == 0 && unbound.MatchString(why) {
		names = claims(p)
	}
	return names
}

func appendNew(all []string, s string) []string {
	if slices.Contains(all, s) {
		return all
	}
	return append(all, s)
}

// How admission says why a pod may not be.
var (
	quotaExceeded = regexp.MustCompile(`exceeded quota: ([a-z0-9.-]+), requested: (.+?), used: (.+?), limited: (.+?)(?:$|;|\s*$)`)
	quotaUnmet    = regexp.MustCompile(`failed quota: ([a-z0-9.-]+): (must specify .+)`)
	podSecurity   = regexp.MustCompile(`violates PodSecurity "([^"]+)": (.+)`)
	webhook       = regexp.MustCompile(`admission webhook "([^"]+)" denied the request`)
	account       = regexp.MustCompile(`serviceaccount "([^"]+)" not found`)
)

// podless says why the set has fewer pods than it wants.
func (s Seen) podless(unseen bool) Cause {
	set := s.Set
	name := set.Metadata.Name
	c := Cause{ID: "gateway-pod-absent", Commands: []string{"describe statefulset " + name},
		Message: fmt.Sprintf("statefulset %s has %d of %d pods", name, len(s.Pods), set.Replicas())}
	events := s.believed(set.Metadata.UID, set.changed(), "FailedCreate")
	if len(events) == 0 {
		if unseen {
			c.ID = "gateway-rollout-unseen"
			c.Message = fmt.Sprintf("the cluster has not taken up statefulset %s (generation %d, observed %d): its controllers may not run",
				name, set.Metadata.Generation, set.Status.ObservedGeneration)
			c.Final = s.lasting(set.changed())
		}
		return c
	}
	e := events[0]
	c.Final = s.lasting(e.FirstTimestamp)
	c.ID, c.Message = "gateway-pod-refused", fmt.Sprintf("the cluster refuses the pod of statefulset %s: %s", name, e.Message)
	if m := quotaExceeded.FindStringSubmatch(e.Message); m != nil {
		c.ID, c.Message = "gateway-quota", fmt.Sprintf("quota %s leaves no room for the pod of statefulset %s: it asks for %s, %s of %s are used",
			m[1], name, m[2], m[3], m[4])
		c.Commands = []string{about("describe resourcequota", m[1])}
	} else if m := quotaUnmet.FindStringSubmatch(e.Message); m != nil {
		c.ID, c.Message = "gateway-quota", fmt.Sprintf("quota %s takes only pods that say more than that of statefulset %s: %s", m[1], name, m[2])
		c.Commands = []string{about("describe resourcequota", m[1])}
	} else if m := podSecurity.FindStringSubmatch(e.Message); m != nil {
		c.Message = fmt.Sprintf("the pod of statefulset %s violates PodSecurity %s: %s", name, m[1], m[2])
		c.Commands = []string{"get namespace " + set.Metadata.Namespace + " --show-labels", "describe statefulset " + name}
	} else if m := webhook.FindStringSubmatch(e.Message); m != nil {
		c.Commands = append(c.Commands, "get validatingwebhookconfigurations,mutatingwebhookconfigurations")
	} else if m := account.FindStringSubmatch(e.Message); m != nil {
		c.Message = fmt.Sprintf("the pod of statefulset %s needs ServiceAccount %s, which does not exist", name, m[1])
		c.Commands = append(c.Commands, about("get serviceaccount", m[1]))
	}
	return c
}
