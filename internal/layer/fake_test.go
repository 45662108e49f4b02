package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"creel/internal/advisory"
	"creel/internal/bundle"
	"creel/internal/gateway"
	"creel/internal/health"
	"creel/internal/inference"
	"creel/internal/sandbox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a gateway in memory, its runtime and its client. It refuses what a
// real one refuses and counts what it is asked.
type fake struct {
	exec      func(gateway.Exec) (int, error) // nil: no layer needs it
	mu        sync.Mutex
	observed  gateway.Observation
	store     bundle.Store
	want      bundle.Requirements
	dialErr   error
	err       error // of every call
	boxes     map[string]*gateway.Inspection
	forwards  map[string]gateway.Forward
	specs     map[string]sandbox.Spec
	stored    map[string]inference.Route // providers with their keys
	route     *inference.Route
	check     inference.Check
	after     func(name string) // called in WaitSandbox, e.g. to make the sandbox ready
	calls     []string
	closed    int
	noUpdates bool
	taken     map[int]bool // ports that nobody can have
}

func newFake() *fake {
	return &fake{boxes: map[string]*gateway.Inspection{}, forwards: map[string]gateway.Forward{}, specs: map[string]sandbox.Spec{},
		stored: map[string]inference.Route{}, check: inference.Check{Class: inference.ClassOK, Verdict: health.OK, At: time.Now()}}
}

func (f *fake) note(call string, args ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(args) > 0 {
		call = strings.TrimSpace(call + " " + fmt.Sprintln(args...))
	}
	f.calls = append(f.calls, call)
	return f.err
}

func (f *fake) did(call string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Contains(f.calls, call)
}

func (f *fake) forget() { f.calls = nil }

// The runtime.

func (f *fake) Name() string                                { return "fake" }
func (f *fake) Observe(context.Context) gateway.Observation { return f.observed }
func (f *fake) Start(_ context.Context, report gateway.Progress) error {
	report("starting")
	f.observed = gateway.Observation{Verdict: health.OK, Endpoint: gateway.Endpoint{Host: "127.0.0.1", Port: 1}}
	return f.note("start-gateway")
}
func (f *fake) Stop(context.Context, gateway.Progress) error {
	f.observed = gateway.Observation{Verdict: health.Failed, Absent: true, Reason: "gateway-not-running"}
	return f.note("stop-gateway")
}
func (f *fake) Secrets() bundle.Target                           { return bundle.Fixed{Store: f.store, Want: f.want} }
func (f *fake) Endpoint() gateway.Endpoint                       { return f.observed.Endpoint }
func (f *fake) Logs(context.Context, io.Writer, int, bool) error { return errors.New("not needed") }
func (f *fake) Dial(context.Context) (gateway.Client, error) {
	f.mu.Lock()
	f.calls = append(f.calls, "dial")
	f.mu.Unlock()
	if f.dialErr != nil {
		return nil, f.dialErr
	}
	if f.noUpdates {
		return plainClient{client{f}}, nil
	}
	return client{f}, nil
}

// plainClient is a client that cannot change a sandbox in place.
type plainClient struct{ gateway.Client }

type client struct{ *fake }

func (c client) Close() error { c.closed++; return nil }
func (c client) Identity(context.Context) (gateway.Identity, error) {
	return gateway.Identity{}, c.note("identity")
}

func (c client) CreateSandbox(_ context.Context, name string, spec sandbox.Spec) (gateway.Inspection, error) {
	if err := c.note("create", name); err != nil {
		return gateway.Inspection{}, err
	}
	if _, there := c.boxes[name]; there {
		return gateway.Inspection{}, fmt.Errorf("create %s: %w", name, gateway.ErrAlreadyExists)
	}
	c.boxes[name] = &gateway.Inspection{Name: name, Agent: spec.Agent, Phase: sandbox.Provisioning, Wanted: sandbox.Running, Labels: spec.Labels, PolicyDeclared: spec.PolicyHash}
	c.specs[name] = spec
	return *c.boxes[name], nil
}

func (c client) box(name string) (*gateway.Inspection, error) {
	b, there := c.boxes[name]
	if !there {
		return nil, fmt.Errorf("sandbox %s: %w", name, gateway.ErrNotFound)
	}
	return b, nil
}

func (c client) WaitSandbox(_ context.Context, name string, report gateway.Progress) (gateway.Inspection, error) {
	if err := c.note("wait", name); err != nil {
		return gateway.Inspection{}, err
	}
	b, err := c.box(name)
	if err != nil {
		return gateway.Inspection{}, err
	}
	report(string(b.Phase))
	if c.after != nil {
		c.after(name)
	} else {
		ready(b, c.specs[name])
	}
	return *b, nil
}

// ready makes a sandbox what it should be.
func ready(b *gateway.Inspection, spec sandbox.Spec) {
	b.Phase, b.Connected = sandbox.Ready, true
	b.State.Main = sandbox.MainProcess{State: sandbox.ProcRunning, PID: 7, Since: time.Now().Add(-time.Hour)}
	b.State.Confinement.Tier = sandbox.TierNamespaces
	b.State.PolicyApplied, b.State.PolicyEnforced = spec.PolicyHash, spec.PolicyHash
}

