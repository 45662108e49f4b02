package handover

import (
	"errors"
	"net"
	"path/filepath"
	"testing"

	"creel/internal/credential"
	"creel/internal/socket"
	"creel/test/stranger"
)

// Another user's socket in the gateway's place was shown a sandbox's token and got
// a connection into it.
func TestAnotherUsersGateway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "relay.sock")
	l := stranger.Listen(t, path)
	got := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			defer c.Close()
			_, _, err = Receive(c.(*net.UnixConn))
		}
		got <- err
	}()
	near, _ := pair(t)
	var is *socket.Stranger
	if err := Send(t.Context(), path, Offer{Token: credential.NewSecret(canary)}, near); !errors.As(err, &is) || is.UID != stranger.UID {
		t.Errorf("sent to another user: %v", err)
	}
	if err := <-got; err == nil {
		t.Error("another user received the token and the connection")
	}
}
