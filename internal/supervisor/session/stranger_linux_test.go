package session

import (
	"io"
	"path/filepath"
	"testing"

	"creel/test/stranger"
)

// A supervisor says nothing to a gateway's socket on which another user listens: its
// first call carries its token.
func TestAnotherUsersGateway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gateway.sock")
	l := stranger.Listen(t, path)
	heard := make(chan int, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			heard <- -1
			return
		}
		defer c.Close()
		all, _ := io.ReadAll(io.LimitReader(c, 1))
		heard <- len(all)
	}()
	c := New(Config{Socket: path})
	connection, err := c.connect()
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	connection.Connect()
	if n := <-heard; n != 0 {
		t.Errorf("another user heard %d bytes", n)
	}
}
