package kube

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"creel/internal/bundle"
	"creel/internal/health"
	"creel/test/kubeenv"
)

// Every fault of a pod, as the real API shows what a kubelet and the controllers
// report: named, with what it is about and a next command, and never called healthy.
func TestFaults(t *testing.T) {
	c := clusterWithControllers.Get(t)
	t.Run("each missing secret", func(t *testing.T) {
		w := newWorld(t, c)
		w.repair()
		uid := w.pod()
		w.status(waiting("ContainerCreating", ""))
		for _, name := range []string{bundle.ServerTLS, bundle.ServerCA, bundle.ClientTLS, bundle.SSHHandshake} {
			w.Must(t, "DELETE", w.path("api/v1", "secrets", name), nil)
			// Named before any event says so, and when one does.
			w.is(w.observe(), health.Failed, "gateway-secret-missing", name, "does not exist", "creel gateway secrets repair")
			w.event("Pod", "openshell-0", uid, "FailedMount", fmt.Sprintf(`MountVolume.SetUp failed for volume "v" : secret %q not found`, name))
			w.is(w.observe(), health.Failed, "gateway-secret-missing", name, "describe pod openshell-0")
			w.repair()
			w.is(w.observe(), health.Failed, "gateway-secret-missing", "exists by now")
			w.Must(t, "DELETE", w.path("api/v1", "events"), nil)
		}
	})
	t.Run("pods", func(t *testing.T) {
		w := newWorld(t, c)
		w.repair()
		uid := w.pod()
		for _, f := range []struct {
			name   string
			status map[string]any
			reason string
			says   []string
		}{
			{"image", waiting("ImagePullBackOff", `Back-off pulling image`), "gateway-image", []string{"registry.example/openshell:0.0.36", "describe pod openshell-0"}},
			{"crash", waiting("CrashLoopBackOff", "back-off 5m0s", map[string]any{"restartCount": 7,
				"lastState": map[string]any{"terminated": map[string]any{"exitCode": 127, "reason": "Error"}}}), "gateway-crash-loop", []string{"code 127", "7 restarts", "logs openshell-0 --previous"}},
			{"signal", waiting("CrashLoopBackOff", "back-off 5m0s", map[string]any{"restartCount": 2,
				"lastState": map[string]any{"terminated": map[string]any{"exitCode": 0, "signal": 11}}}), "gateway-crash-loop", []string{"signal 11"}},
			{"memory", waiting("CrashLoopBackOff", "back-off 5m0s", map[string]any{"restartCount": 2,
				"lastState": map[string]any{"terminated": map[string]any{"exitCode": 137, "reason": "OOMKilled"}}}), "gateway-out-of-memory", []string{"more memory"}},
			{"config", waiting("CreateContainerConfigError", "container has runAsNonRoot and image will run as root"), "gateway-container-refused", []string{"runAsNonRoot"}},
			{"not ready", containers("Running", "False", map[string]any{"running": map[string]any{"startedAt": began()}}), "gateway-pod-not-ready", []string{"runs and is not ready"}},
			{"control characters", waiting("CreateContainerError", "a\x1b[31mb\nc\x00"), "gateway-container-refused", []string{"a [31mb c"}},
			{"a key in somebody's words", waiting("CreateContainerError", "api_key=sk-canary-0123456789abcdef"), "gateway-container-refused", []string{"api_key="}},
		} {
			t.Run(f.name, func(t *testing.T) {
				w := &world{TB: t, Cluster: c, namespace: w.namespace, name: w.name, kubeconfig: w.kubeconfig, node: w.node, paths: w.paths, config: w.config}
				w.status(f.status)
				o := w.observe()
				w.is(o, health.Failed, f.reason, f.says...)
				if strings.Contains(o.Message+evidenceOf(o), "sk-canary") {
					t.Errorf("a secret is shown: %s", o.Message)
				}
			})
		}
		if len(uid) == 0 {
			t.Error("no pod")
		}
	})
	t.Run("unschedulable", func(t *testing.T) {
		w := newWorld(t, c)
		w.repair()
		w.eventually("a pod", func() bool {
			status, _ := w.Do(t, "GET", w.path("api/v1", "pods", "openshell-0"), nil)
			return status == 200
		})
		w.status(map[string]any{"conditions": []any{map[string]any{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
			"message": "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint {gpu: yes}."}}})
		w.is(w.observe(), health.Failed, "gateway-unschedulable", "short of cpu", "taint {gpu: yes}", "describe nodes")
	})
	t.Run("quota", func(t *testing.T) {
		w := newWorld(t, c, map[string]any{"replicas": 0})
		w.repair()
		w.is(w.observe(), health.Failed, "gateway-scaled-down", "scale statefulset openshell --replicas=1")
		w.Must(t, "POST", w.path("api/v1", "resourcequotas"), map[string]any{"metadata": map[string]any{"name": "small"}, "spec": map[string]any{"hard": map[string]any{"pods": "0"}}})
		w.eventually("the quota is in force", func() bool {
			return strings.Contains(string(w.Must(t, "GET", w.path("api/v1", "resourcequotas", "small"), nil)), `"used"`)
		})
		w.Must(t, "PATCH", w.path("apis/apps/v1", "statefulsets", "openshell"), map[string]any{"spec": map[string]any{"replicas": 1}})
		w.eventually("the real controller says so", func() bool { return w.observe().Reason == "gateway-quota" })
		w.is(w.observe(), health.Failed, "gateway-quota", "quota small", "describe resourcequota small")
	})
	t.Run("events of others", func(t *testing.T) {
		w := newWorld(t, c)
		w.repair()
		uid := w.pod()
		w.status(waiting("ContainerCreating", ""))
		w.event("Pod", "openshell-0", "11111111-2222-3333-4444-555555555555", "FailedMount", `secret "of-the-pod-before" not found`)
		w.event("Pod", "openshell-0", uid, "FailedMount", `secret "of-long-ago" not found`, time.Now().Add(-time.Hour))
		o := w.observe()
		w.is(o, health.Failed, "gateway-pod-not-ready", "being made")
		if strings.Contains(o.Message+evidenceOf(o), "of-") {
			t.Errorf("an event that says nothing of this pod is believed: %s", o.Message)
		}
	})
	t.Run("a pod of another owner", func(t *testing.T) {
		w := newWorld(t, c, map[string]any{"replicas": 0})
		w.repair()
		w.Must(t, "POST", w.path("api/v1", "pods"), map[string]any{"metadata": map[string]any{"name": "openshell-0"},
			"spec": map[string]any{"nodeName": w.node.Name, "containers": []any{map[string]any{"name": "openshell", "image": "i"}}}})
		w.ready()
		w.Must(t, "PATCH", w.path("apis/apps/v1", "statefulsets", "openshell"), map[string]any{"spec": map[string]any{"replicas": 1}})
		if o := w.observe(); o.Verdict == health.OK || strings.Contains(evidenceOf(o), "pod openshell-0:") {
			t.Errorf("somebody else's pod is taken for the gateway's: %s", o.Message)
		}
	})
}

