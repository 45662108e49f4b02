package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"sync"
	"syscall"
	"time"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/gateway/launch"
	"creel/internal/host"
	"creel/internal/state"
	"creel/internal/version"
)

// Memory settings of the port-forward: it only copies.
const (
	gcPercent   = 40
	memoryLimit = 24 << 20 // bytes, a soft limit
)

// Serve is the port-forward, in the foreground, until SIGTERM, SIGINT or the end of
// ctx. It holds the lock for life, listens first, and then follows the gateway's pod:
// when that moves, connections to where it was end and new ones lead to where it is.
func (r *Runtime) Serve(ctx context.Context) (err error) {
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryLimit)
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
	defer stop()
	defer context.AfterFunc(ctx, stop)() // the next signal has its usual effect

	g := r.cfg.Gateway
	if _, declared := r.declared(); declared {
		return advisory.New("gateway-forward-failed", fmt.Sprintf("gateway %s is reached at %s, without a port-forward", g.Name, r.cfg.Endpoint), nil)
	}
	lock, err := r.lockForward(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	if err := state.RemoveIfExists(g.File(state.PortForwardFile)); err != nil { // of one that was killed
		return host.Explain(err, g.Dir())
	}
	start, err := host.ProcessStartTime(os.Getpid())
	if err != nil {
		return err
	}
	k, err := r.open()
	if err != nil {
		return err
	}
	listener, err := r.listen(ctx)
	if err != nil {
		return err
	}
	defer listener.Close()
	port := listener.Addr().(*net.TCPAddr).Port
	if err := launch.WriteEndpoint(g, bind, port); err != nil {
		return host.Explain(fmt.Errorf("record the port: %w", err), g.Dir())
	}
	s := &server{runtime: r, log: slog.New(slog.NewTextHandler(os.Stderr, nil)), changed: make(chan struct{}),
		marker: marker{Mark: launch.MarkOf(g.Name, os.Getpid(), start, time.Now().UTC().Truncate(time.Second)),
			Port: port, BuildID: version.BuildID(), Place: k.place(), Link: link{Problem: notYet}}}
	if err := writeMarker(g, s.marker); err != nil {
		return host.Explain(fmt.Errorf("record the port-forward: %w", err), g.Dir())
	}
	defer func() { err = errors.Join(err, state.RemoveIfExists(g.File(state.PortForwardFile))) }()
	s.log.Info("port-forward listens", "port", port, "pid", os.Getpid())
	ctx, s.abandon = context.WithCancel(ctx)
	defer s.abandon()
	defer s.connections.Wait()
	defer context.AfterFunc(ctx, func() { _ = listener.Close() })()
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		s.follow(ctx)
	}()
	s.accept(ctx, listener)
	<-followed
	s.log.Info("port-forward ends")
	return nil
}

// notYet is the problem of a port-forward that has just begun.
const notYet = "the gateway's pod was not looked for yet"

// lockForward takes the lock. One that is just ending is waited for.
func (r *Runtime) lockForward(ctx context.Context) (*state.Lock, error) {
	g := r.cfg.Gateway
	ctx, cancel := budget.Context(ctx, budget.Lock, "take the port-forward's lock")
	defer cancel()
	tick := time.NewTicker(askAgain)
	defer tick.Stop()
	for {
		lock, err := state.TryLock(g.File(state.PortForwardLock), "creel gateway forward")
		var busy *state.Busy
		if err == nil || !errors.As(err, &busy) {
			return lock, host.Explain(err, g.Dir())
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, advisory.New("gateway-forward-failed", "another port-forward of gateway "+g.Name+" runs", busy)
		}
	}
}

// ports is how many are tried when none was asked for.
const ports = 50

// listen takes the wanted port, else the one of last time, else the next free one.
func (r *Runtime) listen(ctx context.Context) (*net.TCPListener, error) {
	first := DefaultPort
	if last, err := launch.ReadEndpoint(r.cfg.Gateway); err == nil {
		first = last.Port
	}
	if r.cfg.Port != 0 {
		first = r.cfg.Port
	}
	var problem error
	for port := first; port < first+ports && port <= 65535; port++ {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(bind, strconv.Itoa(port)))
		switch {
		case err == nil:
			return l.(*net.TCPListener), nil
		case !errors.Is(err, syscall.EADDRINUSE):
			return nil, host.Explain(fmt.Errorf("listen: %w", err), strconv.Itoa(port))
		case r.cfg.PortExplicit:
			by := ""
			if u, ok := host.PortHolder(port); ok {
				by = " by " + u.String()
			}
			return nil, advisory.New("port-in-use", fmt.Sprintf("port %d of the port-forward is in use%s", port, by), err)
		}
		problem = err
	}
	return nil, advisory.New("port-in-use", fmt.Sprintf("no port from %d on is free", first), problem)
}

