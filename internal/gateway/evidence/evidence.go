// Package evidence asks a gateway the chain of questions whose answers together
// mean "healthy": its process, TCP, TLS with the pinned CA and our client
// certificate, the refusal of a caller without certificate, HTTP readiness, Health,
// identity. Which of them a gateway is asked, its runtime says. It knows nothing of
// how a gateway is run, never mutates, and calls nothing healthy that it could not
// ask.
package evidence

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"time"

	"google.golang.org/grpc"

	"creel/internal/budget"
	"creel/internal/gateway"
	"creel/internal/health"
)

// The links of the chain, in the order asked.
const (
	Process  = "process"
	TCP      = "tcp"
	TLS      = "tls"
	Refusal  = "no client certificate"
	HTTP     = "http readiness"
	Health   = "health"
	Identity = "identity"
)

// Chain collects evidence until a link breaks. The zero value is ready.
type Chain struct {
	Verdict  health.Verdict // of the broken link; OK while all held
	Reason   string         // advisory id of the broken link
	Message  string
	Evidence []health.Evidence
	broken   string
}

// Hold records a link that held.
func (c *Chain) Hold(probe, answer string, took time.Duration) {
	c.Evidence = append(c.Evidence, health.Evidence{Probe: probe, Answer: answer, Verdict: health.OK, Took: health.Micros(took)})
}

// Break records the link that did not hold, or could not be asked (verdict
// Unknown). Only the first broken link decides.
func (c *Chain) Break(link, probe string, v health.Verdict, reason, message string, took time.Duration) {
	c.Evidence = append(c.Evidence, health.Evidence{Probe: probe, Answer: message, Verdict: v, Took: health.Micros(took)})
	if c.broken == "" {
		c.broken, c.Verdict, c.Reason, c.Message = link, v, reason, message
	}
}

// Override records that a link which seemed to hold does not: it decides over what
// broke after it.
func (c *Chain) Override(link, probe string, v health.Verdict, reason, message string) {
	c.Evidence = append(c.Evidence, health.Evidence{Probe: probe, Answer: message, Verdict: v})
	c.broken, c.Verdict, c.Reason, c.Message = link, v, reason, message
}

// Join adds what another chain found after this one; its broken link decides unless
// one broke before.
func (c *Chain) Join(other Chain) {
	c.Evidence = append(c.Evidence, other.Evidence...)
	if c.broken == "" {
		c.broken, c.Verdict, c.Reason, c.Message = other.broken, other.Verdict, other.Reason, other.Message
	}
}

// Broken reports whether a link broke.
func (c *Chain) Broken() bool { return c.broken != "" }

// Skip says of links that they were not asked.
func (c *Chain) Skip(links ...string) {
	for _, l := range links {
		c.Evidence = append(c.Evidence, health.NotAsked(l, c.broken+" did not hold"))
	}
}

// Conclude sets the verdict to OK when every link held.
func (c *Chain) Conclude() {
	if !c.Broken() && len(c.Evidence) > 0 {
		c.Verdict = health.OK
	}
}

// Target is what to ask.
type Target struct {
	Endpoint gateway.Endpoint
	// Access is how a caller gets in. Without TLS the gateway is asked in plaintext
	// (h2c).
	Access gateway.Access
	// InstanceID, if not empty, is who must answer. Only gateways of Creel have one.
	InstanceID string
	// Identify is asked in place of Creel's own identity call for a gateway that we
	// did not write: it is given the version that Health told and says who that was.
	// Such a gateway judges strangers call by call, so Refusal is not asked.
	Identify func(version string) (gateway.Identity, Finding)
	// ReadyPath, if not empty, is asked with HTTP GET: 200 and 401 are alive. No
	// gateway process answers it (0.0.37 and later say 404), only what is in front of
	// one in a cluster.
	ReadyPath string
	// Holder names who listens on the endpoint's port, "" if it cannot be seen.
	Holder func() string
}

