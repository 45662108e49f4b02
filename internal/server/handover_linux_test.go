package server_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"creel/internal/credential"
	"creel/internal/handover"
	"creel/internal/sandbox"
	"creel/internal/server/servertest"
	"creel/internal/server/token"
	"creel/test/require"
)

// loopbackConn is a connection that could be handed over.
func loopbackConn(t *testing.T) *net.TCPConn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn)
}

// Who cannot prove for which sandbox it speaks hands nothing over, nor does one
// that nobody asked.
func TestHandoverNeedsProof(t *testing.T) {
	g := servertest.Start(t)
	i := ready(t, g.Client(), "demo", sandbox.Spec{})
	genuine, err := token.Mint(g.Config.Material, "creel", i.ID, time.Now(), token.Life)
	if err != nil {
		t.Fatal(err)
	}
	other, err := token.Mint(servertest.Material(t), "creel", i.ID, time.Now(), token.Life)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		bearer credential.Secret
		says   string
	}{
		"no token":                     {credential.Secret{}, "token"},
		"nonsense":                     {credential.NewSecret("a.b.c"), "token"},
		"of another authority":         {other, "token"},
		"its own, but nobody asked it": {genuine, "nobody waits"},
	} {
		err := handover.Send(within(t), g.Config.Gateway.RelaySocket(), handover.Offer{Channel: "c", Token: c.bearer}, loopbackConn(t))
		var refused *handover.Refused
		if !errors.As(err, &refused) || !strings.Contains(refused.Reason, c.says) {
			t.Errorf("%s: %v", name, err)
		}
		if v := c.bearer.Reveal(); v != "" && err != nil && strings.Contains(err.Error(), v) {
			t.Errorf("%s: the token is repeated: %v", name, err)
		}
	}
}

func TestHandoverRefusesStrangers(t *testing.T) {
	require.Feature(t, "root", os.Geteuid() == 0, "run the tests as root: only root can act as two users")
	g := servertest.Start(t)
	socket := g.Config.Gateway.RelaySocket()
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	for dir := filepath.Dir(socket); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(socket, 0o666); err != nil {
		t.Fatal(err)
	}
	c, err := connectAs(stranger, socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("another user is answered: %d bytes, %v", n, err)
	}
}
