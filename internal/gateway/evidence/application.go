package evidence

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	creelv1 "creel/api/creel/v1"
	openshellv1 "creel/api/openshell/v1"
	"creel/internal/gateway"
	"creel/internal/health"
)

// ready asks what is in front of a gateway with HTTP, over a connection of its
// own: the chain's is HTTP/2 only.
func (a *asker) ready(ctx context.Context) {
	scheme, transport := "http://", &http.Transport{DisableKeepAlives: true}
	if c := a.target.Access.TLS; c != nil {
		scheme, transport.TLSClientConfig = "https://", c.Clone()
		transport.TLSClientConfig.NextProtos = []string{"http/1.1"}
		transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	defer transport.CloseIdleConnections()
	url := scheme + a.addr + a.target.ReadyPath
	probe, start := "http GET "+url, time.Now()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		a.chain.Break(HTTP, probe, health.Unknown, "gateway-unknown", "the question could not be asked: "+err.Error(), time.Since(start))
		return
	}
	for _, h := range a.target.Access.Headers {
		request.Header.Add(h.Name, h.Value.Reveal())
	}
	answer, err := transport.RoundTrip(request)
	took := time.Since(start)
	switch {
	case err != nil && timedOut(ctx, err):
		a.hang(HTTP, probe, "nothing answers HTTP at "+a.addr+" in time", took)
		return
	case err != nil:
		a.chain.Break(HTTP, probe, health.Failed, "gateway-unhealthy", "HTTP was not answered: "+err.Error(), took)
		return
	}
	_ = answer.Body.Close()
	if answer.StatusCode == http.StatusOK || answer.StatusCode == http.StatusUnauthorized {
		a.chain.Hold(probe, answer.Status, took)
		return
	}
	a.chain.Break(HTTP, probe, health.Failed, "gateway-unhealthy", "HTTP was answered with "+said(answer.Status), took)
}

// connect makes calls possible over the connection that the links before have
// made, so that nothing is asked of one listener and believed of another.
func (a *asker) connect() error {
	first := make(chan net.Conn, 1)
	a.conn = &listened{Conn: a.conn}
	first <- a.conn
	cc, err := grpc.NewClient("passthrough:///gateway",
		// The connection is TLS already, or is to be plaintext.
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(), grpc.WithDisableServiceConfig(),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			select {
			case c := <-first:
				return c, nil
			default:
				return nil, errors.New("the gateway closed the connection")
			}
		}))
	if err != nil {
		return err
	}
	a.calls = cc
	a.closers = append(a.closers, func() { _ = cc.Close() })
	return nil
}

// credentials adds the caller's headers.
func (a *asker) credentials(ctx context.Context) context.Context {
	for _, h := range a.target.Access.Headers {
		ctx = metadata.AppendToOutgoingContext(ctx, h.Name, h.Value.Reveal())
	}
	return ctx
}

func (a *asker) health(ctx context.Context) {
	start := time.Now()
	if err := a.connect(); err != nil {
		a.chain.Break(Health, Health, health.Unknown, "gateway-unknown", "the question could not be asked: "+err.Error(), time.Since(start))
		return
	}
	r, err := openshellv1.NewOpenShellClient(a.calls).Health(a.credentials(ctx), &openshellv1.HealthRequest{})
	switch {
	case err != nil:
		a.breakCall(ctx, Health, err, time.Since(start))
	case r.GetStatus() != openshellv1.ServiceStatus_SERVICE_STATUS_HEALTHY:
		a.chain.Break(Health, Health, health.Failed, "gateway-unhealthy", "the gateway says of itself: "+r.GetStatus().String(), time.Since(start))
	default:
		a.version = said(r.GetVersion())
		a.chain.Hold(Health, "healthy, version "+a.version, time.Since(start))
	}
}

