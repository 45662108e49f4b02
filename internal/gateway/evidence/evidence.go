// Package evidence asks a gateway's endpoint the chain of questions whose
// answers together mean "healthy": TCP, TLS with the pinned CA and our client
// certificate, the refusal of a caller without certificate, Health, identity.
// It knows nothing of how a gateway is run, never mutates, and calls nothing
// healthy that it could not ask.
package evidence

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strconv"
	"time"

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

// Broken reports whether a link broke.
func (c *Chain) Broken() bool { return c.broken != "" }

// Skip says of links that they were not asked.
func (c *Chain) Skip(links ...string) {
	for _, l := range links {
		c.Evidence = append(c.Evidence, health.Evidence{Probe: l, Answer: "not asked: " + c.broken + " did not hold", Verdict: health.Unknown})
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
	// TLS pins the CA and carries the client certificate.
	TLS *tls.Config
	// InstanceID, if not empty, is who must answer.
	InstanceID string
	// Holder names who listens on the endpoint's port, "" if it cannot be seen.
	Holder func() string
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

	raw, ok := a.dial(ctx)
	if !ok {
		c.Skip(TLS, Refusal, Health, Identity)
		return gateway.Identity{}
	}
	defer raw.Close()
	defer endWith(ctx, raw)()
	secure, ok := a.handshake(ctx, raw)
	if !ok {
		c.Skip(Refusal, Health, Identity)
		return gateway.Identity{}
	}
	if !a.refusal(ctx) {
		c.Skip(Health, Identity)
		return gateway.Identity{}
	}
	return a.application(ctx, secure)
}

// asker asks one target.
type asker struct {
	chain    *Chain
	target   Target
	addr     string
	cutShort func() error // why the caller's context has ended, nil while it has not
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

func (a *asker) dial(ctx context.Context) (net.Conn, bool) {
	ctx, cancel := budget.Context(ctx, budget.TCP, "connect to "+a.addr)
	defer cancel()
	probe, start := "tcp "+a.addr, time.Now()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", a.addr)
	took := time.Since(start)
	switch {
	case err == nil:
		a.chain.Hold(probe, "connected", took)
		return conn, true
	case timedOut(ctx, err):
		a.hang(TCP, probe, "no connection to "+a.addr+" came about in time", took)
	default:
		var op *net.OpError
		if errors.As(err, &op) && op.Err != nil {
			err = op.Err // the address is in the message already
		}
		a.chain.Break(TCP, probe, health.Failed, "gateway-unreachable", "nothing answers at "+a.addr+": "+err.Error(), took)
	}
	return nil, false
}

// handshake also waits for the server's first words: in TLS 1.3 only they, or an
// alert in their place, say what it thinks of our certificate.
func (a *asker) handshake(ctx context.Context, raw net.Conn) (net.Conn, bool) {
	probe, start := "tls "+a.addr, time.Now()
	cfg := a.target.TLS.Clone()
	cfg.NextProtos = []string{"h2"}
	conn := tls.Client(raw, cfg)
	err := conn.HandshakeContext(ctx)
	var greeting []byte
	if err == nil {
		greeting, err = firstWords(conn)
	}
	took := time.Since(start)
	switch {
	case err == nil:
		a.chain.Hold(probe, tls.VersionName(conn.ConnectionState().Version)+", certificate verified by the pinned CA", took)
		return &greeted{Conn: conn, greeting: greeting}, true
	case timedOut(ctx, err):
		a.hang(TLS, probe, "the listener at "+a.addr+" accepts connections and never answers", took)
		return nil, false
	}
	reason, message := judgeHandshake(err)
	if reason == "gateway-foreign-listener" && a.target.Holder != nil {
		if who := a.target.Holder(); who != "" {
			message += "; the port is held by " + who
		}
	}
	a.chain.Break(TLS, probe, health.Failed, reason, message, took)
	return nil, false
}

// greetingTime is how long a server's first words are waited for. One that lets
// the client speak first is none the worse: it is asked Health next.
const greetingTime = 250 * time.Millisecond

// firstWords reads what the server says unasked; nothing is no error.
func firstWords(conn net.Conn) ([]byte, error) {
	if err := conn.SetReadDeadline(time.Now().Add(greetingTime)); err != nil {
		return nil, err
	}
	b := make([]byte, 1024)
	n, err := conn.Read(b)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		err = nil
	}
	if err != nil {
		return nil, err
	}
	return b[:n], conn.SetReadDeadline(time.Time{})
}

// greeted is a connection whose first words were read already.
type greeted struct {
	net.Conn
	greeting []byte
}

// Read yields the greeting first.
func (g *greeted) Read(b []byte) (int, error) {
	if len(g.greeting) == 0 {
		return g.Conn.Read(b)
	}
	n := copy(b, g.greeting)
	g.greeting = g.greeting[n:]
	return n, nil
}

// judgeHandshake says what a failed handshake means. A listener that speaks no
// TLS, or whose certificate another authority signed, is not our gateway.
func judgeHandshake(err error) (reason, message string) {
	var verify *tls.CertificateVerificationError
	var header tls.RecordHeaderError
	var op *net.OpError
	switch {
	case errors.As(err, &op) && op.Op == "remote error": // how crypto/tls reports an alert
		return "gateway-certificate-refused", "the gateway refuses our client certificate: " + op.Err.Error()
	case errors.As(err, &verify):
		if isExpired(verify.Err) {
			return "gateway-certificate-invalid", "the gateway's certificate is not valid now: " + verify.Err.Error()
		}
		return "gateway-foreign-listener", "whoever listens there has a certificate that our CA did not sign: " + verify.Err.Error()
	case errors.As(err, &header):
		return "gateway-foreign-listener", "whoever listens there does not speak TLS"
	}
	return "gateway-tls-failed", "TLS did not come about: " + err.Error()
}

func isExpired(err error) bool {
	var invalid x509.CertificateInvalidError
	return errors.As(err, &invalid) && invalid.Reason == x509.Expired
}

// refusal proves that a caller without client certificate gets nothing. In TLS
// 1.3 the client's side of the handshake ends before the server has judged the
// client, so the refusal arrives as the answer to the first read.
func (a *asker) refusal(ctx context.Context) bool {
	probe, start := "tls "+a.addr+" without client certificate", time.Now()
	stranger := a.target.TLS.Clone()
	stranger.Certificates, stranger.GetClientCertificate = nil, nil
	stranger.NextProtos = []string{"h2"}
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", a.addr)
	if err != nil && timedOut(ctx, err) {
		a.hang(Refusal, probe, "no second connection to "+a.addr+" came about in time", time.Since(start))
		return false
	}
	if err != nil {
		a.chain.Break(Refusal, probe, health.Unknown, "gateway-unreachable", "the question could not be asked: "+err.Error(), time.Since(start))
		return false
	}
	defer raw.Close()
	defer endWith(ctx, raw)()
	conn := tls.Client(raw, stranger)
	err = conn.HandshakeContext(ctx)
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
	}
	took := time.Since(start)
	switch {
	case err == nil:
		a.chain.Break(Refusal, probe, health.Failed, "gateway-open", "a caller without client certificate was let in", took)
		return false
	case timedOut(ctx, err):
		a.hang(Refusal, probe, "a caller without client certificate was neither refused nor answered", took)
		return false
	}
	a.chain.Hold(probe, "refused: "+err.Error(), took)
	return true
}

// timedOut reports whether err is the end of the time allowed.
func timedOut(ctx context.Context, err error) bool {
	var n net.Error
	return ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &n) && n.Timeout()
}
