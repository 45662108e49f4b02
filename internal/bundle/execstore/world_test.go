package execstore_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"creel/internal/budget"
	"creel/internal/bundle"
	"creel/internal/bundle/clustertest"
	"creel/internal/bundle/execstore"
	"creel/internal/host/engine"
	"creel/test/engineenv"
	"creel/test/kubeenv"
)

// The cluster's API server runs beside the container, whose network is the
// machine's: kubectl in there is the same as in a K3s container, and one API
// server is enough for all engines.
var (
	cluster kubeenv.Shared
	docker  = &world{engine: &engineenv.Shared{Kind: engineenv.Docker}}
	podman  = &world{engine: &engineenv.Shared{Kind: engineenv.Podman}}
	files   string
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		// Other test programs compile and start clusters at the same time. What is
		// about a budget sets its own.
		for _, b := range []budget.Name{budget.Cluster, budget.Probe} {
			if err := os.Setenv(b.Variable(), "60s"); err != nil {
				panic(err)
			}
		}
		var err error
		if files, err = os.MkdirTemp("", "execstore"); err != nil {
			panic(err)
		}
		defer func() { _ = os.RemoveAll(files) }()
		defer cluster.Stop()
		defer docker.engine.Stop()
		defer podman.engine.Stop()
		return m.Run()
	}())
}

// world is one engine with a container that has kubectl, a kubeconfig and a
// health script, as a gateway's container has.
type world struct {
	engine *engineenv.Shared

	mu   sync.Mutex
	made bool
}

const container = "openshell-cluster-" + clustertest.Gateway

// script is what the K3s image's check comes down to.
const script = `#!/bin/sh
kubectl --kubeconfig=/etc/rancher/k3s/k3s.yaml get --raw=/readyz >/dev/null || exit 1
for name in openshell-server-tls openshell-server-client-ca openshell-client-tls openshell-ssh-handshake; do
	kubectl --kubeconfig=/etc/rancher/k3s/k3s.yaml --namespace=openshell get secret $name >/dev/null || exit 1
done
`

// spec is a container as a gateway has it, under another name where tests stop
// it.
func (w *world) spec(t testing.TB, name string) engineenv.Spec {
	t.Helper()
	c := cluster.Get(t)
	path := filepath.Join(files, "cluster-healthcheck.sh")
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return engineenv.Spec{Name: name, Args: []string{"sleep", "100000"}, HostNetwork: true, Binds: []string{
		filepath.Join(c.Bin, "kubectl") + ":/usr/local/bin/kubectl:ro",
		c.AdminKubeconfig + ":/etc/rancher/k3s/k3s.yaml:ro",
		filepath.Dir(c.AdminKubeconfig) + ":/kubeconfigs:ro",
		path + ":/usr/local/bin/cluster-healthcheck.sh:ro"}}
}

// container makes sure that the shared container runs.
func (w *world) container(t testing.TB) *engineenv.Engine {
	t.Helper()
	e := w.engine.Get(t)
	spec := w.spec(t, container)
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.made {
		e.Keep(t, spec)
		w.made = true
	}
	return e
}

// open opens the store of a gateway.
func (w *world) open(t testing.TB, o execstore.Options) *execstore.Store {
	t.Helper()
	e := engine.New(engine.Options{Host: w.container(t).Host, Getenv: func(string) string { return "" }})
	t.Cleanup(func() { _ = e.Close() })
	o.Gateway = clustertest.Gateway
	if o.Engine == nil {
		o.Engine = e
	}
	s, err := execstore.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// exam is the world in which every store in a cluster is examined.
func (w *world) exam(t testing.TB) clustertest.World {
	t.Helper()
	w.container(t)
	return clustertest.World{Cluster: cluster.Get(t), Slow: true, Open: func(t testing.TB, namespace string) bundle.Target {
		return w.open(t, execstore.Options{Namespace: namespace})
	}}
}

// counting counts calls and lets a test come between them.
type counting struct {
	execstore.Engine
	mu     sync.Mutex
	calls  [][]string
	before func(c engine.Command)
}

func (c *counting) Exec(ctx context.Context, name string, cmd engine.Command) (engine.Result, error) {
	c.mu.Lock()
	c.calls = append(c.calls, cmd.Args)
	before := c.before
	c.mu.Unlock()
	if before != nil {
		before(cmd)
	}
	return c.Engine.Exec(ctx, name, cmd)
}
