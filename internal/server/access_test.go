package server_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	datamodelv1 "creel/api/openshell/datamodel/v1"
	inferencev1 "creel/api/openshell/inference/v1"
	sandboxv1 "creel/api/openshell/sandbox/v1"
	openshellv1 "creel/api/openshell/v1"
	"creel/internal/bundle"
	"creel/internal/credential"
	"creel/internal/health"
	"creel/internal/inference"
	"creel/internal/sandbox"
	"creel/internal/server"
	"creel/internal/server/servertest"
)

// overSocket is a connection to the Unix socket with a token.
func overSocket(t testing.TB, g *servertest.Gateway, token string) *grpc.ClientConn {
	t.Helper()
	c, err := servertest.Dialled(g.Config.Gateway.Socket(), func() string { return token })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func mint(t testing.TB, g *servertest.Gateway, id string, at time.Time) string {
	t.Helper()
	s, err := server.MintSandboxToken(g.Config.Material, g.Config.Gateway.Name, id, at, 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return s.Reveal()
}

func TestWhoMayCallWhat(t *testing.T) {
	g := servertest.Start(t)
	i := ready(t, g.Client(), "demo", sandbox.Spec{})
	other := ready(t, g.Client(), "other", sandbox.Spec{})
	user := g.Conn(nil)
	box := overSocket(t, g, mint(t, g, i.ID, time.Now()))
	stale := overSocket(t, g, mint(t, g, i.ID, time.Now().Add(-25*time.Hour)))
	nobody := overSocket(t, g, "")
	forged := overSocket(t, g, mint(t, servertest.New(t), i.ID, time.Now()))

	health := func(c *grpc.ClientConn) error {
		_, err := openshellv1.NewOpenShellClient(c).Health(within(t), &openshellv1.HealthRequest{})
		return err
	}
	list := func(c *grpc.ClientConn) error {
		_, err := openshellv1.NewOpenShellClient(c).ListSandboxes(within(t), &openshellv1.ListSandboxesRequest{})
		return err
	}
	refresh := func(c *grpc.ClientConn) error {
		_, err := openshellv1.NewOpenShellClient(c).RefreshSandboxToken(within(t), &openshellv1.RefreshSandboxTokenRequest{})
		return err
	}
	config := func(id string) func(*grpc.ClientConn) error {
		return func(c *grpc.ClientConn) error {
			_, err := openshellv1.NewOpenShellClient(c).GetSandboxConfig(within(t), &sandboxv1.GetSandboxConfigRequest{SandboxId: id})
			return err
		}
	}
	session := func(c *grpc.ClientConn) error {
		s, err := openshellv1.NewOpenShellClient(c).ConnectSupervisor(within(t))
		if err != nil {
			return err
		}
		// Of another sandbox than the token's, so that the one that serves stays.
		_ = s.Send(&openshellv1.SupervisorMessage{Payload: &openshellv1.SupervisorMessage_Hello{Hello: &openshellv1.SupervisorHello{SandboxId: other.ID}}})
		_, err = s.Recv()
		return err
	}
	workspaces := func(c *grpc.ClientConn) error {
		_, err := openshellv1.NewOpenShellClient(c).ListWorkspaces(within(t), &openshellv1.ListWorkspacesRequest{})
		return err
	}
	for _, x := range []struct {
		name string
		conn *grpc.ClientConn
		call func(*grpc.ClientConn) error
		want codes.Code
	}{
		{"user asks health", user, health, codes.OK},
		{"nobody asks health", nobody, health, codes.OK},
		{"user lists", user, list, codes.OK},
		{"sandbox lists", box, list, codes.PermissionDenied},
		{"nobody lists", nobody, list, codes.Unauthenticated},
		{"user refreshes a sandbox's token", user, refresh, codes.PermissionDenied},
		{"sandbox refreshes its token", box, refresh, codes.OK},
		{"with a token that is over", stale, refresh, codes.Unauthenticated},
		{"with another gateway's token", forged, refresh, codes.Unauthenticated},
		{"with no token", nobody, refresh, codes.Unauthenticated},
		{"user asks a configuration", user, config(i.ID), codes.OK},
		{"sandbox asks its own", box, config(i.ID), codes.OK},
		{"sandbox asks another's", box, config(other.ID), codes.PermissionDenied},
		{"user connects as supervisor", user, session, codes.PermissionDenied},
		{"sandbox connects as another", box, session, codes.PermissionDenied},
		{"what is not served", user, workspaces, codes.Unimplemented},
	} {
		if got := status.Code(x.call(x.conn)); got != x.want {
			t.Errorf("%s: %s, want %s", x.name, got, x.want)
		}
	}
	me, err := openshellv1.NewOpenShellClient(user).GetCurrentUser(within(t), &openshellv1.GetCurrentUserRequest{})
	if err != nil || me.GetSubject() != "openshell-client" || strings.Join(me.GetRoles(), ",") != "openshell-user" {
		t.Errorf("who am I: %v %v", me, err)
	}
	got, err := openshellv1.NewOpenShellClient(user).GetSandboxConfig(within(t), &sandboxv1.GetSandboxConfigRequest{SandboxId: i.ID})
	if err != nil || len(got.GetPolicyHash()) < 12 || got.GetPolicy().GetFilesystem() == nil {
		t.Errorf("configuration %v: %v", got, err)
	}
}

func TestNoClientCertificateNoService(t *testing.T) {
	g := servertest.Start(t)
	config := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: g.Config.Material.CA, ServerName: bundle.LocalName}
	_, err := openshellv1.NewOpenShellClient(g.Conn(config)).Health(within(t), &openshellv1.HealthRequest{})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("without a certificate: %v", err)
	}
	old := g.Config.Material.ClientConfig(bundle.LocalName)
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if c, err := tls.Dial("tcp", servertest.Address(g.Ready), old); err == nil {
		_ = c.Close()
		t.Error("TLS 1.2 was accepted")
	}
}

