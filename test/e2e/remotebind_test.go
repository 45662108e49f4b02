package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"creel/test/nethosts"
)

type forwardsDocument struct {
	Forwards []forwardEntry `json:"forwards"`
}

type forwardEntry struct {
	Sandbox     string `json:"sandbox"`
	Kind        string `json:"kind"`
	Bind        string `json:"bind"`
	Port        int    `json:"port"`
	TargetPort  int    `json:"target_port"`
	Status      string `json:"status"`
	Message     string `json:"message"`
	Exposed     bool   `json:"exposed"`
	Connections int    `json:"connections"`
	Refused     int    `json:"refused"`
}

// listener is what `forward list` tells of a sandbox's dashboard.
func (h *home) listener(name string) forwardEntry {
	h.t.Helper()
	for _, f := range decode[forwardsDocument](h.t, h.must(0, "forward", "list", name, "--json")).Forwards {
		if f.Kind == "dashboard" {
			return f
		}
	}
	h.t.Fatalf("sandbox %s has no dashboard", name)
	return forwardEntry{}
}

// remote is a browser on another host, which opens the dashboard under the address
// that it reaches it by.
type remote struct {
	t      *testing.T
	host   *nethosts.Host
	server string // address and port
	client *http.Client
}

func newRemote(t *testing.T, from, to *nethosts.Host, port int) *remote {
	r := &remote{t: t, host: from, server: fmt.Sprintf("%s:%d", to.Address, port)}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) { return from.Dial(r.server) }}
	r.client = &http.Client{Transport: transport, Timeout: 20 * time.Second}
	return r
}

// refused proves that the host is reached and nobody listens there.
func (r *remote) refused(when string) {
	r.t.Helper()
	c, err := r.host.Dial(r.server)
	if err == nil {
		_ = c.Close()
		r.t.Errorf("%s another machine reaches the dashboard", when)
	} else if !errors.Is(err, syscall.ECONNREFUSED) {
		r.t.Errorf("%s: %v, not refused", when, err)
	}
}

// page loads the page and returns what the server said to a token.
func (r *remote) page(token string) (connection *websocket.Conn, answer map[string]any) {
	r.t.Helper()
	response, err := r.client.Get("http://" + r.server + "/")
	if err != nil {
		r.t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if err != nil || response.StatusCode != http.StatusOK || !strings.Contains(string(body), "<html") {
		r.t.Fatalf("the page answers %s, %v:\n%.200s", response.Status, err, body)
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	connection, _, err = r.socket(ctx, r.server, "http://"+r.server)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = connection.CloseNow() })
	first, err := json.Marshal(map[string]any{"type": "auth", "token": token, "probe": true})
	if err != nil {
		r.t.Fatal(err)
	}
	if err := connection.Write(ctx, websocket.MessageText, first); err != nil {
		r.t.Fatal(err)
	}
	_, said, err := connection.Read(ctx)
	if err != nil {
		return connection, map[string]any{"closed": websocket.CloseStatus(err).String()}
	}
	if err := json.Unmarshal(said, &answer); err != nil {
		r.t.Fatal(err)
	}
	return connection, answer
}

// socket opens a WebSocket to the dashboard under a name, from a page of origin.
func (r *remote) socket(ctx context.Context, name, origin string) (*websocket.Conn, int, error) {
	connection, response, err := websocket.Dial(ctx, "ws://"+name+"/ws", &websocket.DialOptions{HTTPClient: r.client, HTTPHeader: http.Header{"Origin": {origin}}})
	if response == nil {
		return connection, 0, err
	}
	return connection, response.StatusCode, err
}

// guarded proves that the page opens under no other name and to no other page,
// whoever points a name here.
func (r *remote) guarded(port int) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	for _, name := range []string{fmt.Sprintf("evil.example:%d", port), fmt.Sprintf("%s:%d", r.host.Address, port)} {
		response, err := r.client.Get("http://" + name + "/")
		if err != nil {
			r.t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusForbidden {
			r.t.Errorf("asked for as %s the page answers %s", name, response.Status)
		}
		if _, code, err := r.socket(ctx, name, "http://"+name); err == nil || code != http.StatusForbidden {
			r.t.Errorf("asked for as %s the WebSocket answers %d, %v", name, code, err)
		}
		if _, code, err := r.socket(ctx, r.server, "http://"+name); err == nil || code != http.StatusForbidden {
			r.t.Errorf("a page of %s opens the WebSocket: %d, %v", name, code, err)
		}
	}
}

