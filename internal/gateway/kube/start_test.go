package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"creel/internal/advisory"
	"creel/internal/bundle"
	"creel/internal/health"
	"creel/test/kubeenv"
	"creel/test/kubelet"
)

// progress collects what was reported.
type progress struct {
	mu    sync.Mutex
	lines []string
}

func (p *progress) report(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lines = append(p.lines, line)
}

func (p *progress) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines, "\n")
}

// The gateway comes up while Start waits: its secrets are issued, and the pod that
// waited for them serves. The port-forward runs here already; that Start launches one
// shows with the whole program.
func TestStart(t *testing.T) {
	w := newWorld(t, clusterWithControllers.Get(t))
	w.forwarding()
	belonged := 0
	w.config.Repaired = func(_ context.Context, b func([]byte) bool) error {
		belonged++
		if b([]byte("x")) {
			t.Error("anything belonged to a set that was absent")
		}
		return errors.New("nobody is registered")
	}
	w.pod()
	w.status(waiting("ContainerCreating", ""))
	var p progress
	served := make(chan struct{})
	go func() {
		defer close(served)
		w.eventually("secrets are issued, and the pod is waited for", func() bool {
			status, _ := w.Do(t, "GET", w.path("api/v1", "secrets", bundle.SSHHandshake), nil)
			return status == 200 && strings.Contains(p.String(), "waiting: ")
		})
		w.serve("0.0.88", "")
	}()
	if err := w.runtime().Start(within(t, 30*time.Second), p.report); err != nil {
		t.Fatalf("%v\n%s", err, &p)
	}
	<-served
	w.is(w.observe(), health.OK, "")
	for _, says := range []string{"OpenShell bootstrap secrets missing", "waiting: ", "answers at https://127.0.0.1:", "nobody is registered"} {
		if !strings.Contains(p.String(), says) {
			t.Errorf("it does not say %q:\n%s", says, &p)
		}
	}
	if belonged != 1 {
		t.Errorf("clients were told %d times", belonged)
	}
	before := w.versions()
	if err := w.runtime().Start(within(t, 20*time.Second), nil); err != nil {
		t.Error(err)
	}
	if now := w.versions(); now != before {
		t.Errorf("starting what runs changed\n%s\nto\n%s", before, now)
	}
}

// versions is what is in the namespace, as of which version.
func (w *world) versions() string {
	w.Helper()
	return w.Kubectl(w, "", "--namespace", w.namespace, "get", "secrets,statefulsets,pods", "-o", "jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.resourceVersion}{'\\n'}{end}")
}

