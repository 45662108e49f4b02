package rollout

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// creating is a pod whose containers are not made yet.
func (s Seen) creating(p Pod, c Cause) Cause {
	name := p.Metadata.Name
	events := s.believed(p.Metadata.UID, p.Metadata.CreationTimestamp, "FailedMount", "FailedAttachVolume")
	for _, e := range events {
		// "timed out" names nobody; an earlier one may.
		if named, is := s.lacking(p, e.Message, c); is {
			return named
		}
	}
	if len(events) > 0 {
		c.ID, c.Final = "gateway-mount-failed", s.lasting(p.since())
		c.Message = fmt.Sprintf("a volume of pod %s cannot be mounted: %s", name, events[0].Message)
		for _, claim := range claims(p) {
			c.Commands = append(c.Commands, about("describe pvc", claim))
		}
		return c
	}
	if e := s.believed(p.Metadata.UID, p.Metadata.CreationTimestamp, "FailedCreatePodSandBox", "NetworkNotReady"); len(e) > 0 {
		c.ID, c.Final = "gateway-container-refused", s.lasting(p.since())
		c.Message = fmt.Sprintf("the node cannot make pod %s: %s", name, e[0].Message)
		return c
	}
	c.Message = "the containers of pod " + name + " are being made"
	return c
}

// missing is a pod that waits for bootstrap secrets that do not exist.
func (s Seen) missing(p Pod, secrets []string, c Cause) Cause {
	c.ID, c.Repair = "gateway-secret-missing", true
	noun, verb := "Secret", "does"
	if len(secrets) > 1 {
		noun, verb = "Secrets", "do"
	}
	c.Message = fmt.Sprintf("pod %s waits for %s %s, which %s not exist", p.Metadata.Name, noun, strings.Join(secrets, ", "), verb)
	return c
}

// How the kubelet names what it lacks.
var (
	objectMissing = regexp.MustCompile(`(?i)\b(secret|configmap)s? "([^"]+)" not found`)
	keyMissing    = regexp.MustCompile(`(?i)couldn't find key (\S+) in (secret|configmap) (?:[a-z0-9.-]+/)?([a-z0-9.-]+)`)
	keyReferred   = regexp.MustCompile(`(?i)references non-existent (secret|configmap|config) key: (\S+)`)
	ofVolume      = regexp.MustCompile(`for volume "([^"]+)"`)
)

// lacking makes out a secret or a config map that a pod waits for; is is false when
// the text names none.
func (s Seen) lacking(p Pod, text string, c Cause) (cause Cause, is bool) {
	kind, name, key := "", "", ""
	if m := objectMissing.FindStringSubmatch(text); m != nil {
		kind, name = m[1], m[2]
	} else if m := keyMissing.FindStringSubmatch(text); m != nil {
		kind, name, key = m[2], m[3], m[1]
	} else if m := keyReferred.FindStringSubmatch(text); m != nil {
		kind, key = m[1], m[2]
		if v := ofVolume.FindStringSubmatch(text); v != nil {
			name = secretOf(p, v[1])
		}
	}
	if kind == "" || name == "" {
		return c, false
	}
	lacks := name
	if key != "" {
		lacks = name + ", key " + key
	}
	if !strings.EqualFold(kind, "secret") {
		c.ID, c.Final = "gateway-mount-failed", s.lasting(p.since())
		c.Message = fmt.Sprintf("pod %s waits for ConfigMap %s, which does not exist", p.Metadata.Name, lacks)
		c.Commands = append(c.Commands, about("get configmap", name))
		return c, true
	}
	c.ID = "gateway-secret-missing"
	switch {
	case !slices.Contains(s.Members, name):
		c.Final = s.lasting(p.since())
		c.Message = fmt.Sprintf("pod %s waits for Secret %s, which does not exist and is none of the bootstrap secrets", p.Metadata.Name, lacks)
		c.Commands = append(c.Commands, about("get secret", name))
	case slices.Contains(s.Missing, name):
		return s.missing(p, []string{name}, c), true
	case key != "":
		c.Repair = true
		c.Message = fmt.Sprintf("pod %s waits for Secret %s, which lacks it", p.Metadata.Name, lacks)
	default:
		c.Repair = true
		c.Message = fmt.Sprintf("pod %s waits for Secret %s, which exists by now; the kubelet tries again within two minutes", p.Metadata.Name, name)
		// A pod that the set makes anew is tried at once.
		c.Commands = append(c.Commands, "delete pod "+p.Metadata.Name)
	}
	return c, true
}

func secretOf(p Pod, volume string) string {
	for _, v := range p.Spec.Volumes {
		if v.Name == volume && v.Secret != nil {
			return v.Secret.SecretName
		}
	}
	return ""
}

// claims are the names of the pod's PersistentVolumeClaims.
func claims(p Pod) []string {
	var names []string
	for _, v := range p.Spec.Volumes {
		if v.PersistentVolumeClaim != nil {
			names = append(names, v.PersistentVolumeClaim.ClaimName)
		}
	}
	return names
}
