package kubeenv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// process is one program of the control plane.
type process struct {
	name   string
	log    string
	proc   *os.Process
	exited chan struct{} // closed when it has ended and err is set
	err    error
}

// launch starts bin/name in dir and collects its output in dir/name.log.
func launch(dir, bin, name string, args ...string) (*process, error) {
	p := &process{name: name, log: filepath.Join(dir, name+".log"), exited: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(filepath.Join(bin, name), args...)
	cmd.Dir = dir
	cmd.Stdout, cmd.Stderr = log, log
	// Nothing of the user's environment: no proxy, no KUBECONFIG.
	cmd.Env = []string{"HOME=" + dir, "PATH=" + bin}
	cmd.SysProcAttr = dieWithParent()
	started := make(chan error)
	go func() {
		// The kernel sends the parent-death signal when the thread that started
		// the process ends, so this thread lives as long as the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.exited)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p.proc = cmd.Process
	return p, nil
}

// running reports whether the process has not ended. A nil process does not run.
func (p *process) running() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// signal sends sig unless the process has ended; os.Process sees to it that no
// other process with the same number gets it.
func (p *process) signal(sig syscall.Signal) {
	_ = p.proc.Signal(sig)
}

// kill ends the process, stopped or not, and waits until it has ended.
func (p *process) kill() {
	if p == nil {
		return
	}
	p.signal(syscall.SIGKILL)
	<-p.exited
}

// await asks probe until it answers nil, the process ends, or ctx does. The
// error begins with the operation and carries the end of the process's log.
func (p *process) await(ctx context.Context, operation string, probe func(context.Context) error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := probe(attempt)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
			return fmt.Errorf("%s: %s ended: %w\n%s", operation, p.name, p.failure(), p.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s: %w: %w\n%s", operation, context.Cause(ctx), err, p.tail())
		case <-tick.C:
		}
	}
}

// failure is how the process ended; only after exited is closed.
func (p *process) failure() error {
	if p.err == nil {
		return errors.New("exit status 0")
	}
	return p.err
}

// tail is the end of the log.
func (p *process) tail() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	const limit = 6000
	if len(b) > limit {
		b = b[len(b)-limit:]
		b = b[bytes.IndexByte(b, '\n')+1:]
	}
	return fmt.Sprintf("--- %s\n%s", filepath.Base(p.log), b)
}

func dialUnix(ctx context.Context, path string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return err
	}
	return conn.Close()
}
