// Package k3s looks after a gateway that is a whole cluster inside one container,
// as OpenShell up to 0.0.36 makes them: it judges it, repairs the bootstrap secrets
// that it waits for, starts, restarts and stops its container. It makes and removes
// no such container, and never touches one that it cannot see.
package k3s

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"creel/internal/bundle"
	"creel/internal/gateway"
	"creel/internal/gateway/client"
	"creel/internal/health"
	"creel/internal/host/engine"
	"creel/internal/state"
)

const (
	// DefaultPort is where OpenShell publishes a gateway of which nothing else is
	// known.
	DefaultPort = 8080
	// nodePort is the gateway's port inside the container.
	nodePort = 30051
	// loopback is where the published port is asked.
	loopback = "127.0.0.1"
)

// Engine is what is asked of a container engine; *engine.Engine does it.
type Engine interface {
	Container(ctx context.Context, name string) (engine.Container, error)
	Start(ctx context.Context, name string) error
	Stop(ctx context.Context, name string, grace time.Duration) error
	Exited(ctx context.Context, id string) (code int, err error)
	Logs(ctx context.Context, name string, o engine.LogOptions, w io.Writer) error
	// Program is the command line tool that works the engine, for a person.
	Program() string
}

// Cluster is what is asked of the cluster in the container; *execstore.Store does
// it.
type Cluster interface {
	bundle.Target
	// HealthCheck asks the container's own script. The error says why not OK.
	HealthCheck(ctx context.Context) (health.Verdict, error)
	// Sandboxes lists by name what runs in the cluster besides the gateway.
	Sandboxes(ctx context.Context) ([]string, error)
}

// Config is one gateway.
type Config struct {
	Gateway   state.Gateway
	Container string // its name
	Engine    Engine
	Cluster   Cluster
	// Port is the wanted one, and used where the container publishes none; 0 is
	// DefaultPort.
	Port int
	// Getenv is the user's environment; nil is the process's own.
	Getenv func(string) string
}

// Runtime implements gateway.Runtime.
type Runtime struct {
	cfg Config

	mu   sync.Mutex
	said map[string]string // by OpenShell's own program, of its version
}

var (
	_ gateway.Mender  = (*Runtime)(nil)
	_ gateway.Housing = (*Runtime)(nil)
)

// New makes the runtime of one gateway. It does no I/O.
func New(cfg Config) *Runtime {
	if cfg.Getenv == nil {
		cfg.Getenv = os.Getenv
	}
	return &Runtime{cfg: cfg, said: map[string]string{}}
}

// Name is "k3s".
func (r *Runtime) Name() string { return "k3s" }

// Secrets is what the cluster in the container holds.
func (r *Runtime) Secrets() bundle.Target { return r.cfg.Cluster }

// Endpoint is what the container publishes, or else where the gateway was last
// ready.
func (r *Runtime) Endpoint() gateway.Endpoint {
	box, there, _ := r.look(context.Background())
	if there == unseen || there == missing {
		if m, err := readMarker(r.cfg.Gateway); err == nil {
			return m.endpoint()
		}
		return gateway.Endpoint{}
	}
	return r.endpoint(box)
}

// endpoint is where a container's gateway is reached.
func (r *Runtime) endpoint(box engine.Container) gateway.Endpoint {
	e := gateway.Endpoint{Host: loopback, Port: DefaultPort}
	if r.cfg.Port != 0 {
		e.Port = r.cfg.Port
	}
	for _, p := range box.Ports {
		if p.Inside != nodePort {
			continue
		}
		e.Port = p.Port
		if p.Host != "" {
			e.Host = p.Host
		}
		break
	}
	return e
}

// Dial connects with the client certificate, and refuses a version whose sandbox
// API is another.
func (r *Runtime) Dial(ctx context.Context) (gateway.Client, error) {
	box, there, err := r.look(ctx)
	switch there {
	case stopped, held:
		return nil, r.notRunning("reach gateway "+r.cfg.Gateway.Name, box)
	case unseen, missing:
		e, k := r.registered()
		if k == nil {
			return nil, fmt.Errorf("reach gateway %s: %w", r.cfg.Gateway.Name, r.whyNot(there, err))
		}
		return client.DialOpenShell(ctx, e, k.access)
	}
	k, fault := r.keys(ctx, box)
	if k == nil {
		return nil, fault.problem("reach gateway " + r.cfg.Gateway.Name)
	}
	return client.DialOpenShell(ctx, r.endpoint(box), k.access)
}
