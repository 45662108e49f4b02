package layer

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"creel/internal/advisory"
	"creel/internal/gateway"
	"creel/internal/health"
	"creel/internal/sandbox"
)

func TestForwards(t *testing.T) {
	named := sandbox.Forward{Bind: "127.0.0.1", Port: 8080, TargetPort: 3000}
	wide := sandbox.Forward{Bind: "0.0.0.0", TargetPort: 4000}
	isNamed := gateway.Forward{Bind: "127.0.0.1", Port: 8080, WantedPort: 8080, TargetPort: 3000, Bound: true}
	isWide := gateway.Forward{Bind: "0.0.0.0", Port: 18790, TargetPort: 4000, Bound: true}
	with := func(f gateway.Forward, change func(*gateway.Forward)) gateway.Forward {
		change(&f)
		return f
	}
	for _, c := range []struct {
		name    string
		want    []sandbox.Forward
		have    []gateway.Forward
		probe   health.Verdict // of the dashboard
		verdict health.Verdict
		reason  string
		says    string
		caveats string
		plan    string
	}{
		{"none", nil, nil, health.OK, health.OK, "", "opens", "", ""},
		{"as wanted", []sandbox.Forward{named}, []gateway.Forward{isNamed}, health.OK, health.OK, "", "; 1 forward listens", "", ""},
		{"exposed", []sandbox.Forward{named, wide}, []gateway.Forward{isWide, isNamed}, health.OK, health.OK, "", "; 2 forwards listen", "forward-exposed", ""},
		{"full", []sandbox.Forward{named}, []gateway.Forward{with(isNamed, func(f *gateway.Forward) { f.Refused = 7 })}, health.OK, health.OK, "", "", "forward-full", ""},
		{"not there", []sandbox.Forward{named}, nil, health.OK, health.Failed, "forward-differs", "3000", "", "set-forwards"},
		{"not wanted", nil, []gateway.Forward{isNamed}, health.OK, health.Failed, "forward-differs", "8080", "", "set-forwards"},
		{"another target", []sandbox.Forward{named}, []gateway.Forward{with(isNamed, func(f *gateway.Forward) { f.TargetPort = 5 })}, health.OK, health.Failed, "forward-differs", "3000", "", "set-forwards"},
		{"another address", []sandbox.Forward{wide}, []gateway.Forward{with(isWide, func(f *gateway.Forward) { f.Bind = "127.0.0.1" })}, health.OK, health.Failed, "forward-differs", "0.0.0.0", "", "set-forwards"},
		{"not bound", []sandbox.Forward{wide}, []gateway.Forward{with(isWide, func(f *gateway.Forward) { f.Bound, f.Error = false, "the sandbox is starting" })}, health.OK, health.Failed, "forward-not-bound", "starting", "", "set-forwards"},
		{"taken", []sandbox.Forward{named}, []gateway.Forward{with(isNamed, func(f *gateway.Forward) {
			f.Bound, f.Reason, f.Error = false, "forward-port-taken", "port 8080 is taken by x (pid 1)"
		})}, health.OK, health.Failed, "forward-port-taken", "taken by x", "", "set-forwards"},
		{"two of them", []sandbox.Forward{named, wide}, nil, health.OK, health.Failed, "forward-differs", "port 3000 inside is not forwarded yet; port 4000 inside is not forwarded yet", "", "set-forwards"},
		{"beside a broken page", []sandbox.Forward{named}, nil, health.Failed, health.Failed, "dashboard-page", "no page; port 3000 inside is not", "", "set-forwards"},
		{"beside a page that cannot be proved", []sandbox.Forward{named}, nil, health.Unknown, health.Unknown, "dashboard-page", "no page; port 3000 inside is not", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := want(t, sandbox.Spec{Dashboard: sandbox.Dashboard{TargetPort: 80, Bind: "127.0.0.1"}, Forwards: c.want}, sandbox.Running)
			f := standing(w)
			f.boxes["claw"].Forwards = c.have
			probed := c.probe
			l := NewDashboard(NewSession(f), w, func(context.Context, gateway.Dashboard) health.Result {
				return health.Result{Verdict: probed, Reason: "dashboard-page", Message: "no page"}
			})
			found := l.Inspect(t.Context())
			if found.Verdict != c.verdict || c.verdict != health.OK && found.Reason != c.reason || !strings.Contains(found.Message, c.says) || caveats(found) != c.caveats {
				t.Fatalf("Inspect = %s %s %q: %s", found.Verdict, found.Reason, caveats(found), found.Message)
			}
			known(t, found)
			plan := l.Plan(t.Context(), found)
			if ids(plan) != c.plan {
				t.Fatalf("plan %q, want %q", ids(plan), c.plan)
			}
			for _, do := range plan {
				if err := l.Mend(t.Context(), do, func(string) {}); err != nil {
					t.Fatal(err)
				}
				probed = health.OK
				if after := l.Inspect(t.Context()); after.Verdict != health.OK {
					t.Errorf("afterwards %s: %s", after.Reason, after.Message)
				}
			}
			if f.did("stop claw") || f.did("update claw") {
				t.Error("the sandbox was changed for its forwards")
			}
		})
	}
}

