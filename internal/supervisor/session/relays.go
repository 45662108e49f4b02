package session

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"

	openshellv1 "creel/api/openshell/v1"
	"creel/internal/budget"
	"creel/internal/handover"
	"creel/internal/supervisor/sshd"
)

// chunk is how many bytes travel in one frame.
const chunk = 16 << 10

// linger is how long the gateway has to end a stream whose connection inside has
// ended in both directions.
const linger = 30 * time.Second

// maxRelays bounds the connections of a session; the gateway opens fewer.
const maxRelays = 64

type frames = grpc.BidiStreamingClient[openshellv1.RelayFrame, openshellv1.RelayFrame]

// relays are the connections of one session.
type relays struct {
	session *session
	all     sync.WaitGroup

	mu   sync.Mutex
	open map[string]context.CancelFunc // by channel id, until the stream is joined
	n    int
}

func (r *relays) wait() { r.all.Wait() }

// cancel ends the opening of a channel that nobody waits for any more.
func (r *relays) cancel(channelID string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if stop := r.open[channelID]; stop != nil {
		stop()
	}
}

// start serves one RelayOpen.
func (r *relays) start(ctx context.Context, o *openshellv1.RelayOpen) {
	r.mu.Lock()
	if r.n >= maxRelays {
		r.mu.Unlock()
		r.all.Go(func() { r.result(ctx, o.GetChannelId(), errors.New("too many connections into the sandbox")) })
		return
	}
	r.n++
	ctx, cancel := context.WithCancel(ctx)
	r.open[o.GetChannelId()] = cancel
	r.mu.Unlock()
	r.all.Go(func() {
		defer func() {
			cancel()
			r.mu.Lock()
			r.n--
			delete(r.open, o.GetChannelId())
			r.mu.Unlock()
		}()
		r.serve(ctx, o)
	})
}

// serve connects inside and hands the connection over, or opens a stream and joins
// the two.
func (r *relays) serve(ctx context.Context, o *openshellv1.RelayOpen) {
	inside, finish, err := r.session.dial(ctx, o)
	if err != nil {
		r.result(ctx, o.GetChannelId(), err)
		return
	}
	defer finish()
	if tcp, is := inside.(*net.TCPConn); is && r.session.handOver(ctx, o.GetChannelId(), tcp) {
		_ = inside.Close() // the gateway has it
		r.result(ctx, o.GetChannelId(), nil)
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := r.session.openshell.RelayStream(ctx)
	if err == nil {
		err = s.Send(&openshellv1.RelayFrame{Payload: &openshellv1.RelayFrame_Init{Init: &openshellv1.RelayInit{ChannelId: o.GetChannelId()}}})
	}
	if err != nil {
		_ = inside.Close()
		r.result(ctx, o.GetChannelId(), fmt.Errorf("open relay stream: %w", err))
		return
	}
	r.result(ctx, o.GetChannelId(), nil)
	join(ctx, cancel, s, inside)
}

// handOver gives a connection to the gateway. false: it did not take it, as one
// that knows only streams.
func (c *Client) handOver(ctx context.Context, channelID string, inside *net.TCPConn) bool {
	if c.cfg.RelaySocket == nil {
		return false
	}
	token, err := tokenFile(c.cfg.TokenFile).read()
	if err != nil {
		return false // the stream will say so
	}
	ctx, cancel := budget.Context(ctx, budget.Probe, "hand a connection over to the gateway")
	defer cancel()
	err = handover.Send(ctx, c.cfg.RelaySocket(c.socket()), handover.Offer{Channel: channelID, Token: token}, inside)
	return err == nil
}

// dial connects to what a RelayOpen names. finish returns when what serves the
// connection inside has ended; call it after closing the connection.
func (c *Client) dial(ctx context.Context, o *openshellv1.RelayOpen) (inside net.Conn, finish func(), err error) {
	switch target := o.GetTarget().(type) {
	case *openshellv1.RelayOpen_Ssh:
		ours, theirs := net.Pipe()
		served := make(chan struct{})
		go func() {
			defer close(served)
			c.cfg.SSH(ctx, theirs)
		}()
		return ours, func() { <-served }, nil
	case *openshellv1.RelayOpen_Tcp:
		host, port := target.Tcp.GetHost(), target.Tcp.GetPort()
		if !sshd.Loopback(host) || port == 0 || port > 65535 {
			return nil, nil, fmt.Errorf("only loopback ports of the sandbox can be reached, not %q port %d", host, port)
		}
		dialling, cancel := budget.Context(ctx, budget.TCP, fmt.Sprintf("connect to port %d inside", port))
		defer cancel()
		inside, err = c.cfg.Dial(dialling, int(port))
		return inside, func() {}, err
	}
	return nil, nil, errors.New("this target is not known")
}

func (r *relays) result(ctx context.Context, channelID string, err error) {
	result := &openshellv1.RelayOpenResult{ChannelId: channelID, Success: err == nil}
	if err != nil {
		result.Error = err.Error()
	}
	select {
	case r.session.out <- &openshellv1.SupervisorMessage{Payload: &openshellv1.SupervisorMessage_RelayOpenResult{RelayOpenResult: result}}:
	case <-ctx.Done():
	}
}

// join copies between a stream and a connection until both directions have
// ended. Each direction ends by itself: a closed sending side is passed on, and
// the other goes on. cancel ends the stream.
func join(ctx context.Context, cancel context.CancelFunc, s frames, inside net.Conn) {
	stop := context.AfterFunc(ctx, func() { _ = inside.Close() })
	defer stop()
	ended := make(chan struct{})    // nothing more comes from the gateway
	alive := make(chan struct{}, 1) // something came, and went inside
	go func() {
		defer close(ended)
		down(s, inside, alive)
	}()
	up(s, inside)
	// The gateway may have more for inside. What is closed there only shows when
	// something is sent to it, so silence ends the connection as well.
	timer := time.NewTimer(linger)
	defer timer.Stop()
	for waiting := true; waiting; {
		select {
		case <-alive:
			timer.Reset(linger)
		case <-timer.C:
			cancel()
		case <-ended: // also when ctx ends
			waiting = false
		}
	}
	_ = inside.Close()
}

// up copies from inside to the gateway.
func up(s frames, inside net.Conn) {
	buffer := make([]byte, chunk)
	for {
		n, err := inside.Read(buffer)
		if n > 0 && s.Send(&openshellv1.RelayFrame{Payload: &openshellv1.RelayFrame_Data{Data: buffer[:n]}}) != nil {
			return // the stream has ended
		}
		if err != nil {
			_ = s.CloseSend()
			return
		}
	}
}

// down copies from the gateway to inside.
func down(s frames, inside net.Conn, alive chan<- struct{}) {
	broken := false
	for {
		f, err := s.Recv()
		if err != nil { // the gateway has closed the connection, not only its sending side
			_ = inside.Close()
			return
		}
		data := f.GetData()
		switch {
		case broken: // taken and dropped, so that what inside still says gets through
			continue
		case len(data) == 0:
			closeWrite(inside)
		default:
			if _, err := inside.Write(data); err != nil {
				broken = true
				continue
			}
		}
		select {
		case alive <- struct{}{}:
		default:
		}
	}
}

func closeWrite(c net.Conn) {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
		return
	}
	_ = c.Close()
}
