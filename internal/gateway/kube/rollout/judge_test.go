package rollout

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"creel/internal/health"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// world is a set of one pod that serves, to be spoiled.
func world() Seen {
	s := Seen{Now: now, Members: []string{"server-tls", "handshake"}}
	s.Set.Metadata = Metadata{Name: "gw", Namespace: "claws", UID: "set-1", Generation: 3, CreationTimestamp: now.Add(-time.Hour)}
	s.Set.Status.ObservedGeneration, s.Set.Status.UpdateRevision = 3, "r3"
	p := Pod{Metadata: Metadata{Name: "gw-0", UID: "pod-1", CreationTimestamp: now.Add(-10 * time.Minute), Labels: map[string]string{"controller-revision-hash": "r3"}}}
	started := now.Add(-9 * time.Minute)
	p.Status.StartTime, p.Status.Phase, p.Spec.NodeName = &started, "Running", "node-1"
	p.Spec.Containers = []ContainerSpec{{Name: "openshell", Image: "registry.example/openshell:0.0.36"}}
	p.Spec.Containers[0].Resources.Limits = map[string]string{"memory": "512Mi"}
	p.Status.Conditions = []Condition{{Type: "PodScheduled", Status: "True"}, {Type: "Ready", Status: "True"}}
	running(&p)
	s.Pods = []Pod{p}
	return s
}

func running(p *Pod) {
	c := Container{Name: "openshell", Ready: true}
	c.State.Running = &struct {
		StartedAt time.Time `json:"startedAt"`
	}{now.Add(-8 * time.Minute)}
	p.Status.ContainerStatuses = []Container{c}
}

func unready(p *Pod) { p.Status.Conditions[1].Status = "False" }

// waiting makes the pod's container wait.
func waiting(p *Pod, reason, message string) *Container {
	unready(p)
	p.Status.Phase = "Pending"
	c := &p.Status.ContainerStatuses[0]
	c.State = State{Waiting: &struct {
		Reason  string `json:"reason"`
		Message string `json:"message"`
	}{reason, message}}
	return c
}

// young makes the pod one of which the cluster may yet mend everything.
func young(p *Pod) {
	p.Metadata.CreationTimestamp = now.Add(-5 * time.Second)
	p.Status.StartTime = nil
}

func event(uid, reason, message string, ago time.Duration) Event {
	e := Event{Reason: reason, Message: message, LastTimestamp: now.Add(-ago), FirstTimestamp: now.Add(-ago)}
	e.InvolvedObject.UID = uid
	return e
}

