package console

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"creel/test/openaitest"
)

func (i *instance) get(path, host string, header http.Header) (*http.Response, string) {
	i.t.Helper()
	req, err := http.NewRequest(http.MethodGet, i.url(path), nil)
	if err != nil {
		i.t.Fatal(err)
	}
	req.Host = host
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := i.client.Do(req)
	if err != nil {
		i.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		i.t.Fatal(err)
	}
	return resp, string(body)
}

func TestPageAndAssets(t *testing.T) {
	i := start(t, t.TempDir(), "http://127.0.0.1:1/v1")
	resp, page := i.get("/", "", nil)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/html; charset=utf-8" || strings.Contains(page, assetsMark) {
		t.Fatalf("page: %d %v", resp.StatusCode, resp.Header)
	}
	policy := resp.Header.Get("Content-Security-Policy")
	for _, want := range []string{
		"default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:", "connect-src 'self' ws://" + i.addr + ";",
		"base-uri 'none'", "frame-ancestors 'none'", "form-action 'none'",
	} {
		if !strings.Contains(policy, want) {
			t.Errorf("policy %q lacks %q", policy, want)
		}
	}
	if strings.Contains(policy, "unsafe") {
		t.Errorf("policy %q", policy)
	}
	for k, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache"} {
		if got := resp.Header.Get(k); got != want {
			t.Errorf("%s = %q, want %q", k, got, want)
		}
	}
	if again, _ := i.get("/", "", http.Header{"If-None-Match": {resp.Header.Get("Etag")}}); again.StatusCode != http.StatusNotModified {
		t.Errorf("page again: status %d", again.StatusCode)
	}

	files, err := loadAssets()
	if err != nil {
		t.Fatal(err)
	}
	total := len(files.page)
	for name, content := range files.files {
		total += len(content)
		resp, body := i.get("/assets/"+files.hash+"/"+name, "", nil)
		if resp.StatusCode != http.StatusOK || body != string(content) || !strings.Contains(resp.Header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: status %d, %d bytes, %v", name, resp.StatusCode, len(body), resp.Header)
		}
		if kind := resp.Header.Get("Content-Type"); !strings.HasPrefix(kind, "text/javascript") && !strings.HasPrefix(kind, "text/css") {
			t.Errorf("%s: content type %q", name, kind)
		}
	}
	if total > 60<<10 {
		t.Errorf("the page and its assets have %d bytes, more than 60 KiB", total)
	}
	for _, path := range []string{"/assets/0000000000000000/app.js", "/assets/" + files.hash + "/index.html", "/assets/" + files.hash + "/..%2fassets.go", "/nothing", "/api", "/.creel"} {
		if resp, _ := i.get(path, "", nil); resp.StatusCode != http.StatusNotFound {
			t.Errorf("GET %s: status %d", path, resp.StatusCode)
		}
	}
}

func TestWhoMayAsk(t *testing.T) {
	i := start(t, t.TempDir(), "http://127.0.0.1:1/v1")
	_, port, _ := strings.Cut(i.addr, ":")
	bearer := http.Header{"Authorization": {"Bearer " + testToken}}
	with := func(h http.Header, k, v string) http.Header {
		h = h.Clone()
		h.Set(k, v)
		return h
	}
	tests := []struct {
		name, path, host string
		header           http.Header
		want             int
	}{
		{"health needs no token", "/health", "", nil, 200},
		{"the page needs no token", "/", "", nil, 200},
		{"localhost is fine", "/", "localhost:" + port, nil, 200},
		{"another port of a forward is fine", "/", "127.0.0.1:9999", nil, 200},
		{"a rebound name", "/", "attacker.example:" + port, nil, 403},
		{"a rebound name at health", "/health", "attacker.example:" + port, nil, 403},
		{"a rebound name with the token", "/api/info", "attacker.example", bearer, 403},
		{"info with the token", "/api/info", "", bearer, 200},
		{"info without", "/api/info", "", nil, 401},
		{"info with another", "/api/info", "", http.Header{"Authorization": {"Bearer x"}}, 401},
		{"info with the token in another scheme", "/api/info", "", http.Header{"Authorization": {"Basic " + testToken}}, 401},
		{"the token in the query is none", "/api/info?token=" + testToken, "", nil, 401},
		{"info from another website", "/api/info", "", with(bearer, "Origin", "http://attacker.example"), 403},
		{"info from the page", "/api/info", "", with(bearer, "Origin", "http://"+i.addr), 200},
		{"the socket is no page", "/ws", "", with(http.Header{}, "Origin", "http://"+i.addr), 426},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resp, body := i.get(tt.path, tt.host, tt.header)
			if resp.StatusCode != tt.want {
				t.Errorf("status %d, want %d: %s", resp.StatusCode, tt.want, body)
			}
			if strings.Contains(body, testToken) {
				t.Errorf("the body holds the token: %s", body)
			}
		})
	}
}

