package layer

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"creel/internal/advisory"
	"creel/internal/bundle"
	"creel/internal/bundle/dirstore"
	"creel/internal/credential"
	"creel/internal/gateway"
	"creel/internal/health"
	"creel/internal/inference"
	"creel/internal/state"
)

const canary = "canary-key-93b1"

func TestHostLayer(t *testing.T) {
	fine := func(answer string) func(context.Context) (string, *health.Caveat, error) {
		return func(context.Context) (string, *health.Caveat, error) { return answer, nil, nil }
	}
	// The first waits for the second: all are asked at the same time.
	second := make(chan struct{})
	l := NewHost([]HostCheck{
		{"disk", func(ctx context.Context) (string, *health.Caveat, error) {
			select {
			case <-second:
			case <-time.After(20 * time.Second):
				t.Error("the checks wait for one another")
			}
			return "1 GiB free", &health.Caveat{Advisory: "disk-space-low", Message: "little"}, nil
		}},
		{"confinement", func(context.Context) (string, *health.Caveat, error) {
			close(second)
			return "tier namespaces", nil, nil
		}},
	})
	r := l.Inspect(t.Context())
	known(t, r)
	if r.Verdict != health.OK || r.Message != "tier namespaces" || caveats(r) != "disk-space-low" || len(r.Evidence) != 2 {
		t.Errorf("%+v", r)
	}
	for _, c := range []struct {
		err    error
		reason string
	}{{advisory.New("disk-full", "no space", nil), "disk-full"}, {errors.New("odd"), "host-insufficient"}} {
		l := NewHost([]HostCheck{{"a", fine("x")}, {"b", func(context.Context) (string, *health.Caveat, error) { return "", nil, c.err }}})
		r := l.Inspect(t.Context())
		known(t, r)
		if r.Verdict != health.Failed || r.Reason != c.reason || !strings.Contains(r.Message, "b: ") || r.Evidence[0].Verdict != health.OK || r.Evidence[1].Verdict != health.Failed {
			t.Errorf("%+v", r)
		}
		if plan := l.Plan(t.Context(), r); len(plan) != 0 {
			t.Errorf("the machine would be mended: %v", plan)
		}
	}
}