func TestJudge(t *testing.T) {
	const mount = `MountVolume.SetUp failed for volume "tls" : secret "server-tls" not found`
	creating := func(s *Seen) { waiting(&s.Pods[0], "ContainerCreating", "") }
	for _, c := range []struct {
		name  string
		spoil func(s *Seen)
		id    string // of the gravest cause; empty for a pod that serves
		final bool
		says  []string
		not   string // what it must not say
		next  string // one of the commands
	}{
		{name: "all is well", spoil: func(*Seen) {}},
		{name: "scaled to nothing", spoil: func(s *Seen) { s.Set.Spec.Replicas, s.Pods = new(int), nil }, id: "gateway-scaled-down", final: true,
			says: []string{"gw", "scaled to 0"}, next: "scale statefulset gw --replicas=1"},

		// Secrets.
		{name: "mount of a secret that is missing", spoil: func(s *Seen) {
			creating(s)
			s.Events = append(s.Events, event("pod-1", "FailedMount", mount, time.Minute))
			s.Missing = []string{"server-tls"}
		}, id: "gateway-secret-missing", says: []string{"gw-0", "server-tls", "does not exist"}, next: "describe pod gw-0"},
		{name: "secrets that are missing, and no event says so yet", spoil: func(s *Seen) {
			creating(s)
			s.Missing = []string{"server-tls", "handshake"}
		}, id: "gateway-secret-missing", says: []string{"server-tls, handshake", "do not exist"}},
		{name: "a container that needs a secret", spoil: func(s *Seen) {
			waiting(&s.Pods[0], "CreateContainerConfigError", `secret "handshake" not found`)
			s.Missing = []string{"handshake"}
		}, id: "gateway-secret-missing", says: []string{"handshake"}},
		{name: "a secret that was made since", spoil: func(s *Seen) {
			creating(s)
			s.Events = append(s.Events, event("pod-1", "FailedMount", mount, time.Minute))
		}, id: "gateway-secret-missing", says: []string{"exists by now", "two minutes"}},
		{name: "a key of a secret", spoil: func(s *Seen) {
			waiting(&s.Pods[0], "CreateContainerConfigError", "couldn't find key secret in Secret claws/handshake")
		}, id: "gateway-secret-missing", says: []string{"handshake, key secret", "lacks"}},
		{name: "a key that a volume refers to", spoil: func(s *Seen) {
			creating(s)
			s.Pods[0].Spec.Volumes = []Volume{{Name: "tls", Secret: &struct {
				SecretName string `json:"secretName"`
			}{"server-tls"}}}
			s.Events = append(s.Events, event("pod-1", "FailedMount", `MountVolume.SetUp failed for volume "tls" : references non-existent secret key: tls.crt`, time.Minute))
		}, id: "gateway-secret-missing", says: []string{"server-tls, key tls.crt"}},
		{name: "a secret that is none of ours", spoil: func(s *Seen) {
			creating(s)
			s.Events = append(s.Events, event("pod-1", "FailedMount", `secret "pull-secret" not found`, time.Minute))
		}, id: "gateway-secret-missing", final: true, says: []string{"pull-secret", "none of the bootstrap secrets"}, next: "get secret pull-secret"},
		{name: "a name that is a command", spoil: func(s *Seen) {
			creating(s)
			s.Events = append(s.Events, event("pod-1", "FailedMount", `secret "x; rm -rf ~ $(id)" not found`, time.Minute))
		}, id: "gateway-secret-missing", final: true, next: "get secret 'x; rm -rf ~ $(id)'"},
		{name: "a name that is a flag", spoil: func(s *Seen) {
			claim(&s.Pods[0])
			pending(&s.Pods[0], `persistentvolumeclaim "--kubeconfig=/x" not found`)
		}, id: "gateway-volume-unbound", final: true, next: "describe pvc -- --kubeconfig=/x"},
		{name: "a config map", spoil: func(s *Seen) {
			creating(s)
			s.Events = append(s.Events, event("pod-1", "FailedMount", `MountVolume.SetUp failed for volume "c" : configmap "settings" not found`, time.Minute))
		}, id: "gateway-mount-failed", final: true, says: []string{"ConfigMap settings"}, next: "get configmap settings"},
		{name: "a mount that times out, whose reason an earlier event names", spoil: func(s *Seen) {
			creating(s)
			s.Missing = nil
			s.Events = append(s.Events, event("pod-1", "FailedMount", mount, 3*time.Minute),
				event("pod-1", "FailedMount", "Unable to attach or mount volumes: timed out waiting for the condition", time.Minute))
		}, id: "gateway-secret-missing", says: []string{"server-tls"}},
		{name: "a volume that another node has", spoil: func(s *Seen) {
			creating(s)
			claim(&s.Pods[0])
			s.Events = append(s.Events, event("pod-1", "FailedAttachVolume", `Multi-Attach error for volume "pvc-1"`, time.Minute))
		}, id: "gateway-mount-failed", final: true, says: []string{"Multi-Attach"}, next: "describe pvc data-gw-0"},

		// Events that say nothing of this pod as it is now.
		{name: "an event about the pod before", spoil: func(s *Seen) {
			creating(s)
			s.Events = append(s.Events, event("pod-0", "FailedMount", mount, time.Second))
		}, id: notReady, says: []string{"being made"}, not: "server-tls"},
		{name: "an event from before the pod was made", spoil: func(s *Seen) {
			creating(s)
			s.Events = append(s.Events, event("pod-1", "FailedMount", mount, time.Hour))
		}, id: notReady, not: "server-tls"},
		{name: "an event from before the pod was made, stored since", spoil: func(s *Seen) {
			creating(s)
			e := event("pod-1", "FailedMount", mount, time.Hour)
			e.Metadata.CreationTimestamp = now
			s.Events = append(s.Events, e)
		}, id: notReady, not: "server-tls"},
		{name: "a mount that failed before the pod ran", spoil: func(s *Seen) {
			unready(&s.Pods[0])
			s.Events = append(s.Events, event("pod-1", "FailedMount", mount, 5*time.Minute))
		}, id: notReady, says: []string{"runs and is not ready"}, not: "server-tls"},
		{name: "a probe that failed long ago", spoil: func(s *Seen) {
			unready(&s.Pods[0])
			s.Events = append(s.Events, event("pod-1", "Unhealthy", "Readiness probe failed: old", 5*time.Minute))
		}, id: notReady, not: "old"},
		{name: "a pod that could not be made before the set was changed", spoil: func(s *Seen) {
			s.Pods = nil
			s.Set.Metadata.CreationTimestamp = now.Add(-time.Minute)
			s.Events = append(s.Events, event("set-1", "FailedCreate", `exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1`, 2*time.Minute))
		}, id: "gateway-pod-absent", not: "quota"},

		// Images.
		{name: "an image that there is not", spoil: func(s *Seen) {
			waiting(&s.Pods[0], "ImagePullBackOff", `Back-off pulling image "registry.example/openshell:0.0.36"`)
			s.Events = append(s.Events, event("pod-1", "Failed", `Failed to pull image "x": rpc error: code = NotFound desc = not found`, time.Minute))
		}, id: "gateway-image", final: true, says: []string{"registry.example/openshell:0.0.36", "has no such image", "NotFound"}, next: "delete pod gw-0"},
		{name: "an image at its first attempt", spoil: func(s *Seen) {
			waiting(&s.Pods[0], "ErrImagePull", "dial tcp: lookup registry.example: no such host")
			young(&s.Pods[0])
		}, id: "gateway-image", says: []string{"not reached from the node"}},
		{name: "an image behind a password", spoil: func(s *Seen) { waiting(&s.Pods[0], "ErrImagePull", "pull access denied: authorization failed") },
			id: "gateway-image", final: true, says: []string{"imagePullSecrets"}},
		{name: "no name of an image", spoil: func(s *Seen) {
			waiting(&s.Pods[0], "InvalidImageName", "couldn't parse image name")
			young(&s.Pods[0])
		}, id: "gateway-image", final: true, says: []string{"no name of an image"}},

		// Programs that end.
		{name: "crashes", spoil: func(s *Seen) {
			c := waiting(&s.Pods[0], "CrashLoopBackOff", "back-off 5m0s")
			c.RestartCount, c.LastState.Terminated = 4, &Terminated{ExitCode: 127, Reason: "Error", Message: "no such file"}
		}, id: "gateway-crash-loop", final: true, says: []string{"exited with code 127", "no such file", "4 restarts"}, next: "logs gw-0 --previous --container openshell"},
		{name: "crashed once", spoil: func(s *Seen) {
			c := waiting(&s.Pods[0], "CrashLoopBackOff", "back-off 10s")
			c.RestartCount, c.LastState.Terminated = 1, &Terminated{ExitCode: 139}
		}, id: "gateway-crash-loop", says: []string{"signal 11"}},
		{name: "out of memory", spoil: func(s *Seen) {
			c := waiting(&s.Pods[0], "CrashLoopBackOff", "back-off 5m0s")
			c.RestartCount, c.LastState.Terminated = 3, &Terminated{ExitCode: 137, Reason: "OOMKilled"}
		}, id: "gateway-out-of-memory", final: true, says: []string{"more memory", "512Mi"}},
		{name: "killed", spoil: func(s *Seen) {
			unready(&s.Pods[0])
			s.Pods[0].Status.ContainerStatuses[0].State = State{Terminated: &Terminated{Signal: 9}}
		}, id: "gateway-crash-loop", says: []string{"killed by signal 9"}},
		{name: "an init container that fails", spoil: func(s *Seen) {
			waiting(&s.Pods[0], "PodInitializing", "")
			s.Pods[0].Status.InitContainerStatuses = []Container{{Name: "certs", State: State{Terminated: &Terminated{ExitCode: 2}}}}
		}, id: "gateway-crash-loop", says: []string{"container certs", "code 2"}},
		{name: "an init container that is done", spoil: func(s *Seen) {
			creating(s)
			s.Pods[0].Status.InitContainerStatuses = []Container{{Name: "certs", State: State{Terminated: &Terminated{Reason: "Completed"}}}}
		}, id: notReady, not: "certs"},
		{name: "a container that cannot be made", spoil: func(s *Seen) {
			waiting(&s.Pods[0], "CreateContainerError", "context deadline exceeded")
		}, id: "gateway-container-refused", final: true, says: []string{"CreateContainerError", "deadline"}},
		{name: "no network for the pod", spoil: func(s *Seen) {
			creating(s)
			s.Events = append(s.Events, event("pod-1", "FailedCreatePodSandBox", "no IP addresses available", time.Minute))
		}, id: "gateway-container-refused", final: true, says: []string{"no IP addresses"}},
		{name: "not ready", spoil: func(s *Seen) {
			unready(&s.Pods[0])
			s.Events = append(s.Events, event("pod-1", "Unhealthy", "Readiness probe failed: connection refused", 10*time.Second))
		}, id: notReady, says: []string{"Readiness probe failed"}, next: "logs gw-0 --container openshell"},

		// Places.
		{name: "no room", spoil: func(s *Seen) {
			pending(&s.Pods[0], "0/3 nodes are available: 1 node(s) had untolerated taint {dedicated: gpu}, 2 Insufficient memory, 1 Insufficient nvidia.com/gpu. preemption: none.")
		}, id: "gateway-unschedulable", final: true, says: []string{"short of memory", "short of nvidia.com/gpu", "taint {dedicated: gpu}"}, next: "describe nodes"},
		{name: "no such node", spoil: func(s *Seen) {
			pending(&s.Pods[0], "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.")
			young(&s.Pods[0])
		}, id: "gateway-unschedulable", says: []string{"nodeSelector or affinity"}},
		{name: "volume not bound", spoil: func(s *Seen) {
			claim(&s.Pods[0])
			pending(&s.Pods[0], "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.")
		}, id: "gateway-volume-unbound", final: true, says: []string{"data-gw-0"}, next: "describe pvc data-gw-0"},
		{name: "claim not there", spoil: func(s *Seen) { pending(&s.Pods[0], `persistentvolumeclaim "data-gw-0" not found`) },
			id: "gateway-volume-unbound", final: true, says: []string{"data-gw-0"}},
		{name: "the scheduler has not looked yet", spoil: func(s *Seen) {
			waiting(&s.Pods[0], "", "")
			s.Pods[0].Spec.NodeName, s.Pods[0].Status.Conditions = "", nil
			s.Missing = []string{"server-tls"}
		}, id: notReady, says: []string{"waits for a node"}},
		{name: "evicted", spoil: func(s *Seen) {
			unready(&s.Pods[0])
			s.Pods[0].Status.Phase, s.Pods[0].Status.Reason, s.Pods[0].Status.Message = "Failed", "Evicted", "The node was low on resource: ephemeral-storage."
		}, id: "gateway-pod-failed", final: true, says: []string{"Evicted", "ephemeral-storage"}},
		{name: "evicted just now", spoil: func(s *Seen) {
			unready(&s.Pods[0])
			s.Pods[0].Status.Phase, s.Pods[0].Status.Reason = "Failed", "Evicted"
			young(&s.Pods[0])
		}, id: "gateway-pod-failed", says: []string{"Evicted"}, next: "delete pod gw-0"},
		{name: "ended by itself", spoil: func(s *Seen) {
			unready(&s.Pods[0])
			s.Pods[0].Status.Phase = "Succeeded"
			s.Pods[0].Status.ContainerStatuses[0].State = State{Terminated: &Terminated{ExitCode: 0}}
		}, id: "gateway-pod-failed", final: true, says: []string{"container openshell exited with code 0"}},
		{name: "going", spoil: func(s *Seen) { s.Pods[0].Metadata.DeletionTimestamp = ptr(now.Add(20 * time.Second)) }, id: notReady, says: []string{"is being deleted"}},
		{name: "does not go", spoil: func(s *Seen) { s.Pods[0].Metadata.DeletionTimestamp = ptr(now.Add(-5 * time.Minute)) }, id: "gateway-pod-stuck", final: true,
			says: []string{"11:55:00", "node-1"}, next: "describe node node-1"},

		// Pods that are not made.
		{name: "no pod yet", spoil: func(s *Seen) { s.Pods = nil }, id: "gateway-pod-absent", says: []string{"0 of 1"}},
		{name: "quota", spoil: func(s *Seen) {
			s.Pods = nil
			s.Events = append(s.Events, event("set-1", "FailedCreate", `create Pod gw-0 in StatefulSet gw failed error: pods "gw-0" is forbidden: exceeded quota: compute, requested: limits.memory=1Gi, used: limits.memory=2Gi, limited: limits.memory=2Gi`, time.Minute))
		}, id: "gateway-quota", final: true, says: []string{"quota compute", "limits.memory=1Gi"}, next: "describe resourcequota compute"},
		{name: "a quota that wants limits", spoil: func(s *Seen) {
			s.Pods = nil
			s.Events = append(s.Events, event("set-1", "FailedCreate", `pods "gw-0" is forbidden: failed quota: compute: must specify limits.cpu for: openshell`, time.Second))
		}, id: "gateway-quota", says: []string{"must specify limits.cpu"}},
		{name: "pod security", spoil: func(s *Seen) {
			s.Pods = nil
			s.Events = append(s.Events, event("set-1", "FailedCreate", `pods "gw-0" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false`, time.Minute))
		}, id: "gateway-pod-refused", final: true, says: []string{"restricted:latest", "allowPrivilegeEscalation"}},
		{name: "no service account", spoil: func(s *Seen) {
			s.Pods = nil
			s.Events = append(s.Events, event("set-1", "FailedCreate", `pods "gw-0" is forbidden: error looking up service account claws/x: serviceaccount "x" not found`, time.Minute))
		}, id: "gateway-pod-refused", final: true, says: []string{"ServiceAccount x"}},
		{name: "a webhook", spoil: func(s *Seen) {
			s.Pods = nil
			s.Events = append(s.Events, event("set-1", "FailedCreate", `admission webhook "images.example" denied the request: no`, time.Minute))
		}, id: "gateway-pod-refused", final: true, says: []string{"images.example"}, next: "get validatingwebhookconfigurations,mutatingwebhookconfigurations"},
		{name: "nobody takes the set up", spoil: func(s *Seen) { s.Pods, s.Set.Status.ObservedGeneration = nil, 2 }, id: "gateway-rollout-unseen", final: true,
			says: []string{"generation 3, observed 2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := world()
			c.spoil(&s)
			r := Judge(s)
			if (c.id == "") != (r.Verdict == health.OK) || (c.id == "") != (len(r.Causes) == 0) {
				t.Fatalf("%v, causes %+v", r.Verdict, r.Causes)
			}
			if c.id == "" {
				if names(r.Ready) != "gw-0" || r.Rolling != "" {
					t.Errorf("pods %q, rolling %q", names(r.Ready), r.Rolling)
				}
				return
			}
			worst := r.Causes[0]
			if worst.ID != c.id || worst.Final != c.final {
				t.Errorf("%s, final %t: %s; want %s, %t", worst.ID, worst.Final, worst.Message, c.id, c.final)
			}
			for _, word := range c.says {
				if !strings.Contains(worst.Message, word) {
					t.Errorf("%q does not say %q", worst.Message, word)
				}
			}
			if c.not != "" && strings.Contains(worst.Message, c.not) {
				t.Errorf("%q says %q", worst.Message, c.not)
			}
			if c.next != "" && !slices.Contains(worst.Commands, c.next) {
				t.Errorf("commands %q lack %q", worst.Commands, c.next)
			}
			if strings.ContainsAny(worst.Message, "\n\t") || worst.Message == "" || len(worst.Commands) == 0 {
				t.Errorf("message %q, commands %q", worst.Message, worst.Commands)
			}
		})
	}
}

