package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"creel/internal/host"
)

// kubeHome is a home whose gateway is in a real cluster, on a node that the test
// plays.
type kubeHome struct {
	*home
	g *inCluster
	n *podNode
}

func newKubeHome(t testing.TB, lines ...string) *kubeHome {
	t.Helper()
	c := clusters.Get(t)
	h := &kubeHome{home: newHome(t), g: newGatewayIn(t, c)}
	h.n = newPodNode(t, c, h.g.ns, lines...)
	return h
}

func (h *kubeHome) in(t testing.TB) *kubeHome {
	return &kubeHome{home: h.home.in(t), g: h.g.in(t), n: h.n}
}

// onboarded makes the gateway alone be wanted.
func (h *kubeHome) onboarded(code int, more ...string) result {
	h.t.Helper()
	return h.must(code, append([]string{"onboard", "--yes", "--gateway-only", "--runtime", "kubernetes", "--kubeconfig", h.g.c.AdminKubeconfig,
		"--namespace", h.g.ns}, more...)...)
}

type kubeStatus struct {
	gatewayStatus
	Runtime    string   `json:"runtime"`
	InstanceID string   `json:"instance_id"`
	Hints      []string `json:"hints"`
}

func (h *kubeHome) status() (kubeStatus, result) {
	h.t.Helper()
	r := h.run("gateway", "status", "--json")
	return decode[kubeStatus](h.t, r), r
}

// forward is the port-forward's process.
func (h *kubeHome) forward() int {
	h.t.Helper()
	var m struct{ PID int }
	b, err := os.ReadFile(h.file("portforward.json"))
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil || m.PID < 2 { // signalling 0 or 1 would hit somebody else
		h.t.Fatalf("no port-forward is recorded: %v\n%s", err, b)
	}
	return m.PID
}

func (h *kubeHome) file(name string) string {
	return filepath.Join(h.dir, "state", "gateways", "creel", name)
}

// removePod has the controllers make the gateway's pod anew, and returns the uid of
// the one before.
func (h *kubeHome) removePod() string {
	h.t.Helper()
	before := h.n.podUID()
	h.g.c.Must(h.t, "DELETE", h.n.path("pods", "openshell-0"), nil)
	eventually(h.t, "the pod is made anew", func() bool { now := h.n.podUID(); return now != "" && now != before })
	return before
}

// registered is the client certificate that OpenShell clients have.
func (h *kubeHome) registered() string {
	h.t.Helper()
	b, err := os.ReadFile(filepath.Join(h.dir, "config", "openshell", "gateways", "creel", "mtls", "tls.crt"))
	if err != nil {
		h.t.Fatal(err)
	}
	return string(b)
}

// well requires a gateway that is healthy in its present pod.
func (h *kubeHome) well() kubeStatus {
	h.t.Helper()
	s, r := h.status()
	if s.Verdict != "ok" || r.code != 0 || s.InstanceID != h.n.podUID() || s.Runtime != "kubernetes" {
		h.t.Fatalf("exit %d: %+v\n%s", r.code, s, h.logs())
	}
	return s
}

