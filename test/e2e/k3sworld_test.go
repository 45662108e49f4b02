package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"creel/test/engineenv"
)

// k3sHome is a home whose gateway is a cluster in a container, as OpenShell up to
// 0.0.36 made them: a real container of a real engine, a real API server, and as
// the gateway's pod a program in the container that serves when, and only when, the
// secrets that it mounts exist.
type k3sHome struct {
	*home
	g         *inCluster
	engine    *engineenv.Engine
	box       *engineenv.Container
	container string
	port      int
	dir       string // what the container sees as /gateway
}

// healthScript is what the image's check of its cluster comes down to.
const healthScript = `#!/bin/sh
exec kubectl --kubeconfig=/etc/rancher/k3s/k3s.yaml --namespace=%s get secret openshell-server-tls openshell-server-client-ca \
	openshell-client-tls openshell-ssh-handshake
`

// newK3sHome makes all of it but the container. lines say how the gateway in it
// behaves, beyond serving with its secrets.
func newK3sHome(t testing.TB, e *engineenv.Engine, lines ...string) *k3sHome {
	t.Helper()
	h := &k3sHome{home: newHome(t), g: newGatewayIn(t, clusters.Get(t)), engine: e, port: freePort(t)}
	h.container = "openshell-cluster-" + h.g.ns
	dir, err := os.MkdirTemp("", "k3s")
	if err != nil {
		t.Fatal(err)
	}
	h.dir = dir
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	copyFile(t, filepath.Join(dir, "openshell-gateway"), fakeGateway)
	h.behave(lines...)
	h.healthcheck(fmt.Sprintf(healthScript, h.g.ns))
	h.env = append(h.env, "DOCKER_HOST="+e.Host, "CREEL_GATEWAY=nemoclaw", "CREEL_BUDGET_CONTAINER_START=15s",
		"CREEL_BUDGET_PROBE=2s", "CREEL_BUDGET_GATEWAY_STOP=2s")
	h.write("config/gateways/nemoclaw.yaml", fmt.Sprintf("apiVersion: creel/v1alpha1\nkind: Gateway\nname: nemoclaw\nruntime: k3s\n"+
		"gateway: {port: %d}\ncluster: {container: %s, namespace: %s}\n", h.port, h.container, h.g.ns))
	h.kubelet(t)
	return h
}

// behave says how the gateway behaves from its next start on.
func (h *k3sHome) behave(lines ...string) {
	h.t.Helper()
	lines = append([]string{"version=0.0.36", "root=401", "await=/gateway/mounted"}, lines...)
	if err := os.WriteFile(filepath.Join(h.dir, "openshell-gateway.mode"), []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		h.t.Fatal(err)
	}
}

func (h *k3sHome) healthcheck(script string) {
	h.t.Helper()
	if err := os.WriteFile(filepath.Join(h.dir, "check.sh"), []byte(script), 0o755); err != nil {
		h.t.Fatal(err)
	}
}

// run makes the container and starts it.
func (h *k3sHome) boot() {
	h.t.Helper()
	c := h.g.c
	published := map[int]int{30051: h.port}
	if h.engine.Kind == engineenv.Podman {
		published = nil // it has none of a container that shares the machine's network
	}
	h.box = h.engine.Run(h.t, engineenv.Spec{Name: h.container, HostNetwork: true, Published: published, Args: []string{"/gateway/openshell-gateway"},
		Env: []string{"OPENSHELL_BIND_ADDRESS=127.0.0.1", "OPENSHELL_SERVER_PORT=" + strconv.Itoa(h.port), "OPENSHELL_TLS_CERT=/gateway/tls.crt",
			"OPENSHELL_TLS_KEY=/gateway/tls.key", "OPENSHELL_TLS_CLIENT_CA=/gateway/ca.crt"},
		Binds: []string{h.dir + ":/gateway", filepath.Join(h.dir, "check.sh") + ":/usr/local/bin/cluster-healthcheck.sh:ro",
			filepath.Join(c.Bin, "kubectl") + ":/usr/local/bin/kubectl:ro", c.AdminKubeconfig + ":/etc/rancher/k3s/k3s.yaml:ro"}})
}

