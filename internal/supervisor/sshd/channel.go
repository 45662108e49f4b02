package sshd

import (
	"context"
	"fmt"
	"io"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"creel/internal/supervisor/box"
	"creel/internal/supervisor/confine"
)

// Payloads of RFC 4254, sections 6.2 to 6.10.
type (
	ptyRequest struct {
		Term                      string
		Cols, Rows, Width, Height uint32
		Modes                     string
	}
	windowChange  struct{ Cols, Rows, Width, Height uint32 }
	signalRequest struct{ Name string }
	execRequest   struct{ Command string }
	subsystem     struct{ Name string }
	envRequest    struct{ Name, Value string }
	exitStatus    struct{ Code uint32 }
	exitSignal    struct {
		Name       string
		CoreDumped bool
		Message    string
		Language   string
	}
)

// signals are the names of RFC 4254, section 6.10.
func signals() map[string]syscall.Signal {
	return map[string]syscall.Signal{
		"ABRT": syscall.SIGABRT, "ALRM": syscall.SIGALRM, "FPE": syscall.SIGFPE, "HUP": syscall.SIGHUP, "ILL": syscall.SIGILL,
		"INT": syscall.SIGINT, "KILL": syscall.SIGKILL, "PIPE": syscall.SIGPIPE, "QUIT": syscall.SIGQUIT, "SEGV": syscall.SIGSEGV,
		"TERM": syscall.SIGTERM, "USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2,
	}
}

// running is the process of a channel, for the requests that come meanwhile.
type running struct {
	mu      sync.Mutex
	process box.Process
	cols    uint32 // a size asked for before there was a process
	rows    uint32
}

func (r *running) set(p box.Process) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.process = p
	resize(p, r.cols, r.rows)
}

// control answers window-change and signal; false for any other request.
func (s *Server) control(ctx context.Context, r *running, q *ssh.Request) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch q.Type {
	case "window-change":
		var w windowChange
		if ssh.Unmarshal(q.Payload, &w) != nil {
			return false
		}
		if r.process == nil {
			r.cols, r.rows = w.Cols, w.Rows
		} else {
			resize(r.process, w.Cols, w.Rows)
		}
		return true
	case "signal":
		var g signalRequest
		if ssh.Unmarshal(q.Payload, &g) != nil || r.process == nil {
			return false
		}
		sig, known := signals()[g.Name]
		if known {
			s.signal(ctx, r.process, sig)
		}
		return known
	}
	return false
}

// exec serves a channel of type exec@creel.
func (s *Server) exec(ctx context.Context, n ssh.NewChannel) {
	var request ExecRequest
	follows, err := following(n.ExtraData())
	if err == nil && follows == 0 {
		request, err = ParseExec(n.ExtraData())
	}
	if err != nil {
		_ = n.Reject(ssh.Prohibited, err.Error())
		return
	}
	channel, requests, err := n.Accept()
	if err != nil {
		return
	}
	process, gone := &running{}, make(chan struct{})
	go func() { // ends with the channel
		defer close(gone)
		for q := range requests {
			ok := s.control(ctx, process, q)
			if q.WantReply {
				_ = q.Reply(ok, nil)
			}
		}
	}()
	if follows > 0 {
		request, err = readExec(channel, follows)
	}
	end := outcome{code: exitNotExecutable}
	if err != nil {
		_, _ = fmt.Fprintf(channel.Stderr(), "creel: %v\n", err)
	} else {
		end = s.do(ctx, run{
			command: confine.Command{Argv: request.Command, Env: environment(s.cfg.Env, request.added()), Dir: request.Workdir,
				TTY: request.TTY, Cols: request.Cols, Rows: request.Rows},
			timeout: time.Duration(request.TimeoutSeconds) * time.Second,
			channel: channel, gone: gone, started: process.set,
		})
	}
	_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(exitStatus{uint32(end.code)}))
	_ = channel.Close()
	<-gone
}

// readExec reads a request that follows.
func readExec(channel ssh.Channel, length int) (ExecRequest, error) {
	content := make([]byte, length)
	if _, err := io.ReadFull(channel, content); err != nil {
		return ExecRequest{}, fmt.Errorf("read request: %w", err)
	}
	return ParseExec(content)
}

// session serves an ordinary session: env and pty-req, then one of shell, exec
// and subsystem.
func (s *Server) session(ctx context.Context, n ssh.NewChannel) {
	channel, requests, err := n.Accept()
	if err != nil {
		return
	}
	process, gone := &running{}, make(chan struct{})
	command, added := confine.Command{}, map[string]string{}
	started := false
	var work sync.WaitGroup
	defer work.Wait()
	defer close(gone)
	for q := range requests {
		ok := false
		switch q.Type {
		case "env":
			var e envRequest
			if !started && ssh.Unmarshal(q.Payload, &e) == nil && validVariable(e.Name, e.Value) && len(added) < maxVariables {
				added[e.Name], ok = e.Value, true
			}
		case "pty-req":
			var t ptyRequest
			if !started && ssh.Unmarshal(q.Payload, &t) == nil && t.Cols <= maxSide && t.Rows <= maxSide {
				command.TTY, command.Cols, command.Rows, ok = true, int(t.Cols), int(t.Rows), true
				if validVariable("TERM", t.Term) && t.Term != "" {
					added["TERM"] = t.Term
				}
			}
		case "shell", "exec", "subsystem":
			if !started {
				command.Argv, ok = s.argv(q)
			}
			if started = started || ok; ok {
				command.Env = environment(s.cfg.Env, added)
				work.Go(func() {
					end := s.do(ctx, run{command: command, channel: channel, gone: gone, started: process.set})
					s.tell(channel, end)
					_ = channel.Close()
				})
			}
		default:
			ok = s.control(ctx, process, q)
		}
		if q.WantReply {
			_ = q.Reply(ok, nil)
		}
	}
}

// argv is what a request that starts something starts.
func (s *Server) argv(q *ssh.Request) ([]string, bool) {
	switch q.Type {
	case "shell":
		return []string{s.cfg.Shell, "-l"}, true
	case "exec":
		var e execRequest
		if ssh.Unmarshal(q.Payload, &e) != nil || len(e.Command) > maxCommand {
			return nil, false
		}
		return []string{s.cfg.Shell, "-lc", e.Command}, true
	}
	var sub subsystem
	if ssh.Unmarshal(q.Payload, &sub) != nil || sub.Name != "sftp" || s.cfg.SFTP == "" {
		return nil, false
	}
	return []string{s.cfg.SFTP}, true
}

// tell says how a session's command ended.
func (s *Server) tell(channel ssh.Channel, end outcome) {
	if end.signal != 0 {
		for name, sig := range signals() {
			if int(sig) == end.signal {
				_, _ = channel.SendRequest("exit-signal", false, ssh.Marshal(exitSignal{Name: name}))
				return
			}
		}
	}
	_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(exitStatus{uint32(end.code)}))
}
