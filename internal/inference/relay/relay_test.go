package relay_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"creel/internal/budget"
	"creel/internal/credential"
	"creel/internal/inference"
	"creel/internal/inference/relay"
	"creel/test/openaitest"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	token  = "relay-token-of-the-sandbox"
	canary = "sk-canary-8d41f0"
)

// routes is a gateway's answer that a test can change.
type routes struct {
	mu      sync.Mutex
	route   inference.Route
	err     error
	renewed *inference.Route // what a renewal finds
	renews  int
}

func (r *routes) Route(_ context.Context, renew bool) (inference.Route, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if renew {
		r.renews++
		if r.renewed != nil {
			r.route = *r.renewed
		}
	}
	return r.route, r.err
}

// rig is a relay on loopback in front of a provider.
type rig struct {
	url      string
	provider *openaitest.Server
	routes   *routes
	server   *relay.Server
	log      *safeBuffer
	client   *http.Client
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func start(t *testing.T) *rig {
	t.Helper()
	g := &rig{provider: openaitest.Start(t), routes: &routes{}, log: &safeBuffer{}}
	g.routes.route = inference.Route{Provider: "custom", Type: "custom", BaseURL: g.provider.URL, Model: "route-model", Key: credential.NewSecret(canary)}
	g.server = relay.New(relay.Config{Token: credential.NewSecret(token), Routes: g.routes,
		Log: slog.New(slog.NewTextHandler(g.log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g.url = "http://" + l.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.server.Serve(ctx, l) }()
	g.client = &http.Client{Transport: &http.Transport{}}
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
		g.client.CloseIdleConnections()
		if strings.Contains(g.log.String(), canary) || strings.Contains(g.log.String(), token) {
			t.Errorf("the log holds a secret:\n%s", g.log.String())
		}
	})
	return g
}

func (g *rig) request(t *testing.T, method, path string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, g.url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}

// do returns status, header and whole body.
func (g *rig) do(t *testing.T, r *http.Request) (int, http.Header, string) {
	t.Helper()
	a, err := g.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), canary) || strings.Contains(fmt.Sprint(a.Header), canary) {
		t.Errorf("the answer holds the provider's key: %v %s", a.Header, b)
	}
	return a.StatusCode, a.Header, string(b)
}

type fault struct {
	Error struct {
		Message string
		Type    string
		Code    string
		Status  int
	}
}

func faultOf(t *testing.T, body string) fault {
	t.Helper()
	var f fault
	if err := json.Unmarshal([]byte(body), &f); err != nil {
		t.Fatalf("%v in %q", err, body)
	}
	return f
}

const ask = `{"model":"whatever the agent thinks","messages":[{"role":"user","content":"<hi> & 1.50"}],"n":1e0}`

func TestInjectsModelAndKeyAndNothingElse(t *testing.T) {
	for _, path := range []string{"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/messages"} {
		t.Run(path, func(t *testing.T) {
			g := start(t)
			r := g.request(t, "POST", path, strings.NewReader(ask))
			r.Header.Set("Cookie", "session=1")
			r.Header.Set("X-Forwarded-For", "10.0.0.1")
			r.Header.Set("Te", "trailers")
			r.Header.Set("OpenAI-Beta", "assistants=v2")
			status, _, body := g.do(t, r)
			if status != 200 || !strings.Contains(body, "route-model") {
				t.Fatalf("%d %s", status, body)
			}
			got := g.provider.Requests()[0]
			if got.Path != path || got.Model != "route-model" || got.Header.Get("Authorization") != "Bearer "+canary {
				t.Errorf("the provider got %+v", got)
			}
			for _, name := range []string{"Cookie", "X-Forwarded-For", "Te", "X-Api-Key"} {
				if got.Header.Get(name) != "" {
					t.Errorf("header %s reached the provider", name)
				}
			}
			if got.Header.Get("OpenAI-Beta") == "" || !strings.Contains(string(got.Body), "<hi> & 1.50") || !strings.Contains(string(got.Body), `"n":1e0`) {
				t.Errorf("the request lost something: %+v %s", got.Header, got.Body)
			}
			if strings.Contains(fmt.Sprint(got.Header), token) {
				t.Error("the sandbox's token reached the provider")
			}
			if g.server.Answered() != 1 {
				t.Errorf("answered %d", g.server.Answered())
			}
		})
	}
}

