package server

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	openshellv1 "creel/api/openshell/v1"
	"creel/internal/sandbox"
	"creel/internal/server/store"
)

func (s *openShell) ConnectSupervisor(stream grpc.BidiStreamingServer[openshellv1.SupervisorMessage, openshellv1.GatewayMessage]) error {
	id := caller(stream.Context()).SandboxID
	if err := s.d.served(stream.Context(), id); err != nil {
		return err
	}
	return s.d.hub.Serve(stream, id)
}

func (s *openShell) RelayStream(stream grpc.BidiStreamingServer[openshellv1.RelayFrame, openshellv1.RelayFrame]) error {
	return s.d.hub.Join(stream, caller(stream.Context()).SandboxID)
}

// served reports a supervisor whose sandbox is not, or no longer, this gateway's.
func (d *daemon) served(ctx context.Context, sandboxID string) error {
	o, err := d.store.Sandboxes.ByID(ctx, sandboxID)
	if err != nil {
		return err
	}
	if o.Value.Deleting {
		return status.Error(codes.FailedPrecondition, "the sandbox is being deleted")
	}
	return nil
}

func (s *openShell) PushSandboxLogs(stream grpc.ClientStreamingServer[openshellv1.PushSandboxLogsRequest, openshellv1.PushSandboxLogsResponse]) error {
	// Reading apart lets the stream end when the gateway stops; the reader ends with
	// the stream.
	ended := make(chan error, 1)
	go func() { ended <- s.takeLogs(stream) }()
	select {
	case err := <-ended:
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&openshellv1.PushSandboxLogsResponse{})
		}
		return err
	case <-s.d.ctx.Done():
		return status.Error(codes.Unavailable, "gateway is stopping")
	}
}

func (s *openShell) takeLogs(stream grpc.ClientStreamingServer[openshellv1.PushSandboxLogsRequest, openshellv1.PushSandboxLogsResponse]) error {
	id := caller(stream.Context()).SandboxID
	for {
		r, err := stream.Recv()
		if err != nil {
			return err
		}
		if err := ownSandbox(stream.Context(), r.GetSandboxId()); err != nil {
			return err
		}
		e := s.d.entry(id)
		if e == nil {
			return status.Error(codes.NotFound, "no such sandbox")
		}
		for _, line := range r.GetLogs() {
			if line != nil {
				line.SandboxId = id
			}
		}
		e.feed.AppendLines(r.GetLogs()...)
	}
}

func (s *openShell) ReportMainProcessExit(ctx context.Context, r *openshellv1.ReportMainProcessExitRequest) (*openshellv1.ReportMainProcessExitResponse, error) {
	if err := ownSandbox(ctx, r.GetSandboxId()); err != nil {
		return nil, err
	}
	e := s.d.entry(r.GetSandboxId())
	if e == nil {
		return nil, status.Error(codes.NotFound, "no such sandbox")
	}
	e.mu.Lock()
	if e.report != nil && (r.GetInstanceId() == "" || e.report.Main.InstanceID == r.GetInstanceId()) {
		report := *e.report
		code := int(r.GetExitCode())
		report.Main.LastExitCode = &code
		if report.Main.State == sandbox.ProcRunning || report.Main.State == sandbox.ProcStarting {
			// What follows from it, another attempt or none, its next report will say.
			report.Main.State, report.Main.LastExit = sandbox.ProcExited, fmt.Sprintf("exited with code %d", code)
		}
		e.report = &report
	}
	e.mu.Unlock()
	e.nudge()
	return &openshellv1.ReportMainProcessExitResponse{}, nil
}

func (s *openShell) ReportPolicyStatus(ctx context.Context, r *openshellv1.ReportPolicyStatusRequest) (*openshellv1.ReportPolicyStatusResponse, error) {
	if err := ownSandbox(ctx, r.GetSandboxId()); err != nil {
		return nil, err
	}
	if r.GetVersion() > policyVersion {
		return nil, status.Error(codes.NotFound, "there is no such policy revision")
	}
	_, err := s.d.store.Sandboxes.Change(ctx, r.GetSandboxId(), func(o *store.Object[store.Sandbox]) error {
		o.Value.PolicyError = r.GetLoadError()
		switch r.GetStatus() {
		case openshellv1.PolicyStatus_POLICY_STATUS_LOADED:
			o.Value.PolicyStatus, o.Value.PolicyLoadedAt = "loaded", s.d.cfg.Now().UTC()
		case openshellv1.PolicyStatus_POLICY_STATUS_FAILED:
			o.Value.PolicyStatus = "failed"
		default:
			o.Value.PolicyStatus = ""
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &openshellv1.ReportPolicyStatusResponse{}, nil
}

func (s *openShell) RefreshSandboxToken(ctx context.Context, _ *openshellv1.RefreshSandboxTokenRequest) (*openshellv1.RefreshSandboxTokenResponse, error) {
	id := caller(ctx).SandboxID
	if err := s.d.served(ctx, id); err != nil {
		return nil, err
	}
	now := s.d.cfg.Now()
	bearer, err := MintSandboxToken(s.d.cfg.Material, s.d.cfg.Gateway.Name, id, now, tokenLife)
	if err != nil {
		return nil, err
	}
	return &openshellv1.RefreshSandboxTokenResponse{Token: bearer.Reveal(), ExpiresAtMs: now.Add(tokenLife).UnixMilli()}, nil
}