func ptr[T any](v T) *T { return &v }

func claim(p *Pod) {
	p.Spec.Volumes = []Volume{{Name: "data", PersistentVolumeClaim: &struct {
		ClaimName string `json:"claimName"`
	}{"data-gw-0"}}}
}

// pending is a pod that the scheduler found no node for.
func pending(p *Pod, why string) {
	waiting(p, "", "")
	p.Spec.NodeName, p.Status.ContainerStatuses = "", nil
	p.Status.Conditions = []Condition{{Type: "PodScheduled", Status: "False", Reason: "Unschedulable", Message: why}, {Type: "Ready", Status: "False"}}
}

// A pod that serves is a gateway that is there, whatever else the set wants; and
// what it still wants is said.
func TestRolling(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(s *Seen)
		says  string
		held  bool
	}{
		{"generation not taken up", func(s *Seen) { s.Set.Status.ObservedGeneration = 2 }, "generation 3, observed 2", false},
		{"old revision", func(s *Seen) { s.Set.Status.UpdateRevision = "r4" }, "revision before", false},
		{"held by OnDelete", func(s *Seen) {
			s.Set.Status.UpdateRevision, s.Set.Spec.UpdateStrategy.Type = "r4", "OnDelete"
		}, "somebody to delete", true},
		{"held by a partition", func(s *Seen) {
			s.Set.Status.UpdateRevision, s.Set.Spec.UpdateStrategy.RollingUpdate.Partition = "r4", 1
		}, "somebody to delete", true},
		{"one of two", func(s *Seen) {
			s.Set.Spec.Replicas = ptr(2)
			second := s.Pods[0]
			second.Metadata.Name, second.Metadata.UID = "gw-1", "pod-2"
			second.Status.Conditions = slices.Clone(second.Status.Conditions)
			unready(&second)
			s.Pods = append([]Pod{second}, s.Pods...)
		}, "1 of 2 pods are ready", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := world()
			c.spoil(&s)
			r := Judge(s)
			if r.Verdict != health.OK || names(r.Ready) != "gw-0" || !strings.Contains(r.Rolling, c.says) || r.Held != c.held {
				t.Errorf("%v, pods %q, rolling %q, held %t", r.Verdict, names(r.Ready), r.Rolling, r.Held)
			}
		})
	}
}

