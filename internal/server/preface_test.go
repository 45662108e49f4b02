package server_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	access "creel/internal/dashboard"
	"creel/internal/dashboard/preface"
	"creel/internal/gateway"
	"creel/internal/sandbox"
	"creel/internal/server/servertest"
)

// An agent that reads it is told, with each connection, who connected and what is
// declared now; any other agent gets the client's bytes and nothing before them.
func TestDashboardIsIntroduced(t *testing.T) {
	for name, handsOver := range map[string]bool{"handed over": true, "streams": false} {
		t.Run(name, func(t *testing.T) {
			g := servertest.New(t)
			if !handsOver {
				g.Driver.HandsOver = ""
			}
			g.Driver.Prefaced = true
			g.Run()
			introduced(t, g)
		})
	}
}

func introduced(t *testing.T, g *servertest.Gateway) {
	c := g.Client()
	raw, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	saw := make(chan access.Request, 10)
	agent := &http.Server{
		ConnContext: preface.Keep,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			saw <- preface.Of(r.Context()).Read(access.Headers{Host: "agent.example"})
			_, _ = io.WriteString(w, r.RemoteAddr)
		}),
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = agent.Serve(preface.Listen(raw, 10*time.Second)) }()
	defer func() { _ = agent.Close(); <-ended }()

	board := sandbox.Dashboard{TargetPort: raw.Addr().(*net.TCPAddr).Port,
		Access: access.Access{PublicURL: "https://agent.example", TrustedProxies: []string{"10.0.0.0/8"}}}
	spec := sandbox.Spec{Agent: "command", Command: []string{"sleep", "9"}, Dashboard: board}
	id := ready(t, c, "demo", spec).ID
	d := declared(t, c, "demo")
	if diff := cmp.Diff(board.Access, d.Access); diff != "" {
		t.Errorf("declared (-want +got):\n%s", diff)
	}
	if seen, own := body(t, d.Forward.Port); seen != own {
		t.Errorf("the agent saw a connection from %q, it was %q", seen, own)
	}
	if q := <-saw; !q.HostAllowed() {
		t.Error("the agent was not told of the public URL")
	}

	// Declared otherwise: whoever was let in by the old rules is out, the next
	// connection is told, and the sandbox goes on.
	pid := g.Driver.Supervisor(id)
	open := connected(t, d.Forward.Port)
	spec.Dashboard.Access = access.Access{}
	if _, err := c.(gateway.Updater).UpdateForwards(within(t), "demo", spec); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(access.Access{}, declared(t, c, "demo").Access); diff != "" {
		t.Errorf("declared no longer (-want +got):\n%s", diff)
	}
	if _, err := open.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection under the old rules goes on: %v", err)
	}
	body(t, declared(t, c, "demo").Forward.Port)
	if q := <-saw; q.HostAllowed() {
		t.Error("the agent was told of a URL that is declared no longer")
	}
	if g.Driver.Supervisor(id) != pid {
		t.Error("the sandbox was started again")
	}

	// Nor does what another forward leads to learn of it.
	other, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	spec.Forwards = []sandbox.Forward{{TargetPort: other.Addr().(*net.TCPAddr).Port}}
	if err := c.(gateway.Updater).UpdateSandbox(within(t), "demo", spec); err != nil {
		t.Fatal(err)
	}
	if got := arrives(t, inspected(t, c, "demo").Forwards[0].Port, other); got != "hello" {
		t.Errorf("behind a plain forward %q arrived", got)
	}

	for name, refused := range map[string]access.Access{
		"a URL that is not as recorded": {PublicURL: "HTTPS://agent.example"},
		"a URL with a query":            {PublicURL: "https://agent.example/?x"},
		"networks that are none":        {TrustedProxies: []string{"proxy.example"}},
		"a network that is not masked":  {TrustedProxies: []string{"10.1.2.3/8"}},
	} {
		spec.Dashboard.Access = refused
		if err := c.(gateway.Updater).UpdateSandbox(within(t), "demo", spec); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

// What an earlier build launched does not read a preface, and goes on without one
// when a gateway that knows it takes over; its next start is this build's.
func TestDashboardOfAnEarlierBuildIsNotIntroduced(t *testing.T) {
	g := servertest.Start(t)
	raw, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	spec := sandbox.Spec{Agent: "console", Command: []string{"sleep", "9"},
		Dashboard: sandbox.Dashboard{TargetPort: raw.Addr().(*net.TCPAddr).Port, WebSocket: "/ws"}}
	id := ready(t, g.Client(), "demo", spec).ID
	old := g.Driver.Supervisor(id)
	g.Stop()
	g.Driver.Prefaced = true
	g.Run()
	c := g.Client()
	if _, err := c.WaitSandbox(within(t), "demo", nil); err != nil {
		t.Fatal(err)
	}
	if g.Driver.Supervisor(id) != old {
		t.Fatal("the sandbox was started again by the takeover")
	}
	if got := arrives(t, declared(t, c, "demo").Forward.Port, raw); got != "hello" {
		t.Errorf("an agent of an earlier build got %q", got)
	}
	if err := c.StopSandbox(within(t), "demo"); err != nil {
		t.Fatal(err)
	}
	if err := c.StartSandbox(within(t), "demo"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.WaitSandbox(within(t), "demo", nil); err != nil {
		t.Fatal(err)
	}
	if got := arrives(t, declared(t, c, "demo").Forward.Port, raw); got == "hello" || !strings.HasSuffix(got, "hello") {
		t.Errorf("an agent that was started again got %q, without a preface", got)
	}
}

func declared(t *testing.T, c gateway.Client, name string) gateway.Dashboard {
	t.Helper()
	d, err := c.Dashboard(within(t), name, false)
	if err != nil || !d.Forward.Bound {
		t.Fatalf("dashboard %+v, %v", d, err)
	}
	return d
}

// connected is a connection to a port of this machine that waits no longer than a
// test does.
func connected(t *testing.T, port int) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(servertest.Wait)); err != nil {
		t.Fatal(err)
	}
	return c
}

// arrives is what comes in at l when "hello" is sent to a port.
func arrives(t *testing.T, port int, l net.Listener) string {
	t.Helper()
	client := connected(t, port)
	if _, err := io.WriteString(client, "hello"); err != nil {
		t.Fatal(err)
	}
	if err := client.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if err := l.(*net.TCPListener).SetDeadline(time.Now().Add(servertest.Wait)); err != nil {
		t.Fatal(err)
	}
	inside, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	got, err := io.ReadAll(inside)
	if err != nil {
		t.Error(err)
	}
	return string(got)
}

// body fetches a page, and says which address it was fetched from.
func body(t *testing.T, port int) (text, from string) {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err == nil {
			from = c.LocalAddr().String()
		}
		return c, err
	}}
	resp, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Get("http://127.0.0.1:" + strconv.Itoa(port))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b), from
}
