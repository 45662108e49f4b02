package console

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"creel/internal/credential"
	"creel/internal/sandbox"
	"creel/test/openaitest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testToken = "canary-dashboard-token"

// patienceOfTest is when a test that waits for something gives up.
const patienceOfTest = 10 * time.Second

// journal is a log that can be read while it is written.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

// instance is a running console.
type instance struct {
	t      testing.TB
	addr   string
	home   string
	log    *journal
	stop   func()
	client *http.Client
}

func (i *instance) url(path string) string { return "http://" + i.addr + path }

// start runs a console on a port of its own until the test ends or stop is called.
func start(t testing.TB, home, relayURL string, change ...func(*settings)) *instance {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return startOn(t, listener, home, relayURL, change...)
}

func startOn(t testing.TB, listener net.Listener, home, relayURL string, change ...func(*settings)) *instance {
	t.Helper()
	s := settings{
		token: credential.NewSecret(testToken), relayURL: relayURL, relayToken: credential.NewSecret("canary-relay-token"),
		sandbox: "demo", policyHash: "4f9d2c7a11be03958826dd40c7e5f1a29b3c6d8e0f7a1b2c3d4e5f60718293a4",
		historyPath: filepath.Join(home, ".creel", "console-history.jsonl"),
		confinement: sandbox.Confinement{Tier: sandbox.TierNamespaces, Protections: []sandbox.Protection{
			{Name: "user namespace", On: true, Detail: "uid 1000 inside; the host's root is not mapped"},
			{Name: "mount namespace", On: true, Detail: "a private root, system paths read-only"},
			{Name: "network namespace", On: true, Detail: "loopback only"},
			{Name: "Landlock", On: true, Detail: "ABI 7"},
			{Name: "seccomp", On: true, Detail: "38 system calls refused"},
			{Name: "capabilities", On: true, Detail: "none held"},
			{Name: "resource limits", On: true, Detail: "512 processes, 4096 files"},
		}},
	}
	for _, c := range change {
		c(&s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	i := &instance{t: t, addr: listener.Addr().String(), home: home, log: &journal{}, client: &http.Client{Transport: &http.Transport{}}}
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, s, listener, i.log) }()
	i.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("serve: %v", err)
			}
		case <-time.After(patienceOfTest):
			t.Error("the console did not end")
		}
		i.client.CloseIdleConnections()
		if text := i.log.String(); strings.Contains(text, "canary") {
			t.Errorf("the log holds a token: %s", text)
		}
	})
	t.Cleanup(i.stop)
	return i
}

// page is a page's connection.
type page struct {
	t     testing.TB
	conn  *websocket.Conn
	ctx   context.Context
	hello hello
}

func (i *instance) dial(origin, host string) (*websocket.Conn, int, error) {
	i.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patienceOfTest)
	defer cancel()
	header := http.Header{}
	if origin != "" {
		header.Set("Origin", origin)
	}
	conn, resp, err := websocket.Dial(ctx, "ws://"+i.addr+"/ws", &websocket.DialOptions{HTTPClient: i.client, HTTPHeader: header, Host: host})
	status := 0
	if resp != nil {
		status = resp.StatusCode
	}
	if conn != nil {
		i.t.Cleanup(func() { conn.CloseNow() })
		conn.SetReadLimit(4 << 20)
	}
	return conn, status, err
}

func (i *instance) open() *page {
	i.t.Helper()
	conn, _, err := i.dial("http://"+i.addr, "")
	if err != nil {
		i.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*patienceOfTest)
	i.t.Cleanup(cancel)
	p := &page{t: i.t, conn: conn, ctx: ctx}
	p.send(map[string]any{"type": "auth", "token": testToken})
	if err := json.Unmarshal(p.read(), &p.hello); err != nil || p.hello.Type != "hello" {
		i.t.Fatalf("first message: %+v, %v", p.hello, err)
	}
	return p
}

