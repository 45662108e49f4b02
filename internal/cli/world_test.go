package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"creel/internal/advisory"
	"creel/internal/bundle"
	"creel/internal/credential"
	"creel/internal/dashboard"
	"creel/internal/desired"
	"creel/internal/gateway"
	"creel/internal/health"
	"creel/internal/inference"
	"creel/internal/layer"
	"creel/internal/sandbox"
	"creel/internal/state"
)

// world is a gateway with its sandboxes that lives in one file, so that several
// processes of one test see the same. It refuses what a real one refuses.
type world struct {
	path string
	mu   *sync.Mutex
}

type worldState struct {
	Running   bool
	Hung      bool // accepts, never answers
	Drift     []string
	Disturbs  bool // its sandboxes notice that it is stopped
	Broken    bool // the new one does not come up
	Sandboxes []gateway.Inspection
	Specs     map[string]sandbox.Spec
	Provider  string
	BaseURL   string
	Model     string
	KeyStored bool
	HasRoute  bool
	Secrets   map[string]bundle.Secret
	Cluster   map[string]bundle.Secret
	Rotated   int // how often the dashboard's token was replaced
	// Told is the token that the agent was started with.
	Told  string
	Calls map[string]int
	Taken []int // ports of this machine that somebody else has
	// Late is how often the dashboard does not answer yet.
	Late int
}

func (s worldState) route() inference.Route {
	return inference.Route{Provider: s.Provider, Type: s.Provider, BaseURL: s.BaseURL, Model: s.Model}
}

const dashboardToken = "canary-dashboard-token"

// token is the one on record.
func (s worldState) token() string {
	if s.Rotated == 0 {
		return dashboardToken
	}
	return fmt.Sprintf("canary-rotated-token-%d", s.Rotated)
}

func newWorld(path string) *world { return &world{path: path, mu: &sync.Mutex{}} }

func (w *world) with(change func(*worldState) error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := worldState{Specs: map[string]sandbox.Spec{}, Secrets: map[string]bundle.Secret{}, Calls: map[string]int{}}
	b, err := os.ReadFile(w.path)
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	before, err := json.Marshal(s)
	if err != nil {
		return err
	}
	result := change(&s)
	after, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if string(before) == string(after) {
		return result // looking changes nothing on disk
	}
	return errors.Join(result, os.WriteFile(w.path, after, 0o600))
}

func (w *world) get() (out worldState) {
	if err := w.with(func(s *worldState) error { out = *s; return nil }); err != nil {
		panic(err)
	}
	return out
}

