package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	datamodelv1 "creel/api/openshell/datamodel/v1"
	inferencev1 "creel/api/openshell/inference/v1"
	openshellv1 "creel/api/openshell/v1"
)

// gateway serves the calls that the command line needs for sandboxes.
type gateway struct {
	openshellv1.UnimplementedOpenShellServer
	mode    map[string]string
	reached func(string)
	kept    *records

	mu        sync.Mutex
	sandboxes map[string]*openshellv1.Sandbox // by name
	made      int
}

// noRoute has no inference route.
type noRoute struct {
	inferencev1.UnimplementedInferenceServer
}

func (noRoute) GetInferenceRoute(context.Context, *inferencev1.GetInferenceRouteRequest) (*inferencev1.GetInferenceRouteResponse, error) {
	return nil, status.Error(codes.NotFound, "inference is not configured")
}

// authenticate wants the token of the mode file, if there is one, of everybody but
// those who ask for health.
func (g *gateway) authenticate(ctx context.Context, r any, call *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	token := g.mode["token"]
	if token == "" || call.FullMethod == openshellv1.OpenShell_Health_FullMethodName && g.mode["health"] != "guarded" {
		return next(ctx, r)
	}
	md, _ := metadata.FromIncomingContext(ctx)
	if !slices.Contains(md.Get("authorization"), "Bearer "+token) && !slices.Contains(md.Get("cf-access-jwt-assertion"), token) {
		return nil, status.Error(codes.Unauthenticated, "no valid credential")
	}
	g.reached("token accepted")
	return next(ctx, r)
}

func (g *gateway) Health(context.Context, *openshellv1.HealthRequest) (*openshellv1.HealthResponse, error) {
	g.reached("health " + g.mode["mode"])
	s := openshellv1.ServiceStatus_SERVICE_STATUS_HEALTHY
	if g.mode["mode"] == "unhealthy" {
		s = openshellv1.ServiceStatus_SERVICE_STATUS_UNHEALTHY
	}
	return &openshellv1.HealthResponse{Status: s, Version: g.mode["version"]}, nil
}

func (g *gateway) GetCurrentUser(context.Context, *openshellv1.GetCurrentUserRequest) (*openshellv1.GetCurrentUserResponse, error) {
	return &openshellv1.GetCurrentUserResponse{Subject: "somebody"}, nil
}

func (g *gateway) find(name, id string) (*openshellv1.Sandbox, error) {
	for n, s := range g.sandboxes {
		if n == name || id != "" && s.GetMetadata().GetId() == id {
			return s, nil
		}
	}
	return nil, status.Errorf(codes.NotFound, "sandbox %s%s not found", name, id)
}

func (g *gateway) CreateSandbox(_ context.Context, r *openshellv1.CreateSandboxRequest) (*openshellv1.SandboxResponse, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, err := g.find(r.GetName(), ""); err == nil {
		return nil, status.Errorf(codes.AlreadyExists, "sandbox %s exists", r.GetName())
	}
	if len(r.GetSpec().GetTemplate().GetDriverConfig().GetFields()) > 0 {
		return nil, status.Error(codes.InvalidArgument, "driver_config names a driver that this gateway does not have")
	}
	pid := 0
	if file := g.mode["heart"]; file != "" {
		pid = survive(file)
	}
	g.made = max(g.made, len(g.sandboxes)) + 1
	s := &openshellv1.Sandbox{Spec: r.GetSpec(), Metadata: &datamodelv1.ObjectMeta{Id: fmt.Sprintf("00000000-0000-4000-8000-%012d", g.made),
		Name: r.GetName(), Labels: r.GetLabels(), CreatedAtMs: time.Now().UnixMilli()},
		Status: &openshellv1.SandboxStatus{Phase: openshellv1.SandboxPhase_SANDBOX_PHASE_READY}}
	g.sandboxes[r.GetName()] = s
	g.kept.save(s, pid)
	g.reached("created " + r.GetName())
	return &openshellv1.SandboxResponse{Sandbox: s}, nil
}

func (g *gateway) GetSandbox(_ context.Context, r *openshellv1.GetSandboxRequest) (*openshellv1.SandboxResponse, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s, err := g.find(r.GetName(), "")
	return &openshellv1.SandboxResponse{Sandbox: s}, err
}

func (g *gateway) ListSandboxes(_ context.Context, r *openshellv1.ListSandboxesRequest) (*openshellv1.ListSandboxesResponse, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var all []*openshellv1.Sandbox
	for _, s := range g.sandboxes {
		all = append(all, s)
	}
	return &openshellv1.ListSandboxesResponse{Sandboxes: all[min(int(r.GetOffset()), len(all)):]}, nil
}

func (g *gateway) phase(name string, p openshellv1.SandboxPhase) (*openshellv1.SandboxResponse, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s, err := g.find(name, "")
	if err == nil {
		s.Status.Phase = p
		g.kept.save(s, 0)
	}
	return &openshellv1.SandboxResponse{Sandbox: s}, err
}

func (g *gateway) StopSandbox(_ context.Context, r *openshellv1.StopSandboxRequest) (*openshellv1.SandboxResponse, error) {
	return g.phase(r.GetName(), openshellv1.SandboxPhase_SANDBOX_PHASE_STOPPED)
}

func (g *gateway) StartSandbox(_ context.Context, r *openshellv1.StartSandboxRequest) (*openshellv1.SandboxResponse, error) {
	return g.phase(r.GetName(), openshellv1.SandboxPhase_SANDBOX_PHASE_READY)
}

func (g *gateway) DeleteSandbox(_ context.Context, r *openshellv1.DeleteSandboxRequest) (*openshellv1.DeleteSandboxResponse, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, err := g.find(r.GetName(), "")
	delete(g.sandboxes, r.GetName())
	g.kept.remove(r.GetName())
	g.reached("deleted " + r.GetName())
	return &openshellv1.DeleteSandboxResponse{Deleted: err == nil}, nil
}

// WatchSandbox sends the current state and ends: nothing changes by itself here.
func (g *gateway) WatchSandbox(r *openshellv1.WatchSandboxRequest, out grpc.ServerStreamingServer[openshellv1.SandboxStreamEvent]) error {
	g.mu.Lock()
	s, err := g.find("", r.GetId())
	g.mu.Unlock()
	if err != nil {
		return err
	}
	return out.Send(&openshellv1.SandboxStreamEvent{Payload: &openshellv1.SandboxStreamEvent_Sandbox{Sandbox: s}})
}
