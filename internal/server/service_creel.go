package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	creelv1 "creel/api/creel/v1"
	"creel/internal/budget"
	"creel/internal/health"
	"creel/internal/sandbox"
	"creel/internal/server/relay"
	"creel/internal/server/store"
)

// concurrentProbes is how many agents are asked at a time. It leaves most of the
// hub's connections to users.
const concurrentProbes = 64

// creelService serves creel.v1.Creel.
type creelService struct {
	creelv1.UnimplementedCreelServer
	d *daemon
}

func (s *creelService) GetIdentity(ctx context.Context, _ *creelv1.GetIdentityRequest) (*creelv1.GetIdentityResponse, error) {
	n, err := s.d.store.Sandboxes.Count(ctx)
	if err != nil {
		return nil, err
	}
	return &creelv1.GetIdentityResponse{Gateway: s.d.cfg.Gateway.Name, InstanceId: s.d.instance, Pid: int32(s.d.pid()),
		StartedAtMs: s.d.started.UnixMilli(), Version: s.d.cfg.Version, BuildId: s.d.cfg.BuildID,
		Endpoint: fmt.Sprintf("https://%s:%d", Host, s.d.port), Sandboxes: uint32(n)}, nil
}

func (s *creelService) InspectSandboxes(ctx context.Context, r *creelv1.InspectSandboxesRequest) (*creelv1.InspectSandboxesResponse, error) {
	found, err := s.d.store.Sandboxes.List(ctx, store.Query{All: true, Names: r.GetNames()})
	if err != nil {
		return nil, err
	}
	model := ""
	if route, err := s.d.store.Routes.Get(ctx, "", userRoute); err == nil {
		model = route.Value.Model
	} else if !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	out := &creelv1.InspectSandboxesResponse{Sandboxes: make([]*creelv1.SandboxInspection, len(found))}
	places := make(chan struct{}, concurrentProbes)
	var probes sync.WaitGroup
	for i, o := range found {
		e := s.d.entry(o.ID)
		inspection := s.d.inspection(o, e)
		inspection.Model = model
		out.Sandboxes[i] = inspection
		if !r.GetProbe() || e == nil || o.Value.Deleting || o.Value.Wanted != sandbox.Running {
			continue
		}
		probes.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			inspection.Agent = s.d.probeAgent(ctx, e, o.Value.Spec.Dashboard)
		})
	}
	probes.Wait()
	return out, nil
}

func (d *daemon) inspection(o store.Object[store.Sandbox], e *entry) *creelv1.SandboxInspection {
	i := &creelv1.SandboxInspection{Name: o.Name, Id: o.ID, Phase: string(o.Value.Phase), Message: o.Value.Message,
		Wanted: string(o.Value.Wanted), PolicyDeclared: o.Value.Spec.PolicyHash, AgentName: o.Value.Spec.Agent,
		CreatedAtMs: o.CreatedAt.UnixMilli(), Labels: o.Labels, Agent: &creelv1.AgentHealth{Verdict: health.Unknown.String(), Message: "not asked"}}
	v := view{Phase: o.Value.Phase, Message: o.Value.Message}
	if e != nil {
		v = e.view()
		i.Phase, i.Message, i.Reason = string(v.Phase), v.Message, v.Reason
	}
	if session := d.hub.Session(o.ID); session != nil {
		i.Connected, i.ConnectedSinceMs = true, session.Since.UnixMilli()
	}
	i.State = stateTo(v.Report)
	i.Dashboard, i.Forwards = dashboardTo(o, v), forwardsTo(o, v)
	return i
}

// probeAgent asks an agent's health endpoint from inside its sandbox.
func (d *daemon) probeAgent(ctx context.Context, e *entry, want sandbox.Dashboard) *creelv1.AgentHealth {
	began := time.Now()
	verdict, code, message := d.askAgent(ctx, e, want)
	return &creelv1.AgentHealth{Verdict: verdict.String(), Message: message, HttpStatus: int32(code), TookUs: time.Since(began).Microseconds()}
}

func (d *daemon) askAgent(ctx context.Context, e *entry, want sandbox.Dashboard) (health.Verdict, int, string) {
	if d.hub.Session(e.id) == nil {
		return health.Unknown, 0, "could not be asked: its supervisor is not connected"
	}
	v := e.view()
	if v.Report == nil {
		return health.Unknown, 0, "could not be asked: its supervisor has not reported yet"
	}
	if v.Report.Main.State != sandbox.ProcRunning {
		return health.Failed, 0, "its process is not running: " + string(v.Report.Main.State)
	}
	port := cmp.Or(v.Report.AgentPort, want.TargetPort)
	if want.HealthPath == "" || port == 0 {
		return health.OK, 0, "its process runs; it has no health endpoint"
	}
	ctx, cancel := budget.Context(ctx, budget.Probe, "ask agent's health endpoint")
	defer cancel()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return d.hub.Open(ctx, e.id, relay.Target{Port: port})
	}}
	client := http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", port, want.HealthPath), nil)
	if err != nil {
		return health.Unknown, 0, "could not be asked: " + err.Error()
	}
	answer, err := client.Do(request)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return health.Failed, 0, "its health endpoint did not answer: " + err.Error()
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 64<<10))
	switch {
	case answer.StatusCode >= 200 && answer.StatusCode < 300:
		return health.OK, answer.StatusCode, "answered " + answer.Status
	case answer.StatusCode == http.StatusUnauthorized: // it lives and asks for its token
		return health.OK, answer.StatusCode, "answered " + answer.Status
	}
	return health.Failed, answer.StatusCode, "its health endpoint answered " + answer.Status
}

