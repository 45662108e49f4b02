package embedded

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/bundle"
	"creel/internal/credential"
	"creel/internal/gateway"
	"creel/internal/gateway/launch"
	"creel/internal/gateway/upgrade"
	"creel/internal/host"
	"creel/internal/sandbox"
	"creel/internal/state"
	"creel/internal/version"
)

// ServeConfig is a daemon.
type ServeConfig struct {
	Gateway state.Gateway
	// Driver runs the sandboxes; it is handed to Server.
	Driver sandbox.Driver
	// Port and PortExplicit are wanted when no launcher says otherwise; 0 is the
	// recorded port, else DefaultPort.
	Port         int
	PortExplicit bool
	// Server is the gateway itself. It calls ready once, when it serves, and
	// returns when ctx has ended and everything of it has too.
	Server func(ctx context.Context, in ServerInput, ready func(Ready)) error
	// Foreground also gets the log when nobody launched the daemon; nil means
	// standard error.
	Foreground io.Writer
}

// ServerInput is what a server is started with.
type ServerInput struct {
	Gateway  state.Gateway
	Driver   sandbox.Driver
	Material bundle.Material
	// Certificate is the server certificate as it is on disk at the moment.
	Certificate  func() *tls.Certificate
	Port         int // wanted, never 0
	PortExplicit bool
	Version      string
	BuildID      string
	Log          *slog.Logger
}

// Ready is what a server says when it serves.
type Ready struct {
	InstanceID string
	Host       string
	Port       int
}

// Memory settings of the daemon: it is small and mostly idle, so collecting more
// often costs nothing that anybody notices and keeps it within 40 MiB.
const (
	gcPercent   = 40
	memoryLimit = 28 << 20 // bytes, a soft limit
)

// Serve is the daemon: it takes the daemon lock, loads the bootstrap secrets,
// runs the server, and while that serves keeps the marker. It returns when the
// server has ended, after SIGTERM, SIGINT or the end of ctx. A second signal
// ends it at once.
func Serve(ctx context.Context, cfg ServeConfig) error {
	launch, err := openLauncher()
	logged := false
	if err == nil {
		logged, err = serve(ctx, cfg, launch)
	}
	if err == nil {
		return nil
	}
	told := launch.failed(err)
	(&herald{managed: isManaged(), log: slog.New(slog.DiscardHandler)}).status("%s", credential.Redact(err.Error()))
	if told && logged {
		return &gateway.Told{Err: err}
	}
	return err
}

// serve is Serve; logged says that the log holds the error.
func serve(ctx context.Context, cfg ServeConfig, launch *launcher) (logged bool, err error) {
	if runtime.GOOS != "linux" {
		return false, advisory.New("os-unsupported", "a gateway cannot run on "+runtime.GOOS, nil)
	}
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryLimit)
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
	defer stop()
	defer context.AfterFunc(ctx, stop)() // the next signal has its usual effect

	g := cfg.Gateway
	if err := host.CheckSocketPath(g.Socket()); err != nil {
		return false, err
	}
	lock, err := lockDaemon(ctx, g)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	// Nothing starts from files that an upgrade left half put back.
	build, err := version.Identify()
	if err != nil {
		return false, err
	}
	if err := upgrades(g, nil).Settle(build); err != nil {
		return false, err
	}
	// What writers that were killed left; it is in nobody's way.
	swept := state.SweepGateway(g)
	// A marker that is here now is of a daemon that was killed.
	if err := state.RemoveIfExists(g.Marker()); err != nil {
		return false, host.Explain(err, g.Marker())
	}

	file, err := openLog(g.Log(), logBytes, followStandardStreams(launch != nil))
	if err != nil {
		return false, host.Explain(fmt.Errorf("open log: %w", err), g.Log())
	}
	defer file.Close()
	log := slog.New(slog.NewTextHandler(destination(cfg, file, launch), nil))
	defer func() {
		if err == nil {
			return
		}
		id := "gateway-start-failed"
		if p, ok := advisory.Of(err); ok {
			id = p.ID
		}
		log.Error("gateway ended", "advisory", id, "error", credential.Redact(err.Error()))
		logged = true
	}()

	if swept != nil {
		log.Warn("sweep unfinished files", "error", swept)
	}
	material, err := loadMaterial(ctx, g)
	if err != nil {
		return false, err
	}
	renewed := newCertificate(g, material, log)
	in := ServerInput{Gateway: g, Driver: cfg.Driver, Material: material, Certificate: renewed.current, Version: version.Version(), BuildID: build, Log: log}
	in.Port, in.PortExplicit = wantedPort(cfg, launch)

	log.Info("gateway starts", "gateway", g.Name, "pid", os.Getpid(), "version", in.Version, "build", build)
	ctx, cancel := context.WithCancel(ctx)
	p := &presence{gateway: g, in: in, launch: launch, herald: newHerald(g, material, log), ctx: ctx, cancel: cancel}
	p.herald.status("taking over sandboxes")
	defer p.vouching.Wait()
	defer cancel()
	defer context.AfterFunc(ctx, p.leave)()
	err = cfg.Server(ctx, in, func(r Ready) { p.enter(r) })
	p.leave()
	switch {
	case p.err != nil:
		return false, p.err
	case err != nil:
		return false, err
	case !p.entered && ctx.Err() == nil:
		return false, errors.New("the server ended before it was ready")
	}
	log.Info("gateway ended")
	return false, nil
}

