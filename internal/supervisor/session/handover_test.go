package session

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	openshellv1 "creel/api/openshell/v1"
	"creel/internal/handover"
)

// taker is the part of a gateway that takes connections.
type taker struct {
	socket string
	taken  chan taking
	refuse error
}

type taking struct {
	offer handover.Offer
	conn  *net.TCPConn
	err   error
}

func newTaker(t *testing.T, refuse error) *taker {
	t.Helper()
	dir, err := os.MkdirTemp("", "creel")
	if err != nil {
		t.Fatal(err)
	}
	k := &taker{socket: filepath.Join(dir, "relay.sock"), taken: make(chan taking, 10), refuse: refuse}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: k.socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			u, err := l.AcceptUnix()
			if err != nil {
				return
			}
			_ = u.SetDeadline(time.Now().Add(20 * time.Second))
			k.take(u)
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
		_ = os.RemoveAll(dir)
	})
	return k
}

func (k *taker) take(u *net.UnixConn) {
	defer u.Close()
	var got taking
	got.offer, got.conn, got.err = handover.Receive(u)
	if k.refuse != nil && got.conn != nil {
		_ = got.conn.Close()
	}
	k.taken <- got
	_ = handover.Answer(u, errors.Join(got.err, k.refuse))
}

// shout answers in capitals, once it has all.
func shout(c net.Conn) {
	all, _ := io.ReadAll(c)
	_, _ = c.Write(bytes.ToUpper(all))
}

// A connection to a program inside is given to the gateway whole: what it carries
// no longer passes the supervisor.
func TestConnectionIsHandedOver(t *testing.T) {
	k := newTaker(t, nil)
	r := start(t, func(c *Config) { c.RelaySocket = func(string) string { return k.socket } })
	port := serve(t, shout)
	o := tcp("127.0.0.1", port)
	o.ChannelId = "c1"
	r.gateway.outgoing <- &openshellv1.GatewayMessage{Payload: &openshellv1.GatewayMessage_RelayOpen{RelayOpen: o}}
	got := <-k.taken
	if got.err != nil || got.offer.Channel != "c1" || got.offer.Token.Reveal() != "first-token" {
		t.Fatalf("taken %+v", got)
	}
	defer got.conn.Close()
	for done := false; !done; {
		<-r.gateway.resulted
		r.gateway.locked(func() { done = r.gateway.results["c1"].GetSuccess() })
	}
	r.stop() // it has let go of the connection
	<-r.done
	if _, err := got.conn.Write([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	if err := got.conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if all, err := io.ReadAll(got.conn); err != nil || string(all) != "ABC" {
		t.Errorf("%q %v", all, err)
	}
}

// A gateway that takes no connections, as one of another version, gets a stream.
func TestStreamWhereNothingIsTaken(t *testing.T) {
	refusing := newTaker(t, errors.New("not I"))
	for name, socket := range map[string]string{"no socket": filepath.Join(t.TempDir(), "none"), "refused": refusing.socket} {
		t.Run(name, func(t *testing.T) {
			r := start(t, func(c *Config) { c.RelaySocket = func(string) string { return socket } })
			j := r.open(t, "c1", tcp("127.0.0.1", serve(t, shout)))
			defer close(j.end)
			for _, f := range []*openshellv1.RelayFrame{data([]byte("abc")), data(nil)} {
				if err := j.stream.Send(f); err != nil {
					t.Fatal(err)
				}
			}
			if f, err := j.stream.Recv(); err != nil || string(f.GetData()) != "ABC" {
				t.Errorf("%v %v", f, err)
			}
		})
	}
	if got := <-refusing.taken; got.err != nil {
		t.Errorf("the refusing gateway was not asked properly: %v", got.err)
	}
}
