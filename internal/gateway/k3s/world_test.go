package k3s

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	openshellv1 "creel/api/openshell/v1"
	"creel/internal/advisory"
	"creel/internal/bundle"
	"creel/internal/health"
	"creel/internal/host/engine"
	"creel/internal/state"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scripted is an engine that says and does what it is told, and refuses what a real
// one refuses.
type scripted struct {
	mu     sync.Mutex
	box    engine.Container
	err    error
	log    string
	calls  []string
	ended  chan int // what Exited waits for; nil is never
	onCall func(call string)
}

func (s *scripted) note(call string) {
	s.mu.Lock()
	s.calls = append(s.calls, call)
	f := s.onCall
	s.mu.Unlock()
	if f != nil {
		f(call)
	}
}

func (s *scripted) set(change func(*engine.Container)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.box)
}

func (s *scripted) did(call string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.calls {
		if c == call {
			n++
		}
	}
	return n
}

func (s *scripted) Container(context.Context, string) (engine.Container, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.box, s.err
}

func (s *scripted) Start(_ context.Context, name string) error {
	s.note("start " + name)
	s.set(func(b *engine.Container) { b.State, b.Status, b.StartedAt = engine.Running, "running", time.Now() })
	return nil
}

func (s *scripted) Stop(_ context.Context, name string, grace time.Duration) error {
	s.note("stop " + name)
	s.set(func(b *engine.Container) { b.State, b.Status = engine.NotRunning, "exited" })
	return nil
}