// Finding is what was found out about one link. For a link that held Message is
// the answer.
type Finding struct {
	Verdict health.Verdict
	Reason  string // advisory id when not OK
	Message string
}

// Links are those that Ask asks of the target, in order.
func (t Target) Links() []string {
	links := []string{TCP}
	if t.Access.TLS != nil {
		links = append(links, TLS)
		if t.Identify == nil {
			links = append(links, Refusal)
		}
	}
	if t.ReadyPath != "" {
		links = append(links, HTTP)
	}
	return append(links, Health, Identity)
}

// Ask adds the links from TCP to identity to the chain and returns the identity
// that answered, zero unless all held. It ends within the probe budget; when
// caller ends before that, the link that was being asked is unknown.
func Ask(caller context.Context, c *Chain, t Target) gateway.Identity {
	a := &asker{chain: c, target: t, addr: net.JoinHostPort(t.Endpoint.Host, strconv.Itoa(t.Endpoint.Port)),
		cutShort: func() error {
			// The network's clock and the context's need not agree on who is first.
			if d, ok := caller.Deadline(); caller.Err() == nil && ok && !time.Now().Before(d) {
				return context.DeadlineExceeded
			}
			return context.Cause(caller)
		}}
	ctx, cancel := budget.Context(caller, budget.Probe, "ask the gateway")
	defer cancel()
	defer a.close()
	steps := map[string]func(context.Context){TCP: a.dial, TLS: a.handshake, Refusal: a.refusal, HTTP: a.ready,
		Health: a.health, Identity: a.identity}
	links := t.Links()
	for i, link := range links {
		steps[link](ctx)
		if c.Broken() {
			c.Skip(links[i+1:]...)
			return gateway.Identity{}
		}
	}
	return a.who
}

// asker asks one target.
type asker struct {
	chain    *Chain
	target   Target
	addr     string
	cutShort func() error // why the caller's context has ended, nil while it has not

	conn    net.Conn         // what the links so far have made
	calls   *grpc.ClientConn // over conn, from Health on
	closers []func()
	version string // what Health told
	who     gateway.Identity
}

// close gives back what the links have made, the last first.
func (a *asker) close() {
	for _, f := range slices.Backward(a.closers) {
		f()
	}
}

// keep closes conn with the asker, and makes its reads and writes end with ctx.
func (a *asker) keep(ctx context.Context, conn net.Conn) {
	stop := endWith(ctx, conn)
	a.closers = append(a.closers, func() { stop(); _ = conn.Close() })
	a.conn = conn
}

// hang breaks the chain at a link that did not answer in time. If it was the
// caller who had no time left, that says nothing about the gateway.
func (a *asker) hang(link, probe, message string, took time.Duration) {
	if cause := a.cutShort(); cause != nil {
		a.chain.Break(link, probe, health.Unknown, "gateway-unknown", "asking was cut short: "+cause.Error(), took)
		return
	}
	a.chain.Break(link, probe, health.Failed, "gateway-hung", message, took)
}

// endWith makes reads and writes of conn end with ctx.
func endWith(ctx context.Context, conn net.Conn) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
}

func (a *asker) dial(whole context.Context) {
	ctx, cancel := budget.Context(whole, budget.TCP, "connect to "+a.addr)
	defer cancel()
	probe, start := "tcp "+a.addr, time.Now()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", a.addr)
	took := time.Since(start)
	switch {
	case err == nil:
		a.chain.Hold(probe, "connected", took)
		a.keep(whole, conn)
	case timedOut(ctx, err):
		a.hang(TCP, probe, "no connection to "+a.addr+" came about in time", took)
	default:
		var op *net.OpError
		if errors.As(err, &op) && op.Err != nil {
			err = op.Err // the address is in the message already
		}
		a.chain.Break(TCP, probe, health.Failed, "gateway-unreachable", "nothing answers at "+a.addr+": "+err.Error(), took)
	}
}

// timedOut reports whether err is the end of the time allowed.
func timedOut(ctx context.Context, err error) bool {
	var n net.Error
	return ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &n) && n.Timeout()
}
