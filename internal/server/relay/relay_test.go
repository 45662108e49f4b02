package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	openshellv1 "creel/api/openshell/v1"
	"creel/internal/budget"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a hub behind a real gRPC server. Callers say in metadata which sandbox
// they are: proving it is another package's business.
type world struct {
	openshellv1.UnimplementedOpenShellServer
	hub     *Hub
	api     openshellv1.OpenShellClient
	changed chan string
	ctx     context.Context
}

func who(ctx context.Context) string {
	md, _ := metadata.FromIncomingContext(ctx)
	return md.Get("box")[0]
}

func (w *world) ConnectSupervisor(s grpc.BidiStreamingServer[openshellv1.SupervisorMessage, openshellv1.GatewayMessage]) error {
	return w.hub.Serve(s, who(s.Context()))
}

func (w *world) RelayStream(s grpc.BidiStreamingServer[openshellv1.RelayFrame, openshellv1.RelayFrame]) error {
	return w.hub.Join(s, who(s.Context()))
}

func newWorld(t *testing.T, heartbeat time.Duration) *world {
	t.Helper()
	w := &world{changed: make(chan string, 1000)}
	w.hub = New(Config{Heartbeat: heartbeat, Changed: func(id string) { w.changed <- id }})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.WaitForHandlers(true))
	openshellv1.RegisterOpenShellServer(server, w)
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(l) }()
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	w.api = openshellv1.NewOpenShellClient(conn)
	var cancel context.CancelFunc
	w.ctx, cancel = context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(func() {
		w.hub.Close()
		cancel()
		server.Stop()
		<-served
		_ = conn.Close()
	})
	return w
}

func as(ctx context.Context, box string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "box", box)
}

type control = grpc.BidiStreamingClient[openshellv1.SupervisorMessage, openshellv1.GatewayMessage]
type data = grpc.BidiStreamingClient[openshellv1.RelayFrame, openshellv1.RelayFrame]

func (w *world) connect(t *testing.T, box string) control {
	t.Helper()
	s, err := w.api.ConnectSupervisor(as(w.ctx, box))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(&openshellv1.SupervisorMessage{Payload: &openshellv1.SupervisorMessage_Hello{Hello: &openshellv1.SupervisorHello{SandboxId: box}}}); err != nil {
		t.Fatal(err)
	}
	m, err := s.Recv()
	if err != nil || m.GetSessionAccepted().GetSessionId() == "" {
		t.Fatalf("%v %v", m, err)
	}
	if got := <-w.changed; got != box {
		t.Fatalf("changed %s", got)
	}
	return s
}

// asked reads messages until one asks for a relay.
func asked(t *testing.T, s control) *openshellv1.RelayOpen {
	t.Helper()
	for {
		m, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if o := m.GetRelayOpen(); o != nil {
			return o
		}
	}
}

func (w *world) join(t *testing.T, box, channel string) data {
	t.Helper()
	return w.joinWith(t, w.ctx, box, channel)
}

func (w *world) joinWith(t *testing.T, ctx context.Context, box, channel string) data {
	t.Helper()
	s, err := w.api.RelayStream(as(ctx, box))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(&openshellv1.RelayFrame{Payload: &openshellv1.RelayFrame_Init{Init: &openshellv1.RelayInit{ChannelId: channel}}}); err != nil {
		t.Fatal(err)
	}
	return s
}

func frame(b []byte) *openshellv1.RelayFrame {
	return &openshellv1.RelayFrame{Payload: &openshellv1.RelayFrame_Data{Data: b}}
}

type opened struct {
	conn net.Conn
	err  error
}

func (w *world) open(box string, target Target) <-chan opened {
	out := make(chan opened, 1)
	go func() {
		c, err := w.hub.Open(w.ctx, box, target)
		out <- opened{c, err}
	}()
	return out
}

// pair opens a connection and returns both of its ends.
func (w *world) pair(t *testing.T, box string, s control) (net.Conn, data) {
	t.Helper()
	out := w.open(box, Target{Port: 80})
	far := w.join(t, box, asked(t, s).GetChannelId())
	o := <-out
	if o.err != nil {
		t.Fatal(o.err)
	}
	return o.conn, far
}

func TestBothDirectionsAndHalfClose(t *testing.T) {
	w := newWorld(t, 0)
	s := w.connect(t, "a")
	near, far := w.pair(t, "a", s)
	defer near.Close()
	if err := far.Send(frame([]byte("hello"))); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 3)
	if _, err := io.ReadFull(near, got); err != nil || string(got) != "hel" {
		t.Fatalf("%q %v", got, err)
	}
	// This end says no more: the far end sees that, and still sends.
	if _, err := near.Write(bytes.Repeat([]byte("x"), 40<<10)); err != nil {
		t.Fatal(err)
	}
	if err := near.(*Conn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	n := 0
	for {
		f, err := far.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if len(f.GetData()) == 0 {
			break
		}
		if len(f.GetData()) > ChunkSize {
			t.Errorf("a frame of %d bytes", len(f.GetData()))
		}
		n += len(f.GetData())
	}
	if n != 40<<10 {
		t.Errorf("%d bytes before the end", n)
	}
	if _, err := near.Write([]byte("x")); err == nil {
		t.Error("written after the end")
	}
	if err := far.Send(frame([]byte(" world"))); err != nil {
		t.Fatal(err)
	}
	if err := far.CloseSend(); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(near)
	if err != nil || string(rest) != "lo world" {
		t.Errorf("%q %v", rest, err)
	}
}

