package forward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"time"

	"creel/internal/budget"
	"creel/internal/host"
)

// The ports that are tried when none is asked for.
const (
	FirstPort = 18789
	LastPort  = 18799
)

// Wanted says where a listener should be.
type Wanted struct {
	Bind string // IPv4 address; "" is 127.0.0.1
	// Port is the wanted port. With Explicit only it will do; else Last is tried
	// first, then Port, then FirstPort to LastPort, then any.
	Port     int
	Explicit bool
	Last     int // the port it had before; 0 without one
	// Avoid are ports that are not tried unless they are Last or Explicit.
	Avoid []int
	// Shared: no address takes more than its Share of the connections, but those of
	// this machine and of Trusted networks.
	Shared  bool
	Trusted []netip.Prefix
}

// Taken is a port that somebody else listens on.
type Taken struct {
	Port   int
	Holder string // e.g. "nginx (pid 123)"; "another process" when it cannot be seen
	PID    int    // 0 when it cannot be seen
	Other  string // the user whose it is, when that is another than this process's
	Err    error
}

// Error names the port and its holder.
func (t *Taken) Error() string { return fmt.Sprintf("port %d is taken by %s", t.Port, t.Holder) }

// Unwrap is what the system said.
func (t *Taken) Unwrap() error { return t.Err }

func taken(port int, err error) *Taken {
	t := &Taken{Port: port, Holder: "another process", Err: err}
	if h, ok := host.PortHolder(port); ok {
		t.Holder, t.PID = h.Short(), h.PID
		if h.UID != os.Geteuid() {
			t.Other = h.User
		}
	}
	return t
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
	for _, p := range w.Avoid {
		seen[p] = true
	}
	add(w.Port)
	for p := FirstPort; p <= LastPort; p++ {
		add(p)
	}
	return append(list, 0)
}

// bind returns a listener and, when that is not on the first candidate because
// somebody is there, who that is.
func bind(ctx context.Context, w Wanted) (*net.TCPListener, *Taken, error) {
	if w.Bind == "" {
		w.Bind = "127.0.0.1"
	}
	config := net.ListenConfig{KeepAliveConfig: keepAlive(budget.Of(budget.ForwardDead))}
	var instead *Taken
	for i, port := range candidates(w) {
		l, err := config.Listen(ctx, "tcp4", net.JoinHostPort(w.Bind, strconv.Itoa(port)))
		if err == nil {
			return l.(*net.TCPListener), instead, nil
		}
		switch explicit := w.Explicit && w.Port > 0; {
		case errors.Is(err, syscall.EADDRINUSE) && explicit:
			return nil, nil, taken(port, err)
		case errors.Is(err, syscall.EADDRINUSE) && i == 0:
			instead = taken(port, err)
		case errors.Is(err, syscall.EADDRINUSE):
		case errors.Is(err, syscall.EACCES) && explicit:
			return nil, nil, fmt.Errorf("listen on port %d, which needs a privilege: %w", port, err)
		case errors.Is(err, syscall.EACCES): // a low port; another one does too
		case errors.Is(err, syscall.EADDRNOTAVAIL):
			return nil, nil, fmt.Errorf("listen on %s, which is no address of this machine: %w", w.Bind, err)
		default:
			return nil, nil, fmt.Errorf("listen on %s port %d: %w", w.Bind, port, err)
		}
	}
	return nil, nil, fmt.Errorf("listen on %s: no port is free", w.Bind)
}

// probes is how many questions without an answer a silent peer is given.
const probes = 4

// keepAlive finds a silent peer dead within about d. The kernel counts seconds.
func keepAlive(d time.Duration) net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: d / 2, Interval: d / (2 * probes), Count: probes}
}