func (s *scripted) Exited(ctx context.Context, id string) (int, error) {
	s.mu.Lock()
	ended := s.ended
	s.mu.Unlock()
	select {
	case code := <-ended:
		return code, nil
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

func (s *scripted) Logs(_ context.Context, _ string, o engine.LogOptions, w io.Writer) error {
	s.mu.Lock()
	log := s.log
	s.mu.Unlock()
	_, err := io.WriteString(w, log)
	return err
}

func (s *scripted) Program() string { return "docker" }

// cluster holds a set in memory.
type cluster struct {
	mu        sync.Mutex
	secrets   map[string]bundle.Secret
	err       error // of every reading
	loads     int
	rolled    bool
	check     error
	sandboxes []string
	onApply   func()
}

var generation1 = bundle.Requirements{Generation: bundle.Generation1}

func (c *cluster) Requirements(context.Context) (bundle.Requirements, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return generation1, c.err
}

func (c *cluster) Load(context.Context, bundle.Requirements) (bundle.Snapshot, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.loads++
	return bundle.Snapshot{Secrets: maps.Clone(c.secrets)}, c.err
}

func (c *cluster) Apply(_ context.Context, write []bundle.Secret, _ bundle.Snapshot) error {
	c.mu.Lock()
	for _, s := range write {
		c.secrets[s.Name] = s
	}
	c.mu.Unlock()
	if c.onApply != nil {
		c.onApply()
	}
	return c.err
}

func (c *cluster) Roll(context.Context, []string) (bool, error) { c.rolled = true; return true, nil }

func (c *cluster) HealthCheck(context.Context) (health.Verdict, error) {
	if c.check != nil {
		return health.Failed, c.check
	}
	return health.OK, nil
}

func (c *cluster) Sandboxes(context.Context) ([]string, error) { return c.sandboxes, c.err }

func (c *cluster) remove(names ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range names {
		delete(c.secrets, name)
	}
}

func (c *cluster) get(name string) bundle.Secret {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.secrets[name]
}

// issued is a good set.
func issued(t testing.TB) map[string]bundle.Secret {
	t.Helper()
	now := time.Now()
	made, err := bundle.Issue(bundle.MakePlan(bundle.Inspect(bundle.Snapshot{}, generation1, now)), bundle.Snapshot{}, generation1, now, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	set := map[string]bundle.Secret{}
	for _, s := range made {
		set[s.Name] = s
	}
	return set
}

// world is one gateway: a scripted engine, a set, and perhaps something that listens.
type world struct {
	t       *testing.T
	engine  *scripted
	cluster *cluster
	home    state.Gateway
	env     map[string]string
	port    int
	*Runtime
	mu   sync.Mutex
	code int // what GET is answered with
	sick bool
	said []string
}

const boxName = "openshell-cluster-nemoclaw"

// newWorld is a running container with a good set in which nothing listens.
func newWorld(t *testing.T) *world {
	t.Helper()
	root := t.TempDir()
	w := &world{t: t, cluster: &cluster{secrets: issued(t)}, code: http.StatusUnauthorized, env: map[string]string{},
		home: state.Roots{State: filepath.Join(root, "state"), Config: filepath.Join(root, "config"), OpenShell: filepath.Join(root, "openshell")}.Gateway("nemoclaw")}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.port = l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	w.engine = &scripted{box: engine.Container{Name: boxName, ID: "id1", State: engine.Running, Status: "running", StartedAt: time.Now(),
		Image: "ghcr.io/nvidia/openshell/cluster:0.0.36", Ports: []engine.Port{{Inside: 6443, Port: 6443}, {Inside: nodePort, Port: w.port}}}}
	w.Runtime = New(Config{Gateway: w.home, Container: boxName, Engine: w.engine, Cluster: w.cluster, Getenv: func(n string) string { return w.env[n] }})
	return w
}

func (w *world) report(message string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, message)
}

func (w *world) heard(part string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Contains(strings.Join(w.said, "\n"), part)
}

// api is a gateway of the cluster era.
type api struct {
	openshellv1.UnimplementedOpenShellServer
	w *world
}

func (a api) Health(context.Context, *openshellv1.HealthRequest) (*openshellv1.HealthResponse, error) {
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	s := openshellv1.ServiceStatus_SERVICE_STATUS_HEALTHY
	if a.w.sick {
		s = openshellv1.ServiceStatus_SERVICE_STATUS_UNHEALTHY
	}
	return &openshellv1.HealthResponse{Status: s, Version: "0.0.36"}, nil
}

// serve serves as the pod of the gateway does, with the secrets as they are now,
// until stop is called.
func (w *world) serve() (stop func()) {
	w.t.Helper()
	server, ca := w.cluster.get(bundle.ServerTLS), w.cluster.get(bundle.ServerCA)
	pair, err := tls.X509KeyPair(server.Data["tls.crt"], server.Data["tls.key"])
	if err != nil {
		w.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca.Data["ca.crt"]) {
		w.t.Fatal("no client CA")
	}
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", w.port))
	if err != nil {
		w.t.Fatal(err)
	}
	s := grpc.NewServer()
	openshellv1.RegisterOpenShellServer(s, api{w: w})
	h := &http.Server{ReadHeaderTimeout: 5 * time.Second, ErrorLog: nil, TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool,
		ClientAuth: tls.RequireAndVerifyClientCert, NextProtos: []string{"h2", "http/1.1"}}, Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			s.ServeHTTP(rw, r)
			return
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		rw.WriteHeader(w.code)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = h.ServeTLS(l, "", "") }()
	var once sync.Once
	stop = func() { once.Do(func() { s.Stop(); _ = h.Close(); <-done }) }
	w.t.Cleanup(stop)
	return stop
}

// register writes what OpenShell clients have: the client's part of a set, for the
// gateway's endpoint.
func (w *world) register(set map[string]bundle.Secret) {
	w.t.Helper()
	files, err := bundle.OpenClient(bundle.Snapshot{Secrets: set}, generation1)
	if err != nil {
		w.t.Fatal(err)
	}
	dir := w.home.Registration()
	for name, content := range map[string][]byte{"mtls/ca.crt": files.CA, "mtls/tls.crt": files.Cert, "mtls/tls.key": files.Key,
		"metadata.json": fmt.Appendf(nil, `{"name":"nemoclaw","gateway_endpoint":"https://127.0.0.1:%d"}`, w.port)} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, content, 0o600)); err != nil {
			w.t.Fatal(err)
		}
	}
}

// knows is the certificate that OpenShell clients have.
func (w *world) knows() string {
	b, _ := os.ReadFile(filepath.Join(w.home.Registration(), "mtls", "tls.crt"))
	return string(b)
}

// program puts an openshell command into the path.
func (w *world) program(script string) {
	w.t.Helper()
	dir := w.t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "openshell"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		w.t.Fatal(err)
	}
	w.env["PATH"] = dir + ":/usr/bin:/bin"
}

func id(err error) string {
	if p, ok := advisory.Of(err); ok {
		return p.ID
	}
	return ""
}