// deps are the dependencies of a program in this world.
func (w *world) deps(getenv func(string) string) Deps {
	roots := func() (state.Roots, error) { return state.RootsFrom(getenv) }
	runtime := func(name string) (gateway.Runtime, error) {
		if r, err := roots(); err == nil {
			if d, err := desired.Load(r.Gateway(name).Desired()); err == nil && d.Runtime == desired.Kubernetes {
				return remoteRuntime{worldRuntime{w}, worldCluster{w, Place{Namespace: "openshell"}}}, nil
			}
		}
		return worldRuntime{w}, nil
	}
	return Deps{
		Getenv: getenv, Build: Build{Version: "1.2.3", ID: "abc"}, Roots: roots, Runtime: runtime,
		Layers: func(_ context.Context, d desired.Document, scope Scope) (Stack, error) {
			return w.layers(d, scope, machine(getenv).WSL)
		},
		AttachRegistration: func(_ string, c bundle.ClientFiles, belongs func([]byte) bool, force bool) (string, error) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(w.path), "registered-by-creel")); err == nil {
				return "of-this-machine", nil
			}
			registered, err := os.ReadFile(filepath.Join(filepath.Dir(w.path), "registered.crt"))
			if err != nil {
				return "not-registered", nil
			}
			if !force && !belongs(registered) {
				return "not-proven", nil
			}
			return "attached", os.WriteFile(filepath.Join(filepath.Dir(w.path), "registered.crt"), c.Cert, 0o600)
		},
		ClusterSecrets: func(_ context.Context, p Place) (bundle.Target, error) { return worldCluster{w, p}, nil },
		ProbeDashboard: w.probe,
		ProbePublicURL: w.probePublic,
		Machine:        func() dashboard.Machine { return machine(getenv) },
		OpenBrowser: func(context.Context, string) error {
			return advisory.New("browser-missing", "no program to open a browser was found", nil)
		},
		Destroy: func(_ context.Context, _, name string, report gateway.Progress) (existed bool, err error) {
			report("removing")
			err = w.with(func(s *worldState) error {
				before := len(s.Sandboxes)
				s.Sandboxes = slices.DeleteFunc(s.Sandboxes, func(i gateway.Inspection) bool { return i.Name == name })
				existed = len(s.Sandboxes) < before
				return nil
			})
			return existed, err
		},
		SavedLog: func(_ context.Context, _, name string, out io.Writer, _ int, _ bool) error {
			if name != "claw" {
				return gateway.ErrNotFound
			}
			_, err := io.WriteString(out, "2026-01-02T03:04:05.000Z saved \x1b[31mline\nunfinished")
			return err
		},
		Uninstall: func(_ context.Context, name string, plan bool, _ gateway.Progress) (Removal, error) {
			r, err := roots()
			if err != nil {
				return Removal{}, err
			}
			g := r.Gateway(name)
			removal := Removal{}
			if d, err := desired.Load(g.Desired()); err == nil && d.Runtime == desired.Kubernetes {
				removal.Cluster = []string{"Secret openshell/x-creel-backup-1"}
			}
			for _, p := range []string{g.Dir(), g.Desired()} {
				if !isAbsent(p) {
					removal.Paths = append(removal.Paths, p)
				}
			}
			for _, i := range w.get().Sandboxes {
				removal.Sandboxes = append(removal.Sandboxes, i.Name)
			}
			if !plan {
				for _, p := range removal.Paths {
					err = errors.Join(err, os.RemoveAll(p))
				}
				err = errors.Join(err, os.RemoveAll(w.path))
			}
			return removal, err
		},
		Serve:     func(context.Context, string) error { return errors.New("the world has no daemon") },
		Forward:   func(_ context.Context, name string) error { return errors.New("the world has no way to " + name) },
		Supervise: func(context.Context, string) int { return 7 },
		Confine:   func(context.Context) int { return 8 },
		Console:   func(context.Context) int { return 9 },
	}
}

func (w *world) probe(_ context.Context, d gateway.Dashboard) health.Result {
	r := health.Result{Verdict: health.OK, Message: "the dashboard opens", Evidence: []health.Evidence{{Probe: "page", Answer: "200", Verdict: health.OK}}}
	if s := w.get(); s.Late > 0 {
		r.Verdict, r.Reason, r.Message = health.Failed, "dashboard-unhealthy", "connection reset by peer"
		if err := w.with(func(s *worldState) error { s.Late--; return nil }); err != nil {
			r.Message = err.Error()
		}
	}
	if told := w.get().Told; d.Token.Reveal() != cmp.Or(told, dashboardToken) {
		r.Verdict, r.Reason, r.Message = health.Failed, "dashboard-token-refused", "the token is refused"
	}
	if d.WebSocket == "" {
		r.Caveats = []health.Caveat{{Advisory: "dashboard-unguarded", Message: "its agent does not look at names"}}
	}
	return r
}

// probePublic knows three public URLs.
func (w *world) probePublic(_ context.Context, d gateway.Dashboard) health.Result {
	e := func(answer string, v health.Verdict) []health.Evidence {
		return []health.Evidence{{Probe: "public", Answer: answer, Verdict: v}}
	}
	switch d.Access.PublicURL {
	case "https://good.example/claw":
		return health.Result{Verdict: health.OK, Message: "the public URL opens it", Evidence: e("200", health.OK)}
	case "https://broken.example":
		return health.Result{Verdict: health.Failed, Reason: "dashboard-proxy", Message: "the proxy answers with status 502", Evidence: e("502", health.Failed)}
	}
	return health.Result{Reason: "dashboard-public-unreachable", Message: "its name cannot be resolved here", Evidence: e("no such name", health.Unknown)}
}

