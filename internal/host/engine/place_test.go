package engine

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"creel/internal/budget"
	"creel/test/require"
)

func environment(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestPlaces(t *testing.T) {
	for _, c := range []struct {
		name    string
		options Options
		want    []string
	}{
		{"nothing said", Options{Getenv: environment("HOME", "/home/me"), UID: 1000}, []string{"unix:///var/run/docker.sock", "unix:///run/user/1000/docker.sock",
			"unix:///home/me/.docker/run/docker.sock", "unix:///run/podman/podman.sock", "unix:///run/user/1000/podman/podman.sock"}},
		{"a runtime directory", Options{Getenv: environment("XDG_RUNTIME_DIR", "/r")}, []string{"unix:///var/run/docker.sock", "unix:///r/docker.sock",
			"unix:///run/podman/podman.sock", "unix:///r/podman/podman.sock"}},
		{"DOCKER_HOST", Options{Getenv: environment("DOCKER_HOST", "tcp://127.0.0.1:1", "CONTAINER_HOST", "unix:///c")}, []string{"tcp://127.0.0.1:1 (DOCKER_HOST)"}},
		{"CONTAINER_HOST", Options{Getenv: environment("CONTAINER_HOST", "unix:///c")}, []string{"unix:///c (CONTAINER_HOST)"}},
		{"flag", Options{Host: "unix:///f", Getenv: environment("DOCKER_HOST", "unix:///d")}, []string{"unix:///f (flag)"}},
	} {
		var got []string
		for _, p := range Places(c.options) {
			got = append(got, p.String())
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// answering is a socket whose owner answers as told.
func answering(t *testing.T, path string, answer http.HandlerFunc) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: answer}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
}

// TestNoEngineToBeHad: nothing there is something else than what does not answer.
func TestNoEngineToBeHad(t *testing.T) {
	t.Setenv(budget.Probe.Variable(), "1s")
	for _, c := range []struct {
		name, host string
		make       func(t *testing.T, path string)
		id, says   string
	}{
		{"nothing", "", func(*testing.T, string) {}, "engine-missing", "docker.sock, "},
		{"nothing where somebody said", "unix://", func(*testing.T, string) {}, "engine-unreachable", "(flag)"},
		{"a file", "", func(t *testing.T, path string) {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "engine-unreachable", "is no socket"},
		{"nobody listens", "", func(t *testing.T, path string) {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
			if err != nil {
				t.Fatal(err)
			}
			l.SetUnlinkOnClose(false)
			_ = l.Close()
		}, "engine-unreachable", "docker.sock"},
		{"nobody answers", "", func(t *testing.T, path string) {
			answering(t, path, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		}, "engine-unreachable", `ask the container engine: not done within 1s (budget "probe")`},
		{"something else answers", "", func(t *testing.T, path string) {
			answering(t, path, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "OK") })
		}, "engine-unreachable", "what answers is no container engine"},
		{"an engine that is older than all", "", func(t *testing.T, path string) {
			answering(t, path, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Api-Version", "1.12") })
		}, "engine-unreachable", "1.12"},
		{"another way to get there", "ssh://", func(*testing.T, string) {}, "engine-unreachable", "neither a unix:// nor a tcp:// address"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := shortDir(t)
			path := filepath.Join(dir, "docker.sock")
			c.make(t, path)
			e := New(Options{Getenv: environment("XDG_RUNTIME_DIR", dir)})
			e.places = within(dir, e.places)
			if c.host != "" {
				e = New(Options{Host: c.host + path, Getenv: nothing})
			}
			begin := time.Now()
			_, err := e.Container(t.Context(), "gateway")
			if advisoryID(err) != c.id || !strings.Contains(err.Error(), c.says) || time.Since(begin) > 5*time.Second {
				t.Errorf("after %s: %v, want %s saying %q", time.Since(begin), err, c.id, c.says)
			}
			if _, again := e.Exec(t.Context(), "gateway", sh("true")); advisoryID(again) != c.id {
				t.Errorf("exec: %v", again)
			}
		})
	}
}

// Where nothing is said in a line, however many places there are; one that somebody
// named is said as it was named, with where that was.
func TestMissing(t *testing.T) {
	env := map[string]string{"HOME": "/h", "XDG_RUNTIME_DIR": "/run/user/7"}
	of := func() error { return missing(Places(Options{Getenv: func(n string) string { return env[n] }, UID: 7})) }
	if got, want := of().Error(), "find a container engine: no socket of Docker or Podman at /var/run/docker.sock, /run/user/7/docker.sock, 3 other places"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	env["DOCKER_HOST"] = "unix:///nowhere"
	if got, want := of().Error(), "find a container engine: nothing is at unix:///nowhere (DOCKER_HOST)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// within leaves out the places where this machine may really have an engine.
func within(dir string, places []Place) []Place {
	return slices.DeleteFunc(places, func(p Place) bool { return !strings.HasPrefix(p.Host, "unix://"+dir) })
}

// shortDir: the path of a socket may have 107 bytes.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "e")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestSocketOfSomebodyElse(t *testing.T) {
	require.Feature(t, "ordinary-user", os.Geteuid() != 0, "run the test as an ordinary user; root may connect everywhere")
	path := filepath.Join(shortDir(t), "docker.sock")
	answering(t, path, func(http.ResponseWriter, *http.Request) {})
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	_, err := New(Options{Host: "unix://" + path, Getenv: nothing}).Container(t.Context(), "gateway")
	if advisoryID(err) != "engine-unreachable" || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("error %v", err)
	}
}

// TestEngineComesAndGoes: a dead socket does not hide an engine that answers, an
// engine that is gone is unknown, and one that came back is found again.
func TestEngineComesAndGoes(t *testing.T) {
	real := engines[0].Get(t)
	dir := shortDir(t)
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "docker.sock"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	_ = dead.Close()
	if err := os.Mkdir(filepath.Join(dir, "podman"), 0o700); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "podman", "podman.sock")
	e := New(Options{Getenv: environment("XDG_RUNTIME_DIR", dir)})
	e.places = within(dir, e.places)
	ask := func() string {
		c, err := e.Container(t.Context(), "other")
		if err == nil {
			return string(c.State)
		}
		return advisoryID(err)
	}
	if got := ask(); got != "engine-unreachable" {
		t.Errorf("only a dead socket: %s", got)
	}
	for range 2 {
		if err := os.Symlink(real.Socket, link); err != nil {
			t.Fatal(err)
		}
		if got := ask(); got != string(Missing) {
			t.Errorf("with an engine: %s", got)
		}
		if p, err := e.Place(t.Context()); err != nil || p.Source != "podman without root" {
			t.Errorf("place %+v, %v", p, err)
		}
		if err := os.Remove(link); err != nil {
			t.Fatal(err)
		}
		_ = e.Close() // an open connection would survive the socket's name
		if got := ask(); got != "engine-unreachable" {
			t.Errorf("the socket is gone: %s", got)
		}
	}
}

