package engine

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"creel/internal/budget"
	"creel/test/engineenv"
)

// TestLifecycle: what a container is told, and what is known of it afterwards.
func TestLifecycle(t *testing.T) {
	onBoth(t, func(t *testing.T, real *engineenv.Engine, e *Engine) {
		ctx := t.Context()
		published := map[int]int{30051: 18080}
		if real.Kind == engineenv.Podman {
			published = nil // it refuses ports of a container without a network
		}
		c := real.Run(t, engineenv.Spec{Name: "box", HostNetwork: true, Published: published,
			Args: []string{"/bin/sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done"}})
		was, err := e.Container(ctx, c.Name)
		if err != nil || was.State != Running || was.StartedAt.IsZero() || time.Since(was.StartedAt) > time.Minute {
			t.Fatalf("%+v, %v", was, err)
		}
		if published != nil && (len(was.Ports) != 1 || was.Ports[0] != Port{30051, "127.0.0.1", 18080}) {
			t.Errorf("ports %+v", was.Ports)
		}
		if err := e.Start(ctx, c.Name); err != nil { // it runs
			t.Error(err)
		}
		awaitLog(t, e, c.Name, "ready")
		codes := make(chan int, 1)
		go func() {
			code, err := e.Exited(ctx, was.ID)
			if err != nil {
				t.Error(err)
			}
			codes <- code
		}()
		for range 2 { // stopping what is stopped changes nothing
			if err := e.Stop(ctx, c.Name, 20*time.Second); err != nil {
				t.Fatal(err)
			}
			ended, err := e.Container(ctx, c.Name)
			if err != nil || ended.State != NotRunning || ended.Status != "exited" || ended.ExitCode != 7 || ended.OutOfMemory {
				t.Errorf("%+v, %v", ended, err)
			}
			if published != nil && len(ended.Ports) != 1 {
				t.Errorf("ports of a stopped container %+v", ended.Ports)
			}
		}
		if code := <-codes; code != 7 {
			t.Errorf("it was told to have ended with %d", code)
		}
		if err := e.Start(ctx, c.Name); err != nil {
			t.Fatal(err)
		}
		if again, err := e.Container(ctx, c.Name); err != nil || again.State != Running || again.ID != was.ID || !again.StartedAt.After(was.StartedAt) {
			t.Errorf("%+v, %v; was %+v", again, err, was)
		}
		for name, change := range map[string]func() error{
			"start": func() error { return e.Start(ctx, "nosuch") },
			"stop":  func() error { return e.Stop(ctx, "nosuch", time.Second) },
			"logs":  func() error { return e.Logs(ctx, "nosuch", LogOptions{}, &bytes.Buffer{}) },
		} {
			if err := change(); advisoryID(err) != "container-missing" {
				t.Errorf("%s: %v", name, err)
			}
		}
		ctx, cancel := budget.Context(ctx, budget.TCP, "see whether it ends")
		defer cancel()
		if _, err := e.Exited(ctx, was.ID); !errors.As(err, new(*budget.Expired)) {
			t.Errorf("it runs, and its end was told: %v", err)
		}
	})
}

