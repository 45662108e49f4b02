package console

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"creel/internal/dashboard"
	"creel/internal/dashboard/preface"
	"creel/test/openaitest"
)

// through is the same console as the gateway's forward reaches it: for a client
// at peer that connected to local, with what was declared.
func (i *instance) through(peer, local string, access dashboard.Access) *instance {
	i.t.Helper()
	ends := [2]net.Addr{}
	for n, text := range []string{peer, local} {
		a, err := net.ResolveTCPAddr("tcp", text)
		if err != nil {
			i.t.Fatal(err)
		}
		ends[n] = a
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, i.addr)
		if err != nil {
			return nil, err
		}
		return c, preface.Write(c, ends[0], ends[1], access)
	}}
	i.t.Cleanup(transport.CloseIdleConnections)
	other := *i
	other.client = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return &other
}

var proxied = dashboard.Access{PublicURL: "https://agent.example/claw/", TrustedProxies: []string{"10.0.0.0/8"}}

// Under which names and from which pages the console lets itself be opened, as the
// gateway says it for each connection.
func TestDeclaredAccess(t *testing.T) {
	i := start(t, t.TempDir(), "http://127.0.0.1:1/v1")
	none := dashboard.Access{}
	tests := []struct {
		name, peer, local string
		access            dashboard.Access
		host, origin      string
		header            http.Header
		page, socket      int
	}{
		{"loopback", "127.0.0.1:5", "127.0.0.1:18789", none, "127.0.0.1:18789", "http://127.0.0.1:18789", nil, 200, 101},
		{"a wide bind's own address", "192.0.2.9:5", "192.0.2.7:18789", none, "192.0.2.7:18789", "http://192.0.2.7:18789", nil, 200, 101},
		{"a wide bind's other address", "192.0.2.9:5", "192.0.2.7:18789", none, "192.0.2.8:18789", "http://192.0.2.8:18789", nil, 403, 403},
		{"another page at the address", "192.0.2.9:5", "192.0.2.7:18789", none, "192.0.2.7:18789", "http://192.0.2.7:80", nil, 200, 403},
		{"a name that was pointed here", "192.0.2.9:5", "192.0.2.7:18789", none, "evil.example:18789", "http://evil.example:18789", nil, 403, 403},
		{"the public URL", "10.0.0.1:5", "192.0.2.7:18789", proxied, "agent.example", "https://agent.example", nil, 200, 101},
		{"the public URL of an undeclared proxy", "192.0.2.9:5", "192.0.2.7:18789", proxied, "agent.example", "https://agent.example", nil, 200, 101},
		{"a proxy that keeps its own name", "10.0.0.1:5", "127.0.0.1:18789", proxied, "127.0.0.1:18789", "https://agent.example", nil, 200, 101},
		{"a proxy of another name that says which was asked for", "10.0.0.1:5", "127.0.0.1:18789", proxied, "creel_upstream", "https://agent.example",
			http.Header{"X-Forwarded-Host": {"agent.example"}, "X-Forwarded-Proto": {"https"}}, 200, 101},
		{"the same of an undeclared one", "192.0.2.9:5", "127.0.0.1:18789", proxied, "creel_upstream", "https://agent.example",
			http.Header{"X-Forwarded-Host": {"agent.example"}, "X-Forwarded-Proto": {"https"}}, 403, 403},
		{"a declared proxy that was asked for another name", "10.0.0.1:5", "127.0.0.1:18789", proxied, "127.0.0.1:18789", "http://evil.example",
			http.Header{"X-Forwarded-Host": {"evil.example"}}, 403, 403},
		{"another website through the proxy", "10.0.0.1:5", "127.0.0.1:18789", proxied, "agent.example", "https://evil.example", nil, 200, 403},
		{"the public name without TLS", "10.0.0.1:5", "127.0.0.1:18789", proxied, "agent.example", "http://agent.example:81", nil, 200, 403},
		{"the public name where none is declared", "10.0.0.1:5", "127.0.0.1:18789", none, "agent.example", "https://agent.example", nil, 403, 403},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			at := i.through(tt.peer, tt.local, tt.access)
			resp, body := at.get("/", tt.host, tt.header)
			if resp.StatusCode != tt.page {
				t.Errorf("the page: status %d, want %d: %s", resp.StatusCode, tt.page, body)
			}
			if tt.page == 403 && !strings.Contains(body, "creel dashboard SANDBOX --public-url URL") {
				t.Errorf("the refusal does not say what to do: %s", body)
			}
			header := tt.header.Clone()
			if header == nil {
				header = http.Header{}
			}
			header.Set("Origin", tt.origin)
			conn, resp, err := websocket.Dial(t.Context(), "ws://"+i.addr+"/ws", &websocket.DialOptions{HTTPClient: at.client, HTTPHeader: header, Host: tt.host})
			if conn != nil {
				conn.CloseNow()
			}
			if resp == nil || resp.StatusCode != tt.socket {
				t.Errorf("the WebSocket: %+v (%v), want status %d", resp, err, tt.socket)
			}
		})
	}
}

