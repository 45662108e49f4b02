package kubeenv

import (
	"context"
	"sync"
	"testing"
)

// Shared is one cluster for all tests of a package, started by the first that
// needs it. Tests are kept apart by namespaces; one that kills the API server
// should have a cluster of its own when tests run in parallel. The zero value
// is ready:
//
//	var cluster kubeenv.Shared
//
//	func TestMain(m *testing.M) { os.Exit(cluster.Run(m)) }
//
//	func TestSomething(t *testing.T) {
//		c := cluster.Get(t)
//		namespace := c.NewNamespace(t)
type Shared struct {
	Options []Option

	mu      sync.Mutex
	cluster *Cluster
	err     error
}

// Get returns the cluster, or skips the test where the programs are not built.
// Its API server runs, whatever an earlier test did to it.
func (s *Shared) Get(t testing.TB) *Cluster {
	t.Helper()
	Dir(t)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cluster == nil && s.err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), startLimit)
		defer cancel()
		s.cluster, s.err = Launch(ctx, s.Options...)
	}
	if s.err != nil {
		t.Fatal(s.err)
	}
	if err := s.cluster.revive(); err != nil {
		t.Fatal(err)
	}
	return s.cluster
}

// Run runs the tests (a *testing.M), stops the cluster and returns the exit code.
func (s *Shared) Run(tests interface{ Run() int }) int {
	defer s.Stop()
	return tests.Run()
}

// Stop stops the cluster if one was started. Run does it.
func (s *Shared) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cluster != nil {
		s.cluster.Stop()
	}
}
