package forward

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// MaxConnections is how many connections one forward carries at a time. One more
// is reset at once, and counted. Share is how many of them one address has where
// places are shared.
const (
	MaxConnections = 512
	Share          = MaxConnections / 4
)

// Where places are shared and all are taken, a newcomer gets that of a connection
// that has carried nothing for idleLong, or idleMute when its client never said
// anything: that of an open page is neither, because it hears something more often.
const (
	idleLong = 30 * time.Second
	idleMute = time.Second
)

// place is one connection's.
type place struct {
	conn   *net.TCPConn
	of     netip.Prefix // whose share it counts in; zero for nobody's
	ctx    context.Context
	cancel context.CancelFunc
}

// end resets the connection.
func (p *place) end() {
	p.cancel()
	reset(p.conn)
}

// places are the connections that a forward carries.
type places struct {
	shared  bool
	trusted []netip.Prefix

	mu   sync.Mutex
	all  map[*place]struct{}
	from map[netip.Prefix]int
}

func newPlaces(w Wanted) *places {
	return &places{shared: w.Shared, trusted: w.Trusted, all: map[*place]struct{}{}, from: map[netip.Prefix]int{}}
}

func (p *places) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.all)
}

// take gives a connection of a sharer a place, nil when there is none for it. ended
// is one that lost its place to it and is to be ended.
func (p *places) take(ctx context.Context, c *net.TCPConn, of netip.Prefix) (mine, ended *place) {
	mine = &place{conn: c, of: of}
	p.mu.Lock()
	defer p.mu.Unlock()
	if mine.of.IsValid() && p.from[mine.of] >= Share {
		return nil, nil
	}
	if len(p.all) >= MaxConnections {
		if ended = p.idlest(); ended == nil {
			return nil, nil
		}
		p.remove(ended)
	}
	mine.ctx, mine.cancel = context.WithCancel(ctx)
	p.all[mine] = struct{}{}
	p.from[mine.of]++
	return mine, ended
}

// give gives a place back.
func (p *places) give(mine *place) {
	mine.cancel()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.remove(mine)
}

// remove does nothing for what has lost its place already.
func (p *places) remove(one *place) {
	if _, has := p.all[one]; !has {
		return
	}
	delete(p.all, one)
	if p.from[one.of]--; p.from[one.of] == 0 {
		delete(p.from, one.of)
	}
}

// sharer is whom a connection counts for: an address, or a network of 64 bits that
// an IPv6 host has to itself. Clients on this machine cannot be told apart, and a
// trusted proxy's are many: they have no share.
func (p *places) sharer(remote net.Addr) netip.Prefix {
	tcp, is := remote.(*net.TCPAddr)
	if !p.shared || !is {
		return netip.Prefix{}
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	if ip.IsLoopback() || slices.ContainsFunc(p.trusted, func(n netip.Prefix) bool { return n.Contains(ip) }) {
		return netip.Prefix{}
	}
	bits := ip.BitLen()
	if ip.Is6() {
		bits = 64
	}
	network, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return network
}

// idlest is the connection that has carried nothing for longest and long enough;
// nil where there is none or that cannot be seen. The kernel is asked for each,
// which takes less than a millisecond for all.
func (p *places) idlest() (found *place) {
	if !p.shared {
		return nil
	}
	var longest time.Duration
	for one := range p.all {
		idle, mute, known := idleFor(one.conn)
		enough := idle >= idleLong || mute && idle >= idleMute
		if known && enough && idle > longest {
			found, longest = one, idle
		}
	}
	return found
}
