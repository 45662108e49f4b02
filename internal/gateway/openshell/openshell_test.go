package openshell

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"creel/internal/advisory"
	"creel/internal/gateway/launch"
	"creel/internal/gateway/release"
	"creel/internal/health"
	"creel/internal/host"
	"creel/internal/state"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// home is a runtime whose user has this environment.
func home(t *testing.T, env map[string]string) *Runtime {
	t.Helper()
	dir := t.TempDir()
	g := state.Roots{Config: dir, State: dir, Run: dir, OpenShell: dir}.Gateway("creel")
	if err := os.MkdirAll(g.Dir(), 0o700); err != nil {
		t.Fatal(err)
	}
	return New(Config{Gateway: g, Getenv: func(n string) string { return env[n] }})
}

func executable(t *testing.T, dir, name string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	named, alias := executable(t, dir+"/named", "any-name"), executable(t, dir+"/alias", "any-name")
	beside := executable(t, dir+"/bin", program)
	executable(t, dir+"/bin", "openshell")
	local := executable(t, dir+"/home/.local/bin", program)
	for _, c := range []struct {
		name string
		env  map[string]string
		want string
	}{
		{"the variable first", map[string]string{variables[0]: named, variables[1]: alias, "PATH": dir + "/bin"}, named},
		{"its alias", map[string]string{variables[1]: alias, "PATH": dir + "/bin"}, alias},
		{"beside openshell", map[string]string{"PATH": "/nowhere:relative:" + dir + "/bin", "HOME": dir + "/home"}, beside},
		{"the user's own", map[string]string{"PATH": "/nowhere", "HOME": dir + "/home"}, local},
	} {
		got, err := Find(func(n string) string { return c.env[n] })
		if err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", c.name, got, err, c.want)
		}
	}
	// What was named and is not there is not replaced by what happens to be found.
	for _, wrong := range []string{dir + "/absent", dir} {
		_, err := Find(func(n string) string { return map[string]string{variables[0]: wrong, "PATH": dir + "/bin"}[n] })
		if p, ok := advisory.Of(err); !ok || p.ID != "gateway-binary-missing" || !strings.Contains(err.Error(), variables[0]) {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}

func TestEnvironment(t *testing.T) {
	env := map[string]string{"PATH": "/bin", "HOME": "/h", "OPENAI_API_KEY": "sk", "NVIDIA_API_KEY": "nvapi", "LD_PRELOAD": "x",
		"DOCKER_HOST": "unix:///d", "OPENSHELL_TLS_CERT": "/evil", "OPENSHELL_DB_URL": "sqlite:/evil", "CREEL_PROVIDER_KEY": "sk"}
	r := home(t, env)
	got := listed(r.environment("/nowhere/gw", 8081, release.Release{}))
	for _, want := range []string{"PATH=/bin", "HOME=/h", "DOCKER_HOST=unix:///d", "OPENSHELL_DRIVERS=docker", "OPENSHELL_BIND_ADDRESS=127.0.0.1",
		"OPENSHELL_SERVER_PORT=8081", "OPENSHELL_GRPC_ENDPOINT=https://127.0.0.1:8081", "OPENSHELL_DOCKER_NETWORK_NAME=openshell-creel",
		"OPENSHELL_DB_URL=" + r.databaseURL(), "OPENSHELL_TLS_CERT=" + r.cfg.Gateway.File("tls") + "/server/tls.crt",
		"OPENSHELL_TLS_KEY=" + r.cfg.Gateway.File("tls") + "/server/tls.key", "OPENSHELL_TLS_CLIENT_CA=" + r.cfg.Gateway.File("tls") + "/ca.crt"} {
		if !slices.Contains(got, want) {
			t.Errorf("%s is not in %q", want, got)
		}
	}
	if text := strings.Join(got, "\n"); strings.Contains(text, "sk") || strings.Contains(text, "nvapi") || strings.Contains(text, "LD_PRELOAD") || strings.Contains(text, "evil") {
		t.Errorf("too much of the user's: %q", got)
	}
	r.cfg.Plaintext = true
	plain := listed(r.environment("/nowhere/gw", 8081, release.Release{}))
	if text := strings.Join(plain, "\n"); strings.Contains(text, "OPENSHELL_TLS_") || !strings.Contains(text, "OPENSHELL_GRPC_ENDPOINT=http://") {
		t.Errorf("plaintext: %q", plain)
	}
	// What the gateway behaves by is in the hash, the rest is not.
	if hash(got, "") == hash(plain, "") || hash(got, "") == hash(got, "a file") {
		t.Error("plaintext, or another configuration, is no drift")
	}
	was := hash(got, "")
	env["PATH"] = "/other"
	if hash(r.environmentWithTLS(), "") != was {
		t.Error("another PATH is drift")
	}
	env["DOCKER_HOST"] = "unix:///other"
	if hash(r.environmentWithTLS(), "") == was {
		t.Error("another Docker is no drift")
	}
	supervisor := executable(t, t.TempDir(), "openshell-sandbox")
	if !slices.Contains(listed(r.environment(filepath.Join(filepath.Dir(supervisor), program), 1, release.Release{})), "OPENSHELL_DOCKER_SUPERVISOR_BIN="+supervisor) {
		t.Error("the supervisor beside the gateway is not used")
	}
}

func (r *Runtime) environmentWithTLS() []string {
	with := New(r.cfg)
	with.cfg.Plaintext = false
	return listed(with.environment("/nowhere/gw", 8081, release.Release{}))
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Without a marker that can be read nobody is identified, and nothing is done on
// it while somebody listens on the recorded port.
func TestDamagedMarker(t *testing.T) {
	r := home(t, nil)
	g := r.cfg.Gateway
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	write(t, g.File(state.EndpointFile), fmt.Sprintf(`{"version":1,"host":%q,"port":%d}`, bind, l.Addr().(*net.TCPAddr).Port))
	write(t, g.File(state.ProcessFile), "{")
	if o := r.Observe(t.Context()); o.Verdict != health.Unknown || o.Absent || o.Reason != "gateway-marker-invalid" {
		t.Errorf("%v %s absent=%v", o.Verdict, o.Reason, o.Absent)
	}
	if p, ok := advisory.Of(r.Stop(t.Context(), nil)); !ok || p.ID != "gateway-marker-invalid" {
		t.Errorf("Stop: %v", p)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if o := r.Observe(t.Context()); o.Verdict != health.Failed || !o.Absent {
		t.Errorf("with the port free: %v %s absent=%v", o.Verdict, o.Reason, o.Absent)
	}
	if err := r.Stop(t.Context(), nil); err != nil {
		t.Error(err)
	}
	// One of a newer Creel names its process and is left alone.
	write(t, g.File(state.ProcessFile), `{"version":2}`)
	if o := r.Observe(t.Context()); o.Absent || o.Reason != "gateway-marker-newer" {
		t.Errorf("newer: %v %s absent=%v", o.Verdict, o.Reason, o.Absent)
	}
	if err := r.Stop(t.Context(), nil); err == nil {
		t.Error("a newer Creel's gateway was stopped")
	}
}

// The caller's time being over says nothing about the gateway.
func TestObserveCutShort(t *testing.T) {
	r := home(t, nil)
	r.cfg.Plaintext = true
	start, err := host.ProcessStartTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := writeMarker(r.cfg.Gateway, marker{Mark: launch.MarkOf("creel", os.Getpid(), start, time.Time{}), Port: 9, Plaintext: true}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if o := r.Observe(ctx); o.Verdict != health.Unknown || o.Absent {
		t.Errorf("%v %s: %s", o.Verdict, o.Reason, o.Message)
	}
}

// No marker that parses names a process that could not be a gateway's.
func FuzzParseMarker(f *testing.F) {
	f.Add(`{"version":1,"gateway":"creel","pid":2,"process_start":3,"port":4}`)
	f.Add(`{"version":2}`)
	f.Fuzz(func(t *testing.T, text string) {
		m, err := launch.ParseMarker[marker]([]byte(text), "creel")
		if err == nil && (m.PID < 2 || m.ProcessStart == 0 || m.Port < 1 || m.Port > 65535 || m.Gateway != "creel" || m.Version != 1) {
			t.Errorf("%+v of %q", m, text)
		}
	})
}

// The marker of a process that has ended says nothing of where a gateway could be asked.
func TestDialAfterTheEnd(t *testing.T) {
	r := home(t, nil)
	_, err := r.Dial(t.Context())
	if p, ok := advisory.Of(err); !ok || p.ID != "gateway-not-running" {
		t.Errorf("never started: %v", err)
	}
	// Nobody's number: beyond what the kernel gives.
	m := marker{Mark: launch.MarkOf("creel", 1<<30, 1, time.Unix(1, 0)), Driver: driverName, Port: 1, Binary: "/nowhere", EnvironmentHash: "x"}
	if err := writeMarker(r.cfg.Gateway, m); err != nil {
		t.Fatal(err)
	}
	_, err = r.Dial(t.Context())
	if p, ok := advisory.Of(err); !ok || p.ID != "gateway-not-running" {
		t.Errorf("after its end: %v", err)
	}
}
