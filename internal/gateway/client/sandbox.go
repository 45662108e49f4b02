package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	creelv1 "creel/api/creel/v1"
	openshellv1 "creel/api/openshell/v1"
	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/credential"
	"creel/internal/dashboard"
	"creel/internal/gateway"
	"creel/internal/sandbox"
)

// specTo writes a Spec as OpenShell's message; what that has no field for travels
// in template.driver_config under the driver's name.
func specTo(s sandbox.Spec) (*openshellv1.SandboxSpec, error) {
	own := map[string]any{"agent": s.Agent, "restart": string(s.Restart), "confinement": string(s.Confinement), "policy": string(s.Policy)}
	if s.RiskAccepted {
		own["risk_accepted"] = true
	}
	if d := s.Dashboard; d.TargetPort > 0 {
		board := map[string]any{"target_port": d.TargetPort, "bind": d.Bind, "port": d.Port,
			"port_explicit": d.PortExplicit, "health_path": d.HealthPath, "websocket_path": d.WebSocket}
		if d.PublicURL != "" {
			board["public_url"] = d.PublicURL
		}
		if len(d.TrustedProxies) > 0 {
			board["trusted_proxies"] = d.TrustedProxies
		}
		if d.Stopped { // left out otherwise: a gateway of an earlier version does not know it
			board["stopped"] = true
		}
		own["dashboard"] = board
	}
	if len(s.Forwards) > 0 {
		own["forwards"] = s.Forwards
	}
	text, err := json.Marshal(map[string]any{"process": own})
	if err != nil {
		return nil, fmt.Errorf("encode sandbox: %w", err)
	}
	config := &structpb.Struct{}
	if err := config.UnmarshalJSON(text); err != nil {
		return nil, fmt.Errorf("encode sandbox: %w", err)
	}
	return &openshellv1.SandboxSpec{LogLevel: s.LogLevel, Environment: s.Environment, Providers: s.Providers, Command: s.Command,
		Tty: s.TTY, Template: &openshellv1.SandboxTemplate{DriverConfig: config}}, nil
}

// CreateSandbox implements gateway.Client.
func (c *client) CreateSandbox(ctx context.Context, name string, spec sandbox.Spec) (gateway.Inspection, error) {
	operation := "create sandbox " + name
	ctx, cancel := budget.Context(ctx, budget.Operation, operation)
	defer cancel()
	message, err := specTo(spec)
	if err != nil {
		return gateway.Inspection{}, err
	}
	r, err := c.openshell.CreateSandbox(ctx, &openshellv1.CreateSandboxRequest{Name: name, Spec: message, Labels: spec.Labels})
	if err != nil {
		return gateway.Inspection{}, c.problem(ctx, operation, err)
	}
	return shown(r.GetSandbox()), nil
}

// shown is what a sandbox's OpenShell message tells; inspections tell more.
func shown(s *openshellv1.Sandbox) gateway.Inspection {
	i := gateway.Inspection{Name: nameFrom(s.GetMetadata().GetName()), ID: s.GetMetadata().GetId(), Phase: phaseFrom(s.GetStatus().GetPhase()),
		CreatedAt: time.UnixMilli(s.GetMetadata().GetCreatedAtMs()).UTC()}
	for _, condition := range s.GetStatus().GetConditions() {
		if condition.GetType() == "Ready" {
			i.Message = condition.GetMessage()
		}
	}
	return i
}

// nameFrom is a sandbox's name as a gateway told it. One that Creel gives to none is
// fit to be shown, and no command takes it.
func nameFrom(name string) string {
	if sandbox.CheckName(name) == nil {
		return name
	}
	if name = credential.Redact(name); !advisory.IsPlain(name) || name[0] == '-' {
		name = strconv.Quote(name)
	}
	return name
}

func phaseFrom(p openshellv1.SandboxPhase) sandbox.Phase {
	switch p {
	case openshellv1.SandboxPhase_SANDBOX_PHASE_PROVISIONING:
		return sandbox.Provisioning
	case openshellv1.SandboxPhase_SANDBOX_PHASE_READY:
		return sandbox.Ready
	case openshellv1.SandboxPhase_SANDBOX_PHASE_ERROR:
		return sandbox.Error
	case openshellv1.SandboxPhase_SANDBOX_PHASE_DELETING:
		return sandbox.Deleting
	case openshellv1.SandboxPhase_SANDBOX_PHASE_STOPPING:
		return sandbox.Stopping
	case openshellv1.SandboxPhase_SANDBOX_PHASE_STOPPED:
		return sandbox.Stopped
	case openshellv1.SandboxPhase_SANDBOX_PHASE_STARTING:
		return sandbox.Starting
	}
	return sandbox.UnknownPhase
}

