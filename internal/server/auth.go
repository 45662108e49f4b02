package server

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"creel/internal/server/token"
	"creel/internal/socket"
)

// mode says who may call a method.
type mode int

const (
	anyone      mode = iota + 1
	userOnly         // a client certificate
	sandboxOnly      // a sandbox token, on the Unix socket
	dual             // either
)

// authTable is the one place that says who may call what: the API notes, §2.2,
// and creel.v1. A method that is not here is refused.
func authTable() map[string]mode {
	table := map[string]mode{}
	add := func(service string, m mode, methods ...string) {
		for _, method := range methods {
			table["/"+service+"/"+method] = m
		}
	}
	add("openshell.v1.OpenShell", anyone, "Health")
	add("openshell.v1.OpenShell", userOnly, "GetCurrentUser", "GetGatewayInfo", "CreateSandbox", "GetSandbox",
		"ListSandboxes", "ListSandboxProviders", "AttachSandboxProvider", "DetachSandboxProvider", "DeleteSandbox",
		"StopSandbox", "StartSandbox", "CreateSshSession", "ExposeService", "GetService", "ListServices",
		"DeleteService", "RevokeSshSession", "ExecSandbox", "ForwardTcp", "ExecSandboxInteractive", "CreateProvider",
		"GetProvider", "ListProviders", "ListProviderProfiles", "GetProviderProfile", "ImportProviderProfiles",
		"UpdateProviderProfiles", "LintProviderProfiles", "UpdateProvider", "GetProviderRefreshStatus",
		"ConfigureProviderRefresh", "RotateProviderCredential", "DeleteProviderRefresh", "DeleteProvider",
		"DeleteProviderProfile", "GetGatewayConfig", "GetSandboxPolicyStatus", "ListSandboxPolicies", "GetSandboxLogs",
		"WatchSandbox", "ApproveDraftChunk", "RejectDraftChunk", "ApproveAllDraftChunks", "EditDraftChunk",
		"UndoDraftChunk", "ClearDraftChunks", "GetDraftHistory", "CreateWorkspace", "GetWorkspace", "ListWorkspaces",
		"DeleteWorkspace", "AddWorkspaceMember", "RemoveWorkspaceMember", "ListWorkspaceMembers")
	add("openshell.v1.OpenShell", sandboxOnly, "ReportPolicyStatus", "GetSandboxProviderEnvironment", "PushSandboxLogs",
		"ConnectSupervisor", "ReportMainProcessExit", "RelayStream", "SubmitPolicyAnalysis", "IssueSandboxToken",
		"RefreshSandboxToken")
	add("openshell.v1.OpenShell", dual, "GetSandboxConfig", "UpdateConfig", "GetDraftPolicy")
	add("openshell.inference.v1.Inference", sandboxOnly, "GetInferenceBundle")
	add("openshell.inference.v1.Inference", userOnly, "SetInferenceRoute", "GetInferenceRoute", "DeleteInferenceRoute")
	add("creel.v1.Creel", userOnly, "GetIdentity", "InspectSandboxes", "GetDashboard", "CheckInference",
		"UpdateSandbox", "UpdateForwards", "RotateDashboardToken")
	add("creel.v1.Supervisor", sandboxOnly, "ReportState")
	return table
}

// principal is who calls: a user by certificate, or a sandbox by token.
type principal struct {
	Subject   string   // common name; "" for a sandbox
	Roles     []string // organizational units
	SandboxID string   // "" for a user
}

type principalKey struct{}

func caller(ctx context.Context) principal {
	p, _ := ctx.Value(principalKey{}).(principal)
	return p
}

// ownSandbox reports a sandbox that speaks of another one.
func ownSandbox(ctx context.Context, sandboxID string) error {
	if own := caller(ctx).SandboxID; own != "" && own != sandboxID {
		return status.Error(codes.PermissionDenied, "a sandbox may only speak of itself")
	}
	return nil
}

// gate authorizes every call of one listener.
type gate struct {
	table map[string]mode
	cfg   Config
}