// TestPorts: of what is published, what a TCP client of this machine can use.
func TestPorts(t *testing.T) {
	tcp, udp := network.MustParsePort("30051/tcp"), network.MustParsePort("53/udp")
	bind := func(host, port string) []network.PortBinding {
		ip, _ := netip.ParseAddr(host)
		return []network.PortBinding{{HostIP: ip, HostPort: port}}
	}
	wanted := &container.HostConfig{PortBindings: network.PortMap{tcp: bind("127.0.0.1", "8080"), udp: bind("", "53")}}
	for _, c := range []struct {
		name   string
		actual network.PortMap
		wanted *container.HostConfig
		want   []Port
	}{
		{"as it is", network.PortMap{tcp: bind("0.0.0.0", "9090"), udp: bind("0.0.0.0", "53")}, wanted, []Port{{30051, "", 9090}}},
		{"on two addresses", network.PortMap{tcp: append(bind("::", "9090"), bind("10.0.0.1", "9091")...)}, wanted, []Port{{30051, "", 9090}, {30051, "10.0.0.1", 9091}}},
		{"as it will be", nil, wanted, []Port{{30051, "127.0.0.1", 8080}}},
		{"exposed and not published", network.PortMap{tcp: nil}, nil, nil},
		{"chosen by the engine at its start", nil, &container.HostConfig{PortBindings: network.PortMap{tcp: bind("", "0"), network.MustParsePort("1/tcp"): bind("", "")}}, nil},
	} {
		found := container.InspectResponse{HostConfig: c.wanted, NetworkSettings: &container.NetworkSettings{Ports: c.actual}}
		if got := published(found); !slices.Equal(got, c.want) {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

// TestStopKills: a program that does not end when it is asked to.
func TestStopKills(t *testing.T) {
	onBoth(t, func(t *testing.T, real *engineenv.Engine, e *Engine) {
		c := real.Run(t, engineenv.Spec{Name: "deaf", Args: []string{"sleep", "1000"}}) // as pid 1 it ignores SIGTERM
		began := time.Now()
		if err := e.Stop(t.Context(), c.Name, time.Second); err != nil {
			t.Fatal(err)
		}
		if found, err := e.Container(t.Context(), c.Name); err != nil || found.State != NotRunning || found.ExitCode != 137 || time.Since(began) < 900*time.Millisecond {
			t.Errorf("after %s: %+v, %v", time.Since(began), found, err)
		}
	})
}

// TestRefused: an engine that answers that it will not is not one that cannot be
// reached.
func TestRefused(t *testing.T) {
	real := engines[0].Get(t)
	e := New(Options{Host: real.Host, Getenv: nothing})
	defer e.Close()
	c := real.Run(t, engineenv.Spec{Name: "frozen", Args: []string{"sleep", "1000"}})
	c.Pause(t)
	defer c.Unpause(t)
	if err := e.Start(t.Context(), c.Name); advisoryID(err) != "container-refused" {
		t.Errorf("%v", err)
	}
}

func TestOutOfMemory(t *testing.T) {
	real := engines[0].Get(t)
	e := New(Options{Host: real.Host, Getenv: nothing})
	defer e.Close()
	c := real.Keep(t, engineenv.Spec{Name: "hungry", Memory: 8 << 20, Args: []string{"/bin/sh", "-c", "x=$(head -c 200000000 /dev/zero | tail -c 200000000)"}})
	defer c.Remove(t)
	var found Container
	await(t, "its end", func() (ended bool) {
		found, _ = e.Container(t.Context(), c.Name)
		return found.State == NotRunning
	})
	if !found.OutOfMemory {
		t.Skipf("this machine does not limit a container's memory: %+v", found)
	}
	if found.ExitCode == 0 {
		t.Errorf("%+v", found)
	}
}

// buffer may be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func awaitLog(t *testing.T, e *Engine, name, text string) {
	t.Helper()
	await(t, text+" in the log", func() bool {
		var b bytes.Buffer
		return e.Logs(t.Context(), name, LogOptions{}, &b) == nil && strings.Contains(b.String(), text)
	})
}

// TestLogs: both outputs, with and without a terminal, of what runs and what has
// ended.
func TestLogs(t *testing.T) {
	onBoth(t, func(t *testing.T, real *engineenv.Engine, e *Engine) {
		for _, terminal := range []bool{false, true} {
			name := map[bool]string{false: "plain", true: "terminal"}[terminal]
			t.Run(name, func(t *testing.T) {
				c := real.Run(t, engineenv.Spec{Name: name, Terminal: terminal,
					Args: []string{"/bin/sh", "-c", "echo one; echo two >&2; echo three; while [ ! -e /tmp/go ]; do sleep 0.02; done; echo four; echo five >&2"}})
				for _, line := range []string{"two", "three"} { // of two outputs either may come first
					awaitLog(t, e, name, line)
				}
				lines := func(b *buffer) string { return strings.ReplaceAll(b.String(), "\r", "") }
				// What is written to a terminal may be read in parts, which Podman then joins
				// as it likes.
				end := map[bool]string{false: "\n"}[terminal]
				has := func(b *buffer, want ...string) {
					t.Helper()
					for _, line := range want {
						if !strings.Contains(lines(b), line+end) {
							t.Errorf("no %q in %q", line, lines(b))
						}
					}
				}
				var all, last, followed buffer
				if err := e.Logs(t.Context(), name, LogOptions{}, &all); err != nil {
					t.Fatal(err)
				}
				if has(&all, "one", "two", "three"); strings.Contains(all.String(), "\x00") {
					t.Errorf("frames in %q", all.String())
				}
				if err := e.Logs(t.Context(), name, LogOptions{Lines: 1}, &last); err != nil || strings.Count(last.String(), "\n") != 1 {
					t.Errorf("%q, %v", last.String(), err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- e.Logs(ctx, name, LogOptions{Lines: 1, Follow: true}, &followed) }()
				await(t, "the last line", func() bool { return followed.String() != "" })
				if r, err := e.Exec(t.Context(), c.Name, Command{Args: []string{"touch", "/tmp/go"}}); err != nil || r.ExitCode != 0 {
					t.Fatalf("%+v, %v", r, err)
				}
				await(t, "what came later", func() bool {
					return strings.Contains(followed.String(), "four") && strings.Contains(followed.String(), "five")
				})
				cancel() // Podman may go on after the end
				if err := <-done; err != nil {
					t.Error(err)
				}
				has(&followed, "four", "five")
				var after buffer
				if err := e.Logs(t.Context(), name, LogOptions{Lines: 2}, &after); err != nil {
					t.Fatal(err)
				}
				has(&after, "four", "five")
			})
		}
	})
}
