package server

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	sandboxv1 "creel/api/openshell/sandbox/v1"
	openshellv1 "creel/api/openshell/v1"
	"creel/internal/sandbox"
	"creel/internal/server/store"
)

// policyVersion is the only one there is until policies can be updated.
const policyVersion = 1

// openShell serves openshell.v1.OpenShell. What it does not define answers
// UNIMPLEMENTED.
type openShell struct {
	openshellv1.UnimplementedOpenShellServer
	d *daemon
}

func (s *openShell) Health(context.Context, *openshellv1.HealthRequest) (*openshellv1.HealthResponse, error) {
	return &openshellv1.HealthResponse{Status: openshellv1.ServiceStatus_SERVICE_STATUS_HEALTHY, Version: s.d.cfg.Version}, nil
}

func (s *openShell) GetCurrentUser(ctx context.Context, _ *openshellv1.GetCurrentUserRequest) (*openshellv1.GetCurrentUserResponse, error) {
	p := caller(ctx)
	return &openshellv1.GetCurrentUserResponse{Subject: p.Subject, DisplayName: p.Subject, Roles: p.Roles,
		Scopes: []string{"openshell:all"}, IdentityProvider: "mtls"}, nil
}

func (s *openShell) GetGatewayInfo(context.Context, *openshellv1.GetGatewayInfoRequest) (*openshellv1.GetGatewayInfoResponse, error) {
	return &openshellv1.GetGatewayInfoResponse{Status: openshellv1.ServiceStatus_SERVICE_STATUS_HEALTHY, GatewayVersion: s.d.cfg.Version,
		ComputeDrivers: []*openshellv1.ComputeDriverInfo{{Name: s.d.cfg.Driver.Name(), Capabilities: &openshellv1.ComputeDriverCapabilities{
			DriverName: s.d.cfg.Driver.Name(), DriverVersion: s.d.cfg.Version}}}}, nil
}

func (s *openShell) GetGatewayConfig(context.Context, *sandboxv1.GetGatewayConfigRequest) (*sandboxv1.GetGatewayConfigResponse, error) {
	return &sandboxv1.GetGatewayConfigResponse{Settings: map[string]*sandboxv1.SettingValue{}}, nil
}

func (s *openShell) CreateSandbox(ctx context.Context, r *openshellv1.CreateSandboxRequest) (*openshellv1.SandboxResponse, error) {
	if err := checkWorkspace(r.GetWorkspace()); err != nil {
		return nil, err
	}
	name := r.GetName()
	if name == "" {
		name = "box-" + strings.ToLower(uuid.NewString()[:8])
	}
	if err := sandbox.CheckName(name); err != nil {
		return nil, invalid(err)
	}
	spec, err := specFrom(r.GetSpec())
	if err != nil {
		return nil, invalid(err)
	}
	spec.Labels = r.GetLabels()
	dashboard, relayToken, err := s.d.newTokens()
	if err != nil {
		return nil, err
	}
	o, err := s.d.store.Sandboxes.Create(ctx, store.Object[store.Sandbox]{ID: uuid.NewString(), Name: name, Labels: r.GetLabels(),
		Value: store.Sandbox{Spec: spec, Wanted: sandbox.Running, Phase: sandbox.Provisioning, Annotations: r.GetAnnotations(),
			DashboardToken: dashboard, RelayToken: relayToken}})
	if err != nil {
		return nil, err
	}
	e := s.d.adopt(o)
	v := e.view() // before anybody looks after it: a client must see it before it is Ready
	s.d.look(e)
	return &openshellv1.SandboxResponse{Sandbox: sandboxTo(o, &v, s.d.policies.message(o.Value.Spec.PolicyHash, o.Value.Spec.Policy))}, nil
}

func checkWorkspace(w string) error {
	if w != "" && w != store.DefaultWorkspace {
		return status.Errorf(codes.NotFound, "workspace %q not found: this gateway has only %q", w, store.DefaultWorkspace)
	}
	return nil
}

func (d *daemon) show(o store.Object[store.Sandbox]) *openshellv1.Sandbox {
	document := d.policies.message(o.Value.Spec.PolicyHash, o.Value.Spec.Policy)
	if e := d.entry(o.ID); e != nil {
		v := e.view()
		return sandboxTo(o, &v, document)
	}
	return sandboxTo(o, nil, document)
}

