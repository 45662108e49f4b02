// Package kube is the runtime of a gateway that runs as a StatefulSet of a
// Kubernetes cluster which Creel did not make. It judges the set's rollout and the
// gateway in its pod, repairs the bootstrap secrets that the pod waits for, and
// keeps a port-forward through which this machine reaches the gateway. It scales
// nothing and deletes no pod: the set is its owner's.
package kube

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"

	"creel/internal/advisory"
	"creel/internal/bundle"
	"creel/internal/bundle/kubestore"
	"creel/internal/gateway"
	"creel/internal/gateway/client"
	"creel/internal/gateway/launch"
	"creel/internal/host"
	"creel/internal/kubeapi"
	"creel/internal/registration"
	"creel/internal/state"
)

// defaultName is what OpenShell calls its namespace and its StatefulSet.
const defaultName = "openshell"

// DefaultPort of the port-forward is tried first when nobody asked for a port.
const DefaultPort = 8080

// bind is the address of the port-forward: this machine only.
const bind = "127.0.0.1"

// Config is one gateway in a cluster.
type Config struct {
	Gateway state.Gateway
	// Getenv is the user's environment, of which the port-forward's process gets a
	// chosen few variables; nil is the process's own.
	Getenv func(string) string
	// Kubeconfig, Context and InCluster say how the cluster is reached, as
	// kubeapi.Options do.
	Kubeconfig, Context string
	InCluster           bool
	// Namespace and StatefulSet are "openshell" when empty.
	Namespace, StatefulSet string
	// Endpoint is the URL of a service that this machine reaches by itself, in place
	// of a port-forward; empty for none.
	Endpoint string
	// Port of the port-forward; 0 is the recorded one, else DefaultPort or the next
	// free one. With PortExplicit no other is taken.
	Port         int
	PortExplicit bool
	// Self is the executable that is run as the port-forward.
	Self func() (string, error)
	// Repaired is called when Start has written bootstrap secrets, so that clients of
	// this machine get the new ones; belonged says whether a client certificate was of
	// the gateway before. nil is fine.
	Repaired func(ctx context.Context, belonged func(certificate []byte) bool) error
}

// Runtime implements gateway.Runtime.
type Runtime struct {
	cfg  Config
	open func() (*cluster, error)
	// lookup is host.Lookup.
	lookup func(pid int) (host.Process, error)
}

var (
	_ gateway.Remote    = (*Runtime)(nil)
	_ gateway.Restarter = (*Runtime)(nil)
)

// New makes the runtime of one gateway. It does no I/O.
func New(cfg Config) *Runtime {
	if cfg.Getenv == nil {
		cfg.Getenv = os.Getenv
	}
	cfg.Namespace, cfg.StatefulSet = cmp.Or(cfg.Namespace, defaultName), cmp.Or(cfg.StatefulSet, defaultName)
	r := &Runtime{cfg: cfg, lookup: host.Lookup}
	r.open = sync.OnceValues(r.connect)
	return r
}

// Name is "kubernetes".
func (r *Runtime) Name() string { return "kubernetes" }

// cluster is how the gateway's namespace is asked.
type cluster struct {
	api   *kubeapi.Client
	store *kubestore.Store
	set   string
}

func (r *Runtime) options() kubeapi.Options {
	return kubeapi.Options{Kubeconfig: r.cfg.Kubeconfig, Context: r.cfg.Context, InCluster: r.cfg.InCluster, Namespace: r.cfg.Namespace}
}

func (r *Runtime) connect() (*cluster, error) {
	api, err := kubeapi.Open(r.options())
	if err != nil {
		return nil, err
	}
	return r.with(api)
}

func (r *Runtime) with(api *kubeapi.Client) (*cluster, error) {
	store, err := kubestore.New(api, r.cfg.StatefulSet, r.cfg.Gateway.Name)
	if err != nil {
		return nil, err
	}
	if e, declared := r.declared(); declared {
		store.Covering(e.Host) // by this name clients verify it
	}
	return &cluster{api: api, store: store, set: r.cfg.StatefulSet}, nil
}

// Secrets is where the gateway's pod gets them from.
func (r *Runtime) Secrets() bundle.Target {
	c, err := r.open()
	if err != nil {
		return unreachable{err}
	}
	return c.store
}

// unreachable is a target of which nothing can be known.
type unreachable struct{ err error }

func (u unreachable) Requirements(context.Context) (bundle.Requirements, error) {
	return bundle.Requirements{}, u.err
}

func (u unreachable) Load(context.Context, bundle.Requirements) (bundle.Snapshot, error) {
	return bundle.Snapshot{}, u.err
}

func (u unreachable) Apply(context.Context, []bundle.Secret, bundle.Snapshot) error { return u.err }

func (u unreachable) Roll(context.Context, []string) (bool, error) { return false, u.err }

// declared is the service that takes a port-forward's place.
func (r *Runtime) declared() (gateway.Endpoint, bool) {
	if r.cfg.Endpoint == "" {
		return gateway.Endpoint{}, false
	}
	host, port, _, err := registration.ParseEndpoint(r.cfg.Endpoint)
	return gateway.Endpoint{Host: host, Port: port}, err == nil
}

// Endpoint is the service that was declared, or else where the port-forward is, or
// last was.
func (r *Runtime) Endpoint() gateway.Endpoint {
	if e, declared := r.declared(); declared {
		return e
	}
	if m, err := readMarker(r.cfg.Gateway); err == nil {
		return m.endpoint()
	}
	e, _ := launch.ReadEndpoint(r.cfg.Gateway)
	return e
}

// Dial connects with the client certificate that is in the cluster, and refuses a
// version whose sandbox API is another.
func (r *Runtime) Dial(ctx context.Context) (gateway.Client, error) {
	endpoint, declared := r.declared()
	if !declared {
		f := r.lookForward()
		if !f.serves() {
			return nil, advisory.New(f.reason, f.message, nil)
		}
		endpoint = f.marker.endpoint()
	}
	want, snapshot, err := bundle.Survey(ctx, r.Secrets())
	if err != nil {
		return nil, fmt.Errorf("read bootstrap secrets: %w", err)
	}
	access, err := accessTo(snapshot, want, endpoint)
	if err != nil {
		return nil, err
	}
	return client.DialOpenShell(ctx, endpoint, access)
}

// accessTo is how to get into the gateway with what is in its secrets. Through a
// port-forward it is verified under the name that every set of secrets covers.
func accessTo(s bundle.Snapshot, want bundle.Requirements, e gateway.Endpoint) (gateway.Access, error) {
	unusable := func(err error) (gateway.Access, error) {
		return gateway.Access{}, advisory.New("secrets-unusable", "open the client's bootstrap secret", err)
	}
	files, err := bundle.OpenClient(s, want)
	if err != nil {
		return unusable(err)
	}
	pair, err := tls.X509KeyPair(files.Cert, files.Key)
	if err != nil {
		return unusable(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(files.CA) {
		return unusable(errors.New("the authority's certificate does not parse"))
	}
	name := e.Host
	if name == bind {
		name = bundle.LocalName
	}
	return gateway.Access{TLS: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, Certificates: []tls.Certificate{pair}, ServerName: name}}, nil
}
