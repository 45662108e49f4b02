package server_test

import (
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"creel/internal/gateway"
	"creel/internal/sandbox"
	"creel/internal/server/servertest"
)

// A new token ends who came in with the old one, and the old one is nowhere left.
func TestRotateDashboardToken(t *testing.T) {
	for name, handsOver := range map[string]bool{"handed over": true, "streams": false} {
		t.Run(name, func(t *testing.T) {
			g := servertest.New(t)
			if !handsOver {
				g.Driver.HandsOver = ""
			}
			g.Run()
			rotateToken(t, g)
		})
	}
}

func rotateToken(t *testing.T, g *servertest.Gateway) {
	c := g.Client()
	inside, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = inside.Close() })
	came := make(chan net.Conn, 1)
	go func() {
		for {
			conn, err := inside.Accept()
			if err != nil {
				return
			}
			came <- conn
		}
	}()
	i := ready(t, c, "demo", sandbox.Spec{Agent: "command", Command: []string{"sleep", "9"},
		Dashboard: sandbox.Dashboard{TargetPort: inside.Addr().(*net.TCPAddr).Port}})
	before := dashboard(t, c, "demo")
	outside, err := net.Dial("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(before.Forward.Port)))
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	if _, err := outside.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	session := <-came
	defer session.Close()
	if err := session.SetReadDeadline(time.Now().Add(servertest.Wait)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(session, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}

	u := c.(gateway.Updater)
	restart, err := u.RotateDashboardToken(within(t), "demo")
	if err != nil || !restart {
		t.Fatalf("rotate: restart %v, %v", restart, err)
	}
	for side, conn := range map[string]net.Conn{"inside": session, "outside": outside} {
		if err := conn.SetReadDeadline(time.Now().Add(servertest.Wait)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the session goes on %s: %v", side, err)
		}
	}
	if i, err := c.WaitSandbox(within(t), "demo", func(string) {}); err != nil || i.Phase != sandbox.Ready {
		t.Fatalf("the sandbox comes back: %s %s, %v", i.Phase, i.Message, err)
	}
	after := dashboard(t, c, "demo")
	if after.Token.Reveal() == before.Token.Reveal() || after.Forward.Port != before.Forward.Port {
		t.Errorf("token replaced: %v; port %d, it was %d", after.Token.Reveal() != before.Token.Reveal(), after.Forward.Port, before.Forward.Port)
	}
	if s, ok := g.Driver.Secrets(i.ID); !ok || s.Dashboard.Reveal() != after.Token.Reveal() {
		t.Error("the agent was not told the new token")
	}
	if starts := calls(g, "Start "+i.ID); starts != 2 {
		t.Errorf("started %d times", starts)
	}

	for name, want := range map[string]string{"other": "not found", "job": "no dashboard"} {
		if name == "job" {
			ready(t, c, "job", sandbox.Spec{Agent: "command", Command: []string{"sleep", "9"}})
		}
		if _, err := u.RotateDashboardToken(within(t), name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A sandbox that does not run has nobody to tell.
	if err := c.StopSandbox(within(t), "demo"); err != nil {
		t.Fatal(err)
	}
	if restart, err := u.RotateDashboardToken(within(t), "demo"); err != nil || restart {
		t.Errorf("of a stopped sandbox: restart %v, %v", restart, err)
	}
}

func calls(g *servertest.Gateway, call string) (n int) {
	for _, c := range g.Driver.Calls() {
		if c == call {
			n++
		}
	}
	return n
}

// A rotation is carried out also when its client is gone and the daemon dies right
// after: until what takes the old token has ended nothing leads to it.
func TestRotationSurvivesTheDaemon(t *testing.T) {
	g := servertest.Start(t)
	i := ready(t, g.Client(), "demo", sandbox.Spec{Agent: "command", Command: []string{"sleep", "9"}, Dashboard: sandbox.Dashboard{TargetPort: 4000}})
	before := dashboard(t, g.Client(), "demo")
	g.Driver.Fail("Stop", errors.New("not now"))
	if restart, err := g.Client().(gateway.Updater).RotateDashboardToken(within(t), "demo"); err != nil || !restart {
		t.Fatalf("rotate: restart %v, %v", restart, err)
	}
	g.Stop()
	if starts := calls(g, "Start "+i.ID); starts != 1 {
		t.Fatalf("started %d times by a daemon that could not end it", starts)
	}
	g.Run()
	if d, err := g.Client().Dashboard(within(t), "demo", true); err != nil {
		t.Fatal(err)
	} else if d.Forward.Bound || d.Token.Reveal() == before.Token.Reveal() {
		t.Errorf("while the agent takes the old token: bound %v, token replaced %v", d.Forward.Bound, d.Token.Reveal() != before.Token.Reveal())
	}
	g.Driver.Fail("Stop", nil)
	s, err := g.Client().WaitSandbox(within(t), "demo", func(string) {})
	if err != nil || s.Phase != sandbox.Ready {
		t.Fatalf("%s %s, %v", s.Phase, s.Message, err)
	}
	after := dashboard(t, g.Client(), "demo")
	if told, ok := g.Driver.Secrets(i.ID); !ok || told.Dashboard.Reveal() != after.Token.Reveal() || !after.Forward.Bound {
		t.Errorf("told the new token: %v; bound: %v", ok && told.Dashboard.Reveal() == after.Token.Reveal(), after.Forward.Bound)
	}
	g.Stop()
	g.Run()
	if starts := calls(g, "Start "+i.ID); starts != 2 {
		t.Errorf("started %d times", starts)
	}
}