// The content policy names the WebSocket as the page will open it.
func TestPolicyNamesTheSocket(t *testing.T) {
	i := start(t, t.TempDir(), "http://127.0.0.1:1/v1")
	at := i.through("10.0.0.1:5", "127.0.0.1:18789", proxied)
	resp, _ := at.get("/", "agent.example", http.Header{"X-Forwarded-Proto": {"https"}})
	if p := resp.Header.Get("Content-Security-Policy"); !strings.Contains(p, "connect-src 'self' wss://agent.example;") {
		t.Errorf("behind TLS: %s", p)
	}
	resp, _ = at.get("/", "agent.example", nil)
	if p := resp.Header.Get("Content-Security-Policy"); !strings.Contains(p, "connect-src 'self' ws://agent.example wss://agent.example;") {
		t.Errorf("behind a proxy that does not say so: %s", p)
	}
}

// Below a path everything works, whether or not the proxy takes the path off, and
// what is not below it is where it was.
func TestBelowAPath(t *testing.T) {
	i := start(t, t.TempDir(), "http://127.0.0.1:1/v1")
	files, err := loadAssets()
	if err != nil {
		t.Fatal(err)
	}
	script := "assets/" + files.hash + "/app.js"
	for _, tt := range []struct {
		url, path string
		want      int
		location  string
	}{
		{"https://agent.example/claw", "/claw", 308, "/claw/"},
		{"https://agent.example/claw/", "/claw", 308, "/claw/"},
		{"https://agent.example/claw", "/claw/", 200, ""},
		{"https://agent.example/claw", "/claw/health", 200, ""},
		{"https://agent.example/claw", "/claw/" + script, 200, ""},
		{"https://agent.example/claw", "/claw/ws", 403, ""}, // no origin: it was found
		{"https://agent.example/claw", "/", 200, ""},
		{"https://agent.example/claw", "/health", 200, ""},
		{"https://agent.example/claw", "/" + script, 200, ""},
		{"https://agent.example/claw", "/claws/", 404, ""},
		{"https://agent.example/claw", "/claw/claw/", 404, ""},
		{"https://agent.example/claw", "/claw/nothing", 404, ""},
		{"https://agent.example/a/b%20c/", "/a/b%20c", 308, "/a/b%20c/"},
		{"https://agent.example/a/b%20c/", "/a/b%20c/health", 200, ""},
		{"https://agent.example/assets", "/assets/" + script, 200, ""},
		{"https://agent.example/assets", "/" + script, 200, ""},
		{"https://agent.example", "/claw/", 404, ""},
	} {
		at := i.through("127.0.0.1:5", "127.0.0.1:18789", dashboard.Access{PublicURL: tt.url})
		resp, body := at.get(tt.path, "agent.example", nil)
		if resp.StatusCode != tt.want || resp.Header.Get("Location") != tt.location {
			t.Errorf("%s: GET %s: status %d to %q, want %d to %q: %.80s", tt.url, tt.path, resp.StatusCode, resp.Header.Get("Location"), tt.want, tt.location, body)
		}
	}
}