func TestRefusesWithoutToken(t *testing.T) {
	g := start(t)
	for name, set := range map[string]func(http.Header){
		"none":         func(h http.Header) { h.Del("Authorization") },
		"wrong":        func(h http.Header) { h.Set("Authorization", "Bearer x") },
		"prefix":       func(h http.Header) { h.Set("Authorization", "Bearer "+token[:5]) },
		"provider key": func(h http.Header) { h.Set("Authorization", "Bearer "+canary) },
		"basic":        func(h http.Header) { h.Set("Authorization", "Basic "+token) },
	} {
		r := g.request(t, "POST", "/v1/chat/completions", strings.NewReader(ask))
		set(r.Header)
		if status, _, body := g.do(t, r); status != 401 || faultOf(t, body).Error.Code != "relay_unauthorized" {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	if n := len(g.provider.Requests()); n != 0 {
		t.Errorf("%d requests reached the provider", n)
	}
	r := g.request(t, "POST", "/v1/messages", strings.NewReader(ask))
	r.Header.Del("Authorization")
	r.Header.Set("X-Api-Key", token)
	if status, _, body := g.do(t, r); status != 200 {
		t.Errorf("x-api-key: %d %s", status, body)
	}
	r = g.request(t, "GET", "/healthz", nil)
	r.Header.Del("Authorization")
	if status, _, body := g.do(t, r); status != 200 || !strings.Contains(body, "ok") {
		t.Errorf("healthz: %d %s", status, body)
	}
}

func TestEmptyTokenAdmitsNobody(t *testing.T) {
	s := relay.New(relay.Config{Routes: &routes{}, Log: slog.New(slog.DiscardHandler)})
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("GET", "/v1/models", nil))
	if w.Code != 401 {
		t.Fatalf("status %d", w.Code)
	}
}

func TestModelsComeFromTheRoute(t *testing.T) {
	g := start(t)
	g.provider.SetMode(openaitest.NotFound)
	if status, _, body := g.do(t, g.request(t, "GET", "/v1/models", nil)); status != 200 || !strings.Contains(body, `"id":"route-model"`) {
		t.Errorf("%d %s", status, body)
	}
	if status, _, body := g.do(t, g.request(t, "GET", "/v1/models/route-model", nil)); status != 200 || !strings.Contains(body, `"id":"route-model"`) {
		t.Errorf("%d %s", status, body)
	}
	if status, _, _ := g.do(t, g.request(t, "GET", "/v1/models/other", nil)); status != 404 {
		t.Errorf("status %d for another model", status)
	}
}

func TestErrors(t *testing.T) {
	cases := []struct {
		name   string
		mode   openaitest.Mode
		method string
		path   string
		body   string
		routes error
		status int
		code   string
		says   string
	}{
		{name: "unauthorized", mode: openaitest.Unauthorized, status: 401, code: "provider_credential", says: "--credential-env"},
		{name: "echo", mode: openaitest.EchoKey, status: 401, code: "provider_credential", says: credential.Redacted},
		{name: "not found", mode: openaitest.NotFound, status: 404, code: "provider_not_found"},
		{name: "unknown model", mode: openaitest.UnknownModel, status: 404, code: "model_not_found", says: "route-model"},
		{name: "rate", mode: openaitest.RateLimited, status: 429, code: "provider_rate_limited", says: "Rate limit reached"},
		{name: "broken", mode: openaitest.Broken, status: 500, code: "provider_fault"},
		{name: "html", mode: openaitest.HTML, status: 502, code: "provider_web_page"},
		{name: "nothing", mode: openaitest.Nothing, status: 502, code: "provider_unreachable"},
		{name: "redirect", mode: openaitest.Redirect, status: 502, code: "provider_endpoint"},
		{name: "no route", routes: relay.ErrNoRoute, status: 503, code: "no_model_configured", says: "creel inference set"},
		{name: "gateway unknown", routes: io.ErrUnexpectedEOF, status: 503, code: "gateway_unreachable"},
		{name: "no route for models", method: "GET", path: "/v1/models", routes: relay.ErrNoRoute, status: 503, code: "no_model_configured"},
		{name: "not JSON", body: "model=1", status: 400, code: "invalid_request"},
		{name: "null", body: "null", status: 400, code: "invalid_request"},
		{name: "other path", path: "/v1/files", status: 404, code: "not_found"},
		{name: "traversal", path: "/v1/chat/completions/../../admin", status: 404, code: "not_found"},
		{name: "method", method: "GET", status: 405, code: "method_not_allowed"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			g := start(t)
			other := openaitest.Start(t)
			g.provider.RedirectTo = other.URL + "/chat/completions"
			if c.mode != "" {
				g.provider.SetMode(c.mode)
			}
			g.routes.err = c.routes
			method, path, body := c.method, c.path, c.body
			if method == "" {
				method = "POST"
			}
			if path == "" {
				path = "/v1/chat/completions"
			}
			if body == "" {
				body = ask
			}
			status, header, got := g.do(t, g.request(t, method, path, strings.NewReader(body)))
			f := faultOf(t, got).Error
			if status != c.status || f.Code != c.code || f.Status != c.status || f.Type == "" || f.Message == "" || !strings.Contains(f.Message, c.says) {
				t.Errorf("%d %s\nwant %d, code %s, message with %q", status, got, c.status, c.code, c.says)
			}
			if c.mode == openaitest.RateLimited && header.Get("Retry-After") != "7" {
				t.Errorf("Retry-After %q", header.Get("Retry-After"))
			}
			if c.mode != "" && len(g.provider.Requests()) == 0 {
				t.Error("the provider was never reached")
			}
			if n := len(other.Requests()); n != 0 {
				t.Errorf("a redirect was followed %d times", n)
			}
		})
	}
}

