package probe

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"creel/internal/advisory"
	"creel/internal/agent/console"
	"creel/internal/credential"
	"creel/internal/dashboard"
	"creel/internal/health"
	"creel/test/openaitest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const token = "canary-token"

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// startConsole runs the real agent.
func startConsole(t testing.TB) Target {
	t.Helper()
	port := freePort(t)
	env := map[string]string{
		"CREEL_DASHBOARD_TOKEN": token, "CREEL_AGENT_PORT": strconv.Itoa(port), "CREEL_SANDBOX": "demo",
		"HOME": t.TempDir(), "OPENAI_BASE_URL": openaitest.Start(t).URL,
	}
	ctx, cancel := context.WithCancel(context.Background())
	log := &listening{up: make(chan struct{})}
	code := make(chan int, 1)
	go func() { code <- console.Main(ctx, func(k string) string { return env[k] }, log) }()
	t.Cleanup(func() {
		cancel()
		if c := <-code; c != 0 {
			t.Errorf("console: exit code %d", c)
		}
	})
	select {
	case <-log.up:
	case c := <-code:
		code <- c
		t.Fatalf("console: exit code %d", c)
	}
	return Target{Host: "127.0.0.1", Port: port, HealthPath: "/health", WebSocketPath: "/ws", Token: credential.NewSecret(token)}
}

// listening is a log that tells when the console listens.
type listening struct {
	once sync.Once
	up   chan struct{}
}

func (l *listening) Write(p []byte) (int, error) {
	if strings.Contains(string(p), "listening") {
		l.once.Do(func() { close(l.up) })
	}
	return len(p), nil
}

func verdicts(r Report) []string {
	var out []string
	for _, e := range r.Evidence {
		out = append(out, e.Probe+": "+e.Verdict.String())
	}
	return out
}

// check compares, and holds what is true of every report.
func check(t *testing.T, r Report, verdict health.Verdict, reason string) {
	t.Helper()
	if r.Verdict != verdict || r.Reason != reason {
		t.Errorf("verdict %s, reason %q (%s); want %s, %q\n%+v", r.Verdict, r.Reason, r.Message, verdict, reason, r.Evidence)
	}
	if r.Message == "" || len(r.Evidence) == 0 {
		t.Errorf("report %+v", r)
	}
	if r.Reason != "" {
		if _, ok := advisory.Lookup(r.Reason); !ok {
			t.Errorf("advisory %q is not in the registry", r.Reason)
		}
	}
	if strings.Contains(fmt.Sprintf("%+v", r), "canary") {
		t.Errorf("the report holds the token: %+v", r)
	}
}

func TestConsoleOpens(t *testing.T) {
	target := startConsole(t)
	r := Probe(t.Context(), target)
	check(t, r, health.OK, "")
	want := []string{
		fmt.Sprintf("tcp 127.0.0.1:%d: ok", target.Port), "http GET /health: ok", "http GET /: ok", "websocket with its own origin: ok",
		"websocket with another origin: ok", "http under another website's name: ok", "websocket with the token: ok", "websocket with a wrong token: ok",
	}
	if diff := cmp.Diff(want, verdicts(r)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(r.Caveats) > 0 {
		t.Errorf("caveats %+v", r.Caveats)
	}
	target.Host = "0.0.0.0"
	check(t, Probe(t.Context(), target), health.OK, "")
	target.Host = "127.0.0.1"

	// However often somebody asks, the answer stays the same and stays quick: the
	// wrong tokens of the probe must not use up the console's patience with them.
	began := time.Now()
	for range 15 {
		check(t, Probe(t.Context(), target), health.OK, "")
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("15 probes took %s", took)
	}
}

func TestTokenOfAnotherStart(t *testing.T) {
	target := startConsole(t)
	target.Token = credential.NewSecret("canary-of-yesterday")
	check(t, Probe(t.Context(), target), health.Failed, "dashboard-token-refused")
	target.Token = credential.Secret{}
	check(t, Probe(t.Context(), target), health.Unknown, "dashboard-token-unknown")
}

func TestNothingListens(t *testing.T) {
	r := Probe(t.Context(), Target{Host: "127.0.0.1", Port: freePort(t), HealthPath: "/health", WebSocketPath: "/ws"})
	check(t, r, health.Failed, "dashboard-not-listening")
	if len(r.Evidence) != 1 {
		t.Errorf("asked on after the refusal: %v", verdicts(r))
	}
}

// mute accepts connections and never answers.
func mute(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		var held []net.Conn
		for {
			c, err := l.Accept()
			if err != nil {
				break
			}
			held = append(held, c)
		}
		for _, c := range held {
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-ended })
	return l.Addr().(*net.TCPAddr).Port
}

