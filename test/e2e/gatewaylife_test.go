package e2e

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"creel/internal/gateway"
)

// testGatewayLife: what befalls a gateway of Creel's own between its setting up and its
// end, and what is said of it then.
func testGatewayLife(t *testing.T) {
	h := newHome(t)
	says := func(code int, words []string, args ...string) {
		t.Helper()
		r := h.run(args...)
		for _, w := range words {
			if r.code != code || !strings.Contains(r.stdout+r.stderr, w) {
				t.Errorf("creel %s: exit %d, want %d and %q\n%s%s", strings.Join(args, " "), r.code, code, w, r.stdout, r.stderr)
			}
		}
		if strings.Contains(r.stdout+r.stderr, "desc = ") {
			t.Errorf("creel %s shows words of gRPC's\n%s%s", strings.Join(args, " "), r.stdout, r.stderr)
		}
	}

	// Nothing has been set up: every command says so, and none leaves anything.
	for _, args := range [][]string{{"gateway", "start"}, {"gateway", "stop"}, {"gateway", "upgrade"}, {"inference", "get"}} {
		says(1, []string{"gateway-not-set-up", "\n  creel onboard\n"}, args...)
	}
	if left, err := os.ReadDir(h.dir); err != nil || len(left) > 0 {
		t.Errorf("left on a fresh machine: %v, %v", left, err)
	}

	h.must(0, "onboard", "--gateway-only", "--yes")
	state := filepath.Join(h.dir, "state", "gateways", "creel")
	marker := func() (m struct {
		PID      int
		Endpoint gateway.Endpoint
	}) {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(state, "gateway.json"))
		if err == nil {
			err = json.Unmarshal(b, &m)
		}
		if err != nil {
			t.Fatal(err)
		}
		return m
	}

	// Killed: its marker is still there, and nobody believes it.
	was := marker()
	if err := syscall.Kill(was.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the killed daemon has ended", func() bool { return h.run("gateway", "status").code == 1 })
	says(1, []string{"gateway-not-running", "ended without saying so"}, "inference", "get")
	says(0, []string{"gateway-not-running"}, "list")

	// Its port is taken meanwhile: the next one says where it is and by whom the port is
	// taken, and OpenShell clients are led there.
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(was.Endpoint.Port)))
	if err != nil {
		t.Fatal(err)
	}
	says(0, []string{"port " + strconv.Itoa(was.Endpoint.Port) + " is taken by", "pid " + strconv.Itoa(os.Getpid()), "OpenShell clients find the gateway again"}, "gateway", "start")
	_ = l.Close()
	if now := marker().Endpoint.Port; now == was.Endpoint.Port {
		t.Fatalf("it is on port %d all the same", now)
	}
	says(0, []string{"ok"}, "status")
	h.must(0, "gateway", "stop")
	if err := os.WriteFile(filepath.Join(state, "endpoint.json"), []byte("noise"), 0o600); err != nil {
		t.Fatal(err)
	}
	says(0, []string{"endpoint.json", "it is on port"}, "gateway", "start")
	says(0, []string{"ok"}, "status")

	// Certificates that are damaged while it runs: a restart ends nothing, and what is
	// advised helps.
	was = marker()
	if err := os.WriteFile(filepath.Join(state, "tls", "server", "tls.crt"), []byte("noise"), 0o600); err != nil {
		t.Fatal(err)
	}
	replace := "creel gateway secrets repair --replace"
	says(1, []string{"secrets-malformed", replace}, "gateway", "restart")
	says(1, []string{"secrets-malformed", replace}, "gateway", "start")
	says(1, []string{"server is malformed", replace}, "gateway", "secrets", "inspect")
	if now := marker(); now.PID != was.PID || syscall.Kill(now.PID, 0) != nil {
		t.Error("the gateway was ended")
	}
	h.must(0, "gateway", "secrets", "repair", "--replace", "--yes")
	h.must(0, "gateway", "restart")
	says(0, []string{"ok"}, "status")

	// What is planned to be removed is all that there is, and is removed.
	plan := h.must(0, "uninstall", "--plan").stdout
	for _, path := range []string{"state/gateways/creel", "state/versions", "config/gateways/creel.yaml", "config/openshell/gateways/creel", "config/openshell/active_gateway"} {
		if !strings.Contains(plan, "remove  "+filepath.Join(h.dir, path)+"\n") {
			t.Errorf("the plan does not name %s:\n%s", path, plan)
		}
	}
	h.must(0, "uninstall", "--yes")
	for line := range strings.Lines(plan) {
		path, removed := strings.CutPrefix(strings.TrimSpace(line), "remove  ")
		if _, err := os.Lstat(path); removed && !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", path, err)
		}
	}
}
