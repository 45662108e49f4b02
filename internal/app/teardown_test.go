package app

import (
	"path/filepath"
	"strings"
	"testing"

	"creel/internal/desired"
	"creel/internal/state"
)

// What cannot be found out of a cluster stays, which is part of what is planned and of
// what was done, and is not reported beside.
func TestUninstallOfAnUnreachableCluster(t *testing.T) {
	home := t.TempDir()
	g := &graph{getenv: func(n string) string { return map[string]string{"CREEL_HOME": home}[n] }}
	roots, err := g.findRoots()
	if err != nil {
		t.Fatal(err)
	}
	paths := roots.Gateway("creel")
	doc := desired.New("creel")
	doc.Runtime, doc.Driver = desired.Kubernetes, desired.DriverOf(desired.Kubernetes)
	doc.Cluster.Kubeconfig = filepath.Join(home, "nowhere")
	if err := doc.Save(paths.Desired()); err != nil {
		t.Fatal(err)
	}
	if err := state.MkdirAll(paths.Dir()); err != nil {
		t.Fatal(err)
	}
	for _, plan := range []bool{true, false} {
		r, err := g.uninstall(t.Context(), "creel", plan, func(m string) {
			if strings.Contains(m, "cluster") {
				t.Errorf("reported: %s", m)
			}
		})
		if err != nil || len(r.Stays) != 1 || !strings.Contains(r.Stays[0], "the cluster cannot be asked") {
			t.Errorf("plan %t: %+v, %v", plan, r, err)
		}
	}
}
