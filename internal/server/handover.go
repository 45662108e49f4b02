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

	"creel/internal/budget"
	"creel/internal/handover"
	"creel/internal/server/token"
	"creel/internal/socket"
)

// concurrentOffers is how many connections are taken at a time; others wait.
const concurrentOffers = 32

// acceptPause is the wait after a connection could not be accepted.
const acceptPause = 50 * time.Millisecond

// takeConnections takes what supervisors hand over, until ctx ends. It closes l and
// returns when nothing of it goes on.
func (d *daemon) takeConnections(ctx context.Context, l *net.UnixListener) {
	var offers sync.WaitGroup
	defer offers.Wait()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	places := make(chan struct{}, concurrentOffers)
	for {
		u, err := l.AcceptUnix()
		if err != nil {
			pause := time.NewTimer(acceptPause)
			select {
			case <-ctx.Done():
				pause.Stop()
				return
			case <-pause.C: // out of descriptors, for one: the next may do
				d.log.Warn("accept connection of a supervisor", slog.Any("error", err))
			}
			continue
		}
		places <- struct{}{} // each is bounded by a deadline
		offers.Go(func() {
			defer func() { <-places }()
			defer func() { _ = u.Close() }()
			defer context.AfterFunc(ctx, func() { _ = u.Close() })()
			if err := d.takeConnection(u); err != nil {
				d.log.Debug("take connection into a sandbox", slog.Any("error", err))
			}
		})
	}
}

// takeConnection takes one, and says what came of it.
func (d *daemon) takeConnection(u *net.UnixConn) error {
	if err := u.SetDeadline(time.Now().Add(budget.Of(budget.Probe))); err != nil {
		return err
	}
	if uid, _, err := socket.Peer(u); err != nil || uid != uint32(os.Geteuid()) && uid != 0 {
		return errors.Join(fmt.Errorf("user %d may not hand over connections", uid), err)
	}
	o, tcp, err := handover.Receive(u)
	if err != nil {
		return errors.Join(err, handover.Answer(u, err))
	}
	id, err := token.Verify(d.cfg.Material, d.cfg.Gateway.Name, o.Token.Reveal(), d.cfg.Now())
	if err == nil {
		err = d.hub.Take(id, o.Channel, tcp)
	}
	if err != nil {
		return errors.Join(err, tcp.Close(), handover.Answer(u, err))
	}
	return handover.Answer(u, nil)
}
