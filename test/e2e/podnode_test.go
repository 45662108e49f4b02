package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"creel/test/kubeenv"
	"creel/test/kubelet"
)

// podNode is scheduler and kubelet of one namespace: pods that the real controllers
// make get a node, wait for their secrets as pods do, and then are a process of the
// fake gateway on this machine.
type podNode struct {
	t    testing.TB
	c    *kubeenv.Cluster
	ns   string
	node *kubelet.Node
	dir  string

	mu     sync.Mutex
	lines  []string // how the gateway behaves from its next start on
	broken string   // a reason for which containers wait, in place of running
	runs   map[string]*podRun
	stop   chan struct{}
	done   chan struct{}
}

// podRun is a pod that runs.
type podRun struct {
	name string
	cmd  *exec.Cmd
	port int
	log  string
}

type apiPod struct {
	Metadata struct {
		Name              string
		UID               string
		DeletionTimestamp *time.Time
	}
	Spec struct{ NodeName string }
}

// newPodNode serves the pods of a namespace until the test ends.
func newPodNode(t testing.TB, c *kubeenv.Cluster, ns string, lines ...string) *podNode {
	t.Helper()
	n := &podNode{t: t, c: c, ns: ns, node: kubelet.Start(t, c), dir: t.TempDir(), lines: lines, runs: map[string]*podRun{},
		stop: make(chan struct{}), done: make(chan struct{})}
	go n.serve()
	t.Cleanup(func() {
		close(n.stop)
		<-n.done
		for _, r := range n.runs {
			_ = r.cmd.Process.Kill()
			_ = r.cmd.Wait()
		}
	})
	return n
}

// breakContainers makes containers wait with this reason from now on; empty makes
// them run.
func (n *podNode) breakContainers(reason string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.broken = reason
}

func (n *podNode) path(resource string, name ...string) string {
	return "/" + strings.Join(append([]string{"api/v1/namespaces", n.ns, resource}, name...), "/")
}

func (n *podNode) serve() {
	defer close(n.done)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-n.stop:
			return
		case <-tick.C:
		}
		status, body, err := n.c.Request(n.t.Context(), "GET", n.path("pods"), nil)
		var list struct{ Items []apiPod }
		if err != nil || status != 200 || json.Unmarshal(body, &list) != nil {
			continue // the API may be away: a test took it
		}
		for _, p := range list.Items {
			n.tend(p)
		}
	}
}

// tend brings one pod a step further.
func (n *podNode) tend(p apiPod) {
	name, uid := p.Metadata.Name, p.Metadata.UID
	run := n.run(uid)
	switch {
	case p.Metadata.DeletionTimestamp != nil:
		if run != nil {
			n.node.Cut(n.ns, name)
			_ = run.cmd.Process.Kill()
			_ = run.cmd.Wait()
			n.note(uid, nil)
		}
		n.ask("DELETE", n.path("pods", name), map[string]any{"gracePeriodSeconds": 0, "preconditions": map[string]any{"uid": uid}})
	case p.Spec.NodeName == "":
		n.ask("POST", n.path("pods", name, "binding"), map[string]any{"metadata": map[string]any{"name": name},
			"target": map[string]any{"kind": "Node", "name": n.node.Name}})
	case run == nil:
		n.begin(name, uid)
	}
}

func (n *podNode) run(uid string) *podRun {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.runs[uid]
}

// note keeps a pod that runs; nil forgets it.
func (n *podNode) note(uid string, r *podRun) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.runs[uid] = r
	if r == nil {
		delete(n.runs, uid)
	}
}

// ask is a request whose failure shows in what the test waits for.
func (n *podNode) ask(method, path string, body any) {
	status, answer, err := n.c.Request(n.t.Context(), method, path, body)
	if (err != nil || status/100 != 2) && status != 409 && n.t.Context().Err() == nil {
		n.t.Logf("%s %s: status %d, %v: %s", method, path, status, err, answer)
	}
}