// Every pod that is ready can be talked to.
func TestTwoReady(t *testing.T) {
	s := world()
	s.Set.Spec.Replicas = ptr(2)
	second := s.Pods[0]
	second.Metadata.Name, second.Metadata.UID = "gw-1", "pod-2"
	s.Pods = append(s.Pods, second)
	if r := Judge(s); r.Verdict != health.OK || names(r.Ready) != "gw-0 gw-1" || r.Rolling != "" || len(r.Causes) > 0 {
		t.Errorf("%+v", r)
	}
}

func names(pods []Pod) string {
	var all []string
	for _, p := range pods {
		all = append(all, p.Metadata.Name)
	}
	return strings.Join(all, " ")
}

// The gravest of several is the one that is told.
func TestGravestFirst(t *testing.T) {
	s := world()
	s.Set.Spec.Replicas = ptr(3)
	second := s.Pods[0]
	second.Metadata.Name, second.Metadata.UID = "gw-1", "pod-2"
	second.Status.Conditions, second.Status.ContainerStatuses = slices.Clone(second.Status.Conditions), slices.Clone(second.Status.ContainerStatuses)
	unready(&s.Pods[0])
	waiting(&second, "InvalidImageName", "x")
	s.Pods = append(s.Pods, second)
	r := Judge(s)
	if len(r.Causes) != 3 || r.Causes[0].ID != "gateway-image" || r.Causes[1].ID != "gateway-pod-absent" || r.Causes[2].ID != notReady {
		t.Errorf("%+v", r.Causes)
	}
}

