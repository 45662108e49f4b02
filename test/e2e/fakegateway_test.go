package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"creel/internal/host"
)

// gatewayHome is a home whose gateway is run by somebody else's program.
type gatewayHome struct {
	*home
	exe string // this home's copy of the gateway program
}

// newGatewayHome makes a home with runtime openshell and a gateway program that
// behaves as the lines (key=value) say; settings are added to the desired state.
func newGatewayHome(t testing.TB, settings string, lines ...string) *gatewayHome {
	t.Helper()
	h := &gatewayHome{home: newHome(t)}
	dir := filepath.Join(h.dir, "bin")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	h.exe = filepath.Join(dir, "openshell-gateway")
	copyFile(t, h.exe, fakeGateway)
	h.behave(lines...)
	h.env = append(h.env, "CREEL_OPENSHELL_GATEWAY_BIN="+h.exe, "OPENAI_API_KEY="+canary,
		"CREEL_BUDGET_GATEWAY_START=2s", "CREEL_BUDGET_PROBE=700ms", "CREEL_BUDGET_LOCK=500ms")
	h.want("runtime: openshell\n" + settings)
	return h
}

// in is the same home in a subtest.
func (h *gatewayHome) in(t testing.TB) *gatewayHome {
	return &gatewayHome{home: &home{t: t, dir: h.dir, env: h.env, secrets: h.secrets}, exe: h.exe}
}

// want writes the desired state.
func (h *gatewayHome) want(settings string) {
	h.t.Helper()
	path := filepath.Join(h.dir, "config", "gateways", "creel.yaml")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("apiVersion: creel/v1alpha1\nkind: Gateway\nname: creel\n"+settings), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// behave says how the gateway program behaves from its next start on.
func (h *gatewayHome) behave(lines ...string) {
	h.t.Helper()
	if err := os.WriteFile(h.exe+".mode", []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		h.t.Fatal(err)
	}
}

// reached is what the gateway program says that it did.
func (h *gatewayHome) reached() string {
	content, _ := os.ReadFile(h.exe + ".reached")
	child, _ := os.ReadFile(h.exe + "-child.reached")
	return string(content) + string(child)
}

func (h *gatewayHome) file(name string) string {
	return filepath.Join(h.dir, "state", "gateways", "creel", name)
}

func copyFile(t testing.TB, to, from string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// status asks for the gateway's status as a document.
func (h *gatewayHome) status() (gatewayStatus, result) {
	h.t.Helper()
	r := h.run("gateway", "status", "--json")
	return decode[gatewayStatus](h.t, r), r
}

type gatewayStatus struct {
	Verdict  string   `json:"verdict"`
	Reason   string   `json:"reason"`
	Message  string   `json:"message"`
	PID      int      `json:"pid"`
	Version  string   `json:"version"`
	Endpoint string   `json:"endpoint"`
	Drift    []string `json:"drift"`
	Caveats  []struct {
		Advisory string `json:"advisory"`
	} `json:"caveats"`
	Evidence []struct {
		Probe   string `json:"probe"`
		Answer  string `json:"answer"`
		Verdict string `json:"verdict"`
		Took    int64  `json:"took_us"`
	} `json:"evidence"`
}

// direct starts the gateway program as the test's own child, with the environment
// that Creel would give it, and records it as Creel does. It lives in no session of
// Creel's and is ended by the test.
func (h *gatewayHome) direct(port int, plaintext bool) *exec.Cmd {
	h.t.Helper()
	cmd := exec.Command(h.exe)
	tls := h.file("tls")
	cmd.Env = []string{"CREEL_HOME=" + h.dir, "OPENSHELL_BIND_ADDRESS=127.0.0.1", "OPENSHELL_SERVER_PORT=" + strconv.Itoa(port),
		"OPENSHELL_DB_URL=sqlite:" + h.file("openshell.db") + "?mode=rwc"}
	if !plaintext {
		cmd.Env = append(cmd.Env, "OPENSHELL_TLS_CERT="+tls+"/server/tls.crt", "OPENSHELL_TLS_KEY="+tls+"/server/tls.key", "OPENSHELL_TLS_CLIENT_CA="+tls+"/ca.crt")
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	waited := make(chan struct{})
	h.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		go func() { _ = cmd.Wait(); close(waited) }()
		<-waited
	})
	h.record(cmd.Process.Pid, port, plaintext)
	return cmd
}

// record writes the marker that names a process.
func (h *gatewayHome) record(pid, port int, plaintext bool) {
	h.t.Helper()
	start, err := host.ProcessStartTime(pid)
	if err != nil {
		h.t.Fatal(err)
	}
	h.recordAs(pid, start, port, plaintext)
}

func (h *gatewayHome) recordAs(pid int, start uint64, port int, plaintext bool) {
	h.t.Helper()
	b, err := json.Marshal(map[string]any{"version": 1, "gateway": "creel", "pid": pid, "process_start": start, "started_at": time.Now().UTC(),
		"driver": "docker", "port": port, "plaintext": plaintext, "environment_hash": "x", "binary": h.exe, "openshell_version": "", "docker_host": ""})
	if err != nil {
		h.t.Fatal(err)
	}
	for name, content := range map[string][]byte{"openshell.json": b, "openshell.pid": []byte(strconv.Itoa(pid) + "\n"),
		"endpoint.json": fmt.Appendf(nil, `{"version":1,"host":"127.0.0.1","port":%d}`, port)} {
		if err := os.MkdirAll(filepath.Dir(h.file(name)), 0o700); err != nil {
			h.t.Fatal(err)
		}
		if err := os.WriteFile(h.file(name), content, 0o600); err != nil {
			h.t.Fatal(err)
		}
	}
}

// freePort is a port that nobody listens on at the moment.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// innocent is a live process that has nothing to do with Creel and must survive.
func innocent(t testing.TB) int {
	t.Helper()
	c := exec.Command("sleep", "600")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p, err := host.Lookup(c.Process.Pid); err != nil || p.Gone() {
			t.Error("the innocent process did not survive")
		}
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	return c.Process.Pid
}

var childPID = regexp.MustCompile(`forked child=(\d+)`)

// noGatewayProcess fails when a process of this home's gateway program is left.
func (h *gatewayHome) noGatewayProcess() {
	h.t.Helper()
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		exe, _ := os.Readlink(filepath.Join("/proc", e.Name(), "exe"))
		if p, err := host.Lookup(pid); strings.HasPrefix(exe, h.exe) && err == nil && !p.Gone() {
			h.t.Errorf("gateway process left: %d %s", pid, exe)
		}
	}
}
