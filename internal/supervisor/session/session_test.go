package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	inferencev1 "creel/api/openshell/inference/v1"
	openshellv1 "creel/api/openshell/v1"
	"creel/internal/budget"
	"creel/internal/inference/relay"
	"creel/internal/sandbox"
	"creel/internal/supervisor/box/boxtest"
	"creel/internal/supervisor/logs"
	"creel/internal/supervisor/sshd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const canary = "sk-canary-77aa"

// rig is a client with a gateway beside it.
type rig struct {
	*Client
	gateway *gateway
	lines   *logs.Log
	state   chan sandbox.State // holds the current one
	box     *boxtest.Box
	token   string
	stop    context.CancelFunc
	done    chan struct{}
}

func start(t *testing.T, change func(*Config)) *rig {
	t.Helper()
	// The path holds what a URL could not.
	dir, err := os.MkdirTemp("", "creel %2f?#")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r := &rig{lines: logs.Open(nil), state: make(chan sandbox.State, 1), box: boxtest.New(t, 0), token: filepath.Join(dir, "token"), done: make(chan struct{})}
	if err := os.WriteFile(r.token, []byte("first-token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.gateway = newGateway(t, filepath.Join(dir, "gateway.sock"))
	server, err := sshd.New(sshd.Config{Box: r.box, Env: []string{"PATH=" + os.Getenv("PATH")}, Shell: "/bin/sh", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	r.state <- sandbox.State{SupervisorPID: 7, AgentPort: 18789, ReadsPreface: true, Main: sandbox.MainProcess{State: sandbox.ProcRunning, PID: 42}}
	cfg := Config{Socket: r.gateway.socket, TokenFile: r.token, SandboxID: "box-1", InstanceID: "instance-1",
		Log: slog.New(slog.DiscardHandler), Lines: r.lines, Dial: r.box.Dial, SSH: server.Serve,
		State: func() sandbox.State {
			s := <-r.state
			r.state <- s
			return s
		},
		Pace: Pace{Retry: time.Millisecond, First: 2 * time.Millisecond, Most: 20 * time.Millisecond, Stable: time.Hour,
			Watch: time.Millisecond, Heartbeat: time.Second, Routes: time.Hour, Fresh: time.Hour}}
	if change != nil {
		change(&cfg)
	}
	r.Client = New(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	r.stop = cancel
	go func() {
		defer close(r.done)
		r.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-r.done
	})
	return r
}

func TestSaysWhoAndHow(t *testing.T) {
	r := start(t, nil)
	r.gateway.await(t, "hello")
	r.gateway.await(t, "state")
	r.gateway.await(t, "heartbeat")
	r.gateway.locked(func() {
		h, s := r.gateway.hellos[0], r.gateway.states[0]
		if h.GetSandboxId() != "box-1" || h.GetInstanceId() != "instance-1" {
			t.Errorf("hello %v", h)
		}
		if s.GetMain().GetPid() != 42 || s.GetMain().GetState() != "running" || s.GetAgentPort() != 18789 || !s.GetReadsPreface() || s.GetSupervisorPid() != 7 || s.GetMain().LastExitCode != nil {
			t.Errorf("state %v", s)
		}
		for _, token := range r.gateway.tokens {
			if token != "Bearer first-token" {
				t.Errorf("token %q", token)
			}
		}
	})
	// A change is reported, and an end once.
	s := <-r.state
	s.Main.State = sandbox.ProcBackoff
	r.state <- s
	r.Exited("main-1", 137)
	r.gateway.await(t, "exit")
	r.gateway.locked(func() {
		if last := r.gateway.states[len(r.gateway.states)-1]; last.GetMain().GetState() != "backoff" {
			t.Errorf("state %v", last)
		}
		if e := r.gateway.exits; len(e) != 1 || e[0].GetExitCode() != 137 || e[0].GetInstanceId() != "main-1" || e[0].GetSandboxId() != "box-1" {
			t.Errorf("exits %v", e)
		}
	})
}

// The gateway dies three times, hard, and what it is told after each return is
// complete, without repeating an end that it has taken.
func TestGatewayRestarts(t *testing.T) {
	r := start(t, nil)
	r.gateway.await(t, "state")
	r.Exited("main-0", 1)
	r.gateway.await(t, "exit")
	for i := range 3 {
		// The next report comes when the answer to the last has arrived.
		r.Changed()
		r.gateway.await(t, "state")
		r.gateway.stop()
		r.lines.Add(logs.Agent, "info", fmt.Sprintf("while away %d", i))
		r.Exited(fmt.Sprintf("main-%d", i+1), i)
		r.gateway.start(t)
		r.gateway.await(t, "hello")
		r.gateway.await(t, "exit")
	}
	r.lines.Add(logs.Agent, "info", "end")
	for has := false; !has; {
		<-r.gateway.logged
		r.gateway.locked(func() {
			for _, m := range r.gateway.lines {
				has = has || m == "end"
			}
		})
	}
	r.gateway.locked(func() {
		if len(r.gateway.hellos) != 4 {
			t.Errorf("%d sessions", len(r.gateway.hellos))
		}
		seen := map[string]bool{}
		for _, e := range r.gateway.exits {
			if seen[e.GetInstanceId()] {
				t.Errorf("end of %s reported twice", e.GetInstanceId())
			}
			seen[e.GetInstanceId()] = true
		}
		if len(seen) != 4 {
			t.Errorf("ends %v", seen)
		}
		want := map[string]bool{"while away 0": true, "while away 1": true, "while away 2": true, "end": true}
		for _, m := range r.gateway.lines {
			delete(want, m)
		}
		if len(want) != 0 || len(r.gateway.lines) != 4 {
			t.Errorf("lines %v, missing %v", r.gateway.lines, want)
		}
	})
}

// With waits of an hour, only the new socket can be what ends them.
func TestNewSocketEndsTheWait(t *testing.T) {
	r := start(t, func(c *Config) { c.Pace.Retry, c.Pace.First, c.Pace.Most = time.Hour, time.Hour, time.Hour })
	r.gateway.await(t, "state")
	r.gateway.stop()
	r.gateway.start(t)
	r.gateway.await(t, "state")
}

// A gateway that is started again with another directory for sockets is found, and
// at once.
func TestMovedSocketEndsTheWait(t *testing.T) {
	var moved atomic.Pointer[string]
	r := start(t, func(c *Config) {
		c.Pace.Retry, c.Pace.First, c.Pace.Most = time.Hour, time.Hour, time.Hour
		c.Moved = func() string {
			if path := moved.Load(); path != nil {
				return *path
			}
			return ""
		}
	})
	r.gateway.await(t, "state")
	r.gateway.stop()
	r.gateway.socket += ".moved"
	path := r.gateway.socket
	r.gateway.start(t)
	moved.Store(&path)
	r.gateway.await(t, "state")
}

func TestRenewedTokenWorks(t *testing.T) {
	r := start(t, nil)
	r.gateway.await(t, "state")
	r.gateway.locked(func() { r.gateway.refuse = status.Error(codes.Unauthenticated, "expired") })
	r.gateway.stop()
	r.gateway.start(t)
	r.gateway.await(t, "refused")
	if err := os.WriteFile(r.token, []byte("second-token"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.gateway.locked(func() { r.gateway.refuse = nil })
	r.gateway.await(t, "state")
	r.gateway.locked(func() {
		if last := r.gateway.tokens[len(r.gateway.tokens)-1]; last != "Bearer second-token" {
			t.Errorf("token %q", last)
		}
	})
}

func TestTokenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	for content, ok := range map[string]bool{"abc.def\n": true, "": false, "\n": false, "a b": false, "a\x00": false, strings.Repeat("a", maxToken+1): false} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := tokenFile(path).GetRequestMetadata(t.Context())
		if (err == nil) != ok {
			t.Errorf("%.20q: %v", content, err)
		}
		if err != nil && len(content) > 2 && strings.Contains(err.Error(), content[:3]) {
			t.Errorf("the error repeats the token: %v", err)
		}
	}
	if _, err := tokenFile(path + "x").GetRequestMetadata(t.Context()); status.Code(err) != codes.Unauthenticated {
		t.Errorf("a missing file: %v", err)
	}
}

// A gateway that is connected but says nothing is left.
func TestSilentGateway(t *testing.T) {
	r := start(t, func(c *Config) { c.Pace.Heartbeat = 10 * time.Millisecond })
	r.gateway.await(t, "hello")
	r.gateway.locked(func() { r.gateway.mute = true })
	r.gateway.stop()
	r.gateway.start(t)
	r.gateway.await(t, "hello")
	r.gateway.await(t, "hello") // the session without a heartbeat was given up
}

func TestDelays(t *testing.T) {
	p := Defaults()
	var got []string
	for attempt := range 9 {
		got = append(got, p.delay(attempt).String())
	}
	if want := "100ms 1s 2s 4s 8s 16s 30s 30s 30s"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

// open has the gateway ask for a connection and returns its stream.
func (r *rig) open(t *testing.T, channelID string, o *openshellv1.RelayOpen) joined {
	t.Helper()
	o.ChannelId = channelID
	r.gateway.outgoing <- &openshellv1.GatewayMessage{Payload: &openshellv1.GatewayMessage_RelayOpen{RelayOpen: o}}
	select {
	case j := <-r.gateway.joined:
		if j.channelID != channelID {
			t.Fatalf("joined %q", j.channelID)
		}
		return j
	case <-time.After(10 * time.Second):
		t.Fatal("the supervisor did not come")
	}
	return joined{}
}

func tcp(host string, port int) *openshellv1.RelayOpen {
	return &openshellv1.RelayOpen{Target: &openshellv1.RelayOpen_Tcp{Tcp: &openshellv1.TcpRelayTarget{Host: host, Port: uint32(port)}}}
}

func data(b []byte) *openshellv1.RelayFrame {
	return &openshellv1.RelayFrame{Payload: &openshellv1.RelayFrame_Data{Data: b}}
}

// serve runs one connection of a server inside.
func serve(t *testing.T, f func(net.Conn)) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		f(c)
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return l.Addr().(*net.TCPAddr).Port
}

func TestRelayHalfCloses(t *testing.T) {
	r := start(t, nil)
	port := serve(t, func(c net.Conn) { // answers only after the end of its input
		all, _ := io.ReadAll(c)
		_, _ = c.Write(bytes.ToUpper(all))
	})
	j := r.open(t, "c1", tcp("127.0.0.1", port))
	defer close(j.end)
	for _, f := range []*openshellv1.RelayFrame{data([]byte("ab")), data([]byte("c")), data(nil)} {
		if err := j.stream.Send(f); err != nil {
			t.Fatal(err)
		}
	}
	var got []byte
	for {
		f, err := j.stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, f.GetData()...)
	}
	if string(got) != "ABC" {
		t.Errorf("got %q", got)
	}
}

// A large body passes whole in frames of at most 16 KiB, and a gateway that does
// not read stops the program inside instead of filling the supervisor's memory.
func TestRelayBackPressure(t *testing.T) {
	r := start(t, nil)
	const size = 8 << 20
	wrote := make(chan int, 1)
	stuck := make(chan struct{})
	port := serve(t, func(c net.Conn) {
		n, chunk := 0, make([]byte, 64<<10)
		_ = c.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
		for n < size {
			k, err := c.Write(chunk[:min(len(chunk), size-n)])
			if n += k; errors.Is(err, os.ErrDeadlineExceeded) {
				close(stuck) // nobody reads: this is where it has to stop
				_ = c.SetWriteDeadline(time.Time{})
			} else if err != nil {
				break
			}
		}
		wrote <- n
	})
	j := r.open(t, "c1", tcp("localhost", port))
	defer close(j.end)
	<-stuck
	total := 0
	for {
		f, err := j.stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("after %d bytes: %v", total, err)
		}
		if len(f.GetData()) > chunk {
			t.Fatalf("frame of %d bytes", len(f.GetData()))
		}
		total += len(f.GetData())
	}
	if n := <-wrote; total != n || n != size {
		t.Errorf("wrote %d, got %d", n, total)
	}
}

// What a program inside does not read stays at the gateway, but for the sockets'
// buffers and one window.
func TestRelayBackPressureInside(t *testing.T) {
	r := start(t, nil)
	over := make(chan struct{})
	port := serve(t, func(c net.Conn) {
		_ = c.(*net.TCPConn).SetReadBuffer(64 << 10)
		<-over
	})
	defer close(over)
	j := r.open(t, "c1", tcp("127.0.0.1", port))
	defer close(j.end)
	sent := make(chan int)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for j.stream.Send(data(make([]byte, chunk))) == nil {
			sent <- chunk
		}
	}()
	total := 0
	for quiet := false; !quiet; {
		select {
		case n := <-sent:
			if total += n; total > 16<<20 {
				t.Fatalf("%d bytes went where nobody reads", total)
			}
		case <-time.After(300 * time.Millisecond):
			quiet = true
		}
	}
	before := heap()
	if total < window {
		t.Errorf("only %d bytes went", total)
	}
	r.stop()
	for waiting := true; waiting; {
		select {
		case <-sent:
		case <-stopped:
			waiting = false
		}
	}
	<-r.done
	if freed := before - heap(); freed > 2*window {
		t.Errorf("%d bytes were in use for what nobody reads", freed)
	}
}

func heap() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

func TestRelayRefusals(t *testing.T) {
	r := start(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	for name, o := range map[string]*openshellv1.RelayOpen{
		"elsewhere": tcp("192.0.2.1", 80), "any address": tcp("0.0.0.0", 80), "port 0": tcp("127.0.0.1", 0), "port too large": tcp("127.0.0.1", 65536),
		"nothing": {}, "nobody listens": tcp("127.0.0.1", free),
	} {
		o.ChannelId = name
		r.gateway.outgoing <- &openshellv1.GatewayMessage{Payload: &openshellv1.GatewayMessage_RelayOpen{RelayOpen: o}}
		var result *openshellv1.RelayOpenResult
		for result == nil {
			<-r.gateway.resulted
			r.gateway.locked(func() { result = r.gateway.results[name] })
		}
		if result.GetSuccess() || result.GetError() == "" {
			t.Errorf("%s: %v", name, result)
		}
	}
}

// The gateway's end of a relay ends the connection inside, and so does the end
// of the session.
func TestRelayEndsWithTheGateway(t *testing.T) {
	for name, end := range map[string]func(*rig, joined){
		"stream":  func(_ *rig, j joined) { close(j.end) },
		"gateway": func(r *rig, _ joined) { r.gateway.stop(); r.gateway.server, r.gateway.served = nil, nil },
		"client":  func(r *rig, _ joined) { r.stop() },
	} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan struct{})
			port := serve(t, func(c net.Conn) {
				_, _ = io.Copy(io.Discard, c)
				close(ended)
			})
			r := start(t, nil)
			j := r.open(t, "c1", tcp("::1", port))
			end(r, j)
			<-ended
			if r.gateway.server == nil {
				r.gateway.start(t) // for the clean-up
			}
		})
	}
}