func TestSilence(t *testing.T) {
	t.Setenv("CREEL_BUDGET_PROBE", "100ms")
	check(t, Probe(t.Context(), Target{Host: "127.0.0.1", Port: mute(t), HealthPath: "/health"}), health.Failed, "dashboard-silent")
}

// What the caller broke off says nothing about the dashboard.
func TestBrokenOff(t *testing.T) {
	port := mute(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	check(t, Probe(ctx, Target{Host: "127.0.0.1", Port: port, HealthPath: "/health"}), health.Unknown, "dashboard-not-asked")
}

// faulty is an agent that is right in everything but what a test spoils.
type faulty struct {
	healthStatus, pageStatus int
	pageType                 string
	noSocket                 bool
	anyOrigin                bool
	originStatus             int
	anyToken                 bool
	first                    string
	closeCode                websocket.StatusCode
	public                   string // origin of the public URL that it accepts
	noPublic                 bool
	anyName                  bool
}

func (f faulty) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	status := func(s int) int {
		if s == 0 {
			return http.StatusOK
		}
		return s
	}
	r.URL.Path = "/" + strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/claw"), "/")
	name, _, err := net.SplitHostPort(r.Host)
	switch {
	case !f.anyName && (err != nil || name != "127.0.0.1") && "https://"+r.Host != f.public:
		w.WriteHeader(http.StatusForbidden)
	case r.URL.Path == "/health":
		w.WriteHeader(status(f.healthStatus))
	case r.URL.Path == "/":
		kind := f.pageType
		if kind == "" {
			kind = "text/html"
		}
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(status(f.pageStatus))
		io.WriteString(w, "<!doctype html>")
	case f.noSocket:
		http.NotFound(w, r)
	case f.public != "" && r.Host == strings.TrimPrefix(f.public, "https://") && r.Header.Get("Origin") == f.public && !f.noPublic:
		f.talk(w, r)
	case !f.anyOrigin && r.Header.Get("Origin") != "http://"+r.Host:
		code := f.originStatus
		if code == 0 {
			code = http.StatusForbidden
		}
		w.WriteHeader(code)
	default:
		f.talk(w, r)
	}
}

// talk is the conversation until the token was shown.
func (f faulty) talk(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return
	}
	defer conn.CloseNow()
	_, data, err := conn.Read(r.Context())
	if err != nil {
		return
	}
	if !f.anyToken && !strings.Contains(string(data), token) {
		code := f.closeCode
		if code == 0 {
			code = closeBadToken
		}
		conn.Close(code, "wrong")
		return
	}
	first := f.first
	if first == "" {
		first = `{"type":"hello"}`
	}
	conn.Write(r.Context(), websocket.MessageText, []byte(first))
	conn.Close(websocket.StatusNormalClosure, "")
}

func serve(t *testing.T, h http.Handler) int {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h}
	ended := make(chan struct{})
	go func() { defer close(ended); s.Serve(l) }()
	t.Cleanup(func() { s.Close(); <-ended })
	return l.Addr().(*net.TCPAddr).Port
}

func TestEveryBrokenLinkIsNamed(t *testing.T) {
	tests := []struct {
		name   string
		agent  faulty
		reason string
	}{
		{"nothing is wrong", faulty{}, ""},
		{"health wants a token", faulty{healthStatus: 401}, ""},
		{"health 500", faulty{healthStatus: 500}, "dashboard-unhealthy"},
		{"health 404: another program", faulty{healthStatus: 404}, "dashboard-unhealthy"},
		{"health redirects", faulty{healthStatus: 302}, "dashboard-unhealthy"},
		{"page 404", faulty{pageStatus: 404}, "dashboard-page"},
		{"page is no page", faulty{pageType: "application/json"}, "dashboard-page"},
		{"no WebSocket", faulty{noSocket: true}, "dashboard-websocket"},
		{"any website is let in", faulty{anyOrigin: true}, "dashboard-origin-open"},
		{"another origin is a server error", faulty{originStatus: 502}, "dashboard-origin-open"},
		{"the public URL is not accepted", faulty{public: "https://agent.example", noPublic: true}, "dashboard-websocket"},
		{"the public URL is not known to it", faulty{anyName: true}, "dashboard-websocket"},
		{"any token is accepted", faulty{anyToken: true}, "dashboard-token-open"},
		{"a wrong token ends otherwise", faulty{closeCode: 1011}, "dashboard-token-open"},
		{"no hello", faulty{first: `{"type":"bye"}`}, "dashboard-token-refused"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.agent.public == "" && !tt.agent.anyName {
				tt.agent.public = "https://agent.example"
			}
			access := dashboard.Access{PublicURL: "https://agent.example/claw"}
			target := Target{Host: "127.0.0.1", Port: serve(t, tt.agent), Access: access, HealthPath: "/health", WebSocketPath: "/ws", Token: credential.NewSecret(token)}
			want := health.Failed
			if tt.reason == "" {
				want = health.OK
			}
			check(t, Probe(t.Context(), target), want, tt.reason)
		})
	}
}

