package supervisor

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc"

	creelv1 "creel/api/creel/v1"
	inferencev1 "creel/api/openshell/inference/v1"
	openshellv1 "creel/api/openshell/v1"
	"creel/internal/advisory"
	"creel/internal/agent"
	"creel/internal/budget"
	"creel/internal/dashboard"
	"creel/internal/policy"
	"creel/internal/sandbox"
	"creel/internal/state"
	"creel/internal/supervisor/box"
	"creel/internal/supervisor/box/boxtest"
	"creel/internal/supervisor/confine"
	"creel/test/openaitest"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "confine" { // this binary is the executable of real Boxes
		os.Exit(confine.Main(context.Background()))
	}
	goleak.VerifyTestMain(m)
}

const (
	canary         = "sk-canary-5e2b"
	relayToken     = "relay-token"
	dashboardValue = "dashboard-token"
)

func launch(t testing.TB, argv ...string) sandbox.Launch {
	t.Helper()
	dir, err := os.MkdirTemp("", "creel") // short: it holds a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	declared := policy.Default()
	return sandbox.Launch{ID: "0b9f7c1e-0000-4000-8000-000000000001", Name: "demo", Gateway: "creel", GatewaySocket: filepath.Join(dir, "gateway.sock"), Dir: dir,
		Executable: os.Args[0], HostUID: os.Getuid(), HostGID: os.Getgid(), RelayToken: relayToken, DashboardToken: dashboardValue,
		Spec: sandbox.Spec{Agent: "command", Command: argv, Restart: sandbox.RestartNever, Confinement: sandbox.TierUnconfined, RiskAccepted: true,
			Policy: declared.Canonical(), PolicyHash: declared.Hash(), Environment: map[string]string{"MINE": "yes", "CREEL_SANDBOX": "forged", "OPENAI_BASE_URL": "http://evil", "OPENAI_PROXY": "http://evil", "CREEL_OTHER": "forged"}}}
}

