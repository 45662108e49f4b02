// Package forward owns the listeners through which dashboards inside sandboxes
// are opened. A port is bound first and announced then; what a connection leads to
// is its user's business.
package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"syscall"
	"time"

	"creel/internal/advisory"
	"creel/internal/host"
)

// The ports that are tried when none is asked for.
const (
	FirstPort = 18789
	LastPort  = 18799
)

// MaxConnections is how many connections one forward carries at a time; more are
// closed at once.
const MaxConnections = 200

// acceptPause is the wait after a connection could not be accepted.
const acceptPause = 50 * time.Millisecond

// Wanted says where a listener should be.
type Wanted struct {
	Bind string // address; "" is 127.0.0.1
	// Port is the wanted port. With Explicit only it will do; else it is tried
	// first, then Last, then FirstPort to LastPort, then any.
	Port     int
	Explicit bool
	Last     int // the port it had before; 0 without one
}

// Dial connects to what a forward leads to, for the connection that came from
// outside. It neither reads from that nor writes to it.
type Dial func(ctx context.Context, outside net.Conn) (net.Conn, error)

// Forward is a bound listener.
type Forward struct {
	listener *net.TCPListener
	dial     Dial
	log      *slog.Logger
	ctx      context.Context
	cancel   context.CancelFunc
	places   chan struct{}
	work     sync.WaitGroup
}

// Listen binds and serves until Close. A taken explicit port is an
// *advisory.Problem "dashboard-port-taken" that names the holder if it may be seen.
func Listen(ctx context.Context, w Wanted, dial Dial, log *slog.Logger) (*Forward, error) {
	l, err := bind(ctx, w)
	if err != nil {
		return nil, err
	}
	f := &Forward{listener: l.(*net.TCPListener), dial: dial, log: log, places: make(chan struct{}, MaxConnections)}
	f.ctx, f.cancel = context.WithCancel(context.WithoutCancel(ctx))
	f.work.Add(1)
	go f.accept()
	return f, nil
}

// Port is where it listens.
func (f *Forward) Port() int { return f.listener.Addr().(*net.TCPAddr).Port }

// Close gives the port back, ends the connections and returns when they have
// ended.
func (f *Forward) Close() error {
	f.cancel()
	err := f.listener.Close()
	f.work.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// candidates lists the ports to try, in order, each once. 0 is any.
func candidates(w Wanted) []int {
	if w.Explicit && w.Port > 0 {
		return []int{w.Port}
	}
	var list []int
	seen := map[int]bool{}
	add := func(p int) {
		if p > 0 && p <= 65535 && !seen[p] {
			seen[p] = true
			list = append(list, p)
		}
	}
	add(w.Last)
	add(w.Port)
	for p := FirstPort; p <= LastPort; p++ {
		add(p)
	}
	return append(list, 0)
}

func bind(ctx context.Context, w Wanted) (net.Listener, error) {
	if w.Bind == "" {
		w.Bind = "127.0.0.1"
	}
	var last error
	for _, port := range candidates(w) {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(w.Bind, strconv.Itoa(port)))
		if err == nil {
			return l, nil
		}
		last = err
		if !errors.Is(err, syscall.EADDRINUSE) && !errors.Is(err, syscall.EACCES) {
			break
		}
	}
	if w.Explicit && errors.Is(last, syscall.EADDRINUSE) {
		holder := "another process"
		if h, ok := host.PortHolder(w.Port); ok {
			holder = h.String()
		}
		return nil, advisory.New("dashboard-port-taken", fmt.Sprintf("port %d is taken by %s", w.Port, holder), last)
	}
	return nil, fmt.Errorf("listen for dashboard: %w", last)
}

func (f *Forward) accept() {
	defer f.work.Done()
	for {
		c, err := f.listener.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors, for one: the next connection may do
			f.log.Warn("accept dashboard connection", slog.Any("error", err))
			pause := time.NewTimer(acceptPause)
			select {
			case <-pause.C:
				continue
			case <-f.ctx.Done():
				pause.Stop()
				return
			}
		}
		select {
		case f.places <- struct{}{}:
		default:
			_ = c.Close()
			continue
		}
		f.work.Add(1)
		go func() {
			defer f.work.Done()
			defer func() { <-f.places }()
			f.serve(c)
		}()
	}
}

func (f *Forward) serve(outside *net.TCPConn) {
	defer outside.Close()
	inside, err := f.dial(f.ctx, outside)
	if err != nil {
		_ = outside.SetLinger(0) // a reset says "nobody there"; an orderly end would look like an empty answer
		f.log.Debug("reach dashboard", slog.Any("error", err))
		return
	}
	Join(f.ctx, outside, inside)
}

// Join carries bytes both ways between two connections, passes the end of either
// direction on, and returns with both closed when both directions have ended,
// either failed, or ctx is done.
func Join(ctx context.Context, a, b net.Conn) {
	stop := context.AfterFunc(ctx, func() {
		_ = a.Close()
		_ = b.Close()
	})
	defer stop()
	var both sync.WaitGroup
	carry := func(to, from net.Conn) {
		if _, err := io.Copy(to, from); err != nil {
			_ = to.Close()
			_ = from.Close()
			return
		}
		if half, can := to.(interface{ CloseWrite() error }); !can || half.CloseWrite() != nil {
			_ = to.Close()
			_ = from.Close()
		}
	}
	both.Go(func() { carry(a, b) })
	both.Go(func() { carry(b, a) })
	both.Wait()
	_ = a.Close()
	_ = b.Close()
}
