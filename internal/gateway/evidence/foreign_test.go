package evidence

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	openshellv1 "creel/api/openshell/v1"
	"creel/internal/bundle"
	"creel/internal/credential"
	"creel/internal/gateway"
	"creel/internal/health"
	"creel/internal/host"
)

// served accepts connections and hands each to answer until the test ends.
func served(t *testing.T, answer func(net.Conn)) gateway.Endpoint {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			answer(c)
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return gateway.Endpoint{Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port}
}

// plain serves gRPC without TLS.
func plain(t *testing.T, register func(*grpc.Server), options ...grpc.ServerOption) gateway.Endpoint {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(options...)
	register(s)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-done })
	return gateway.Endpoint{Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port}
}

func openshell(s *grpc.Server) { openshellv1.RegisterOpenShellServer(s, api{}) }

// bearer lets in who has the token.
func bearer(token string) grpc.ServerOption {
	return grpc.UnaryInterceptor(func(ctx context.Context, r any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		if md, _ := metadata.FromIncomingContext(ctx); !slices.Contains(md.Get("authorization"), "Bearer "+token) {
			return nil, status.Error(codes.Unauthenticated, "no valid token")
		}
		return next(ctx, r)
	})
}

func proven(version string) (gateway.Identity, Finding) {
	return gateway.Identity{Gateway: "g", Version: version}, Finding{Verdict: health.OK, Message: "proven"}
}

func TestAskAGatewayOfAnotherMake(t *testing.T) {
	const token = "of-the-user"
	with := []gateway.Header{{Name: "authorization", Value: credential.NewSecret("Bearer " + token)}}
	ours, others := material(t, time.Now()), material(t, time.Now())
	for _, c := range []struct {
		name     string
		endpoint func() gateway.Endpoint
		access   gateway.Access
		identify func(string) (gateway.Identity, Finding)
		verdict  health.Verdict
		reason   string
		message  string
	}{
		{"plaintext", func() gateway.Endpoint { return plain(t, openshell) }, gateway.Access{}, proven, health.OK, "", ""},
		{"client certificate", func() gateway.Endpoint { return serve(t, ours.ServerConfig(), openshell) },
			gateway.Access{TLS: ours.ClientConfig(bundle.LocalName)}, proven, health.OK, "", ""},
		{"token", func() gateway.Endpoint { return plain(t, openshell, bearer(token)) }, gateway.Access{Headers: with}, proven, health.OK, "", ""},
		{"no token", func() gateway.Endpoint { return plain(t, openshell, bearer(token)) }, gateway.Access{}, proven,
			health.Failed, "gateway-credential-refused", "no valid token"},
		{"identity is somebody else's", func() gateway.Endpoint { return plain(t, openshell) }, gateway.Access{},
			func(string) (gateway.Identity, Finding) {
				return gateway.Identity{Gateway: "g"}, Finding{health.Failed, "gateway-not-ours", "another process answers"}
			}, health.Failed, "gateway-not-ours", "another process answers"},
		{"identity cannot be told", func() gateway.Endpoint { return plain(t, openshell) }, gateway.Access{},
			func(string) (gateway.Identity, Finding) {
				return gateway.Identity{Gateway: "g"}, Finding{health.Unknown, "gateway-unknown", "cannot be seen"}
			}, health.Unknown, "gateway-unknown", "cannot be seen"},
		{"certificate of another authority", func() gateway.Endpoint { return serve(t, others.ServerConfig(), openshell) },
			gateway.Access{TLS: ours.ClientConfig(bundle.LocalName)}, proven, health.Failed, "gateway-foreign-listener", "did not sign"},
		{"plaintext where TLS is wanted", func() gateway.Endpoint { return plain(t, openshell) },
			gateway.Access{TLS: ours.ClientConfig(bundle.LocalName)}, proven, health.Failed, "gateway-foreign-listener", "does not speak TLS"},
		{"HTTP 404 in plaintext", func() gateway.Endpoint {
			return served(t, func(c net.Conn) {
				_, _ = c.Read(make([]byte, 1024))
				_, _ = fmt.Fprint(c, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
				_ = c.Close()
			})
		}, gateway.Access{}, proven, health.Failed, "gateway-foreign-listener", "HTTP/1.1 404 Not Found"},
		{"accepts and closes", func() gateway.Endpoint { return served(t, func(c net.Conn) { _ = c.Close() }) },
			gateway.Access{}, proven, health.Failed, "gateway-unhealthy", ""},
		{"no such service", func() gateway.Endpoint { return plain(t, func(*grpc.Server) {}) }, gateway.Access{}, proven,
			health.Failed, "gateway-not-ours", "no OpenShell gateway"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var chain Chain
			target := Target{Endpoint: c.endpoint(), Access: c.access, Identify: c.identify}
			who := Ask(t.Context(), &chain, target)
			chain.Conclude()
			if chain.Verdict != c.verdict || chain.Reason != c.reason || !strings.Contains(chain.Message, c.message) {
				t.Fatalf("%v %s: %s", chain.Verdict, chain.Reason, chain.Message)
			}
			if len(chain.Evidence) != len(target.Links()) {
				t.Errorf("%d links, want %q: %+v", len(chain.Evidence), target.Links(), chain.Evidence)
			}
			if (who.Gateway != "") != (c.verdict == health.OK) {
				t.Errorf("identity %+v with verdict %v", who, c.verdict)
			}
			if strings.Contains(fmt.Sprintf("%+v", chain), token) {
				t.Error("the token is in the evidence")
			}
		})
	}
}

