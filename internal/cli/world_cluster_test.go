package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"creel/internal/bundle"
)

// worldCluster is a cluster with one gateway of generation 1 in namespace
// openshell, and one of generation 2 in namespace second.
type worldCluster struct {
	w     *world
	place Place
}

func (c worldCluster) Requirements(context.Context) (bundle.Requirements, error) {
	if _, err := os.Stat(filepath.Join(filepath.Dir(c.w.path), "cluster-unreachable")); err == nil {
		return bundle.Requirements{}, errors.New("connection refused")
	}
	if c.place.Namespace == "second" {
		return bundle.Requirements{Generation: bundle.Generation2, Layout: bundle.Kubernetes, Namespace: "second",
			Names: map[string]string{bundle.Server: "second-server", bundle.Client: "second-client", bundle.JWT: "second-jwt-keys"}}, nil
	}
	if c.place.Namespace != "openshell" {
		return bundle.Requirements{}, fmt.Errorf("namespace %s does not exist: %w", c.place.Namespace, bundle.ErrNotApplicable)
	}
	return bundle.Requirements{Generation: bundle.Generation1, Layout: bundle.Kubernetes}, nil
}

func (c worldCluster) Load(context.Context, bundle.Requirements) (bundle.Snapshot, error) {
	return bundle.Snapshot{Secrets: c.w.get().Cluster}, nil
}

func (c worldCluster) Apply(_ context.Context, write []bundle.Secret, _ bundle.Snapshot) error {
	return c.w.with(func(s *worldState) error {
		if s.Cluster == nil {
			s.Cluster = map[string]bundle.Secret{}
		}
		for _, one := range write {
			s.Cluster[one.Name] = one
		}
		return nil
	})
}

func (c worldCluster) Roll(context.Context, []string) (bool, error) { return true, nil }
