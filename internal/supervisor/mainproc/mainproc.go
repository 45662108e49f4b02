// Package mainproc keeps a sandbox's main process running as its restart policy
// says, and its output in the log. It knows nothing of what the process is.
package mainproc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"

	"creel/internal/sandbox"
	"creel/internal/supervisor/box"
	"creel/internal/supervisor/confine"
	"creel/internal/supervisor/logs"
)

// Spawner starts programs; a box.Box is one.
type Spawner interface {
	Spawn(ctx context.Context, c confine.Command, stdin, stdout, stderr *os.File) (box.Process, error)
}

// Config says what to run.
type Config struct {
	Box     Spawner
	Command confine.Command
	Restart sandbox.RestartPolicy // empty is always
	Backoff Backoff               // zero is Defaults
	// Grace is how long the process has between SIGTERM and SIGKILL.
	Grace  time.Duration
	Lines  *logs.Log
	Log    *slog.Logger
	Change func()                            // after each change of State; must not block
	Exit   func(instanceID string, code int) // after each end; must not block
}

// Main is a main process over all its restarts.
type Main struct {
	cfg Config

	mu    sync.Mutex
	state sandbox.MainProcess

	process box.Process // the running one; only Run uses it after Start
	output  sync.WaitGroup
}

// Start starts the process for the first time. The error is what prevented it.
func Start(ctx context.Context, cfg Config) (*Main, error) {
	if cfg.Backoff == (Backoff{}) {
		cfg.Backoff = Defaults()
	}
	m := &Main{cfg: cfg}
	if err := m.spawn(ctx); err != nil {
		return nil, err
	}
	return m, nil
}

// State is what is known now.
func (m *Main) State() sandbox.MainProcess {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state
}

// Run keeps the process running until ctx ends or the policy says that it is not
// started again. When ctx ends the process gets SIGTERM and, after the grace,
// SIGKILL; Run returns when it has ended.
func (m *Main) Run(ctx context.Context) {
	wait := m.cfg.Backoff.First
	for {
		begun := time.Now()
		status, stopped, err := m.await(ctx)
		if err != nil { // the Box is gone, and the process with it
			m.ended(sandbox.ProcExited, confine.ExitStatus{Code: 128 + int(syscall.SIGKILL), Signal: int(syscall.SIGKILL)})
			return
		}
		next := after(m.cfg.Restart, status.Code, stopped)
		m.ended(next, status)
		if next != sandbox.ProcBackoff {
			return
		}
		if time.Since(begun) >= m.cfg.Backoff.Reset {
			wait = m.cfg.Backoff.First
		}
		for {
			m.cfg.Log.Info("main process will be started again", slog.Duration("in", wait))
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				m.change(func(s *sandbox.MainProcess) { s.State = sandbox.ProcStopped })
				return
			}
			wait = m.cfg.Backoff.next(wait)
			m.change(func(s *sandbox.MainProcess) { s.Restarts++ })
			err := m.spawn(ctx)
			if err == nil {
				break
			}
			m.cfg.Log.Error("start main process", slog.Any("error", err))
			m.change(func(s *sandbox.MainProcess) {
				s.State, s.LastExit = sandbox.ProcBackoff, "could not be started: "+err.Error()
			})
		}
	}
}

// Drain returns when all output is in the log. Everything that held the output
// must have ended by then.
func (m *Main) Drain() { m.output.Wait() }

// await waits for the end of the process, and asks for it when ctx ends.
func (m *Main) await(ctx context.Context) (status confine.ExitStatus, stopped bool, err error) {
	status, err = m.process.Wait(ctx)
	if err == nil || ctx.Err() == nil {
		return status, ctx.Err() != nil, err
	}
	base := context.WithoutCancel(ctx)
	if err := m.process.Signal(base, syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		m.cfg.Log.Warn("ask main process to end", slog.Any("error", err))
	}
	grace, cancel := context.WithTimeout(base, m.cfg.Grace)
	defer cancel()
	if status, err = m.process.Wait(grace); err == nil || grace.Err() == nil {
		return status, true, err
	}
	m.cfg.Log.Warn("main process did not end when asked to; killing it", slog.Duration("waited", m.cfg.Grace))
	if err := m.process.Signal(base, syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return status, true, fmt.Errorf("kill main process: %w", err)
	}
	status, err = m.process.Wait(base)
	return status, true, err
}

// spawn starts the process and the copying of its output.
func (m *Main) spawn(ctx context.Context) (err error) {
	var readers, writers []*os.File
	defer func() {
		for _, f := range writers { // the process has its own copies
			_ = f.Close()
		}
		if err != nil {
			for _, f := range readers {
				_ = f.Close()
			}
		}
	}()
	var out [2]*os.File
	if !m.cfg.Command.TTY {
		for i := range out {
			r, w, err := os.Pipe()
			if err != nil {
				return fmt.Errorf("make pipe: %w", err)
			}
			readers, writers, out[i] = append(readers, r), append(writers, w), w
		}
	}
	p, err := m.cfg.Box.Spawn(ctx, m.cfg.Command, nil, out[0], out[1])
	if err != nil {
		return err
	}
	if t := p.Terminal(); t != nil {
		readers = append(readers, t)
	}
	for _, r := range readers {
		m.output.Go(func() {
			defer func() { _ = r.Close() }()
			// A terminal says EIO when its last user has gone.
			if err := m.cfg.Lines.Copy(logs.Agent, "info", r); err != nil && !errors.Is(err, syscall.EIO) && !errors.Is(err, io.EOF) {
				m.cfg.Log.Warn("read output of main process", slog.Any("error", err))
			}
		})
	}
	m.process = p
	m.change(func(s *sandbox.MainProcess) {
		s.State, s.PID, s.Since, s.InstanceID = sandbox.ProcRunning, p.HostPID(), time.Now(), uuid.NewString()
	})
	m.cfg.Log.Info("main process started", slog.Int("pid", p.HostPID()))
	return nil
}

// ended records the end of the process.
func (m *Main) ended(next sandbox.ProcessState, status confine.ExitStatus) {
	how := fmt.Sprintf("exited with code %d", status.Code)
	if status.Signal != 0 {
		how = fmt.Sprintf("killed by signal %d", status.Signal)
	}
	id := m.State().InstanceID
	m.cfg.Log.Info("main process ended", slog.String("how", how))
	m.change(func(s *sandbox.MainProcess) {
		s.State, s.PID, s.Since, s.LastExit, s.LastExitCode = next, 0, time.Now(), how, &status.Code
	})
	m.cfg.Exit(id, status.Code)
}

func (m *Main) change(f func(*sandbox.MainProcess)) {
	m.mu.Lock()
	f(&m.state)
	m.mu.Unlock()
	m.cfg.Change()
}
