// Package openclawtest is an agent that is shaped like OpenClaw: it reads the same
// configuration and speaks the first words of the same protocol, as OpenClaw's
// documentation and an OpenClaw of version 2026.9 have them. It is written from
// those and shares no code with Creel.
package openclawtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/tailscale/hujson"
)

// Config is what is read of the configuration.
type Config struct {
	Gateway struct {
		Mode string `json:"mode"`
		Bind string `json:"bind"`
		Port int    `json:"port"`
		Auth struct {
			Mode  string `json:"mode"`
			Token string `json:"token"`
		} `json:"auth"`
		ControlUI struct {
			AllowedOrigins []string `json:"allowedOrigins"`
		} `json:"controlUi"`
	} `json:"gateway"`
}

// Read reads ~/.openclaw/openclaw.json.
func Read(home string) (Config, error) {
	var c Config
	content, err := os.ReadFile(filepath.Join(home, ".openclaw", "openclaw.json"))
	if err != nil {
		return c, err
	}
	if content, err = hujson.Standardize(content); err != nil {
		return c, err
	}
	// OpenClaw checks strictly; the fields that Creel writes are checked so here.
	var raw struct {
		Gateway struct {
			ControlUI map[string]json.RawMessage `json:"controlUi"`
		} `json:"gateway"`
	}
	if err := json.Unmarshal(content, &raw); err != nil {
		return c, err
	}
	if o, there := raw.Gateway.ControlUI["allowedOrigins"]; there && string(o) == "null" {
		return c, errors.New("gateway.controlUi.allowedOrigins: expected array, received null")
	}
	return c, json.Unmarshal(content, &c)
}

// Agent is an agent that serves.
type Agent struct {
	// Config is asked at every connect, so that a changed file counts at once. Without
	// one, or with an error, nobody is let in.
	Config func() (Config, error)
	// Tokenless lets everybody in, and Limited nobody, as after too many wrong tokens.
	Tokenless, Limited bool
	// Asked counts how connects ended, by code; "" is let in.
	mu    sync.Mutex
	asked map[string]int
}

// Asked is how many connects ended with a code; "" is let in.
func (a *Agent) Asked(code string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked[code]
}

// Handler serves the page, the health endpoint and the WebSocket.
func (a *Agent) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Upgrade") != "":
			a.socket(w, r)
		case r.URL.Path == "/health":
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
			fmt.Fprint(w, `{"ok":true,"status":"live"}`)
		default:
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			fmt.Fprint(w, "<!doctype html><title>OpenClaw Control</title>")
		}
	})
}

type reply struct {
	Type  string         `json:"type"`
	ID    string         `json:"id"`
	OK    bool           `json:"ok"`
	Error map[string]any `json:"error,omitempty"`
}

func (a *Agent) socket(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return
	}
	defer conn.CloseNow()
	ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
	defer cancel()
	if conn.Write(ctx, websocket.MessageText, []byte(`{"type":"event","event":"connect.challenge","payload":{"nonce":"n"}}`)) != nil {
		return
	}
	_, data, err := conn.Read(ctx)
	if err != nil {
		return
	}
	var request struct {
		ID     string
		Method string
		Params struct {
			Client struct{ ID string }
			Auth   struct{ Token string }
		}
	}
	if json.Unmarshal(data, &request) != nil || request.Method != "connect" {
		_ = conn.Close(websocket.StatusPolicyViolation, "invalid request")
		return
	}
	code, text := a.judge(r, request.Params.Auth.Token)
	a.mu.Lock()
	if a.asked == nil {
		a.asked = map[string]int{}
	}
	a.asked[code]++
	a.mu.Unlock()
	answer := reply{Type: "res", ID: request.ID, OK: code == ""}
	if code != "" {
		answer.Error = map[string]any{"code": "INVALID_REQUEST", "message": text, "details": map[string]string{"code": code}}
	}
	out, err := json.Marshal(answer)
	if err != nil || conn.Write(ctx, websocket.MessageText, out) != nil {
		return
	}
	if code != "" {
		_ = conn.Close(websocket.StatusPolicyViolation, text)
		return
	}
	_, _, _ = conn.Read(ctx) // the conversation
}

// judge is why a connect is refused.
func (a *Agent) judge(r *http.Request, token string) (code, text string) {
	var c Config
	err := errors.New("no configuration")
	if a.Config != nil {
		c, err = a.Config()
	}
	if err != nil {
		return "UNAVAILABLE", "the configuration cannot be read"
	}
	if o := r.Header.Get("Origin"); o != "" {
		u, err := url.Parse(o)
		own := err == nil && u.Host == r.Host && (u.Hostname() == "localhost" || net.ParseIP(u.Hostname()).IsLoopback())
		if !own && !slices.Contains(c.Gateway.ControlUI.AllowedOrigins, o) {
			return "CONTROL_UI_ORIGIN_NOT_ALLOWED", "origin not allowed (allow it in gateway.controlUi.allowedOrigins)"
		}
	}
	switch {
	case a.Tokenless || c.Gateway.Auth.Mode == "none":
		return "", ""
	case a.Limited:
		return "AUTH_RATE_LIMITED", "unauthorized: too many failed authentication attempts (retry later)"
	case token == "":
		return "DEVICE_IDENTITY_REQUIRED", "device identity required"
	case token != c.Gateway.Auth.Token:
		return "AUTH_TOKEN_MISMATCH", "unauthorized: gateway token mismatch"
	}
	return "", ""
}

// Serve is "openclaw gateway run" in a home directory, until ctx ends.
func Serve(ctx context.Context, home string) error {
	c, err := Read(home)
	switch {
	case err != nil:
		return err
	case c.Gateway.Mode != "local":
		return errors.New("gateway.mode is not local")
	case c.Gateway.Auth.Token == "":
		return errors.New("refusing to serve without authentication")
	}
	l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", c.Gateway.Port))
	if err != nil {
		return err
	}
	a := &Agent{Config: func() (Config, error) { return Read(home) }}
	s := &http.Server{Handler: a.Handler(), ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
