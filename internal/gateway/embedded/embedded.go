// Package embedded runs a gateway as a daemon of this very executable: it
// launches, observes and stops it from the command line's side (Runtime), and is
// the frame around the server on the daemon's side (Serve). It decides nothing
// by a pid file: a held lock says that a daemon lives, and only an identified
// process is ever signalled.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"creel/internal/advisory"
	"creel/internal/bundle"
	"creel/internal/bundle/dirstore"
	"creel/internal/gateway"
	"creel/internal/gateway/client"
	"creel/internal/gateway/evidence"
	"creel/internal/gateway/launch"
	"creel/internal/state"
)

// DefaultPort is tried first when nobody asked for a port.
const DefaultPort = 17670

// Config is one gateway to run.
type Config struct {
	Gateway state.Gateway
	// Getenv is the environment that a started daemon gets a chosen few variables
	// of; nil is the process's own.
	Getenv func(string) string
	// Port is the wanted port; 0 is the recorded one, else DefaultPort. With
	// PortExplicit no other is taken when it is in use.
	Port         int
	PortExplicit bool
	// Usable reports why no daemon could work with what is on disk, with an
	// advisory; an error without one says that it could not be found out. It is
	// asked while no daemon runs, and writes nothing. nil asks nothing.
	Usable func(context.Context) error
	// AfterStep is called after each step of an upgrade; nil is fine.
	AfterStep func(name string)
	// Keeper is the service manager that may run the daemon; nil is none.
	Keeper Keeper
}

// Runtime implements gateway.Runtime.
type Runtime struct{ cfg Config }

var _ gateway.Runtime = (*Runtime)(nil)

// New makes the runtime of one gateway. It does no I/O.
func New(cfg Config) *Runtime {
	if cfg.Getenv == nil {
		cfg.Getenv = os.Getenv
	}
	return &Runtime{cfg: cfg}
}

// Name is "embedded".
func (r *Runtime) Name() string { return runtimeName }

// Secrets is the directory store of this gateway.
func (r *Runtime) Secrets() bundle.Target { return dirstore.New(r.cfg.Gateway).Target() }

// Endpoint is where the gateway serves, or else where it last did.
func (r *Runtime) Endpoint() gateway.Endpoint {
	if m, err := readMarker(r.cfg.Gateway); err == nil {
		return m.Endpoint.domain()
	}
	e, _ := launch.ReadEndpoint(r.cfg.Gateway)
	return e
}

// Logs writes the last lines of the daemon's log, over its rotated files. With
// follow it goes on until ctx ends, over every later rotation; the end of ctx is
// no error.
func (r *Runtime) Logs(ctx context.Context, w io.Writer, lines int, follow bool) error {
	err := launch.ReadLog(ctx, w, r.cfg.Gateway.Log(), lines, follow)
	if errors.Is(err, os.ErrNotExist) {
		return advisory.New("gateway-log-missing", fmt.Sprintf("gateway %s has no log", r.cfg.Gateway.Name), nil)
	}
	return err
}

// Dial connects with the client certificate to a daemon that lives; where none does it
// says so as Observe would.
func (r *Runtime) Dial(ctx context.Context) (gateway.Client, error) {
	var c evidence.Chain
	m, _, absent := r.askProcess(&c)
	switch problem := r.unusable(ctx, absent); {
	case problem != nil:
		return nil, advisory.New(c.Reason, fmt.Sprintf("gateway %s cannot be asked: %s, and none can start: %s", r.cfg.Gateway.Name, c.Message, problem), nil, problem.Commands()...)
	case c.Broken():
		return nil, advisory.New(c.Reason, fmt.Sprintf("gateway %s cannot be asked: %s", r.cfg.Gateway.Name, c.Message), nil)
	}
	material, err := loadMaterial(ctx, r.cfg.Gateway)
	if err != nil {
		return nil, err
	}
	return client.Dial(ctx, m.Endpoint.domain(), material.ClientConfig(bundle.LocalName))
}

// loadMaterial reads the bootstrap secrets. A set that is there but unusable is
// for the secrets layer to explain and to mend.
func loadMaterial(ctx context.Context, g state.Gateway) (bundle.Material, error) {
	snapshot, err := dirstore.New(g).Load(ctx, dirstore.Requirements())
	if err != nil {
		return bundle.Material{}, fmt.Errorf("load bootstrap secrets: %w", err)
	}
	return bundle.Open(snapshot)
}
