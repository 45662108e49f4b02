package layer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"creel/internal/advisory"
	"creel/internal/agent"
	"creel/internal/budget"
	"creel/internal/dashboard"
	"creel/internal/gateway"
	"creel/internal/health"
	"creel/internal/sandbox"
)

// WantedSandbox is a sandbox that should be there.
type WantedSandbox struct {
	Name   string
	Spec   sandbox.Spec
	Wanted sandbox.Wanted
}

type sandboxLayer struct {
	session *Session
	want    WantedSandbox
}

// NewSandbox is the layer of one sandbox: that it exists and is as wanted.
func NewSandbox(s *Session, want WantedSandbox) Layer { return &sandboxLayer{s, want} }

func (s *sandboxLayer) ID() ID          { return Sandbox }
func (s *sandboxLayer) Subject() string { return "sandbox/" + s.want.Name }
func (s *sandboxLayer) Title() string   { return "Sandbox " + s.want.Name }

func (s *sandboxLayer) Inspect(ctx context.Context) health.Result {
	in, err := s.session.Sandbox(ctx, s.want.Name)
	switch {
	case absent(err):
		r := failed("sandbox-absent", "sandbox %s does not exist", s.want.Name)
		r.Absent = true
		return r
	case err != nil:
		return unknown("gateway-unknown", err)
	}
	e := []health.Evidence{{Probe: "gateway's record", Answer: fmt.Sprintf("phase %s, wanted %s", in.Phase, in.Wanted), Verdict: health.OK}}
	r := s.judge(in)
	r.Evidence = e
	return r
}

// judge is what an inspection means for this layer.
func (s *sandboxLayer) judge(in gateway.Inspection) health.Result {
	if d := s.differs(in); d != "" {
		return failed("sandbox-differs", "%s", d)
	}
	if s.want.Wanted == sandbox.NotRunning {
		switch {
		case in.Wanted == sandbox.NotRunning && (in.Phase == sandbox.Stopped || in.Phase == sandbox.Stopping):
			return ok("stopped, as asked")
		default:
			return failed("sandbox-runs", "sandbox %s is %s, it should be stopped", s.want.Name, in.Phase)
		}
	}
	switch {
	case in.Wanted == sandbox.NotRunning:
		return failed("sandbox-stopped", "sandbox %s is stopped", s.want.Name)
	case in.Phase == sandbox.Error && in.State.Main.State == sandbox.ProcExited && finished(in.State.Main, s.want.Spec.Restart):
		r := ok("its job is finished, policy %s was enforced", short(in.State.PolicyEnforced))
		if in.State.Confinement.Tier == "" { // its last report went with the gateway that got it
			return r
		}
		return confinement(r, in.State.Confinement)
	case in.Phase == sandbox.Error:
		if r, is := s.want.missing(in); is {
			return r
		}
		reason := "sandbox-error"
		if _, explained := advisory.Lookup(in.Reason); explained {
			reason = in.Reason
		}
		return failed(reason, "%s", orElse(in.Message, "the sandbox is in phase error"))
	case in.Phase == sandbox.UnknownPhase:
		return unknown("sandbox-unknown", fmt.Errorf("the gateway cannot tell how the sandbox is: %s", in.Message))
	case in.Phase != sandbox.Ready:
		return failed("sandbox-not-ready", "phase %s: %s", in.Phase, orElse(in.Message, "not ready yet"))
	case !in.Connected:
		return failed("sandbox-not-connected", "its supervisor is not connected to the gateway")
	case in.Partial:
		r := ok("ready")
		r.Caveats = []health.Caveat{{Advisory: "sandbox-partly-known", Message: "the gateway tells that sandbox " + s.want.Name + " is ready, and not how it is confined"}}
		return r
	case in.State.PolicyApplied != s.want.Spec.PolicyHash || in.State.PolicyEnforced != s.enforced(in.State.Confinement.Tier):
		return failed("policy-differs", "policy declared %s, applied %s, enforced %s", short(s.want.Spec.PolicyHash), short(in.State.PolicyApplied), short(in.State.PolicyEnforced))
	}
	return confinement(ok("ready, tier %s, policy %s enforced", in.State.Confinement.Tier, short(in.State.PolicyEnforced)), in.State.Confinement)
}