// mostConnections bounds what one process keeps open; a gateway's clients have a few.
const mostConnections = 256

// server is a running port-forward.
type server struct {
	runtime     *Runtime
	log         *slog.Logger
	abandon     context.CancelFunc // ends it
	connections sync.WaitGroup

	mu      sync.Mutex
	marker  marker
	target  *target       // where connections lead; nil when there is nowhere
	changed chan struct{} // closed when target becomes another one
	open    int
	said    map[string]time.Time // complaints, and when they were last written
}

// target is a pod that connections lead to, until ctx ends.
type target struct {
	ctx     context.Context
	cluster *cluster
	pod     string
	port    int
}

// accept serves connections until the listener is closed.
func (s *server) accept(ctx context.Context, l *net.TCPListener) {
	for {
		conn, err := l.AcceptTCP()
		if err != nil {
			if ctx.Err() == nil {
				// Out of descriptors, mostly: others that end give some back.
				s.complain("accept a connection", err)
				if !pause(ctx, time.Second) {
					return
				}
				continue
			}
			return
		}
		s.mu.Lock()
		full := s.open >= mostConnections
		if !full {
			s.open++
		}
		s.mu.Unlock()
		if full {
			_ = conn.Close()
			continue
		}
		s.connections.Go(func() {
			s.serve(ctx, conn)
			s.mu.Lock()
			s.open--
			s.mu.Unlock()
		})
	}
}

// patience is how long a connection waits for a pod that is moving.
const patience = 2 * time.Second

// serve leads one connection to the pod, through a tunnel of its own: the frames of
// several in one have no flow control between them, so that one whose client does not
// read would stop the others.
func (s *server) serve(ctx context.Context, conn *net.TCPConn) {
	t := s.wait(ctx)
	if t == nil {
		_ = conn.Close()
		return
	}
	way, err := t.cluster.api.Forward(t.ctx, t.pod)
	if err != nil {
		_ = conn.Close()
		s.complain("forward a connection", err)
		return
	}
	defer way.Close()
	var local *net.OpError // a client that went away, which is its business
	if err := join(t.ctx, conn, way, t.port); err != nil && !errors.As(err, &local) && t.ctx.Err() == nil {
		s.complain("a connection broke", err)
	}
}

// wait returns where to lead a connection to, nil when that is not known soon.
func (s *server) wait(ctx context.Context) *target {
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		s.mu.Lock()
		t, changed := s.target, s.changed
		s.mu.Unlock()
		if t != nil {
			return t
		}
		select {
		case <-changed:
		case <-late.C:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// lead makes connections lead to a target, nil for nowhere, and records that.
func (s *server) lead(t *target, l link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t != s.target {
		s.target = t
		close(s.changed)
		s.changed = make(chan struct{})
	}
	if l == s.marker.Link {
		return
	}
	if l.Pod != "" {
		s.log.Info("leads to a pod", "pod", l.Pod, "uid", l.PodUID, "port", l.PodPort)
	} else {
		s.log.Warn("leads nowhere", "problem", l.Problem)
	}
	s.marker.Link = l
	if err := writeMarker(s.runtime.cfg.Gateway, s.marker); err != nil {
		s.log.Warn("the marker was not written", "error", err)
	}
}

// complain logs an error, but not the same one again within a minute: what polls
// must not fill the disk.
func (s *server) complain(operation string, err error) {
	const most = 100
	text := operation + ": " + err.Error()
	now := time.Now()
	s.mu.Lock()
	last, before := s.said[text]
	again := before && now.Sub(last) < time.Minute
	if !again {
		if s.said == nil || len(s.said) >= most {
			s.said = map[string]time.Time{}
		}
		s.said[text] = now
	}
	s.mu.Unlock()
	if !again {
		s.log.Warn(operation, "error", err)
	}
}

// pause waits; false means that ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