// The far end may say "no more" in a frame and go on reading.
func TestFarHalfClose(t *testing.T) {
	w := newWorld(t, 0)
	near, far := w.pair(t, "a", w.connect(t, "a"))
	if err := errors.Join(far.Send(frame([]byte("bye"))), far.Send(frame(nil))); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(near); err != nil || string(rest) != "bye" {
		t.Fatalf("%q %v", rest, err)
	}
	if _, err := near.Write([]byte("still here")); err != nil {
		t.Fatal(err)
	}
	if f, err := far.Recv(); err != nil || string(f.GetData()) != "still here" {
		t.Fatalf("%v %v", f, err)
	}
	if err := near.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := far.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("a closed connection ends with %v", err)
	}
}

// A reader that does not read stops the writer, at either end, before much is held.
func TestBackPressure(t *testing.T) {
	const most = 4 << 20
	w := newWorld(t, 0)
	s := w.connect(t, "a")
	out := w.open("a", Target{Port: 80})
	channel := asked(t, s).GetChannelId()
	farCtx, reset := context.WithCancel(w.ctx)
	defer reset()
	far := w.joinWith(t, farCtx, "a", channel)
	near := (<-out).conn
	var mu sync.Mutex
	sent, farSent := 0, 0
	progress := make(chan struct{}, 1)
	moved := func(n *int) {
		mu.Lock()
		*n += ChunkSize
		mu.Unlock()
		select {
		case progress <- struct{}{}:
		default:
		}
	}
	var both sync.WaitGroup
	both.Go(func() {
		for {
			if _, err := near.Write(make([]byte, ChunkSize)); err != nil {
				return
			}
			moved(&sent)
		}
	})
	both.Go(func() {
		for far.Send(frame(make([]byte, ChunkSize))) == nil {
			moved(&farSent)
		}
	})
	for quiet := false; !quiet; {
		select {
		case <-progress:
			mu.Lock()
			if sent > most || farSent > most {
				t.Errorf("%d and %d bytes went where nobody reads", sent, farSent)
				quiet = true
			}
			mu.Unlock()
		case <-time.After(300 * time.Millisecond):
			quiet = true
		}
	}
	// Meanwhile another connection over the same session works.
	other, otherFar := w.pair(t, "a", s)
	if err := otherFar.Send(frame([]byte("ok"))); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(other, make([]byte, 2)); err != nil {
		t.Error(err)
	}
	// Closing ends a writer that waits: the far end is told to reset the stream.
	if err := errors.Join(near.Close(), other.Close()); err != nil {
		t.Error(err)
	}
	for {
		m, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if m.GetRelayClose().GetChannelId() == channel {
			break
		}
	}
	reset()
	both.Wait()
}

func TestLimits(t *testing.T) {
	w := newWorld(t, 0)
	s := w.connect(t, "a")
	var conns []net.Conn
	for range MaxSandboxConnections {
		c, _ := w.pair(t, "a", s)
		conns = append(conns, c)
	}
	if _, err := w.hub.Open(w.ctx, "a", Target{SSH: true}); !errors.Is(err, ErrBusy) {
		t.Errorf("one too many: %v", err)
	}
	_ = conns[0].Close()
	_ = conns[0].Close() // the place is given back once
	if c, _ := w.pair(t, "a", s); c == nil {
		t.Error("no place after one was given back")
	}
	if _, err := w.hub.Open(w.ctx, "a", Target{SSH: true}); !errors.Is(err, ErrBusy) {
		t.Errorf("one too many again: %v", err)
	}
	for n := 1; n < MaxConnections/MaxSandboxConnections; n++ {
		box := fmt.Sprint("box", n)
		other := w.connect(t, box)
		for range MaxSandboxConnections {
			w.pair(t, box, other)
		}
	}
	if _, err := w.hub.Open(w.ctx, "z", Target{SSH: true}); !errors.Is(err, ErrBusy) {
		t.Errorf("over all: %v", err)
	}
}

func TestOpenEndsInTime(t *testing.T) {
	t.Setenv(budget.SessionWait.Variable(), "50ms")
	t.Setenv(budget.RelayOpen.Variable(), "50ms")
	w := newWorld(t, 0)
	var expired *budget.Expired
	_, err := w.hub.Open(w.ctx, "a", Target{SSH: true})
	if !errors.Is(err, ErrNotConnected) || !errors.As(err, &expired) || expired.Budget != budget.SessionWait {
		t.Errorf("without a session: %v", err)
	}
	s := w.connect(t, "a")
	_, err = w.hub.Open(w.ctx, "a", Target{Port: 1})
	if !errors.As(err, &expired) || expired.Budget != budget.RelayOpen {
		t.Errorf("without a stream: %v", err)
	}
	channel := asked(t, s).GetChannelId()
	if m, err := s.Recv(); err != nil || m.GetRelayClose().GetChannelId() != channel {
		t.Errorf("the supervisor was not told: %v %v", m, err)
	}
	late := w.join(t, "a", channel)
	if _, err := late.Recv(); status.Code(err) != codes.NotFound {
		t.Errorf("a late stream: %v", err)
	}
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	if w.hub.open != 0 || len(w.hub.pending) != 0 || len(w.hub.openOf) != 0 {
		t.Errorf("left over: %d open, %d pending", w.hub.open, len(w.hub.pending))
	}
}

