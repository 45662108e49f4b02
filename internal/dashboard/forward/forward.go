// Package forward owns the listeners through which programs inside sandboxes are
// reached, dashboards among them. A port is bound first and announced then; what a
// connection leads to is its user's business.
package forward

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// window is how many bytes the kernel takes from one end of a connection that the
// other does not read; it counts them double.
const window = 1 << 20

// acceptPause is the wait after a connection could not be accepted.
const acceptPause = 50 * time.Millisecond

// Dial connects to what a forward leads to, for the connection that came from
// outside. It neither reads from that nor writes to it.
type Dial func(ctx context.Context, outside net.Conn) (net.Conn, error)

// Forward is a bound listener.
type Forward struct {
	listener *net.TCPListener
	taken    *Taken
	dial     Dial
	log      *slog.Logger
	ctx      context.Context
	cancel   context.CancelFunc
	places   *places
	refused  atomic.Uint64
	work     sync.WaitGroup
}

// Listen binds and serves until Close. A taken explicit port is a *Taken.
func Listen(ctx context.Context, w Wanted, dial Dial, log *slog.Logger) (*Forward, error) {
	l, taken, err := bind(ctx, w)
	if err != nil {
		return nil, err
	}
	f := &Forward{listener: l, taken: taken, dial: dial, log: log, places: newPlaces(w)}
	f.ctx, f.cancel = context.WithCancel(context.WithoutCancel(ctx))
	f.work.Add(1)
	go f.accept()
	return f, nil
}

// Port is where it listens.
func (f *Forward) Port() int { return f.listener.Addr().(*net.TCPAddr).Port }

// Taken is the port that it would rather have and who had it when this one was
// bound; nil when it has the one that was tried first.
func (f *Forward) Taken() *Taken { return f.taken }

// Connections tells how many are carried now and how many were refused or ended so
// far because there were too many.
func (f *Forward) Connections() (open int, refused uint64) { return f.places.count(), f.refused.Load() }

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

func (f *Forward) accept() {
	defer f.work.Done()
	full := false
	for {
		c, err := f.listener.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors, for one: the next connection may do
			f.log.Warn("accept forwarded connection", slog.Int("port", f.Port()), slog.Any("error", err))
			pause := time.NewTimer(acceptPause)
			select {
			case <-pause.C:
				continue
			case <-f.ctx.Done():
				pause.Stop()
				return
			}
		}
		mine, ended := f.places.take(f.ctx, c, f.places.sharer(c.RemoteAddr()))
		if ended != nil || mine == nil {
			f.refused.Add(1)
			if !full { // once, not once a connection
				full = true
				f.log.Warn("a forward has no place for more connections", slog.Int("port", f.Port()), slog.Int("connections", f.places.count()),
					slog.String("from", c.RemoteAddr().String()))
			}
		} else {
			full = false
		}
		if ended != nil {
			ended.end()
		}
		if mine == nil {
			reset(c)
			continue
		}
		f.work.Add(1)
		go func() {
			defer f.work.Done()
			defer f.places.give(mine)
			f.serve(mine.ctx, c)
		}()
	}
}

func (f *Forward) serve(ctx context.Context, outside *net.TCPConn) {
	inside, err := f.dial(ctx, outside)
	if err != nil {
		reset(outside)
		f.log.Debug("reach into sandbox", slog.Int("port", f.Port()), slog.Any("error", err))
		return
	}
	for _, c := range []net.Conn{outside, inside} {
		if tcp, is := c.(interface{ SetReadBuffer(int) error }); is {
			_ = tcp.SetReadBuffer(window) // else the kernel's own choice, which is larger
		}
	}
	Join(ctx, outside, inside)
}

// reset says "nobody there"; an orderly end would look like an empty answer.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}
