package server

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	datamodelv1 "creel/api/openshell/datamodel/v1"
	sandboxv1 "creel/api/openshell/sandbox/v1"
	openshellv1 "creel/api/openshell/v1"
	"creel/internal/dashboard"
	"creel/internal/policy"
	"creel/internal/sandbox"
	"creel/internal/server/store"
)

// driverKey is where sandbox.Spec's own fields travel in a template's
// driver_config.
const driverKey = "process"

// extras are the fields of sandbox.Spec that OpenShell's SandboxSpec has no place
// for.
type extras struct {
	Agent        string                `json:"agent,omitempty"`
	Restart      sandbox.RestartPolicy `json:"restart,omitempty"`
	Confinement  sandbox.Tier          `json:"confinement,omitempty"`
	RiskAccepted bool                  `json:"risk_accepted,omitempty"`
	Dashboard    *dashboardExtras      `json:"dashboard,omitempty"`
	Forwards     []sandbox.Forward     `json:"forwards,omitempty"`
	Policy       string                `json:"policy,omitempty"` // canonical JSON
}

type dashboardExtras struct {
	TargetPort    int    `json:"target_port,omitempty"`
	Bind          string `json:"bind,omitempty"`
	Port          int    `json:"port,omitempty"`
	PortExplicit  bool   `json:"port_explicit,omitempty"`
	HealthPath    string `json:"health_path,omitempty"`
	WebSocketPath string `json:"websocket_path,omitempty"`
	Stopped       bool   `json:"stopped,omitempty"`
	dashboard.Access
}

// specFrom reads what a client asks for. Without our extras it is a sandbox as
// OpenShell knows it: a shell or a command that runs once, no dashboard.
func specFrom(p *openshellv1.SandboxSpec) (sandbox.Spec, error) {
	var x extras
	if c := p.GetTemplate().GetDriverConfig().GetFields()[driverKey]; c != nil {
		text, err := c.MarshalJSON()
		if err != nil {
			return sandbox.Spec{}, fmt.Errorf("driver_config.%s: %w", driverKey, err)
		}
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields()
		if err := d.Decode(&x); err != nil {
			return sandbox.Spec{}, fmt.Errorf("driver_config.%s: %w", driverKey, err)
		}
	}
	s := sandbox.Spec{Agent: x.Agent, Command: p.GetCommand(), TTY: p.GetTty(), Restart: x.Restart,
		Confinement: x.Confinement, RiskAccepted: x.RiskAccepted,
		Providers: p.GetProviders(), LogLevel: p.GetLogLevel(), Environment: maps.Clone(p.GetTemplate().GetEnvironment())}
	if s.Environment == nil {
		s.Environment = map[string]string{}
	}
	maps.Copy(s.Environment, p.GetEnvironment())
	if d := x.Dashboard; d != nil {
		s.Dashboard = sandbox.Dashboard{TargetPort: d.TargetPort, Bind: d.Bind, Port: d.Port, PortExplicit: d.PortExplicit,
			HealthPath: d.HealthPath, WebSocket: d.WebSocketPath, Stopped: d.Stopped, Access: d.Access}
	}
	s.Forwards = x.Forwards
	document, err := policyFrom(x.Policy, p.GetPolicy())
	if err != nil {
		return sandbox.Spec{}, fmt.Errorf("policy: %w", err)
	}
	s.Policy = document.Canonical()
	return settle(s)
}

// specFromJSON reads a whole sandbox.Spec.
func specFromJSON(text []byte) (sandbox.Spec, error) {
	var s sandbox.Spec
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return s, fmt.Errorf("specification: %w", err)
	}
	return settle(s)
}

// settle fills in what was left open and refuses what cannot be.
func settle(s sandbox.Spec) (sandbox.Spec, error) {
	if len(s.Command) == 0 && (s.Agent == "" || s.Agent == "command") {
		s.Command, s.TTY = []string{"/bin/bash", "-l"}, true
	}
	if s.Agent == "" {
		s.Agent = "command"
	}
	if s.Restart == "" {
		s.Restart = sandbox.RestartNever
	}
	if s.Confinement == "" {
		s.Confinement = sandbox.TierAuto
	}
	if s.Dashboard.TargetPort > 0 {
		s.Dashboard.Bind = cmp.Or(s.Dashboard.Bind, dashboard.Loopback)
	}
	for i := range s.Forwards {
		s.Forwards[i].Bind = cmp.Or(s.Forwards[i].Bind, dashboard.Loopback)
	}
	document, err := policyFrom(string(s.Policy), nil)
	if err != nil {
		return s, fmt.Errorf("policy: %w", err)
	}
	s.Policy, s.PolicyHash = document.Canonical(), document.Hash()
	return s, checkSpec(s)
}