func TestRefusedAndForeign(t *testing.T) {
	w := newWorld(t, 0)
	s, thief := w.connect(t, "a"), w.connect(t, "b")
	out := w.open("a", Target{Port: 7})
	o := asked(t, s)
	if o.GetTcp().GetPort() != 7 || o.GetTcp().GetHost() != "127.0.0.1" {
		t.Errorf("asked for %v", o)
	}
	// Another sandbox can neither take the channel nor refuse it.
	if _, err := w.join(t, "b", o.GetChannelId()).Recv(); status.Code(err) != codes.NotFound {
		t.Errorf("a thief: %v", err)
	}
	result := &openshellv1.SupervisorMessage{Payload: &openshellv1.SupervisorMessage_RelayOpenResult{
		RelayOpenResult: &openshellv1.RelayOpenResult{ChannelId: o.GetChannelId(), Error: "nobody listens"}}}
	if err := thief.Send(result); err != nil {
		t.Fatal(err)
	}
	thiefDone := w.open("b", Target{Port: 8}) // proves that the thief's refusal was read
	refusal := &openshellv1.SupervisorMessage{Payload: &openshellv1.SupervisorMessage_RelayOpenResult{
		RelayOpenResult: &openshellv1.RelayOpenResult{ChannelId: asked(t, thief).GetChannelId(), Error: "mine"}}}
	if err := thief.Send(refusal); err != nil {
		t.Fatal(err)
	}
	if got := <-thiefDone; got.err == nil {
		t.Error("refused and opened")
	}
	select {
	case got := <-out:
		t.Fatalf("refused by another sandbox: %v", got.err)
	default:
	}
	if err := s.Send(result); err != nil {
		t.Fatal(err)
	}
	if got := <-out; got.err == nil || !bytes.Contains([]byte(got.err.Error()), []byte("nobody listens")) {
		t.Errorf("refused with %v", got.err)
	}
}

func TestNewerSessionTakesOver(t *testing.T) {
	w := newWorld(t, 0)
	old := w.connect(t, "a")
	near, _ := w.pair(t, "a", old)
	s := w.connect(t, "a")
	for {
		if _, err := old.Recv(); err != nil {
			if status.Code(err) != codes.Aborted {
				t.Errorf("the old session ended with %v", err)
			}
			break
		}
	}
	if _, err := near.Read(make([]byte, 1)); err == nil {
		t.Error("a connection outlived its session")
	}
	if got := <-w.changed; got != "a" { // the old one left
		t.Fatal(got)
	}
	if w.hub.Session("a") == nil {
		t.Fatal("the old session's end removed the new one")
	}
	w.pair(t, "a", s)
}

func TestSilentSupervisorIsDropped(t *testing.T) {
	w := newWorld(t, 250*time.Millisecond)
	s := w.connect(t, "a")
	beats := 0
	for {
		m, err := s.Recv()
		if err != nil {
			if status.Code(err) != codes.DeadlineExceeded {
				t.Errorf("ended with %v", err)
			}
			break
		}
		if m.GetHeartbeat() != nil {
			beats++
		}
	}
	if beats == 0 {
		t.Error("the gateway sent no heartbeat")
	}
	if <-w.changed; w.hub.Session("a") != nil {
		t.Error("the session is still there")
	}
	// One that answers stays.
	s = w.connect(t, "a")
	for range 4 { // more beats than a silent one is given
		if _, err := s.Recv(); err != nil {
			t.Fatal(err)
		}
		if err := s.Send(&openshellv1.SupervisorMessage{Payload: &openshellv1.SupervisorMessage_Heartbeat{Heartbeat: &openshellv1.SupervisorHeartbeat{}}}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCloseEndsEverything(t *testing.T) {
	w := newWorld(t, 0)
	s := w.connect(t, "a")
	near, _ := w.pair(t, "a", s)
	waiting := w.open("b", Target{SSH: true})
	w.hub.Close()
	if _, err := near.Read(make([]byte, 1)); err == nil {
		t.Error("a connection outlived the hub")
	}
	if got := <-waiting; !errors.Is(got.err, ErrNotConnected) {
		t.Errorf("who waited got %v", got.err)
	}
	if _, err := s.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the session ended with %v", err)
	}
	if _, err := w.hub.Open(w.ctx, "a", Target{SSH: true}); !errors.Is(err, ErrNotConnected) {
		t.Errorf("opened after the end: %v", err)
	}
}
