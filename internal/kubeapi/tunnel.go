package kubeapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"

	"creel/internal/advisory"
	"creel/internal/budget"
)

// The names of the Kubernetes API for what a port-forward is made of.
const (
	forwardProtocol = "portforward.k8s.io"
	tunnelProtocol  = "SPDY/3.1+" + forwardProtocol // SPDY frames in a WebSocket

	streamTypeHeader = "streamType"
	portHeader       = "port"
	requestHeader    = "requestID"
)

// pingEvery keeps idle tunnels from being cut by what is on the way.
const pingEvery = 10 * time.Second

// ErrNobodyListens is in the chain of what reading from a tunnel says when the
// pod's end could not be reached: mostly nobody listens on that port.
var ErrNobodyListens = errors.New("nobody listens in the pod")

// Tunnel is a port-forward to one pod.
//
// It is made of the protocols alone. client-go has a ready one, which links every
// type of core/v1: measured, 4 MB more executable instead of 0.3 MB.
type Tunnel struct {
	conn httpstream.Connection
	pod  string

	mu   sync.Mutex
	next int
}

// Forward opens a tunnel to a pod: through a WebSocket, and where the API does not
// know that (before 1.30) by an upgrade to SPDY.
func (c *Client) Forward(ctx context.Context, pod string) (*Tunnel, error) {
	operation := fmt.Sprintf("forward to pod %s/%s", c.options.Namespace, pod)
	caller := ctx
	ctx, cancel := budget.Context(ctx, budget.Cluster, operation)
	defer cancel()
	client, address, err := c.upgrader(pod)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", operation, err)
	}
	raw, err := throughWebSocket(ctx, client, address)
	if refused := (*handshakeRefused)(nil); errors.As(err, &refused) {
		// Also when it is forbidden: another verb is asked for.
		raw, err = throughSPDY(ctx, client, address)
	}
	if err != nil {
		return nil, c.options.aim(c.explainForward(caller, Fault(ctx, operation, err)))
	}
	conn, err := spdy.NewClientConnectionWithPings(raw, pingEvery)
	if err != nil {
		return nil, c.options.aim(Fault(ctx, operation, err))
	}
	return &Tunnel{conn: conn, pod: pod}, nil
}

// explainForward adds how to be allowed to.
func (c *Client) explainForward(ctx context.Context, err error) error {
	if p, ok := advisory.Of(err); ok && p.ID == "cluster-forbidden" && len(p.Hints) == 0 {
		p.Hints = c.Grant(ctx, Role{Name: "creel-forward", Verbs: "create", Resources: "pods/portforward"})
	}
	return err
}

// upgrader is a client that can leave HTTP/1.1, and the address where.
func (c *Client) upgrader(pod string) (*http.Client, string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.upgrade == nil {
		config := rest.CopyConfig(c.config)
		config.NextProtos = []string{"http/1.1"} // of HTTP/2 nothing is left to upgrade
		client, err := rest.HTTPClientFor(config)
		if err != nil {
			return nil, "", advisory.New("cluster-kubeconfig-invalid", "prepare to reach the cluster", Scrub(err))
		}
		c.upgrade = client
	}
	base, _, err := rest.DefaultServerUrlFor(c.config)
	if err != nil {
		return nil, "", advisory.New("cluster-kubeconfig-invalid", "prepare to reach the cluster", Scrub(err))
	}
	u := *base
	u.Path = strings.TrimRight(u.Path, "/") + c.Path("api/v1", "pods", pod, "portforward")
	return c.upgrade, u.String(), nil
}

// handshakeRefused is an answer of HTTP in place of an upgrade.
type handshakeRefused struct{ cause error }

func (h *handshakeRefused) Error() string { return h.cause.Error() }
func (h *handshakeRefused) Unwrap() error { return h.cause }

func throughWebSocket(ctx context.Context, client *http.Client, address string) (net.Conn, error) {
	conn, answer, err := websocket.Dial(ctx, address, &websocket.DialOptions{HTTPClient: client, Subprotocols: []string{tunnelProtocol}})
	switch {
	case err != nil && answer != nil:
		return nil, &handshakeRefused{err}
	case err != nil:
		return nil, err
	case conn.Subprotocol() != tunnelProtocol:
		_ = conn.CloseNow()
		return nil, &handshakeRefused{fmt.Errorf("the API speaks %q", conn.Subprotocol())}
	}
	// It lives until it is closed, not as long as the call that made it.
	return websocket.NetConn(context.Background(), conn, websocket.MessageBinary), nil
}

