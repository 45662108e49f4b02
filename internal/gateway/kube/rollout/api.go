// Package rollout judges a gateway's StatefulSet by what the Kubernetes API shows
// of it, of its pods and of the events about them: which pod can be talked to, and
// else why there is none, with the secret, image, resource or node constraint that
// is the matter. It is pure: others ask the API.
package rollout

import (
	"slices"
	"strconv"
	"time"
)

// StatefulSet is the part of one that is judged, in the names of the Kubernetes
// API (apps/v1).
type StatefulSet struct {
	Metadata Metadata `json:"metadata"`
	Spec     struct {
		Replicas *int `json:"replicas"` // nil is 1
		Ordinals struct {
			Start int `json:"start"`
		} `json:"ordinals"`
		UpdateStrategy struct {
			Type          string `json:"type"`
			RollingUpdate struct {
				Partition int `json:"partition"`
			} `json:"rollingUpdate"`
		} `json:"updateStrategy"`
		Template struct {
			Spec PodSpec `json:"spec"`
		} `json:"template"`
	} `json:"spec"`
	Status struct {
		ObservedGeneration int64  `json:"observedGeneration"`
		Replicas           int    `json:"replicas"`
		ReadyReplicas      int    `json:"readyReplicas"`
		UpdatedReplicas    int    `json:"updatedReplicas"`
		UpdateRevision     string `json:"updateRevision"`
	} `json:"status"`
}

// Metadata is that of any object.
type Metadata struct {
	Name              string            `json:"name"`
	Namespace         string            `json:"namespace"`
	UID               string            `json:"uid"`
	Generation        int64             `json:"generation"`
	CreationTimestamp time.Time         `json:"creationTimestamp"`
	DeletionTimestamp *time.Time        `json:"deletionTimestamp"`
	Labels            map[string]string `json:"labels"`
	OwnerReferences   []struct {
		UID        string `json:"uid"`
		Controller bool   `json:"controller"`
	} `json:"ownerReferences"`
	ManagedFields []struct {
		Time        time.Time `json:"time"`
		Subresource string    `json:"subresource"`
	} `json:"managedFields"`
}

// PodSpec is what a pod is to run.
type PodSpec struct {
	NodeName       string          `json:"nodeName"`
	InitContainers []ContainerSpec `json:"initContainers"`
	Containers     []ContainerSpec `json:"containers"`
	Volumes        []Volume        `json:"volumes"`
}

// Volume is where files of a pod come from.
type Volume struct {
	Name   string `json:"name"`
	Secret *struct {
		SecretName string `json:"secretName"`
	} `json:"secret"`
	PersistentVolumeClaim *struct {
		ClaimName string `json:"claimName"`
	} `json:"persistentVolumeClaim"`
}

// ContainerSpec is one container of a pod.
type ContainerSpec struct {
	Name  string `json:"name"`
	Image string `json:"image"`
	Ports []struct {
		Name          string `json:"name"`
		ContainerPort int    `json:"containerPort"`
	} `json:"ports"`
	Env       []EnvVar `json:"env"`
	Resources struct {
		Limits map[string]string `json:"limits"`
	} `json:"resources"`
}

// EnvVar is one variable of a container; of one whose value is elsewhere it is empty.
type EnvVar struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Pod is one pod of the set (core/v1).
type Pod struct {
	Metadata Metadata  `json:"metadata"`
	Spec     PodSpec   `json:"spec"`
	Status   PodStatus `json:"status"`
}

// PodStatus is what is observed of a pod.
type PodStatus struct {
	Phase                 string      `json:"phase"`
	Reason                string      `json:"reason"`
	Message               string      `json:"message"`
	StartTime             *time.Time  `json:"startTime"`
	Conditions            []Condition `json:"conditions"`
	InitContainerStatuses []Container `json:"initContainerStatuses"`
	ContainerStatuses     []Container `json:"containerStatuses"`
}