func (s *creelService) GetDashboard(ctx context.Context, r *creelv1.GetDashboardRequest) (*creelv1.GetDashboardResponse, error) {
	o, err := s.d.store.Sandboxes.Get(ctx, "", r.GetName())
	if err != nil {
		return nil, err
	}
	v := view{Phase: o.Value.Phase}
	if e := s.d.entry(o.ID); e != nil {
		v = e.view()
	}
	out := &creelv1.GetDashboardResponse{Forward: dashboardTo(o, v), HealthPath: o.Value.Spec.Dashboard.HealthPath,
		WebsocketPath: o.Value.Spec.Dashboard.WebSocket, PublicUrl: o.Value.Spec.Dashboard.PublicURL,
		TrustedProxies: o.Value.Spec.Dashboard.TrustedProxies, Agent: o.Value.Spec.Agent}
	if r.GetShowToken() {
		token, _, err := s.d.tokens(o.Value)
		if err != nil {
			return nil, err
		}
		out.Token = token.Reveal()
	}
	return out, nil
}

func (s *creelService) CheckInference(ctx context.Context, r *creelv1.CheckInferenceRequest) (*creelv1.CheckInferenceResponse, error) {
	c, route, err := s.d.checkInference(ctx, time.Duration(r.GetMaxAgeMs())*time.Millisecond)
	if err != nil {
		return nil, err
	}
	return &creelv1.CheckInferenceResponse{Verdict: c.Verdict.String(), Class: string(c.Class), Message: c.Message,
		Provider: route.Provider, Model: route.Model, Endpoint: c.Endpoint, CheckedAtMs: c.At.UnixMilli(), TookUs: c.Took.Microseconds()}, nil
}

// supervisorService serves creel.v1.Supervisor.
type supervisorService struct {
	creelv1.UnimplementedSupervisorServer
	d *daemon
}

func (s *supervisorService) ReportState(ctx context.Context, r *creelv1.ReportStateRequest) (*creelv1.ReportStateResponse, error) {
	if err := ownSandbox(ctx, r.GetSandboxId()); err != nil {
		return nil, err
	}
	if r.GetState() == nil {
		return nil, status.Error(codes.InvalidArgument, "the report has no state")
	}
	e := s.d.entry(r.GetSandboxId())
	if e == nil {
		return nil, status.Error(codes.NotFound, "no such sandbox")
	}
	e.setReport(stateFrom(r.GetState()))
	e.nudge()
	e.feed.StatusChanged()
	return &creelv1.ReportStateResponse{}, nil
}

func stateFrom(p *creelv1.SandboxState) *sandbox.State {
	s := &sandbox.State{PolicyApplied: p.GetPolicyApplied(), PolicyEnforced: p.GetPolicyEnforced(),
		SupervisorPID: int(p.GetSupervisorPid()), AgentPort: int(p.GetAgentPort()), RelayRequests: p.GetRelayRequests(), ReadsPreface: p.GetReadsPreface()}
	c := p.GetConfinement()
	s.Confinement = sandbox.Confinement{Tier: sandbox.Tier(c.GetTier()), Reason: c.GetReason()}
	for _, x := range c.GetProtections() {
		s.Confinement.Protections = append(s.Confinement.Protections, sandbox.Protection{Name: x.GetName(), On: x.GetOn(), Detail: x.GetDetail()})
	}
	m := p.GetMain()
	s.Main = sandbox.MainProcess{State: sandbox.ProcessState(m.GetState()), PID: int(m.GetPid()), Restarts: int(m.GetRestarts()),
		LastExit: m.GetLastExit(), InstanceID: m.GetInstanceId()}
	if m.GetSinceMs() != 0 {
		s.Main.Since = time.UnixMilli(m.GetSinceMs()).UTC()
	}
	if m != nil && m.LastExitCode != nil {
		code := int(m.GetLastExitCode())
		s.Main.LastExitCode = &code
	}
	return s
}

func stateTo(s *sandbox.State) *creelv1.SandboxState {
	if s == nil {
		return nil
	}
	p := &creelv1.SandboxState{PolicyApplied: s.PolicyApplied, PolicyEnforced: s.PolicyEnforced, SupervisorPid: int32(s.SupervisorPID),
		AgentPort: uint32(s.AgentPort), RelayRequests: s.RelayRequests, ReadsPreface: s.ReadsPreface,
		Confinement: &creelv1.Confinement{Tier: string(s.Confinement.Tier), Reason: s.Confinement.Reason},
		Main: &creelv1.MainProcess{State: string(s.Main.State), Pid: int32(s.Main.PID), Restarts: uint32(s.Main.Restarts),
			LastExit: s.Main.LastExit, InstanceId: s.Main.InstanceID}}
	for _, x := range s.Confinement.Protections {
		p.Confinement.Protections = append(p.Confinement.Protections, &creelv1.Protection{Name: x.Name, On: x.On, Detail: x.Detail})
	}
	if !s.Main.Since.IsZero() {
		p.Main.SinceMs = s.Main.Since.UnixMilli()
	}
	if s.Main.LastExitCode != nil {
		code := int32(*s.Main.LastExitCode)
		p.Main.LastExitCode = &code
	}
	return p
}