// testGatewayKubernetes is the runtime kubernetes from a namespace in which the pod
// hangs for its secrets to the end: real API server, real controllers, and a process
// with the secrets' certificates as the pod.
func testGatewayKubernetes(t *testing.T) {
	h := newKubeHome(t, "version=0.0.88")
	h.secrets = []string{canary} // every pod's log has it

	t.Run("onboard", func(t *testing.T) {
		h := h.in(t)
		eventually(t, "the pod hangs", func() bool {
			return strings.Contains(string(h.g.c.Must(t, "GET", h.n.path("events"), nil)), "FailedMount")
		})
		if r := h.run("gateway", "status"); r.code != 1 || !strings.Contains(r.stdout, "gateway-not-set-up") {
			t.Errorf("before anything is recorded: exit %d\n%s", r.code, r.stdout)
		}
		r := h.onboarded(0)
		if !strings.Contains(r.stderr, "openshell-server-tls, openshell-server-client-ca, openshell-client-tls, openshell-ssh-handshake") {
			t.Errorf("what was issued is not named:\n%s", r.stderr)
		}
		t.Logf("onboarded in %s", r.took)
		judge(t, h.g.ns, h.g.secrets())
		s := h.well()
		if h.registered() != string(h.g.secrets()[generation1[2]].Data["tls.crt"]) {
			t.Error("OpenShell clients do not have the client certificate of the cluster")
		}
		var metadata struct {
			Endpoint string `json:"gateway_endpoint"`
		}
		b, err := os.ReadFile(filepath.Join(h.dir, "config", "openshell", "gateways", "creel", "metadata.json"))
		if err != nil || json.Unmarshal(b, &metadata) != nil || metadata.Endpoint != s.Endpoint {
			t.Errorf("registered is %q, the port-forward is at %s, %v", metadata.Endpoint, s.Endpoint, err)
		}
		if r := h.must(0, "onboard", "--yes"); !strings.Contains(r.stderr, "Nothing to do") {
			t.Errorf("again:\n%s", r.stderr)
		}
		h.must(0, "apply", "--yes", "-f", filepath.Join(h.dir, "config", "gateways", "creel.yaml"))
		for _, command := range []string{"status", "doctor"} {
			if r := h.must(0, command); !strings.Contains(r.stdout, "registration") || strings.Contains(r.stdout, "inference") {
				t.Errorf("%s:\n%s", command, r.stdout)
			}
		}
		if r := h.must(0, "gateway", "secrets", "inspect"); !strings.Contains(r.stdout, "openshell-ssh-handshake") {
			t.Errorf("the recorded gateway's secrets are not the cluster's:\n%s", r.stdout)
		}
		if p, err := host.Lookup(h.forward()); err != nil || p.Session != h.forward() {
			t.Errorf("the port-forward is in session %d, %v; want its own", p.Session, err)
		}
	})

	t.Run("pod-moves", func(t *testing.T) {
		h := h.in(t)
		s, forward := h.well(), h.forward()
		h.removePod()
		eventually(t, "the port-forward leads to the next pod", func() bool {
			now, _ := h.status()
			return now.Verdict == "ok" && now.InstanceID != s.InstanceID
		})
		if now := h.well(); now.Endpoint != s.Endpoint || h.forward() != forward {
			t.Errorf("endpoint %s became %s, process %d became %d", s.Endpoint, now.Endpoint, forward, h.forward())
		}
	})

	t.Run("secrets-lost", func(t *testing.T) {
		h := h.in(t)
		for _, name := range generation1[1:] {
			h.g.remove(name)
		}
		h.removePod()
		eventually(t, "the pod hangs", func() bool { s, _ := h.status(); return s.Reason == "gateway-secret-missing" })
		s, r := h.status()
		for _, says := range append([]string{"creel gateway secrets repair"}, generation1[1:]...) {
			if s.Reason != "gateway-secret-missing" || !strings.Contains(r.stdout, says) {
				t.Errorf("%s: nothing says %q: %s", s.Reason, says, s.Message)
			}
		}
		before := h.registered()
		r = h.must(0, "repair", "--yes")
		t.Logf("repaired in %s", r.took)
		h.well()
		if now := h.registered(); now == before || now != string(h.g.secrets()[generation1[2]].Data["tls.crt"]) {
			t.Error("OpenShell clients do not have the new client certificate")
		}
		// The same by starting alone.
		h.g.remove(generation1[1])
		h.removePod()
		h.must(0, "gateway", "start")
		h.well()
		if h.registered() != string(h.g.secrets()[generation1[2]].Data["tls.crt"]) {
			t.Error("after a start OpenShell clients do not have the new client certificate")
		}
	})

	t.Run("image-cannot-be-had", func(t *testing.T) {
		h := h.in(t)
		h.n.breakContainers("ImagePullBackOff")
		h.removePod()
		eventually(t, "it is named", func() bool { s, _ := h.status(); return s.Reason == "gateway-image" })
		hasty := h.in(t)
		hasty.env = append(hasty.env[:len(hasty.env):len(hasty.env)], "CREEL_BUDGET_ROLLOUT=1s")
		r := hasty.must(1, "gateway", "start")
		if !strings.Contains(r.stderr, "gateway-image") || !strings.Contains(r.stderr, "describe pod openshell-0") || r.took > 15*time.Second {
			t.Errorf("after %s:\n%s", r.took, r.stderr)
		}
		if r := h.run("status"); r.code != 1 || !strings.Contains(r.stdout, "gateway-image") {
			t.Errorf("status: exit %d\n%s", r.code, r.stdout)
		}
		h.n.breakContainers("")
		h.must(0, "gateway", "start")
	})

	t.Run("lifecycle", func(t *testing.T) {
		h := h.in(t)
		s, forward := h.well(), h.forward()
		h.must(0, "gateway", "start")
		if h.forward() != forward {
			t.Error("starting what runs started another port-forward")
		}
		h.must(0, "gateway", "restart")
		if now := h.well(); now.InstanceID == s.InstanceID || h.g.rolled() == "" {
			t.Error("a restart left the pod as it was")
		}
		if r := h.must(0, "gateway", "logs", "--lines", "2"); !strings.Contains(r.stdout, "gateway of pod "+h.n.podUID()) {
			t.Errorf("log:\n%s", r.stdout)
		}
		h.output.Reset() // the gateway's own log is shown as it is
		r := h.must(1, "gateway", "stop")
		if !strings.Contains(r.stderr, "gateway-in-cluster") || !strings.Contains(r.stderr, "scale statefulset openshell --replicas=0") {
			t.Errorf("stop:\n%s", r.stderr)
		}
		if p, err := host.Lookup(forward); err == nil && !p.Gone() {
			t.Error("stop left the port-forward")
		}
		if s, r := h.status(); s.Reason != "gateway-forward-down" || r.code != 1 || !strings.Contains(s.Message, "is healthy") {
			t.Errorf("exit %d: %+v", r.code, s)
		}
		h.must(0, "repair", "--yes")
		if now := h.well(); now.Endpoint != s.Endpoint {
			t.Errorf("endpoint %s became %s", s.Endpoint, now.Endpoint)
		}
		// Killed, it is missed at once and started again.
		if err := syscall.Kill(h.forward(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it is missed", func() bool { s, _ := h.status(); return s.Reason == "gateway-forward-down" })
		h.must(0, "gateway", "start")
		h.well()
	})

	t.Run("API-away", func(t *testing.T) {
		h := h.in(t)
		h.g.c.KillAPI(t)
		s, r := h.status()
		if s.Verdict != "unknown" || s.Reason != "cluster-unreachable" || r.code != 4 {
			t.Errorf("exit %d: %+v", r.code, s)
		}
		if r := h.run("repair", "--yes"); r.code != 4 || !strings.Contains(r.stderr, "refused") {
			t.Errorf("repair: exit %d\n%s", r.code, r.stderr)
		}
		h.g.c.StartAPI(t)
		eventually(t, "the way is found again", func() bool { s, _ := h.status(); return s.Verdict == "ok" })
	})

	t.Run("sandboxes", func(t *testing.T) {
		h := h.in(t)
		h.must(3, "onboard", "--yes", "--provider", "none", "--name", "box", "--", "sleep", "1000")
		if l := decode[listDocument](t, h.must(0, "list", "--json")); len(l.Sandboxes) != 1 || l.Sandboxes[0].Name != "box" {
			t.Errorf("%+v", l)
		}
		h.must(0, "destroy", "box", "--yes")
	})

	t.Run("declared-service", func(t *testing.T) {
		h := h.in(t)
		port, forward := h.n.run(h.n.podUID()).port, h.forward()
		h.must(0, "onboard", "--yes", "--gateway-endpoint", fmt.Sprintf("https://127.0.0.1:%d", port))
		s := h.well()
		if s.Endpoint != fmt.Sprintf("https://127.0.0.1:%d", port) {
			t.Errorf("endpoint %s", s.Endpoint)
		}
		for _, e := range s.Evidence {
			if strings.HasPrefix(e.Probe, "port-forward") {
				t.Errorf("a port-forward is asked about: %+v", e)
			}
		}
		h.must(0, "gateway", "start")
		if p, err := host.Lookup(forward); err == nil && !p.Gone() {
			t.Error("the port-forward that is not needed any more runs")
		}
		h.onboarded(0, "--fresh") // forgets answers, and not how the gateway is reached
		if s := h.well(); s.Endpoint != fmt.Sprintf("https://127.0.0.1:%d", port) {
			t.Errorf("endpoint %s after --fresh", s.Endpoint)
		}
		h.onboarded(0, "--gateway-endpoint", "")
		if s := h.well(); s.Endpoint == fmt.Sprintf("https://127.0.0.1:%d", port) {
			t.Error("the declared endpoint was not taken back")
		}
	})

	t.Run("old-version", func(t *testing.T) {
		h := h.in(t)
		h.n.mu.Lock()
		h.n.lines = []string{"version=0.0.36"}
		h.n.mu.Unlock()
		h.must(0, "gateway", "restart")
		if s, r := h.status(); s.Verdict != "degraded" || r.code != 3 || len(s.Caveats) != 1 || s.Caveats[0].Advisory != "gateway-version-unsupported" {
			t.Errorf("exit %d: %+v", r.code, s)
		}
		h.must(3, "status")
		h.must(3, "repair", "--yes")
		if r := h.run("list", "--json"); !strings.Contains(r.stdout+r.stderr, "supported is OpenShell 0.0.37") {
			t.Errorf("list: exit %d\n%s%s", r.code, r.stdout, r.stderr)
		}
	})

	t.Run("uninstall", func(t *testing.T) {
		h := h.in(t)
		h.g.put(generation1[3], map[string][]byte{"secret": []byte("short")})
		before := h.n.podUID()
		h.must(0, "gateway", "secrets", "repair", "--replace", "--yes")
		eventually(t, "the gateway is rolled", func() bool { now := h.n.podUID(); return now != "" && now != before })
		stranger := map[string]any{"metadata": map[string]any{"name": "openshell-server-tls-creel-backup-9"}}
		h.g.c.Must(t, "POST", h.g.path("")[:len(h.g.path(""))-1], stranger)
		kept, forward, pod := h.g.secrets(), h.forward(), h.n.podUID()
		r := h.must(0, "uninstall", "--plan")
		if !strings.Contains(r.stdout, "openshell-ssh-handshake-creel-backup-1") || strings.Contains(r.stdout, "backup-9") || !strings.Contains(r.stdout, "port-forward (pid") {
			t.Errorf("plan:\n%s", r.stdout)
		}
		h.must(0, "uninstall", "--yes")
		if status, _ := h.g.c.Do(t, "GET", h.g.path("openshell-ssh-handshake-creel-backup-1"), nil); status != 404 {
			t.Errorf("the backup: status %d", status)
		}
		h.g.c.Must(t, "GET", h.g.path("openshell-server-tls-creel-backup-9"), nil)
		now := h.g.secrets()
		for _, name := range generation1 {
			if now[name].Metadata.ResourceVersion != kept[name].Metadata.ResourceVersion {
				t.Errorf("%s, which is in use, was touched", name)
			}
		}
		if p, err := host.Lookup(forward); err == nil && !p.Gone() {
			t.Error("the port-forward is left")
		}
		if h.n.podUID() != pod {
			t.Error("the gateway's pod was touched")
		}
		if _, err := os.Stat(filepath.Join(h.dir, "state", "gateways", "creel")); !os.IsNotExist(err) {
			t.Errorf("state is left: %v", err)
		}
	})
	h.noSecrets()
}
