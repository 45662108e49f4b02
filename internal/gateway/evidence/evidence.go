// Package evidence asks a gateway's endpoint the chain of questions whose
// answers together mean "healthy": TCP, TLS with the pinned CA and our client
// certificate, the refusal of a caller without certificate, Health, identity.
// It knows nothing of how a gateway is run, never mutates, and calls nothing
// healthy that it could not ask.
package evidence

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
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
// that answered, zero unless all held. It ends within the probe budget.
func Ask(ctx context.Context, c *Chain, t Target) gateway.Identity {
	ctx, cancel := budget.Context(ctx, budget.Probe, "ask the gateway")
	defer cancel()
	addr := net.JoinHostPort(t.Endpoint.Host, fmt.Sprint(t.Endpoint.Port))

	raw, ok := c.dial(ctx, addr)
	if !ok {
		c.Skip(TLS, Refusal, Health, Identity)
		return gateway.Identity{}
	}
	defer raw.Close()
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	secure, ok := c.handshake(ctx, raw, addr, t)
	if !ok {
		c.Skip(Refusal, Health, Identity)
		return gateway.Identity{}
	}
	if !c.refusal(ctx, addr, t) {
		c.Skip(Health, Identity)
		return gateway.Identity{}
	}
	return c.application(ctx, secure, t)
}

func (c *Chain) dial(ctx context.Context, addr string) (net.Conn, bool) {
	ctx, cancel := budget.Context(ctx, budget.TCP, "connect to "+addr)
	defer cancel()
	probe, start := "tcp "+addr, time.Now()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err == nil {
		c.Hold(probe, "connected", time.Since(start))
		return conn, true
	}
	reason, message := "gateway-unreachable", "nothing answers at "+addr+": "+cause(ctx, err).Error()
	if timedOut(ctx, err) {
		reason, message = "gateway-hung", "no connection to "+addr+" came about in time"
	}
	c.Break(TCP, probe, health.Failed, reason, message, time.Since(start))
	return nil, false
}

func (c *Chain) handshake(ctx context.Context, raw net.Conn, addr string, t Target) (*tls.Conn, bool) {
	probe, start := "tls "+addr, time.Now()
	cfg := t.TLS.Clone()
	cfg.NextProtos = []string{"h2"}
	conn := tls.Client(raw, cfg)
	err := conn.HandshakeContext(ctx)
	if err == nil {
		c.Hold(probe, tls.VersionName(conn.ConnectionState().Version)+", certificate verified by the pinned CA", time.Since(start))
		return conn, true
	}
	reason, message := judgeHandshake(err)
	if timedOut(ctx, err) {
		reason, message = "gateway-hung", "the listener at "+addr+" accepts connections and never answers"
	}
	if reason == "gateway-foreign-listener" && t.Holder != nil {
		if who := t.Holder(); who != "" {
			message += "; the port is held by " + who
		}
	}
	c.Break(TLS, probe, health.Failed, reason, message, time.Since(start))
	return nil, false
}

// judgeHandshake says what a failed handshake means. A listener that speaks no
// TLS, or whose certificate another authority signed, is not our gateway.
func judgeHandshake(err error) (reason, message string) {
	var verify *tls.CertificateVerificationError
	var header tls.RecordHeaderError
	switch {
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

// refusal proves that a caller without client certificate gets nothing. In TLS
// 1.3 the client's side of the handshake ends before the server has judged the
// client, so the refusal arrives as the answer to the first read.
func (c *Chain) refusal(ctx context.Context, addr string, t Target) bool {
	probe, start := "tls "+addr+" without client certificate", time.Now()
	stranger := t.TLS.Clone()
	stranger.Certificates, stranger.GetClientCertificate = nil, nil
	stranger.NextProtos = []string{"h2"}
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		c.Break(Refusal, probe, health.Unknown, "gateway-unreachable", "the question could not be asked: "+err.Error(), time.Since(start))
		return false
	}
	defer raw.Close()
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	conn := tls.Client(raw, stranger)
	err = conn.HandshakeContext(ctx)
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
	}
	switch {
	case err == nil:
		c.Break(Refusal, probe, health.Failed, "gateway-open", "a caller without client certificate was let in", time.Since(start))
		return false
	case timedOut(ctx, err):
		c.Break(Refusal, probe, health.Failed, "gateway-hung", "a caller without client certificate was neither refused nor answered", time.Since(start))
		return false
	}
	c.Hold(probe, "refused: "+err.Error(), time.Since(start))
	return true
}

// timedOut reports whether err is the end of the time allowed.
func timedOut(ctx context.Context, err error) bool {
	var n net.Error
	return ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &n) && n.Timeout()
}

// cause shortens a dial error to what the kernel said.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return op.Err
	}
	return err
}
