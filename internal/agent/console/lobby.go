package console

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// How many connections may be open that have not shown a token. One address can
// take only so many.
const (
	maxStrangers       = 128
	maxStrangersOfPeer = 32
)

// Where no place is left a newcomer gets that of somebody who came before and has
// not shown a token yet. One address's newcomers do so one after the other, pace
// apart: so each has its place for as long as pace times the places of an address,
// which is enough to show a token, however fast others come again. Who would have
// to wait longer than longestQueue is refused.
const (
	pace         = 10 * time.Millisecond
	longestQueue = 6 * time.Second
)

// lobby is where connections are that have not shown a token.
type lobby struct {
	mu    sync.Mutex
	total int
	of    map[netip.Prefix]*party
}

// party are the strangers of one address, the oldest first.
type party struct {
	strangers []*stranger
	waiting   int
	next      time.Time // when the next one may take somebody's place
}

// stranger is one connection in the lobby.
type stranger struct {
	in    *lobby
	key   netip.Prefix
	drop  func()
	wrong bool // it has shown a wrong token
}

// enter takes a place, waiting for its turn where none is left; nil when there is
// none to be had. drop is called when somebody else gets the place.
func (l *lobby) enter(ctx context.Context, peer netip.Addr, drop func()) *stranger {
	s := &stranger{in: l, key: networkOf(peer), drop: drop}
	l.mu.Lock()
	p := l.partyOf(s.key)
	p.waiting++
	var turn time.Duration
	if l.full(p) {
		now := time.Now()
		if p.next.Before(now) {
			p.next = now
		}
		turn = p.next.Sub(now)
		if turn <= longestQueue {
			p.next = p.next.Add(pace)
		}
	}
	l.mu.Unlock()
	admitted := turn <= longestQueue && await(ctx, turn)
	l.mu.Lock()
	p.waiting--
	var out *stranger
	if admitted {
		if l.full(p) {
			out = l.leastDeserving(p)
			l.remove(out)
		}
		p.strangers = append(p.strangers, s)
		l.total++
	}
	l.forget(s.key)
	l.mu.Unlock()
	if out != nil {
		out.drop()
	}
	if !admitted {
		return nil
	}
	return s
}

// leave gives the place back.
func (s *stranger) leave() {
	s.in.mu.Lock()
	defer s.in.mu.Unlock()
	s.in.remove(s)
}

// fail notes a wrong token: the place is the next to be given to somebody else.
func (s *stranger) fail() {
	s.in.mu.Lock()
	defer s.in.mu.Unlock()
	s.wrong = true
}

func (l *lobby) partyOf(key netip.Prefix) *party {
	if l.of == nil {
		l.of = map[netip.Prefix]*party{}
	}
	p := l.of[key]
	if p == nil {
		p = &party{}
		l.of[key] = p
	}
	return p
}

func (l *lobby) full(p *party) bool {
	return l.total >= maxStrangers || len(p.strangers) >= maxStrangersOfPeer
}

// leastDeserving is whose place a newcomer of p gets: of the same address when that
// has its share, else of the address that has most. Who has shown a wrong token is
// first, then who came first.
func (l *lobby) leastDeserving(p *party) *stranger {
	if len(p.strangers) < maxStrangersOfPeer {
		for _, other := range l.of {
			if len(other.strangers) > len(p.strangers) {
				p = other
			}
		}
	}
	if i := slices.IndexFunc(p.strangers, func(s *stranger) bool { return s.wrong }); i >= 0 {
		return p.strangers[i]
	}
	return p.strangers[0]
}

// remove does nothing for who has no place any more.
func (l *lobby) remove(s *stranger) {
	p := l.of[s.key]
	if p == nil {
		return
	}
	if i := slices.Index(p.strangers, s); i >= 0 {
		p.strangers = slices.Delete(p.strangers, i, i+1)
		l.total--
	}
	l.forget(s.key)
}

// forget keeps no record of an address that has nobody here.
func (l *lobby) forget(key netip.Prefix) {
	if p := l.of[key]; p != nil && len(p.strangers) == 0 && p.waiting == 0 {
		delete(l.of, key)
	}
}

// await returns after a while, false when ctx ends before.
func await(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
