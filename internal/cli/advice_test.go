package cli

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"creel/internal/desired"
	"creel/internal/gateway"
	"creel/internal/health"
	"creel/internal/state"
)

// Where a command is about one sandbox, no next command leaves its name to be filled
// in, in text as in JSON.
func TestAdviceNamesTheSandbox(t *testing.T) {
	p := newProgram(t)
	p.must(ExitOK, "onboard")
	p.change = func(d *Deps) {
		d.ProbeDashboard = func(context.Context, gateway.Dashboard) health.Result {
			return health.Result{Verdict: health.Failed, Reason: "dashboard-silent", Message: "no answer"}
		}
	}
	for _, c := range []struct {
		code int
		args string
		want string
	}{
		{ExitFailed, "dashboard", "creel logs claw"},
		{ExitFailed, "dashboard --json", `"creel logs claw"`},
		{ExitUsage, "connect", "creel exec claw -- /bin/sh -c pwd"},
		{ExitUsage, "connect claw", "creel exec claw -- /bin/sh -c pwd"},
		// Nobody is to run what was given as a name.
		{ExitUsage, "connect a;touch", "name-invalid"},
		{ExitUsage, "dashboard a;touch --port 99999", "name-invalid"},
		{ExitUsage, "dashboard a;touch --port 99999 --json", "name-invalid"},
	} {
		p.must(c.code, strings.Fields(c.args)...)
		text := p.out.String() + p.err.String()
		if strings.Contains(text, "creel exec a;") || strings.Contains(text, "creel dashboard a;") {
			t.Errorf("creel %s advises what it was given:\n%s", c.args, text)
		}
		if !strings.Contains(text, c.want) || strings.Contains(text, "SANDBOX") {
			t.Errorf("creel %s says:\n%s", c.args, text)
		}
	}
	p.change = func(d *Deps) {
		d.OpenBrowser = func(context.Context, string) error { return context.DeadlineExceeded }
	}
	p.must(ExitFailed, "dashboard", "--open")
	if text := p.err.String(); !strings.Contains(text, "creel dashboard claw --show-token") || strings.Contains(text, "SANDBOX") {
		t.Errorf("a browser that does not come:\n%s", text)
	}
	// Layers' hints in JSON are about their own sandbox.
	if err := p.world.with(func(s *worldState) error {
		f := &s.Sandboxes[0].Dashboard
		f.Bound, f.Reason = false, "dashboard-port-taken"
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	p.must(ExitFailed, "status", "--json")
	if text := p.out.String(); !strings.Contains(text, `"creel dashboard claw --port PORT"`) || strings.Contains(text, "SANDBOX") {
		t.Errorf("status --json:\n%s", text)
	}
}

// A port that another program took: dashboard and status tell the same, and what they
// advise helps. Nothing is said of URLs where none is shown.
func TestTakenDashboardPort(t *testing.T) {
	p := newProgram(t)
	p.must(ExitOK, "onboard")
	p.env["container"] = "docker"
	lose := func(reason, problem string) {
		t.Helper()
		if err := p.world.with(func(s *worldState) error {
			f := &s.Sandboxes[0].Dashboard
			f.Bound, f.Reason, f.Error = false, reason, problem
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	lose("dashboard-port-taken", "port 18789 is taken by python3 (pid 7)")
	p.must(ExitFailed, "status")
	status := p.err.String()
	p.must(ExitFailed, "dashboard")
	text := p.err.String()
	if !strings.Contains(text, "port 18789 is taken by python3 (pid 7)\n") || !strings.HasSuffix(text, status) {
		t.Errorf("dashboard says:\n%s\nand status:\n%s", text, status)
	}
	for _, wrong := range []string{"openshell", "URL", "0.0.0.0", "creel gateway restart", "This is a container"} {
		if strings.Contains(text, wrong) {
			t.Errorf("%q does not help:\n%s", wrong, text)
		}
	}
	p.must(ExitFailed, "dashboard", "--json")
	var doc DashboardDocument
	if err := json.Unmarshal(p.out.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.Reason != "dashboard-port-taken" || doc.Bound || doc.URL != "" || len(doc.Guidance) != 0 || doc.Hints[0] != "creel dashboard claw --port PORT" {
		t.Errorf("the document says %+v", doc)
	}
	lose("", "")
	p.must(ExitFailed, "dashboard")
	if text := p.err.String(); !strings.Contains(text, "creel onboard") || strings.Contains(text, "openshell") {
		t.Errorf("without a reason:\n%s", text)
	}
}

// Whoever asks for a document gets one, also when nothing could be proven, and the exit
// code is that of the command without --json.
func TestDashboardDocumentOfAnError(t *testing.T) {
	p := newProgram(t)
	p.must(ExitOK, "onboard")
	p.must(ExitOK, "onboard", "--name", "quiet", "--", "sleep")
	if err := p.world.tamper([]string{"take", "5999"}); err != nil {
		t.Fatal(err)
	}
	check := func(sandbox, reason, hint string, args ...string) {
		t.Helper()
		code := p.run(t.Context(), args...)
		p.must(code, append(args, "--json")...)
		decoder := json.NewDecoder(&p.out)
		var doc DashboardDocument
		if err := decoder.Decode(&doc); err != nil {
			t.Fatalf("creel %s: %v\n%s", args, err, p.err.String())
		}
		if decoder.More() || p.err.Len() > 0 {
			t.Errorf("creel %s: more than a document\n%s", args, p.err.String())
		}
		if code != ExitFailed || doc.Verdict != health.SummaryFailed || doc.Sandbox != sandbox || doc.Reason != reason ||
			doc.Problem == nil || doc.Problem.Advisory != reason || !slices.Contains(doc.Hints, hint) || doc.Evidence == nil {
			t.Errorf("creel %s: exit code %d, %+v", args, code, doc)
		}
	}
	check("nobody", "sandbox-missing", "creel list", "dashboard", "nobody")
	check("quiet", "dashboard-none", "creel connect quiet", "dashboard", "quiet")
	check("claw", "dashboard-port-taken", "creel dashboard claw --port PORT", "dashboard", "claw", "--port", "5999")
	if err := p.world.tamper([]string{"stop"}); err != nil {
		t.Fatal(err)
	}
	check("claw", "gateway-not-running", "creel gateway start", "dashboard", "claw")
	check("", "gateway-not-running", "creel gateway start", "dashboard")
	check("claw", "gateway-not-running", "creel gateway start", "dashboard", "claw", "--rotate-token", "--yes")
	// A mistake in the command line is no matter of the dashboard.
	p.must(ExitUsage, "dashboard", "claw", "--json", "--port", "x")
	var refused FailedDocument
	if err := json.Unmarshal(p.out.Bytes(), &refused); err != nil || refused.Problem == nil || refused.Problem.Advisory != "dashboard-port-invalid" {
		t.Errorf("a usage error: %v\n%s%s", err, p.out.String(), p.err.String())
	}
}

// An agent that was started again for its new token is asked once its page is there,
// not while it comes up.
func TestRotateAwaitsThePage(t *testing.T) {
	p := newProgram(t)
	p.must(ExitOK, "onboard")
	if err := p.world.with(func(s *worldState) error {
		s.Late, s.Sandboxes[0].State.Main.Since = 3, time.Now()
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	p.must(ExitOK, "dashboard", "--rotate-token", "--yes")
	if text := p.err.String(); !strings.Contains(text, "its page does not open yet") || strings.Contains(text, "reset by peer") {
		t.Errorf("it says:\n%s", text)
	}
}

// One in a cluster leaves nothing on disk before it serves, and its secrets may have
// been made there: it keeps its runtime, so that uninstall still asks the cluster.
func TestBegun(t *testing.T) {
	g := state.Roots{Config: t.TempDir(), State: t.TempDir()}.Gateway("g")
	for runtime, want := range map[string]bool{desired.Embedded: false, desired.OpenShell: false, desired.Kubernetes: true, desired.External: true} {
		if got := begun(g, desired.Document{Runtime: runtime}); got != want {
			t.Errorf("%s: begun %v, want %v", runtime, got, want)
		}
	}
}

// The unit of a gateway of which nothing else is left is taken back all the same.
func TestUninstallServiceOfWhatIsGone(t *testing.T) {
	p := newProgram(t)
	asked := ""
	p.change = func(d *Deps) {
		d.UninstallService = func(_ context.Context, name string, _ gateway.Progress) (bool, error) { asked = name; return true, nil }
	}
	if p.must(ExitOK, "gateway", "uninstall-service", "--gateway", "gone"); asked != "gone" {
		t.Errorf("asked for %q", asked)
	}
}
