package cli

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/gateway"
	"creel/internal/health"
)

var answering = gateway.Observation{Verdict: health.OK, Identity: gateway.Identity{PID: 42}}

// A service manager that never answers does not keep the gateway's answer back, and
// is not taken for one that says that all is well.
func TestServiceManagerThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		over := make(chan struct{})
		a := &app{Deps: Deps{Service: func(context.Context, string) func(gateway.Observation) gateway.Service {
			<-over
			return nil
		}}}
		began := time.Now()
		judge := a.lookAtService(t.Context(), "creel")
		doc := gatewayDocument("creel", "embedded", answering)
		doc.addService(judge(answering), answering)
		if took := time.Since(began); took != budget.Of(budget.Probe) {
			t.Errorf("it took %s", took)
		}
		if doc.Verdict != health.SummaryDegraded || doc.Service == nil || doc.Service.Reason != "service-manager-unreachable" || doc.PID != 42 {
			t.Errorf("%+v %+v", doc, doc.Service)
		}
		close(over)
		synctest.Wait()
	})
}

// What a service adds to the status of its gateway: it makes none better, and only one
// that works worse.
func TestServiceInStatus(t *testing.T) {
	off := gateway.Service{Installed: true, Verdict: health.Failed, Reason: "service-linger-off", Message: "linger: off"}
	for name, c := range map[string]struct {
		seen gateway.Observation
		s    gateway.Service
		want health.Summary
	}{
		"none":                  {answering, gateway.Service{Verdict: health.Failed, Reason: "service-not-installed"}, health.SummaryOK},
		"good":                  {answering, gateway.Service{Installed: true, Verdict: health.OK}, health.SummaryOK},
		"failed":                {answering, off, health.SummaryDegraded},
		"unknown":               {answering, gateway.Service{Installed: true, Reason: "service-unknown"}, health.SummaryDegraded},
		"the gateway is failed": {gateway.Observation{Verdict: health.Failed, Reason: "gateway-hung"}, off, health.SummaryFailed},
		"a dead gateway's good": {gateway.Observation{Verdict: health.Failed, Reason: "gateway-hung"}, gateway.Service{Installed: true, Verdict: health.OK}, health.SummaryFailed},
		"gateway unknown":       {gateway.Observation{}, off, health.SummaryUnknown},
	} {
		doc := gatewayDocument("creel", "embedded", c.seen)
		doc.addService(c.s, c.seen)
		if doc.Verdict != c.want || (doc.Service != nil) != c.s.Installed {
			t.Errorf("%s: %s, want %s (%+v)", name, doc.Verdict, c.want, doc.Service)
		}
		if degraded := doc.Verdict == health.SummaryDegraded; degraded != (len(doc.Caveats) > 0) || degraded && len(doc.Hints) == 0 {
			t.Errorf("%s: caveats %v, hints %q", name, doc.Caveats, doc.Hints)
		}
	}
}

// One that never answers is given up when the time is over, and is told apart from
// those that did.
func TestForEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		over := make(chan struct{})
		began := time.Now()
		got := forEach(t.Context(), []string{"a", "stuck", "b"}, 3*time.Second,
			func(_ context.Context, name string) string {
				if name == "stuck" {
					<-over
				}
				time.Sleep(2 * time.Second) // of the test's own clock
				return name + " answered"
			}, func(name string) string { return name + " is late" })
		if want := []string{"a answered", "stuck is late", "b answered"}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("it took %s", took)
		}
		close(over)
		// All answer: nobody waits for the limit.
		began = time.Now()
		forEach(t.Context(), []string{"a", "b"}, time.Hour, func(_ context.Context, name string) string { return name }, func(string) string { return "" })
		if took := time.Since(began); took != 0 {
			t.Errorf("all that answer at once took %s", took)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
	})
}

// The verdict over many is the worst of them, and the sentence names one that is so.
func TestSummarizeAll(t *testing.T) {
	type one struct {
		name string
		v    health.Summary
	}
	of := func(o one) (string, health.Summary, string) {
		return o.name, o.v, "gateway " + o.name + " is " + string(o.v) + "\nmore"
	}
	ok, degraded, failed, unknown := health.SummaryOK, health.SummaryDegraded, health.SummaryFailed, health.SummaryUnknown
	for _, c := range []struct {
		all     []one
		problem *ProblemDocument
		verdict health.Summary
		message string
	}{
		{nil, nil, failed, "nothing has been set up: there is no gateway here"},
		{nil, &ProblemDocument{Message: "it cannot be listed"}, unknown, "it cannot be listed"},
		{[]one{{"a", ok}}, nil, ok, "1 gateway"},
		{[]one{{"a", ok}, {"b", ok}}, nil, ok, "2 gateways"},
		{[]one{{"a", ok}, {"b", ok}}, &ProblemDocument{}, unknown, "2 gateways"},
		{[]one{{"a", ok}, {"b", degraded}}, nil, degraded, "2 gateways, 1 degraded; b: is degraded"},
		{[]one{{"a", degraded}, {"b", unknown}, {"c", ok}}, nil, unknown, "3 gateways, 1 unknown, 1 degraded; b: is unknown"},
		{[]one{{"a", unknown}, {"b", failed}, {"c", failed}}, nil, failed, "3 gateways, 2 failed, 1 unknown; b: is failed"},
	} {
		if v, m := summarizeAll(c.all, c.problem, of); v != c.verdict || m != c.message {
			t.Errorf("%v: %s %q, want %s %q", c.all, v, m, c.verdict, c.message)
		}
	}
}

// A daemon whose launcher was told why it ends says it to nobody else.
func TestServeSaysItOnce(t *testing.T) {
	p := newProgram(t)
	p.must(ExitOK, "onboard")
	failure := advisory.New("database-newer", "a newer one wrote it", nil)
	var serve error
	p.change = func(d *Deps) { d.Serve = func(context.Context, string) error { return serve } }
	serve = failure
	p.must(ExitFailed, "gateway", "serve")
	if !strings.Contains(p.err.String(), "a newer one wrote it") {
		t.Errorf("in the foreground: %q", p.err.String())
	}
	serve = &gateway.Told{Err: failure}
	p.must(ExitFailed, "gateway", "serve")
	if p.err.Len() > 0 {
		t.Errorf("it says %q", p.err.String())
	}
}
