package e2e

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"creel/test/engineenv"
)

// testSecretRepairContainer is the suite through the engine of a container that
// is named and laid out as a K3s gateway's, with an OpenShell client that knows
// the gateway.
func testSecretRepairContainer(t *testing.T) {
	e := engineenv.Start(t, engineenv.Docker)
	c := clusters.Get(t)
	h, g := newHome(t), newGatewayIn(t, c)
	h.env = append(h.env, "DOCKER_HOST="+e.Host)
	box := e.Run(t, engineenv.Spec{Name: "openshell-cluster-nemoclaw", Args: []string{"sleep", "100000"}, HostNetwork: true, Binds: []string{
		filepath.Join(c.Bin, "kubectl") + ":/usr/local/bin/kubectl:ro", c.AdminKubeconfig + ":/etc/rancher/k3s/k3s.yaml:ro"}})
	at := func(verb string, more ...string) []string {
		return append([]string{"gateway", "secrets", verb, "--gateway", "nemoclaw", "--container", "-", "--namespace", g.ns}, more...)
	}
	r := h.must(0, at("repair", "--yes", "--json")...)
	if !strings.Contains(r.stderr, "OpenShell bootstrap secrets missing: "+strings.Join(generation1, ", ")+". Repairing...") {
		t.Errorf("from nothing:\n%s", r.stderr)
	}
	first := g.secrets()
	judge(t, g.ns, first)
	if doc := decode[repairedDocument](t, h.must(0, at("repair", "--replace", "--yes", "--json")...)); doc.Repaired || !reflect.DeepEqual(first, g.secrets()) {
		t.Errorf("a second repair: %+v", doc)
	}

	// A client that has the certificate which is about to be replaced.
	mtls := filepath.Join("config", "openshell", "gateways", "nemoclaw", "mtls")
	h.write(filepath.Join(filepath.Dir(mtls), "metadata.json"), `{"name":"nemoclaw","gateway_endpoint":"https://127.0.0.1:8080","gateway_port":8080,"auth_mode":"mtls"}`)
	h.write(filepath.Join(mtls, "ca.crt"), string(first[generation1[1]].Data["ca.crt"]))
	h.write(filepath.Join(mtls, "tls.crt"), string(first[generation1[2]].Data["tls.crt"]))
	h.write(filepath.Join(mtls, "tls.key"), string(first[generation1[2]].Data["tls.key"]))
	g.remove(generation1[2])
	doc := decode[repairedDocument](t, h.must(0, at("repair", "--yes", "--json")...))
	second := g.secrets()
	judge(t, g.ns, second)
	if !doc.Rolled || g.rolled() == "" {
		t.Errorf("the authority went along with the client, and the gateway was not rolled: %+v", doc)
	}
	if got := h.read(filepath.Join(mtls, "tls.crt")); got != string(second[generation1[2]].Data["tls.crt"]) {
		t.Error("the registration was not attached again")
	}
	if !reflect.DeepEqual(first[generation1[0]], second[generation1[0]]) || !reflect.DeepEqual(first[generation1[3]], second[generation1[3]]) {
		t.Error("what was good was changed")
	}

	// What cannot be asked is unknown, within its budget.
	g.remove(generation1[3])
	h.env = append(h.env, "CREEL_BUDGET_CLUSTER=2s")
	before := g.secrets()
	box.Pause(t)
	began := time.Now()
	h.must(4, at("repair", "--replace", "--yes")...)
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("a paused container kept the command for %s", took)
	}
	box.Unpause(t)
	box.Remove(t)
	if r := h.must(4, at("inspect")...); !strings.Contains(r.stderr, "openshell-cluster-nemoclaw") {
		t.Errorf("a container that is gone:\n%s", r.stderr)
	}
	if !reflect.DeepEqual(before, g.secrets()) {
		t.Error("something was written although nothing could be asked")
	}
}

func (h *home) write(name, content string) {
	h.t.Helper()
	path := filepath.Join(h.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

func (h *home) read(name string) string {
	h.t.Helper()
	content, err := os.ReadFile(filepath.Join(h.dir, name))
	if err != nil {
		h.t.Fatal(err)
	}
	return string(content)
}