func TestCreateAsAnOpenShellClient(t *testing.T) {
	g := servertest.Start(t)
	api := openshellv1.NewOpenShellClient(g.Conn(nil))
	r, err := api.CreateSandbox(within(t), &openshellv1.CreateSandboxRequest{})
	if err != nil {
		t.Fatal(err)
	}
	spec := r.GetSandbox().GetSpec()
	if strings.Join(spec.GetCommand(), " ") != "/bin/bash -l" || !spec.GetTty() || r.GetSandbox().GetMetadata().GetName() == "" ||
		r.GetSandbox().GetStatus().GetPhase() != openshellv1.SandboxPhase_SANDBOX_PHASE_PROVISIONING {
		t.Errorf("created %v", r)
	}
	ruled, err := api.CreateSandbox(within(t), &openshellv1.CreateSandboxRequest{Name: "ruled", Labels: map[string]string{"team": "a"},
		Spec: &openshellv1.SandboxSpec{Command: []string{"sleep", "1"}, Policy: &sandboxv1.SandboxPolicy{Version: 1,
			Filesystem: &sandboxv1.FilesystemPolicy{IncludeWorkdir: true, ReadOnly: []string{"/usr"}, ReadWrite: []string{"/tmp"}}}}})
	if err != nil {
		t.Fatal(err)
	}
	if got := ruled.GetSandbox().GetSpec().GetPolicy().GetFilesystem().GetReadOnly(); strings.Join(got, ",") != "/usr" {
		t.Errorf("policy came back as %v", ruled.GetSandbox().GetSpec().GetPolicy())
	}
	state, err := api.GetSandboxPolicyStatus(within(t), &openshellv1.GetSandboxPolicyStatusRequest{Name: "ruled"})
	if err != nil || len(state.GetRevision().GetPolicyHash()) != 64 || state.GetRevision().GetStatus() != openshellv1.PolicyStatus_POLICY_STATUS_PENDING {
		t.Errorf("policy status %v: %v", state, err)
	}
	box := overSocket(t, g, mint(t, g, ruled.GetSandbox().GetMetadata().GetId(), time.Now()))
	if _, err := openshellv1.NewOpenShellClient(box).ReportPolicyStatus(within(t), &openshellv1.ReportPolicyStatusRequest{
		SandboxId: ruled.GetSandbox().GetMetadata().GetId(), Version: 1, Status: openshellv1.PolicyStatus_POLICY_STATUS_LOADED}); err != nil {
		t.Fatal(err)
	}
	if state, err = api.GetSandboxPolicyStatus(within(t), &openshellv1.GetSandboxPolicyStatusRequest{Name: "ruled"}); err != nil || state.GetActiveVersion() != 1 {
		t.Errorf("policy status %v: %v", state, err)
	}
	found, err := api.ListSandboxes(within(t), &openshellv1.ListSandboxesRequest{LabelSelector: "team=a"})
	if err != nil || len(found.GetSandboxes()) != 1 || found.GetSandboxes()[0].GetMetadata().GetName() != "ruled" {
		t.Errorf("selected %v: %v", found, err)
	}
	second, err := api.ListSandboxes(within(t), &openshellv1.ListSandboxesRequest{Limit: 1, Offset: 1})
	if err != nil || len(second.GetSandboxes()) != 1 || second.GetSandboxes()[0].GetMetadata().GetName() != "ruled" {
		t.Errorf("second page %v: %v", second, err)
	}
	for name, bad := range map[string]*openshellv1.CreateSandboxRequest{
		"long name":      {Name: "a-name-that-is-too-long"},
		"two hyphens":    {Name: "a--b"},
		"reserved":       {Name: "status"},
		"many variables": {Name: "ok", Spec: &openshellv1.SandboxSpec{Environment: many(129)}},
		"bad policy": {Name: "ok", Spec: &openshellv1.SandboxSpec{Policy: &sandboxv1.SandboxPolicy{Version: 1,
			Filesystem: &sandboxv1.FilesystemPolicy{ReadWrite: []string{"/"}}}}},
	} {
		if _, err := api.CreateSandbox(within(t), bad); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func many(n int) map[string]string {
	m := map[string]string{}
	for i := range n {
		m["V"+strings.Repeat("x", i)] = "1"
	}
	return m
}

const canary = "sk-canary-8c5f1a"

func TestCredentialsAreWriteOnly(t *testing.T) {
	var asked []inference.Route
	class, verdict := inference.ClassOK, health.OK
	g := servertest.Start(t, func(c *server.Config) {
		c.Check = func(_ context.Context, r inference.Route) inference.Check {
			asked = append(asked, r)
			return inference.Check{Class: class, Verdict: verdict, Message: "as told", Endpoint: r.BaseURL, At: time.Now()}
		}
	})
	c := g.Client()
	api := openshellv1.NewOpenShellClient(g.Conn(nil))
	route := inference.Route{Provider: "acme", Type: "custom", BaseURL: "http://127.0.0.1:9/v1", Key: credential.NewSecret(canary)}
	if check, err := c.CheckInference(within(t), 0); err != nil || check.Class != inference.ClassNone || check.Verdict != health.OK {
		t.Errorf("without a route: %+v %v", check, err)
	}
	if err := c.SetRoute(within(t), "acme", "m"); err == nil {
		t.Error("a route to a provider that is not stored")
	}
	for range 2 { // creating and replacing
		if err := c.SetProvider(within(t), route); err != nil {
			t.Fatal(err)
		}
	}
	p, err := api.GetProvider(within(t), &openshellv1.GetProviderRequest{Name: "acme"})
	if err != nil || p.GetProvider().GetCredentials()["OPENAI_API_KEY"] != "REDACTED" || strings.Contains(p.String(), canary) {
		t.Errorf("provider %v: %v", p, err)
	}
	// Writing back what was read keeps the stored value.
	if _, err := api.UpdateProvider(within(t), &openshellv1.UpdateProviderRequest{Provider: &datamodelv1.Provider{
		Metadata: p.GetProvider().GetMetadata(), Credentials: p.GetProvider().GetCredentials()}}); err != nil {
		t.Error(err)
	}
	if _, err := api.UpdateProvider(within(t), &openshellv1.UpdateProviderRequest{Provider: p.GetProvider()}); status.Code(err) != codes.Aborted {
		t.Errorf("update of an old version: %v", err)
	}
	if err := c.SetRoute(within(t), "acme", "large"); err != nil {
		t.Fatal(err)
	}
	if len(asked) != 0 {
		t.Error("setting a route without verification asked the provider")
	}
	for range 3 {
		if check, err := c.CheckInference(within(t), time.Hour); err != nil || check.Verdict != health.OK {
			t.Fatalf("%+v %v", check, err)
		}
	}
	if len(asked) != 1 || asked[0].Key.Reveal() != canary || asked[0].Model != "large" {
		t.Errorf("asked %d times", len(asked))
	}
	if _, err := c.CheckInference(within(t), 0); err != nil || len(asked) != 2 {
		t.Errorf("a check of no age did not ask: %v", err)
	}
	if err := c.SetRoute(within(t), "acme", "larger"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CheckInference(within(t), time.Hour); err != nil || len(asked) != 3 {
		t.Errorf("a changed route was not asked anew: %v", err)
	}
	i := ready(t, c, "demo", sandbox.Spec{})
	box := inferencev1.NewInferenceClient(overSocket(t, g, mint(t, g, i.ID, time.Now())))
	b, err := box.GetInferenceBundle(within(t), &inferencev1.GetInferenceBundleRequest{})
	if err != nil || len(b.GetRoutes()) != 1 || b.GetRoutes()[0].GetApiKey() != canary || b.GetRoutes()[0].GetBaseUrl() != route.BaseURL {
		t.Errorf("bundle of %d routes: %v", len(b.GetRoutes()), err)
	}
	class, verdict = inference.ClassCredential, health.Failed
	verified := inferencev1.NewInferenceClient(g.Conn(nil))
	_, err = verified.SetInferenceRoute(within(t), &inferencev1.SetInferenceRouteRequest{ProviderName: "acme", ModelId: "other"})
	if status.Code(err) != codes.FailedPrecondition {
		t.Errorf("a provider that refuses: %v", err)
	}
	if r, ok, err := c.Route(within(t)); err != nil || !ok || r.Model != "larger" || !r.Key.Empty() {
		t.Errorf("route %+v %v %v", r, ok, err)
	}
	if _, err := api.DeleteProvider(within(t), &openshellv1.DeleteProviderRequest{Name: "acme"}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("delete a provider in use: %v", err)
	}
	for range 2 {
		if err := c.SetRoute(within(t), "", ""); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok, err := c.Route(within(t)); err != nil || ok {
		t.Errorf("a removed route: %v %v", ok, err)
	}
}

func TestSessionsIntoASandbox(t *testing.T) {
	g := servertest.Start(t)
	i := ready(t, g.Client(), "demo", sandbox.Spec{})
	api := openshellv1.NewOpenShellClient(g.Conn(nil))
	s, err := api.CreateSshSession(within(t), &openshellv1.CreateSshSessionRequest{SandboxId: i.ID})
	if err != nil {
		t.Fatal(err)
	}
	if s.GetGatewayScheme() != "https" || s.GetGatewayPort() != uint32(g.Ready.Port) || len(s.GetToken()) != 36 {
		t.Errorf("session %v", s.GetGatewayHost())
	}
	open := func(token string) (grpc.BidiStreamingClient[openshellv1.TcpForwardFrame, openshellv1.TcpForwardFrame], error) {
		stream, err := api.ForwardTcp(within(t))
		if err != nil {
			return nil, err
		}
		err = stream.Send(&openshellv1.TcpForwardFrame{Payload: &openshellv1.TcpForwardFrame_Init{Init: &openshellv1.TcpForwardInit{
			SandboxId: i.ID, AuthorizationToken: token, Target: &openshellv1.TcpForwardInit_Ssh{Ssh: &openshellv1.SshRelayTarget{}}}}})
		if err != nil {
			return nil, err
		}
		m, err := stream.Recv()
		if err == nil && !strings.HasPrefix(string(m.GetData()), "SSH-2.0") {
			err = errors.New("no SSH server answers")
		}
		return stream, err
	}
	var streams []grpc.BidiStreamingClient[openshellv1.TcpForwardFrame, openshellv1.TcpForwardFrame]
	for range 3 {
		stream, err := open(s.GetToken())
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, stream)
	}
	if _, err := open(s.GetToken()); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("fourth connection: %v", err)
	}
	if _, err := open("not-a-token"); status.Code(err) != codes.Unauthenticated {
		t.Errorf("wrong token: %v", err)
	}
	for _, stream := range streams {
		_ = stream.CloseSend()
		for {
			if _, err := stream.Recv(); err != nil {
				if !errors.Is(err, io.EOF) {
					t.Errorf("closed stream ends with %v", err)
				}
				break
			}
		}
	}
	if _, err := open(s.GetToken()); err != nil {
		t.Errorf("after the others were closed: %v", err)
	}
	if r, err := api.RevokeSshSession(within(t), &openshellv1.RevokeSshSessionRequest{Token: s.GetToken()}); err != nil || !r.GetRevoked() {
		t.Errorf("revoke: %v %v", r, err)
	}
	if _, err := open(s.GetToken()); status.Code(err) != codes.Unauthenticated {
		t.Errorf("revoked token: %v", err)
	}
	for n := range 20 {
		if _, err := api.CreateSshSession(within(t), &openshellv1.CreateSshSessionRequest{SandboxId: i.ID}); err != nil {
			t.Fatalf("session %d: %v", n, err)
		}
	}
	if _, err := api.CreateSshSession(within(t), &openshellv1.CreateSshSessionRequest{SandboxId: i.ID}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("session 21: %v", err)
	}
}

func TestCrashOfACallIsItsOwn(t *testing.T) {
	g := servertest.Start(t, func(c *server.Config) {
		c.Check = func(context.Context, inference.Route) inference.Check { panic("as told") }
	})
	c := g.Client()
	if err := c.SetProvider(within(t), inference.Route{Provider: "acme", Type: "custom", BaseURL: "http://127.0.0.1:9/v1"}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second finds no lock held by the first
		_, err := inferencev1.NewInferenceClient(g.Conn(nil)).SetInferenceRoute(within(t),
			&inferencev1.SetInferenceRouteRequest{ProviderName: "acme", ModelId: "m"})
		if status.Code(err) != codes.Internal || strings.Contains(err.Error(), "as told") {
			t.Errorf("a handler that crashes: %v", err)
		}
	}
	if err := c.SetRoute(within(t), "acme", "m"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := c.CheckInference(within(t), 0); err == nil {
			t.Error("a check that crashed has an answer")
		}
	}
	if _, err := c.Identity(within(t)); err != nil {
		t.Errorf("the gateway did not survive: %v", err)
	}
}
