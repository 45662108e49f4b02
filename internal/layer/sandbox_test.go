package layer

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"creel/internal/advisory"
	"creel/internal/dashboard"
	"creel/internal/dashboard/forward"
	"creel/internal/gateway"
	"creel/internal/health"
	"creel/internal/sandbox"
)

func want(t *testing.T, spec sandbox.Spec, wanted sandbox.Wanted) WantedSandbox {
	t.Helper()
	if spec.Agent == "" {
		spec.Agent = "console"
	}
	if spec.PolicyHash == "" {
		spec.PolicyHash = "0123456789abcdef"
	}
	w, err := NewWantedSandbox("claw", spec, wanted)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// standing is a gateway with the sandbox exactly as wanted.
func standing(w WantedSandbox) *fake {
	f := newFake()
	b := &gateway.Inspection{Name: w.Name, Agent: w.Spec.Agent, Wanted: sandbox.Running, Labels: w.Spec.Labels, PolicyDeclared: w.Spec.PolicyHash}
	ready(b, w.Spec)
	b.Dashboard.TargetPort = w.Spec.Dashboard.TargetPort
	b.Health = gateway.AgentHealth{Verdict: health.OK, Message: "200"}
	f.boxes[w.Name], f.specs[w.Name] = b, w.Spec
	f.forwards[w.Name] = gateway.Forward{Bind: "127.0.0.1", Port: 18789, Bound: true}
	return f
}

func ids(actions []Action) string {
	var all []string
	for _, a := range actions {
		all = append(all, a.ID)
	}
	return strings.Join(all, " ")
}

func caveats(r health.Result) string {
	var all []string
	for _, c := range r.Caveats {
		all = append(all, c.Advisory)
	}
	return strings.Join(all, " ")
}

// known checks that whatever a result names is in the registry.
func known(t *testing.T, r health.Result) {
	t.Helper()
	names := []string{}
	if r.Verdict != health.OK {
		names = append(names, r.Reason)
		if len(r.Hints) == 0 {
			t.Errorf("%s gives no next command", r.Reason)
		}
	}
	for _, c := range r.Caveats {
		names = append(names, c.Advisory)
	}
	for _, n := range names {
		if _, ok := advisory.Lookup(n); !ok {
			t.Errorf("advisory %q does not exist", n)
		}
	}
}

// Each state of a sandbox: what the layer says of it, what it would do, and what
// it is like after that was done.
func TestSandboxLayer(t *testing.T) {
	running := want(t, sandbox.Spec{}, sandbox.Running)
	stopped := want(t, sandbox.Spec{}, sandbox.NotRunning)
	accepted := want(t, sandbox.Spec{RiskAccepted: true}, sandbox.Running)
	off := func(b *gateway.Inspection) {
		b.State.Confinement, b.State.PolicyEnforced = sandbox.Confinement{Tier: sandbox.TierUnconfined, Reason: "accepted"}, ""
	}
	job := want(t, sandbox.Spec{Agent: "command", Command: []string{"true"}, Restart: sandbox.RestartNever}, sandbox.Running)
	zero, notFound := 0, 127
	for _, c := range []struct {
		name    string
		want    WantedSandbox
		spoil   func(f *fake, b *gateway.Inspection)
		verdict health.Verdict
		reason  string
		caveats string
		plan    string
		disturb bool
		calls   string // of mending, in order
	}{
		{"as wanted", running, func(*fake, *gateway.Inspection) {}, health.OK, "", "", "", false, ""},
		{"absent", running, func(f *fake, _ *gateway.Inspection) { delete(f.boxes, "claw") }, health.Failed, "sandbox-absent", "", "create-sandbox", false, "create claw, wait claw"},
		{"absent, wanted stopped", stopped, func(f *fake, _ *gateway.Inspection) { delete(f.boxes, "claw") }, health.Failed, "sandbox-absent", "", "create-sandbox", false, "create claw, stop claw"},
		{"gateway fails", running, func(f *fake, _ *gateway.Inspection) { f.err = errors.New("boom") }, health.Unknown, "gateway-unknown", "", "", false, ""},
		{"cannot be dialled", running, func(f *fake, _ *gateway.Inspection) { f.dialErr = errors.New("boom") }, health.Unknown, "gateway-unknown", "", "", false, ""},
		{"phase unknown", running, func(_ *fake, b *gateway.Inspection) { b.Phase = sandbox.UnknownPhase }, health.Unknown, "sandbox-unknown", "", "", false, ""},
		{"error", running, func(_ *fake, b *gateway.Inspection) { b.Phase, b.Message = sandbox.Error, "crashed" }, health.Failed, "sandbox-error", "", "restart-sandbox", true, "stop claw, start claw, wait claw"},
		{"program missing", running, func(_ *fake, b *gateway.Inspection) { b.Phase, b.Reason = sandbox.Error, "program-missing" }, health.Failed, "program-missing", "", "restart-sandbox", true, "stop claw, start claw, wait claw"},
		{"program missing behind a way in", running, func(_ *fake, b *gateway.Inspection) {
			b.Phase, b.State.Main = sandbox.Error, sandbox.MainProcess{State: sandbox.ProcBackoff, LastExitCode: &notFound}
		}, health.Failed, "program-missing", "", "restart-sandbox", true, "stop claw, start claw, wait claw"},
		{"error with a known reason", running, func(_ *fake, b *gateway.Inspection) { b.Phase, b.Reason = sandbox.Error, "disk-full" }, health.Failed, "disk-full", "", "restart-sandbox", true, "stop claw, start claw, wait claw"},
		{"error with an unknown reason", running, func(_ *fake, b *gateway.Inspection) { b.Phase, b.Reason = sandbox.Error, "of-a-newer-gateway" }, health.Failed, "sandbox-error", "", "restart-sandbox", true, "stop claw, start claw, wait claw"},
		{"record damaged", running, func(_ *fake, b *gateway.Inspection) { b.Phase, b.Reason = sandbox.Error, "sandbox-record-corrupt" }, health.Failed, "sandbox-record-corrupt", "", "", false, ""},
		{"starting", running, func(_ *fake, b *gateway.Inspection) { b.Phase = sandbox.Starting }, health.Failed, "sandbox-not-ready", "", "await-sandbox", false, "wait claw"},
		{"deleting", running, func(_ *fake, b *gateway.Inspection) { b.Phase = sandbox.Deleting }, health.Failed, "sandbox-not-ready", "", "await-sandbox", false, "wait claw"},
		{"not connected", running, func(_ *fake, b *gateway.Inspection) { b.Connected = false }, health.Failed, "sandbox-not-connected", "", "await-sandbox", false, "wait claw"},
		{"stopped", running, func(_ *fake, b *gateway.Inspection) { b.Wanted, b.Phase = sandbox.NotRunning, sandbox.Stopped }, health.Failed, "sandbox-stopped", "", "start-sandbox", false, "start claw, wait claw"},
		{"stopped, as asked", stopped, func(_ *fake, b *gateway.Inspection) { b.Wanted, b.Phase = sandbox.NotRunning, sandbox.Stopped }, health.OK, "", "", "", false, ""},
		{"runs, wanted stopped", stopped, func(*fake, *gateway.Inspection) {}, health.Failed, "sandbox-runs", "", "stop-sandbox", true, "stop claw"},
		{"policy not applied", running, func(_ *fake, b *gateway.Inspection) { b.State.PolicyApplied = "other" }, health.Failed, "policy-differs", "", "restart-sandbox", true, "stop claw, start claw, wait claw"},
		{"policy not enforced", running, func(_ *fake, b *gateway.Inspection) { b.State.PolicyEnforced = "" }, health.Failed, "policy-differs", "", "restart-sandbox", true, "stop claw, start claw, wait claw"},
		{"another policy declared", running, func(_ *fake, b *gateway.Inspection) { b.PolicyDeclared, b.Labels = "other", nil }, health.Failed, "sandbox-differs", "", "update-sandbox", true, "update claw, stop claw, start claw, wait claw"},
		{"another agent", running, func(_ *fake, b *gateway.Inspection) { b.Agent, b.Labels = "command", nil }, health.Failed, "sandbox-differs", "", "update-sandbox", true, "update claw, stop claw, start claw, wait claw"},
		{"another specification", running, func(_ *fake, b *gateway.Inspection) { b.Labels = map[string]string{SpecLabel: "other"} }, health.Failed, "sandbox-differs", "", "update-sandbox", true, "update claw, stop claw, start claw, wait claw"},
		{"another specification, stopped", stopped, func(_ *fake, b *gateway.Inspection) {
			b.Labels, b.Wanted, b.Phase = map[string]string{SpecLabel: "other"}, sandbox.NotRunning, sandbox.Stopped
		}, health.Failed, "sandbox-differs", "", "update-sandbox", true, "update claw, stop claw"},
		{"no digest to compare", running, func(_ *fake, b *gateway.Inspection) { b.Labels = nil }, health.OK, "", "", "", false, ""},
		{"tier landlock", running, func(_ *fake, b *gateway.Inspection) {
			b.State.Confinement = sandbox.Confinement{Tier: sandbox.TierLandlock, Reason: "no user namespaces"}
		}, health.OK, "", "confinement-degraded", "", false, ""},
		{"unconfined, accepted", accepted, func(_ *fake, b *gateway.Inspection) { off(b) }, health.OK, "", "confinement-off", "", false, ""},
		{"unconfined, not accepted", running, func(_ *fake, b *gateway.Inspection) { off(b) }, health.Failed, "policy-differs", "", "restart-sandbox", true, "stop claw, start claw, wait claw"},
		{"unconfined, accepted, but no policy applied", accepted, func(_ *fake, b *gateway.Inspection) { off(b); b.State.PolicyApplied = "" }, health.Failed, "policy-differs", "", "restart-sandbox", true, "stop claw, start claw, wait claw"},
		{"confined after all, accepted, not enforced", accepted, func(_ *fake, b *gateway.Inspection) { b.State.PolicyEnforced = "" }, health.Failed, "policy-differs", "", "restart-sandbox", true, "stop claw, start claw, wait claw"},
		{"tier not told", running, func(_ *fake, b *gateway.Inspection) { b.State.Confinement.Tier = "" }, health.OK, "", "confinement-off", "", false, ""},
		{"job finished", job, func(_ *fake, b *gateway.Inspection) {
			b.Phase, b.State.Main = sandbox.Error, sandbox.MainProcess{State: sandbox.ProcExited, LastExitCode: &zero}
		}, health.OK, "", "", "", false, ""},
		{"job finished, weaker tier", job, func(_ *fake, b *gateway.Inspection) {
			b.Phase, b.State.Main = sandbox.Error, sandbox.MainProcess{State: sandbox.ProcExited, LastExitCode: &zero}
			b.State.Confinement = sandbox.Confinement{Tier: sandbox.TierLandlock, Reason: "no user namespaces"}
		}, health.OK, "", "confinement-degraded", "", false, ""},
		{"job finished, its report forgotten", job, func(_ *fake, b *gateway.Inspection) {
			b.Phase, b.State.Main = sandbox.Error, sandbox.MainProcess{State: sandbox.ProcExited, LastExitCode: &zero}
			b.State.Confinement = sandbox.Confinement{}
		}, health.OK, "", "", "", false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := standing(c.want)
			c.spoil(f, f.boxes["claw"])
			s := NewSession(f)
			l := NewSandbox(s, c.want)
			found := l.Inspect(t.Context())
			if found.Verdict != c.verdict || c.verdict != health.OK && found.Reason != c.reason || caveats(found) != c.caveats {
				t.Fatalf("Inspect = %s %s %q: %s", found.Verdict, found.Reason, caveats(found), found.Message)
			}
			known(t, found)
			if found.Absent != (c.reason == "sandbox-absent") {
				t.Errorf("absent is %t", found.Absent)
			}
			plan := l.Plan(t.Context(), found)
			if ids(plan) != c.plan {
				t.Fatalf("plan %q, want %q", ids(plan), c.plan)
			}
			f.forget()
			for _, do := range plan {
				if (len(do.Disturbs) > 0) != c.disturb {
					t.Errorf("%s disturbs %v", do.ID, do.Disturbs)
				}
				if do.Destructive {
					t.Errorf("%s destroys something", do.ID)
				}
				if err := l.Mend(t.Context(), do, func(string) {}); err != nil {
					t.Fatal(err)
				}
			}
			if got := strings.Join(f.calls, ", "); got != c.calls {
				t.Errorf("calls %q, want %q", got, c.calls)
			}
			if len(plan) > 0 {
				if after := l.Inspect(t.Context()); after.Verdict != health.OK {
					t.Errorf("afterwards %s: %s", after.Reason, after.Message)
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Somebody else may create the sandbox between the look and the act.
func TestCreateSandboxThatExistsByNow(t *testing.T) {
	w := want(t, sandbox.Spec{}, sandbox.Running)
	f := standing(w)
	l := NewSandbox(NewSession(f), w)
	if err := l.Mend(t.Context(), Action{ID: "create-sandbox"}, func(string) {}); err != nil {
		t.Error(err)
	}
}

func TestSandboxThatDoesNotBecomeReady(t *testing.T) {
	w := want(t, sandbox.Spec{}, sandbox.Running)
	f := standing(w)
	f.after = func(name string) { f.boxes[name].Phase, f.boxes[name].Message = sandbox.Error, "no such program" }
	l := NewSandbox(NewSession(f), w)
	err := l.Mend(t.Context(), Action{ID: "restart-sandbox"}, func(string) {})
	if p, ok := advisory.Of(err); !ok || p.ID != "sandbox-error" || !strings.Contains(err.Error(), "no such program") {
		t.Errorf("Mend: %v", err)
	}
}

// The digest tells wishes apart, and leaves where the listener is to the
// dashboard's layer.
func TestDigest(t *testing.T) {
	label := func(change func(*sandbox.Spec)) string {
		s := sandbox.Spec{Agent: "console", Environment: map[string]string{"A": "1"}, Dashboard: sandbox.Dashboard{TargetPort: 80, Port: 1, Bind: "127.0.0.1"}}
		change(&s)
		w, err := NewWantedSandbox("claw", s, sandbox.Running)
		if err != nil {
			t.Fatal(err)
		}
		return w.Spec.Labels[SpecLabel]
	}
	same := label(func(*sandbox.Spec) {})
	if same == "" || same != label(func(s *sandbox.Spec) {
		s.Dashboard.Port, s.Dashboard.PortExplicit, s.Dashboard.Bind = 2, true, "0.0.0.0"
		s.Dashboard.Access = dashboard.Access{PublicURL: "https://agent.example", TrustedProxies: []string{"10.0.0.0/8"}}
		s.Dashboard.Stopped, s.Forwards = true, []sandbox.Forward{{TargetPort: 3}}
	}) {
		t.Error("the digest depends on where the listener is or how it is reached")
	}
	told := func(url string) string {
		return label(func(s *sandbox.Spec) { s.Agent, s.Dashboard.WebSocket, s.Dashboard.PublicURL = "openclaw", "/", url })
	}
	if told("https://agent.example") == told("") {
		t.Error("an agent that is told at its start how it is reached is not told again")
	}
	for name, change := range map[string]func(*sandbox.Spec){
		"command":     func(s *sandbox.Spec) { s.Command = []string{"x"} },
		"environment": func(s *sandbox.Spec) { s.Environment = map[string]string{"A": "2"} },
		"policy":      func(s *sandbox.Spec) { s.PolicyHash = "x" },
		"target":      func(s *sandbox.Spec) { s.Dashboard.TargetPort = 81 },
		"tier":        func(s *sandbox.Spec) { s.Confinement = sandbox.TierLandlock },
	} {
		if label(change) == same {
			t.Errorf("another %s has the same digest", name)
		}
	}
}

// A sandbox that an earlier build made is what this one wants: what only depends on
// the build that runs an agent is no part of the wish. The digests are an earlier
// build's own.
func TestDigestOfEarlierBuild(t *testing.T) {
	for name, board := range map[string]struct{ path, digest string }{
		"console":  {"/ws", "5da97bf4d6ea3b67"},
		"openclaw": {"/", "90ba7fa1dde753a3"},
	} {
		w, err := NewWantedSandbox("claw", sandbox.Spec{Agent: name, Restart: sandbox.RestartAlways, Environment: map[string]string{"A": "1"},
			Dashboard: sandbox.Dashboard{TargetPort: 18789, Port: 1, Bind: "127.0.0.1", HealthPath: "/health", WebSocket: board.path}}, sandbox.Running)
		if err != nil {
			t.Fatal(err)
		}
		f := standing(w)
		f.boxes["claw"].Labels = map[string]string{SpecLabel: board.digest}
		if r := NewSandbox(NewSession(f), w).Inspect(t.Context()); r.Verdict != health.OK {
			t.Errorf("%s of an earlier build: %+v", name, r)
		}
	}
}

func TestAgentLayer(t *testing.T) {
	code := func(n int) *int { return &n }
	console := want(t, sandbox.Spec{Dashboard: sandbox.Dashboard{TargetPort: 80}, Restart: sandbox.RestartAlways}, sandbox.Running)
	job := want(t, sandbox.Spec{Agent: "command", Restart: sandbox.RestartOnFailure}, sandbox.Running)
	young := time.Now()
	for _, c := range []struct {
		name    string
		want    WantedSandbox
		spoil   func(b *gateway.Inspection)
		verdict health.Verdict
		reason  string
		plan    string
	}{
		{"healthy", console, func(*gateway.Inspection) {}, health.OK, "", ""},
		{"restarted meanwhile", console, func(b *gateway.Inspection) { b.State.Main.Restarts = 2 }, health.OK, "", ""},
		{"without a page", job, func(b *gateway.Inspection) { b.Health = gateway.AgentHealth{} }, health.OK, "", ""},
		{"in back-off", console, func(b *gateway.Inspection) { b.State.Main.State = sandbox.ProcBackoff }, health.Failed, "agent-not-running", "await-agent"},
		{"nothing known", console, func(b *gateway.Inspection) { b.State.Main = sandbox.MainProcess{} }, health.Failed, "agent-not-running", "await-agent"},
		{"ended", console, func(b *gateway.Inspection) {
			b.State.Main.State, b.State.Main.LastExitCode = sandbox.ProcExited, code(0)
		}, health.Failed, "agent-ended", "restart-agent"},
		{"program missing", job, func(b *gateway.Inspection) {
			b.State.Main.State, b.State.Main.LastExitCode = sandbox.ProcBackoff, code(127)
		}, health.Failed, "program-missing", "restart-agent"},
		{"program found after all", job, func(b *gateway.Inspection) { b.State.Main.LastExitCode = code(127) }, health.OK, "", ""},
		{"job finished", job, func(b *gateway.Inspection) {
			b.State.Main.State, b.State.Main.LastExitCode = sandbox.ProcExited, code(0)
		}, health.OK, "", ""},
		{"job failed", job, func(b *gateway.Inspection) {
			b.State.Main.State, b.State.Main.LastExitCode = sandbox.ProcExited, code(1)
		}, health.Failed, "agent-ended", "restart-agent"},
		{"hangs", console, func(b *gateway.Inspection) {
			b.Health = gateway.AgentHealth{Verdict: health.Failed, Message: "no answer"}
		}, health.Failed, "agent-unhealthy", "restart-agent"},
		{"on its way up", console, func(b *gateway.Inspection) {
			b.Health, b.State.Main.Since = gateway.AgentHealth{Verdict: health.Failed, Message: "refused"}, young
		}, health.Failed, "agent-starting", "await-agent"},
		{"not asked yet", console, func(b *gateway.Inspection) { b.Health, b.State.Main.Since = gateway.AgentHealth{}, young }, health.Failed, "agent-starting", "await-agent"},
		{"cannot be asked", console, func(b *gateway.Inspection) { b.Health = gateway.AgentHealth{} }, health.Unknown, "agent-unknown", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := standing(c.want)
			c.spoil(f.boxes["claw"])
			l := NewAgent(NewSession(f), c.want)
			found := l.Inspect(t.Context())
			if found.Verdict != c.verdict || c.verdict != health.OK && found.Reason != c.reason {
				t.Fatalf("Inspect = %s %s: %s", found.Verdict, found.Reason, found.Message)
			}
			known(t, found)
			if got := ids(l.Plan(t.Context(), found)); got != c.plan {
				t.Errorf("plan %q, want %q", got, c.plan)
			}
		})
	}
}

// Waiting ends when the agent is healthy, when it ended for good, or with the
// budget, whose error says what is still missing.
func TestAwaitAgent(t *testing.T) {
	console := want(t, sandbox.Spec{Dashboard: sandbox.Dashboard{TargetPort: 80}}, sandbox.Running)
	for _, c := range []struct {
		name string
		then func(b *gateway.Inspection)
		says string
	}{
		{"healthy", func(b *gateway.Inspection) { b.Health.Verdict = health.OK }, ""},
		{"ended", func(b *gateway.Inspection) {
			b.State.Main.State, b.State.Main.LastExit = sandbox.ProcExited, "killed by signal 9"
		}, "killed by signal 9"},
		{"never", func(*gateway.Inspection) {}, "agent-healthy"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("CREEL_BUDGET_AGENT_HEALTHY", "300ms")
			f := standing(console)
			b := f.boxes["claw"]
			b.Health, b.State.Main.Since = gateway.AgentHealth{Verdict: health.Failed, Message: "connection refused"}, time.Now()
			l := NewAgent(NewSession(f), console)
			looks := 0
			err := l.Mend(t.Context(), Action{ID: "await-agent"}, func(string) {
				if looks++; looks == 3 {
					c.then(b)
				}
			})
			if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("Mend: %v, want %q", err, c.says)
			}
			if c.name == "never" && !strings.Contains(err.Error(), "connection refused") {
				t.Errorf("%v does not name the unmet condition", err)
			}
		})
	}
}

func TestRestartAgent(t *testing.T) {
	console := want(t, sandbox.Spec{Dashboard: sandbox.Dashboard{TargetPort: 80}}, sandbox.Running)
	f := standing(console)
	f.boxes["claw"].Health.Verdict = health.Failed
	f.after = func(name string) { ready(f.boxes[name], f.specs[name]); f.boxes[name].Health.Verdict = health.OK }
	l := NewAgent(NewSession(f), console)
	if err := l.Mend(t.Context(), Action{ID: "restart-agent"}, func(string) {}); err != nil || !f.did("stop claw") || !f.did("start claw") {
		t.Errorf("Mend: %v, calls %v", err, f.calls)
	}
}

func TestDashboardLayer(t *testing.T) {
	board := sandbox.Dashboard{TargetPort: 80, Bind: "127.0.0.1"}
	on := board
	on.Port, on.PortExplicit = 5000, true
	wide := board
	wide.Bind = "0.0.0.0"
	public := board
	public.Access = dashboard.Access{PublicURL: "https://agent.example", TrustedProxies: []string{"10.0.0.0/8"}}
	redeclare := func(a dashboard.Access) func(*fake, *gateway.Forward) {
		return func(f *fake, _ *gateway.Forward) {
			spec := f.specs["claw"]
			spec.Dashboard.Access = a
			f.specs["claw"] = spec
		}
	}
	off := board
	off.Stopped = true
	for _, c := range []struct {
		name    string
		board   sandbox.Dashboard
		wanted  sandbox.Wanted
		spoil   func(f *fake, fw *gateway.Forward)
		probe   health.Verdict
		verdict health.Verdict
		reason  string
		caveats string
		plan    string
	}{
		{"opens", board, sandbox.Running, func(*fake, *gateway.Forward) {}, health.OK, health.OK, "", "", ""},
		{"none wanted", sandbox.Dashboard{}, sandbox.Running, func(f *fake, _ *gateway.Forward) { f.err = errors.New("boom") }, health.OK, health.OK, "", "", ""},
		{"stopped", board, sandbox.NotRunning, func(f *fake, _ *gateway.Forward) { f.err = errors.New("boom") }, health.OK, health.OK, "", "", ""},
		{"gateway fails", board, sandbox.Running, func(f *fake, _ *gateway.Forward) { f.err = errors.New("boom") }, health.OK, health.Unknown, "gateway-unknown", "", ""},
		{"sandbox gone", board, sandbox.Running, func(f *fake, _ *gateway.Forward) { delete(f.boxes, "claw") }, health.OK, health.Failed, "sandbox-absent", "", ""},
		{"not bound", board, sandbox.Running, func(_ *fake, fw *gateway.Forward) { fw.Bound, fw.Error = false, "port taken by x" }, health.OK, health.Failed, "dashboard-not-bound", "", "bind-dashboard"},
		{"another port wanted", on, sandbox.Running, func(*fake, *gateway.Forward) {}, health.OK, health.Failed, "dashboard-differs", "", "move-dashboard"},
		{"that port", on, sandbox.Running, func(_ *fake, fw *gateway.Forward) { fw.Port, fw.WantedPort = 5000, 5000 }, health.OK, health.OK, "", "", ""},
		{"any port will do", board, sandbox.Running, func(_ *fake, fw *gateway.Forward) { fw.Port, fw.WantedPort = 18790, 18789 }, health.OK, health.OK, "", "", ""},
		{"wider bind wanted", wide, sandbox.Running, func(*fake, *gateway.Forward) {}, health.OK, health.Failed, "dashboard-differs", "", "move-dashboard"},
		{"wide", wide, sandbox.Running, func(_ *fake, fw *gateway.Forward) { fw.Bind = "0.0.0.0" }, health.OK, health.OK, "", "dashboard-exposed", ""},
		{"a public URL wanted", public, sandbox.Running, redeclare(dashboard.Access{}), health.OK, health.Failed, "dashboard-differs", "", "move-dashboard"},
		{"that public URL", public, sandbox.Running, func(*fake, *gateway.Forward) {}, health.OK, health.OK, "", "", ""},
		{"no public URL wanted", board, sandbox.Running, redeclare(public.Access), health.OK, health.Failed, "dashboard-differs", "", "move-dashboard"},
		{"other proxies wanted", public, sandbox.Running, redeclare(dashboard.Access{PublicURL: public.PublicURL}), health.OK, health.Failed, "dashboard-differs", "", "move-dashboard"},
		{"page broken", board, sandbox.Running, func(*fake, *gateway.Forward) {}, health.Failed, health.Failed, "dashboard-page", "", ""},
		{"agent on its way up", board, sandbox.Running, func(f *fake, _ *gateway.Forward) { f.boxes["claw"].State.Main.Since = time.Now() }, health.Failed, health.Failed, "dashboard-starting", "", "await-dashboard"},
		{"port taken", on, sandbox.Running, func(_ *fake, fw *gateway.Forward) {
			fw.Bound, fw.Reason, fw.Error = false, "dashboard-port-taken", "port 5000 is taken by x (pid 1)"
		}, health.OK, health.Failed, "dashboard-port-taken", "", "bind-dashboard"},
		{"could not move", on, sandbox.Running, func(_ *fake, fw *gateway.Forward) {
			fw.WantedPort, fw.Reason, fw.Error = 5000, "dashboard-port-taken", "port 5000 is taken by x (pid 1)"
		}, health.OK, health.Failed, "dashboard-port-taken", "", "bind-dashboard"},
		{"stopped on purpose", off, sandbox.Running, func(_ *fake, fw *gateway.Forward) { fw.Bound, fw.Stopped = false, true }, health.Failed, health.OK, "", "", ""},
		{"should be stopped", off, sandbox.Running, func(*fake, *gateway.Forward) {}, health.OK, health.Failed, "dashboard-differs", "", "stop-dashboard"},
		{"should not be stopped", board, sandbox.Running, func(_ *fake, fw *gateway.Forward) { fw.Bound, fw.Stopped = false, true }, health.OK, health.Failed, "dashboard-differs", "", "move-dashboard"},
		{"full", board, sandbox.Running, func(_ *fake, fw *gateway.Forward) { fw.Refused = 3 }, health.OK, health.OK, "", "forward-full", ""},
		{"port lost", board, sandbox.Running, func(f *fake, _ *gateway.Forward) {
			f.boxes["claw"].Dashboard.LostPort, f.boxes["claw"].Dashboard.LostTo = 18789, "mallory"
		}, health.OK, health.OK, "", "dashboard-port-lost", ""},
		{"full and closed", board, sandbox.Running, func(_ *fake, fw *gateway.Forward) { fw.Connections, fw.Refused = forward.MaxConnections, 3 }, health.Failed, health.Failed, "forward-full", "forward-full", ""},
		{"cannot be proved", board, sandbox.Running, func(f *fake, _ *gateway.Forward) { f.boxes["claw"].State.Main.Since = time.Now() }, health.Unknown, health.Unknown, "dashboard-page", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := want(t, sandbox.Spec{Dashboard: c.board}, c.wanted)
			f := standing(w)
			fw := f.forwards["claw"]
			c.spoil(f, &fw)
			f.forwards["claw"] = fw
			probed := c.probe
			l := NewDashboard(NewSession(f), w, func(context.Context, gateway.Dashboard) health.Result {
				if probed != health.OK {
					return health.Result{Verdict: probed, Reason: "dashboard-page", Message: "no page"}
				}
				return health.Result{Verdict: health.OK, Caveats: []health.Caveat{{Advisory: "dashboard-unguarded"}}}
			})
			found := l.Inspect(t.Context())
			if found.Verdict != c.verdict || c.verdict != health.OK && found.Reason != c.reason || caveats(found) != c.caveats {
				t.Fatalf("Inspect = %s %s %q: %s", found.Verdict, found.Reason, caveats(found), found.Message)
			}
			known(t, found)
			plan := l.Plan(t.Context(), found)
			if ids(plan) != c.plan {
				t.Fatalf("plan %q, want %q", ids(plan), c.plan)
			}
			for _, do := range plan {
				if len(do.Disturbs) > 0 {
					t.Errorf("%s disturbs %v", do.ID, do.Disturbs)
				}
				if err := l.Mend(t.Context(), do, func(string) { probed = health.OK }); err != nil {
					t.Fatal(err)
				}
				if after := l.Inspect(t.Context()); after.Verdict != health.OK {
					t.Errorf("afterwards %s: %s", after.Reason, after.Message)
				}
				if f.did("stop claw") {
					t.Error("the sandbox was stopped for its dashboard")
				}
			}
		})
	}
}

func TestGatewayThatCannotUpdate(t *testing.T) {
	w := want(t, sandbox.Spec{}, sandbox.Running)
	f := standing(w)
	f.noUpdates = true
	s := NewSession(f)
	c, err := s.Client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, can := c.(gateway.Updater); can {
		t.Fatal("the client can update")
	}
	err = NewSandbox(s, w).Mend(t.Context(), Action{ID: "update-sandbox"}, func(string) {})
	if p, ok := advisory.Of(err); !ok || p.ID != "sandbox-differs" {
		t.Errorf("Mend: %v", err)
	}
}

// One round asks the gateway once about all sandboxes; outside of a round each
// look asks for its own sandbox, so that none waits for another's.
func TestOneQuestionARound(t *testing.T) {
	w := want(t, sandbox.Spec{Dashboard: sandbox.Dashboard{TargetPort: 80}}, sandbox.Running)
	f := standing(w)
	s := NewSession(f)
	layers := []Layer{NewSandbox(s, w), NewAgent(s, w)}
	for range 2 {
		ctx := NewRound(t.Context())
		for _, l := range layers {
			if r := l.Inspect(ctx); r.Verdict != health.OK {
				t.Fatal(r.Message)
			}
		}
	}
	if diff := cmp.Diff([]string{"dial", "inspect [] true", "inspect [] true"}, f.calls); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	f.forget()
	layers[0].Inspect(t.Context())
	if diff := cmp.Diff([]string{"inspect [claw] true"}, f.calls); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil || f.closed != 1 {
		t.Errorf("closed %d times, %v", f.closed, err)
	}
}