// What waiting cannot mend ends the wait, with the reason, the last words of what
// ended, and next commands; what waiting may mend is waited for as long as allowed.
func TestStartThatEnds(t *testing.T) {
	c := clusterWithControllers.Get(t)
	t.Setenv("CREEL_BUDGET_ROLLOUT", "20s")
	bad := func(t *testing.T, w *world) (*advisory.Problem, time.Duration) {
		t.Helper()
		began := time.Now()
		err := w.runtime().Start(t.Context(), nil)
		p, ok := advisory.Of(err)
		if !ok {
			t.Fatalf("no advisory: %v", err)
		}
		if len(p.Commands()) == 0 {
			t.Errorf("no next command: %v", err)
		}
		return p, time.Since(began)
	}
	t.Run("image", func(t *testing.T) {
		w := newWorld(t, c)
		w.pod()
		w.status(waiting("ImagePullBackOff", "not found"))
		if p, took := bad(t, w); p.ID != "gateway-image" || took > 10*time.Second || !strings.Contains(p.Error(), "registry.example/openshell:0.0.36") {
			t.Errorf("after %s: %v", took, p)
		}
		if s := w.mounted(bundle.SSHHandshake); len(s["secret"]) != 64 {
			t.Error("the secrets were not repaired before")
		}
	})
	t.Run("crash", func(t *testing.T) {
		w := newWorld(t, c)
		w.pod()
		w.node.Run(w.namespace, "openshell-0", kubelet.Pod{Log: func(_ string, previous bool) string {
			if previous {
				return "starting\napi_key=sk-canary-0123456789abcdef\nfatal: no database\n"
			}
			return ""
		}})
		w.status(waiting("CrashLoopBackOff", "back-off", map[string]any{"restartCount": 5, "lastState": map[string]any{"terminated": map[string]any{"exitCode": 3}}}))
		p, _ := bad(t, w)
		if p.ID != "gateway-crash-loop" || !strings.Contains(p.Error(), "fatal: no database") || !strings.Contains(p.Error(), "container openshell of pod openshell-0") {
			t.Errorf("%v", p)
		}
		if strings.Contains(p.Error(), "sk-canary") {
			t.Errorf("its last words are not redacted: %v", p)
		}
	})
	t.Run("scaled down", func(t *testing.T) {
		w := newWorld(t, c, map[string]any{"replicas": 0})
		if p, took := bad(t, w); p.ID != "gateway-scaled-down" || took > 10*time.Second || !strings.Contains(p.Commands()[0], "scale statefulset openshell --replicas=1") {
			t.Errorf("after %s: %v, %q", took, p, p.Commands())
		}
		if err := w.runtime().Restart(t.Context(), nil); idOf(err, "") != "gateway-scaled-down" {
			t.Errorf("restart: %v", err)
		}
	})
	t.Run("not there", func(t *testing.T) {
		w := newWorld(t, c)
		w.config.StatefulSet = "other"
		if p, took := bad(t, w); p.ID != absentSet || took > 10*time.Second {
			t.Errorf("after %s: %v", took, p)
		}
	})
	t.Run("secrets that need consent", func(t *testing.T) {
		w := newWorld(t, c)
		w.repair()
		w.Must(t, "PATCH", w.path("api/v1", "secrets", bundle.SSHHandshake), map[string]any{"data": map[string]any{"secret": []byte("short")}})
		if p, _ := bad(t, w); p.ID != "secrets-need-consent" {
			t.Errorf("%v", p)
		}
	})
	t.Run("forbidden", func(t *testing.T) {
		w := newWorld(t, c)
		w.kubeconfig = w.ServiceAccount(t, w.namespace, "nobody", kubeenv.Rule{APIGroups: []string{"apps"}, Resources: []string{"statefulsets"}, Verbs: []string{"get"}})
		if p, took := bad(t, w); p.ID != "cluster-forbidden" || took > 10*time.Second {
			t.Errorf("after %s: %v", took, p)
		}
	})
	t.Run("out of time", func(t *testing.T) {
		t.Setenv("CREEL_BUDGET_ROLLOUT", "1s")
		w := newWorld(t, c)
		w.pod()
		w.status(waiting("ContainerCreating", ""))
		p, took := bad(t, w)
		if p.ID != "gateway-pod-not-ready" && p.ID != "gateway-secret-missing" || took > 10*time.Second || !strings.Contains(p.Error(), `budget "rollout"`) {
			t.Errorf("after %s: %v", took, p)
		}
	})
}

// Somebody else's outage in the middle is waited out.
func TestStartThroughAnOutage(t *testing.T) {
	t.Setenv("CREEL_BUDGET_CLUSTER", "2s")
	w, _ := healthy(t, "0.0.88")
	w.forwarding()
	w.leads(w.uid())
	w.status(waiting("ContainerCreating", ""))
	var p progress
	ended := make(chan error, 1)
	go func() { ended <- w.runtime().Start(within(t, 60*time.Second), p.report) }()
	w.eventually("it waits", func() bool { return strings.Contains(p.String(), "being made") })
	w.KillAPI(t)
	w.eventually("it sees the outage", func() bool { return strings.Contains(p.String(), "refused") })
	w.StartAPI(t)
	w.ready()
	if err := <-ended; err != nil {
		t.Errorf("%v\n%s", err, &p)
	}
}

