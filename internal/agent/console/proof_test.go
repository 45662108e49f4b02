package console

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/coder/websocket"

	"creel/internal/credential"
	"creel/internal/dashboard"
	"creel/test/openaitest"
)

var pageNonce = strings.Repeat("n", 43)

// asks opens a WebSocket as a page that sends this query.
func (i *instance) asks(t *testing.T, query, origin string) *websocket.Conn {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), "ws://"+i.addr+"/ws?"+query, &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {origin}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	return conn
}

func converse(t *testing.T, conn *websocket.Conn, say any) ([]byte, websocket.StatusCode) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patienceOfTest)
	defer cancel()
	if say != nil {
		if err := conn.Write(ctx, websocket.MessageText, encode(say)); err != nil {
			t.Fatal(err)
		}
	}
	_, data, err := conn.Read(ctx)
	return data, websocket.CloseStatus(err)
}

// The server proves that it knows the token and is shown that the page does.
func TestProofs(t *testing.T) {
	i := start(t, t.TempDir(), "http://127.0.0.1:1/v1")
	known, origin := credential.NewSecret(testToken), "http://"+i.addr
	meet := func(t *testing.T) (*websocket.Conn, challenge) {
		conn := i.asks(t, "nonce="+pageNonce, origin)
		data, _ := converse(t, conn, nil)
		var p proof
		if err := json.Unmarshal(data, &p); err != nil || p.Type != "proof" {
			t.Fatalf("first message %s, %v", data, err)
		}
		c := challenge{origin: origin, page: pageNonce, server: p.Nonce}
		if string(p.MAC) != string(c.mac(byServer, known)) {
			t.Fatal("the server does not prove that it knows the token")
		}
		return conn, c
	}
	auth := func(mac []byte) map[string]any { return map[string]any{"type": "auth", "mac": mac} }
	_, earlier := meet(t)
	for name, mac := range map[string]func(challenge) []byte{
		"another token":          func(c challenge) []byte { return c.mac(byPage, credential.NewSecret("guess")) },
		"the server's own":       func(c challenge) []byte { return c.mac(byServer, known) },
		"of another connection":  func(challenge) []byte { return earlier.mac(byPage, known) },
		"of a page of elsewhere": func(c challenge) []byte { c.origin = "http://127.0.0.1:1"; return c.mac(byPage, known) },
		"cut short":              func(c challenge) []byte { return c.mac(byPage, known)[:16] },
		"empty":                  func(challenge) []byte { return []byte{} },
	} {
		t.Run(name, func(t *testing.T) {
			conn, c := meet(t)
			if data, status := converse(t, conn, auth(mac(c))); status != closeBadToken {
				t.Errorf("%s, close status %d", data, status)
			}
		})
	}
	conn, c := meet(t)
	if data, status := converse(t, conn, auth(c.mac(byPage, known))); !strings.Contains(string(data), `"type":"hello"`) {
		t.Errorf("the right proof: %s, close status %d", data, status)
	}
	if log := i.log.String(); !strings.Contains(log, "a wrong token was shown from 127.0.0.1") {
		t.Errorf("wrong proofs are not counted: %q", log)
	}
	if _, again := meet(t); again.server == c.server {
		t.Error("two connections have the same nonce")
	}
}

// Without a nonce, or with one of another form, nothing is proven to a stranger, and
// no proof takes the token's place.
func TestNoProofWithoutNonce(t *testing.T) {
	i := start(t, t.TempDir(), "http://127.0.0.1:1/v1")
	known, origin := credential.NewSecret(testToken), "http://"+i.addr
	for _, query := range []string{"", "nonce=", "nonce=short", "nonce=" + strings.Repeat("n", 87), "nonce=" + url.QueryEscape(strings.Repeat("n", 40)+"\nx")} {
		conn := i.asks(t, query, origin)
		c := challenge{origin: origin}
		if data, status := converse(t, conn, map[string]any{"type": "auth", "mac": c.mac(byPage, known)}); status != closeBadToken {
			t.Errorf("%q: %s, close status %d", query, data, status)
		}
	}
}