func (p *page) send(v any) {
	p.t.Helper()
	if err := p.conn.Write(p.ctx, websocket.MessageText, encode(v)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *page) read() []byte {
	p.t.Helper()
	_, data, err := p.conn.Read(p.ctx)
	if err != nil {
		p.t.Fatalf("read: %v", err)
	}
	return data
}

// next returns the next event that is none of the skipped types.
func (p *page) next(skip ...string) event {
	p.t.Helper()
	for {
		var e event
		if err := json.Unmarshal(p.read(), &e); err != nil {
			p.t.Fatal(err)
		}
		skipped := false
		for _, s := range skip {
			skipped = skipped || e.Type == s
		}
		if !skipped {
			return e
		}
	}
}

// answer collects until the exchange has ended.
func (p *page) answer(id string) (text string, last event) {
	p.t.Helper()
	for {
		e := p.next("model", "user", "removed")
		if e.ID != id {
			p.t.Fatalf("event of another exchange: %+v", e)
		}
		if e.Type == "delta" {
			text += e.Text
			continue
		}
		return text, e
	}
}

func (p *page) chat(id, text string) { p.send(map[string]any{"type": "chat", "id": id, "text": text}) }

func TestChatStreams(t *testing.T) {
	model := openaitest.Start(t)
	model.SetMode(openaitest.SlowStream)
	model.SetReply(func(string) []string { return []string{"one ", "two ", "three"} })
	i := start(t, t.TempDir(), model.URL)
	p := i.open()
	for p.hello.Model == "" { // asked for in the background
		p.hello.Model = p.next().Model
	}
	p.chat("a1", "count")
	// Each chunk is at the page before the model is allowed to write the next.
	for _, want := range []string{"one ", "two ", "three"} {
		model.Release()
		if e := p.next("model", "user"); e.Type != "delta" || e.Text != want {
			t.Fatalf("event = %+v, want delta %q", e, want)
		}
	}
	if e := p.next("model"); e.Type != "done" || e.State != "" || e.Model != openaitest.DefaultModel {
		t.Errorf("last event = %+v", e)
	}
	var sent struct {
		Stream   bool
		Messages []message
	}
	for _, r := range model.Requests() {
		if strings.HasSuffix(r.Path, "/chat/completions") {
			if err := json.Unmarshal(r.Body, &sent); err != nil {
				t.Fatal(err)
			}
			if got := r.Header.Get("Authorization"); got != "Bearer canary-relay-token" {
				t.Errorf("Authorization = %q", got)
			}
		}
	}
	if !sent.Stream || len(sent.Messages) != 2 || sent.Messages[0].Role != "system" || sent.Messages[1] != (message{"user", "count"}) {
		t.Errorf("the model got %+v", sent)
	}
}

func TestHelloTellsAboutTheSandbox(t *testing.T) {
	model := openaitest.Start(t)
	i := start(t, t.TempDir(), model.URL)
	p := i.open()
	name := p.hello.Model
	if name == "" {
		e := p.next()
		if e.Type != "model" {
			t.Fatalf("event = %+v, want model", e)
		}
		name = e.Model
	}
	if name != openaitest.DefaultModel {
		t.Errorf("model = %q", name)
	}
	h := p.hello
	if h.Sandbox != "demo" || h.Tier != sandbox.TierNamespaces || len(h.Protections) != 7 || !strings.HasPrefix(h.PolicyHash, "4f9d") || !h.Saved || len(h.History) != 0 {
		t.Errorf("hello = %+v", h)
	}
}

func TestRestartKeepsTheConversation(t *testing.T) {
	model := openaitest.Start(t)
	home := t.TempDir()
	first := start(t, home, model.URL)
	p := first.open()
	p.chat("a1", "hello there")
	text, last := p.answer("a1")
	if last.Type != "done" || text == "" {
		t.Fatalf("answer %q, %+v", text, last)
	}
	first.stop()

	second := start(t, home, model.URL)
	got := second.open().hello.History
	if len(got) != 2 || got[0].Role != roleUser || got[0].Text != "hello there" || got[1].Role != roleAssistant || got[1].Text != text {
		t.Fatalf("history = %+v", got)
	}
	// And it goes to the model again, in order.
	p = second.open()
	p.chat("a2", "more")
	p.answer("a2")
	requests := model.Requests()
	var sent struct{ Messages []message }
	for _, r := range requests {
		if strings.HasSuffix(r.Path, "/chat/completions") {
			if err := json.Unmarshal(r.Body, &sent); err != nil {
				t.Fatal(err)
			}
		}
	}
	var roles []string
	for _, m := range sent.Messages {
		roles = append(roles, m.Role)
	}
	if got := strings.Join(roles, " "); got != "system user assistant user" {
		t.Errorf("the model got the turns %q", got)
	}
}

// A page that comes in the middle of an answer sees what was said and the rest,
// once.
func TestReloadInTheMiddleOfAnAnswer(t *testing.T) {
	model := openaitest.Start(t)
	model.SetMode(openaitest.SlowStream)
	model.SetReply(func(string) []string { return []string{"one ", "two ", "three"} })
	i := start(t, t.TempDir(), model.URL)
	p := i.open()
	p.chat("a1", "count")
	model.Release()
	if e := p.next("model", "user"); e.Text != "one " {
		t.Fatalf("event = %+v", e)
	}
	p.conn.CloseNow()
	again := i.open()
	if again.hello.Pending == nil || again.hello.Pending.ID != "a1" || again.hello.Pending.Text != "one " {
		t.Fatalf("pending = %+v", again.hello.Pending)
	}
	model.Release()
	model.Release()
	if text, last := again.answer("a1"); text != "two three" || last.Type != "done" {
		t.Errorf("rest = %q, %+v", text, last)
	}
}

func TestStopKeepsWhatCame(t *testing.T) {
	model := openaitest.Start(t)
	model.SetMode(openaitest.StallStream)
	home := t.TempDir()
	i := start(t, home, model.URL)
	p := i.open()
	p.chat("a1", "tell me a long story")
	piece := p.next("model", "user")
	p.chat("a2", "and another")
	if e := p.next("model", "user"); e.Type != "error" || e.ID != "a2" || e.Code != "busy" {
		t.Fatalf("second question: %+v, want error busy", e)
	}
	p.send(map[string]any{"type": "stop", "id": "a1"})
	if e := p.next("model"); e.Type != "done" || e.State != stateStopped {
		t.Fatalf("event = %+v, want done stopped", e)
	}
	got := i.open().hello.History
	if len(got) != 2 || got[1].Text != piece.Text || got[1].State != stateStopped {
		t.Errorf("history = %+v", got)
	}
	// Asking again puts the new exchange in the place of the stopped one.
	model.SetMode(openaitest.Answer)
	p.send(map[string]any{"type": "chat", "id": "a3", "text": "tell me a long story", "replaces": "a1"})
	if _, last := p.answer("a3"); last.Type != "done" {
		t.Fatalf("last = %+v", last)
	}
	i.stop()
	got = start(t, home, model.URL).open().hello.History
	if len(got) != 2 || got[0].ID != "a3" {
		t.Errorf("history after asking again = %+v", got)
	}
}

func TestClear(t *testing.T) {
	model := openaitest.Start(t)
	home := t.TempDir()
	i := start(t, home, model.URL)
	p, other := i.open(), i.open()
	p.chat("a1", "hello")
	p.answer("a1")
	p.send(map[string]any{"type": "clear"})
	if e := p.next("model"); e.Type != "cleared" {
		t.Fatalf("event = %+v", e)
	}
	// The other page saw everything too.
	if text, last := other.answer("a1"); text == "" || last.Type != "done" {
		t.Errorf("other page: %q, %+v", text, last)
	}
	if e := other.next("model"); e.Type != "cleared" {
		t.Errorf("other page: %+v", e)
	}
	i.stop()
	if got := start(t, home, model.URL).open().hello.History; len(got) != 0 {
		t.Errorf("history after clear and restart = %+v", got)
	}
}

func TestFaultsReachThePage(t *testing.T) {
	tests := []struct {
		mode openaitest.Mode
		code string
		text bool
	}{
		{openaitest.Unauthorized, "", false},
		{openaitest.UnknownModel, "model_not_found", false},
		{openaitest.RateLimited, "", false},
		{openaitest.Broken, "", false},
		{openaitest.HTML, "", false},
		{openaitest.Nothing, codeRelayUnreachable, false},
		{openaitest.CutStream, codeInterrupted, true},
	}
	for _, tt := range tests {
		t.Run(string(tt.mode), func(t *testing.T) {
			model := openaitest.Start(t)
			model.SetMode(tt.mode)
			i := start(t, t.TempDir(), model.URL)
			p := i.open()
			p.chat("a1", "hello")
			text, last := p.answer("a1")
			if last.Type != "error" || last.Detail == "" || last.Code == "" || tt.code != "" && last.Code != tt.code {
				t.Fatalf("last event = %+v, want error %s", last, tt.code)
			}
			if (text != "") != tt.text {
				t.Errorf("text = %q", text)
			}
			if got := i.open().hello.History; len(got) != 2 || got[1].State != stateFailed || got[1].Error == nil || got[1].Error.Code != last.Code {
				t.Errorf("history = %+v", got)
			}
		})
	}
}

func noModel(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusServiceUnavailable)
	io.WriteString(w, `{"error":{"message":"no model is set; on the host run: creel inference set","code":"no_model_configured"}}`)
}

