package app

import (
	"cmp"
	"context"
	"os"

	"creel/internal/bundle/execstore"
	"creel/internal/desired"
	"creel/internal/gateway"
	"creel/internal/gateway/k3s"
	"creel/internal/health"
	"creel/internal/host/engine"
	"creel/internal/state"
)

// k3s is the runtime of a gateway that is a cluster in a container.
func (g *graph) k3s(paths state.Gateway, doc desired.Document) gateway.Runtime {
	box := engine.New(engine.Options{Getenv: g.getenv, UID: os.Geteuid()})
	container := cmp.Or(doc.Cluster.Container, execstore.ContainerPrefix+paths.Name)
	cluster, err := execstore.New(execstore.Options{Engine: box, Gateway: paths.Name, Container: container,
		Namespace: doc.Cluster.Namespace, StatefulSet: doc.Cluster.StatefulSet})
	if err != nil {
		panic(err) // a document with such names is refused when it is read
	}
	return k3s.New(k3s.Config{Gateway: paths, Container: container, Engine: box, Cluster: cluster, Port: doc.Gateway.Port, Getenv: g.getenv})
}

// registers is a runtime that sees to its registration itself, because others may
// have written it.
type registers interface {
	InspectRegistration(ctx context.Context) health.Result
	Register(ctx context.Context) error
}