// A restart is the set's own: another pod serves afterwards, and who asked is only
// told when it does.
func TestRestart(t *testing.T) {
	w, _ := healthy(t, "0.0.88")
	w.forwarding()
	before := w.uid()
	w.leads(before)
	var p progress
	ended := make(chan error, 1)
	go func() { ended <- w.runtime().Restart(within(t, 60*time.Second), p.report) }()
	// The controllers delete the pod; the kubelet, which is the test, lets it go.
	w.eventually("the pod is told to go", func() bool {
		return strings.Contains(string(w.Must(t, "GET", w.path("api/v1", "pods", "openshell-0"), nil)), "deletionTimestamp")
	})
	after := w.remake()
	select {
	case err := <-ended:
		t.Fatalf("it was done before a new pod served: %v", err)
	default:
	}
	w.serve("0.0.89", "")
	if err := <-ended; err != nil {
		t.Fatalf("%v\n%s", err, &p)
	}
	if o := w.observe(); after == before || o.Identity.InstanceID != after || o.Identity.Version != "0.0.89" {
		t.Errorf("%+v", o)
	}
	if got := w.mustGet("statefulsets"); !strings.Contains(got, "creel/restarted-at") {
		t.Error("the pod template is not annotated")
	}
}

// As long as nobody acts on the restart it is not done, although the pod of before
// serves.
func TestRestartThatNobodyActsOn(t *testing.T) {
	t.Setenv("CREEL_BUDGET_ROLLOUT", "1s")
	w := newWorld(t, quietCluster.Get(t))
	w.repair()
	w.ownPod()
	w.serve("0.0.88", "")
	w.forwarding()
	w.leads(w.uid())
	if err := w.runtime().Start(within(t, 20*time.Second), nil); err != nil {
		t.Fatal(err)
	}
	var p progress
	err := w.runtime().Restart(within(t, 20*time.Second), p.report)
	if err == nil || !strings.Contains(err.Error(), `budget "rollout"`) || !strings.Contains(err.Error(), "generation 2, observed 1") || idOf(err, "") != "gateway-rolling" {
		t.Errorf("%v\n%s", err, &p)
	}
}

// ownPod makes the set's pod where no controllers do.
func (w *world) ownPod() {
	w.Helper()
	var set struct{ Metadata struct{ UID string } }
	if err := json.Unmarshal([]byte(w.mustGet("statefulsets")), &set); err != nil {
		w.Fatal(err)
	}
	w.Must(w, "POST", w.path("api/v1", "pods"), map[string]any{"metadata": map[string]any{"name": "openshell-0",
		"ownerReferences": []any{map[string]any{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "openshell", "uid": set.Metadata.UID, "controller": true}}},
		"spec": map[string]any{"nodeName": w.node.Name, "containers": []any{map[string]any{"name": "openshell", "image": "i"}}}})
	w.Must(w, "PATCH", w.path("apis/apps/v1", "statefulsets", "openshell", "status"), map[string]any{"status": map[string]any{"observedGeneration": 1, "replicas": 1}})
}

func (w *world) mustGet(resource string) string {
	w.Helper()
	return string(w.Must(w, "GET", w.path("apis/apps/v1", resource, "openshell"), nil))
}

// A set that leaves its pods to somebody to delete is not restarted by an annotation,
// and that is said.
func TestRestartThatIsHeldBack(t *testing.T) {
	w := newWorld(t, clusterWithControllers.Get(t), map[string]any{"updateStrategy": map[string]any{"type": "OnDelete"}})
	w.repair()
	w.pod()
	w.serve("0.0.88", "")
	err := w.runtime().Restart(within(t, 20*time.Second), nil)
	p, ok := advisory.Of(err)
	if !ok || p.ID != "gateway-rolling" || !strings.Contains(p.Commands()[0], "delete pod openshell-0") {
		t.Errorf("%v, %v", err, p)
	}
}