func TestProviderDown(t *testing.T) {
	g := start(t)
	g.provider.Close()
	if status, _, body := g.do(t, g.request(t, "POST", "/v1/chat/completions", strings.NewReader(ask))); status != 502 || faultOf(t, body).Error.Code != "provider_unreachable" {
		t.Errorf("%d %s", status, body)
	}
}

// Clients act on the provider's own code for a request that it refused.
func TestRefusedRequestKeepsItsCode(t *testing.T) {
	g := start(t)
	p := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(400)
		_, _ = io.WriteString(w, `{"error":{"message":"too many tokens","type":"invalid_request_error","code":"context_length_exceeded","param":"messages"}}`)
	}))
	defer p.Close()
	g.routes.route.BaseURL = p.URL
	status, _, body := g.do(t, g.request(t, "POST", "/v1/chat/completions", strings.NewReader(ask)))
	if f := faultOf(t, body).Error; status != 400 || f.Code != "context_length_exceeded" || !strings.Contains(f.Message, "too many tokens") {
		t.Errorf("%d %s", status, body)
	}
}

func TestRequestLimit(t *testing.T) {
	g := start(t)
	pad := func(n int) string {
		const frame = `{"model":"m","x":""}`
		return `{"model":"m","x":"` + strings.Repeat("a", n-len(frame)) + `"}`
	}
	if status, _, body := g.do(t, g.request(t, "POST", "/v1/chat/completions", strings.NewReader(pad(relay.MaxBody)))); status != 200 {
		t.Errorf("the largest permitted request: %d %.200s", status, body)
	}
	// Without Expect the client may still be writing when the refusal comes; the
	// server's own answer is what counts here.
	w := httptest.NewRecorder()
	g.server.ServeHTTP(w, g.request(t, "POST", "/v1/chat/completions", strings.NewReader(pad(relay.MaxBody+1))))
	if w.Code != 413 || faultOf(t, w.Body.String()).Error.Code != "request_too_large" {
		t.Errorf("one byte more: %d %.200s", w.Code, w.Body.String())
	}
	if n := len(g.provider.Requests()); n != 1 {
		t.Errorf("%d requests reached the provider", n)
	}
}

func TestRenewedKeyIsTriedOnce(t *testing.T) {
	g := start(t)
	g.provider.SetKey("sk-new")
	renewed := g.routes.route
	renewed.Key = credential.NewSecret("sk-new")
	g.routes.renewed = &renewed
	if status, _, body := g.do(t, g.request(t, "POST", "/v1/chat/completions", strings.NewReader(ask))); status != 200 {
		t.Errorf("%d %s", status, body)
	}
	if n := len(g.provider.Requests()); n != 2 {
		t.Errorf("%d requests, want the refused one and one more", n)
	}
	// A key that stays refused is not tried again and again.
	g.provider.SetKey("sk-newer")
	if status, _, _ := g.do(t, g.request(t, "POST", "/v1/chat/completions", strings.NewReader(ask))); status != 401 {
		t.Errorf("status %d", status)
	}
	if n := len(g.provider.Requests()); n != 3 || g.routes.renews != 2 {
		t.Errorf("%d requests and %d renewals", n, g.routes.renews)
	}
}

const streamAsk = `{"model":"x","stream":true,"messages":[{"role":"user","content":"ping"}]}`