func throughSPDY(ctx context.Context, client *http.Client, address string) (net.Conn, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set(httpstream.HeaderConnection, httpstream.HeaderUpgrade)
	request.Header.Set(httpstream.HeaderUpgrade, spdy.HeaderSpdy31)
	request.Header.Set(httpstream.HeaderProtocolVersion, forwardProtocol)
	answer, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusSwitchingProtocols {
		return nil, refusal(answer)
	}
	both, ok := answer.Body.(io.ReadWriteCloser)
	if !ok {
		return nil, errors.Join(errors.New("the connection cannot be upgraded"), answer.Body.Close())
	}
	return upgraded{both}, nil
}

// refusal is the API's own error where the answer holds one.
func refusal(answer *http.Response) error {
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
	if err != nil {
		return err
	}
	var status metav1.Status
	if json.Unmarshal(body, &status) == nil && status.Kind == "Status" && status.Status == metav1.StatusFailure {
		return &apierrors.StatusError{ErrStatus: status}
	}
	return apierrors.NewGenericServerResponse(answer.StatusCode, "post", schema.GroupResource{Resource: "pods"}, "", "", 0, true)
}

// upgraded makes a connection of what an upgrade leaves: deadlines it has none, and
// addresses nobody asks for.
type upgraded struct{ io.ReadWriteCloser }

func (upgraded) LocalAddr() net.Addr              { return tunnelAddr("api") }
func (upgraded) RemoteAddr() net.Addr             { return tunnelAddr("api") }
func (upgraded) SetDeadline(time.Time) error      { return errors.ErrUnsupported }
func (upgraded) SetReadDeadline(time.Time) error  { return errors.ErrUnsupported }
func (upgraded) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }

type tunnelAddr string

func (a tunnelAddr) Network() string { return "tunnel" }
func (a tunnelAddr) String() string  { return string(a) }

// Close ends the tunnel and every connection through it.
func (t *Tunnel) Close() error { return t.conn.Close() }

// Done is closed when the tunnel has ended.
func (t *Tunnel) Done() <-chan bool { return t.conn.CloseChan() }

// Dial opens a connection to a port of the pod. That somebody listens there is only
// known when something was read: ErrNobodyListens is what reading says otherwise.
func (t *Tunnel) Dial(ctx context.Context, port int) (io.ReadWriteCloser, error) {
	type opened struct {
		conn *podConn
		err  error
	}
	ready := make(chan opened, 1)
	go func() {
		conn, err := t.open(port)
		ready <- opened{conn, err}
	}()
	select {
	case o := <-ready:
		if o.err != nil {
			return nil, fmt.Errorf("connect to port %d of pod %s: %w", port, t.pod, o.err)
		}
		return o.conn, nil
	case <-ctx.Done():
		_ = t.Close() // what does not answer now is of no use later
		return nil, fmt.Errorf("connect to port %d of pod %s: %w", port, t.pod, context.Cause(ctx))
	}
}

func (t *Tunnel) open(port int) (*podConn, error) {
	t.mu.Lock()
	id := strconv.Itoa(t.next)
	t.next++
	t.mu.Unlock()
	headers := func(kind string) http.Header {
		h := http.Header{}
		h.Set(streamTypeHeader, kind)
		h.Set(portHeader, strconv.Itoa(port))
		h.Set(requestHeader, id)
		return h
	}
	problem, err := t.conn.CreateStream(headers("error"))
	if err != nil {
		return nil, err
	}
	_ = problem.Close() // nothing is written to it
	data, err := t.conn.CreateStream(headers("data"))
	if err != nil {
		return nil, err
	}
	c := &podConn{Stream: data, said: make(chan string, 1)}
	go func() {
		const longest = 1000
		text, _ := io.ReadAll(io.LimitReader(problem, longest))
		c.said <- strings.TrimSpace(string(text))
		_, _ = io.Copy(io.Discard, problem)
		t.conn.RemoveStreams(problem, data)
	}()
	return c, nil
}

// podConn is one connection through a tunnel.
type podConn struct {
	httpstream.Stream
	said   chan string // what the other end says went wrong; empty when nothing did
	closed atomic.Bool // by this end
}

// complaint is how long the other end is given to say why it ended the connection.
// It says so, or that there is nothing to say, at about the same time.
const complaint = 2 * time.Second

// Read says why the connection ended, where the kubelet does.
func (c *podConn) Read(b []byte) (int, error) {
	n, err := c.Stream.Read(b)
	if n > 0 || err == nil || c.closed.Load() {
		return n, err
	}
	late := time.NewTimer(complaint)
	defer late.Stop()
	select {
	case text := <-c.said:
		c.said <- text
		if text != "" {
			return 0, fmt.Errorf("%w: %s", ErrNobodyListens, redact(text))
		}
	case <-late.C:
	}
	return 0, err
}

// CloseWrite tells the pod that nothing more will be written.
func (c *podConn) CloseWrite() error { return c.Stream.Close() }

// Close ends both directions.
func (c *podConn) Close() error {
	c.closed.Store(true)
	return c.Reset()
}