func write(t testing.TB, l sandbox.Launch) {
	t.Helper()
	b, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(l.Dir, state.LaunchFile), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(l.Dir, state.TokenFile), []byte("sandbox-token"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// rig is a supervisor running in this process.
type rig struct {
	launch sandbox.Launch
	box    *boxtest.Box
	ready  readiness
	stop   context.CancelFunc
	code   chan int
}

// begin starts a supervisor and waits for its line.
func begin(t testing.TB, l sandbox.Launch, start starter) *rig {
	t.Helper()
	r := &rig{launch: l, code: make(chan int, 1)}
	reading, writing, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reading.Close()
	ctx, cancel := context.WithCancel(t.Context())
	r.stop = cancel
	if start == nil {
		r.box = boxtest.New(t, l.Spec.Dashboard.TargetPort)
		start = func(context.Context, string, confine.Profile) (box.Box, error) { return r.box, nil }
	}
	go func() { r.code <- supervise(ctx, l.Dir, writing, start) }()
	t.Cleanup(func() {
		cancel()
		r.code <- <-r.code
	})
	line, err := bufio.NewReader(reading).ReadBytes('\n')
	if err != nil {
		t.Fatalf("ready line: %v", err)
	}
	if err := json.Unmarshal(line, &r.ready); err != nil {
		t.Fatalf("ready line %q: %v", line, err)
	}
	return r
}

func (r *rig) end(t testing.TB) int {
	t.Helper()
	r.stop()
	return r.wait(t)
}

func (r *rig) wait(t testing.TB) int {
	t.Helper()
	select {
	case code := <-r.code:
		r.code <- code
		return code
	case <-time.After(30 * time.Second):
		t.Fatal("the supervisor did not end")
	}
	return -1
}

// gateway answers a supervisor with a route.
type gateway struct {
	openshellv1.UnimplementedOpenShellServer
	creelv1.UnimplementedSupervisorServer
	inferencev1.UnimplementedInferenceServer
	bundle *inferencev1.GetInferenceBundleResponse
	states chan *creelv1.SandboxState
	logs   chan string
}

func serve(t testing.TB, socket string, bundle *inferencev1.GetInferenceBundleResponse) *gateway {
	t.Helper()
	g := &gateway{bundle: bundle, states: make(chan *creelv1.SandboxState, 1000), logs: make(chan string, 10000)}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	openshellv1.RegisterOpenShellServer(s, g)
	creelv1.RegisterSupervisorServer(s, g)
	inferencev1.RegisterInferenceServer(s, g)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() {
		s.Stop()
		<-done
	})
	return g
}

func (g *gateway) ConnectSupervisor(s grpc.BidiStreamingServer[openshellv1.SupervisorMessage, openshellv1.GatewayMessage]) error {
	if _, err := s.Recv(); err != nil {
		return err
	}
	if err := s.Send(&openshellv1.GatewayMessage{Payload: &openshellv1.GatewayMessage_SessionAccepted{SessionAccepted: &openshellv1.SessionAccepted{}}}); err != nil {
		return err
	}
	for {
		if _, err := s.Recv(); err != nil {
			return nil
		}
	}
}

func (g *gateway) PushSandboxLogs(s grpc.ClientStreamingServer[openshellv1.PushSandboxLogsRequest, openshellv1.PushSandboxLogsResponse]) error {
	for {
		m, err := s.Recv()
		if err != nil {
			return nil
		}
		for _, l := range m.GetLogs() {
			g.logs <- l.GetSource() + ": " + l.GetMessage()
		}
	}
}

func (g *gateway) ReportState(_ context.Context, r *creelv1.ReportStateRequest) (*creelv1.ReportStateResponse, error) {
	g.states <- r.GetState()
	return &creelv1.ReportStateResponse{}, nil
}

func (g *gateway) ReportMainProcessExit(context.Context, *openshellv1.ReportMainProcessExitRequest) (*openshellv1.ReportMainProcessExitResponse, error) {
	return &openshellv1.ReportMainProcessExitResponse{}, nil
}

func (g *gateway) GetInferenceBundle(context.Context, *inferencev1.GetInferenceBundleRequest) (*inferencev1.GetInferenceBundleResponse, error) {
	return g.bundle, nil
}

// said waits for a line that holds want.
func (g *gateway) said(t testing.TB, want string) string {
	t.Helper()
	deadline := time.After(30 * time.Second)
	var all []string
	for {
		select {
		case l := <-g.logs:
			if all = append(all, l); strings.Contains(l, want) {
				return l
			}
		case <-deadline:
			t.Fatalf("%q was never said, but %q", want, all)
		}
	}
}

// The way of a model request: program inside, relay, provider and back; and the
// provider's key is nowhere but at the provider.
func TestModelRequestFromInside(t *testing.T) {
	provider := openaitest.Start(t)
	provider.SetKey(canary)
	// The program speaks HTTP with what the environment tells it.
	l := launch(t, "bash", "-c", `
		body='{"model":"x","messages":[{"role":"user","content":"ping"}]}'
		address=${OPENAI_BASE_URL#http://}; address=${address%/v1}
		exec 3<>/dev/tcp/${address%:*}/${address#*:}
		printf 'POST /v1/chat/completions HTTP/1.0\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s' "$OPENAI_API_KEY" ${#body} "$body" >&3
		cat <&3; echo; env; tr '\0' ' ' </proc/$$/cmdline; echo END`)
	write(t, l)
	g := serve(t, l.GatewaySocket, &inferencev1.GetInferenceBundleResponse{Routes: []*inferencev1.ResolvedRoute{
		{BaseUrl: provider.URL, ModelId: "the-model", ApiKey: canary, ProviderType: "custom"}}})
	r := begin(t, l, nil)
	if !r.ready.OK || r.ready.PID != os.Getpid() {
		t.Fatalf("ready line %+v", r.ready)
	}
	g.said(t, "You said: ping")
	g.said(t, "END")
	if code := r.end(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if got := provider.Requests(); len(got) != 1 || got[0].Model != "the-model" || got[0].Header.Get("Authorization") != "Bearer "+canary {
		t.Errorf("the provider got %+v", got)
	}
	found := false
	err := filepath.WalkDir(l.Dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		found = found || strings.Contains(string(b), "You said: ping")
		if strings.Contains(string(b), canary) {
			t.Errorf("%s holds the provider's key", path)
		}
		if strings.Contains(path, state.SupervisorLogFile) && strings.Contains(string(b), relayToken) {
			t.Errorf("%s holds the relay token", path)
		}
		return err
	})
	if err != nil || !found {
		t.Errorf("the agent's output is in no file, %v", err)
	}
}

func TestStateReportedAndRouteMissing(t *testing.T) {
	l := launch(t, "sleep", "600")
	l.Spec.Dashboard.TargetPort = 45678
	write(t, l)
	g := serve(t, l.GatewaySocket, &inferencev1.GetInferenceBundleResponse{})
	r := begin(t, l, nil)
	s := <-g.states
	for s.GetMain().GetState() != "running" {
		s = <-g.states
	}
	if s.GetAgentPort() != 45678 || s.GetPolicyApplied() != l.Spec.PolicyHash || s.GetPolicyEnforced() != "" || s.GetConfinement().GetTier() != "unconfined" || s.GetMain().GetPid() == 0 {
		t.Errorf("state %v", s)
	}
	request, err := http.NewRequestWithContext(t.Context(), "GET", "http://127.0.0.1:"+itoa(r.box.RelayPort())+"/v1/models", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+relayToken)
	answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, _ := io.ReadAll(answer.Body)
	if answer.StatusCode != 503 || !strings.Contains(string(body), "no_model_configured") {
		t.Errorf("%d %s", answer.StatusCode, body)
	}
	r.end(t)
	last := s
	for len(g.states) > 0 {
		last = <-g.states
	}
	if last.GetMain().GetState() != "stopped" {
		t.Errorf("the last state is %v", last)
	}
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

// Without a gateway the sandbox is up all the same; only one supervisor is; and
// when it ends, nothing is left and the lock is free.
func TestNeedsNoGateway(t *testing.T) {
	l := launch(t, "sleep", "600")
	write(t, l)
	r := begin(t, l, nil)
	if !r.ready.OK {
		t.Fatalf("ready line %+v", r.ready)
	}
	second := begin(t, l, nil)
	if second.ready.OK || second.ready.Advisory != "supervisor-running" || second.wait(t) != 1 {
		t.Errorf("a second supervisor says %+v", second.ready)
	}
	if code := r.end(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if n := r.box.Running(); n != 0 {
		t.Errorf("%d processes left", n)
	}
	if held, _, err := state.Held(filepath.Join(l.Dir, state.SupervisorLock)); held || err != nil {
		t.Errorf("lock held %v, %v", held, err)
	}
}

func TestCannotStart(t *testing.T) {
	cases := map[string]struct {
		change   func(*sandbox.Launch)
		start    starter
		advisory string
	}{
		"program missing":        {func(l *sandbox.Launch) { l.Spec.Command = []string{"/no/such/agent"} }, nil, "program-missing"},
		"program not executable": {func(l *sandbox.Launch) { l.Spec.Command = []string{"/etc/passwd"} }, nil, "main-process-failed"},
		"confinement": {nil, func(context.Context, string, confine.Profile) (box.Box, error) {
			return nil, advisory.New("confinement-unavailable", "no", errors.New("no landlock"))
		}, "confinement-unavailable"},
		"other directory": {func(l *sandbox.Launch) { l.Dir = "/elsewhere" }, nil, "launch-invalid"},
		"policy changed":  {func(l *sandbox.Launch) { l.Spec.PolicyHash = strings.Repeat("0", 64) }, nil, "launch-invalid"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			l := launch(t, "true")
			dir := l.Dir
			if c.change != nil {
				c.change(&l)
			}
			where := l.Dir
			l.Dir = dir
			write(t, l)
			if l.Dir = where; where != dir {
				b, _ := json.Marshal(l)
				if err := os.WriteFile(filepath.Join(dir, state.LaunchFile), b, 0o600); err != nil {
					t.Fatal(err)
				}
				l.Dir = dir
			}
			r := begin(t, l, c.start)
			if r.ready.OK || r.ready.Advisory != c.advisory || r.ready.Error == "" {
				t.Errorf("ready line %+v", r.ready)
			}
			if code := r.wait(t); code != 1 {
				t.Errorf("exit code %d", code)
			}
			if strings.Contains(r.ready.Error, relayToken) {
				t.Errorf("the error shows a token: %s", r.ready.Error)
			}
		})
	}
}

// The end of the confinement's first process is the end of the supervisor.
func TestBoxEnds(t *testing.T) {
	l := launch(t, "sleep", "600")
	write(t, l)
	r := begin(t, l, nil)
	if err := r.box.Close(); err != nil {
		t.Fatal(err)
	}
	if code := r.wait(t); code != 1 {
		t.Errorf("exit code %d", code)
	}
}

// The first SIGTERM asks, the second kills. The signals go to this process, which
// is the supervisor here.
func TestSecondSignalKills(t *testing.T) {
	t.Setenv(budget.SandboxStop.Variable(), "10m")
	l := launch(t, "sh", "-c", `trap 'echo asked' TERM; echo up; while :; do sleep 0.02; done`)
	write(t, l)
	g := serve(t, l.GatewaySocket, &inferencev1.GetInferenceBundleResponse{})
	r := begin(t, l, nil)
	g.said(t, "agent: up")
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	g.said(t, "agent: asked")
	select {
	case code := <-r.code:
		t.Fatalf("ended with %d although the agent goes on", code)
	default:
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := r.wait(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if n := r.box.Running(); n != 0 {
		t.Errorf("%d processes left", n)
	}
}

// Only a pipe is written to: run by hand, the number belongs to something else.
func TestReadyMustBeAPipe(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	if pipe(f) != nil || pipe(nil) != nil {
		t.Error("something that is no pipe is taken for one")
	}
	if err := f.Close(); err != nil {
		t.Errorf("it was closed: %v", err)
	}
	if pipe(f) != nil {
		t.Error("a closed file is taken for a pipe")
	}
}

func TestEnvironment(t *testing.T) {
	l := launch(t, "true")
	b := boxtest.New(t, 18789)
	got, err := environment(l, b, "/bin/bash", nil, true)
	if err != nil {
		t.Fatal(err)
	}
	confinement, _ := json.Marshal(b.Confinement())
	want := []string{"CREEL_AGENT_PORT=18789", "CREEL_CONFINEMENT=" + string(confinement), "CREEL_DASHBOARD_TOKEN=" + dashboardValue,
		"CREEL_POLICY_HASH=" + l.Spec.PolicyHash, "CREEL_SANDBOX=demo", "HOME=" + b.Workspace(), "LANG=C.UTF-8", "LOGNAME=sandbox", "MINE=yes",
		"OPENAI_API_KEY=" + relayToken, "OPENAI_BASE_URL=http://127.0.0.1:" + itoa(b.RelayPort()) + "/v1", "PATH=" + searchPath, "PORT=18789",
		"SHELL=/bin/bash", "TERM=xterm-256color", "USER=sandbox"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	others, err := environment(l, b, "/bin/bash", nil, false)
	if err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(others, func(v string) bool { return strings.Contains(v, dashboardValue) }) {
		t.Errorf("commands get the dashboard's token: %q", others)
	}
}

// An agent that judges origins by itself is told those of every URL that is printed.
func TestOriginsOfADashboard(t *testing.T) {
	l := launch(t, "true")
	l.Spec.Agent = agent.OpenClaw
	b := boxtest.New(t, 18789)
	for _, c := range []struct {
		board sandbox.Dashboard
		want  string
	}{
		{sandbox.Dashboard{TargetPort: 18789, Bind: "127.0.0.1"}, "http://127.0.0.1:18789"},
		{sandbox.Dashboard{TargetPort: 18789, Port: 5000, Bind: "0.0.0.0"}, "http://127.0.0.1:5000,http://192.0.2.7:5000,http://198.51.100.8:5000"},
		{sandbox.Dashboard{TargetPort: 18789, Bind: "127.0.0.1", Access: dashboard.Access{PublicURL: "https://agent.example/claw"}},
			"http://127.0.0.1:18789,https://agent.example"},
	} {
		l.Spec.Dashboard = c.board
		got, err := environment(l, b, "/bin/bash", []string{"192.0.2.7", "198.51.100.8", "2001:db8::7"}, true)
		if err != nil {
			t.Fatal(err)
		}
		if want := "CREEL_DASHBOARD_ORIGINS=" + c.want; !slices.Contains(got, want) {
			t.Errorf("%+v: no %s in %q", c.board, want, got)
		}
	}
}

func TestCommand(t *testing.T) {
	b := boxtest.New(t, 0)
	cases := []struct {
		spec sandbox.Spec
		want []string
		tty  bool
	}{
		{sandbox.Spec{Agent: "console"}, []string{os.Args[0], "agent", "console"}, false},
		{sandbox.Spec{Agent: "console", Command: []string{confine.ExecutablePath, "agent", "console"}}, []string{os.Args[0], "agent", "console"}, false},
		{sandbox.Spec{}, []string{"/bin/sh", "-l"}, true},
		{sandbox.Spec{Command: []string{"node", "x"}, TTY: true}, []string{"node", "x"}, true},
	}
	for _, c := range cases {
		if got, tty := command(c.spec, b, "/bin/sh"); !slices.Equal(got, c.want) || tty != c.tty {
			t.Errorf("command(%+v) = %q, %v", c.spec, got, tty)
		}
	}
}

func TestProfile(t *testing.T) {
	l := launch(t, "true")
	l.Spec.Confinement, l.Spec.RiskAccepted, l.Spec.Dashboard.TargetPort, l.Hidden = "", false, 3000, []string{"/secret"}
	_, document, err := parseLaunch(must(json.Marshal(l)))
	if err != nil {
		t.Fatal(err)
	}
	got := profile(l, document)
	want := confine.Profile{SandboxID: l.ID, Tier: sandbox.TierAuto, Workspace: filepath.Join(l.Dir, "workspace"), Executable: l.Executable,
		HostUID: l.HostUID, HostGID: l.HostGID, Hostname: "demo", RelayPort: 8787, DashboardPort: 3000,
		ReadOnly: policy.Default().Filesystem.ReadOnly, ReadWrite: policy.Default().Filesystem.ReadWrite, Hidden: []string{"/secret"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	l.Spec.Confinement = sandbox.TierUnconfined
	if profile(l, document).RiskAccepted {
		t.Error("a wish is taken for a consent")
	}
	l.Spec.RiskAccepted = true
	if !profile(l, document).RiskAccepted {
		t.Error("an accepted risk is not passed on")
	}
}

func TestLaunchErrorsShowNoToken(t *testing.T) {
	good := string(must(json.Marshal(launch(t, "true"))))
	for name, text := range map[string]string{
		"torn":       good[:len(good)-40],
		"wrong type": strings.Replace(good, `"`+relayToken+`"`, `{"`+relayToken+`":1}`, 1),
		"restart":    strings.Replace(good, `"never"`, `"sometimes"`, 1),
		"tier":       strings.Replace(good, `"unconfined"`, `"loose"`, 1),
		"port":       strings.Replace(good, `"target_port":0`, `"target_port":8787`, 1),
		"relative":   strings.Replace(good, `"dir":"/`, `"dir":"`, 1),
		"command":    strings.Replace(good, `["true"]`, `["tr\u0000ue"]`, 1),
		"no token":   strings.Replace(good, `"relay_token":"`+relayToken+`"`, `"relay_token":""`, 1),
		"too large":  good + strings.Repeat(" ", maxLaunch),
	} {
		if text == good {
			t.Fatalf("%s: nothing was changed", name)
		}
		if _, _, err := parseLaunch([]byte(text)); err == nil || strings.Contains(err.Error(), relayToken) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What the launch file names is where the gateway is; while it cannot be read the
// last that it named is.
func TestRedirection(t *testing.T) {
	l := launch(t, "true")
	write(t, l)
	socket := redirection(l.Dir)
	if got := socket(); got != l.GatewaySocket {
		t.Errorf("at first %q, want %q", got, l.GatewaySocket)
	}
	path := filepath.Join(l.Dir, state.LaunchFile)
	l.GatewaySocket += ".moved"
	moved, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	for _, content := range [][]byte{moved, []byte("{"), nil} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if content != nil {
			if err := state.WriteFile(path, content, state.FileMode); err != nil {
				t.Fatal(err)
			}
		}
		if got := socket(); got != l.GatewaySocket {
			t.Errorf("with %.1q in the file %q, want %q", content, got, l.GatewaySocket)
		}
	}
}

func marshal(v any) ([]byte, error) { return json.Marshal(v) }

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

// A launch record that is accepted is one that can be used.
func FuzzParseLaunch(f *testing.F) {
	good := must(json.Marshal(launch(f, "sh", "-c", "true")))
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add([]byte(`{"id":"x","relay_token":7}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, p, err := parseLaunch(b)
		if err != nil {
			return
		}
		if l.RelayToken == "" || !filepath.IsAbs(l.Dir) {
			t.Fatalf("accepted %+v", l)
		}
		if len(l.Spec.Policy) > 0 {
			if sum := sha256.Sum256(l.Spec.Policy); hex.EncodeToString(sum[:]) != l.Spec.PolicyHash || p.Validate() != nil {
				t.Fatal("accepted a policy that is not what was declared")
			}
		}
	})
}