// The provider sends its second chunk only after the client has read the first:
// a relay that buffers never ends this test.
func TestStreamsUnbuffered(t *testing.T) {
	g := start(t)
	g.provider.SetMode(openaitest.SlowStream)
	go g.provider.Release()
	a, err := g.client.Do(g.request(t, "POST", "/v1/chat/completions", strings.NewReader(streamAsk)))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	if a.Header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("content type %q", a.Header.Get("Content-Type"))
	}
	in, events := bufio.NewScanner(a.Body), []string{}
	for in.Scan() {
		line, ok := strings.CutPrefix(in.Text(), "data: ")
		if !ok {
			continue
		}
		if events = append(events, line); len(events) < 5 {
			g.provider.Release()
		}
	}
	if len(events) != 7 || !strings.Contains(events[4], "ping") || events[6] != "[DONE]" {
		t.Errorf("events %q, %v", events, in.Err())
	}
}

func TestProviderSilence(t *testing.T) {
	t.Run("before the first byte", func(t *testing.T) {
		t.Setenv(budget.InferenceStart.Variable(), "50ms")
		g := start(t)
		g.provider.SetMode(openaitest.Never)
		status, _, body := g.do(t, g.request(t, "POST", "/v1/chat/completions", strings.NewReader(ask)))
		if f := faultOf(t, body).Error; status != 504 || f.Code != "provider_timeout" || !strings.Contains(f.Message, "inference-start") {
			t.Errorf("%d %s", status, body)
		}
	})
	for mode, code := range map[openaitest.Mode]string{openaitest.StallStream: "provider_timeout", openaitest.CutStream: "provider_interrupted"} {
		t.Run(string(mode), func(t *testing.T) {
			t.Setenv(budget.InferenceIdle.Variable(), "50ms")
			g := start(t)
			g.provider.SetMode(mode)
			status, _, body := g.do(t, g.request(t, "POST", "/v1/chat/completions", strings.NewReader(streamAsk)))
			events := strings.Split(strings.TrimSpace(body), "\n\n")
			if status != 200 || len(events) != 2 || !strings.Contains(events[0], "Hello ") {
				t.Fatalf("%d %q", status, events)
			}
			if f := faultOf(t, strings.TrimPrefix(events[1], "data: ")).Error; f.Code != code {
				t.Errorf("last event %q, want code %s", events[1], code)
			}
		})
	}
}

// An answer that is no event stream cannot carry a last event: it must break.
func TestTornAnswerBreaksTheConnection(t *testing.T) {
	g := start(t)
	p := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"choices":`)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	p.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	defer p.Close()
	g.routes.route.BaseURL = p.URL
	a, err := g.client.Do(g.request(t, "POST", "/v1/chat/completions", strings.NewReader(ask)))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	if b, err := io.ReadAll(a.Body); err == nil {
		t.Errorf("half an answer looked whole: %q", b)
	}
}

// The client's leaving ends the provider's work.
func TestClientGoneEndsTheRequest(t *testing.T) {
	g := start(t)
	gone := make(chan struct{})
	p := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: {}\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(gone)
	}))
	defer p.Close()
	g.routes.route.BaseURL = p.URL
	ctx, cancel := context.WithCancel(t.Context())
	a, err := g.client.Do(g.request(t, "POST", "/v1/chat/completions", strings.NewReader(streamAsk)).WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	if _, err := a.Body.Read(make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	cancel()
	<-gone
}

// A provider that repeats the key in a good answer does not get it into the
// sandbox, however it cuts its chunks.
func TestKeyEchoedInAStream(t *testing.T) {
	g := start(t)
	p := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		w.Header().Set("Content-Type", "text/event-stream")
		for _, part := range []string{"data: " + key, key[:3], key[3:], " sk-", "end s\n\n"} {
			_, _ = io.WriteString(w, part)
			_ = http.NewResponseController(w).Flush()
		}
	}))
	defer p.Close()
	g.routes.route.BaseURL = p.URL
	_, _, body := g.do(t, g.request(t, "POST", "/v1/chat/completions", strings.NewReader(streamAsk)))
	if want := "data: REDACTEDREDACTED sk-end s\n\n"; body != want {
		t.Errorf("got %q, want %q", body, want)
	}
}

func TestProxyEnvironmentIsIgnored(t *testing.T) {
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "ALL_PROXY"} {
		t.Setenv(name, "http://127.0.0.1:1")
	}
	g := start(t)
	if status, _, body := g.do(t, g.request(t, "POST", "/v1/chat/completions", strings.NewReader(ask))); status != 200 {
		t.Errorf("%d %s", status, body)
	}
}
