package session

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	creelv1 "creel/api/creel/v1"
	inferencev1 "creel/api/openshell/inference/v1"
	openshellv1 "creel/api/openshell/v1"
)

// gateway is a small one on a real socket. It outlives its servers, so that a
// test can stop and start it and see all that was ever said to it.
type gateway struct {
	openshellv1.UnimplementedOpenShellServer
	creelv1.UnimplementedSupervisorServer
	inferencev1.UnimplementedInferenceServer

	socket string
	events chan string // "hello", "state", "exit", "routes": in the order they came

	mu       sync.Mutex
	tokens   []string
	hellos   []*openshellv1.SupervisorHello
	states   []*creelv1.SandboxState
	exits    []*openshellv1.ReportMainProcessExitRequest
	lines    map[string]string // seq → message
	results  map[string]*openshellv1.RelayOpenResult
	bundle   *inferencev1.GetInferenceBundleResponse
	outgoing chan *openshellv1.GatewayMessage // to the session that is there
	joined   chan joined
	refuse   error
	mute     bool // sends no heartbeat
	beat     uint32
	logged   chan struct{} // holds one: lines came
	resulted chan struct{} // holds one: a result came

	server *grpc.Server
	served chan struct{}
}

// joined is a relay stream that came, and how to end it.
type joined struct {
	channelID string
	stream    grpc.BidiStreamingServer[openshellv1.RelayFrame, openshellv1.RelayFrame]
	end       chan struct{}
}

func newGateway(t *testing.T, socket string) *gateway {
	g := &gateway{socket: socket, events: make(chan string, 10000), lines: map[string]string{}, results: map[string]*openshellv1.RelayOpenResult{},
		outgoing: make(chan *openshellv1.GatewayMessage), joined: make(chan joined), logged: make(chan struct{}, 1), resulted: make(chan struct{}, 1),
		bundle: &inferencev1.GetInferenceBundleResponse{}}
	g.start(t)
	t.Cleanup(g.stop)
	return g
}

func (g *gateway) start(t *testing.T) {
	t.Helper()
	if err := os.Remove(g.socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", g.socket)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // as a killed gateway leaves it
	g.server, g.served = grpc.NewServer(), make(chan struct{})
	openshellv1.RegisterOpenShellServer(g.server, g)
	creelv1.RegisterSupervisorServer(g.server, g)
	inferencev1.RegisterInferenceServer(g.server, g)
	server, served := g.server, g.served
	go func() {
		defer close(served)
		_ = server.Serve(l)
	}()
}

// stop ends the server at once, as SIGKILL would.
func (g *gateway) stop() {
	g.server.Stop()
	<-g.served
}

func (g *gateway) did(event string) { g.events <- event }

// await drops events until the wanted one comes.
func (g *gateway) await(t *testing.T, want string) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case got := <-g.events:
			if got == want {
				return
			}
		case <-deadline:
			t.Fatalf("%q never came", want)
		}
	}
}

func (g *gateway) locked(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
}

func (g *gateway) check(ctx context.Context) error {
	md, _ := metadata.FromIncomingContext(ctx)
	g.mu.Lock()
	defer g.mu.Unlock()
	token := ""
	if v := md.Get("authorization"); len(v) == 1 {
		token = v[0]
	}
	g.tokens = append(g.tokens, token)
	return g.refuse
}

func (g *gateway) ConnectSupervisor(s grpc.BidiStreamingServer[openshellv1.SupervisorMessage, openshellv1.GatewayMessage]) error {
	if err := g.check(s.Context()); err != nil {
		g.did("refused")
		return err
	}
	first, err := s.Recv()
	if err != nil {
		return err
	}
	if first.GetHello() == nil {
		return status.Error(codes.InvalidArgument, "no hello")
	}
	g.mu.Lock()
	g.hellos = append(g.hellos, first.GetHello())
	beat, mute := g.beat, g.mute
	g.mu.Unlock()
	g.did("hello") // first: what follows it may come at once
	if err := s.Send(&openshellv1.GatewayMessage{Payload: &openshellv1.GatewayMessage_SessionAccepted{
		SessionAccepted: &openshellv1.SessionAccepted{SessionId: "s", HeartbeatIntervalSecs: beat}}}); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			m, err := s.Recv()
			if err != nil {
				return
			}
			if m.GetHeartbeat() != nil {
				g.did("heartbeat")
			}
			if r := m.GetRelayOpenResult(); r != nil {
				g.locked(func() { g.results[r.GetChannelId()] = r })
				select {
				case g.resulted <- struct{}{}:
				default:
				}
			}
		}
	}()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		var m *openshellv1.GatewayMessage
		select {
		case m = <-g.outgoing:
		case <-ticker.C:
			if mute {
				continue
			}
			m = &openshellv1.GatewayMessage{Payload: &openshellv1.GatewayMessage_Heartbeat{Heartbeat: &openshellv1.GatewayHeartbeat{}}}
		case <-ended:
			return nil
		case <-s.Context().Done():
			<-ended
			return s.Context().Err()
		}
		if err := s.Send(m); err != nil {
			return err
		}
	}
}

func (g *gateway) RelayStream(s grpc.BidiStreamingServer[openshellv1.RelayFrame, openshellv1.RelayFrame]) error {
	if err := g.check(s.Context()); err != nil {
		return err
	}
	first, err := s.Recv()
	if err != nil {
		return err
	}
	j := joined{channelID: first.GetInit().GetChannelId(), stream: s, end: make(chan struct{})}
	select {
	case g.joined <- j:
	case <-s.Context().Done():
		return nil
	}
	select {
	case <-j.end:
	case <-s.Context().Done():
	}
	return nil
}

func (g *gateway) PushSandboxLogs(s grpc.ClientStreamingServer[openshellv1.PushSandboxLogsRequest, openshellv1.PushSandboxLogsResponse]) error {
	if err := g.check(s.Context()); err != nil {
		return err
	}
	for {
		m, err := s.Recv()
		if err != nil {
			return err
		}
		g.locked(func() {
			for _, l := range m.GetLogs() {
				g.lines[l.GetFields()["seq"]] = l.GetMessage()
			}
		})
		select {
		case g.logged <- struct{}{}:
		default:
		}
	}
}

func (g *gateway) ReportMainProcessExit(ctx context.Context, r *openshellv1.ReportMainProcessExitRequest) (*openshellv1.ReportMainProcessExitResponse, error) {
	if err := g.check(ctx); err != nil {
		return nil, err
	}
	g.locked(func() { g.exits = append(g.exits, r) })
	g.did("exit")
	return &openshellv1.ReportMainProcessExitResponse{}, nil
}

func (g *gateway) ReportState(ctx context.Context, r *creelv1.ReportStateRequest) (*creelv1.ReportStateResponse, error) {
	if err := g.check(ctx); err != nil {
		return nil, err
	}
	g.locked(func() { g.states = append(g.states, r.GetState()) })
	g.did("state")
	return &creelv1.ReportStateResponse{}, nil
}

func (g *gateway) GetInferenceBundle(ctx context.Context, _ *inferencev1.GetInferenceBundleRequest) (*inferencev1.GetInferenceBundleResponse, error) {
	if err := g.check(ctx); err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.did("routes")
	return g.bundle, nil
}
