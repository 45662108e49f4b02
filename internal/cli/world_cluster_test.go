package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"creel/internal/advisory"
	"creel/internal/bundle"
	"creel/internal/gateway"
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

// remoteRuntime is the world's gateway when it is recorded to be in the cluster.
type remoteRuntime struct {
	worldRuntime
	cluster worldCluster
}

func (r remoteRuntime) Name() string                                   { return "kubernetes" }
func (r remoteRuntime) Secrets() bundle.Target                         { return r.cluster }
func (r remoteRuntime) Detach(context.Context, gateway.Progress) error { return nil }

func (r remoteRuntime) Stop(context.Context, gateway.Progress) error {
	return advisory.New("gateway-in-cluster", "no port-forward runs; gateway creel goes on in its cluster", nil)
}

func (r remoteRuntime) Restart(_ context.Context, report gateway.Progress) error {
	report("telling the set to start its pods again")
	return nil
}
