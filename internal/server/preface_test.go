package server_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
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
	g := servertest.Start(t)
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

	board := sandbox.Dashboard{TargetPort: raw.Addr().(*net.TCPAddr).Port, Preface: true,
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

	// Declared otherwise: the next connection says so, and the sandbox goes on.
	pid := g.Driver.Supervisor(id)
	spec.Dashboard.Access = access.Access{}
	if err := c.(gateway.Updater).UpdateSandbox(within(t), "demo", spec); err != nil {
		t.Fatal(err)
	}
	body(t, declared(t, c, "demo").Forward.Port)
	if q := <-saw; q.HostAllowed() {
		t.Error("the agent was told of a URL that is declared no longer")
	}
	if g.Driver.Supervisor(id) != pid {
		t.Error("the sandbox was started again")
	}

	// One that does not read it sees the client's bytes alone.
	spec.Dashboard.Preface = false
	if err := c.(gateway.Updater).UpdateSandbox(within(t), "demo", spec); err != nil {
		t.Fatal(err)
	}
	_ = agent.Close()
	<-ended
	plain, err := net.Listen("tcp4", raw.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	client, err := net.Dial("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(declared(t, c, "demo").Forward.Port)))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := io.WriteString(client, "hello"); err != nil {
		t.Fatal(err)
	}
	if err := client.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	inside, err := plain.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	if got, err := io.ReadAll(inside); err != nil || string(got) != "hello" {
		t.Errorf("an agent that reads no preface got %q, %v", got, err)
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

func declared(t *testing.T, c gateway.Client, name string) gateway.Dashboard {
	t.Helper()
	d, err := c.Dashboard(within(t), name, false)
	if err != nil || !d.Forward.Bound {
		t.Fatalf("dashboard %+v, %v", d, err)
	}
	return d
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
