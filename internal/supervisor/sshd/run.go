package sshd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
	"golang.org/x/crypto/ssh"

	"creel/internal/supervisor/box"
	"creel/internal/supervisor/confine"
)

// Exit codes that shells use for commands that could not run or ran too long.
const (
	exitTimeout       = 124
	exitNotExecutable = 126
	exitNotFound      = 127
)

// leaveGrace is how long a command has to end by itself after its client has
// gone.
const leaveGrace = 2 * time.Second

// outcome is how a command ended.
type outcome struct {
	code   int
	signal int // 0 unless a signal ended it
}

// run is one command on one channel.
type run struct {
	command confine.Command
	timeout time.Duration
	channel ssh.Channel
	// gone is closed when the client has closed the channel or the connection.
	gone <-chan struct{}
	// started hands the process to whoever answers window-change and signal.
	started func(box.Process)
}

// do runs the command to its end.
func (s *Server) do(ctx context.Context, r run) outcome {
	var files [3]*os.File // what the process gets
	var ours []*os.File   // what stays here: stdin's writing side, the reading sides
	if !r.command.TTY {
		for i := range files {
			reading, writing, err := os.Pipe()
			if err != nil {
				closeAll(files[:i])
				closeAll(ours)
				return s.notStarted(r, fmt.Errorf("make pipe: %w", err))
			}
			if i == 0 {
				files[i], ours = reading, append(ours, writing)
			} else {
				files[i], ours = writing, append(ours, reading)
			}
		}
	}
	p, err := s.cfg.Box.Spawn(ctx, r.command, files[0], files[1], files[2])
	closeAll(files[:])
	if err != nil {
		closeAll(ours)
		return s.notStarted(r, err)
	}
	if t := p.Terminal(); t != nil {
		ours = []*os.File{t, t}
	}
	defer closeAll(ours)
	r.started(p)

	input := ours[0]
	go func() { // ends with the channel
		_, _ = io.Copy(input, r.channel)
		if !r.command.TTY { // a terminal's end of input is a character, not a closed file
			_ = input.Close()
		}
	}()
	var output sync.WaitGroup
	for i, f := range ours[1:] {
		var to io.Writer = r.channel
		if i == 1 {
			to = r.channel.Stderr()
		}
		output.Go(func() { copyOutput(to, f) })
	}
	status, timedOut := s.wait(ctx, r, p)
	for _, f := range ours[1:] { // what was written before the end is still copied, what outlives it is not awaited
		_ = f.SetReadDeadline(time.Now())
	}
	output.Wait()
	if timedOut {
		return outcome{code: exitTimeout}
	}
	return outcome{code: status.Code, signal: status.Signal}
}

// wait returns when the process has ended, and ends it when its time is over or
// its client has gone.
func (s *Server) wait(ctx context.Context, r run, p box.Process) (status confine.ExitStatus, timedOut bool) {
	base := context.WithoutCancel(ctx)
	waiting, cancel := context.WithCancel(base)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		var err error
		if status, err = p.Wait(waiting); err != nil { // the Box is gone, and the process with it
			status = confine.ExitStatus{Code: 128 + int(syscall.SIGKILL), Signal: int(syscall.SIGKILL)}
		}
	}()
	var expired <-chan time.Time
	if r.timeout > 0 {
		timer := time.NewTimer(r.timeout)
		defer timer.Stop()
		expired = timer.C
	}
	select {
	case <-ended:
		return status, false
	case <-expired:
		timedOut = true
	case <-r.gone:
		s.signal(base, p, syscall.SIGHUP)
	case <-ctx.Done():
		s.signal(base, p, syscall.SIGHUP)
	}
	if !timedOut {
		grace := time.NewTimer(leaveGrace)
		defer grace.Stop()
		select {
		case <-ended:
			return status, false
		case <-grace.C:
		}
	}
	s.signal(base, p, syscall.SIGKILL)
	<-ended
	return status, timedOut
}

func (s *Server) signal(ctx context.Context, p box.Process, sig syscall.Signal) {
	if err := p.Signal(ctx, sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.cfg.Log.Warn("signal command", slog.Any("error", err))
	}
}

// notStarted tells the client why, in the words and with the codes of a shell.
func (s *Server) notStarted(r run, err error) outcome {
	code, reason := exitNotExecutable, err.Error()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		code, reason = exitNotFound, "command not found (or the working directory is missing)"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.ENOEXEC), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR):
		reason = "cannot be executed"
	default:
		s.cfg.Log.Warn("start command", slog.Any("error", err))
	}
	end := "\n"
	if r.command.TTY {
		end = "\r\n"
	}
	_, _ = fmt.Fprintf(r.channel.Stderr(), "creel: %s: %s%s", path.Base(r.command.Argv[0]), reason, end)
	return outcome{code: code}
}

// copyOutput copies until the end of f, or until its deadline, and then what is
// there to read without waiting. Waiting for the end alone would wait for every
// process that the command left behind.
func copyOutput(to io.Writer, f *os.File) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := f.Read(buffer)
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			return
		}
	}
	if f.SetReadDeadline(time.Time{}) != nil {
		return
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return
	}
	for {
		n := 0
		err := raw.Read(func(fd uintptr) bool {
			n, _ = syscall.Read(int(fd), buffer)
			return true // never wait
		})
		if err != nil || n <= 0 {
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func closeAll(files []*os.File) {
	for _, f := range files {
		if f != nil {
			_ = f.Close()
		}
	}
}

// resize sets the size of a process's terminal, if it has one.
func resize(p box.Process, cols, rows uint32) {
	if t := p.Terminal(); t != nil && cols > 0 && cols <= maxSide && rows > 0 && rows <= maxSide {
		_ = pty.Setsize(t, &pty.Winsize{Cols: uint16(cols), Rows: uint16(rows)})
	}
}
