// Package session keeps a supervisor in touch with its gateway: it dials the
// gateway's Unix socket, says what the sandbox does, opens the connections into
// the sandbox that the gateway asks for, and learns which model answers. The
// sandbox goes on whatever happens here.
package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"creel/internal/credential"
	"creel/internal/sandbox"
	"creel/internal/socket"
	"creel/internal/supervisor/logs"
)

// Config is what a client needs.
type Config struct {
	Socket string // the gateway's Unix socket
	// Moved, if not nil, tells where the socket is by now: a gateway may be started
	// again with another directory for sockets. Empty is where it was.
	Moved func() string
	// RelaySocket tells where the gateway of a socket takes connections into the
	// sandbox; a gateway without it gets them as streams. nil is none.
	RelaySocket func(socket string) string
	TokenFile   string // read for every call, so that a renewed token works at once
	SandboxID   string
	InstanceID  string // of this supervisor, new at every start
	Log         *slog.Logger
	Lines       *logs.Log
	// State is what the sandbox is like now; called after every Changed.
	State func() sandbox.State
	// Dial connects to a loopback port inside the sandbox.
	Dial func(ctx context.Context, port int) (net.Conn, error)
	// SSH serves one connection of the supervisor's SSH server until it ends.
	SSH func(ctx context.Context, c net.Conn)
	// Pace is how often things happen; zero is Defaults.
	Pace Pace
}

// Pace is how often things happen.
type Pace struct {
	Retry     time.Duration // before the first new attempt
	First     time.Duration // before the second; doubled from there
	Most      time.Duration // the longest wait between attempts
	Stable    time.Duration // a session of this length starts the waits anew
	Watch     time.Duration // how often the socket is looked at during a wait
	Heartbeat time.Duration // unless the gateway asks for another
	Routes    time.Duration // between questions for the inference route
	Fresh     time.Duration // how old a route may be when a request comes
}

// Defaults are the paces of a real supervisor.
func Defaults() Pace {
	return Pace{Retry: 100 * time.Millisecond, First: time.Second, Most: 30 * time.Second, Stable: 10 * time.Second, Watch: 200 * time.Millisecond,
		Heartbeat: 15 * time.Second, Routes: 10 * time.Second, Fresh: 2 * time.Second}
}

// silence is how many heartbeats may be missing before a session counts as dead.
const silence = 3

// exit is an end of the main process that the gateway has not yet heard of.
type exit struct {
	instanceID string
	code       int
}

// maxExits bounds what is remembered for a gateway that is away for long.
const maxExits = 16

// Client keeps the session up.
type Client struct {
	cfg    Config
	routes *Routes

	changed chan struct{} // holds one: the state is to be reported
	mu      sync.Mutex
	exits   []exit
	wanted  uint64        // changes so far
	told    uint64        // of which the gateway knows so many
	settled chan struct{} // closed and replaced when told reaches wanted
}

// New makes a client; nothing is dialled before Run.
func New(cfg Config) *Client {
	if cfg.Pace == (Pace{}) {
		cfg.Pace = Defaults()
	}
	return &Client{cfg: cfg, changed: make(chan struct{}, 1), settled: make(chan struct{}),
		routes: &Routes{fresh: cfg.Pace.Fresh, first: make(chan struct{})}}
}

// window is how much the gateway may send on one stream before it was read, in
// bytes.
const window = 256 << 10

// connect makes the connection of one session. The waits between sessions are
// Run's, so a connection that fails is not tried again by itself.
func (c *Client) connect() (*grpc.ClientConn, error) {
	connection, err := grpc.NewClient("passthrough:///gateway", // the dialler takes the path itself: a path need not be a valid URL
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return socket.Dial(ctx, c.socket()) // a token goes over it
		}),
		grpc.WithTransportCredentials(insecure.NewCredentials()), // a Unix socket: the kernel says who is there
		grpc.WithPerRPCCredentials(tokenFile(c.cfg.TokenFile)),
		grpc.WithReadBufferSize(16<<10), grpc.WithWriteBufferSize(16<<10),
		// Fixed: a window that grows is memory of this process for what is not read.
		grpc.WithInitialWindowSize(window), grpc.WithInitialConnWindowSize(4*window),
	)
	if err != nil {
		return nil, fmt.Errorf("make client of the gateway: %w", err)
	}
	return connection, nil
}