func (c client) StartSandbox(_ context.Context, name string) error {
	if err := c.note("start", name); err != nil {
		return err
	}
	b, err := c.box(name)
	if err == nil {
		b.Wanted, b.Phase = sandbox.Running, sandbox.Starting
	}
	return err
}

func (c client) StopSandbox(_ context.Context, name string) error {
	if err := c.note("stop", name); err != nil {
		return err
	}
	b, err := c.box(name)
	if err == nil {
		b.Wanted, b.Phase = sandbox.NotRunning, sandbox.Stopped
	}
	return err
}

func (c client) DeleteSandbox(context.Context, string) (bool, error) {
	panic("no layer deletes a sandbox")
}

func (c client) UpdateSandbox(_ context.Context, name string, spec sandbox.Spec) error {
	if err := c.note("update", name); err != nil {
		return err
	}
	b, err := c.box(name)
	if err != nil {
		return err
	}
	c.specs[name] = spec
	b.Labels, b.Agent, b.PolicyDeclared = spec.Labels, spec.Agent, spec.PolicyHash
	c.listen(name, spec)
	return nil
}

func (c client) UpdateForwards(_ context.Context, name string, spec sandbox.Spec) (gateway.Inspection, error) {
	if err := c.note("update-forwards", name); err != nil {
		return gateway.Inspection{}, err
	}
	b, err := c.box(name)
	if err != nil {
		return gateway.Inspection{}, err
	}
	s := c.specs[name]
	s.Dashboard.Access = spec.Dashboard.Access
	c.specs[name] = s
	c.listen(name, spec)
	in := *b
	in.Dashboard = c.forwards[name]
	return in, nil
}

// listen binds what spec wants, but for ports that are taken.
func (c client) listen(name string, spec sandbox.Spec) {
	f := c.forwards[name]
	if d := spec.Dashboard; d.TargetPort != 0 {
		f.Stopped, f.Bound, f.Bind = d.Stopped, !d.Stopped, d.Bind
		if f.Error, f.Reason = "", ""; d.PortExplicit {
			f.Port, f.WantedPort = d.Port, d.Port
		}
		c.forwards[name] = f
	}
	b := c.boxes[name]
	b.Forwards = nil
	for _, w := range spec.Forwards {
		have := gateway.Forward{Sandbox: name, Bind: w.Bind, Port: w.Port, WantedPort: w.Port, TargetPort: w.TargetPort, Bound: true}
		if w.Port == 0 {
			have.Port = 40000 + w.TargetPort
		}
		if c.taken[w.Port] {
			have.Bound, have.Reason, have.Error = false, "forward-port-taken", fmt.Sprintf("port %d is taken by x (pid 1)", w.Port)
		}
		b.Forwards = append(b.Forwards, have)
	}
}

func (c client) RotateDashboardToken(context.Context, string) (bool, error) {
	panic("no layer rotates a token")
}

func (c client) Inspect(_ context.Context, probe bool, names ...string) ([]gateway.Inspection, error) {
	if err := c.note("inspect", names, probe); err != nil {
		return nil, err
	}
	var all []gateway.Inspection
	for name, b := range c.boxes {
		if len(names) == 0 || slices.Contains(names, name) {
			all = append(all, *b)
		}
	}
	return all, nil
}

func (c client) Dashboard(_ context.Context, name string, token bool) (gateway.Dashboard, error) {
	if err := c.note("dashboard", name, token); err != nil {
		return gateway.Dashboard{}, err
	}
	if _, err := c.box(name); err != nil {
		return gateway.Dashboard{}, err
	}
	d := c.specs[name].Dashboard
	return gateway.Dashboard{Forward: c.forwards[name], WebSocket: d.WebSocket, Access: d.Access}, nil
}

func (c client) Exec(_ context.Context, e gateway.Exec) (int, error) {
	if c.exec == nil {
		return 0, errors.New("not needed")
	}
	return c.exec(e)
}
func (c client) Logs(context.Context, string, int, bool, func(gateway.LogLine)) error {
	return errors.New("not needed")
}

func (c client) SetProvider(_ context.Context, r inference.Route) error {
	if err := c.note("set-provider", r.Provider); err != nil {
		return err
	}
	c.stored[r.Provider] = r
	return nil
}

func (c client) SetRoute(_ context.Context, provider, model string) error {
	if err := c.note("set-route", provider, model); err != nil {
		return err
	}
	if provider == "" {
		c.route = nil
		return nil
	}
	r, there := c.stored[provider]
	if !there {
		return advisory.New("provider-missing", "provider "+provider+" is not stored", gateway.ErrNotFound)
	}
	r.Model = model
	c.route = &r
	return nil
}

func (c client) Route(context.Context) (inference.Route, bool, error) {
	if err := c.note("route"); err != nil || c.route == nil {
		return inference.Route{}, false, err
	}
	return *c.route, true, nil
}

func (c client) CheckInference(_ context.Context, maxAge time.Duration) (inference.Check, error) {
	return c.check, c.note("check", maxAge > 0)
}
