// Package engineenv gives tests a real container engine of their own: Docker, or
// Podman behind its compatible API, each with its own state, socket, processes
// and mounts, all gone when the test program is. It never touches an engine of
// the machine. It must not import an engine's client: what a test asks for in
// plain HTTP cannot share a fault with the client that is tested.
//
// No image can be pulled. The one that there is, Image, is a static busybox.
package engineenv

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"creel/test/require"
)

// startLimit is long because other test programs work at the same time; a start
// on a quiet machine takes less than a second.
const startLimit = time.Minute

// Kind is a container engine. Package require knows it as a feature of this name.
type Kind string

// The engines.
const (
	Docker Kind = "docker"
	Podman Kind = "podman"
)

// Engine is a running container engine. All methods may be called from several
// goroutines.
type Engine struct {
	Kind Kind
	// Host is its address as in DOCKER_HOST, Socket the same as a path.
	Host, Socket string

	dir      string
	daemon   *daemon
	client   *http.Client
	stopping sync.Once

	mu       sync.Mutex
	imported bool
}

// Start runs an engine until the test ends. It skips the test, through package
// require, where the machine cannot run one.
func Start(t testing.TB, kind Kind) *Engine {
	t.Helper()
	e, err := launch(kind)
	require.Feature(t, string(kind), err == nil, fmt.Sprint(err))
	t.Cleanup(e.Stop)
	return e
}

// Shared is one engine for all tests of a package, started by the first that
// needs it, as kubeenv.Shared is.
type Shared struct {
	Kind Kind

	once   sync.Once
	engine *Engine
	err    error
}

// Get returns the engine, or skips the test where there can be none.
func (s *Shared) Get(t testing.TB) *Engine {
	t.Helper()
	s.once.Do(func() { s.engine, s.err = launch(s.Kind) })
	require.Feature(t, string(s.Kind), s.err == nil, fmt.Sprint(s.err))
	return s.engine
}

// Stop stops the engine if one was started.
func (s *Shared) Stop() {
	s.once.Do(func() {})
	if s.engine != nil {
		s.engine.Stop()
	}
}

// launch starts an engine. The error says what the machine lacks and how to get
// it.
func launch(kind Kind) (*Engine, error) {
	program, how := "dockerd", "apt-get install docker.io"
	if kind == Podman {
		program, how = "podman", "apt-get install podman"
	}
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("run the test as root, which a private %s needs", program)
	}
	path, err := exec.LookPath(program)
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/" + program); err != nil {
			return nil, fmt.Errorf("there is no %s: %s", program, how)
		}
	}
	if _, err := busybox(); err != nil {
		return nil, err
	}
	// The name is short because the path of a socket may have 107 bytes.
	dir, err := os.MkdirTemp("", "engine")
	if err != nil {
		return nil, err
	}
	e := &Engine{Kind: kind, dir: dir, Socket: filepath.Join(dir, string(kind)+".sock")}
	e.Host = "unix://" + e.Socket
	e.client = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", e.Socket)
	}}}
	// The machine's configuration may name other places for what is given here.
	if err := os.WriteFile(filepath.Join(dir, "docker.json"), []byte("{}"), 0o600); err != nil {
		return nil, err
	}
	args := dockerArgs(path, e)
	if kind == Podman {
		args = podmanArgs(path, e)
	}
	if e.daemon, err = startDaemon(dir, args); err != nil {
		e.Stop()
		return nil, fmt.Errorf("start a private %s: %w", program, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	if err := e.daemon.await(ctx, e.ping); err != nil {
		e.Stop()
		return nil, fmt.Errorf("start a private %s: %w", program, err)
	}
	return e, nil
}

// dockerArgs: without a bridge or a packet filter the daemon touches nothing of
// the machine's network; containers have none, or the machine's.
func dockerArgs(path string, e *Engine) []string {
	in := func(name string) string { return filepath.Join(e.dir, name) }
	return []string{path, "--host=" + e.Host, "--data-root=" + in("data"), "--exec-root=" + in("exec"), "--pidfile=" + in("pid"),
		"--config-file=" + in("docker.json"),
		"--exec-opt=native.cgroupdriver=cgroupfs",
		"--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"}
}

func podmanArgs(path string, e *Engine) []string {
	in := func(name string) string { return filepath.Join(e.dir, name) }
	return []string{path, "--root=" + in("root"), "--runroot=" + in("run"), "--tmpdir=" + in("tmp"),
		"--cgroup-manager=cgroupfs", "--events-backend=file", "system", "service", "--time=0", e.Host}
}

func (e *Engine) ping(ctx context.Context) error {
	status, answer, err := e.Request(ctx, "GET", "/_ping", nil)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("ping: status %d: %s", status, answer)
	}
	return err
}

// Stop ends the engine with everything in it. It may be called twice.
func (e *Engine) Stop() {
	e.stopping.Do(func() {
		if e.daemon != nil {
			e.daemon.kill()
		}
		e.client.CloseIdleConnections()
		_ = os.RemoveAll(e.dir)
	})
}

// Log is the end of what the engine wrote.
func (e *Engine) Log() string { return e.daemon.tail() }

// Processes are the process ids, as this machine counts them, of the engine, of
// whatever it started, and of everything inside its containers.
func (e *Engine) Processes() []int {
	children := map[int][]int{}
	entries, _ := filepath.Glob("/proc/[0-9]*")
	for _, entry := range entries {
		pid, err := strconv.Atoi(filepath.Base(entry))
		if err != nil {
			continue
		}
		if parent, ok := parentOf(pid); ok {
			children[parent] = append(children[parent], pid)
		}
	}
	found := []int{e.daemon.pid()}
	for i := 0; i < len(found); i++ {
		found = append(found, children[found[i]]...)
	}
	return found
}