// Who took the ports while the gateway was away took the dashboard's as well as a
// forward's: both are said, with what helps each.
func TestForwardsBesideADashboardThatIsNotBound(t *testing.T) {
	w := want(t, sandbox.Spec{Dashboard: sandbox.Dashboard{TargetPort: 80, Bind: "127.0.0.1"}, Forwards: []sandbox.Forward{{Bind: "127.0.0.1", Port: 8088, TargetPort: 8088}}}, sandbox.Running)
	f := standing(w)
	f.forwards["claw"] = gateway.Forward{Bind: "127.0.0.1", Port: 18789, Reason: "dashboard-port-taken", Error: "port 18789 is taken by x (pid 1)"}
	f.boxes["claw"].Forwards = []gateway.Forward{{Bind: "127.0.0.1", Port: 8088, WantedPort: 8088, TargetPort: 8088, Reason: "forward-port-taken", Error: "port 8088 is taken by y (pid 2)"}}
	r := NewDashboard(NewSession(f), w, nil).Inspect(t.Context())
	if r.Verdict != health.Failed || r.Reason != "dashboard-port-taken" || r.Message != "port 18789 is taken by x (pid 1); port 8088 is taken by y (pid 2)" {
		t.Errorf("Inspect = %s %s: %s", r.Verdict, r.Reason, r.Message)
	}
	for _, hint := range []string{"creel dashboard SANDBOX --port PORT", "creel forward list"} {
		if !slices.Contains(r.Hints, hint) {
			t.Errorf("%q is not among %q", hint, r.Hints)
		}
	}
}

// A sandbox without a dashboard has forwards all the same.
func TestForwardsWithoutADashboard(t *testing.T) {
	w := want(t, sandbox.Spec{Forwards: []sandbox.Forward{{Bind: "127.0.0.1", TargetPort: 5}}}, sandbox.Running)
	f := standing(w)
	l := NewDashboard(NewSession(f), w, nil)
	found := l.Inspect(t.Context())
	if found.Verdict != health.Failed || found.Reason != "forward-differs" {
		t.Fatalf("Inspect = %s %s", found.Verdict, found.Reason)
	}
	if err := l.Mend(t.Context(), l.Plan(t.Context(), found)[0], func(string) {}); err != nil {
		t.Fatal(err)
	}
	if after := l.Inspect(t.Context()); after.Verdict != health.OK || after.Message != "none is wanted; 1 forward listens" {
		t.Errorf("afterwards %s: %s", after.Reason, after.Message)
	}
	f.err = errors.New("boom")
	if r := l.Inspect(t.Context()); r.Verdict != health.Unknown {
		t.Errorf("a gateway that cannot be asked: %s", r.Verdict)
	}
}

