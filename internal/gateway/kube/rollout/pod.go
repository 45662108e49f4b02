package rollout

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"creel/internal/advisory"
)

// notReady is the advisory of a pod of which nothing worse is known.
const notReady = "gateway-pod-not-ready"

// stuck is how much longer than it was given a pod may take to go.
const stuck = time.Minute

// pod says why a pod is not ready.
func (s Seen) pod(p Pod) Cause {
	name := p.Metadata.Name
	c := Cause{ID: notReady, Commands: []string{"describe pod " + name}}
	switch scheduled := p.condition("PodScheduled"); {
	case p.Metadata.DeletionTimestamp != nil:
		c.Message = "pod " + name + " is being deleted"
		if s.Now.Sub(*p.Metadata.DeletionTimestamp) > stuck { // the time by which it was to be gone
			c.ID, c.Final = "gateway-pod-stuck", true
			c.Message += " and should have been gone at " + p.Metadata.DeletionTimestamp.UTC().Format(time.RFC3339)
			if p.Spec.NodeName != "" {
				c.Message += "; its node " + p.Spec.NodeName + " may be lost"
				c.Commands = append(c.Commands, about("describe node", p.Spec.NodeName))
			}
		}
		return c
	case p.Status.Phase == "Failed" || p.Status.Phase == "Succeeded":
		return s.ended(p, c)
	case scheduled.Status == "False":
		return s.unscheduled(p, scheduled, c)
	case p.Spec.NodeName == "":
		c.Message = "pod " + name + " waits for a node"
		return c
	}
	running := slices.ContainsFunc(p.Status.ContainerStatuses, func(c Container) bool { return c.State.Running != nil })
	if !running && len(s.Missing) > 0 {
		return s.missing(p, s.Missing, c)
	}
	for i, container := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		initial := i < len(p.Status.InitContainerStatuses)
		if bad, found := s.container(p, container, initial, c); found {
			return bad
		}
	}
	if !running {
		return s.creating(p, c)
	}
	c.Message = "pod " + name + " runs and is not ready"
	if e := s.believed(p.Metadata.UID, s.Now.Add(-2*time.Minute), "Unhealthy"); len(e) > 0 {
		c.Message += ": " + e[0].Message
	}
	c.Pod, c.Container = name, Gateway(p.Spec).Name
	c.Commands = append(c.Commands, "logs "+name+" --container "+advisory.Quote(c.Container))
	return c
}

// ended is a pod that was ended as a whole, by its node mostly.
func (s Seen) ended(p Pod, c Cause) Cause {
	name := p.Metadata.Name
	c.ID = "gateway-pod-failed"
	// The set's controller makes another one, unless that is held back.
	c.Final = s.lasting(p.since())
	why := p.Status.Message
	if p.Status.Reason != "" {
		why = strings.TrimSuffix(p.Status.Reason+": "+why, ": ")
	}
	if why == "" {
		why = "phase " + p.Status.Phase
	}
	c.Message = "pod " + name + " has ended: " + why
	if p.Status.Reason == "" {
		for _, container := range p.Status.ContainerStatuses {
			if t := container.State.Terminated; t != nil {
				c.Message = fmt.Sprintf("pod %s has ended: container %s %s", name, container.Name, how(t))
			}
		}
	}
	c.Commands = append(c.Commands, "delete pod "+name)
	return c
}

// how a container ended, in words.
func how(t *Terminated) string {
	words := fmt.Sprintf("exited with code %d", t.ExitCode)
	switch {
	case t.Reason == "OOMKilled":
		words = "was killed because it used more memory than it may"
	case t.Signal != 0:
		words = fmt.Sprintf("was killed by signal %d", t.Signal)
	case t.ExitCode > 128 && t.ExitCode < 128+65:
		words += fmt.Sprintf(" (signal %d)", t.ExitCode-128)
	}
	if t.Reason != "" && t.Reason != "Error" && t.Reason != "OOMKilled" && t.Reason != "Completed" {
		words += " (" + t.Reason + ")"
	}
	if t.Message != "" {
		words += ": " + t.Message
	}
	return words
}

var (
	imageReasons = []string{"ImagePullBackOff", "ErrImagePull", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError",
		"RegistryUnavailable", "SignatureValidationFailed"}
	createReasons = []string{"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PreCreateHookError",
		"PreStartHookError", "PostStartHookError"}
)