// Condition is one of a pod's conditions.
type Condition struct {
	Type    string `json:"type"`
	Status  string `json:"status"` // True, False or Unknown
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// Container is what is observed of one container.
type Container struct {
	Name         string `json:"name"`
	Ready        bool   `json:"ready"`
	RestartCount int    `json:"restartCount"`
	Image        string `json:"image"`
	State        State  `json:"state"`
	LastState    State  `json:"lastState"`
}

// State is one of waiting, running and terminated; none means waiting.
type State struct {
	Waiting *struct {
		Reason  string `json:"reason"`
		Message string `json:"message"`
	} `json:"waiting"`
	Running *struct {
		StartedAt time.Time `json:"startedAt"`
	} `json:"running"`
	Terminated *Terminated `json:"terminated"`
}

// Terminated is how a container ended.
type Terminated struct {
	ExitCode   int       `json:"exitCode"`
	Signal     int       `json:"signal"`
	Reason     string    `json:"reason"`
	Message    string    `json:"message"`
	FinishedAt time.Time `json:"finishedAt"`
}

// Event is one that the API keeps about an object (core/v1).
type Event struct {
	Metadata       Metadata `json:"metadata"`
	InvolvedObject struct {
		Kind string `json:"kind"`
		Name string `json:"name"`
		UID  string `json:"uid"`
	} `json:"involvedObject"`
	Reason         string    `json:"reason"`
	Message        string    `json:"message"`
	FirstTimestamp time.Time `json:"firstTimestamp"`
	LastTimestamp  time.Time `json:"lastTimestamp"`
	EventTime      time.Time `json:"eventTime"`
	Series         *struct {
		LastObservedTime time.Time `json:"lastObservedTime"`
	} `json:"series"`
}

// last is when the event was last seen. Which of its times is set depends on who
// reported it.
func (e Event) last() time.Time {
	times := []time.Time{e.FirstTimestamp, e.LastTimestamp, e.EventTime}
	if e.Series != nil {
		times = append(times, e.Series.LastObservedTime)
	}
	last := slices.MaxFunc(times, time.Time.Compare)
	if last.IsZero() {
		return e.Metadata.CreationTimestamp
	}
	return last
}

// Replicas is how many pods are wanted.
func (s StatefulSet) Replicas() int {
	if s.Spec.Replicas == nil {
		return 1
	}
	return *s.Spec.Replicas
}

// mostPods is how many pods of a set are looked at.
const mostPods = 10

// PodNames are the names that the set's pods have, those of the first ten.
func (s StatefulSet) PodNames() []string {
	var names []string
	for n := range min(s.Replicas(), mostPods) {
		names = append(names, s.Metadata.Name+"-"+strconv.Itoa(s.Spec.Ordinals.Start+n))
	}
	return names
}

// Owns reports that a pod was made by this very set, and not by one of the same
// name before it.
func (s StatefulSet) Owns(p Pod) bool {
	for _, o := range p.Metadata.OwnerReferences {
		if o.Controller && o.UID == s.Metadata.UID {
			return true
		}
	}
	return false
}

// changed is when the set was last written by anybody but the controller that
// reports its status.
func (s StatefulSet) changed() time.Time {
	last := s.Metadata.CreationTimestamp
	for _, f := range s.Metadata.ManagedFields {
		if f.Subresource == "" && f.Time.After(last) {
			last = f.Time
		}
	}
	return last
}

// Ready reports that the pod says of itself that it serves.
func (p Pod) Ready() bool {
	return p.Metadata.DeletionTimestamp == nil && p.condition("Ready").Status == "True"
}

func (p Pod) condition(kind string) Condition {
	for _, c := range p.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return Condition{}
}

// since is when the kubelet took the pod over, or else when it was made.
func (p Pod) since() time.Time {
	if p.Status.StartTime != nil {
		return *p.Status.StartTime
	}
	return p.Metadata.CreationTimestamp
}

// Started is when the gateway's container in the pod began to run; zero when it
// does not run.
func (p Pod) Started() time.Time {
	name := Gateway(p.Spec).Name
	for _, c := range p.Status.ContainerStatuses {
		if c.Name == name && c.State.Running != nil {
			return c.State.Running.StartedAt
		}
	}
	return time.Time{}
}
