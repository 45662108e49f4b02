// Package remote runs commands inside sandboxes: an SSH channel of type
// "exec@creel" to the supervisor's own SSH server, over one connection a session.
package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
)

// ChannelType is the SSH channel type of one command.
const ChannelType = "exec@creel"

// maxExtra is how much of a command travels in the packet that opens its channel.
// That one has 256 KiB in all, and one that is larger would break the connection
// under every other command.
const maxExtra = 32 << 10

// Command is the channel's extra data, or its first data when it is longer than
// maxExtra; the extra data then only announces its length.
type Command struct {
	Command        []string          `json:"command"`
	Workdir        string            `json:"workdir,omitempty"`
	Env            map[string]string `json:"env,omitempty"`
	TTY            bool              `json:"tty,omitempty"`
	Cols           int               `json:"cols,omitempty"`
	Rows           int               `json:"rows,omitempty"`
	TimeoutSeconds int               `json:"timeout_seconds,omitempty"`
}

// Dial opens a connection to the SSH server of a sandbox's supervisor.
type Dial func(ctx context.Context, sandboxID string) (net.Conn, error)

// Runner keeps one SSH connection a sandbox, so that a command costs one channel
// and no handshake.
type Runner struct {
	dial Dial

	mu    sync.Mutex
	lines map[string]*line
}

// line is the connection of one sandbox; made once, by whoever comes first.
type line struct {
	made   chan struct{} // closed when client or err is set
	client *ssh.Client
	err    error
}

// New returns a runner without connections.
func New(dial Dial) *Runner { return &Runner{dial: dial, lines: map[string]*line{}} }

// Close ends all connections.
func (r *Runner) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, l := range r.lines {
		delete(r.lines, id)
		l.closeWhenMade()
	}
}

// Drop ends a sandbox's connection, as when its session was replaced.
func (r *Runner) Drop(sandboxID string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l := r.lines[sandboxID]; l != nil {
		delete(r.lines, sandboxID)
		l.closeWhenMade()
	}
}

func (l *line) closeWhenMade() {
	select {
	case <-l.made:
		if l.client != nil {
			_ = l.client.Close()
		}
	default: // connect sees that it was dropped
	}
}

// Process is a running command.
type Process struct {
	channel ssh.Channel
	exit    chan result
}

type result struct {
	code int
	err  error
}

// Start runs a command. Its output must be read, or it stops.
func (r *Runner) Start(ctx context.Context, sandboxID string, c Command) (*Process, error) {
	extra, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode command: %w", err)
	}
	var first []byte
	if len(extra) > maxExtra {
		first, extra = extra, fmt.Appendf(nil, `{"follows":%d}`, len(extra))
	}
	for attempt := 0; ; attempt++ {
		client, fresh, err := r.client(ctx, sandboxID)
		if err != nil {
			return nil, err
		}
		channel, requests, err := openChannel(ctx, client, extra)
		if err == nil {
			p := &Process{channel: channel, exit: make(chan result, 1)}
			go p.watch(requests)
			return p, p.begin(ctx, first)
		}
		var refused *ssh.OpenChannelError
		if errors.As(err, &refused) {
			return nil, fmt.Errorf("run command: supervisor refused: %s", refused.Message)
		}
		r.forget(sandboxID, client)
		if fresh || attempt > 0 || ctx.Err() != nil {
			return nil, fmt.Errorf("run command: %w", err)
		}
		// The kept connection had died unnoticed: nothing ran, so once more is safe.
	}
}

// begin sends the rest of the command and closes the channel when that fails.
func (p *Process) begin(ctx context.Context, first []byte) error {
	if len(first) == 0 {
		return nil
	}
	stop := context.AfterFunc(ctx, p.Close)
	defer stop()
	if _, err := p.channel.Write(first); err != nil {
		p.Close()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("run command: send it: %w", err)
	}
	return nil
}

// openChannel is bounded by ctx; the library's own call is not.
func openChannel(ctx context.Context, client *ssh.Client, extra []byte) (ssh.Channel, <-chan *ssh.Request, error) {
	type opened struct {
		channel  ssh.Channel
		requests <-chan *ssh.Request
		err      error
	}
	answer := make(chan opened, 1)
	go func() {
		c, r, err := client.OpenChannel(ChannelType, extra)
		answer <- opened{c, r, err}
	}()
	select {
	case o := <-answer:
		return o.channel, o.requests, o.err
	case <-ctx.Done():
		go func() {
			if o := <-answer; o.err == nil {
				go ssh.DiscardRequests(o.requests)
				_ = o.channel.Close()
			}
		}()
		return nil, nil, context.Cause(ctx)
	}
}

