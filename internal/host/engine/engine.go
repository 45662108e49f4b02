// Package engine reaches the container engine of this machine, Docker or Podman
// through its compatible API: how a container is and what it wrote, starting and
// stopping it, and running a program inside it. It makes and removes none. It is
// the only package that knows the engine's client, and nothing of what a
// container is for.
package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"creel/internal/advisory"
	"creel/internal/budget"
)

// Options say where an engine may be.
type Options struct {
	// Host is what a flag says, in the form of DOCKER_HOST; empty to look around.
	Host string
	// Getenv is the environment of the session.
	Getenv func(string) string
	// UID is the effective user's, for the sockets of engines without root.
	UID int
}

// Engine is a container engine that is looked for when it is first needed, and
// again after it was gone. All methods may be called from several goroutines,
// and none goes on after its context has ended.
type Engine struct {
	getenv func(string) string
	places []Place

	mu   sync.Mutex
	conn *connection // nil until an engine has answered
}

type connection struct {
	client *client.Client
	place  Place
}

// New touches nothing.
func New(o Options) *Engine { return &Engine{getenv: o.Getenv, places: Places(o)} }

// Close lets go of idle connections. The engine can be used again.
func (e *Engine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.drop()
}

func (e *Engine) drop() (err error) {
	if e.conn != nil {
		err = e.conn.client.Close()
		e.conn = nil
	}
	return err
}

// Place says which engine answers.
func (e *Engine) Place(ctx context.Context) (Place, error) {
	c, err := e.connect(ctx)
	if err != nil {
		return Place{}, err
	}
	return c.place, nil
}

// Program is the command line tool that works the engine, for the commands that a
// person is told: "docker", or "podman" where that is what answers.
func (e *Engine) Program() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.conn == nil {
		return "docker"
	}
	return e.conn.place.program()
}

// connect asks the places one after the other and keeps the first that answers.
// Where somebody named a place no other is asked: the same container name may
// mean something else there.
func (e *Engine) connect(ctx context.Context) (*connection, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.conn != nil {
		return e.conn, nil
	}
	var failed []error
	for _, p := range e.places {
		there, err := p.exists()
		if err == nil && !there {
			continue
		}
		var c *client.Client
		if err == nil {
			c, err = p.dial(ctx, e.getenv)
		}
		if err == nil {
			e.conn = &connection{c, p}
			return e.conn, nil
		}
		failed = append(failed, fmt.Errorf("%s: %w", p, err))
		if ctx.Err() != nil {
			break
		}
	}
	if len(failed) > 0 {
		return nil, advisory.New("engine-unreachable", "reach the container engine", errors.Join(failed...))
	}
	return nil, missing(e.places)
}

// dial makes sure that an engine answers, and agrees with it on a version of the
// API.
func (p Place) dial(ctx context.Context, getenv func(string) string) (*client.Client, error) {
	ctx, cancel := budget.Context(ctx, budget.Probe, "ask the container engine")
	defer cancel()
	opts := []client.Opt{client.WithHost(p.Host), client.WithUserAgent("creel")}
	if dir := getenv("DOCKER_CERT_PATH"); dir != "" && !p.local() {
		opts = append(opts, client.WithTLSClientConfig(dir+"/ca.pem", dir+"/cert.pem", dir+"/key.pem"))
	}
	c, err := client.New(opts...)
	if err != nil {
		return nil, err
	}
	answer, err := c.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true})
	if err == nil && answer.APIVersion == "" {
		err = errors.New("what answers is no container engine")
	}
	if err != nil {
		_ = c.Close()
		return nil, cause(ctx, err)
	}
	return c, nil
}

// cause prefers why a context ended to what its end looked like.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// State is what is known about a container.
type State string

// The states. Unknown is not among them: it is an error.
const (
	Missing    State = "missing"     // the engine positively knows no such container
	Running    State = "running"     // programs can be run inside
	NotRunning State = "not running" // it exists; Container.Status says how
)

