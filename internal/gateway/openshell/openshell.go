// Package openshell runs a gateway as a host process of somebody else's program,
// openshell-gateway: it finds the program, launches and judges it, and stops it.
// That program holds no lock of ours, so a process is only believed to be the
// gateway by its pid together with the time at which it began, and is never
// signalled on less.
package openshell

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
const DefaultPort = 8080

// bind is the address that the gateway listens on: this machine only.
const bind = "127.0.0.1"

// Config is one gateway to run.
type Config struct {
	Gateway state.Gateway
	// Getenv is the user's environment; nil is the process's own.
	Getenv func(string) string
	// Port is the wanted port; 0 is the recorded one, else DefaultPort or the next
	// free one. With PortExplicit no other is taken.
	Port         int
	PortExplicit bool
	// Plaintext: without TLS, because somebody asked for that.
	Plaintext bool
	// AfterStep is called after each step of an upgrade; nil is fine.
	AfterStep func(name string)
}

// Runtime implements gateway.Runtime.
type Runtime struct{ cfg Config }

var _ gateway.Runtime = (*Runtime)(nil)

// New makes the runtime of one gateway. It does no I/O.
func New(cfg Config) *Runtime {
	if cfg.Getenv == nil {
		cfg.Getenv = os.Getenv
	}
	return &Runtime{cfg}
}

// Name is "openshell".
func (r *Runtime) Name() string { return runtimeName }

// Secrets is the directory store of this gateway.
func (r *Runtime) Secrets() bundle.Target { return dirstore.New(r.cfg.Gateway).Target() }

// Endpoint is where the gateway serves, or else where it last did.
func (r *Runtime) Endpoint() gateway.Endpoint {
	if m, err := readMarker(r.cfg.Gateway); err == nil {
		return m.endpoint()
	}
	e, _ := launch.ReadEndpoint(r.cfg.Gateway)
	e.Plaintext = r.cfg.Plaintext
	return e
}

// Dial connects with the client certificate to a process that lives, and refuses a
// version whose sandbox API is another. Where none lives it says so as Observe would.
func (r *Runtime) Dial(ctx context.Context) (gateway.Client, error) {
	var c evidence.Chain
	m, _ := r.askProcess(&c)
	if c.Broken() {
		return nil, advisory.New(c.Reason, fmt.Sprintf("gateway %s cannot be asked: %s", r.cfg.Gateway.Name, c.Message), nil)
	}
	access, err := r.access(ctx, m)
	if err != nil {
		return nil, err
	}
	return client.DialOpenShell(ctx, m.endpoint(), access)
}

// access is how to get into a gateway that was started as its marker says.
func (r *Runtime) access(ctx context.Context, m marker) (gateway.Access, error) {
	if m.Plaintext {
		return gateway.Access{}, nil
	}
	snapshot, err := dirstore.New(r.cfg.Gateway).Load(ctx, dirstore.Requirements())
	if err != nil {
		return gateway.Access{}, fmt.Errorf("load bootstrap secrets: %w", err)
	}
	material, err := bundle.Open(snapshot)
	if err != nil {
		return gateway.Access{}, err
	}
	return gateway.Access{TLS: material.ClientConfig(bundle.LocalName)}, nil
}

// Logs writes the last lines of what the gateway printed.
func (r *Runtime) Logs(ctx context.Context, w io.Writer, lines int, follow bool) error {
	err := launch.ReadLog(ctx, w, r.log(), lines, follow)
	if errors.Is(err, os.ErrNotExist) {
		return advisory.New("gateway-log-missing", fmt.Sprintf("gateway %s has no log", r.cfg.Gateway.Name), nil)
	}
	return err
}

func (r *Runtime) log() string { return r.cfg.Gateway.File(state.ProcessLogFile) }