// Stop ends what is Creel's, leaves what is not, and says so.
func TestStop(t *testing.T) {
	w, _ := healthy(t, "0.0.88")
	before := w.versions()
	for range 2 {
		err := w.runtime().Stop(within(t, 20*time.Second), nil)
		p, ok := advisory.Of(err)
		if !ok || p.ID != "gateway-in-cluster" || !strings.Contains(p.Commands()[0], "scale statefulset openshell --replicas=0") {
			t.Errorf("%v", err)
		}
	}
	if now := w.versions(); now != before {
		t.Errorf("something in the cluster was changed:\n%s\n%s", before, now)
	}
}

func TestLogs(t *testing.T) {
	w, _ := healthy(t, "0.0.88")
	read := func(lines int) string {
		t.Helper()
		var b bytes.Buffer
		if err := w.runtime().Logs(within(t, 20*time.Second), &b, lines, false); err != nil {
			t.Error(err)
		}
		return b.String()
	}
	if all, last := read(0), read(2); all != "line 1\nline 2\nline 3\n" || last != "line 2\nline 3" && last != "line 2\nline 3\n" {
		t.Errorf("all %q, last %q", all, last)
	}
	// One that crashes and has said nothing in this run.
	w.node.Run(w.namespace, "openshell-0", kubelet.Pod{Log: func(_ string, previous bool) string {
		if previous {
			return "the run before\n"
		}
		return ""
	}})
	if got := read(0); got != "the run before\n" {
		t.Errorf("%q", got)
	}
	w.node.Run(w.namespace, "openshell-0", kubelet.Pod{})
	if err := w.runtime().Logs(within(t, 20*time.Second), &bytes.Buffer{}, 0, false); err == nil || !strings.Contains(err.Error(), "read log of Pod") {
		t.Errorf("a pod without a log: %v", err)
	}
	w.config.StatefulSet = "other"
	if err := w.runtime().Logs(within(t, 20*time.Second), &bytes.Buffer{}, 0, false); idOf(err, "") != absentSet {
		t.Errorf("no gateway: %v", err)
	}
}

// lockedBuffer is written while it is read.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A log that is followed goes on with the pod that comes after one that goes.
func TestLogsFollowThePod(t *testing.T) {
	w, _ := healthy(t, "0.0.88")
	ctx, cancel := context.WithCancel(t.Context())
	var b lockedBuffer
	ended := make(chan error, 1)
	go func() { ended <- w.runtime().Logs(ctx, &b, 1, true) }()
	w.eventually("the last line", func() bool { return strings.HasPrefix(b.String(), "line 3") })
	// The connection breaks, and the run is the same: nothing is repeated.
	asked := len(w.node.Asked())
	w.serve("0.0.88", "line 1\nline 2\nline 3\n")
	w.eventually("it asks again", func() bool { return len(w.node.Asked()) > asked })
	after := w.remake()
	w.serve("0.0.89", fmt.Sprintf("pod %s\n", after))
	w.eventually("the next pod's log", func() bool { return strings.Contains(b.String(), "pod "+after) })
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("it does not end")
	}
	if strings.Contains(b.String(), "line 2") {
		t.Errorf("more than asked for: %q", b.String())
	}
}

// The environment of the port-forward has what finds the cluster, and no credential.
func TestEnvironment(t *testing.T) {
	t.Chdir(t.TempDir())
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	given := map[string]string{"PATH": "/bin", "KUBECONFIG": "a.yaml:/b.yaml", "AWS_PROFILE": "p", "AWS_SECRET_ACCESS_KEY": "secret", "OPENAI_API_KEY": "secret",
		"CREEL_HOME": "home", "CREEL_BUDGET_CLUSTER": "5s", "CREEL_PROVIDER_KEY": "secret"}
	r := New(Config{Getenv: func(name string) string { return given[name] }})
	got := strings.Join(r.environment(), "\n")
	for _, want := range []string{"KUBECONFIG=" + here + "/a.yaml:/b.yaml", "AWS_PROFILE=p", "CREEL_HOME=" + here + "/home", "CREEL_BUDGET_CLUSTER=5s"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	if strings.Contains(got, "secret") {
		t.Errorf("a credential is passed on:\n%s", got)
	}
}