// Where a sandbox has no network of its own a forward would lead to this machine.
func TestForwardsWithoutANetwork(t *testing.T) {
	w := want(t, sandbox.Spec{Forwards: []sandbox.Forward{{Bind: "127.0.0.1", Port: 5, TargetPort: 5}}}, sandbox.Running)
	f := standing(w)
	f.boxes["claw"].Forwards = []gateway.Forward{{Bind: "127.0.0.1", Port: 5, WantedPort: 5, TargetPort: 5, Bound: true}}
	f.boxes["claw"].State.Confinement.Tier = sandbox.TierLandlock
	l := NewDashboard(NewSession(f), w, nil)
	found := l.Inspect(t.Context())
	if found.Verdict != health.Failed || found.Reason != "forward-unreachable" {
		t.Errorf("Inspect = %s %s", found.Verdict, found.Reason)
	}
	if plan := l.Plan(t.Context(), found); len(plan) != 0 {
		t.Errorf("plan %v", plan)
	}
}

// What cannot be had is said with its reason, and what can be is had.
func TestForwardThatCannotBeHad(t *testing.T) {
	w := want(t, sandbox.Spec{Forwards: []sandbox.Forward{{Bind: "127.0.0.1", Port: 1, TargetPort: 5}, {Bind: "127.0.0.1", Port: 2, TargetPort: 5}}}, sandbox.Running)
	f := standing(w)
	f.taken = map[int]bool{1: true}
	l := NewDashboard(NewSession(f), w, nil)
	err := l.Mend(t.Context(), Action{ID: "set-forwards"}, func(string) {})
	if p, ok := advisory.Of(err); !ok || p.ID != "forward-port-taken" || !strings.Contains(err.Error(), "taken by x (pid 1)") {
		t.Errorf("Mend: %v", err)
	}
	if have := f.boxes["claw"].Forwards; len(have) != 2 || have[0].Bound || !have[1].Bound {
		t.Errorf("forwards %+v", have)
	}
	f.noUpdates = true
	err = NewDashboard(NewSession(f), w, nil).Mend(t.Context(), Action{ID: "set-forwards"}, func(string) {})
	if p, ok := advisory.Of(err); !ok || p.ID != "sandbox-differs" {
		t.Errorf("a gateway that cannot update: %v", err)
	}
}

// Who had a port when a listener was bound may be gone by now: what is said of it is
// what was, how the listener is now, and how to have the port that was wanted.
func TestDisplacedIsSaidAsWhatWas(t *testing.T) {
	w := want(t, sandbox.Spec{Dashboard: sandbox.Dashboard{TargetPort: 80, Bind: "127.0.0.1"}, Forwards: []sandbox.Forward{{Bind: "127.0.0.1", TargetPort: 3000}}}, sandbox.Running)
	f := standing(w)
	f.forwards["claw"] = gateway.Forward{Bind: "127.0.0.1", Port: 18790, Bound: true, TakenPort: 18789, TakenBy: "creel (pid 10995)"}
	f.boxes["claw"].Forwards = []gateway.Forward{{Bind: "127.0.0.1", Port: 18791, TargetPort: 3000, Bound: true, TakenPort: 3000, TakenBy: "node (pid 2)"}}
	r := NewDashboard(NewSession(f), w, func(context.Context, gateway.Dashboard) health.Result { return health.Result{Verdict: health.OK} }).Inspect(t.Context())
	if r.Message != "opens at http://127.0.0.1:18790/; when it was bound, port 18789 was taken by creel (pid 10995), so it is on port 18790 (--port 18789 of creel dashboard asks for it again); 1 forward listens" {
		t.Errorf("Inspect: %s", r.Message)
	}
	if e := r.Evidence[len(r.Evidence)-1]; e.Answer != "listens for port 3000 inside, 0 connections; when it was bound, port 3000 was taken by node (pid 2), so it is on port 18791" {
		t.Errorf("evidence: %s", e.Answer)
	}
}