// Container is a container as the engine sees it.
type Container struct {
	Name   string
	ID     string
	State  State
	Status string // the engine's word: "running", "paused", "exited", "created", "restarting", "removing", "dead"
	Image  string // as it was asked for when the container was made
	// ExitCode is the main program's when it has ended, and OutOfMemory that the
	// kernel ended it for want of memory.
	ExitCode    int
	OutOfMemory bool
	StartedAt   time.Time // of the last start; zero when it was never started
	// Ports are those of the container that the machine publishes: for a running
	// one as they are, for another as they will be.
	Ports []Port
	// Terminal: it writes to one, so that its outputs cannot be told apart.
	Terminal bool
}

// Port is a TCP port of a container that is published.
type Port struct {
	Inside int
	Host   string // the machine's address; empty is all of them
	Port   int
}

// Container says whether a container of exactly that name exists and runs. An
// error is always unknown, never missing.
func (e *Engine) Container(ctx context.Context, name string) (Container, error) {
	c, err := e.connect(ctx)
	if err != nil {
		return Container{}, err
	}
	return e.container(ctx, c, name)
}

func (e *Engine) container(ctx context.Context, c *connection, name string) (Container, error) {
	answer, err := c.client.ContainerInspect(ctx, name, client.ContainerInspectOptions{})
	if errdefs.IsNotFound(err) && noSuchContainer(err) {
		return Container{Name: name, State: Missing}, nil
	}
	if err != nil {
		return Container{}, e.failed(ctx, "inspect container "+name, err)
	}
	found := answer.Container
	// An engine also finds a container by the beginning of its id.
	if strings.TrimPrefix(found.Name, "/") != name {
		return Container{Name: name, State: Missing}, nil
	}
	if found.State == nil || found.State.Status == "" {
		return Container{}, advisory.New("engine-unreachable", "inspect container "+name+": the engine does not say its state", nil)
	}
	state := Container{Name: name, ID: found.ID, State: NotRunning, Status: string(found.State.Status),
		ExitCode: found.State.ExitCode, OutOfMemory: found.State.OOMKilled, Ports: published(found)}
	if began, err := time.Parse(time.RFC3339Nano, found.State.StartedAt); err == nil && began.Year() > 1 {
		state.StartedAt = began.UTC()
	}
	if found.Config != nil {
		state.Image, state.Terminal = found.Config.Image, found.Config.Tty
	}
	if state.Status == "running" {
		state.State = Running
	}
	return state, nil
}

// published lists what is published, or else, as for a container that does not run,
// what was asked for when it was made.
func published(c container.InspectResponse) []Port {
	var actual, wanted network.PortMap
	if c.NetworkSettings != nil {
		actual = c.NetworkSettings.Ports
	}
	if c.HostConfig != nil {
		wanted = c.HostConfig.PortBindings
	}
	if found := ports(actual); len(found) > 0 {
		return found
	}
	return ports(wanted)
}

func ports(m network.PortMap) []Port {
	var found []Port
	for inside, bindings := range m {
		for _, b := range bindings {
			n, err := strconv.ParseUint(b.HostPort, 10, 16)
			if err != nil || n == 0 || inside.Proto() != network.TCP {
				continue
			}
			p := Port{Inside: int(inside.Num()), Port: int(n)}
			if b.HostIP.IsValid() && !b.HostIP.IsUnspecified() {
				p.Host = b.HostIP.String()
			}
			found = append(found, p)
		}
	}
	slices.SortFunc(found, func(a, b Port) int {
		return cmp.Or(cmp.Compare(a.Inside, b.Inside), cmp.Compare(a.Host, b.Host), cmp.Compare(a.Port, b.Port))
	})
	return found
}

// noSuchContainer tells the engine's "not found" about a container from that of
// something in between which does not know the API.
func noSuchContainer(err error) bool {
	return strings.Contains(strings.ToLower(err.Error()), "no such container")
}

// failed gives an error of the engine its advisory, and forgets a connection
// that does not work any more.
func (e *Engine) failed(ctx context.Context, operation string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", operation, context.Cause(ctx))
	}
	if client.IsErrConnectionFailed(err) || errors.Is(err, io.EOF) {
		e.mu.Lock()
		_ = e.drop()
		e.mu.Unlock()
	}
	return advisory.New("engine-unreachable", operation, err)
}