// frameConn makes a connection of a stream for an SSH client.
type frameConn struct {
	net.Conn // never used: there are no deadlines
	joined
	rest []byte
}

func (c *frameConn) Read(b []byte) (int, error) {
	for len(c.rest) == 0 {
		f, err := c.stream.Recv()
		if err != nil {
			return 0, err
		}
		c.rest = f.GetData()
	}
	n := copy(b, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *frameConn) Write(b []byte) (int, error) {
	for i := 0; i < len(b); i += chunk {
		if err := c.stream.Send(data(bytes.Clone(b[i:min(len(b), i+chunk)]))); err != nil {
			return i, err
		}
	}
	return len(b), nil
}

func (c *frameConn) Close() error         { return nil }
func (c *frameConn) LocalAddr() net.Addr  { return &net.UnixAddr{} }
func (c *frameConn) RemoteAddr() net.Addr { return &net.UnixAddr{} }

func TestRelayToSSH(t *testing.T) {
	r := start(t, nil)
	j := r.open(t, "ssh-1", &openshellv1.RelayOpen{Target: &openshellv1.RelayOpen_Ssh{Ssh: &openshellv1.SshRelayTarget{}}})
	connection, channels, requests, err := ssh.NewClientConn(&frameConn{joined: j}, "sandbox", &ssh.ClientConfig{HostKeyCallback: ssh.InsecureIgnoreHostKey()})
	if err != nil {
		t.Fatal(err)
	}
	client := ssh.NewClient(connection, channels, requests)
	s, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.Output("head -c 100000 /dev/zero | wc -c; cat /dev/null")
	if strings.TrimSpace(string(out)) != "100000" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
	close(j.end)
	_ = client.Wait()
}

func route(model, key string) *inferencev1.GetInferenceBundleResponse {
	return &inferencev1.GetInferenceBundleResponse{Routes: []*inferencev1.ResolvedRoute{
		{Name: systemRoute, BaseUrl: "http://system/v1", ModelId: "no"},
		{BaseUrl: "http://provider/v1/", ModelId: model, ApiKey: key, ProviderType: "openai"}}}
}

func TestRoutes(t *testing.T) {
	t.Setenv(budget.Probe.Variable(), "10s")
	r := start(t, nil)
	r.gateway.await(t, "routes")
	ctx := t.Context()
	if _, err := r.Routes().Route(ctx, false); !errors.Is(err, relay.ErrNoRoute) {
		t.Errorf("without a route: %v", err)
	}
	r.gateway.locked(func() { r.gateway.bundle = route("m1", canary) })
	if _, err := r.Routes().Route(ctx, false); !errors.Is(err, relay.ErrNoRoute) {
		t.Errorf("a fresh answer is asked for again: %v", err)
	}
	got, err := r.Routes().Route(ctx, true)
	if err != nil || got.Model != "m1" || got.BaseURL != "http://provider/v1" || got.Key.Reveal() != canary || got.Type != "openai" {
		t.Errorf("got %+v, %v", got, err)
	}
	if strings.Contains(fmt.Sprintf("%+v", got), canary) {
		t.Error("a route shows its key")
	}
	// While the gateway is away, what it said last serves.
	r.gateway.stop()
	if again, err := r.Routes().Route(ctx, true); err != nil || again != got {
		t.Errorf("got %+v, %v", again, err)
	}
	r.gateway.start(t)
	r.gateway.locked(func() { r.gateway.bundle = route("m2", canary) })
	r.gateway.await(t, "hello")
	r.gateway.await(t, "routes") // asked at once at the beginning of a session
	if again, err := r.Routes().Route(ctx, true); err != nil || again.Model != "m2" {
		t.Errorf("got %+v, %v", again, err)
	}
}

// An old answer is asked for again when a request comes.
func TestOldRouteIsAskedForAgain(t *testing.T) {
	r := start(t, func(c *Config) { c.Pace.Fresh = 0; c.Pace.Fresh = time.Nanosecond })
	r.gateway.await(t, "routes")
	r.gateway.locked(func() { r.gateway.bundle = route("m1", "") })
	if got, err := r.Routes().Route(t.Context(), false); err != nil || got.Model != "m1" {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestUnknownRouteIsNotNone(t *testing.T) {
	t.Setenv(budget.Probe.Variable(), "10ms")
	c := New(Config{Socket: filepath.Join(t.TempDir(), "none"), TokenFile: "none"})
	if _, err := c.Routes().Route(t.Context(), false); err == nil || errors.Is(err, relay.ErrNoRoute) {
		t.Errorf("a gateway that was never asked gives %v", err)
	}
}

// A program that asks at once, before the first session, gets the model.
func TestRequestBeforeTheFirstSession(t *testing.T) {
	t.Setenv(budget.Probe.Variable(), "20s")
	early := make(chan error, 1)
	r := start(t, func(c *Config) {
		c.Pace.Retry, c.Pace.First, c.Pace.Most = 50*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond
		c.Socket += ".later"
	})
	r.gateway.locked(func() { r.gateway.bundle = route("m1", canary) })
	go func() {
		_, err := r.Routes().Route(context.Background(), false)
		early <- err
	}()
	r.gateway.stop()
	r.gateway.socket += ".later"
	r.gateway.start(t)
	if err := <-early; err != nil {
		t.Errorf("got %v", err)
	}
}
