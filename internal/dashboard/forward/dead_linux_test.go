package forward

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"testing"
	"time"

	"creel/internal/budget"
	"creel/test/nethosts"
)

// A client that went off the wire without a word is found out, and the connection
// inside ends; one that is only silent is not.
func TestDeadClient(t *testing.T) {
	t.Setenv(budget.ForwardDead.Variable(), "2s")
	here, there := nethosts.Pair(t)
	inside, agent := pair(t)
	quiet, quietAgent := pair(t)
	targets := make(chan net.Conn, 2)
	targets <- inside
	targets <- quiet
	var f *Forward
	if err := here.Do(func() (err error) {
		f, err = Listen(t.Context(), Wanted{Bind: "0.0.0.0"}, func(context.Context, net.Conn) (net.Conn, error) { return <-targets, nil }, slog.New(slog.DiscardHandler))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dead, err := there.Dial(fmt.Sprintf("%s:%d", here.Address, f.Port()))
	if err != nil {
		t.Fatal(err)
	}
	defer dead.Close()
	exchange(t, dead, agent)
	silent, err := here.Dial(fmt.Sprintf("127.0.0.1:%d", f.Port()))
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	exchange(t, silent, quietAgent)
	if err := there.Unplug(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	_ = agent.SetReadDeadline(began.Add(30 * time.Second))
	if n, err := agent.Read(make([]byte, 1)); n != 0 || err == nil || time.Since(began) > 20*time.Second {
		t.Errorf("after %s the agent of a dead client reads %d bytes, %v", time.Since(began), n, err)
	}
	exchange(t, silent, quietAgent)
}

// exchange proves that a connection is through.
func exchange(t *testing.T, client, agent net.Conn) {
	t.Helper()
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	_ = agent.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := agent.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}