func (s *openShell) GetSandbox(ctx context.Context, r *openshellv1.GetSandboxRequest) (*openshellv1.SandboxResponse, error) {
	o, err := s.d.store.Sandboxes.Get(ctx, r.GetWorkspace(), r.GetName())
	if err != nil {
		return nil, err
	}
	return &openshellv1.SandboxResponse{Sandbox: s.d.show(o)}, nil
}

func (s *openShell) ListSandboxes(ctx context.Context, r *openshellv1.ListSandboxesRequest) (*openshellv1.ListSandboxesResponse, error) {
	limit, offset := page(r.GetLimit(), r.GetOffset())
	q := store.Query{Workspace: r.GetWorkspace(), All: r.GetAllWorkspaces(), Limit: limit, Offset: offset}
	selector, err := parseSelector(r.GetLabelSelector())
	if err != nil {
		return nil, invalid(err)
	}
	if len(selector) > 0 { // pages are of what was selected
		q.Limit, q.Offset = 0, 0
	}
	found, err := s.d.store.Sandboxes.List(ctx, q)
	if err != nil {
		return nil, err
	}
	if len(selector) > 0 {
		found = slices.DeleteFunc(found, func(o store.Object[store.Sandbox]) bool { return !selects(selector, o.Labels) })
		found = found[min(offset, len(found)):]
		found = found[:min(limit, len(found))]
	}
	out := &openshellv1.ListSandboxesResponse{}
	for _, o := range found {
		out.Sandboxes = append(out.Sandboxes, s.d.show(o))
	}
	return out, nil
}

var selectorTerm = regexp.MustCompile(`^([^=!,\s]+)\s*=?=\s*([^=!,\s]*)$`)

// parseSelector reads comma-separated key=value terms.
func parseSelector(text string) (map[string]string, error) {
	wanted := map[string]string{}
	for term := range strings.SplitSeq(text, ",") {
		if term = strings.TrimSpace(term); term == "" {
			continue
		}
		m := selectorTerm.FindStringSubmatch(term)
		if m == nil {
			return nil, fmt.Errorf("label selector %q is not key=value", term)
		}
		wanted[m[1]] = m[2]
	}
	return wanted, nil
}

func selects(wanted, labels map[string]string) bool {
	for k, v := range wanted {
		if has, ok := labels[k]; !ok || has != v {
			return false
		}
	}
	return true
}

func (s *openShell) DeleteSandbox(ctx context.Context, r *openshellv1.DeleteSandboxRequest) (*openshellv1.DeleteSandboxResponse, error) {
	_, err := s.d.want(ctx, r.GetWorkspace(), r.GetName(), sandbox.Deleting, func(v *store.Sandbox) bool {
		fresh := !v.Deleting
		v.Deleting, v.DeletedAt = true, s.d.cfg.Now().UTC()
		return fresh
	})
	if errors.Is(err, store.ErrNotFound) {
		return &openshellv1.DeleteSandboxResponse{Deleted: false}, nil
	}
	if err != nil {
		return nil, err
	}
	return &openshellv1.DeleteSandboxResponse{Deleted: true}, nil
}

func (s *openShell) StopSandbox(ctx context.Context, r *openshellv1.StopSandboxRequest) (*openshellv1.SandboxResponse, error) {
	return s.wantPhase(ctx, r.GetWorkspace(), r.GetName(), sandbox.NotRunning, sandbox.Stopping)
}

func (s *openShell) StartSandbox(ctx context.Context, r *openshellv1.StartSandboxRequest) (*openshellv1.SandboxResponse, error) {
	return s.wantPhase(ctx, r.GetWorkspace(), r.GetName(), sandbox.Running, sandbox.Starting)
}

func (s *openShell) wantPhase(ctx context.Context, workspace, name string, wanted sandbox.Wanted, passing sandbox.Phase) (*openshellv1.SandboxResponse, error) {
	o, err := s.d.want(ctx, workspace, name, passing, func(v *store.Sandbox) bool {
		// To start what failed is to ask for another attempt, and now.
		fresh := v.Wanted != wanted || wanted == sandbox.Running && v.Phase == sandbox.Error
		v.Wanted = wanted
		return fresh
	})
	if err != nil {
		return nil, err
	}
	if o.Value.Deleting {
		return nil, status.Errorf(codes.FailedPrecondition, "sandbox %q is being deleted", name)
	}
	return &openshellv1.SandboxResponse{Sandbox: s.d.show(o)}, nil
}