// relayWith is a relay that answers as f says.
func relayWith(t *testing.T, f http.HandlerFunc) string {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: f}
	ended := make(chan struct{})
	go func() { defer close(ended); s.Serve(listener) }()
	t.Cleanup(func() { s.Close(); <-ended })
	return "http://" + listener.Addr().String() + "/v1"
}

func TestModelAppearsByItself(t *testing.T) {
	var mu sync.Mutex
	set := false
	url := relayWith(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if !set {
			noModel(w, r)
			return
		}
		io.WriteString(w, `{"data":[{"id":"fresh-model"}]}`)
	})
	i := start(t, t.TempDir(), url)
	p := i.open()
	p.chat("a1", "hello")
	if _, last := p.answer("a1"); last.Code != codeNoModel || !strings.Contains(last.Detail, "creel inference set") {
		t.Fatalf("last = %+v", last)
	}
	mu.Lock()
	set = true
	mu.Unlock()
	for {
		if e := p.next(); e.Type == "model" && e.Model == "fresh-model" {
			break
		}
	}
}

func TestAnswersOfOtherShapes(t *testing.T) {
	tests := []struct{ name, kind, body, want, code, state string }{
		{"not streamed", "application/json", `{"model":"m","choices":[{"message":{"role":"assistant","content":"whole"},"finish_reason":"stop"}]}`, "whole", "", ""},
		{"no [DONE] but a finish reason", "text/event-stream", "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\ndata: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n", "x", "", ""},
		{"length limit", "text/event-stream", "data: {\"choices\":[{\"delta\":{\"content\":\"x\"},\"finish_reason\":\"length\"}]}\n\ndata: [DONE]\n\n", "x", "", stateLength},
		{"comments, CRLF, no space, usage without choices", "text/event-stream", ": hi\r\n\r\ndata:{\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\r\n\r\ndata: {\"choices\":[],\"usage\":{}}\r\n\r\ndata: [DONE]\r\n\r\n", "x", "", ""},
		{"error inside the stream", "text/event-stream", "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\ndata: {\"error\":{\"message\":\"quota\",\"code\":\"stream_idle\"}}\n\n", "x", "stream_idle", ""},
		{"broken JSON", "text/event-stream", "data: {\n\n", "", codeRelayError, ""},
		{"nothing said", "text/event-stream", "data: [DONE]\n\n", "", codeEmptyAnswer, ""},
		{"ends early", "text/event-stream", "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n", "x", codeInterrupted, ""},
		{"error code is a number", "application/json", `{"error":{"message":"m","code":429,"type":"rate_limit"}}`, "", "rate_limit", ""},
		{"too long", "text/event-stream", "data: {\"choices\":[{\"delta\":{\"content\":\"" + strings.Repeat("x", maxAnswer+1) + "\"}}]}\n\n", "", codeAnswerTooLong, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			url := relayWith(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", tt.kind)
				io.WriteString(w, tt.body)
			})
			r := newRelay(url, credential.Secret{})
			defer r.close()
			var text string
			a, problem := r.chat(t.Context(), "", []message{{"user", "hi"}}, func(s string) { text += s })
			code := ""
			if problem != nil {
				code = problem.Code
			}
			if text != tt.want || code != tt.code || a.state != tt.state {
				t.Errorf("text %.40q code %q state %q; want %q %q %q", text, code, a.state, tt.want, tt.code, tt.state)
			}
		})
	}
}