// testRemoteBind: by default only this machine reaches a dashboard. Who asks for more
// by that word gets it and sees it, and others still need the token.
func testRemoteBind(t *testing.T) {
	here, there := nethosts.Pair(t)
	h := newHome(t)
	h.host = here
	if r := h.runProgram(creel, []string{"NEMOCLAW_DASHBOARD_BIND=" + here.Address}, "onboard", "--yes", "--non-interactive", "--provider", "none"); r.code != 2 ||
		!strings.Contains(r.stderr, "dashboard-bind-invalid") {
		t.Fatalf("an address of its own: exit %d\n%s", r.code, r.stderr)
	}
	h.must(0, "onboard", "--yes", "--non-interactive", "--provider", "none")
	board := h.listener("claw")
	if board.Bind != "127.0.0.1" || board.Exposed || board.Status != "listening" {
		t.Fatalf("at first: %+v", board)
	}
	agent := h.agentPID()
	address, err := url.Parse(h.authenticated())
	if err != nil {
		t.Fatal(err)
	}
	token := strings.TrimPrefix(address.Fragment, "token=")
	h.output.Reset() // it was asked for
	browser := newRemote(t, there, here, board.Port)
	browser.refused("by default")

	h.must(0, "forward", "stop", "claw", fmt.Sprint(board.Port))
	if now := h.listener("claw"); now.Status != "stopped" {
		t.Errorf("stopped: %+v", now)
	}
	if c, err := here.Dial(fmt.Sprintf("127.0.0.1:%d", board.Port)); err == nil {
		_ = c.Close()
		t.Error("a stopped dashboard is reached")
	}
	if v := h.verdict(); v != "ok" {
		t.Errorf("what was stopped on purpose is %q", v)
	}

	h.must(0, "forward", "start", "claw", fmt.Sprintf("0.0.0.0:%d", board.Port))
	wide := func(when string) {
		t.Helper()
		if now := h.listener("claw"); now.Bind != "0.0.0.0" || now.Port != board.Port || now.Status != "listening" || !now.Exposed {
			t.Errorf("%s: %+v", when, now)
		}
		if list := h.must(0, "forward", "list").stdout; !strings.Contains(list, "0.0.0.0") {
			t.Errorf("%s: the list shows no wide bind:\n%s", when, list)
		}
		if status := h.must(3, "status").stdout; !strings.Contains(status, "dashboard-exposed") {
			t.Errorf("%s: status shows no exposure:\n%s", when, status)
		}
		if _, answer := browser.page(token); answer["closed"] != nil || answer["type"] == "error" {
			t.Errorf("%s: the token is answered with %v", when, answer)
		}
		browser.guarded(board.Port)
	}
	wide("when asked for")
	if _, answer := browser.page("wrong"); answer["closed"] == nil {
		t.Errorf("a wrong token is answered with %v", answer)
	}
	h.must(0, "gateway", "restart")
	wide("after a restart of the gateway")
	if err := syscall.Kill(h.gatewayPID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	h.must(3, "repair", "--yes") // degraded is how it is wanted
	wide("after the end of the gateway")

	open, _ := browser.page(token)
	h.must(0, "forward", "start", "claw", fmt.Sprint(board.Port))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, _, err := open.Read(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("a connection from elsewhere goes on: %v", err)
	}
	browser.refused("narrow again")
	h.must(0, "status")
	if now := h.agentPID(); now != agent {
		t.Errorf("the agent's pid is %d, it was %d", now, agent)
	}
	if strings.Contains(h.output.String()+h.logs(), token) {
		t.Error("the token was printed or logged")
	}
}