// want changes what is wanted of a sandbox. When that is news, whoever reads its
// status sees the passing phase at once, and what is being done for it is ended.
func (d *daemon) want(ctx context.Context, workspace, name string, passing sandbox.Phase, change func(*store.Sandbox) bool) (store.Object[store.Sandbox], error) {
	o, err := d.store.Sandboxes.Get(ctx, workspace, name)
	if err != nil {
		return o, err
	}
	e := d.entry(o.ID)
	news := false
	o, err = d.store.Sandboxes.Change(ctx, o.ID, func(o *store.Object[store.Sandbox]) error {
		wasDeleting := o.Value.Deleting
		news = change(&o.Value)
		if wasDeleting {
			news = false
		}
		return nil
	})
	if err != nil || e == nil {
		return o, err
	}
	if news {
		e.ask() // first: what is decided from now on is about this wish
		d.setPhase(ctx, e, passing, "")
		e.overrule()
	}
	e.nudge()
	return o, nil
}

func (s *openShell) GetSandboxConfig(ctx context.Context, r *sandboxv1.GetSandboxConfigRequest) (*sandboxv1.GetSandboxConfigResponse, error) {
	if err := ownSandbox(ctx, r.GetSandboxId()); err != nil {
		return nil, err
	}
	o, err := s.d.store.Sandboxes.ByID(ctx, r.GetSandboxId())
	if err != nil {
		return nil, err
	}
	return &sandboxv1.GetSandboxConfigResponse{Policy: policyTo(o.Value.Spec.Policy), Version: policyVersion,
		PolicyHash: o.Value.Spec.PolicyHash, Settings: map[string]*sandboxv1.EffectiveSetting{}, ConfigRevision: policyVersion,
		PolicySource: sandboxv1.PolicySource_POLICY_SOURCE_SANDBOX, Workspace: o.Workspace}, nil
}

func (s *openShell) GetSandboxPolicyStatus(ctx context.Context, r *openshellv1.GetSandboxPolicyStatusRequest) (*openshellv1.GetSandboxPolicyStatusResponse, error) {
	if r.GetGlobal() || r.GetVersion() > policyVersion {
		return nil, status.Error(codes.NotFound, "there is no such policy revision")
	}
	o, err := s.d.store.Sandboxes.Get(ctx, r.GetWorkspace(), r.GetName())
	if err != nil {
		return nil, err
	}
	revision := &openshellv1.SandboxPolicyRevision{Version: policyVersion, PolicyHash: o.Value.Spec.PolicyHash,
		Status: openshellv1.PolicyStatus_POLICY_STATUS_PENDING, LoadError: o.Value.PolicyError, CreatedAtMs: o.CreatedAt.UnixMilli(),
		Policy: policyTo(o.Value.Spec.Policy)}
	active := uint32(0)
	switch o.Value.PolicyStatus {
	case "loaded":
		revision.Status, revision.LoadedAtMs, active = openshellv1.PolicyStatus_POLICY_STATUS_LOADED, o.Value.PolicyLoadedAt.UnixMilli(), policyVersion
	case "failed":
		revision.Status = openshellv1.PolicyStatus_POLICY_STATUS_FAILED
	}
	return &openshellv1.GetSandboxPolicyStatusResponse{Revision: revision, ActiveVersion: active}, nil
}

func (s *openShell) ListSandboxProviders(ctx context.Context, r *openshellv1.ListSandboxProvidersRequest) (*openshellv1.ListSandboxProvidersResponse, error) {
	o, err := s.d.store.Sandboxes.Get(ctx, r.GetWorkspace(), r.GetSandboxName())
	if err != nil {
		return nil, err
	}
	out := &openshellv1.ListSandboxProvidersResponse{}
	if len(o.Value.Spec.Providers) == 0 {
		return out, nil
	}
	found, err := s.d.store.Providers.List(ctx, store.Query{Workspace: o.Workspace, Names: o.Value.Spec.Providers})
	if err != nil {
		return nil, err
	}
	for _, p := range found {
		out.Providers = append(out.Providers, providerTo(p))
	}
	return out, nil
}