// Over real files: issued from nothing, mended where nothing in use is lost, and
// not touched where something is or where it cannot be told.
func TestSecretsLayer(t *testing.T) {
	roots := state.Roots{State: t.TempDir(), Config: t.TempDir(), Run: t.TempDir()}
	g := roots.Gateway("creel")
	f := newFake()
	f.store, f.want = dirstore.New(g), bundle.Requirements{Generation: bundle.Generation2, Layout: bundle.Directory}
	l := NewSecrets(f)
	mend := func() error {
		for _, do := range l.Plan(t.Context(), l.Inspect(t.Context())) {
			if err := l.Mend(t.Context(), do, func(string) {}); err != nil {
				return err
			}
		}
		return nil
	}
	if r := l.Inspect(t.Context()); r.Verdict != health.Failed || !r.Absent || r.Reason != "secrets-absent" {
		t.Fatalf("bare: %+v", r)
	}
	if err := mend(); err != nil {
		t.Fatal(err)
	}
	if r := l.Inspect(t.Context()); r.Verdict != health.OK {
		t.Fatalf("issued: %+v", r)
	}
	authority := filepath.Join(g.File(state.TLSDir), state.CACertFile)
	before, err := os.ReadFile(authority)
	if err != nil {
		t.Fatal(err)
	}
	server := filepath.Join(g.File(state.TLSDir), state.ServerDir, state.TLSCertFile)
	if err := os.Remove(server); err != nil {
		t.Fatal(err)
	}
	r := l.Inspect(t.Context())
	known(t, r)
	if r.Verdict != health.Failed || r.Absent {
		t.Errorf("half a pair: %+v", r)
	}
	if err := mend(); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(authority)
	if r := l.Inspect(t.Context()); r.Verdict != health.OK || err != nil || string(before) != string(after) {
		t.Errorf("mended: %+v, the authority is another: %t, %v", r, string(before) != string(after), err)
	}
	// Replacing the authority shuts out every client there is: not without consent.
	if err := os.WriteFile(authority, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	r = l.Inspect(t.Context())
	known(t, r)
	if plan := l.Plan(t.Context(), r); r.Verdict != health.Failed || len(plan) != 0 {
		t.Errorf("authority damaged: %+v, plan %v", r, plan)
	}
	if err := os.WriteFile(authority, before, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(server); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(server, 0o700); err != nil {
		t.Fatal(err)
	}
	r = l.Inspect(t.Context())
	known(t, r)
	if plan := l.Plan(t.Context(), r); r.Verdict != health.Unknown || len(plan) != 0 {
		t.Errorf("unreadable: %+v, plan %v", r, plan)
	}
}

func TestGatewayLayer(t *testing.T) {
	at := gateway.Endpoint{Host: "127.0.0.1", Port: 17670}
	for _, c := range []struct {
		name    string
		o       gateway.Observation
		port    int
		verdict health.Verdict
		reason  string
		plan    string
		calls   string
		caveats string
	}{
		{"healthy", gateway.Observation{Verdict: health.OK, Endpoint: at}, 0, health.OK, "", "", "", ""},
		{"drifted", gateway.Observation{Verdict: health.OK, Endpoint: at, Drift: []string{"another build"}}, 0, health.OK, "", "", "", "gateway-drifted"},
		{"on its port", gateway.Observation{Verdict: health.OK, Endpoint: at}, 17670, health.OK, "", "", "", ""},
		{"another port wanted", gateway.Observation{Verdict: health.OK, Endpoint: at}, 1, health.Failed, "gateway-differs", "restart-gateway", "stop-gateway, start-gateway", ""},
		{"not running", gateway.Observation{Verdict: health.Failed, Reason: "gateway-not-running", Absent: true}, 0, health.Failed, "gateway-not-running", "start-gateway", "start-gateway", ""},
		{"hung", gateway.Observation{Verdict: health.Failed, Reason: "gateway-hung"}, 0, health.Failed, "gateway-hung", "restart-gateway", "stop-gateway, start-gateway", ""},
		{"not running, of a newer database", gateway.Observation{Verdict: health.Failed, Reason: "database-newer", Absent: true}, 0, health.Failed, "database-newer", "", "", ""},
		{"running, of a newer creel", gateway.Observation{Verdict: health.Failed, Reason: "gateway-marker-newer"}, 0, health.Failed, "gateway-marker-newer", "", "", ""},
		{"unknown", gateway.Observation{Verdict: health.Unknown, Reason: "gateway-unknown"}, 0, health.Unknown, "gateway-unknown", "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake()
			f.observed = c.o
			l := NewGateway("creel", f, NewSession(f), OnPort(c.port))
			r := l.Inspect(t.Context())
			known(t, r)
			if r.Verdict != c.verdict || c.verdict != health.OK && r.Reason != c.reason || caveats(r) != c.caveats || r.Absent != c.o.Absent {
				t.Fatalf("Inspect = %+v", r)
			}
			plan := l.Plan(t.Context(), r)
			if ids(plan) != c.plan {
				t.Fatalf("plan %q, want %q", ids(plan), c.plan)
			}
			for _, do := range plan {
				if len(do.Disturbs) != 0 {
					t.Errorf("%s disturbs %v: sandboxes outlive their gateway", do.ID, do.Disturbs)
				}
				if err := l.Mend(t.Context(), do, func(string) {}); err != nil {
					t.Fatal(err)
				}
			}
			if got := strings.Join(f.calls, ", "); got != c.calls {
				t.Errorf("calls %q, want %q", got, c.calls)
			}
		})
	}
}

// upgrading is a gateway of somebody else's program: its sandboxes notice when it is
// stopped, and one that works is replaced with a way back.
type upgrading struct{ *fake }

func (u upgrading) PlanUpgrade(context.Context, gateway.UpgradeOptions) (gateway.Upgrade, error) {
	return gateway.Upgrade{}, nil
}

func (u upgrading) Upgrade(context.Context, gateway.UpgradeOptions, gateway.Progress) error {
	return u.note("upgrade-gateway")
}

func (u upgrading) Disturbed(context.Context) []string { return []string{"sandbox/claw"} }

func TestGatewayLayerUpgrades(t *testing.T) {
	for _, c := range []struct {
		name  string
		o     gateway.Observation
		calls string
	}{
		{"works on another port", gateway.Observation{Verdict: health.OK, Endpoint: gateway.Endpoint{Host: "127.0.0.1", Port: 8080}, Drift: []string{"another port"}}, "upgrade-gateway"},
		{"broken", gateway.Observation{Verdict: health.Failed, Reason: "gateway-hung"}, "stop-gateway, start-gateway"},
	} {
		f := newFake()
		f.observed = c.o
		u := upgrading{f}
		l := NewGateway("creel", u, NewSession(u), OnPort(1))
		plan := l.Plan(t.Context(), l.Inspect(t.Context()))
		if ids(plan) != "restart-gateway" || len(plan[0].Disturbs) != 1 || plan[0].Disturbs[0] != "sandbox/claw" || strings.Contains(plan[0].Title, "go on") {
			t.Fatalf("%s: plan %+v", c.name, plan)
		}
		if err := l.Mend(t.Context(), plan[0], func(string) {}); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(f.calls, ", "); got != c.calls {
			t.Errorf("%s: calls %q, want %q", c.name, got, c.calls)
		}
	}
}

// remote is a gateway that runs elsewhere.
type remote struct{ *fake }

func (r remote) Detach(context.Context, gateway.Progress) error { return r.note("detach") }

// A gateway that runs elsewhere is waited for and made reachable, never stopped; and
// what waiting does not mend is left to its owner.
func TestRemoteGatewayLayer(t *testing.T) {
	for _, c := range []struct {
		name        string
		found       health.Result
		plan, calls string
	}{
		{"healthy", health.Result{Verdict: health.OK}, "", ""},
		{"failed", health.Result{Verdict: health.Failed, Reason: "gateway-pod-not-ready"}, "start-gateway", "start-gateway"},
		{"hung", health.Result{Verdict: health.Failed, Reason: "gateway-hung"}, "start-gateway", "start-gateway"},
		{"forward down", health.Result{Verdict: health.Failed, Reason: "gateway-forward-down"}, "start-gateway", "start-gateway"},
		{"secrets are still missing", health.Result{Verdict: health.Unknown, BlockedBy: "secrets"}, "start-gateway", "start-gateway"},
		{"scaled down by its owner", health.Result{Verdict: health.Failed, Reason: "gateway-scaled-down"}, "", ""},
		{"not installed", health.Result{Verdict: health.Failed, Reason: "gateway-statefulset-absent", Absent: true}, "", ""},
		{"unknown", health.Result{Verdict: health.Unknown, Reason: "cluster-unreachable"}, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := remote{newFake()}
			l := NewGateway("creel", r, NewSession(r))
			plan := l.Plan(t.Context(), c.found)
			if ids(plan) != c.plan {
				t.Fatalf("plan %q, want %q", ids(plan), c.plan)
			}
			for _, do := range plan {
				if len(do.Disturbs) != 0 || do.Destructive || strings.Contains(do.Title, "restart") {
					t.Errorf("%+v", do)
				}
				if err := l.Mend(t.Context(), do, func(string) {}); err != nil {
					t.Fatal(err)
				}
			}
			if got := strings.Join(r.calls, ", "); got != c.calls {
				t.Errorf("calls %q, want %q", got, c.calls)
			}
		})
	}
}