func TestSilentModelRunsOutOfBudget(t *testing.T) {
	t.Setenv("CREEL_BUDGET_INFERENCE_START", "1ms")
	t.Setenv("CREEL_BUDGET_INFERENCE_IDLE", "1ms")
	if testing.Short() {
		t.Skip("waits for the console's own patience, 5 seconds")
	}
	for _, mode := range []openaitest.Mode{openaitest.Never, openaitest.StallStream} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			model := openaitest.Start(t)
			model.SetMode(mode)
			r := newRelay(model.URL, credential.Secret{})
			defer r.close()
			_, problem := r.chat(context.Background(), "", []message{{"user", "hi"}}, func(string) {})
			if problem == nil || problem.Code != codeTimeout {
				t.Errorf("fault = %v, want %s", problem, codeTimeout)
			}
		})
	}
}

func TestMainServesUntilItsContextEnds(t *testing.T) {
	free, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(free.Addr().String())
	free.Close()
	env := map[string]string{
		"CREEL_DASHBOARD_TOKEN": testToken, "CREEL_AGENT_PORT": port, "HOME": t.TempDir(), "OPENAI_BASE_URL": "http://127.0.0.1:1/v1",
		"CREEL_CONFINEMENT": `{"tier":"landlock","reason":"user namespaces are not permitted","protections":[{"name":"landlock","on":true,"detail":"ABI 7"}]}`,
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	log := &journal{}
	code := make(chan int, 1)
	go func() { code <- Main(ctx, func(k string) string { return env[k] }, log) }()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	var h hello
	deadline := time.After(patienceOfTest)
	for {
		req, _ := http.NewRequest(http.MethodGet, "http://127.0.0.1:"+port+"/api/info", nil)
		req.Header.Set("Authorization", "Bearer "+testToken)
		resp, err := client.Do(req)
		if err == nil {
			err = json.NewDecoder(resp.Body).Decode(&h)
			resp.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			break
		}
		select {
		case <-deadline:
			t.Fatalf("Main does not listen: %v\n%s", err, log)
		case c := <-code:
			t.Fatalf("Main returned %d\n%s", c, log)
		case <-time.After(5 * time.Millisecond):
		}
	}
	if h.Tier != sandbox.TierLandlock || h.Reason == "" || len(h.Protections) != 1 {
		t.Errorf("info = %+v", h)
	}
	cancel()
	if c := <-code; c != 0 {
		t.Errorf("Main returned %d", c)
	}
	if strings.Contains(log.String(), testToken) {
		t.Errorf("the log holds the token: %s", log)
	}
}

func TestMainRefusesABadEnvironment(t *testing.T) {
	busy, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	_, taken, _ := net.SplitHostPort(busy.Addr().String())
	tests := []struct {
		name string
		env  map[string]string
		code int
		says string
	}{
		{"no token", map[string]string{}, exitUsage, "CREEL_DASHBOARD_TOKEN"},
		{"port", map[string]string{"CREEL_DASHBOARD_TOKEN": "x", "CREEL_AGENT_PORT": "70000"}, exitUsage, "CREEL_AGENT_PORT"},
		{"relay", map[string]string{"CREEL_DASHBOARD_TOKEN": "x", "OPENAI_BASE_URL": "file:///etc"}, exitUsage, "OPENAI_BASE_URL"},
		{"confinement", map[string]string{"CREEL_DASHBOARD_TOKEN": "x", "CREEL_CONFINEMENT": "{"}, exitUsage, "CREEL_CONFINEMENT"},
		{"port taken", map[string]string{"CREEL_DASHBOARD_TOKEN": "x", "CREEL_AGENT_PORT": taken}, exitFailed, "listen"},
	}
	for _, tt := range tests {
		var log bytes.Buffer
		if code := Main(t.Context(), func(k string) string { return tt.env[k] }, &log); code != tt.code || !strings.Contains(log.String(), tt.says) {
			t.Errorf("%s: code %d, log %q; want %d and %q", tt.name, code, log.String(), tt.code, tt.says)
		}
	}
}

// The conversation outlives a workspace that cannot be written to.
func TestUnwritableHistory(t *testing.T) {
	model := openaitest.Start(t)
	i := start(t, t.TempDir(), model.URL, func(s *settings) { s.historyPath = "/proc/creel/console-history.jsonl" })
	p := i.open()
	if p.hello.Saved {
		t.Error("hello says that the conversation is saved")
	}
	p.chat("a1", "hello")
	if _, last := p.answer("a1"); last.Type != "done" {
		t.Errorf("last = %+v", last)
	}
	if got := i.open().hello.History; len(got) != 2 {
		t.Errorf("history = %+v", got)
	}
	if !strings.Contains(i.log.String(), "memory only") {
		t.Errorf("log = %s", i.log)
	}
}

// A page that stops reading does not hold up the others.
func TestSlowPageHoldsUpNobody(t *testing.T) {
	const pieces = 4000
	url := relayWith(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for n := range pieces {
			fmt.Fprintf(w, "data: {\"choices\":[{\"delta\":{\"content\":%q}}]}\n\n", strings.Repeat("x", 100)+fmt.Sprint(n))
		}
		io.WriteString(w, "data: [DONE]\n\n")
	})
	i := start(t, t.TempDir(), url)
	i.open() // reads nothing after its hello
	p := i.open()
	p.chat("a1", "go")
	if text, last := p.answer("a1"); last.Type != "done" || !strings.HasSuffix(text, fmt.Sprint(pieces-1)) {
		t.Fatalf("the reading page got %d bytes and %+v", len(text), last)
	}
}

func TestViewerJoinsPiecesAndGivesUp(t *testing.T) {
	v := newViewer()
	for _, e := range []event{{Type: "user", ID: "a"}, {Type: "delta", ID: "a", Text: "x"}, {Type: "delta", ID: "a", Text: "y"}, {Type: "delta", ID: "b", Text: "z"}} {
		if !v.put(e) {
			t.Fatal("lost too early")
		}
	}
	<-v.wake
	got, lost := v.take()
	want := []event{{Type: "user", ID: "a"}, {Type: "delta", ID: "a", Text: "xy"}, {Type: "delta", ID: "b", Text: "z"}}
	if diff := cmp.Diff(want, got); diff != "" || lost {
		t.Errorf("lost %v (-want +got):\n%s", lost, diff)
	}
	for n := range maxBehind + 1 {
		if ok := v.put(event{Type: "model"}); ok != (n < maxBehind) {
			t.Fatalf("put %d = %v", n, ok)
		}
	}
	if got, lost := v.take(); len(got) != 0 || !lost {
		t.Errorf("take = %d events, lost %v", len(got), lost)
	}
}