func policyFrom(text string, p *sandboxv1.SandboxPolicy) (policy.Document, error) {
	switch {
	case text != "":
		return policy.FromCanonical([]byte(text))
	case p == nil:
		return policy.Default(), nil
	}
	j, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(p)
	if err != nil {
		return policy.Document{}, err
	}
	if j, err = renameKey(j, "filesystem", "filesystem_policy"); err != nil {
		return policy.Document{}, err
	}
	return policy.FromCanonical(j)
}

// policies keeps the messages of policies by their hash: many sandboxes share
// one, and making the message is what costs most in a list.
type policies struct {
	mu   sync.Mutex
	made map[string]*sandboxv1.SandboxPolicy
}

// maxPolicies bounds what is kept.
const maxPolicies = 64

// message returns the message of a policy; it must not be changed.
func (p *policies) message(hash string, canonical []byte) *sandboxv1.SandboxPolicy {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m, ok := p.made[hash]; ok {
		return m
	}
	m := policyTo(canonical)
	if len(p.made) >= maxPolicies || p.made == nil {
		p.made = map[string]*sandboxv1.SandboxPolicy{}
	}
	p.made[hash] = m
	return m
}

// policyTo shows a policy as OpenShell has it; what its message cannot say is left
// out.
func policyTo(canonical []byte) *sandboxv1.SandboxPolicy {
	j, err := renameKey(canonical, "filesystem_policy", "filesystem")
	if err != nil {
		return nil
	}
	p := &sandboxv1.SandboxPolicy{}
	if (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(j, p) != nil {
		return nil
	}
	return p
}

// renameKey: the YAML key and the message field differ in this one name.
func renameKey(text []byte, from, to string) ([]byte, error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(text, &object); err != nil {
		return nil, err
	}
	if v, ok := object[from]; ok {
		delete(object, from)
		object[to] = v
	}
	return json.Marshal(object)
}

// Limits of the API notes, §2.4.
const (
	maxProviders   = 32
	maxEnvironment = 128
	maxPolicy      = 256 << 10
)

func checkSpec(s sandbox.Spec) error {
	d := s.Dashboard
	switch {
	case len(s.Providers) > maxProviders:
		return fmt.Errorf("%d providers, at most %d are allowed", len(s.Providers), maxProviders)
	case len(s.Environment) > maxEnvironment:
		return fmt.Errorf("%d environment variables, at most %d are allowed", len(s.Environment), maxEnvironment)
	case len(s.Policy) > maxPolicy:
		return fmt.Errorf("policy has %d bytes, at most %d are allowed", len(s.Policy), maxPolicy)
	case d.TargetPort < 0 || d.TargetPort > 65535 || d.Port < 0 || d.Port > 65535:
		return errors.New("a dashboard port is not between 1 and 65535")
	case dashboard.CheckBind(d.Bind) != nil:
		return fmt.Errorf("dashboard: %w", dashboard.CheckBind(d.Bind))
	case d.PublicURL != "" && !recordable(d.PublicURL):
		return fmt.Errorf("dashboard public_url %q cannot be recorded", dashboard.DisplayURL(d.PublicURL))
	case !networks(d.TrustedProxies):
		return errors.New("dashboard trusted_proxies are not networks in CIDR form, each once")
	case sandbox.CheckForwards(d, s.Forwards) != nil:
		return sandbox.CheckForwards(d, s.Forwards)
	case !slices.Contains([]sandbox.RestartPolicy{sandbox.RestartAlways, sandbox.RestartOnFailure, sandbox.RestartNever}, s.Restart):
		return fmt.Errorf("restart %q is none of always, on-failure, never", s.Restart)
	case !slices.Contains([]sandbox.Tier{sandbox.TierAuto, sandbox.TierNamespaces, sandbox.TierLandlock, sandbox.TierUnconfined}, s.Confinement):
		return fmt.Errorf("confinement %q is none of auto, namespaces, landlock, unconfined", s.Confinement)
	case s.Confinement == sandbox.TierUnconfined && !s.RiskAccepted:
		return errors.New("confinement unconfined also needs risk_accepted")
	}
	if err := checkEnvironment(s.Environment); err != nil {
		return err
	}
	if len(s.Command) > 0 {
		return checkCommand(s.Command)
	}
	return nil
}

// recordable: a URL is recorded as whoever checks it makes it, and no other way.
func recordable(url string) bool {
	same, err := dashboard.CheckPublicURL(url)
	return err == nil && same == url
}

func networks(given []string) bool {
	same, err := dashboard.CheckProxies(given)
	return err == nil && slices.Equal(same, given)
}

func specTo(s sandbox.Spec, document *sandboxv1.SandboxPolicy) *openshellv1.SandboxSpec {
	x := extras{Agent: s.Agent, Restart: s.Restart, Confinement: s.Confinement, RiskAccepted: s.RiskAccepted, Forwards: s.Forwards}
	if s.Dashboard.TargetPort > 0 {
		x.Dashboard = &dashboardExtras{TargetPort: s.Dashboard.TargetPort, Bind: s.Dashboard.Bind, Port: s.Dashboard.Port,
			PortExplicit: s.Dashboard.PortExplicit, HealthPath: s.Dashboard.HealthPath, WebSocketPath: s.Dashboard.WebSocket,
			Stopped: s.Dashboard.Stopped, Access: s.Dashboard.Access}
	}
	out := &openshellv1.SandboxSpec{LogLevel: s.LogLevel, Environment: s.Environment, Providers: s.Providers, Command: s.Command,
		Tty: s.TTY, Policy: document, Template: &openshellv1.SandboxTemplate{}}
	if own, err := structpb.NewStruct(x.fields()); err == nil {
		out.Template.DriverConfig = &structpb.Struct{Fields: map[string]*structpb.Value{driverKey: structpb.NewStructValue(own)}}
	}
	return out
}

// fields are the extras as a template carries them, without the policy: the
// message has that itself.
func (x extras) fields() map[string]any {
	m := map[string]any{"agent": x.Agent, "restart": string(x.Restart), "confinement": string(x.Confinement)}
	if x.RiskAccepted {
		m["risk_accepted"] = true
	}
	if d := x.Dashboard; d != nil {
		board := map[string]any{"target_port": d.TargetPort, "bind": d.Bind, "port": d.Port, "port_explicit": d.PortExplicit,
			"health_path": d.HealthPath, "websocket_path": d.WebSocketPath}
		if d.Stopped {
			board["stopped"] = true
		}
		if d.PublicURL != "" {
			board["public_url"] = d.PublicURL
		}
		if len(d.TrustedProxies) > 0 {
			list := make([]any, len(d.TrustedProxies))
			for i, network := range d.TrustedProxies {
				list[i] = network
			}
			board["trusted_proxies"] = list
		}
		m["dashboard"] = board
	}
	if len(x.Forwards) > 0 {
		list := make([]any, len(x.Forwards))
		for i, f := range x.Forwards {
			list[i] = map[string]any{"bind": f.Bind, "port": f.Port, "target_port": f.TargetPort}
		}
		m["forwards"] = list
	}
	return m
}

func metaTo[T any](o store.Object[T], annotations map[string]string) *datamodelv1.ObjectMeta {
	return &datamodelv1.ObjectMeta{Id: o.ID, Name: o.Name, CreatedAtMs: o.CreatedAt.UnixMilli(), Labels: o.Labels,
		ResourceVersion: o.Version, Annotations: annotations, Workspace: o.Workspace}
}

// sandboxTo shows a sandbox as it is now; v is nil when nobody looks after it.
func sandboxTo(o store.Object[store.Sandbox], v *view, document *sandboxv1.SandboxPolicy) *openshellv1.Sandbox {
	if v == nil {
		v = &view{Phase: o.Value.Phase, Message: o.Value.Message, Changed: o.UpdatedAt}
	}
	meta := metaTo(o, o.Value.Annotations)
	if o.Value.Deleting {
		meta.DeletionTimestampMs = o.Value.DeletedAt.UnixMilli()
	}
	ready := &openshellv1.SandboxCondition{Type: "Ready", Status: "False", Reason: string(v.Phase), Message: v.Message,
		LastTransitionTime: v.Changed.UTC().Format(time.RFC3339)}
	switch v.Phase {
	case sandbox.Ready:
		ready.Status = "True"
	case sandbox.UnknownPhase:
		ready.Status = "Unknown"
	}
	s := &openshellv1.SandboxStatus{SandboxName: o.Name, Phase: phaseTo(v.Phase), CurrentPolicyVersion: policyVersion,
		Conditions: []*openshellv1.SandboxCondition{ready}}
	if v.Report != nil {
		s.MainProcessInstanceId = v.Report.Main.InstanceID
		if c := v.Report.Main.LastExitCode; c != nil && v.Report.Main.State != sandbox.ProcRunning {
			code := int32(*c)
			s.ExitCode = &code
		}
	}
	return &openshellv1.Sandbox{Metadata: meta, Spec: specTo(o.Value.Spec, document), Status: s}
}

func phaseTo(p sandbox.Phase) openshellv1.SandboxPhase {
	switch p {
	case sandbox.Provisioning:
		return openshellv1.SandboxPhase_SANDBOX_PHASE_PROVISIONING
	case sandbox.Ready:
		return openshellv1.SandboxPhase_SANDBOX_PHASE_READY
	case sandbox.Error:
		return openshellv1.SandboxPhase_SANDBOX_PHASE_ERROR
	case sandbox.Deleting:
		return openshellv1.SandboxPhase_SANDBOX_PHASE_DELETING
	case sandbox.Stopping:
		return openshellv1.SandboxPhase_SANDBOX_PHASE_STOPPING
	case sandbox.Stopped:
		return openshellv1.SandboxPhase_SANDBOX_PHASE_STOPPED
	case sandbox.Starting:
		return openshellv1.SandboxPhase_SANDBOX_PHASE_STARTING
	}
	return openshellv1.SandboxPhase_SANDBOX_PHASE_UNKNOWN
}