// TestEngineFailsMeanwhile: an engine may answer the first questions and then
// hang, die or talk nonsense.
func TestEngineFailsMeanwhile(t *testing.T) {
	t.Setenv(budget.Operation.Variable(), "1s")
	for _, c := range []struct {
		name  string
		start http.HandlerFunc
		id    string
		cause error
	}{
		{"hangs", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "", &budget.Expired{}},
		{"dies", func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				_ = conn.Close()
			}
		}, "engine-unreachable", nil},
		{"does not upgrade", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "what?") }, "engine-unreachable", nil},
		{"talks nonsense", func(w http.ResponseWriter, _ *http.Request) {
			hijack(w, "\xff\xff\xff\xff\xff\xff\xff\xffwhat?")
		}, "engine-unreachable", nil},
		{"dies in the middle of an answer", func(w http.ResponseWriter, _ *http.Request) {
			hijack(w, "\x01\x00\x00\x00\x00\x00\x10\x00half")
		}, "engine-unreachable", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(shortDir(t), "docker.sock")
			answering(t, path, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Api-Version", "1.41")
				w.Header().Set("Content-Type", "application/json")
				switch {
				case strings.HasSuffix(r.URL.Path, "/_ping"):
				case strings.HasSuffix(r.URL.Path, "/containers/gateway/exec"):
					_, _ = io.WriteString(w, `{"Id":"1"}`)
				case strings.HasSuffix(r.URL.Path, "/exec/1/start"):
					c.start(w, r)
				case strings.HasSuffix(r.URL.Path, "/containers/gateway/json"):
					_, _ = io.WriteString(w, `{"Name":"/gateway","State":{"Status":"running"}}`)
				default:
					w.WriteHeader(http.StatusInternalServerError)
				}
			})
			e := New(Options{Host: "unix://" + path, Getenv: nothing})
			ctx, cancel := budget.Context(t.Context(), budget.Operation, "read the set")
			defer cancel()
			r, err := e.Exec(ctx, "gateway", Command{Args: []string{"kubectl"}, Stdin: []byte("x")})
			var expired *budget.Expired
			if advisoryID(err) != c.id || (c.cause != nil) != errors.As(err, &expired) || err == nil {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}

func hijack(w http.ResponseWriter, stream string) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		_, _ = io.WriteString(conn, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"+stream)
		_ = conn.Close()
	}
}
