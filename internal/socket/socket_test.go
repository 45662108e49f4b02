package socket

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
)

// A supervisor shows its token to whoever listens: that must be its own user.
func TestDialRefusesAStranger(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatalf("our own socket: %v", err)
	}
	_ = c.Close()
	var stranger *Stranger
	if _, err := dial(t.Context(), path, os.Geteuid()+1); !errors.As(err, &stranger) || int(stranger.UID) != os.Geteuid() || stranger.Path != path {
		t.Errorf("another user's socket: %v", err)
	}
	if _, err := Dial(t.Context(), path+"x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no socket: %v", err)
	}
}
