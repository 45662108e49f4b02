package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"creel/internal/bundle"
	"creel/internal/gateway"
	"creel/internal/health"
	"creel/internal/state"
	"creel/test/kubeenv"
	"creel/test/kubelet"
)

// cluster has the real controllers, quiet has none.
var (
	clusterWithControllers = kubeenv.Shared{Options: []kubeenv.Option{kubeenv.WithControllerManager()}}
	quietCluster           kubeenv.Shared
)

func TestMain(m *testing.M) {
	defer quietCluster.Stop()
	os.Exit(clusterWithControllers.Run(m))
}

const podTemplate = `{"metadata":{"labels":{"app":"openshell"}},"spec":{
	"volumes":[{"name":"tls-cert","secret":{"secretName":"openshell-server-tls"}},{"name":"tls-client-ca","secret":{"secretName":"openshell-server-client-ca"}}],
	"containers":[{"name":"openshell","image":"registry.example/openshell:0.0.36","env":[
		{"name":"OPENSHELL_SSH_HANDSHAKE_SECRET","valueFrom":{"secretKeyRef":{"name":"openshell-ssh-handshake","key":"secret"}}},
		{"name":"OPENSHELL_CLIENT_TLS_SECRET_NAME","value":"openshell-client-tls"}]}]}}`

// world is a gateway's namespace in a real cluster, with a node that the test plays,
// and the state of one Creel that looks at it.
type world struct {
	testing.TB
	*kubeenv.Cluster
	namespace  string
	name       string // of the pod that is played
	kubeconfig string
	node       *kubelet.Node
	paths      state.Gateway
	config     Config
}

func newWorld(t testing.TB, c *kubeenv.Cluster, changes ...map[string]any) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{TB: t, Cluster: c, namespace: c.NewNamespace(t), name: "openshell-0", kubeconfig: c.AdminKubeconfig, node: kubelet.Start(t, c),
		paths: state.Roots{Config: dir + "/config", State: dir + "/state", Run: dir + "/run", OpenShell: dir + "/openshell"}.Gateway("claws")}
	w.config = Config{Gateway: w.paths, Getenv: func(string) string { return "" }}
	spec := map[string]any{"serviceName": "openshell", "replicas": 1, "selector": map[string]any{"matchLabels": map[string]any{"app": "openshell"}},
		"template": json.RawMessage(podTemplate)}
	for _, change := range changes {
		maps.Copy(spec, change)
	}
	w.Must(t, "POST", w.path("apis/apps/v1", "statefulsets"), map[string]any{"metadata": map[string]any{"name": "openshell"}, "spec": spec})
	return w
}

func (w *world) path(api, resource string, name ...string) string {
	return "/" + strings.Join(append([]string{api, "namespaces", w.namespace, resource}, name...), "/")
}

func (w *world) runtime() *Runtime {
	c := w.config
	c.Kubeconfig, c.Namespace = w.kubeconfig, w.namespace
	return New(c)
}

func (w *world) observe() gateway.Observation {
	w.Helper()
	return w.runtime().Observe(w.Context())
}

// repair issues the gateway's secrets.
func (w *world) repair() {
	w.Helper()
	if _, err := bundle.Repair(w.Context(), w.runtime().Secrets(), time.Now(), bundle.RepairOptions{}); err != nil {
		w.Fatal(err)
	}
}

// eventually polls until ok or 20 s.
func (w *world) eventually(what string, ok func() bool) {
	w.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			w.Fatalf("not within 20 s: %s", what)
		}
	}
}

// pod waits for the pod that the controllers make, and gives it to the node.
func (w *world) pod() (uid string) {
	w.Helper()
	var p struct {
		Metadata struct{ UID string }
		Spec     struct{ NodeName string }
	}
	w.eventually("the controllers make a pod", func() bool {
		status, body := w.Do(w, "GET", w.path("api/v1", "pods", w.name), nil)
		return status == 200 && json.Unmarshal(body, &p) == nil
	})
	if p.Spec.NodeName == "" {
		w.Must(w, "POST", w.path("api/v1", "pods", w.name, "binding"),
			map[string]any{"metadata": map[string]any{"name": w.name}, "target": map[string]any{"kind": "Node", "name": w.node.Name}})
	}
	return p.Metadata.UID
}

// status writes what a kubelet would report of the pod.
func (w *world) status(status map[string]any) {
	w.Helper()
	w.Must(w, "PATCH", w.path("api/v1", "pods", w.name, "status"), map[string]any{"status": status})
}

// began is the pod's start, so long ago that nothing is young any more.
func began() string { return time.Now().Add(-time.Hour).UTC().Format(time.RFC3339) }

// waiting is a container that waits for a reason; more is merged into its status.
func waiting(reason, message string, more ...map[string]any) map[string]any {
	return containers("Pending", "False", map[string]any{"waiting": map[string]any{"reason": reason, "message": message}}, more...)
}

func containers(phase, ready string, state map[string]any, more ...map[string]any) map[string]any {
	c := map[string]any{"name": "openshell", "image": "registry.example/openshell:0.0.36", "imageID": "", "ready": ready == "True", "restartCount": 0, "state": state}
	for _, m := range more {
		maps.Copy(c, m)
	}
	return map[string]any{"phase": phase, "startTime": began(), "containerStatuses": []any{c},
		"conditions": []any{map[string]any{"type": "PodScheduled", "status": "True"}, map[string]any{"type": "Ready", "status": ready}}}
}

// ready makes the pod one that serves.
func (w *world) ready() {
	w.Helper()
	w.status(containers("Running", "True", map[string]any{"running": map[string]any{"startedAt": began()}}))
}

// another is the same world with another pod of the set, to be played too.
func (w *world) another(name string) *world {
	other := *w
	other.name = name
	return &other
}

// event writes one about an object; without a time it is of now.
func (w *world) event(kind, name, uid, reason, message string, at ...time.Time) {
	w.Helper()
	when := time.Now()
	if len(at) > 0 {
		when = at[0]
	}
	stamp := when.UTC().Format(time.RFC3339)
	w.Must(w, "POST", w.path("api/v1", "events"), map[string]any{"metadata": map[string]any{"generateName": "e-"},
		"involvedObject": map[string]any{"kind": kind, "namespace": w.namespace, "name": name, "uid": uid},
		"reason":         reason, "message": message, "type": "Warning", "firstTimestamp": stamp, "lastTimestamp": stamp})
}

// is requires what an observation says, and that it never says more.
func (w *world) is(o gateway.Observation, v health.Verdict, reason string, says ...string) {
	w.Helper()
	if o.Verdict != v || o.Reason != reason {
		w.Errorf("%s %s: %s; want %s %s\n%s", o.Verdict, o.Reason, o.Message, v, reason, evidenceOf(o))
	}
	all := o.Message + "\n" + strings.Join(o.Hints, "\n") + "\n" + evidenceOf(o)
	for _, word := range says {
		if !strings.Contains(all, word) {
			w.Errorf("nothing says %q:\n%s", word, all)
		}
	}
	if v != health.OK && len(o.Hints) == 0 {
		w.Errorf("no next command: %s", o.Message)
	}
	if o.Identity != (gateway.Identity{}) && v != health.OK && o.Identity.InstanceID == "" {
		w.Errorf("half an identity %+v", o.Identity)
	}
}

func evidenceOf(o gateway.Observation) string {
	var b strings.Builder
	for _, e := range o.Evidence {
		fmt.Fprintf(&b, "%s %s: %s\n", e.Verdict, e.Probe, e.Answer)
	}
	return b.String()
}

// within is a context that ends with the test, or before.
func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
