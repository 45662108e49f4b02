package evidence

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	creelv1 "creel/api/creel/v1"
	openshellv1 "creel/api/openshell/v1"
	"creel/internal/advisory"
	"creel/internal/bundle"
	"creel/internal/bundle/dirstore"
	"creel/internal/gateway"
	"creel/internal/health"
	"creel/internal/state"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// material is a set of bootstrap secrets issued at a moment.
func material(t *testing.T, at time.Time) bundle.Material {
	t.Helper()
	dir := t.TempDir()
	store := dirstore.New(state.Roots{Config: dir, State: dir, Run: dir}.Gateway("creel"))
	if _, err := bundle.Repair(t.Context(), store.Target(), at, bundle.RepairOptions{Replace: true}); err != nil {
		t.Fatal(err)
	}
	s, err := store.Load(t.Context(), dirstore.Requirements())
	if err != nil {
		t.Fatal(err)
	}
	m, err := bundle.Open(s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

type api struct {
	openshellv1.UnimplementedOpenShellServer
	creelv1.UnimplementedCreelServer
}

func (api) Health(context.Context, *openshellv1.HealthRequest) (*openshellv1.HealthResponse, error) {
	return &openshellv1.HealthResponse{Status: openshellv1.ServiceStatus_SERVICE_STATUS_HEALTHY}, nil
}

func (api) GetIdentity(context.Context, *creelv1.GetIdentityRequest) (*creelv1.GetIdentityResponse, error) {
	return &creelv1.GetIdentityResponse{InstanceId: "instance", Gateway: "creel"}, nil
}

// serve runs a gRPC server with the given TLS settings; register may leave
// services out.
func serve(t *testing.T, cfg *tls.Config, register func(*grpc.Server)) gateway.Endpoint {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.Creds(credentials.NewTLS(cfg)))
	register(s)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-done })
	return gateway.Endpoint{Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port}
}

func whole(s *grpc.Server) {
	openshellv1.RegisterOpenShellServer(s, api{})
	creelv1.RegisterCreelServer(s, api{})
}

func TestAsk(t *testing.T) {
	ours, others, expired := material(t, time.Now()), material(t, time.Now()), material(t, time.Now().Add(-3*365*24*time.Hour))
	trustingOthers := ours.ServerConfig()
	trustingOthers.ClientCAs = others.CA
	open := ours.ServerConfig()
	open.ClientAuth = tls.VerifyClientCertIfGiven
	for _, c := range []struct {
		name    string
		server  *tls.Config
		api     func(*grpc.Server)
		client  bundle.Material
		verdict health.Verdict
		reason  string
		message string
	}{
		{"all links hold", ours.ServerConfig(), whole, ours, health.OK, "", ""},
		{"another authority", others.ServerConfig(), whole, ours, health.Failed, "gateway-foreign-listener", "our CA did not sign"},
		{"an expired certificate", expired.ServerConfig(), whole, expired, health.Failed, "gateway-certificate-invalid", "not valid now"},
		{"our certificate is refused", trustingOthers, whole, ours, health.Failed, "gateway-certificate-refused", "refuses our client certificate"},
		{"strangers are let in", open, whole, ours, health.Failed, "gateway-open", "was let in"},
		{"no gateway at all", ours.ServerConfig(), func(*grpc.Server) {}, ours, health.Failed, "gateway-not-ours", "no gateway of Creel"},
		{"a gateway of another make", ours.ServerConfig(), func(s *grpc.Server) { openshellv1.RegisterOpenShellServer(s, api{}) }, ours, health.Failed, "gateway-not-ours", "no gateway of Creel"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var chain Chain
			id := Ask(t.Context(), &chain, Target{Endpoint: serve(t, c.server, c.api), Access: gateway.Access{TLS: c.client.ClientConfig(bundle.LocalName)}, InstanceID: "instance"})
			chain.Conclude()
			if chain.Verdict != c.verdict || chain.Reason != c.reason || !strings.Contains(chain.Message, c.message) {
				t.Fatalf("%v %s: %s", chain.Verdict, chain.Reason, chain.Message)
			}
			if len(chain.Evidence) != 5 {
				t.Errorf("%d links, want every one of the five: %+v", len(chain.Evidence), chain.Evidence)
			}
			if (id.InstanceID == "instance") != (c.verdict == health.OK) {
				t.Errorf("identity %+v with verdict %v", id, c.verdict)
			}
			if _, known := advisory.Lookup(c.reason); c.reason != "" && !known {
				t.Errorf("%s is no advisory", c.reason)
			}
			broken := false
			for _, e := range chain.Evidence {
				if broken && e.Verdict != health.Unknown {
					t.Errorf("%s was asked after the chain had broken", e.Probe)
				}
				broken = broken || e.Verdict != health.OK
			}
		})
	}
}

// A caller that has no time says nothing about the gateway.
func TestAskCutShort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts, never answers
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	m := material(t, time.Now())
	why := errors.New("interrupted")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, why)
	defer cancel()
	var chain Chain
	Ask(ctx, &chain, Target{Endpoint: gateway.Endpoint{Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port}, Access: gateway.Access{TLS: m.ClientConfig(bundle.LocalName)}})
	if chain.Verdict != health.Unknown || chain.Reason != "gateway-unknown" {
		t.Errorf("%v %s: %s", chain.Verdict, chain.Reason, chain.Message)
	}
	t.Setenv("CREEL_BUDGET_PROBE", "50ms") // now it is the gateway that does not answer
	chain = Chain{}
	Ask(t.Context(), &chain, Target{Endpoint: gateway.Endpoint{Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port}, Access: gateway.Access{TLS: m.ClientConfig(bundle.LocalName)}})
	if chain.Verdict != health.Failed || chain.Reason != "gateway-hung" {
		t.Errorf("%v %s: %s", chain.Verdict, chain.Reason, chain.Message)
	}
}

func TestEmptyChainIsUnknown(t *testing.T) {
	var c Chain
	c.Conclude()
	if c.Verdict != health.Unknown {
		t.Errorf("a chain that asked nothing is %v", c.Verdict)
	}
}

// A chain that goes on with what another found keeps its own first broken link.
func TestJoin(t *testing.T) {
	var whole, broken, later Chain
	broken.Hold("a", "yes", 0)
	broken.Break(TLS, "b", health.Unknown, "gateway-unknown", "no answer", 0)
	later.Break(Health, "c", health.Failed, "gateway-unhealthy", "sick", 0)
	whole.Hold("first", "yes", 0)
	whole.Join(broken)
	whole.Join(later)
	whole.Conclude()
	if whole.Verdict != health.Unknown || whole.Reason != "gateway-unknown" || whole.Message != "no answer" || len(whole.Evidence) != 4 {
		t.Errorf("%+v", whole)
	}
	var good Chain
	good.Hold("a", "yes", 0)
	var all Chain
	all.Join(good)
	if all.Conclude(); all.Verdict != health.OK {
		t.Errorf("%+v", all)
	}
}