// machine is how the session is, as the environment says.
func machine(getenv func(string) string) dashboard.Machine {
	return dashboard.Machine{WSL: dashboard.DetectWSL(getenv, ""), SSH: dashboard.DetectSSH(getenv), Container: getenv("container"),
		Addresses: []string{"192.0.2.7"}, User: "me", Hostname: "box", Display: getenv("DISPLAY") != "", Opener: getenv("CREEL_TEST_OPENER") != "none"}
}

func (w *world) layers(d desired.Document, scope Scope, wsl bool) (Stack, error) {
	r := worldRuntime{w}
	session := layer.NewSession(r)
	key := scope.Key
	if key == nil {
		key = func() credential.Secret { return credential.Secret{} }
	}
	all := []layer.Layer{
		layer.NewSecrets(r), layer.NewGateway(d.Name, r, session),
		layer.NewInference(session, layer.WantedInference{Provider: d.Inference.Provider, BaseURL: d.Inference.EndpointURL,
			Model: d.Inference.Model, Key: key, Check: checkRoute}),
	}
	for _, s := range d.Sandboxes {
		if scope.Sandbox != "" && scope.Sandbox != s.Name {
			continue
		}
		spec, err := s.Spec(wsl)
		if err != nil {
			return Stack{}, err
		}
		want, err := layer.NewWantedSandbox(s.Name, spec, s.Wanted)
		if err != nil {
			return Stack{}, err
		}
		all = append(all, layer.NewSandbox(session, want), layer.NewAgent(session, want), layer.NewDashboard(session, want, w.probe))
	}
	if len(scope.Only) > 0 {
		all = layersOf(all, scope.Only...)
	}
	return Stack{Layers: all, Close: session.Close}, nil
}

// checkRoute is a provider that knows one key and one model.
func checkRoute(_ context.Context, r inference.Route) inference.Check {
	c := inference.Check{Class: inference.ClassOK, Verdict: health.OK, Message: "the provider answers", Endpoint: r.BaseURL, At: time.Unix(1, 0)}
	switch {
	case r.Model == "unreachable":
		c = inference.Check{Class: inference.ClassTransport, Verdict: health.Unknown, Message: "the provider cannot be reached"}
	case r.Key.Reveal() != "good-key":
		c = inference.Check{Class: inference.ClassCredential, Verdict: health.Failed, Message: "the provider refuses the key", Status: 401}
	case r.Model != "good-model":
		c = inference.Check{Class: inference.ClassModel, Verdict: health.Failed, Message: "the provider does not know the model", Status: 404}
	}
	return c
}

type worldRuntime struct{ w *world }

func (r worldRuntime) Name() string { return "embedded" }

func (r worldRuntime) Observe(context.Context) gateway.Observation {
	s := r.w.get()
	o := gateway.Observation{Verdict: health.OK, Message: "it answers", Endpoint: gateway.Endpoint{Host: "127.0.0.1", Port: 17670},
		Identity: gateway.Identity{Gateway: "creel", InstanceID: "i", PID: 42, StartedAt: time.Unix(5, 0).UTC(), Version: "1.2.3", BuildID: "abc"},
		Evidence: []health.Evidence{{Probe: "process", Answer: "pid 42", Verdict: health.OK}}, Drift: s.Drift}
	switch {
	case !s.Running:
		return gateway.Observation{Verdict: health.Failed, Reason: "gateway-not-running", Message: "the gateway is not running", Absent: true}
	case s.Hung:
		return gateway.Observation{Verdict: health.Failed, Reason: "gateway-hung", Message: "the gateway accepts and does not answer"}
	}
	return o
}

func (r worldRuntime) Start(_ context.Context, report gateway.Progress) error {
	report("waiting for health")
	return r.w.with(func(s *worldState) error {
		if len(s.Secrets) == 0 {
			return advisory.New("gateway-start-failed", "the gateway has no bootstrap secrets", nil)
		}
		s.Running, s.Hung = true, false
		return nil
	})
}

func (r worldRuntime) PlanUpgrade(context.Context, gateway.UpgradeOptions) (gateway.Upgrade, error) {
	s := r.w.get()
	u := gateway.Upgrade{Differs: s.Drift, From: gateway.Program{Version: "1.2.3", BuildID: "abc", Executable: "/old"}, To: gateway.Program{Version: "1.3.0", BuildID: "def", Executable: "/new"}}
	for _, i := range s.Sandboxes {
		if s.Disturbs {
			u.Disturbs = append(u.Disturbs, "sandbox/"+i.Name)
		}
	}
	if !s.Running {
		return u, advisory.New("gateway-not-running", "the gateway is not running", nil)
	}
	return u, nil
}