// socket is where the gateway is now.
func (c *Client) socket() string {
	if c.cfg.Moved != nil {
		if path := c.cfg.Moved(); path != "" {
			return path
		}
	}
	return c.cfg.Socket
}

// Routes says which model answers, as the gateway last said.
func (c *Client) Routes() *Routes { return c.routes }

// Changed has the state reported soon.
func (c *Client) Changed() {
	c.mu.Lock()
	c.wanted++
	c.mu.Unlock()
	c.wake()
}

// Settled is closed once the gateway knows of every change so far.
func (c *Client) Settled() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.told == c.wanted {
		done := make(chan struct{})
		close(done)
		return done
	}
	return c.settled
}

func (c *Client) wake() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// Exited has the end of the main process reported, when the gateway is there.
func (c *Client) Exited(instanceID string, code int) {
	c.mu.Lock()
	c.exits = append(c.exits, exit{instanceID, code})
	if len(c.exits) > maxExits {
		c.exits = c.exits[1:]
	}
	c.mu.Unlock()
	c.Changed()
}

// Run holds a session until ctx ends, whatever becomes of the gateway.
func (c *Client) Run(ctx context.Context) {
	attempt, quiet := 0, false
	for ctx.Err() == nil {
		begun, socket := time.Now(), identity(c.socket())
		established, err := c.session(ctx)
		if ctx.Err() != nil {
			return
		}
		if established {
			quiet = false
			if time.Since(begun) >= c.cfg.Pace.Stable {
				attempt = 0
			}
		}
		if !quiet { // once an outage, not once an attempt
			c.cfg.Log.Warn("no session with the gateway; trying again", slog.String("reason", reason(err)))
			quiet = true
		}
		if c.wait(ctx, c.cfg.Pace.delay(attempt), socket) {
			attempt = 0
		} else {
			attempt++
		}
	}
}

// delay is the wait after so many failed attempts, before jitter.
func (p Pace) delay(attempt int) time.Duration {
	if attempt == 0 {
		return p.Retry
	}
	d := p.First
	for ; attempt > 1 && d < p.Most; attempt-- {
		d *= 2
	}
	return min(d, p.Most)
}

// wait waits for about d, or until another socket lies where before was, which is
// what a gateway that was started again leaves; then it returns true.
func (c *Client) wait(ctx context.Context, d time.Duration, before os.FileInfo) (appeared bool) {
	timer := time.NewTimer(d*3/4 + rand.N(d/2+1))
	defer timer.Stop()
	watch := time.NewTicker(c.cfg.Pace.Watch)
	defer watch.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return false
		case <-watch.C:
			if now := identity(c.socket()); now != nil && (before == nil || !os.SameFile(before, now) || !before.ModTime().Equal(now.ModTime())) {
				return true
			}
		}
	}
}

// identity is what the file at path is, nil without one.
func identity(path string) os.FileInfo {
	info, err := os.Lstat(path)
	if err != nil {
		return nil
	}
	return info
}

// reason is an error for the log; an ended session is no error to gRPC.
func reason(err error) string {
	if err == nil {
		return "the gateway ended the session"
	}
	if s, ok := status.FromError(err); ok && s.Code() != codes.Unknown {
		return fmt.Sprintf("%s: %s", s.Code(), s.Message())
	}
	return err.Error()
}

// tokenFile adds the token in a file to every call.
type tokenFile string

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (t tokenFile) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	token, err := t.read()
	if err != nil {
		return nil, status.Error(codes.Unauthenticated, err.Error())
	}
	return map[string]string{"authorization": "Bearer " + token.Reveal()}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (tokenFile) RequireTransportSecurity() bool { return false }

// maxToken bounds what is read of the file.
const maxToken = 16 << 10

func (t tokenFile) read() (credential.Secret, error) {
	b, err := os.ReadFile(string(t))
	if err != nil {
		return credential.Secret{}, fmt.Errorf("read token: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if token == "" || len(token) > maxToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return credential.Secret{}, errors.New("read token: the file holds none")
	}
	return credential.NewSecret(token), nil
}
