package drivertest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"creel/internal/credential"
	"creel/internal/sandbox"
)

// Fake is a driver in memory. It refuses what a real one could not do and passes
// the same exam.
type Fake struct {
	mu      sync.Mutex
	records map[string]*record
	fail    map[string]error
	calls   []string
	nextPID int
}

type record struct {
	handle  sandbox.Handle
	running bool
	pid     int
	secrets Secrets
}

// Secrets are what a sandbox was last started with.
type Secrets struct{ Token, Dashboard, Relay credential.Secret }

var _ sandbox.Driver = (*Fake)(nil)

// NewFake makes a driver without sandboxes.
func NewFake() *Fake {
	return &Fake{records: map[string]*record{}, fail: map[string]error{}, nextPID: 1000}
}

// Name is "process": the fake stands in its place.
func (f *Fake) Name() string { return "process" }

// Fail makes a method ("Prepare", "Start", "Renew", "Stop", "Destroy", "Handles")
// return err until it is called with nil.
func (f *Fake) Fail(method string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		delete(f.fail, method)
		return
	}
	f.fail[method] = err
}

// Die ends a sandbox's supervisor as a crash would.
func (f *Fake) Die(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r := f.records[id]; r != nil {
		r.running, r.pid = false, 0
	}
}

// Calls are the calls so far, each as "Method id".
func (f *Fake) Calls() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// Secrets returns what a sandbox was last started or renewed with.
func (f *Fake) Secrets(id string) (Secrets, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.records[id]
	if r == nil {
		return Secrets{}, false
	}
	return r.secrets, true
}

// enter notes a call; the caller holds the mutex.
func (f *Fake) enter(ctx context.Context, method, id string) error {
	f.calls = append(f.calls, method+" "+id)
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	return f.fail[method]
}

func (f *Fake) find(id string) (*record, error) {
	r := f.records[id]
	if r == nil {
		return nil, fmt.Errorf("sandbox %s was not prepared", id)
	}
	return r, nil
}

// Prepare records a sandbox.
func (f *Fake) Prepare(ctx context.Context, id, name, gateway string, spec sandbox.Spec) (sandbox.Handle, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter(ctx, "Prepare", id); err != nil {
		return sandbox.Handle{}, err
	}
	if id == "" || slices.Contains([]rune(id), '/') || id == "." || id == ".." {
		return sandbox.Handle{}, fmt.Errorf("sandbox id %q is not the name of a directory", id)
	}
	if err := sandbox.CheckName(name); err != nil {
		return sandbox.Handle{}, err
	}
	if r := f.records[id]; r != nil {
		if r.handle.Name != name || r.handle.Gateway != gateway {
			return sandbox.Handle{}, fmt.Errorf("sandbox %s is %q already", id, r.handle.Name)
		}
		r.handle.Spec = spec
		return r.handle, nil
	}
	uid := 600000 + len(f.records)
	h := sandbox.Handle{Version: 1, ID: id, Name: name, Gateway: gateway, CreatedAt: time.Now().UTC(), Driver: f.Name(),
		HostUID: uid, HostGID: uid, Spec: spec}
	f.records[id] = &record{handle: h}
	return h, nil
}

// Start marks a sandbox as running.
func (f *Fake) Start(ctx context.Context, h sandbox.Handle, token, dashboard, relay credential.Secret) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter(ctx, "Start", h.ID); err != nil {
		return err
	}
	r, err := f.find(h.ID)
	if err != nil {
		return err
	}
	if token.Empty() {
		return errors.New("a supervisor needs a token")
	}
	if r.running {
		r.secrets.Token = token
		return nil
	}
	r.running, r.pid, r.secrets = true, f.nextPID, Secrets{token, dashboard, relay}
	f.nextPID++
	return nil
}

// Renew replaces the token.
func (f *Fake) Renew(ctx context.Context, h sandbox.Handle, token credential.Secret) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter(ctx, "Renew", h.ID); err != nil {
		return err
	}
	r, err := f.find(h.ID)
	if err != nil {
		return err
	}
	r.secrets.Token = token
	return nil
}

// NewDashboardToken replaces the dashboard's token.
func (f *Fake) NewDashboardToken(ctx context.Context, h sandbox.Handle, dashboard credential.Secret) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter(ctx, "NewDashboardToken", h.ID); err != nil {
		return err
	}
	if r, err := f.find(h.ID); err == nil {
		r.secrets.Dashboard = dashboard
	}
	return nil
}

// Observe tells whether a sandbox runs.
func (f *Fake) Observe(_ context.Context, h sandbox.Handle) sandbox.Liveness {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.records[h.ID]
	if r == nil {
		return sandbox.Liveness{Known: true, Reason: "not prepared"}
	}
	return sandbox.Liveness{Alive: r.running, Known: true, PID: r.pid, Reason: "in memory"}
}

// Stop marks a sandbox as stopped.
func (f *Fake) Stop(ctx context.Context, h sandbox.Handle) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter(ctx, "Stop", h.ID); err != nil {
		return err
	}
	if r := f.records[h.ID]; r != nil {
		r.running, r.pid = false, 0
	}
	return nil
}

// Destroy forgets a sandbox.
func (f *Fake) Destroy(ctx context.Context, h sandbox.Handle) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter(ctx, "Destroy", h.ID); err != nil {
		return err
	}
	delete(f.records, h.ID)
	return nil
}

// Handles lists the sandboxes by id.
func (f *Fake) Handles(ctx context.Context) ([]sandbox.Handle, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter(ctx, "Handles", ""); err != nil {
		return nil, err
	}
	var out []sandbox.Handle
	for _, id := range slices.Sorted(maps.Keys(f.records)) {
		out = append(out, f.records[id].handle)
	}
	return out, nil
}