func (r worldRuntime) Upgrade(_ context.Context, _ gateway.UpgradeOptions, report gateway.Progress) error {
	report("upgrading")
	return r.w.with(func(s *worldState) error {
		if s.Broken {
			return errors.Join(advisory.New("gateway-upgrade-failed", "the old one is back", nil), advisory.New("gateway-start-failed", "exited with code 1", nil))
		}
		s.Drift = nil
		return nil
	})
}

func (r worldRuntime) Stop(context.Context, gateway.Progress) error {
	return r.w.with(func(s *worldState) error { s.Running = false; return nil })
}

func (r worldRuntime) Secrets() bundle.Target {
	return bundle.Fixed{Store: worldStore(r), Want: bundle.Requirements{Generation: bundle.Generation2}}
}

func (r worldRuntime) Endpoint() gateway.Endpoint {
	return gateway.Endpoint{Host: "127.0.0.1", Port: 17670}
}

func (r worldRuntime) Logs(_ context.Context, out io.Writer, lines int, _ bool) error {
	all := []string{"one \x1b]0;title\x07\x1b[2J", "token=sk-\x1b[1mcanarycanary", "two", "three"}
	if lines > 0 && lines < len(all) {
		all = all[len(all)-lines:]
	}
	_, err := io.WriteString(out, strings.Join(all, "\n")+"\n")
	return err
}

func (r worldRuntime) Dial(context.Context) (gateway.Client, error) {
	if s := r.w.get(); !s.Running || s.Hung {
		return nil, errors.New("dial 127.0.0.1:17670: no answer")
	}
	return worldClient(r), nil
}

type worldStore struct{ w *world }

func (s worldStore) Load(context.Context, bundle.Requirements) (bundle.Snapshot, error) {
	if _, err := os.Stat(filepath.Join(filepath.Dir(s.w.path), "secrets-unreadable")); err == nil {
		return bundle.Snapshot{}, errors.New("open ca.key: permission denied")
	}
	return bundle.Snapshot{Secrets: s.w.get().Secrets}, nil
}

func (s worldStore) Apply(_ context.Context, write []bundle.Secret, _ bundle.Snapshot) error {
	return s.w.with(func(w *worldState) error {
		for _, one := range write {
			w.Secrets[one.Name] = one
		}
		return nil
	})
}

type worldClient struct{ w *world }

func (c worldClient) Close() error { return nil }

func (c worldClient) Identity(context.Context) (gateway.Identity, error) {
	return gateway.Identity{Gateway: "creel"}, nil
}

func (c worldClient) CreateSandbox(_ context.Context, name string, spec sandbox.Spec) (in gateway.Inspection, err error) {
	return in, c.w.with(func(s *worldState) error {
		in = gateway.Inspection{Name: name, ID: "id-" + name, Agent: spec.Agent, Phase: sandbox.Ready, Wanted: sandbox.Running,
			Labels: spec.Labels, Connected: true, PolicyDeclared: spec.PolicyHash, CreatedAt: time.Unix(10, 0),
			State: sandbox.State{Confinement: sandbox.Confinement{Tier: sandbox.TierNamespaces}, Main: sandbox.MainProcess{State: sandbox.ProcRunning, PID: 99},
				PolicyApplied: spec.PolicyHash, PolicyEnforced: spec.PolicyHash, AgentPort: spec.Dashboard.TargetPort},
			Health: gateway.AgentHealth{Verdict: health.OK, Message: "200", HTTPStatus: 200}}
		if d := spec.Dashboard; d.TargetPort != 0 {
			port := d.Port
			if port == 0 {
				port = 18789 + len(s.Sandboxes)
			}
			in.Dashboard = gateway.Forward{Sandbox: name, Bind: d.Bind, Port: port, WantedPort: d.Port, TargetPort: d.TargetPort, Bound: true}
		}
		s.listen(&in, spec)
		s.Sandboxes = append(s.Sandboxes, in)
		s.Specs[name] = spec
		return nil
	})
}