func TestSocketOrigins(t *testing.T) {
	i := start(t, t.TempDir(), "http://127.0.0.1:1/v1")
	tests := []struct {
		name, origin, host string
		want               int // 101: opened
	}{
		{"its own", "http://" + i.addr, "", 101},
		{"through a forward", "http://127.0.0.1:9999", "127.0.0.1:9999", 101},
		{"by name", "http://localhost:9999", "localhost:9999", 101},
		{"none", "", "", 403},
		{"null", "null", "", 403},
		{"another website", "http://attacker.example", "", 403},
		{"another port", "http://127.0.0.1:1", "", 403},
		{"rebound: origin and host agree", "http://attacker.example:80", "attacker.example:80", 403},
		{"an extension", "chrome-extension://" + i.addr, "", 403},
		{"TLS that nobody declared", "https://" + i.addr, "", 403},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn, status, err := i.dial(tt.origin, tt.host)
			if conn != nil {
				conn.CloseNow()
			}
			if status != tt.want {
				t.Errorf("status %d (%v), want %d", status, err, tt.want)
			}
		})
	}
}

func TestSocketTokens(t *testing.T) {
	t.Setenv("CREEL_BUDGET_PROBE", "500ms")
	i := start(t, t.TempDir(), "http://127.0.0.1:1/v1")
	tests := []struct {
		name, first string
		binary      bool
		want        websocket.StatusCode
	}{
		{name: "wrong", first: `{"type":"auth","token":"wrong"}`, want: closeBadToken},
		{name: "empty", first: `{"type":"auth"}`, want: closeBadToken},
		{name: "a prefix", first: `{"type":"auth","token":"canary"}`, want: closeBadToken},
		{name: "chat before the token", first: `{"type":"chat","id":"a","text":"hi"}`, want: closeBadMessage},
		{name: "no JSON", first: `hello`, want: closeBadMessage},
		{name: "binary", first: `{"type":"auth","token":"` + testToken + `"}`, binary: true, want: closeBadMessage},
		{name: "silence", want: closeNoToken},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn, _, err := i.dial("http://"+i.addr, "")
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patienceOfTest)
			defer cancel()
			if tt.first != "" {
				kind := websocket.MessageText
				if tt.binary {
					kind = websocket.MessageBinary
				}
				if err := conn.Write(ctx, kind, []byte(tt.first)); err != nil {
					t.Fatal(err)
				}
			}
			_, data, err := conn.Read(ctx)
			if got := websocket.CloseStatus(err); got != tt.want {
				t.Errorf("close status %d (%v, %s), want %d", got, err, data, tt.want)
			}
		})
	}
}

// A hello for a probe says nothing of the conversation.
func TestProbeSeesNoConversation(t *testing.T) {
	model := openaitest.Start(t)
	i := start(t, t.TempDir(), model.URL)
	p := i.open()
	p.chat("a1", "a xylophone")
	p.answer("a1")
	conn, _, err := i.dial("http://"+i.addr, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Write(t.Context(), websocket.MessageText, []byte(`{"type":"auth","probe":true,"token":"`+testToken+`"}`)); err != nil {
		t.Fatal(err)
	}
	_, data, err := conn.Read(t.Context())
	if err != nil || !strings.Contains(string(data), `"type":"hello"`) || strings.Contains(string(data), "xylophone") {
		t.Errorf("hello = %s, %v", data, err)
	}
	if _, _, err := conn.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Errorf("then: %v, want a normal closure", err)
	}
}