// Somebody at one address who fails and fails, and holds what connections it can
// get, keeps nobody at another address out, and is named in the log.
func TestWrongTokensLockNobodyOut(t *testing.T) {
	model := openaitest.Start(t)
	i := start(t, t.TempDir(), model.URL)
	none := dashboard.Access{}
	attacker := i.through("203.0.113.66:5", "192.0.2.7:18789", none)
	owner := i.through("192.0.2.9:5", "192.0.2.7:18789", none)
	wrong := func(at *instance) *http.Response {
		resp, _ := at.get("/api/info", "", http.Header{"Authorization": {"Bearer guess"}})
		return resp
	}
	for n := range peerBurst {
		if resp := wrong(attacker); resp.StatusCode != http.StatusUnauthorized {
			t.Fatalf("wrong token %d: status %d", n+1, resp.StatusCode)
		}
	}
	if resp := wrong(attacker); resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") != "2" {
		t.Errorf("one more: status %d, %v", resp.StatusCode, resp.Header)
	}
	if resp := wrong(owner); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a wrong token from another address: status %d", resp.StatusCode)
	}
	// The right token opens even from there: who guesses it may have it.
	if resp, _ := attacker.get("/api/info", "", http.Header{"Authorization": {"Bearer " + testToken}}); resp.StatusCode != http.StatusOK {
		t.Errorf("the right token: status %d", resp.StatusCode)
	}

	// Every place that one address can have is taken and held.
	origin := "http://" + i.addr
	for range maxStrangersOfPeer {
		if _, status, err := attacker.dial(origin, ""); status != http.StatusSwitchingProtocols {
			t.Fatalf("status %d, %v", status, err)
		}
	}
	p := owner.open()
	p.chat("a1", "hello")
	if _, last := p.answer("a1"); last.Type != "done" {
		t.Errorf("last = %+v", last)
	}

	log := i.log.String()
	if n := strings.Count(log, "from 203.0.113.66"); n != 1 || !strings.Contains(log, "a wrong token was shown from 192.0.2.9") || strings.Contains(log, "guess") {
		t.Errorf("the log names the attacker %d times:\n%s", n, log)
	}
}

// Over a WebSocket too many wrong tokens are answered slowly.
func TestWrongTokensOverSocketWait(t *testing.T) {
	i := start(t, t.TempDir(), "http://127.0.0.1:1/v1")
	for range peerBurst {
		if resp, _ := i.get("/api/info", "", http.Header{"Authorization": {"Bearer wrong"}}); resp.StatusCode != http.StatusUnauthorized {
			t.Fatalf("status %d", resp.StatusCode)
		}
	}
	conn, _, err := i.dial("http://"+i.addr, "")
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := conn.Write(t.Context(), websocket.MessageText, []byte(`{"type":"auth","token":"wrong"}`)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patienceOfTest)
	defer cancel()
	_, _, err = conn.Read(ctx)
	if waited := time.Since(began); websocket.CloseStatus(err) != closeBadToken || waited < failurePenalty {
		t.Errorf("answered after %s with %v", waited, err)
	}
}

