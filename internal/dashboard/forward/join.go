package forward

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"creel/internal/budget"
)

// chunk is how much is read at a time where bytes pass through this process.
const chunk = 32 << 10

// Join carries bytes both ways between two connections and returns with both
// closed. The end of one direction is passed on and the other goes on, until it
// ends as well, carries nothing for the budget half-closed, either fails or
// ctx is done. Between two TCP connections bytes go from kernel to kernel. Nothing
// is kept here for an end that does not take it: the other waits.
func Join(ctx context.Context, a, b net.Conn) {
	stop := func() {
		_ = a.Close()
		_ = b.Close()
	}
	defer context.AfterFunc(ctx, stop)()
	there, back := newDirection(b, a), newDirection(a, b)
	ended := make(chan *direction, 2)
	var both sync.WaitGroup
	defer both.Wait()
	defer stop() // before the wait
	for _, d := range []*direction{there, back} {
		both.Go(func() {
			d.err = d.carry()
			ended <- d
		})
	}
	first, last := <-ended, back
	if first == back {
		last = there
	}
	if first.err != nil || first.shut() != nil {
		return
	}
	last.hurry()
	last.await(ended, budget.Of(budget.HalfClosed))
}

// direction is one of the two of a joined connection.
type direction struct {
	to, from net.Conn
	// whole: bytes go from kernel to kernel, and nobody sees how many until the end.
	whole bool
	moved atomic.Int64 // bytes that were seen to go
	err   error
}

func newDirection(to, from net.Conn) *direction {
	_, takes := to.(io.ReaderFrom)
	return &direction{to: to, from: from, whole: takes && from.SetReadDeadline(time.Time{}) == nil}
}

// carry returns nil when nothing more comes.
func (d *direction) carry() error {
	if d.whole {
		_, err := io.Copy(d.to, d.from)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		if err := d.from.SetReadDeadline(time.Time{}); err != nil {
			return err
		}
	}
	buffer := make([]byte, chunk)
	for {
		n, err := d.from.Read(buffer)
		if n > 0 {
			if _, err := d.to.Write(buffer[:n]); err != nil {
				return err
			}
			d.moved.Add(int64(n))
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// shut passes on that nothing more comes.
func (d *direction) shut() error {
	half, can := d.to.(interface{ CloseWrite() error })
	if !can {
		return errors.ErrUnsupported
	}
	return half.CloseWrite()
}

// hurry has the bytes counted from now on. What is on its way arrives.
func (d *direction) hurry() {
	if d.whole {
		_ = d.from.SetReadDeadline(time.Unix(1, 0))
	}
}

// await returns when the direction has ended, or has carried nothing for limit.
func (d *direction) await(ended <-chan *direction, limit time.Duration) {
	look := time.NewTicker(max(limit/8, time.Millisecond))
	defer look.Stop()
	seen, since := int64(-1), time.Now()
	for {
		select {
		case <-ended:
			return
		case <-look.C:
		}
		if now := d.moved.Load(); now != seen {
			seen, since = now, time.Now()
		} else if time.Since(since) >= limit {
			return
		}
	}
}
