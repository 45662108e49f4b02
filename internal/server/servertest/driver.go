package servertest

import (
	"context"
	"sync"

	"creel/internal/credential"
	"creel/internal/sandbox"
	"creel/internal/sandbox/drivertest"
)

// Driver is the fake driver with a Supervisor for each sandbox that runs.
type Driver struct {
	*drivertest.Fake
	socket string

	mu          sync.Mutex
	supervisors map[string]*Supervisor
	stuck       map[string]bool // by sandbox name: Start never returns by itself
	entered     chan string     // names of sandboxes whose Start got stuck
	// Silent supervisors do not report their state; Main is what others say.
	Silent bool
	Main   string
	// Prefaced: agents started from now on read a preface, as those of this build do.
	Prefaced bool
	// HandsOver is the socket on which supervisors hand connections over; "" has
	// them open streams.
	HandsOver string
}

// NewDriver makes a driver whose supervisors dial the gateway's socket.
func NewDriver(socket string) *Driver {
	return &Driver{Fake: drivertest.NewFake(), socket: socket, supervisors: map[string]*Supervisor{}, stuck: map[string]bool{},
		entered: make(chan string, 64), Main: "running"}
}

// Stick makes the starts of a sandbox hang until their context ends.
func (d *Driver) Stick(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stuck[name] = true
}

// Stuck tells the names of sandboxes whose start hangs.
func (d *Driver) Stuck() <-chan string { return d.entered }

// Start implements sandbox.Driver.
func (d *Driver) Start(ctx context.Context, h sandbox.Handle, token, dashboard, relay credential.Secret) error {
	d.mu.Lock()
	stuck := d.stuck[h.Name]
	d.mu.Unlock()
	if stuck {
		d.entered <- h.Name
		<-ctx.Done()
		return context.Cause(ctx)
	}
	if err := d.Fake.Start(ctx, h, token, dashboard, relay); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.supervisors[h.ID] != nil {
		return nil
	}
	s, err := startSupervisor(d.socket, d.HandsOver, h.ID, token.Reveal(), d.Silent, d.Prefaced, d.Main)
	if err != nil {
		return err
	}
	d.supervisors[h.ID] = s
	return nil
}

// Renew implements sandbox.Driver.
func (d *Driver) Renew(ctx context.Context, h sandbox.Handle, token credential.Secret) error {
	if err := d.Fake.Renew(ctx, h, token); err != nil {
		return err
	}
	if s := d.Supervisor(h.ID); s != nil {
		t := token.Reveal()
		s.token.Store(&t)
	}
	return nil
}

// Stop implements sandbox.Driver.
func (d *Driver) Stop(ctx context.Context, h sandbox.Handle) error {
	if err := d.Fake.Stop(ctx, h); err != nil {
		return err
	}
	d.end(h.ID)
	return nil
}

// Destroy implements sandbox.Driver.
func (d *Driver) Destroy(ctx context.Context, h sandbox.Handle) error {
	if err := d.Fake.Destroy(ctx, h); err != nil {
		return err
	}
	d.end(h.ID)
	return nil
}

// Die ends a sandbox's supervisor as a crash would.
func (d *Driver) Die(id string) {
	d.Fake.Die(id)
	d.end(id)
}

// Supervisor is the one of a running sandbox, nil without one.
func (d *Driver) Supervisor(id string) *Supervisor {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.supervisors[id]
}

func (d *Driver) end(id string) {
	d.mu.Lock()
	s := d.supervisors[id]
	delete(d.supervisors, id)
	d.mu.Unlock()
	if s != nil {
		s.Stop()
	}
}

// Close ends all supervisors.
func (d *Driver) Close() {
	d.mu.Lock()
	all := d.supervisors
	d.supervisors = map[string]*Supervisor{}
	d.mu.Unlock()
	for _, s := range all {
		s.Stop()
	}
}
