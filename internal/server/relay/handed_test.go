package relay

import (
	"errors"
	"io"
	"net"
	"testing"
)

// tcpPair is both ends of a TCP connection: the one that a supervisor hands over,
// and the agent's.
func tcpPair(t *testing.T) (inside, agent *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	n, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = n.Close(), f.Close() })
	return n.(*net.TCPConn), f.(*net.TCPConn)
}

// handed opens a connection that is handed over.
func (w *world) handed(t *testing.T, box string, s control) (near net.Conn, agent *net.TCPConn) {
	t.Helper()
	out := w.open(box, Target{Port: 80})
	inside, agent := tcpPair(t)
	if err := w.hub.Take(box, asked(t, s).GetChannelId(), inside); err != nil {
		t.Fatal(err)
	}
	o := <-out
	if o.err != nil {
		t.Fatal(o.err)
	}
	return o.conn, agent
}

func TestHandedOver(t *testing.T) {
	w := newWorld(t, 0)
	near, agent := w.handed(t, "a", w.connect(t, "a"))
	if _, err := near.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	if err := near.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if all, err := io.ReadAll(agent); err != nil || string(all) != "ping" {
		t.Errorf("%q %v", all, err)
	}
	if _, err := agent.Write([]byte("pong")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(near, make([]byte, 4)); err != nil {
		t.Error(err)
	}
	if err := near.Close(); err != nil {
		t.Error(err)
	}
	if err := near.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed twice: %v", err)
	}
	if _, err := agent.Read(make([]byte, 1)); err == nil {
		t.Error("the connection goes on")
	}
}

// Only the sandbox that was asked can hand over, only while somebody waits, and
// what is not taken stays its giver's.
func TestHandedOverToWhom(t *testing.T) {
	w := newWorld(t, 0)
	s := w.connect(t, "a")
	w.connect(t, "b")
	out := w.open("a", Target{Port: 80})
	channel := asked(t, s).GetChannelId()
	inside, agent := tcpPair(t)
	for name, err := range map[string]error{"another sandbox": w.hub.Take("b", channel, inside), "another channel": w.hub.Take("a", channel+"x", inside)} {
		if !errors.Is(err, errNobody) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := w.hub.Take("a", channel, inside); err != nil {
		t.Fatal(err)
	}
	if o := <-out; o.err != nil {
		t.Fatal(o.err)
	}
	again, _ := tcpPair(t)
	if err := w.hub.Take("a", channel, again); !errors.Is(err, errNobody) && !errors.Is(err, errGone) {
		t.Errorf("a channel taken twice: %v", err)
	}
	if _, err := again.Write([]byte("x")); err != nil {
		t.Errorf("not taken, and closed: %v", err)
	}
	if _, err := agent.Write([]byte("x")); err != nil {
		t.Error(err)
	}
}

// A connection that was handed over leaves its place to others, so that there are
// more than the limit of those that burden the session.
func TestHandedOverLeavesItsPlace(t *testing.T) {
	w := newWorld(t, 0)
	s := w.connect(t, "a")
	for range 2 * MaxSandboxConnections {
		w.handed(t, "a", s)
	}
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	if w.hub.open != 0 || len(w.hub.openOf) != 0 || len(w.hub.pending) != 0 {
		t.Errorf("left over: %d open, %d pending", w.hub.open, len(w.hub.pending))
	}
}

func TestHandedOverEndsWithItsSession(t *testing.T) {
	w := newWorld(t, 0)
	near, agent := w.handed(t, "a", w.connect(t, "a"))
	defer near.Close()
	w.hub.Drop("a", "sandbox was deleted")
	if _, err := agent.Read(make([]byte, 1)); err == nil {
		t.Error("a connection outlived its session")
	}
	if _, err := near.Read(make([]byte, 1)); err == nil {
		t.Error("its near end can be read")
	}
}

// One that comes for a session that has just ended is closed as well.
func TestHandedOverAfterItsSession(t *testing.T) {
	w := newWorld(t, 0)
	s := w.connect(t, "b")
	out := w.open("b", Target{Port: 80})
	channel := asked(t, s).GetChannelId()
	p := w.hub.waiting("b", channel)
	p.session.end(errors.New("over"))
	inside, agent := tcpPair(t)
	if err := w.hub.Take("b", channel, inside); err != nil {
		_ = inside.Close() // its giver does
	}
	if o := <-out; o.err == nil {
		defer o.conn.Close()
	}
	if _, err := agent.Read(make([]byte, 1)); err == nil {
		t.Error("a connection began after its session had ended")
	}
}

// A stream that comes after the connection is not joined to anything.
func TestStreamAfterHandedOver(t *testing.T) {
	w := newWorld(t, 0)
	s := w.connect(t, "a")
	out := w.open("a", Target{Port: 80})
	channel := asked(t, s).GetChannelId()
	inside, _ := tcpPair(t)
	if err := w.hub.Take("a", channel, inside); err != nil {
		t.Fatal(err)
	}
	if o := <-out; o.err != nil {
		t.Fatal(o.err)
	}
	late := w.join(t, "a", channel)
	if f, err := late.Recv(); err == nil {
		t.Errorf("joined: %v", f)
	}
}