// container says what is the matter with one container; found is false when
// nothing is that explains a pod which is not ready.
func (s Seen) container(p Pod, container Container, initial bool, c Cause) (cause Cause, found bool) {
	name, of := p.Metadata.Name, "container "+container.Name+" of pod "+p.Metadata.Name
	lasting := s.lasting(p.since())
	if w := container.State.Waiting; w != nil {
		switch {
		case slices.Contains(imageReasons, w.Reason):
			return s.image(p, container, c), true
		case slices.Contains(createReasons, w.Reason):
			if secret, is := s.lacking(p, w.Message, c); is {
				return secret, true
			}
			c.ID, c.Final = "gateway-container-refused", lasting
			c.Message = fmt.Sprintf("%s cannot be made (%s): %s", of, w.Reason, w.Message)
			return c, true
		case w.Reason == "CrashLoopBackOff":
			c.ID, c.Final = "gateway-crash-loop", container.RestartCount > 1
			c.Message = of + " ends again and again"
			if t := container.LastState.Terminated; t != nil {
				c = s.crashed(p, container, t, c)
				c.Message += fmt.Sprintf(", %d restarts so far", container.RestartCount)
			}
			c.Pod, c.Container = name, container.Name
			c.Commands = append(c.Commands, "logs "+name+" --previous --container "+advisory.Quote(container.Name))
			return c, true
		}
		return c, false
	}
	if t := container.State.Terminated; t != nil && (t.ExitCode != 0 || !initial) {
		c.ID = "gateway-crash-loop"
		c = s.crashed(p, container, t, c)
		c.Pod, c.Container = name, container.Name
		c.Commands = append(c.Commands, "logs "+name+" --container "+advisory.Quote(container.Name))
		return c, true
	}
	return c, false
}

// crashed says how a container ended, and what it is short of.
func (s Seen) crashed(p Pod, container Container, t *Terminated, c Cause) Cause {
	c.Message = fmt.Sprintf("container %s of pod %s %s", container.Name, p.Metadata.Name, how(t))
	if t.Reason != "OOMKilled" {
		return c
	}
	c.ID = "gateway-out-of-memory"
	for _, spec := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		if limit := spec.Resources.Limits["memory"]; spec.Name == container.Name && limit != "" {
			c.Message += "; its limit is " + limit
		}
	}
	return c
}

// image says which image cannot be had, and why.
func (s Seen) image(p Pod, container Container, c Cause) Cause {
	w := container.State.Waiting
	image := container.Image
	for _, spec := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		if spec.Name == container.Name {
			image = spec.Image
		}
	}
	why := w.Message
	for _, e := range s.believed(p.Metadata.UID, p.Metadata.CreationTimestamp, "Failed") {
		if strings.Contains(e.Message, "pull image") {
			why = e.Message // that of the back-off only says that there is one
			break
		}
	}
	c.ID = "gateway-image"
	c.Final = w.Reason == "InvalidImageName" || w.Reason == "ErrImageNeverPull" || s.lasting(p.since())
	c.Message = fmt.Sprintf("image %s of pod %s cannot be had: %s", image, p.Metadata.Name, cause(why))
	if why != "" {
		c.Message += " (" + why + ")"
	}
	// The kubelet's next attempt may be minutes away; a new pod tries at once.
	c.Commands = append(c.Commands, "delete pod "+p.Metadata.Name)
	return c
}

var imageCauses = []struct {
	shape *regexp.Regexp
	means string
}{
	{regexp.MustCompile(`(?i)couldn't parse image|invalid reference format|InvalidImageName`), "that is no name of an image"},
	{regexp.MustCompile(`(?i)unauthorized|authorization failed|access denied|forbidden|no basic auth|authentication required|\b40[13]\b`), "the registry refuses it without other credentials (imagePullSecrets)"},
	{regexp.MustCompile(`(?i)toomanyrequests|too many requests|rate limit`), "the registry asks for patience"},
	{regexp.MustCompile(`(?i)x509|certificate`), "the registry's certificate is not accepted"},
	{regexp.MustCompile(`(?i)no such host|lookup |i/o timeout|connection refused|network is unreachable|no route to host|deadline exceeded|TLS handshake timeout`), "the registry is not reached from the node"},
	{regexp.MustCompile(`(?i)no match for platform|exec format|no matching manifest`), "there is none for the node's kind of machine"},
	{regexp.MustCompile(`(?i)not found|manifest unknown|does not exist`), "the registry has no such image"},
	{regexp.MustCompile(`(?i)no space left`), "the node's disk is full"},
	{regexp.MustCompile(`(?i)never pull|policy of Never|not present with pull policy`), "the node does not have it and may not pull it"},
}

func cause(why string) string {
	for _, c := range imageCauses {
		if c.shape.MatchString(why) {
			return c.means
		}
	}
	return "the kubelet tries again later"
}
