package kubestore

import (
	"testing"

	"creel/internal/bundle"
	"creel/internal/bundle/clustertest"
)

// TestExam: what every store in a cluster does.
func TestExam(t *testing.T) {
	c := cluster.Get(t)
	clustertest.World{Cluster: c, Open: func(t testing.TB, namespace string) bundle.Target {
		s, err := Open(Options{Kubeconfig: c.AdminKubeconfig, Namespace: namespace, Gateway: clustertest.Gateway})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}}.Run(t)
}