// The probe of `creel status` shows a wrong token on purpose.
func TestProbeIsNotLogged(t *testing.T) {
	i := start(t, t.TempDir(), "http://127.0.0.1:1/v1")
	show := func(at *instance, message string) {
		t.Helper()
		conn, _, err := at.dial("http://"+i.addr, "")
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Write(t.Context(), websocket.MessageText, []byte(message)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := conn.Read(t.Context()); websocket.CloseStatus(err) != closeBadToken {
			t.Fatalf("closed with %v", err)
		}
	}
	show(i, `{"type":"auth","token":"wrong","probe":true}`)
	if log := i.log.String(); strings.Contains(log, "wrong token") {
		t.Errorf("the probe is logged:\n%s", log)
	}
	show(i.through("203.0.113.66:5", "192.0.2.7:18789", dashboard.Access{}), `{"type":"auth","token":"wrong","probe":true}`)
	show(i, `{"type":"auth","token":"wrong"}`)
	if log := i.log.String(); !strings.Contains(log, "a wrong token was shown from 203.0.113.66") || !strings.Contains(log, "a wrong token was shown from 127.0.0.1") {
		t.Errorf("what is no probe of this machine is not logged:\n%s", log)
	}
}

// Whoever calls his guesses probes, from behind a proxy on this machine, is spoken of
// all the same; a watch is not.
func TestGuessesAreNoProbes(t *testing.T) {
	var l limiter
	now, here := time.Unix(1000, 0), netip.MustParseAddr("127.0.0.1")
	for n := range 300 {
		if _, line := l.wrong(here, true, now.Add(time.Duration(n)*2*time.Second)); line != "" {
			t.Fatalf("look %d of a watch is logged: %s", n, line)
		}
	}
	l = limiter{}
	said := 0
	for n := range 300 {
		if _, line := l.wrong(here, true, now.Add(time.Duration(n)*500*time.Millisecond)); line != "" {
			said++
		}
	}
	if said < 2 || said > 4 {
		t.Errorf("150 s of guesses were spoken of in %d lines", said)
	}
}

func TestLimiter(t *testing.T) {
	now := time.Unix(1000, 0)
	one, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	var l limiter
	for n := range peerBurst {
		if wait, _ := l.wrong(one, false, now); wait != 0 {
			t.Fatalf("failure %d waits %s", n+1, wait)
		}
	}
	if wait, _ := l.wrong(one, false, now); wait != failurePenalty {
		t.Fatalf("one more waits %s", wait)
	}
	if wait, _ := l.wrong(other, false, now); wait != 0 {
		t.Errorf("another address waits %s", wait)
	}
	if wait, _ := l.wrong(one, false, now.Add(peerRefill)); wait != 0 {
		t.Errorf("after one refill: waits %s", wait)
	}
	// Somebody who watches, asking with a wrong token every two seconds for a day.
	for n := range 43200 {
		if wait, _ := l.wrong(one, false, now.Add(time.Minute+time.Duration(n)*2*time.Second)); wait != 0 {
			t.Fatalf("watching: question %d waits %s", n, wait)
		}
	}
	// A clock that steps back must not give anything away.
	l = limiter{}
	for range peerBurst {
		l.wrong(one, false, now)
	}
	if wait, _ := l.wrong(one, false, now.Add(-time.Hour)); wait != failurePenalty {
		t.Errorf("after the clock stepped back: waits %s", wait)
	}
	// An IPv6 host has many addresses.
	l = limiter{}
	for n := range peerBurst {
		l.wrong(netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", n+1)), false, now)
	}
	if wait, _ := l.wrong(netip.MustParseAddr("2001:db8::ffff"), false, now); wait != failurePenalty {
		t.Errorf("another address of the same host waits %s", wait)
	}
	if wait, _ := l.wrong(netip.MustParseAddr("2001:db8:0:1::1"), false, now); wait != 0 {
		t.Errorf("another host waits %s", wait)
	}
}

// Many addresses together are limited as well, and neither fill the log nor the
// memory.
func TestLimiterOfAll(t *testing.T) {
	now := time.Unix(1000, 0)
	var l limiter
	lines, waits := 0, 0
	for n := range 20000 {
		wait, line := l.wrong(netip.AddrFrom4([4]byte{198, 18, byte(n >> 8), byte(n)}), false, now)
		if wait > 0 {
			waits++
		}
		if line != "" {
			lines++
		}
	}
	if lines != totalBurst+1 || waits != 20000-totalBurst {
		t.Errorf("%d lines, %d waits", lines, waits)
	}
	if len(l.peers) > maxPeers {
		t.Errorf("%d addresses are remembered", len(l.peers))
	}
	if _, line := l.wrong(netip.MustParseAddr("198.19.0.1"), false, now.Add(tellEvery)); line == "" {
		t.Error("nothing is said any more")
	}
}

func TestLimiterTells(t *testing.T) {
	now := time.Unix(1000, 0)
	peer := netip.MustParseAddr("192.0.2.1")
	var l limiter
	var lines []string
	say := func(quiet bool, after time.Duration) {
		if _, line := l.wrong(peer, quiet, now.Add(after)); line != "" {
			lines = append(lines, line)
		}
	}
	say(true, 0)
	say(false, 0)
	say(false, time.Second)
	say(true, 2*time.Second)
	say(false, tellEvery-1)
	say(false, tellEvery)
	say(false, 3*tellEvery)
	want := "a wrong token was shown from 192.0.2.1|3 wrong tokens were shown from 192.0.2.1 since this was said last|a wrong token was shown from 192.0.2.1"
	if got := strings.Join(lines, "|"); got != want {
		t.Errorf("the log says %q", got)
	}
	if _, line := (&limiter{}).wrong(netip.Addr{}, false, now); line != "a wrong token was shown from an unknown address" {
		t.Errorf("of nobody: %q", line)
	}
}