func (c worldClient) WaitSandbox(ctx context.Context, name string, report gateway.Progress) (gateway.Inspection, error) {
	report("sandbox is ready")
	list, err := c.Inspect(ctx, false, name)
	if err != nil || len(list) == 0 {
		return gateway.Inspection{}, errors.Join(err, gateway.ErrNotFound)
	}
	return list[0], nil
}

func (c worldClient) UpdateSandbox(_ context.Context, name string, spec sandbox.Spec) error {
	return c.w.with(func(s *worldState) error {
		for i := range s.Sandboxes {
			if in := &s.Sandboxes[i]; in.Name == name {
				in.Labels, in.Agent = spec.Labels, spec.Agent
				s.listen(in, spec)
				s.Specs[name] = spec
				s.Calls["update"]++
				return nil
			}
		}
		return fmt.Errorf("sandbox %s: %w", name, gateway.ErrNotFound)
	})
}

func (c worldClient) RotateDashboardToken(_ context.Context, name string) (bool, error) {
	return true, c.w.with(func(s *worldState) error {
		for _, in := range s.Sandboxes {
			if in.Name == name {
				s.Rotated++
				s.Told = s.token() // the gateway starts it again
				return nil
			}
		}
		return fmt.Errorf("sandbox %s: %w", name, gateway.ErrNotFound)
	})
}

func (c worldClient) UpdateForwards(_ context.Context, name string, spec sandbox.Spec) (out gateway.Inspection, err error) {
	return out, c.w.with(func(s *worldState) error {
		for i := range s.Sandboxes {
			if in := &s.Sandboxes[i]; in.Name == name {
				s.listen(in, spec)
				have := s.Specs[name]
				have.Dashboard, have.Forwards = spec.Dashboard, spec.Forwards
				s.Specs[name] = have
				out = *in
				return nil
			}
		}
		return fmt.Errorf("sandbox %s: %w", name, gateway.ErrNotFound)
	})
}

// listen binds what spec wants; what cannot move stays.
func (s *worldState) listen(in *gateway.Inspection, spec sandbox.Spec) {
	bind := func(f gateway.Forward, address string, port, otherwise int) gateway.Forward {
		f.Sandbox, f.WantedPort, f.Reason, f.Error, f.TakenPort, f.TakenBy = in.Name, port, "", "", 0, ""
		switch taken := slices.Contains(s.Taken, cmp.Or(port, otherwise)); {
		case in.Wanted == sandbox.NotRunning:
			f.Bind, f.Port, f.Bound, f.Error = address, port, false, "the sandbox is stopped"
		case taken && port != 0:
			if f.Error = fmt.Sprintf("port %d is taken by nginx (pid 7)", port); !f.Bound {
				f.Port = port
			}
			f.Reason = "forward-port-taken"
		case taken:
			f.Bind, f.Port, f.Bound, f.TakenPort, f.TakenBy = address, 18795, true, otherwise, "nginx (pid 7)"
		default:
			f.Bind, f.Port, f.Bound = address, cmp.Or(port, otherwise), true
		}
		return f
	}
	if d := spec.Dashboard; d.TargetPort != 0 {
		f := &in.Dashboard
		f.Stopped = d.Stopped
		if d.Stopped {
			f.Bound, f.Error = false, "its listener was stopped"
		} else if *f = bind(*f, d.Bind, d.Port, f.Port); f.Reason != "" {
			f.Reason = "dashboard-port-taken"
		}
	}
	before := in.Forwards
	in.Forwards = nil
	for _, w := range spec.Forwards {
		f := gateway.Forward{TargetPort: w.TargetPort}
		for _, b := range before {
			if b.WantedPort == w.Port && b.TargetPort == w.TargetPort {
				f = b
			}
		}
		if !f.Bound || f.Bind != w.Bind || in.Wanted == sandbox.NotRunning { // one that is as wanted stays
			f = bind(f, w.Bind, w.Port, w.TargetPort)
		}
		in.Forwards = append(in.Forwards, f)
	}
}