func TestPort(t *testing.T) {
	type port = struct {
		Name          string `json:"name"`
		ContainerPort int    `json:"containerPort"`
	}
	for _, c := range []struct {
		name       string
		containers []ContainerSpec
		want       int
	}{
		{"nothing is said", []ContainerSpec{{Name: "openshell"}}, 8080},
		{"no container at all", nil, 8080},
		{"by its name", []ContainerSpec{{Name: "x", Ports: []port{{"health", 8081}, {"grpc", 9000}}}}, 9000},
		{"by its environment", []ContainerSpec{{Name: "x", Env: []EnvVar{{"OPENSHELL_SERVER_PORT", "7000"}}, Ports: []port{{"health", 8081}}}}, 7000},
		{"by what it is not", []ContainerSpec{{Name: "x", Ports: []port{{"metrics", 9090}, {"", 8443}}}}, 8443},
		{"a side car comes first", []ContainerSpec{{Name: "proxy", Ports: []port{{"http", 15000}}}, {Name: "openshell", Ports: []port{{"grpc", 8080}}}}, 8080},
		{"a side car, and a gateway by its settings", []ContainerSpec{{Name: "proxy"}, {Name: "gw", Env: []EnvVar{{"OPENSHELL_DRIVERS", "k"}}, Ports: []port{{"", 81}}}}, 81},
	} {
		if got := Port(PodSpec{Containers: c.containers}); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// Whatever the API says, a gateway without a ready pod is not well, and there is
// always a cause with a command.
func FuzzJudge(f *testing.F) {
	for _, spoil := range []func(*Seen){func(*Seen) {}, func(s *Seen) { s.Pods = nil }, func(s *Seen) { waiting(&s.Pods[0], "CrashLoopBackOff", "x") }} {
		s := world()
		spoil(&s)
		b, err := json.Marshal(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		var s Seen
		if json.Unmarshal(content, &s) != nil || s.Set.Replicas() < 0 {
			return
		}
		r := Judge(s)
		ready := slices.ContainsFunc(s.Pods, Pod.Ready) && s.Set.Replicas() != 0
		if (r.Verdict == health.OK) != ready || r.Verdict == health.Unknown {
			t.Errorf("verdict %v, a pod is ready: %t", r.Verdict, ready)
		}
		if !ready && (len(r.Causes) == 0 || r.Causes[0].ID == "" || r.Causes[0].Message == "" || len(r.Causes[0].Commands) == 0) {
			t.Errorf("no cause: %+v", r)
		}
	})
}