func (a *asker) identity(ctx context.Context) {
	c, t, start := a.chain, a.target, time.Now()
	if t.Identify != nil {
		// Anybody may ask for health: whether our token is worth something another
		// call tells. A gateway that does not know the call has said no word against it.
		if len(t.Access.Headers) > 0 {
			_, err := openshellv1.NewOpenShellClient(a.calls).GetCurrentUser(a.credentials(ctx), &openshellv1.GetCurrentUserRequest{})
			if err != nil && status.Code(err) != codes.Unimplemented {
				a.breakCall(ctx, Identity, err, time.Since(start))
				return
			}
		}
		who, found := t.Identify(a.version)
		if found.Verdict != health.OK {
			c.Break(Identity, Identity, found.Verdict, found.Reason, found.Message, time.Since(start))
			return
		}
		a.who = who
		c.Hold(Identity, found.Message, time.Since(start))
		return
	}
	id, err := creelv1.NewCreelClient(a.calls).GetIdentity(a.credentials(ctx), &creelv1.GetIdentityRequest{})
	switch {
	case err != nil:
		a.breakCall(ctx, Identity, err, time.Since(start))
		return
	case t.InstanceID != "" && id.GetInstanceId() != t.InstanceID:
		c.Break(Identity, Identity, health.Failed, "gateway-not-ours",
			fmt.Sprintf("instance %s of gateway %q answers, the marker names %s", id.GetInstanceId(), id.GetGateway(), t.InstanceID), time.Since(start))
		return
	}
	c.Hold(Identity, "instance "+id.GetInstanceId(), time.Since(start))
	a.who = gateway.Identity{
		Gateway:    id.GetGateway(),
		InstanceID: id.GetInstanceId(),
		PID:        int(id.GetPid()),
		StartedAt:  time.UnixMilli(id.GetStartedAtMs()).UTC(),
		Version:    id.GetVersion(),
		BuildID:    id.GetBuildId(),
	}
}

// breakCall says what a call that failed means.
func (a *asker) breakCall(ctx context.Context, link string, err error, took time.Duration) {
	message := said(status.Convert(err).Message())
	reason := "gateway-unhealthy"
	switch code := status.Code(err); {
	case code == codes.DeadlineExceeded, ctx.Err() != nil:
		a.hang(link, link, "the gateway accepts calls and does not answer them", took)
		return
	case code == codes.PermissionDenied, code == codes.Unauthenticated:
		reason, message = "gateway-certificate-refused", "the gateway refuses our client certificate: "+message
		if a.target.Identify != nil {
			reason, message = "gateway-credential-refused", "the gateway refuses our credentials: "+said(status.Convert(err).Message())
		}
	case code == codes.Unimplemented:
		reason, message = "gateway-not-ours", "what answers is no gateway of Creel: "+message
		if a.target.Identify != nil {
			message = "what answers is no OpenShell gateway: " + said(status.Convert(err).Message())
		}
	default:
		reason, message = a.heard(reason, message)
	}
	a.chain.Break(link, link, health.Failed, reason, a.withHolder(reason, message), took)
}

// heard tells what was on the line apart where the gRPC library only says that
// there was no HTTP/2.
func (a *asker) heard(reason, message string) (string, string) {
	l, ok := a.conn.(*listened)
	if !ok {
		return reason, "the gateway did not answer: " + message
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case strings.HasPrefix(string(l.first), "HTTP/"):
		line, _, _ := strings.Cut(string(l.first), "\r\n")
		return "gateway-foreign-listener", "whoever listens there speaks HTTP/1 and no gRPC: " + said(line)
	case len(l.first) == 0 && l.ended:
		return reason, "the connection was accepted and closed without a word"
	}
	return reason, "the gateway did not answer: " + message
}

// said is what somebody answered, fit to be shown: whoever listens on a port may
// send what steers a terminal, breaks a line or fills a screen.
func said(text string) string {
	const most = 300
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(text, "?"))
	if r := []rune(text); len(r) > most {
		text = string(r[:most]) + "…"
	}
	return text
}

// listened remembers the first words that came over a connection, so that a
// listener of another kind can be named.
type listened struct {
	net.Conn
	mu    sync.Mutex
	first []byte
	ended bool
}

// Read implements net.Conn.
func (l *listened) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	l.mu.Lock()
	defer l.mu.Unlock()
	if room := 64 - len(l.first); room > 0 && n > 0 {
		l.first = append(l.first, b[:min(room, n)]...)
	}
	l.ended = l.ended || err != nil
	return n, err
}
