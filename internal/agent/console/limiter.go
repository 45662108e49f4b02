package console

import (
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// Wrong tokens are answered at once until there were peerBurst of them from one
// address, or totalBurst from all; each refill gives one back. The rate of one
// address is that of a `creel status --watch`, which asks with a wrong token on
// purpose, so that watching never fills it up.
const (
	peerBurst   = 20
	peerRefill  = time.Second
	totalBurst  = 200
	totalRefill = time.Second / 10

	// Creel's own probes are not worth a line: as many as a few commands one after the
	// other show, and then one each time that a watch looks. Behind a proxy on this
	// machine or a forward everybody seems to come from it, so that more are spoken of.
	probeBurst  = 20
	probeRefill = 2 * time.Second

	failurePenalty = 2 * time.Second

	// maxPeers bounds the addresses that are remembered; who failed longest ago is
	// forgotten first.
	maxPeers = 1024
	// tellEvery is how often wrong tokens of one address are logged.
	tellEvery = time.Minute
)

// bucket fills with failures and leaks.
type bucket struct {
	failures float64
	at       time.Time
}

// overflows counts one failure at now and reports whether there was no place for
// it. A clock that steps back gives nothing away.
func (b *bucket) overflows(now time.Time, burst int, refill time.Duration) bool {
	if passed := now.Sub(b.at); passed > 0 {
		b.failures = max(0, b.failures-float64(passed)/float64(refill))
		b.at = now
	}
	if b.failures+1 > float64(burst) {
		return true
	}
	b.failures++
	return false
}

// culprit is one address with wrong tokens.
type culprit struct {
	bucket
	told   time.Time // when it was logged last
	untold int
}

// limiter slows the answers to wrong tokens down and says when to log them. The
// right token is never delayed and never refused, whoever else fails: guessing 256
// random bits is hopeless at any rate, and a limit that hit the right token would
// let anybody lock the user out. What is limited is what guessing costs the
// sandbox.
type limiter struct {
	mu    sync.Mutex
	all   culprit
	quiet bucket // probes that were not spoken of
	peers map[netip.Prefix]*culprit
}

// wrong counts a wrong token of peer at now. It returns how long its answer is to
// wait, and a line for the log, empty when there is nothing to say yet. Probes are
// counted, and not spoken of as long as they come no faster than Creel's own.
func (l *limiter) wrong(peer netip.Addr, probe bool, now time.Time) (wait time.Duration, line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.culprit(peer, now)
	own := c.overflows(now, peerBurst, peerRefill)
	total := l.all.overflows(now, totalBurst, totalRefill)
	if own || total {
		wait = failurePenalty
	}
	switch {
	case probe && !l.quiet.overflows(now, probeBurst, probeRefill):
		return wait, ""
	case total && !own:
		// So many addresses that a line for each would fill the log.
		return wait, l.all.tell("many addresses", now)
	}
	return wait, c.tell(nameOf(peer), now)
}

// tell is a line for the log now and then, with what has come together.
func (c *culprit) tell(who string, now time.Time) string {
	c.untold++
	if passed := now.Sub(c.told); !c.told.IsZero() && passed >= 0 && passed < tellEvery {
		return ""
	}
	n := c.untold
	c.told, c.untold = now, 0
	if n == 1 {
		return "a wrong token was shown from " + who
	}
	return fmt.Sprintf("%d wrong tokens were shown from %s since this was said last", n, who)
}

func (l *limiter) culprit(peer netip.Addr, now time.Time) *culprit {
	key := networkOf(peer)
	if c := l.peers[key]; c != nil {
		return c
	}
	if l.peers == nil {
		l.peers = map[netip.Prefix]*culprit{}
	}
	if len(l.peers) >= maxPeers {
		var oldest netip.Prefix
		at := now
		for k, c := range l.peers {
			if !c.at.After(at) {
				oldest, at = k, c.at
			}
		}
		delete(l.peers, oldest)
	}
	c := &culprit{}
	l.peers[key] = c
	return c
}

// networkOf is whom an address stands for: an IPv6 host has a whole network of
// 64 bits to itself.
func networkOf(peer netip.Addr) netip.Prefix {
	bits := peer.BitLen()
	if peer.Is6() {
		bits = 64
	}
	network, err := peer.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // nobody known: all of them together
	}
	return network
}

func nameOf(peer netip.Addr) string {
	if !peer.IsValid() {
		return "an unknown address"
	}
	return peer.String()
}