func TestProgramWithoutWebSocket(t *testing.T) {
	tests := []struct {
		path   string
		status int
		want   health.Verdict
	}{
		{"", 200, health.OK}, {"", 404, health.OK}, {"/up", 403, health.OK}, {"/up", 302, health.OK}, {"/up", 500, health.Failed}, {"", 503, health.Failed},
	}
	for _, tt := range tests {
		var asked []string
		var mu sync.Mutex
		port := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			asked = append(asked, r.URL.Path)
			mu.Unlock()
			w.WriteHeader(tt.status)
		}))
		r := Probe(t.Context(), Target{Host: "127.0.0.1", Port: port, HealthPath: tt.path})
		reason := ""
		if tt.want == health.Failed {
			reason = "dashboard-unhealthy"
		}
		check(t, r, tt.want, reason)
		evidence := 4
		if tt.want != health.OK {
			evidence = 2
		}
		if want := max(tt.path, "/"); asked[0] != want || len(r.Evidence) != evidence {
			t.Errorf("asked %q (want %q), evidence %v", asked, want, verdicts(r))
		}
	}
}

// An agent that serves whatever name it is asked under opens, and that is said.
func TestUnguardedProgram(t *testing.T) {
	target := Target{Host: "127.0.0.1", Port: serve(t, faulty{anyName: true})}
	r := Probe(t.Context(), target)
	check(t, r, health.OK, "")
	if len(r.Caveats) != 1 || r.Caveats[0].Advisory != "dashboard-unguarded" || !strings.Contains(r.Caveats[0].Message, "no token of Creel's") {
		t.Errorf("caveats %+v", r.Caveats)
	}
	want := []string{fmt.Sprintf("tcp 127.0.0.1:%d: ok", target.Port), "http GET /: ok", "http under another website's name: failed", "websocket and token: unknown"}
	if diff := cmp.Diff(want, verdicts(r)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	target.Port = serve(t, faulty{})
	if r := Probe(t.Context(), target); len(r.Caveats) > 0 {
		t.Errorf("one that looks at names: %+v", r.Caveats)
	}
	target = Target{Host: "127.0.0.1", Port: serve(t, faulty{anyName: true}), HealthPath: "/health", WebSocketPath: "/ws", Token: credential.NewSecret(token)}
	r = Probe(t.Context(), target)
	check(t, r, health.OK, "")
	if len(r.Caveats) != 1 || strings.Contains(r.Caveats[0].Message, "token") {
		t.Errorf("one with a token: %+v", r.Caveats)
	}
}

func BenchmarkProbe(b *testing.B) {
	target := startConsole(b)
	for b.Loop() {
		if r := Probe(b.Context(), target); r.Verdict != health.OK && r.Reason != "dashboard-silent" {
			b.Fatalf("%+v", r)
		}
		b.StopTimer()
		<-time.After(time.Second) // what the console gives back of its patience meanwhile
		b.StartTimer()
	}
}

// What an agent did with the connection is said without the address, which the
// question's name says.
func TestCauseIsShort(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Read(make([]byte, 1))       // what is asked
			conn.(*net.TCPConn).SetLinger(0) // a reset
			conn.Close()
		}
	}()
	port := l.Addr().(*net.TCPAddr).Port
	r := Probe(t.Context(), Target{Host: "127.0.0.1", Port: port})
	if r.Verdict != health.Failed || strings.Contains(r.Message, "127.0.0.1") || !strings.HasPrefix(r.Message, "http GET /: ") {
		t.Errorf("%s %s: %s", r.Verdict, r.Reason, r.Message)
	}
}
