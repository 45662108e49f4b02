package engineenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// daemon is an engine's process, the first of a process namespace: when it ends,
// the kernel ends everything that it started. It also has mounts of its own, so
// that none is left either.
type daemon struct {
	log    string
	proc   *os.Process
	exited chan struct{} // closed when it has ended and err is set
	err    error
}

// entry gives the new namespaces what belongs into them. Podman keeps its locks
// in /dev/shm, and dockerd would use a containerd of the machine that it finds.
const entry = `set -e
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs tmpfs /dev/shm
if [ -d /run/containerd ]; then mount -t tmpfs tmpfs /run/containerd; fi
exec "$@"`

func startDaemon(dir string, args []string) (*daemon, error) {
	isolated, err := isolation()
	if err != nil {
		return nil, err
	}
	d := &daemon{log: filepath.Join(dir, "log"), exited: make(chan struct{})}
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command("/bin/sh", append([]string{"-c", entry, "sh"}, args...)...)
	cmd.Dir = dir
	cmd.Stdout, cmd.Stderr = log, log
	// Nothing of the user's environment: no proxy, no registry, no other engine.
	cmd.Env = []string{"HOME=" + dir, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.SysProcAttr = isolated
	started := make(chan error)
	go func() {
		// The parent-death signal comes when the thread that started the process
		// ends, so this thread lives as long as the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			d.err = cmd.Wait()
			close(d.exited)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("%w (it needs the right to make namespaces)", err)
	}
	d.proc = cmd.Process
	return d, nil
}

func (d *daemon) pid() int { return d.proc.Pid }

// kill ends the engine and everything in it, and waits until it has ended.
func (d *daemon) kill() {
	_ = d.proc.Signal(syscall.SIGKILL)
	<-d.exited
}

// await asks probe until it answers nil, the engine ends, or ctx does.
func (d *daemon) await(ctx context.Context, probe func(context.Context) error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := probe(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-d.exited:
			return fmt.Errorf("it ended: %w\n%s", d.failure(), d.tail())
		case <-ctx.Done():
			return fmt.Errorf("%w: %w\n%s", context.Cause(ctx), err, d.tail())
		case <-tick.C:
		}
	}
}

func (d *daemon) failure() error {
	if d.err == nil {
		return errors.New("exit status 0")
	}
	return d.err
}

// tail is the end of the log.
func (d *daemon) tail() string {
	b, err := os.ReadFile(d.log)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-3000):])
}

// parentOf reads a process's parent.
func parentOf(pid int) (int, bool) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, false
	}
	// The name, in parentheses, may hold anything.
	_, rest, _ := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 2 {
		return 0, false
	}
	parent, err := strconv.Atoi(fields[1])
	return parent, err == nil
}
