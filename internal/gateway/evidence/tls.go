package evidence

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"time"

	"creel/internal/health"
)

// handshake also waits for the server's first words: in TLS 1.3 only they, or an
// alert in their place, say what it thinks of our certificate.
func (a *asker) handshake(ctx context.Context) {
	probe, start := "tls "+a.addr, time.Now()
	cfg := a.target.Access.TLS.Clone()
	cfg.NextProtos = []string{"h2"}
	conn := tls.Client(a.conn, cfg)
	err := conn.HandshakeContext(ctx)
	var greeting []byte
	if err == nil {
		greeting, err = firstWords(conn)
	}
	took := time.Since(start)
	switch {
	case err == nil:
		by := "the pinned CA"
		if cfg.RootCAs == nil {
			by = "an authority that this system trusts"
		}
		a.chain.Hold(probe, tls.VersionName(conn.ConnectionState().Version)+", certificate verified by "+by, took)
		a.conn = &greeted{Conn: conn, greeting: greeting}
		return
	case timedOut(ctx, err):
		a.hang(TLS, probe, "the listener at "+a.addr+" accepts connections and never answers", took)
		return
	}
	reason, message := judgeHandshake(err)
	a.chain.Break(TLS, probe, health.Failed, reason, a.withHolder(reason, message), took)
}

// withHolder adds who holds the port when somebody else answers there.
func (a *asker) withHolder(reason, message string) string {
	if reason == "gateway-foreign-listener" && a.target.Holder != nil {
		if who := a.target.Holder(); who != "" {
			return message + "; the port is held by " + who
		}
	}
	return message
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
func (a *asker) refusal(ctx context.Context) {
	probe, start := "tls "+a.addr+" without client certificate", time.Now()
	stranger := a.target.Access.TLS.Clone()
	stranger.Certificates, stranger.GetClientCertificate = nil, nil
	stranger.NextProtos = []string{"h2"}
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", a.addr)
	if err != nil && timedOut(ctx, err) {
		a.hang(Refusal, probe, "no second connection to "+a.addr+" came about in time", time.Since(start))
		return
	}
	if err != nil {
		a.chain.Break(Refusal, probe, health.Unknown, "gateway-unreachable", "the question could not be asked: "+err.Error(), time.Since(start))
		return
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
	case timedOut(ctx, err):
		a.hang(Refusal, probe, "a caller without client certificate was neither refused nor answered", took)
	default:
		a.chain.Hold(probe, "refused: "+err.Error(), took)
	}
}
