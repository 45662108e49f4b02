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
	after := dashboard(t, c, "demo")
	if after.Token.Reveal() == before.Token.Reveal() || after.Forward.Port != before.Forward.Port {
		t.Errorf("token replaced: %v; port %d, it was %d", after.Token.Reveal() != before.Token.Reveal(), after.Forward.Port, before.Forward.Port)
	}
	if s, ok := g.Driver.Secrets(i.ID); !ok || s.Dashboard.Reveal() != after.Token.Reveal() {
		t.Error("the driver keeps the old token")
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
