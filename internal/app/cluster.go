package app

import (
	"context"
	"fmt"
	"os"

	"creel/internal/bundle"
	"creel/internal/bundle/execstore"
	"creel/internal/bundle/kubestore"
	"creel/internal/cli"
	"creel/internal/host/engine"
)

// clusterSecrets opens the bootstrap secrets of a gateway in a cluster.
func clusterSecrets(_ context.Context, p cli.Place) (bundle.Target, error) {
	switch p.Kind {
	case cli.PlaceCluster:
		return kubestore.Open(kubestore.Options{Kubeconfig: p.Kubeconfig, Context: p.Context, InCluster: p.InCluster,
			Namespace: p.Namespace, StatefulSet: p.StatefulSet, Gateway: p.Gateway})
	case cli.PlaceContainer:
		return execstore.New(execstore.Options{Engine: engine.New(engine.Options{Getenv: os.Getenv, UID: os.Geteuid()}),
			Gateway: p.Gateway, Container: p.Container, Namespace: p.Namespace, StatefulSet: p.StatefulSet})
	}
	return nil, fmt.Errorf("open bootstrap secrets: %q is no place in a cluster", p.Kind)
}