// thief is somebody else's program on the agent's port. It says these messages on
// each WebSocket and keeps all that it is told.
type thief struct {
	mu   sync.Mutex
	told []string
	met  int
}

func (h *thief) add(said string, met int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.met += met
	if said != "" {
		h.told = append(h.told, said)
	}
}

func (h *thief) takes(t *testing.T, address string, says []string) {
	listener, err := net.Listen("tcp4", address)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.add(r.RequestURI, 0)
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
		if err != nil {
			return
		}
		defer conn.CloseNow()
		h.add("", 1)
		for _, s := range says {
			if conn.Write(r.Context(), websocket.MessageText, []byte(s)) != nil {
				return
			}
		}
		for {
			_, data, err := conn.Read(r.Context())
			if err != nil {
				return
			}
			h.add(string(data), 0)
		}
	})}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
}

// A page that is open while the agent is away and somebody else takes its port shows
// that one nothing, says so, and forgets the token: a reload would run what is at
// the address then.
func TestBrowserMeetsThief(t *testing.T) {
	guess := encode(challenge{origin: "x", page: pageNonce, server: "y"}.proof(credential.NewSecret("guess")))
	greeting := `{"type":"hello","sandbox":"demo","history":[],"protections":[]}`
	for name, says := range map[string][]string{
		"greets at once":        {greeting},
		"proves and greets":     {string(guess), greeting},
		"proof without a nonce": {`{"type":"proof","mac":"` + base64.StdEncoding.EncodeToString([]byte("x")) + `"}`, greeting},
		"no JSON":               {"hello", greeting},
	} {
		t.Run(name, func(t *testing.T) {
			i := start(t, t.TempDir(), openaitest.Start(t).URL)
			b := newBrowser(t)
			b.open(i.private())
			b.until(ready)
			i.stop()
			var h thief
			h.takes(t, i.addr, says)
			b.until(`!document.querySelector('#gate').hidden`)
			if got := b.text("#gate"); !strings.Contains(got, "something else answers in its place") || !strings.Contains(got, "creel dashboard demo --open") {
				t.Errorf("the page says %q", got)
			}
			if stored := value[string](b, `JSON.stringify({...sessionStorage, ...localStorage}) + document.cookie`); strings.Contains(stored, testToken) {
				t.Errorf("the page keeps the token: %s", stored)
			}
			h.mu.Lock()
			defer h.mu.Unlock()
			if told := strings.Join(h.told, "\n"); h.met == 0 || strings.Contains(told, testToken) || strings.Contains(told, `"auth"`) {
				t.Errorf("met %d times, was told %s", h.met, told)
			}
		})
	}
}

// Where the browser does not calculate the page opens with the token itself.
func TestBrowserWithoutProof(t *testing.T) {
	i := start(t, t.TempDir(), openaitest.Start(t).URL)
	proxy := httptest.NewServer(nil)
	t.Cleanup(proxy.Close)
	_, port, _ := net.SplitHostPort(proxy.Listener.Addr().String())
	public := "http://claw.test:" + port
	target, err := url.Parse(i.url("/"))
	if err != nil {
		t.Fatal(err)
	}
	through := i.through("127.0.0.1:5", "127.0.0.1:18789", dashboard.Access{PublicURL: public + "/"})
	proxy.Config.Handler = &httputil.ReverseProxy{Transport: through.client.Transport, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host
	}}
	b := newBrowser(t, chromedp.Flag("host-resolver-rules", "MAP claw.test 127.0.0.1"))
	b.open(public + "/#token=" + testToken)
	b.until(ready)
	if value[bool](b, "isSecureContext") {
		t.Error("the browser calculates here: nothing is shown")
	}
}
