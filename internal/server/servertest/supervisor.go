package servertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"crypto/ed25519"
	"crypto/rand"

	"golang.org/x/crypto/ssh"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	creelv1 "creel/api/creel/v1"
	openshellv1 "creel/api/openshell/v1"
	"creel/internal/credential"
	"creel/internal/handover"
	"creel/internal/server"
	"creel/internal/server/remote"
)

// Address is host:port.
func Address(r server.Ready) string { return net.JoinHostPort(r.Host, strconv.Itoa(r.Port)) }

// Dialled is a connection to the gateway's Unix socket with a token; "" is none.
func Dialled(socket string, token func() string) (*grpc.ClientConn, error) {
	with := func(ctx context.Context) context.Context {
		if t := token(); t != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+t)
		}
		return ctx
	}
	return grpc.NewClient("passthrough:///gateway", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: Wait, Backoff: backoff.Config{BaseDelay: 5 * time.Millisecond, Multiplier: 1, MaxDelay: 20 * time.Millisecond}}),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, q, a any, c *grpc.ClientConn, call grpc.UnaryInvoker, o ...grpc.CallOption) error {
			return call(with(ctx), method, q, a, c, o...)
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, d *grpc.StreamDesc, c *grpc.ClientConn, method string, call grpc.Streamer, o ...grpc.CallOption) (grpc.ClientStream, error) {
			return call(with(ctx), d, c, method, o...)
		}))
}

// Supervisor stands in for a sandbox's supervisor: it speaks the same protocol,
// and runs commands as ordinary processes.
type Supervisor struct {
	ID    string
	Conn  *grpc.ClientConn
	token atomic.Pointer[string]

	// silent keeps it from reporting its state. handsOver is the socket to hand
	// connections over on; "" is none: then they are streams.
	silent    bool
	prefaced  bool
	handsOver string

	cancel context.CancelFunc
	done   chan struct{}
	lines  []*openshellv1.SandboxLogLine
}

