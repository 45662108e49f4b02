package app

import (
	"bytes"
	"context"
	"fmt"

	"creel/internal/advisory"
	"creel/internal/bundle"
	"creel/internal/bundle/kubestore"
	"creel/internal/desired"
	"creel/internal/gateway"
	"creel/internal/gateway/embedded"
	"creel/internal/gateway/kube"
	"creel/internal/registration"
	"creel/internal/state"
)

// kubernetes is the runtime of a gateway in a cluster.
func (g *graph) kubernetes(paths state.Gateway, doc desired.Document) *kube.Runtime {
	var r *kube.Runtime
	c := doc.Cluster
	r = kube.New(kube.Config{Gateway: paths, Getenv: g.getenv, Kubeconfig: c.Kubeconfig, Context: c.Context, InCluster: c.InCluster,
		Namespace: c.Namespace, StatefulSet: c.StatefulSet, Endpoint: doc.Gateway.Endpoint, Port: doc.Gateway.Port, PortExplicit: doc.Gateway.Port != 0,
		Self:     func() (string, error) { return embedded.Self(paths.Roots) },
		Repaired: func(ctx context.Context, belonged func([]byte) bool) error { return attach(ctx, paths, r, belonged) },
	})
	return r
}

// forward is the port-forward to a gateway in a cluster.
func (g *graph) forward(ctx context.Context, name string) error {
	if _, err := g.findRoots(); err != nil {
		return err
	}
	r, err := g.runtime(name)
	if err != nil {
		return err
	}
	k, ok := r.(*kube.Runtime)
	if !ok {
		return advisory.New("runtime-changed", fmt.Sprintf("gateway %s is of runtime %s and needs no port-forward", name, r.Name()), nil, "creel gateway status")
	}
	return k.Serve(ctx)
}

// attach gives OpenShell clients that know the gateway the client files that open it
// now. belonged says whether a certificate was of the gateway before. A gateway that
// they do not know is registered by its layer.
func attach(ctx context.Context, paths state.Gateway, r gateway.Runtime, belonged func([]byte) bool) error {
	files, err := clientFiles(ctx, r)
	if err != nil {
		return err
	}
	what, err := registration.Attach(paths, files, belonged, false)
	if what != registration.OfThisMachine || err != nil {
		return err
	}
	return registrar(paths, r).Write(ctx) // Creel wrote it, for this very gateway
}

// registeredByOthers reports a registration that Creel did not write and that opens a
// gateway which runs elsewhere all the same: whoever installed it may have registered
// it.
func registeredByOthers(paths state.Gateway, r gateway.Runtime, found registration.Report, c registration.Credentials) (message string, opens bool) {
	if _, remote := r.(gateway.Remote); !remote || found.State != registration.Foreign {
		return "", false
	}
	e, err := registration.Read(paths)
	if err != nil || !bytes.Equal(e.Credentials.Cert, c.Cert) || !bytes.Equal(e.Credentials.Key, c.Key) {
		return "", false
	}
	return fmt.Sprintf("OpenShell clients know the gateway at %s as somebody else registered it, with the certificate that opens it", found.Endpoint), true
}

// clientFiles is what opens a gateway, from its bootstrap secrets.
func clientFiles(ctx context.Context, r gateway.Runtime) (bundle.ClientFiles, error) {
	want, snapshot, err := bundle.Survey(ctx, r.Secrets())
	if err != nil {
		return bundle.ClientFiles{}, err
	}
	files, err := bundle.OpenClient(snapshot, want)
	if err != nil {
		return files, advisory.New("secrets-unusable", "open bootstrap secrets", err)
	}
	return files, nil
}

// inCluster is what Creel left in a cluster and nothing uses. Where that cannot be
// found out it stays, which is said: a cluster that is gone must not keep a gateway from
// being removed here.
func inCluster(ctx context.Context, r gateway.Runtime) (store *kubestore.Store, left []kubestore.Leftover, stays string) {
	if r.Name() != desired.Kubernetes {
		return nil, nil, ""
	}
	store, ok := r.Secrets().(*kubestore.Store)
	if !ok {
		_, err := r.Secrets().Requirements(ctx)
		return nil, nil, fmt.Sprintf("backups that Creel made in the cluster, if there are any: the cluster cannot be asked: %v", err)
	}
	left, err := store.Leftovers(ctx)
	if err != nil {
		return nil, nil, fmt.Sprintf("what Creel made in the cluster: it is not known: %v", err)
	}
	return store, left, ""
}

// ways are how everything of a gateway on this machine is ended: the gateway, unless
// somebody else runs it, and a port-forward, also when an unreadable desired state
// does not say any more that there is one.
func ways(r gateway.Runtime, paths state.Gateway) []func(context.Context, gateway.Progress) error {
	switch r := r.(type) {
	case gateway.Remote:
		return []func(context.Context, gateway.Progress) error{r.Detach}
	case gateway.Fixed:
		if r.Fixed() {
			return nil
		}
	case gateway.Housing:
		return []func(context.Context, gateway.Progress) error{func(_ context.Context, report gateway.Progress) error {
			report("the gateway goes on: what it runs in, Creel did not make")
			return nil
		}}
	}
	all := []func(context.Context, gateway.Progress) error{func(ctx context.Context, report gateway.Progress) error {
		report("stopping the gateway")
		return r.Stop(ctx, report)
	}}
	if held, _, err := state.Held(paths.File(state.PortForwardLock)); err == nil && held {
		all = append(all, kube.New(kube.Config{Gateway: paths}).Detach)
	}
	return all
}