// enforced is the policy that must be in force. Without confinement there is
// none, which only who accepted that risk may call fine.
func (s *sandboxLayer) enforced(t sandbox.Tier) string {
	if t == sandbox.TierUnconfined && s.want.Spec.RiskAccepted {
		return ""
	}
	return s.want.Spec.PolicyHash
}

// confinement adds what the tier in force does not cover.
func confinement(r health.Result, c sandbox.Confinement) health.Result {
	switch c.Tier {
	case sandbox.TierNamespaces:
	case sandbox.TierLandlock:
		r.Caveats = append(r.Caveats, health.Caveat{Advisory: "confinement-degraded", Message: c.Reason})
	default:
		r.Caveats = append(r.Caveats, health.Caveat{Advisory: "confinement-off", Message: orElse(c.Reason, "the sandbox is not confined")})
	}
	return r
}

// SpecLabel is the label that carries the digest of the specification that a
// sandbox was made from, so that a changed wish can be seen.
const SpecLabel = "creel.dev/spec"

// NewWantedSandbox labels spec with its digest.
func NewWantedSandbox(name string, spec sandbox.Spec, wanted sandbox.Wanted) (WantedSandbox, error) {
	// Where listeners are and how the dashboard is reached belongs to the dashboard's
	// layer: it changes without the sandbox noticing, unless the agent has to be
	// started again to be told.
	digested := spec
	board := &digested.Dashboard
	board.Port, board.PortExplicit, board.Bind, board.Stopped, board.Access = 0, false, "", false, dashboard.Access{}
	if agent.ToldAtStart(spec.Agent) {
		board.PublicURL = spec.Dashboard.PublicURL
	}
	digested.Forwards = nil
	content, err := json.Marshal(digested)
	if err != nil {
		return WantedSandbox{}, fmt.Errorf("digest of sandbox %s: %w", name, err)
	}
	sum := sha256.Sum256(content)
	labels := maps.Clone(spec.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[SpecLabel] = hex.EncodeToString(sum[:8])
	spec.Labels = labels
	return WantedSandbox{Name: name, Spec: spec, Wanted: wanted}, nil
}

// differs says what of the recorded sandbox is not as wanted; "" when all is.
func (s *sandboxLayer) differs(in gateway.Inspection) string {
	have := in.Labels[SpecLabel]
	switch {
	case have != "" && have == s.want.Spec.Labels[SpecLabel]:
		return ""
	case in.Partial && have == "":
		return ""
	case !in.Partial && in.Agent != s.want.Spec.Agent:
		return fmt.Sprintf("sandbox %s runs agent %s, %s is wanted", s.want.Name, orElse(in.Agent, "(none)"), s.want.Spec.Agent)
	case in.PolicyDeclared != "" && in.PolicyDeclared != s.want.Spec.PolicyHash:
		return fmt.Sprintf("sandbox %s has policy %s, %s is wanted", s.want.Name, short(in.PolicyDeclared), short(s.want.Spec.PolicyHash))
	case have == "":
		return "" // it carries no digest: what cannot be compared does not differ
	}
	return fmt.Sprintf("sandbox %s was made from another specification than the one wanted now", s.want.Name)
}

func short(hash string) string {
	if hash == "" {
		return "(none)"
	}
	return hash[:min(12, len(hash))]
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// Plan creates what is positively absent, starts or restarts what is there, and
// changes what differs in place: the workspace always stays.
func (s *sandboxLayer) Plan(_ context.Context, found health.Result) []Action {
	name, me := s.want.Name, []string{s.Subject()}
	switch {
	case found.Verdict == health.OK:
		return nil
	case blocked(found):
		return []Action{{ID: "ensure-sandbox", Title: "create sandbox " + name + " unless it exists"}}
	case found.Verdict == health.Unknown:
		return nil
	case found.Absent:
		return []Action{{ID: "create-sandbox", Title: "create sandbox " + name}}
	}
	switch found.Reason {
	case "sandbox-record-corrupt":
		return nil // a person has to look at the file; until then a restart would only stop it
	case "sandbox-stopped":
		return []Action{{ID: "start-sandbox", Title: "start sandbox " + name}}
	case "sandbox-runs":
		return []Action{{ID: "stop-sandbox", Title: "stop sandbox " + name, Disturbs: me}}
	case "sandbox-differs":
		if s.want.Wanted == sandbox.NotRunning {
			return []Action{{ID: "update-sandbox", Title: "change sandbox " + name + "; it stays stopped", Disturbs: me}}
		}
		return []Action{{ID: "update-sandbox", Title: "change sandbox " + name + " and restart its agent; the workspace stays", Disturbs: me}}
	case "sandbox-not-ready", "sandbox-not-connected":
		return []Action{{ID: "await-sandbox", Title: "wait for sandbox " + name}}
	}
	return []Action{{ID: "restart-sandbox", Title: "restart sandbox " + name + "; the workspace stays", Disturbs: me}}
}

func (s *sandboxLayer) Mend(ctx context.Context, do Action, report Progress) (err error) {
	c, err := s.session.Client(ctx)
	if err != nil {
		return err
	}
	stopped := s.want.Wanted == sandbox.NotRunning
	switch do.ID {
	case "create-sandbox":
		_, err = c.CreateSandbox(ctx, s.want.Name, s.want.Spec)
		if errors.Is(err, gateway.ErrAlreadyExists) {
			report("it exists by now")
			err = nil // what it is like, the next inspection finds
		}
	case "start-sandbox":
		err = c.StartSandbox(ctx, s.want.Name)
	case "stop-sandbox":
		return c.StopSandbox(ctx, s.want.Name)
	case "update-sandbox":
		if err = update(ctx, s.session, s.want); err == nil && !stopped {
			err = restart(ctx, c, s.want.Name)
		}
	case "restart-sandbox":
		err = restart(ctx, c, s.want.Name)
	case "await-sandbox":
	default:
		return noSuchAction(s, do)
	}
	if err != nil {
		return err
	}
	if stopped {
		return c.StopSandbox(ctx, s.want.Name)
	}
	ctx, cancel := budget.Context(ctx, budget.SandboxReady, "wait until sandbox "+s.want.Name+" is ready")
	defer cancel()
	in, err := c.WaitSandbox(ctx, s.want.Name, gateway.Progress(report))
	switch {
	case err != nil:
		return err
	case in.Phase != sandbox.Ready:
		if now, err := s.session.Sandbox(ctx, s.want.Name); err == nil && s.judge(now).Verdict == health.OK {
			return nil // a job may be finished before anybody looks
		}
		r := s.judge(in)
		if in.Phase != sandbox.Error { // it has not come so far, which no layer calls an error
			r = failed("sandbox-error", "%s", orElse(in.Message, "no reason was given"))
		}
		return advisory.New(r.Reason, fmt.Sprintf("sandbox %s is in phase %s: %s", s.want.Name, in.Phase, r.Message), nil, r.Hints...)
	}
	return nil
}

// update replaces what the sandbox should be; its workspace stays.
func update(ctx context.Context, session *Session, want WantedSandbox) error {
	c, err := session.Client(ctx)
	if err != nil {
		return err
	}
	updater, can := c.(gateway.Updater)
	if !can {
		return advisory.New("sandbox-differs", "this gateway cannot change a sandbox in place", nil)
	}
	return updater.UpdateSandbox(ctx, want.Name, want.Spec)
}

func restart(ctx context.Context, c gateway.Client, name string) error {
	if err := c.StopSandbox(ctx, name); err != nil {
		return err
	}
	return c.StartSandbox(ctx, name)
}