func (c *client) get(ctx context.Context, operation, name string) (*openshellv1.Sandbox, error) {
	ctx, cancel := budget.Context(ctx, budget.Operation, operation)
	defer cancel()
	r, err := c.openshell.GetSandbox(ctx, &openshellv1.GetSandboxRequest{Name: name})
	if err != nil {
		return nil, c.problem(ctx, operation, err)
	}
	return r.GetSandbox(), nil
}

// WaitSandbox implements gateway.Client. It gives up after the budget
// sandbox-ready. A phase of error ends it without an error: the inspection says
// why.
func (c *client) WaitSandbox(ctx context.Context, name string, report gateway.Progress) (gateway.Inspection, error) {
	last, err := c.await(ctx, name, report)
	if err != nil {
		return last, err
	}
	full, err := c.Inspect(ctx, false, name)
	switch {
	case err != nil:
		return last, err
	case len(full) == 0:
		return last, fmt.Errorf("wait for sandbox %s: it was deleted: %w", name, gateway.ErrNotFound)
	}
	return full[0], nil
}

// await follows a sandbox until it is ready or in a phase that it does not leave
// by itself.
func (c *client) await(ctx context.Context, name string, report gateway.Progress) (gateway.Inspection, error) {
	operation := "wait for sandbox " + name
	s, err := c.get(ctx, operation, name)
	if err != nil {
		return gateway.Inspection{}, err
	}
	last := shown(s)
	ctx, cancel := budget.Context(ctx, budget.SandboxReady, operation+" to be ready")
	defer cancel()
	there, err := c.follow(ctx, operation, s.GetMetadata().GetId(), report, func(i gateway.Inspection) bool {
		last = i
		switch i.Phase {
		case sandbox.Ready, sandbox.Error, sandbox.Stopped, sandbox.Deleting:
			return true
		}
		return false
	})
	if err != nil {
		return last, fmt.Errorf("%w (it is %s: %s)", err, last.Phase, last.Message)
	}
	if !there { // the stream ended: it was deleted, or the gateway is ending
		if s, err = c.get(ctx, operation, name); err != nil {
			return last, err
		}
		last = shown(s)
	}
	return last, nil
}

// follow watches a sandbox until done says so (true) or it is gone (false).
func (c *client) follow(ctx context.Context, operation, id string, report gateway.Progress, done func(gateway.Inspection) bool) (bool, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.openshell.WatchSandbox(ctx, &openshellv1.WatchSandboxRequest{Id: id, FollowStatus: true})
	if err != nil {
		return false, c.problem(ctx, operation, err)
	}
	said := ""
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, c.problem(ctx, operation, err)
		}
		if m.GetSandbox() == nil {
			continue
		}
		i := shown(m.GetSandbox())
		say := string(i.Phase)
		if i.Message != "" {
			say += ": " + i.Message
		}
		if say != said && report != nil {
			said = say
			report(say)
		}
		if done(i) {
			return true, nil
		}
	}
}

// StartSandbox implements gateway.Client. It returns when the start is under way;
// see WaitSandbox.
func (c *client) StartSandbox(ctx context.Context, name string) error {
	operation := "start sandbox " + name
	ctx, cancel := budget.Context(ctx, budget.Operation, operation)
	defer cancel()
	_, err := c.openshell.StartSandbox(ctx, &openshellv1.StartSandboxRequest{Name: name})
	return c.problem(ctx, operation, err)
}

// StopSandbox implements gateway.Client. It returns when the sandbox has ended,
// within the budget operation.
func (c *client) StopSandbox(ctx context.Context, name string) error {
	operation := "stop sandbox " + name
	ctx, cancel := budget.Context(ctx, budget.Operation, operation)
	defer cancel()
	r, err := c.openshell.StopSandbox(ctx, &openshellv1.StopSandboxRequest{Name: name})
	if err != nil {
		return c.problem(ctx, operation, err)
	}
	_, err = c.follow(ctx, operation, r.GetSandbox().GetMetadata().GetId(), nil,
		func(i gateway.Inspection) bool { return i.Phase == sandbox.Stopped })
	return ignoreGone(err)
}