// lockDaemon takes the daemon lock. A daemon that is just ending is waited for.
func lockDaemon(ctx context.Context, g state.Gateway) (*state.Lock, error) {
	ctx, cancel := budget.Context(ctx, budget.Lock, "take the daemon lock")
	defer cancel()
	for {
		lock, err := state.TryLock(g.File(state.DaemonLockFile), "creel gateway serve")
		if err == nil {
			return lock, nil
		}
		var busy *state.Busy
		if !errors.As(err, &busy) {
			return nil, host.Explain(fmt.Errorf("take the daemon lock: %w", err), g.Dir())
		}
		if serves(g) || pause(ctx, nil) != nil {
			return nil, advisory.New(alreadyRunning, fmt.Sprintf("gateway %s runs already", g.Name), busy)
		}
	}
}

// serves reports whether a daemon that lives says that it serves; one that is
// ending has taken its marker away.
func serves(g state.Gateway) bool {
	m, err := readMarker(g)
	if err != nil {
		return false
	}
	alive, err := host.Alive(m.PID, m.ProcessStart)
	return err == nil && alive
}

// wantedPort: the launcher's word or what it left for a service, else the
// configuration's, else the port of last time, else the default.
func wantedPort(cfg ServeConfig, by *launcher) (port int, explicit bool) {
	port, explicit = cfg.Port, cfg.PortExplicit
	if by == nil {
		if with, ok := takeGiven(cfg.Gateway, settings{Port: port, PortExplicit: explicit}); ok {
			port, explicit = with.Port, with.PortExplicit
		}
	} else if by.hello.Port != 0 {
		port, explicit = by.hello.Port, by.hello.PortExplicit
	}
	if port != 0 {
		return port, explicit
	}
	if e, err := launch.ReadEndpoint(cfg.Gateway); err == nil {
		return e.Port, false
	}
	return DefaultPort, false
}

// destination is where the log goes: a launched daemon's only to the file, whose
// tail its launcher reads; a foreground one's to its terminal as well.
func destination(cfg ServeConfig, file io.Writer, launch *launcher) io.Writer {
	if launch != nil {
		return file
	}
	foreground := cfg.Foreground
	if foreground == nil {
		foreground = os.Stderr
	}
	return io.MultiWriter(file, foreground)
}

// presence is what others see of a daemon that serves: the marker, the recorded
// endpoint, the launcher's answer and the service manager's.
type presence struct {
	gateway state.Gateway
	in      ServerInput
	launch  *launcher
	herald  *herald
	ctx     context.Context    // ends when the daemon begins to end
	cancel  context.CancelFunc // ends the server

	vouching sync.WaitGroup

	mu      sync.Mutex
	entered bool
	left    bool
	err     error
}

// enter is called when the server serves.
func (p *presence) enter(r Ready) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left || p.entered {
		return
	}
	p.entered = true
	e := endpoint{Host: r.Host, Port: r.Port}
	start, err := host.ProcessStartTime(os.Getpid())
	if err == nil {
		err = launch.WriteEndpoint(p.gateway, e.Host, e.Port)
	}
	if err == nil {
		// Before anybody can know of it: a later start of another build then knows whose
		// the database is.
		err = upgrade.WriteServed(p.gateway, runtimeName, sideOf(p.gateway.Roots, p.in.Version, p.in.BuildID, settings{Port: r.Port}))
	}
	if err == nil {
		err = writeMarker(p.gateway, marker{Mark: launch.MarkOf(p.gateway.Name, os.Getpid(), start, time.Now().UTC()), InstanceID: r.InstanceID,
			Endpoint: e, Creel: p.in.Version, BuildID: p.in.BuildID})
	}
	if err != nil {
		// It serves, but nobody could find it.
		p.err = host.Explain(fmt.Errorf("record the running gateway: %w", err), p.gateway.Marker())
		p.cancel()
		return
	}
	p.in.Log.Info("gateway is ready", "host", r.Host, "port", r.Port)
	p.launch.ready(r.InstanceID, e)
	p.vouching.Go(func() { p.herald.vouch(p.ctx, e, r.InstanceID) })
}

// leave removes the marker when the daemon begins to end, so that nobody
// mistakes a draining gateway for a hung one.
func (p *presence) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left {
		return
	}
	p.left = true
	p.herald.leaves()
	if err := state.RemoveIfExists(p.gateway.Marker()); err != nil {
		p.in.Log.Warn("marker not removed", "error", err)
	}
}
