package embedded

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	creelv1 "creel/api/creel/v1"
	openshellv1 "creel/api/openshell/v1"
	"creel/internal/advisory"
	"creel/internal/bundle"
	"creel/internal/bundle/dirstore"
	"creel/internal/host"
	"creel/internal/state"
	"creel/internal/version"
)

// The runtime launches the running executable as "gateway serve --gateway NAME".
// Here that is the test binary, which then is the daemon of the mode that the
// test wrote into its home: a real process in every way.
const modeFile = "mode"

// documentFile holds the port that the daemon's document asks for, where it does.
const documentFile = "document-port"

func TestMain(m *testing.M) {
	if len(os.Args) > 4 && os.Args[1] == "gateway" && os.Args[2] == "serve" {
		os.Exit(daemonMain(os.Args[4]))
	}
	goleak.VerifyTestMain(m)
}

func daemonMain(name string) int {
	roots, err := state.RootsFrom(os.Getenv)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	// What one build shall do goes before what all shall.
	b, err := os.ReadFile(filepath.Join(os.Getenv("CREEL_HOME"), modeFile+"-"+version.BuildID()))
	if err != nil {
		b, err = os.ReadFile(filepath.Join(os.Getenv("CREEL_HOME"), modeFile))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	mode, g := string(b), roots.Gateway(name)
	if f, ok := raw[mode]; ok {
		return f(g)
	}
	cfg := ServeConfig{Gateway: g, Server: fakeServer(mode)}
	if b, err := os.ReadFile(filepath.Join(os.Getenv("CREEL_HOME"), documentFile)); err == nil {
		cfg.Port, _ = strconv.Atoi(string(b))
		cfg.PortExplicit = true
	}
	err = Serve(context.Background(), cfg)
	if err != nil {
		fmt.Fprintln(os.Stderr, "creel:", err)
		return 1
	}
	return 0
}

// raw are programs that do not even reach Serve, or that lie to their launcher.
var raw = map[string]func(g state.Gateway) int{
	"glibc": func(state.Gateway) int {
		fmt.Fprintln(os.Stderr, "creel: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.39' not found (required by creel)")
		return 127
	},
	"secret-then-exit": func(state.Gateway) int {
		fmt.Fprintln(os.Stderr, "\n\nconnecting to https://user:hunter2@example.test with api_key=sk-canary0123456789\n   \nOPENAI_API_KEY="+os.Getenv("OPENAI_API_KEY"))
		return 3
	},
	"killed": func(g state.Gateway) int {
		_ = os.WriteFile(g.File("killed-at"), []byte(strconv.FormatInt(time.Now().UnixNano(), 10)), 0o600)
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	},
	"says-ready-and-exits": func(g state.Gateway) int {
		l, err := openLauncher()
		if err != nil {
			return 2
		}
		l.ready("11111111-1111-1111-1111-111111111111", endpoint{Host: "127.0.0.1", Port: 9})
		return 4
	},
	"says-ready-and-is-not": func(g state.Gateway) int {
		l, err := openLauncher()
		if err != nil {
			return 2
		}
		l.ready("11111111-1111-1111-1111-111111111111", endpoint{Host: "127.0.0.1", Port: 9})
		select {}
	},
	"never-answers": func(state.Gateway) int {
		signal.Ignore(syscall.SIGTERM)
		select {}
	},
	"wrong-nonce": func(state.Gateway) int {
		l, err := openLauncher()
		if err != nil {
			return 2
		}
		l.hello.Nonce = "another launch"
		l.ready("11111111-1111-1111-1111-111111111111", endpoint{Host: "127.0.0.1", Port: 9})
		select {}
	},
	"closes-without-a-word": func(state.Gateway) int {
		l, err := openLauncher()
		if err != nil {
			return 2
		}
		l.close()
		select {}
	},
}

// fakeServer is a gateway with only what the chain asks, which misbehaves by
// mode.
func fakeServer(mode string) func(context.Context, ServerInput, func(Ready)) error {
	return func(ctx context.Context, in ServerInput, ready func(Ready)) error {
		switch mode {
		case "panics":
			panic("the gateway of this test panics")
		case "gives-up":
			return advisory.New("disk-full", "open the database", syscall.ENOSPC)
		case "writes-and-gives-up":
			if err := os.WriteFile(in.Gateway.Database(), []byte("of a later version"), 0o600); err != nil {
				return err
			}
			return errors.New("the migration failed half way")
		case "late":
			select {
			case <-time.After(300 * time.Millisecond):
			case <-ctx.Done():
				return nil
			}
		}
		port := in.Port
		if port == DefaultPort { // other gateways of this machine are not to be met
			port = 0
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil && !in.PortExplicit {
			l, err = net.Listen("tcp", "127.0.0.1:0")
		}
		if err != nil {
			return err
		}
		r := Ready{InstanceID: "22222222-2222-2222-2222-222222222222", Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port}
		if mode == "hung" {
			ready(r)
			<-ctx.Done()
			return l.Close()
		}
		cfg := in.Material.ServerConfig()
		cfg.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return in.Certificate(), nil }
		cfg.Certificates = nil
		if mode == "open" {
			cfg.ClientAuth = 0
		}
		s := grpc.NewServer(grpc.Creds(credentials.NewTLS(cfg)))
		api := &fakeAPI{mode: mode, ready: r, in: in}
		openshellv1.RegisterOpenShellServer(s, api)
		creelv1.RegisterCreelServer(s, fakeCreel{api: api})
		served := make(chan error, 1)
		go func() { served <- s.Serve(l) }()
		ready(r)
		select {
		case err := <-served:
			return err
		case <-ctx.Done():
		}
		if mode == "deaf" {
			select {}
		}
		s.Stop()
		err = <-served
		if errors.Is(err, grpc.ErrServerStopped) {
			return nil
		}
		return err
	}
}

type fakeAPI struct {
	openshellv1.UnimplementedOpenShellServer
	mode  string
	ready Ready
	in    ServerInput
}

func (a *fakeAPI) Health(ctx context.Context, _ *openshellv1.HealthRequest) (*openshellv1.HealthResponse, error) {
	switch a.mode {
	case "unhealthy":
		return &openshellv1.HealthResponse{Status: openshellv1.ServiceStatus_SERVICE_STATUS_UNHEALTHY}, nil
	case "no-health":
		return nil, status.Error(codes.Unavailable, "the store is gone")
	case "health-hangs":
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return &openshellv1.HealthResponse{Status: openshellv1.ServiceStatus_SERVICE_STATUS_HEALTHY, Version: a.in.Version}, nil
}

type fakeCreel struct {
	creelv1.UnimplementedCreelServer
	api *fakeAPI
}

func (c fakeCreel) GetIdentity(context.Context, *creelv1.GetIdentityRequest) (*creelv1.GetIdentityResponse, error) {
	a := c.api
	r := &creelv1.GetIdentityResponse{Gateway: a.in.Gateway.Name, InstanceId: a.ready.InstanceID, Pid: int32(os.Getpid()),
		StartedAtMs: time.Now().UnixMilli(), Version: a.in.Version, BuildId: a.in.BuildID}
	switch a.mode {
	case "not-ours":
		r.InstanceId = "33333333-3333-3333-3333-333333333333"
	case "other-build":
		r.BuildId = "another"
	}
	return r, nil
}

// world is a home of its own with the bootstrap secrets of one gateway.
type world struct {
	t    testing.TB
	home string
	g    state.Gateway
	r    *Runtime
}

func newWorld(t testing.TB, mode string) *world {
	t.Helper()
	return newNamedWorld(t, mode, "creel", Config{})
}

func newNamedWorld(t testing.TB, mode, name string, cfg Config) *world {
	t.Helper()
	// Not t.TempDir: its names are too long for a socket's path.
	home, err := os.MkdirTemp("", "creel")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(home); err != nil {
			t.Error(err)
		}
	})
	env := map[string]string{"CREEL_HOME": home, "PATH": os.Getenv("PATH"), "OPENAI_API_KEY": "sk-of-the-user"}
	getenv := func(n string) string {
		if strings.HasPrefix(n, "CREEL_BUDGET_") {
			return os.Getenv(n)
		}
		return env[n]
	}
	roots, err := state.RootsFrom(getenv)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Gateway, cfg.Getenv = roots.Gateway(name), getenv
	w := &world{t: t, home: home, g: cfg.Gateway, r: New(cfg)}
	w.mode(mode)
	if err := state.MkdirAll(w.g.Dir()); err != nil {
		t.Fatal(err)
	}
	w.secrets()
	t.Cleanup(func() {
		if err := w.r.Stop(context.Background(), nil); err != nil {
			t.Errorf("stop: %v", err)
		}
		w.noProcess()
	})
	return w
}

func (w *world) secrets() {
	w.t.Helper()
	want := bundle.Requirements{Generation: bundle.Generation2}
	if _, err := bundle.Repair(context.Background(), bundle.Fixed{Store: dirstore.New(w.g), Want: want}, time.Now(), bundle.RepairOptions{Replace: true}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) mode(mode string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.home, modeFile), []byte(mode), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) start() {
	w.t.Helper()
	if err := w.r.Start(context.Background(), nil); err != nil {
		w.t.Fatalf("start: %v", err)
	}
}

// marker is what the running daemon recorded.
func (w *world) marker() marker {
	w.t.Helper()
	m, err := readMarker(w.g)
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

// noProcess fails the test when a process still runs an executable of this home.
func (w *world) noProcess() {
	w.t.Helper()
	all, err := host.Executables()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, exe := range all {
		if strings.HasPrefix(exe, w.home+"/") {
			w.t.Errorf("a process still runs %s", exe)
		}
	}
}