// ignoreGone: what was deleted meanwhile has ended, too.
func ignoreGone(err error) error {
	if errors.Is(err, gateway.ErrNotFound) {
		return nil
	}
	return err
}

// DeleteSandbox implements gateway.Client. It returns when nothing is left of the
// sandbox, within the budget heavy.
func (c *client) DeleteSandbox(ctx context.Context, name string) (bool, error) {
	operation := "delete sandbox " + name
	ctx, cancel := budget.Context(ctx, budget.Heavy, operation)
	defer cancel()
	s, err := c.get(ctx, operation, name)
	if errors.Is(err, gateway.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	r, err := c.openshell.DeleteSandbox(ctx, &openshellv1.DeleteSandboxRequest{Name: name})
	if err != nil {
		return false, c.problem(ctx, operation, err)
	}
	if !r.GetDeleted() {
		return false, nil
	}
	_, err = c.follow(ctx, operation, s.GetMetadata().GetId(), nil, func(gateway.Inspection) bool { return false })
	return true, ignoreGone(err)
}

// UpdateSandbox implements gateway.Updater.
func (c *client) UpdateSandbox(ctx context.Context, name string, spec sandbox.Spec) error {
	operation := "change sandbox " + name
	ctx, cancel := budget.Context(ctx, budget.Operation, operation)
	defer cancel()
	text, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("encode sandbox: %w", err)
	}
	_, err = c.creel.UpdateSandbox(ctx, &creelv1.UpdateSandboxRequest{Name: name, SpecJson: text})
	return c.problem(ctx, operation, err)
}

// RotateDashboardToken implements gateway.Updater.
func (c *client) RotateDashboardToken(ctx context.Context, name string) (bool, error) {
	operation := "rotate the dashboard's token of " + name
	ctx, cancel := budget.Context(ctx, budget.Operation, operation)
	defer cancel()
	r, err := c.creel.RotateDashboardToken(ctx, &creelv1.RotateDashboardTokenRequest{Name: name})
	return r.GetRestartNeeded(), c.problem(ctx, operation, err)
}

// UpdateForwards implements gateway.Updater.
func (c *client) UpdateForwards(ctx context.Context, name string, spec sandbox.Spec) (gateway.Inspection, error) {
	operation := "change the forwards of sandbox " + name
	ctx, cancel := budget.Context(ctx, budget.Operation, operation)
	defer cancel()
	r := &creelv1.UpdateForwardsRequest{Name: name}
	if d := spec.Dashboard; d.TargetPort != 0 {
		r.Dashboard = &creelv1.Listener{Bind: d.Bind, Port: uint32(d.Port), PortExplicit: d.PortExplicit, Stopped: d.Stopped,
			PublicUrl: d.PublicURL, TrustedProxies: d.TrustedProxies}
	}
	for _, f := range spec.Forwards {
		r.Forwards = append(r.Forwards, &creelv1.Listener{Bind: f.Bind, Port: uint32(f.Port), PortExplicit: f.Port != 0, TargetPort: uint32(f.TargetPort)})
	}
	answer, err := c.creel.UpdateForwards(ctx, r)
	if err != nil {
		return gateway.Inspection{}, c.problem(ctx, operation, err)
	}
	return inspectionFrom(answer.GetSandbox()), nil
}

// Dashboard implements gateway.Client.
func (c *client) Dashboard(ctx context.Context, name string, token bool) (gateway.Dashboard, error) {
	operation := "ask for the dashboard of " + name
	ctx, cancel := budget.Context(ctx, budget.Operation, operation)
	defer cancel()
	r, err := c.creel.GetDashboard(ctx, &creelv1.GetDashboardRequest{Name: name, ShowToken: token})
	if err != nil {
		return gateway.Dashboard{}, c.problem(ctx, operation, err)
	}
	access := dashboard.Access{PublicURL: r.GetPublicUrl(), TrustedProxies: r.GetTrustedProxies()}
	return gateway.Dashboard{Forward: forwardFrom(r.GetForward()), Token: credential.NewSecret(r.GetToken()), Access: access,
		HealthPath: r.GetHealthPath(), WebSocket: r.GetWebsocketPath(), Agent: r.GetAgent()}, nil
}