// kubelet mounts the secrets of the gateway's pod when all of them exist, and as
// they are then: it looks again and again, as a kubelet does.
func (h *k3sHome) kubelet(t testing.TB) {
	g, dir := h.g, h.dir
	end, done := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(end); <-done })
	go func() {
		defer close(done)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			if err := mount(g, dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("mount secrets: %v", err)
				return
			}
			select {
			case <-tick.C:
			case <-end:
				return
			}
		}
	}()
}

func mount(g *inCluster, dir string) error {
	status, body, err := g.c.Request(g.t.Context(), "GET", "/api/v1/namespaces/"+g.ns+"/secrets", nil)
	if err != nil || status != 200 {
		return nil //nolint:nilerr // it will be asked again
	}
	var list struct{ Items []secret }
	if err := json.Unmarshal(body, &list); err != nil {
		return err
	}
	found := map[string]secret{}
	for _, s := range list.Items {
		found[s.Metadata.Name] = s
	}
	for _, name := range generation1 {
		if _, there := found[name]; !there {
			return nil
		}
	}
	server, ca := found[generation1[0]].Data, found[generation1[1]].Data
	for _, f := range []struct {
		name    string
		content []byte
	}{{"tls.crt", server["tls.crt"]}, {"tls.key", server["tls.key"]}, {"ca.crt", ca["ca.crt"]}, {"mounted", []byte("\n")}} { // the last says that all are there
		path := filepath.Join(dir, f.name)
		if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, f.content) {
			continue
		}
		if err := errors.Join(os.WriteFile(path+".new", f.content, 0o644), os.Rename(path+".new", path)); err != nil {
			return err
		}
	}
	return nil
}

// reached is what the program in the container says that it did.
func (h *k3sHome) reached() string {
	content, _ := os.ReadFile(filepath.Join(h.dir, "openshell-gateway.reached"))
	return string(content)
}

// registered is what an OpenShell client would have of a gateway of this name.
func (h *k3sHome) registered(endpoint, certificate string) {
	h.t.Helper()
	dir := "config/openshell/gateways/nemoclaw/"
	h.write(dir+"metadata.json", `{"name":"nemoclaw","gateway_endpoint":"`+endpoint+`","is_remote":false,"gateway_port":8080}`)
	for _, name := range []string{"ca.crt", "tls.crt", "tls.key"} {
		h.write(dir+"mtls/"+name, certificate)
	}
}

func (h *k3sHome) endpoint() string { return fmt.Sprintf("https://127.0.0.1:%d", h.port) }

// sandbox makes a pod of a sandbox; nothing runs in it.
func (h *k3sHome) sandbox(name string) {
	h.t.Helper()
	h.g.c.Must(h.t, "POST", "/api/v1/namespaces/"+h.g.ns+"/pods", json.RawMessage(`{"metadata":{"name":"`+name+`"},"spec":{"containers":[{"name":"agent","image":"agent"}]}}`))
}

// state is how the engine sees the container, not through Creel.
func (h *k3sHome) state() (status, startedAt string) {
	h.t.Helper()
	var c struct {
		State struct{ Status, StartedAt string }
	}
	if err := json.Unmarshal(h.engine.Must(h.t, "GET", "/containers/"+h.container+"/json", nil), &c); err != nil {
		h.t.Fatal(err)
	}
	return c.State.Status, c.State.StartedAt
}

// files is the home's tree with the content of every file.
func (h *k3sHome) files() map[string]string {
	h.t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(h.home.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || strings.HasSuffix(path, ".lock") {
			return err
		}
		b, err := os.ReadFile(path)
		all[path] = string(b)
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return all
}

// gateway asks for the gateway's status as a document.
func (h *k3sHome) gateway() (gatewayStatus, result) {
	h.t.Helper()
	r := h.home.run("gateway", "status", "--json")
	return decode[gatewayStatus](h.t, r), r
}