// A status that is not of the latest change is not believed, and nobody's acting on
// the set is named.
func TestNobodyActsOnTheSet(t *testing.T) {
	w := newWorld(t, quietCluster.Get(t))
	w.repair()
	w.is(w.observe(), health.Failed, "gateway-rollout-unseen", "generation 1, observed 0", "describe statefulset openshell")
	w.Must(t, "PATCH", w.path("apis/apps/v1", "statefulsets", "openshell", "status"), map[string]any{"status": map[string]any{"observedGeneration": 1, "replicas": 0}})
	w.is(w.observe(), health.Failed, "gateway-pod-absent", "0 of 1 pods")
}

// What is not there is told apart from what may not be looked at and what does not
// answer, and only the API's own word makes it absent.
func TestAbsentForbiddenUnreachable(t *testing.T) {
	c := quietCluster.Get(t)
	w := newWorld(t, c)
	w.repair()
	w.config.StatefulSet = "other"
	o := w.observe()
	w.is(o, health.Failed, "gateway-statefulset-absent", `StatefulSet "other" does not exist`)
	if !o.Absent {
		t.Error("it is not called absent")
	}
	w.config.StatefulSet = ""
	real := w.namespace
	w.namespace = "nowhere"
	if o := w.observe(); !o.Absent || !strings.Contains(o.Message, `namespace "nowhere" does not exist`) {
		t.Errorf("%+v", o)
	}
	w.namespace = real

	every := []kubeenv.Rule{
		{APIGroups: []string{"apps"}, Resources: []string{"statefulsets"}, Verbs: []string{"get"}},
		{Resources: []string{"secrets"}, Verbs: []string{"get"}},
		{Resources: []string{"pods"}, Verbs: []string{"get"}},
		{Resources: []string{"events"}, Verbs: []string{"list"}},
	}
	for i, missing := range every {
		t.Run("without "+missing.Resources[0], func(t *testing.T) {
			w := newWorld(t, c)
			w.repair()
			w.kubeconfig = w.ServiceAccount(t, w.namespace, "looks", slices.Delete(slices.Clone(every), i, i+1)...)
			o := w.observe()
			resource := missing.Resources[0]
			switch resource {
			case "statefulsets", "pods":
				if resource == "statefulsets" {
					w.is(o, health.Unknown, "cluster-forbidden", resource, "create role creel-"+resource, "--serviceaccount="+w.namespace+":looks")
				} else if o.Verdict != health.Unknown || !strings.Contains(o.Message, "pods") {
					t.Errorf("%+v", o)
				}
			case "events":
				// The rest is judged, and what they would say is not known.
				w.is(o, health.Failed, "gateway-rollout-unseen", "events", "--verb=list --resource=events")
			case "secrets":
				w.is(o, health.Failed, "gateway-rollout-unseen") // no pod is asked, and none of them is needed for that
			}
			if o.Absent {
				t.Error("what may not be looked at is called absent")
			}
		})
	}

	t.Run("a proxy says 404", func(t *testing.T) {
		server := httptest.NewServer(http.NotFoundHandler())
		defer server.Close()
		w := newWorld(t, c)
		w.kubeconfig = kubeconfigFor(t, server.URL)
		if o := w.observe(); o.Verdict != health.Unknown || o.Absent || o.Reason != "cluster-not-kubernetes" {
			t.Errorf("%+v", o)
		}
	})
	t.Run("bad kubeconfig", func(t *testing.T) {
		w := newWorld(t, c)
		w.kubeconfig = "/no-such-file"
		o := w.observe()
		w.is(o, health.Unknown, "cluster-kubeconfig-missing", "/no-such-file")
		if err := w.runtime().Start(t.Context(), nil); idOf(err, "") != "cluster-kubeconfig-missing" {
			t.Errorf("start: %v", err)
		}
	})
	t.Run("API down", func(t *testing.T) {
		w := newWorld(t, c)
		w.repair()
		c.KillAPI(t)
		o := w.observe()
		began := time.Now()
		err := w.runtime().Start(t.Context(), nil)
		c.StartAPI(t)
		w.is(o, health.Unknown, "cluster-unreachable", "refused")
		if idOf(err, "") != "cluster-unreachable" || time.Since(began) > 20*time.Second {
			t.Errorf("start: %v after %s", err, time.Since(began))
		}
	})
	t.Run("API mute", func(t *testing.T) {
		t.Setenv("CREEL_BUDGET_CLUSTER", "1s")
		w := newWorld(t, c)
		w.repair()
		c.PauseAPI(t)
		began := time.Now()
		o := w.observe()
		took := time.Since(began)
		c.ResumeAPI()
		w.is(o, health.Unknown, "cluster-timeout")
		if took > 5*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

// What is proposed is understood by the real kubectl, and a right that it grants is
// one that helps.
func TestHintsHelp(t *testing.T) {
	w, _ := healthy(t, "0.0.88")
	w.forwarding()
	w.leads(w.uid())
	w.kubeconfig = w.ServiceAccount(t, w.namespace, "looks", kubeenv.Rule{APIGroups: []string{"apps"}, Resources: []string{"statefulsets"}, Verbs: []string{"get"}},
		kubeenv.Rule{Resources: []string{"secrets"}, Verbs: []string{"get"}})
	do := func(o []string) {
		t.Helper()
		for _, command := range o {
			words := strings.Fields(command)
			if words[0] != "kubectl" {
				continue
			}
			// As somebody who may.
			words = slices.DeleteFunc(words[1:], func(word string) bool { return word == "--kubeconfig" || word == w.kubeconfig })
			if slices.Contains(words, "delete") {
				words = append(words, "--wait=false") // the kubelet that would end it is this test
			}
			w.Kubectl(t, "", words...)
		}
	}
	o := w.observe()
	w.is(o, health.Unknown, "cluster-forbidden", "pods")
	do(o.Hints)
	w.eventually("the right that was granted helps", func() bool { return w.observe().Verdict == health.OK })
	w.status(waiting("ImagePullBackOff", "not found"))
	do(w.observe().Hints) // the last of them makes the pod anew
	w.eventually("the pod goes", func() bool { return w.observe().Reason != "gateway-image" })
	w.Must(t, "PATCH", w.path("apis/apps/v1", "statefulsets", "openshell"), map[string]any{"spec": map[string]any{"replicas": 0}})
	w.eventually("scaled down", func() bool { return w.observe().Reason == "gateway-scaled-down" })
	do(w.observe().Hints)
	w.eventually("scaled up", func() bool { return w.observe().Reason != "gateway-scaled-down" })
}

func kubeconfigFor(t *testing.T, server string) string {
	t.Helper()
	content, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "Config", "current-context": "c",
		"clusters": []any{map[string]any{"name": "c", "cluster": map[string]any{"server": server}}},
		"contexts": []any{map[string]any{"name": "c", "context": map[string]any{"cluster": "c", "user": "u"}}},
		"users":    []any{map[string]any{"name": "u", "user": map[string]any{"token": "t"}}}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