func (c worldClient) phase(name string, phase sandbox.Phase, wanted sandbox.Wanted) error {
	return c.w.with(func(s *worldState) error {
		for i := range s.Sandboxes {
			if s.Sandboxes[i].Name == name {
				s.Sandboxes[i].Phase, s.Sandboxes[i].Wanted = phase, wanted
				s.listen(&s.Sandboxes[i], s.Specs[name])
				return nil
			}
		}
		return fmt.Errorf("sandbox %s: %w", name, gateway.ErrNotFound)
	})
}

func (c worldClient) StartSandbox(_ context.Context, name string) error {
	return errors.Join(c.phase(name, sandbox.Ready, sandbox.Running), c.w.with(func(s *worldState) error {
		s.Told = s.token()
		return nil
	}))
}

func (c worldClient) StopSandbox(_ context.Context, name string) error {
	return c.phase(name, sandbox.Stopped, sandbox.NotRunning)
}

func (c worldClient) DeleteSandbox(context.Context, string) (bool, error) {
	return false, errors.New("commands delete through Deps.Destroy")
}

func (c worldClient) Inspect(_ context.Context, _ bool, names ...string) (out []gateway.Inspection, err error) {
	s := c.w.get()
	for _, in := range s.Sandboxes {
		if len(names) == 0 || slices.Contains(names, in.Name) {
			out = append(out, in)
		}
	}
	return out, nil
}

func (c worldClient) Dashboard(_ context.Context, name string, token bool) (d gateway.Dashboard, err error) {
	list, _ := c.Inspect(context.Background(), false, name)
	if len(list) == 0 {
		return d, gateway.ErrNotFound
	}
	spec := c.w.get().Specs[name].Dashboard
	d.Forward, d.HealthPath, d.WebSocket, d.Access = list[0].Dashboard, spec.HealthPath, spec.WebSocket, spec.Access
	if token {
		d.Token = credential.NewSecret(c.w.get().token())
	}
	return d, nil
}

// Exec knows four programs.
func (c worldClient) Exec(_ context.Context, e gateway.Exec) (int, error) {
	switch e.Command[0] {
	case "echo":
		_, err := fmt.Fprintln(e.Stdout, strings.Join(e.Command[1:], " "))
		return 0, err
	case "cat":
		if e.Stdin == nil {
			return 0, nil
		}
		_, err := io.Copy(e.Stdout, e.Stdin)
		return 0, err
	case "env":
		for _, name := range slices.Sorted(maps.Keys(e.Env)) {
			if _, err := fmt.Fprintf(e.Stdout, "%s=%s\n", name, e.Env[name]); err != nil {
				return 0, err
			}
		}
		return 0, nil
	case "false":
		_, err := fmt.Fprintln(e.Stderr, "no")
		return 3, err
	}
	return 127, nil
}

func (c worldClient) Logs(_ context.Context, _ string, n int, _ bool, line func(gateway.LogLine)) error {
	all := []string{"first", "second \x1b[31mred"}
	if n > 0 && n < len(all) {
		all = all[len(all)-n:]
	}
	for _, m := range all {
		line(gateway.LogLine{At: time.Unix(0, 0), Source: "agent", Message: m})
	}
	return nil
}

func (c worldClient) SetProvider(_ context.Context, r inference.Route) error {
	return c.w.with(func(s *worldState) error {
		s.Provider, s.BaseURL, s.KeyStored = r.Provider, r.BaseURL, !r.Key.Empty()
		return nil
	})
}

func (c worldClient) SetRoute(_ context.Context, provider, model string) error {
	return c.w.with(func(s *worldState) error {
		if provider != "" && s.Provider != provider {
			return advisory.New("provider-missing", "no provider "+provider, nil)
		}
		s.HasRoute, s.Model = provider != "", model
		return nil
	})
}

func (c worldClient) Route(context.Context) (inference.Route, bool, error) {
	s := c.w.get()
	if !s.HasRoute {
		return inference.Route{}, false, nil
	}
	return s.route(), true, nil
}

func (c worldClient) CheckInference(ctx context.Context, _ time.Duration) (inference.Check, error) {
	s := c.w.get()
	r := s.route()
	if s.KeyStored {
		r.Key = credential.NewSecret("good-key")
	}
	return checkRoute(ctx, r), nil
}