// A gateway in plaintext that never answers is hung, not absent, and is given up
// within the probe budget.
func TestPlaintextThatNeverAnswers(t *testing.T) {
	t.Setenv("CREEL_BUDGET_PROBE", "100ms")
	held := make(chan net.Conn, 4)
	e := served(t, func(c net.Conn) { held <- c })
	began := time.Now()
	var chain Chain
	Ask(t.Context(), &chain, Target{Endpoint: e, Identify: proven})
	if chain.Verdict != health.Failed || chain.Reason != "gateway-hung" {
		t.Errorf("%v %s: %s", chain.Verdict, chain.Reason, chain.Message)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("given up after %s", took)
	}
	_ = (<-held).Close()
}

// Whoever listens there may send anything; a terminal and a log get one line of
// text.
func TestAnswersAreFitToBeShown(t *testing.T) {
	hostile := "\x1b[2J\x1b]0;owned\x07all is well\r\nok\u202e" + strings.Repeat("x", 10000)
	got := said(hostile)
	if strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\u202e' }) || len([]rune(got)) > 301 {
		t.Errorf("%q", got)
	}
	var chain Chain
	e := plain(t, func(s *grpc.Server) { openshellv1.RegisterOpenShellServer(s, versioned{version: hostile}) })
	who := Ask(t.Context(), &chain, Target{Endpoint: e, Identify: proven})
	if text := fmt.Sprintf("%+v %+v", chain, who); strings.ContainsAny(text, "\x1b\n\r") {
		t.Errorf("%q", text)
	}
}

// versioned tells any version.
type versioned struct {
	openshellv1.UnimplementedOpenShellServer
	version string
}

func (v versioned) Health(context.Context, *openshellv1.HealthRequest) (*openshellv1.HealthResponse, error) {
	return &openshellv1.HealthResponse{Status: openshellv1.ServiceStatus_SERVICE_STATUS_HEALTHY, Version: v.version}, nil
}

func TestHTTPReadiness(t *testing.T) {
	for code, want := range map[int]health.Verdict{200: health.OK, 401: health.OK, 404: health.Failed, 500: health.Failed, 302: health.Failed} {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/ready" || r.Method != http.MethodGet {
				t.Errorf("%s %s was asked", r.Method, r.URL)
			}
			w.WriteHeader(code)
		}))
		ours := material(t, time.Now())
		s.TLS = ours.ServerConfig()
		s.TLS.NextProtos = []string{"h2", "http/1.1"}
		s.StartTLS()
		var chain Chain
		a := &asker{chain: &chain, addr: s.Listener.Addr().String(), cutShort: func() error { return nil },
			target: Target{Access: gateway.Access{TLS: ours.ClientConfig(bundle.LocalName)}, ReadyPath: "/ready"}}
		a.ready(t.Context())
		chain.Conclude()
		if chain.Verdict != want {
			t.Errorf("status %d: %v %s", code, chain.Verdict, chain.Message)
		}
		s.Close()
	}
	links := Target{Access: gateway.Access{TLS: &tls.Config{}}, ReadyPath: "/", Identify: proven}.Links()
	if want := []string{TCP, TLS, HTTP, Health, Identity}; !slices.Equal(links, want) {
		t.Errorf("links %q, want %q", links, want)
	}
}

// Signal 0 to a zombie succeeds; it is not alive all the same. Neither is a pid
// that somebody else has by now.
func TestProcessLink(t *testing.T) {
	c := exec.Command("sleep", "600")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := host.Lookup(c.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(start uint64) (Chain, bool) {
		var chain Chain
		ended := AskProcess(&chain, c.Process.Pid, start)
		chain.Conclude()
		return chain, ended
	}
	if got, ended := ask(p.Start); got.Verdict != health.OK || ended {
		t.Errorf("alive: %v %s", got.Verdict, got.Message)
	}
	if got, ended := ask(p.Start + 1); got.Verdict != health.Failed || !ended || !strings.Contains(got.Message, "another one") {
		t.Errorf("another's pid: %v %s", got.Verdict, got.Message)
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(10 * time.Second)
	for !func() bool { p, err := host.Lookup(c.Process.Pid); return err == nil && p.Gone() }() {
		select {
		case <-time.After(time.Millisecond):
		case <-deadline:
			t.Fatal("it is no zombie")
		}
	}
	if err := c.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("signal 0 to the zombie: %v; then this test shows nothing", err)
	}
	if got, ended := ask(p.Start); got.Verdict != health.Failed || !ended || got.Reason != "gateway-not-running" {
		t.Errorf("zombie: %v %s", got.Verdict, got.Message)
	}
	_ = c.Wait()
	if got, ended := ask(p.Start); got.Verdict != health.Failed || !ended {
		t.Errorf("gone: %v %s", got.Verdict, got.Message)
	}
}