func startSupervisor(socket, handsOver, id, token string, silent, prefaced bool, main string) (*Supervisor, error) {
	s := &Supervisor{ID: id, done: make(chan struct{}), silent: silent, prefaced: prefaced, handsOver: handsOver}
	s.token.Store(&token)
	conn, err := Dialled(socket, func() string { return *s.token.Load() })
	if err != nil {
		return nil, err
	}
	s.Conn = conn
	for i := range 3 {
		s.lines = append(s.lines, &openshellv1.SandboxLogLine{TimestampMs: time.Now().UnixMilli(), Level: "info", Source: "agent",
			Message: fmt.Sprintf("line %d", i), Fields: map[string]string{"seq": strconv.Itoa(i)}})
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go func() {
		defer close(s.done)
		for ctx.Err() == nil {
			_ = s.session(ctx, main)
			pause := time.NewTimer(10 * time.Millisecond)
			select {
			case <-pause.C:
			case <-ctx.Done():
			}
			pause.Stop()
		}
	}()
	return s, nil
}

// Stop ends the supervisor and waits for it.
func (s *Supervisor) Stop() {
	s.cancel()
	<-s.done
	_ = s.Conn.Close()
}

// State is what it reports.
func State(main string) *creelv1.SandboxState {
	return &creelv1.SandboxState{Confinement: &creelv1.Confinement{Tier: "namespaces", Protections: []*creelv1.Protection{{Name: "landlock", On: true, Detail: "ABI 7"}}},
		Main: &creelv1.MainProcess{State: main, Pid: 4242, InstanceId: "main-1", SinceMs: time.Now().UnixMilli()}, SupervisorPid: 4241}
}

func (s *Supervisor) session(ctx context.Context, main string) error {
	ctx, cancel := context.WithCancel(ctx)
	var relays sync.WaitGroup
	defer relays.Wait()
	defer cancel()
	api := openshellv1.NewOpenShellClient(s.Conn)
	stream, err := api.ConnectSupervisor(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&openshellv1.SupervisorMessage{Payload: &openshellv1.SupervisorMessage_Hello{
		Hello: &openshellv1.SupervisorHello{SandboxId: s.ID, InstanceId: "supervisor-1"}}}); err != nil {
		return err
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if first.GetSessionAccepted() == nil {
		return errors.New("not accepted")
	}
	logs, err := api.PushSandboxLogs(ctx)
	if err != nil {
		return err
	}
	if err := logs.Send(&openshellv1.PushSandboxLogsRequest{SandboxId: s.ID, Logs: s.lines}); err != nil {
		return err
	}
	if !s.silent {
		state := State(main)
		state.ReadsPreface = s.prefaced
		if _, err := creelv1.NewSupervisorClient(s.Conn).ReportState(ctx, &creelv1.ReportStateRequest{SandboxId: s.ID, State: state}); err != nil {
			return err
		}
	}
	ends := map[string]context.CancelFunc{}
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		if o := m.GetRelayOpen(); o != nil {
			ctx, end := context.WithCancel(ctx)
			ends[o.GetChannelId()] = end
			relays.Go(func() { _ = s.relay(ctx, api, o) })
		}
		if end := ends[m.GetRelayClose().GetChannelId()]; end != nil {
			end()
		}
	}
}

// relay joins a stream to a port of this machine, or to an SSH server, or hands the
// connection over.
func (s *Supervisor) relay(ctx context.Context, api openshellv1.OpenShellClient, o *openshellv1.RelayOpen) error {
	var inside net.Conn
	if o.GetTcp() != nil {
		var err error
		if inside, err = net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", o.GetTcp().GetPort())); err != nil {
			return err // no answer: the hub has to live with it
		}
		if s.handsOver != "" {
			defer inside.Close()
			return handover.Send(ctx, s.handsOver, handover.Offer{Channel: o.GetChannelId(), Token: credential.NewSecret(*s.token.Load())}, inside.(*net.TCPConn))
		}
	} else {
		ours, theirs := net.Pipe()
		inside = ours
		go serveSSH(theirs)
	}
	defer inside.Close()
	stream, err := api.RelayStream(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&openshellv1.RelayFrame{Payload: &openshellv1.RelayFrame_Init{Init: &openshellv1.RelayInit{ChannelId: o.GetChannelId()}}}); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = inside.Close() })
	defer stop()
	var up sync.WaitGroup
	up.Go(func() {
		buffer := make([]byte, 16<<10)
		for {
			n, err := inside.Read(buffer)
			if n > 0 && stream.Send(&openshellv1.RelayFrame{Payload: &openshellv1.RelayFrame_Data{Data: append([]byte(nil), buffer[:n]...)}}) != nil {
				return
			}
			if err != nil {
				_ = stream.CloseSend()
				return
			}
		}
	})
	defer up.Wait()
	for {
		f, err := stream.Recv()
		if err != nil {
			return inside.Close()
		}
		if len(f.GetData()) == 0 {
			if half, ok := inside.(*net.TCPConn); ok {
				_ = half.CloseWrite()
				continue
			}
			return inside.Close()
		}
		if _, err := inside.Write(f.GetData()); err != nil {
			return err
		}
	}
}

// serveSSH answers exec@creel channels with real processes.
func serveSSH(c net.Conn) {
	defer c.Close()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return
	}
	config := &ssh.ServerConfig{NoClientAuth: true}
	config.AddHostKey(signer)
	server, channels, requests, err := ssh.NewServerConn(c, config)
	if err != nil {
		return
	}
	defer server.Close()
	go ssh.DiscardRequests(requests)
	for ch := range channels {
		var command remote.Command
		if ch.ChannelType() != remote.ChannelType || json.Unmarshal(ch.ExtraData(), &command) != nil {
			_ = ch.Reject(ssh.UnknownChannelType, "only exec@creel")
			continue
		}
		go serveExec(ch, command)
	}
}

func serveExec(ch ssh.NewChannel, c remote.Command) {
	channel, requests, err := ch.Accept()
	if err != nil {
		return
	}
	defer channel.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if c.TimeoutSeconds > 0 {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(c.TimeoutSeconds)*time.Second)
		defer cancel()
	}
	go func() {
		ssh.DiscardRequests(requests) // ends with the channel
		cancel()
	}()
	if c.Command[0] == "vanish" { // a test's word: end without a status
		return
	}
	p := exec.CommandContext(ctx, c.Command[0], c.Command[1:]...)
	p.Dir = c.Workdir
	for k, v := range c.Env {
		p.Env = append(p.Env, k+"="+v)
	}
	p.Stdout, p.Stderr = channel, channel.Stderr()
	in, err := p.StdinPipe()
	if err != nil {
		return
	}
	code := 127
	if err := p.Start(); err == nil {
		go func() { _, _ = io.Copy(in, channel); _ = in.Close() }()
		_ = p.Wait()
		code = p.ProcessState.ExitCode()
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		code = 124
	}
	_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{uint32(code)}))
}