// admit identifies the caller by what the transport proved and, on the Unix
// socket, the token.
func (g gate) admit(ctx context.Context, method string) (context.Context, error) {
	want, known := g.table[method]
	if !known {
		return nil, status.Errorf(codes.Unimplemented, "unknown method %s", method)
	}
	p, err := g.identify(ctx)
	if want == anyone {
		return ctx, nil
	}
	if err != nil {
		return nil, err
	}
	switch {
	case want == userOnly && p.SandboxID != "":
		return nil, status.Error(codes.PermissionDenied, "only a user may call this")
	case want == sandboxOnly && p.SandboxID == "":
		return nil, status.Error(codes.PermissionDenied, "only a sandbox's supervisor may call this")
	}
	return context.WithValue(ctx, principalKey{}, p), nil
}

func (g gate) identify(ctx context.Context) (principal, error) {
	from, ok := peer.FromContext(ctx)
	if !ok {
		return principal{}, status.Error(codes.Unauthenticated, "no peer")
	}
	switch info := from.AuthInfo.(type) {
	case credentials.TLSInfo:
		if len(info.State.VerifiedChains) == 0 || len(info.State.VerifiedChains[0]) == 0 {
			return principal{}, status.Error(codes.Unauthenticated, "no verified client certificate")
		}
		return certificateUser(info.State.VerifiedChains[0][0]), nil
	case peerInfo:
		bearer, ok := bearerToken(ctx)
		if !ok {
			return principal{}, status.Error(codes.Unauthenticated, "no sandbox token")
		}
		id, err := token.Verify(g.cfg.Material, g.cfg.Gateway.Name, bearer, g.cfg.Now())
		if err != nil {
			return principal{}, status.Error(codes.Unauthenticated, err.Error())
		}
		return principal{SandboxID: id}, nil
	}
	return principal{}, status.Error(codes.Unauthenticated, "unknown transport")
}

func certificateUser(c *x509.Certificate) principal {
	return principal{Subject: c.Subject.CommonName, Roles: c.Subject.OrganizationalUnit}
}

func bearerToken(ctx context.Context) (string, bool) {
	md, _ := metadata.FromIncomingContext(ctx)
	values := md.Get("authorization")
	if len(values) != 1 {
		return "", false
	}
	scheme, value, ok := strings.Cut(values[0], " ")
	return value, ok && strings.EqualFold(scheme, "bearer") && value != ""
}

func (g gate) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (answer any, err error) {
	defer g.survive(info.FullMethod, &err)
	if ctx, err = g.admit(ctx, info.FullMethod); err != nil {
		return nil, err
	}
	answer, err = handle(ctx, req)
	return answer, toStatus(err)
}

func (g gate) stream(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
	defer g.survive(info.FullMethod, &err)
	ctx, err := g.admit(s.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	return toStatus(handle(srv, admitted{ServerStream: s, ctx: ctx}))
}

// survive turns a panic of one call into that call's error: a defect in one
// handler must not end every sandbox's gateway.
func (g gate) survive(method string, err *error) {
	if r := recover(); r != nil {
		g.cfg.Log.Error("call crashed", slog.String("method", method), slog.String("panic", fmt.Sprint(r)),
			slog.String("stack", string(debug.Stack())))
		*err = status.Error(codes.Internal, "the gateway's handler crashed; see its log")
	}
}

type admitted struct {
	grpc.ServerStream
	ctx context.Context
}

func (a admitted) Context() context.Context { return a.ctx }

// peerInfo is who is at the other end of the Unix socket, as the kernel says.
type peerInfo struct {
	credentials.CommonAuthInfo
	UID uint32
	PID int32
}

// AuthType implements credentials.AuthInfo.
func (peerInfo) AuthType() string { return "unix-peer" }

// peerCredentials admits processes of the given user and of root.
type peerCredentials struct{ uid uint32 }

// ServerHandshake implements credentials.TransportCredentials.
func (p peerCredentials) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	uid, pid, err := socket.Peer(c)
	if err != nil {
		return nil, nil, fmt.Errorf("ask for peer credentials: %w", err)
	}
	if uid != p.uid && uid != 0 {
		return nil, nil, fmt.Errorf("peer has user id %d", uid)
	}
	return c, peerInfo{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}, UID: uid, PID: pid}, nil
}

// ClientHandshake implements credentials.TransportCredentials.
func (peerCredentials) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, fmt.Errorf("peer credentials are asked for by a server only")
}

// Info implements credentials.TransportCredentials.
func (peerCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "unix-peer"}
}

// Clone implements credentials.TransportCredentials.
func (p peerCredentials) Clone() credentials.TransportCredentials { return p }

// OverrideServerName implements credentials.TransportCredentials.
func (peerCredentials) OverrideServerName(string) error { return nil }