// Where there is no gateway whose secrets these could be, that is known, and nothing
// is issued.
func TestSecretsOfNoGateway(t *testing.T) {
	r := elsewhere{newFake()}
	l := NewSecrets(r)
	found := l.Inspect(t.Context())
	known(t, found)
	if found.Verdict != health.Failed || found.Reason != "secrets-not-applicable" || found.Absent {
		t.Errorf("%+v", found)
	}
	if plan := l.Plan(t.Context(), found); len(plan) != 0 {
		t.Errorf("plan %v", plan)
	}
}

// elsewhere has secrets that are nobody's yet.
type elsewhere struct{ *fake }

func (e elsewhere) Secrets() bundle.Target { return nobodys{e.fake.Secrets()} }

type nobodys struct{ bundle.Target }

func (nobodys) Requirements(context.Context) (bundle.Requirements, error) {
	return bundle.Requirements{}, advisory.New("secrets-not-applicable", "no namespace", bundle.ErrNotApplicable)
}

// A gateway that is started again is dialled again: its old connection is closed.
func TestGatewayIsDialledAgain(t *testing.T) {
	f := newFake()
	s := NewSession(f)
	if _, err := s.Client(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := NewGateway("creel", f, s).Mend(t.Context(), Action{ID: "start-gateway"}, func(string) {}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Client(t.Context()); err != nil || f.closed != 1 || strings.Count(strings.Join(f.calls, " "), "dial") != 2 {
		t.Errorf("closed %d times, calls %v, %v", f.closed, f.calls, err)
	}
}

func TestRegistrationLayer(t *testing.T) {
	for _, c := range []struct {
		found health.Result
		plan  string
	}{
		{health.Result{Verdict: health.OK}, ""},
		{health.Result{Verdict: health.Failed, Reason: "registration-absent"}, "write-registration"},
		{health.Result{Verdict: health.Failed, Reason: "registration-stale"}, "write-registration"},
		{health.Result{Verdict: health.Failed, Reason: "registration-foreign"}, ""},
		{health.Result{Verdict: health.Unknown, Reason: "registration-unknown"}, ""},
	} {
		written := 0
		l := NewRegistration(Registrar{Inspect: func(context.Context) health.Result { return c.found }, Write: func(context.Context) error { written++; return nil }})
		r := l.Inspect(t.Context())
		known(t, r)
		plan := l.Plan(t.Context(), r)
		if ids(plan) != c.plan {
			t.Errorf("%s: plan %q, want %q", c.found.Reason, ids(plan), c.plan)
		}
		for _, do := range plan {
			if err := l.Mend(t.Context(), do, func(string) {}); err != nil || written != 1 {
				t.Errorf("written %d times, %v", written, err)
			}
		}
	}
	blockedBelow := health.Result{Verdict: health.Unknown, BlockedBy: "gateway"}
	if plan := NewRegistration(Registrar{}).Plan(t.Context(), blockedBelow); ids(plan) != "write-registration" {
		t.Errorf("blocked: %v", plan)
	}
}

// mender is a runtime that knows what mends its gateway.
type mender struct {
	*fake
	remedies []gateway.Remedy
	asked    health.Result
}

func (m *mender) Remedies(_ context.Context, found health.Result) []gateway.Remedy {
	m.asked = found
	return m.remedies
}

func (m *mender) Mend(_ context.Context, id string, report gateway.Progress) error {
	report("mending")
	return m.note("mend", id)
}

// A runtime that knows is asked, and the plan has whom it disturbs.
func TestGatewayLayerAsksItsRuntime(t *testing.T) {
	m := &mender{fake: newFake(), remedies: []gateway.Remedy{{ID: "x", Title: "do x", Disturbs: []string{"sandbox/claw"}, Destructive: true}}}
	m.observed = gateway.Observation{Verdict: health.Failed, Reason: "gateway-hung", Message: "hangs"}
	l := NewGateway("creel", m, NewSession(m))
	plan := l.Plan(t.Context(), l.Inspect(t.Context()))
	if want := (Action{"x", "do x", []string{"sandbox/claw"}, true}); len(plan) != 1 || !reflect.DeepEqual(plan[0], want) || m.asked.Reason != "gateway-hung" {
		t.Errorf("%+v for %+v", plan, m.asked)
	}
	said := ""
	if err := l.Mend(t.Context(), plan[0], func(text string) { said += text }); err != nil || said != "mending" || strings.Join(m.calls, ", ") != "mend x" {
		t.Errorf("%v, said %q, did %q", err, said, m.calls)
	}
	m.remedies = nil // it knows that there is nothing
	if plan := l.Plan(t.Context(), l.Inspect(t.Context())); len(plan) != 0 {
		t.Errorf("%+v", plan)
	}
}

func TestInferenceLayer(t *testing.T) {
	const base = "http://127.0.0.1:9/v1"
	route := func(model string) *inference.Route {
		return &inference.Route{Provider: "custom", Type: "custom", BaseURL: base, Model: model}
	}
	has := func(f *fake, model string) { f.route = route(model); f.stored["custom"] = *route("") }
	accepts := inference.Check{Class: inference.ClassOK, Verdict: health.OK}
	says := func(class inference.Class, verdict health.Verdict) inference.Check {
		return inference.Check{Class: class, Verdict: verdict, Message: "the provider said so", At: time.Now()}
	}
	for _, c := range []struct {
		name     string
		provider string
		model    string
		key      string
		spoil    func(f *fake)
		asked    inference.Check // by the layer, before anything is stored
		verdict  health.Verdict
		reason   string
		plan     string
		calls    string // that change something
		fails    string // advisory of mending
	}{
		{"none wanted, none there", "none", "", "", func(*fake) {}, accepts, health.OK, "", "", "", ""},
		{"none wanted, one there", "none", "", "", func(f *fake) { has(f, "m") }, accepts, health.Failed, "inference-differs", "remove-route", "set-route", ""},
		{"as wanted", "custom", "m", "", func(f *fake) { has(f, "m") }, accepts, health.OK, "", "", "", ""},
		{"as wanted, with a key at hand", "custom", "m", canary, func(f *fake) { has(f, "m") }, accepts, health.OK, "", "", "", ""},
		{"absent", "custom", "m", canary, func(*fake) {}, accepts, health.Failed, "inference-absent", "set-route", "set-provider custom, set-route custom m", ""},
		// What may be stored already is tried first.
		{"absent, no key needed", "custom", "m", "", func(*fake) {}, accepts, health.Failed, "inference-absent", "set-route", "set-route custom m, set-provider custom, set-route custom m", ""},
		{"absent, key refused", "custom", "m", canary, func(*fake) {}, says(inference.ClassCredential, health.Failed), health.Failed, "inference-absent", "set-route", "", "provider-credential"},
		{"absent, no answer", "custom", "m", canary, func(*fake) {}, says(inference.ClassTransport, health.Unknown), health.Failed, "inference-absent", "set-route", "", "provider-unreachable"},
		{"absent, no such model", "custom", "m", canary, func(*fake) {}, says(inference.ClassModel, health.Failed), health.Failed, "inference-absent", "set-route", "", "provider-model"},
		{"absent, a web page", "custom", "m", canary, func(*fake) {}, says(inference.ClassEndpoint, health.Failed), health.Failed, "inference-absent", "set-route", "", "provider-endpoint"},
		{"killed between provider and route, no key at hand", "custom", "m", "", func(f *fake) { f.stored["custom"] = *route("") }, says(inference.ClassCredential, health.Failed), health.Failed, "inference-absent", "set-route", "set-route custom m", ""},
		{"another model, stored key", "custom", "m2", "", func(f *fake) { has(f, "m") }, says(inference.ClassCredential, health.Failed), health.Failed, "inference-differs", "set-route", "set-route custom m2", ""},
		{"another model, new key", "custom", "m2", canary, func(f *fake) { has(f, "m") }, accepts, health.Failed, "inference-differs", "set-route", "set-provider custom, set-route custom m2", ""},
		{"another endpoint, stored key stays home", "custom", "m", "", func(f *fake) { has(f, "m"); f.route.BaseURL = "http://127.0.0.1:8/v1" }, says(inference.ClassCredential, health.Failed), health.Failed, "inference-differs", "set-route", "", "provider-credential"},
		{"stored key refused, none at hand", "custom", "m", "", func(f *fake) { has(f, "m"); f.check = says(inference.ClassCredential, health.Failed) }, accepts, health.Failed, "provider-credential", "", "", ""},
		{"stored key refused, another at hand", "custom", "m", canary, func(f *fake) { has(f, "m"); f.check = says(inference.ClassCredential, health.Failed) }, accepts, health.Failed, "provider-credential", "set-route", "set-provider custom, set-route custom m", ""},
		{"model gone", "custom", "m", canary, func(f *fake) { has(f, "m"); f.check = says(inference.ClassModel, health.Failed) }, accepts, health.Failed, "provider-model", "", "", ""},
		{"provider does not answer", "custom", "m", canary, func(f *fake) { has(f, "m"); f.check = says(inference.ClassTransport, health.Unknown) }, accepts, health.Unknown, "provider-unreachable", "", "", ""},
		{"gateway fails", "custom", "m", canary, func(f *fake) { f.err = errors.New("boom") }, accepts, health.Unknown, "gateway-unknown", "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake()
			c.spoil(f)
			var sent inference.Route
			l := NewInference(NewSession(f), WantedInference{Provider: c.provider, BaseURL: base, Model: c.model,
				Key:   func() credential.Secret { return credential.NewSecret(c.key) },
				Check: func(_ context.Context, r inference.Route) inference.Check { sent = r; return c.asked }})
			r := l.Inspect(t.Context())
			known(t, r)
			if r.Verdict != c.verdict || c.verdict != health.OK && r.Reason != c.reason || len(r.Caveats) > 0 {
				t.Fatalf("Inspect = %+v", r)
			}
			plan := l.Plan(t.Context(), r)
			if ids(plan) != c.plan {
				t.Fatalf("plan %q, want %q", ids(plan), c.plan)
			}
			f.forget()
			var err error
			for _, do := range plan {
				if strings.Contains(do.Title, canary) {
					t.Error("the plan tells the key")
				}
				err = l.Mend(t.Context(), do, func(m string) {
					if strings.Contains(m, canary) {
						t.Error("progress tells the key")
					}
				})
			}
			if p, _ := advisory.Of(err); c.fails == "" && err != nil || c.fails != "" && (p == nil || p.ID != c.fails) {
				t.Errorf("Mend: %v, want %q", err, c.fails)
			}
			var changes []string
			for _, call := range f.calls {
				if strings.HasPrefix(call, "set-") {
					changes = append(changes, call)
				}
			}
			if got := strings.Join(changes, ", "); got != c.calls {
				t.Errorf("calls %q, want %q", got, c.calls)
			}
			if c.fails != "" && (f.route != nil && f.route.BaseURL == base || f.stored["custom"].Key.Reveal() != "") {
				t.Error("a provider that was not accepted is stored")
			}
			if err == nil && len(plan) > 0 {
				f.check = accepts
				if after := l.Inspect(t.Context()); after.Verdict != health.OK {
					t.Errorf("afterwards %+v", after)
				}
			}
			if sent.Model != "" && (sent.Key.Reveal() != c.key || sent.BaseURL != base) {
				t.Errorf("the provider was asked with %+v", sent)
			}
		})
	}
}

// An old failure is asked about again: the user may have mended it since.
func TestOldFailureOfAProvider(t *testing.T) {
	f := newFake()
	f.route = &inference.Route{Provider: "ollama", BaseURL: "http://127.0.0.1:11434/v1", Model: "m"}
	f.check = inference.Check{Class: inference.ClassTransport, Verdict: health.Unknown, At: time.Now().Add(-10 * time.Second)}
	l := NewInference(NewSession(f), WantedInference{Provider: "ollama", Model: "m"})
	l.Inspect(t.Context())
	if !f.did("check true") || !f.did("check false") {
		t.Errorf("calls %v", f.calls)
	}
}