// begin runs a pod, or says why it does not run.
func (n *podNode) begin(name, uid string) {
	n.mu.Lock()
	broken, lines := n.broken, n.lines
	n.mu.Unlock()
	if broken != "" {
		n.status(name, "Pending", false, map[string]any{"waiting": map[string]any{"reason": broken, "message": "says the test"}})
		return
	}
	files := map[string][]byte{}
	for _, secret := range generation1 {
		_, body, err := n.c.Request(n.t.Context(), "GET", n.path("secrets", secret), nil)
		var s secretObject
		if err != nil || json.Unmarshal(body, &s) != nil {
			return
		}
		if s.Kind != "Secret" {
			n.status(name, "Pending", false, map[string]any{"waiting": map[string]any{"reason": "ContainerCreating"}})
			n.event(name, uid, "FailedMount", fmt.Sprintf(`MountVolume.SetUp failed for volume "v" : secret %q not found`, secret))
			return
		}
		for key, value := range s.Data {
			files[secret+"-"+key] = value
		}
	}
	dir := filepath.Join(n.dir, uid)
	if os.Mkdir(dir, 0o700) != nil {
		return
	}
	for file, content := range files {
		_ = os.WriteFile(filepath.Join(dir, file), content, 0o600)
	}
	exe := filepath.Join(dir, "openshell-gateway")
	copyFile(n.t, exe, fakeGateway)
	_ = os.WriteFile(exe+".mode", []byte(strings.Join(lines, "\n")+"\n"), 0o600)
	run := &podRun{name: name, port: freePort(n.t), log: filepath.Join(dir, "log")}
	log, err := os.Create(run.log)
	if err != nil {
		return
	}
	defer log.Close()
	_, _ = fmt.Fprintf(log, "gateway of pod %s begins\nwith api_key=%s\n", uid, canary)
	run.cmd = exec.Command(exe)
	run.cmd.Env = []string{"OPENSHELL_BIND_ADDRESS=127.0.0.1", "OPENSHELL_SERVER_PORT=" + strconv.Itoa(run.port),
		"OPENSHELL_TLS_CERT=" + filepath.Join(dir, "openshell-server-tls-tls.crt"), "OPENSHELL_TLS_KEY=" + filepath.Join(dir, "openshell-server-tls-tls.key"),
		"OPENSHELL_TLS_CLIENT_CA=" + filepath.Join(dir, "openshell-server-client-ca-ca.crt")}
	run.cmd.Stdout, run.cmd.Stderr = log, log
	if run.cmd.Start() != nil {
		return
	}
	n.note(uid, run)
	n.node.Run(n.ns, name, kubelet.Pod{
		Dial: func(port int) (net.Conn, error) {
			if port != 8080 {
				return nil, syscall.ECONNREFUSED
			}
			return net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(run.port)))
		},
		Log: func(string, bool) string {
			b, _ := os.ReadFile(run.log)
			return string(b)
		}})
	n.status(name, "Running", true, map[string]any{"running": map[string]any{"startedAt": time.Now().UTC().Format(time.RFC3339)}})
}

type secretObject struct {
	Kind string
	Data map[string][]byte
}

// status is what a kubelet reports of a pod.
func (n *podNode) status(name, phase string, ready bool, state map[string]any) {
	is := map[bool]string{true: "True", false: "False"}[ready]
	n.ask("PATCH", n.path("pods", name, "status"), map[string]any{"status": map[string]any{"phase": phase,
		"conditions": []any{map[string]any{"type": "PodScheduled", "status": "True"}, map[string]any{"type": "Ready", "status": is}},
		"containerStatuses": []any{map[string]any{"name": "openshell", "image": "openshell", "imageID": "", "ready": ready, "started": ready,
			"restartCount": 0, "state": state}}}})
}

// event is one about a pod. A second one of the same name is refused, which is as
// good as counted.
func (n *podNode) event(pod, uid, reason, message string) {
	now := time.Now().UTC().Format(time.RFC3339)
	n.ask("POST", n.path("events"), map[string]any{"metadata": map[string]any{"name": pod + "." + strings.ToLower(reason) + "." + uid[:8]},
		"involvedObject": map[string]any{"apiVersion": "v1", "kind": "Pod", "namespace": n.ns, "name": pod, "uid": uid},
		"reason":         reason, "message": message, "type": "Warning", "firstTimestamp": now, "lastTimestamp": now, "count": 1,
		"source": map[string]any{"component": "kubelet"}})
}

// podUID is the uid of the gateway's pod; empty when there is none.
func (n *podNode) podUID() string {
	n.t.Helper()
	var p struct{ Metadata struct{ UID string } }
	status, body := n.c.Do(n.t, "GET", n.path("pods", "openshell-0"), nil)
	if status == 404 || json.Unmarshal(body, &p) != nil {
		return ""
	}
	return p.Metadata.UID
}
