package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"

	"creel/internal/advisory"
	"creel/internal/credential"
	"creel/internal/host"
	"creel/internal/inference"
	"creel/internal/sandbox"
	"creel/internal/server/relay"
	"creel/internal/server/remote"
	"creel/internal/server/store"
	"creel/internal/state"
)

// reunionTime is how long a starting daemon waits for supervisors that live.
const reunionTime = 1500 * time.Millisecond

// daemon is one running gateway.
type daemon struct {
	cfg      Config
	log      *slog.Logger
	store    *store.Store
	keyring  *credential.Keyring
	hub      *relay.Hub
	runner   *remote.Runner
	instance string
	started  time.Time
	port     int

	ctx  context.Context // ends when the daemon is to stop
	work sync.WaitGroup
	// starts keeps many sandboxes that come up at once from crowding each other.
	starts chan struct{}

	mu      sync.Mutex
	entries map[string]*entry // by sandbox id
	// onDisk are the handles that were there at the start.
	onDisk map[string]sandbox.Handle
	// expected are the sandboxes that were Ready when the last daemon ended.
	expected []*entry

	tunnels  sessionCounter
	policies policies

	checking  sync.Mutex
	lastCheck inference.Check
	checked   string // what lastCheck is about
}

// Usable reports why Run could not work with what is on disk: what openDaemon
// would refuse. It writes nothing.
func Usable(ctx context.Context, g state.Gateway) error {
	if err := store.Check(ctx, g.Database()); err != nil {
		return err
	}
	if err := credential.CheckKeyring(g.File(state.CredentialKeyFile)); err != nil {
		return keyUnusable(g, err)
	}
	return nil
}

func keyUnusable(g state.Gateway, err error) error {
	path := g.File(state.CredentialKeyFile)
	explained := host.Explain(err, path)
	if _, ok := advisory.Of(explained); ok { // a full disk or a missing right says nothing about the key
		return explained
	}
	return advisory.New("credential-key-unusable", "open the key of stored credentials", err).At(path)
}

// openDaemon opens everything on disk.
func openDaemon(ctx context.Context, cfg Config) (*daemon, error) {
	s, err := store.Open(ctx, cfg.Gateway.Database())
	if err != nil {
		return nil, err
	}
	keyring, err := credential.OpenKeyring(cfg.Gateway.File(state.CredentialKeyFile))
	if err != nil {
		return nil, errors.Join(keyUnusable(cfg.Gateway, err), s.Close())
	}
	d := &daemon{cfg: cfg, log: cfg.Log, store: s, keyring: keyring, instance: uuid.NewString(), started: cfg.Now(),
		ctx: ctx, starts: make(chan struct{}, concurrentStarts), entries: map[string]*entry{}, onDisk: map[string]sandbox.Handle{}}
	d.tunnels.open = map[string]int{}
	d.hub = relay.New(relay.Config{Changed: d.sessionChanged})
	d.runner = remote.New(func(ctx context.Context, id string) (net.Conn, error) {
		return d.hub.Open(ctx, id, relay.Target{SSH: true})
	})
	return d, nil
}

// sessionChanged: without a session the kept SSH connection is of no use. With a
// new one it is left alone: it may be over that session already, and one over the
// session before ended with it, which the runner sees.
func (d *daemon) sessionChanged(sandboxID string) {
	if d.hub.Session(sandboxID) == nil {
		d.runner.Drop(sandboxID)
	}
	if e := d.entry(sandboxID); e != nil {
		e.nudge()
	}
}

func (d *daemon) entry(id string) *entry {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.entries[id]
}

func (d *daemon) handleOnDisk(id string) *sandbox.Handle {
	d.mu.Lock()
	defer d.mu.Unlock()
	h, ok := d.onDisk[id]
	if !ok {
		return nil
	}
	return &h
}

// adopt begins to look after a sandbox.
func (d *daemon) adopt(o store.Object[store.Sandbox]) *entry {
	e := newEntry(o.ID, o.Name)
	e.phase, e.message = o.Value.Phase, o.Value.Message
	d.mu.Lock()
	d.entries[o.ID] = e
	d.mu.Unlock()
	return e
}

func (d *daemon) look(e *entry) {
	d.work.Go(func() { d.reconcile(d.ctx, e) })
}

// load takes over what is in the store and on disk, and binds the listeners that
// were bound before: first those whose port is known, so that no other gets it.
func (d *daemon) load(ctx context.Context) error {
	if err := d.buryTombstones(ctx); err != nil {
		return err
	}
	if err := d.adoptHandles(ctx); err != nil {
		return err
	}
	records, err := d.store.Sandboxes.List(ctx, store.Query{All: true})
	if err != nil {
		return err
	}
	if err := d.reseal(ctx, records); err != nil {
		return err
	}
	adopted := make([]*entry, len(records))
	for i, o := range records {
		adopted[i] = d.adopt(o)
		// What was observed before this daemon began says nothing about now.
		switch {
		case o.Value.Deleting:
			adopted[i].phase, adopted[i].message = sandbox.Deleting, ""
		case o.Value.Wanted == sandbox.Running:
			adopted[i].phase, adopted[i].message = sandbox.Starting, "the gateway has just started"
		}
	}
	for _, how := range []zeal{reclaim, maintain} {
		for i, o := range records {
			if len(wishes(o.Value)) > 0 {
				d.keepListeners(ctx, adopted[i], how)
			}
		}
	}
	for i, e := range adopted {
		if records[i].Value.Phase == sandbox.Ready && records[i].Value.Wanted == sandbox.Running && !records[i].Value.Deleting {
			d.expected = append(d.expected, e)
		}
		d.look(e)
	}
	return nil
}

// reunion gives sandboxes that were Ready, and whose supervisors went on without
// a gateway, the moment they need to connect again. Who asks after a restart then
// sees them as they are. It never takes longer than reunionTime.
func (d *daemon) reunion(ctx context.Context) {
	timer := time.NewTimer(reunionTime)
	defer timer.Stop()
	for _, e := range d.expected {
		if h := d.handleOnDisk(e.id); h == nil || !d.cfg.Driver.Observe(ctx, *h).Alive {
			continue
		}
		select {
		case <-e.risen:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
	d.expected = nil
}

// stop ends everything but the listeners and waits for it.
func (d *daemon) stop() {
	d.hub.Close()
	d.runner.Close()
	d.work.Wait()
	d.mu.Lock()
	entries := d.entries
	d.entries = map[string]*entry{}
	d.mu.Unlock()
	for _, e := range entries {
		d.closeListeners(e)
		e.feed.Close()
	}
}

// newTokens makes a sandbox's own two tokens, sealed for the store.
func (d *daemon) newTokens() (dashboard, relayToken []byte, err error) {
	if dashboard, err = d.keyring.Seal(randomToken()); err != nil {
		return nil, nil, err
	}
	relayToken, err = d.keyring.Seal(randomToken())
	return dashboard, relayToken, err
}

// tokens opens a sandbox's own two tokens.
func (d *daemon) tokens(s store.Sandbox) (dashboard, relayToken credential.Secret, err error) {
	if dashboard, err = d.keyring.Open(s.DashboardToken); err != nil {
		return dashboard, relayToken, fmt.Errorf("open dashboard token: %w", err)
	}
	if relayToken, err = d.keyring.Open(s.RelayToken); err != nil {
		return dashboard, relayToken, fmt.Errorf("open relay token: %w", err)
	}
	return dashboard, relayToken, nil
}

func (d *daemon) pid() int { return os.Getpid() }
