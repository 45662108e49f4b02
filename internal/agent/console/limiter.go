package console

import (
	"sync"
	"time"
)

// Wrong tokens are answered at once until there were failureBurst of them; each
// failureRefill gives one back. The rate is that of a `creel status --watch`,
// which asks with a wrong token on purpose, so that watching never fills it up.
const (
	failureBurst   = 20
	failureRefill  = time.Second
	failurePenalty = 2 * time.Second
)

// limiter slows the answers to wrong tokens down. The right token is never
// delayed: every connection comes out of the sandbox's own loopback, so a limit
// that hit all of a remote's attempts would let anybody lock the user out, and
// guessing 256 random bits is hopeless at any rate. What is limited is what
// guessing costs the sandbox.
type limiter struct {
	mu       sync.Mutex
	failures float64
	at       time.Time
}

// penalty counts one wrong token at now and returns how long its answer waits.
func (l *limiter) penalty(now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if passed := now.Sub(l.at); passed > 0 {
		l.failures = max(0, l.failures-passed.Seconds()/failureRefill.Seconds())
		l.at = now
	}
	if l.failures+1 > failureBurst {
		return failurePenalty
	}
	l.failures++
	return 0
}