func (r *Runner) client(ctx context.Context, sandboxID string) (client *ssh.Client, fresh bool, err error) {
	r.mu.Lock()
	l := r.lines[sandboxID]
	if l == nil {
		fresh = true
		l = &line{made: make(chan struct{})}
		r.lines[sandboxID] = l
		go r.connect(context.WithoutCancel(ctx), sandboxID, l)
	}
	r.mu.Unlock()
	select {
	case <-l.made:
		return l.client, fresh, l.err
	case <-ctx.Done():
		return nil, fresh, context.Cause(ctx)
	}
}

// connect does not end with the first caller: others wait for the same line. The
// relay's own budgets bound it.
func (r *Runner) connect(ctx context.Context, sandboxID string, l *line) {
	l.client, l.err = r.handshake(ctx, sandboxID)
	r.mu.Lock()
	kept := r.lines[sandboxID] == l
	if kept && l.err != nil {
		delete(r.lines, sandboxID)
	}
	close(l.made)
	r.mu.Unlock()
	if l.err != nil {
		return
	}
	if !kept {
		_ = l.client.Close()
		return
	}
	_ = l.client.Wait()
	r.forget(sandboxID, l.client)
}

func (r *Runner) handshake(ctx context.Context, sandboxID string) (*ssh.Client, error) {
	conn, err := r.dial(ctx, sandboxID)
	if err != nil {
		return nil, err
	}
	// The relay led to the supervisor that proved to be this sandbox's: its host
	// key, new at every start, adds nothing.
	config := &ssh.ClientConfig{User: "sandbox", HostKeyCallback: ssh.InsecureIgnoreHostKey()}
	c, channels, requests, err := ssh.NewClientConn(conn, "sandbox", config)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("speak SSH with supervisor: %w", err), conn.Close())
	}
	return ssh.NewClient(c, channels, requests), nil
}

func (r *Runner) forget(sandboxID string, client *ssh.Client) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l := r.lines[sandboxID]; l != nil && l.client == client {
		delete(r.lines, sandboxID)
		_ = client.Close()
	}
}

// watch answers the channel's requests until it is closed.
func (p *Process) watch(requests <-chan *ssh.Request) {
	outcome := result{err: errors.New("the sandbox ended the command without a status")}
	for r := range requests {
		switch r.Type {
		case "exit-status": // RFC 4254, section 6.10
			var status struct{ Code uint32 }
			if ssh.Unmarshal(r.Payload, &status) == nil {
				outcome = result{code: int(status.Code)}
			}
		case "exit-signal":
			var signal struct {
				Name   string
				Dumped bool
				Text   string
				Lang   string
			}
			if ssh.Unmarshal(r.Payload, &signal) == nil {
				outcome = result{code: 128 + signalNumber(signal.Name)}
			}
		}
		if r.WantReply {
			_ = r.Reply(false, nil)
		}
	}
	p.exit <- outcome
}

func signalNumber(name string) int {
	numbers := map[string]int{"HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "ABRT": 6, "FPE": 8, "KILL": 9, "USR1": 10,
		"SEGV": 11, "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15}
	return numbers[strings.TrimPrefix(name, "SIG")]
}

// Stdin is the command's standard input.
func (p *Process) Stdin() io.Writer { return p.channel }

// CloseStdin ends the command's standard input.
func (p *Process) CloseStdin() error { return p.channel.CloseWrite() }

// Stdout is the command's standard output; it ends when the command has ended.
func (p *Process) Stdout() io.Reader { return p.channel }

// Stderr is the command's standard error.
func (p *Process) Stderr() io.Reader { return p.channel.Stderr() }

// Resize tells the command's terminal its size (RFC 4254, section 6.7).
func (p *Process) Resize(cols, rows int) error {
	_, err := p.channel.SendRequest("window-change", false,
		ssh.Marshal(struct{ Cols, Rows, Width, Height uint32 }{uint32(cols), uint32(rows), 0, 0}))
	return err
}

// Wait returns the exit code. Output must have been read to its end before.
func (p *Process) Wait(ctx context.Context) (int, error) {
	select {
	case r := <-p.exit:
		p.exit <- r
		return r.code, r.err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// Close gives the command up; the supervisor ends it if it still runs.
func (p *Process) Close() { _ = p.channel.Close() }
