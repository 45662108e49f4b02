package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"creel/test/openaitest"
)

const canary = "sk-canary-3f9a61d0c2e84b7795aa"

// stack is a home that was onboarded against a local provider.
func stack(t *testing.T, args ...string) (*home, *openaitest.Server) {
	t.Helper()
	provider := openaitest.Start(t)
	provider.SetKey(canary)
	h := newHome(t)
	h.secrets = append(h.secrets, canary)
	h.onboard(provider, args...)
	return h, provider
}

// onboard runs the main job with the provider's key in the environment of this
// one command.
func (h *home) onboard(provider *openaitest.Server, args ...string) result {
	h.t.Helper()
	r := h.runProgram(creel, []string{"TEST_KEY=" + canary}, h.onboardArgs(provider, args...)...)
	if r.code != 0 {
		h.t.Fatalf("onboard: exit %d\n%s%s%s", r.code, r.stdout, r.stderr, h.logs())
	}
	return r
}

func (h *home) onboardArgs(provider *openaitest.Server, args ...string) []string {
	return append([]string{"onboard", "--yes", "--non-interactive", "--provider", "custom", "--endpoint-url", provider.URL,
		"--model", openaitest.DefaultModel, "--credential-env", "TEST_KEY"}, args...)
}

type statusDocument struct {
	Verdict string `json:"verdict"`
	Layers  []struct {
		Layer   string `json:"layer"`
		Subject string `json:"subject"`
		Verdict string `json:"verdict"`
		Message string `json:"message"`
	} `json:"layers"`
}

type dashboardDocument struct {
	URL string `json:"url"`
}

type gatewayDocument struct {
	Verdict string `json:"verdict"`
	PID     int    `json:"pid"`
}

type listDocument struct {
	Sandboxes []struct {
		Name string `json:"name"`
		ID   string `json:"id"`
		PID  int    `json:"pid"`
	} `json:"sandboxes"`
}

func (h *home) verdict() string {
	h.t.Helper()
	return decode[statusDocument](h.t, h.run("status", "--json")).Verdict
}

func (h *home) gatewayPID() int {
	h.t.Helper()
	g := decode[gatewayDocument](h.t, h.must(0, "gateway", "status", "--json"))
	if g.PID <= 1 { // signalling 0 or 1 would hit somebody else
		h.t.Fatalf("gateway status shows no process: %+v", g)
	}
	return g.PID
}

func (h *home) agentPID() int {
	h.t.Helper()
	l := decode[listDocument](h.t, h.must(0, "list", "--json"))
	if len(l.Sandboxes) != 1 || l.Sandboxes[0].PID <= 1 {
		h.t.Fatalf("list shows no running agent: %+v", l)
	}
	return l.Sandboxes[0].PID
}

// ask sends one chat request from inside the sandbox through the relay, with
// nothing but a shell, and returns the answer.
func (h *home) ask() result {
	h.t.Helper()
	script := `body='{"model":"any","messages":[{"role":"user","content":"ping"}]}'
host=${OPENAI_BASE_URL#http://}; host=${host%%/*}
exec 3<>/dev/tcp/${host%:*}/${host#*:}
printf 'POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %s\r\n\r\n%s' "$OPENAI_API_KEY" "${#body}" "$body" >&3
cat <&3`
	return h.run("exec", "claw", "--", "/bin/bash", "-c", script)
}

func TestE2E(t *testing.T) {
	t.Run("full", testFull)
	t.Run("browser", testBrowser)
	t.Run("dashboard-rotate-token", testRotateToken)
	t.Run("dashboard-rotate-token-killed", testRotateKilled)
	t.Run("agent-openclaw", testOpenClaw)
	t.Run("web-search-verify", testOpenClawShaped)
	t.Run("dashboard-proxy", testDashboardProxy)
	t.Run("dashboard-open", testDashboardOpen)
	t.Run("dashboard-remote-bind", testRemoteBind)
	t.Run("forwards", testForwards)
	t.Run("forward-speed", testForwardSpeed)
	t.Run("sandbox-survival", testSurvival)
	t.Run("secrets-rotate", testRotate)
	t.Run("gateway-bootstrap-secret-repair", testSecretRepair)
	t.Run("gateway-bootstrap-secret-repair-container", testSecretRepairContainer)
	t.Run("double-onboard", testDoubleOnboard)
	t.Run("killed-anywhere", testKilledAnywhere)
	t.Run("gateway-health-honest", testHealthHonest)
	t.Run("openshell-gateway-upgrade", testUpgrade)
	t.Run("gateway-external", testExternal)
	t.Run("gateway-k3s", testK3s)
	t.Run("gateway-kubernetes", testGatewayKubernetes)
	t.Run("busy", testBusy)
	t.Run("bad-input", testBadInput)
	t.Run("destroy-with-dead-gateway", testDestroyDead)
	t.Run("destroy-with-mute-gateway", testDestroyMute)
	t.Run("unconfined", testUnconfined)
	t.Run("long-commands", testLongCommands)
	t.Run("sftp", testSFTP)
	t.Run("disk", testDisk)
	t.Run("executable", testExecutable)
	t.Run("damage", testDamage)
	t.Run("service", testService)
	t.Run("gateway-life", testGatewayLife)
	t.Run("many-gateways", testManyGateways)
	t.Run("speed", testSpeed)
}

func testFull(t *testing.T) {
	h, provider := stack(t)
	if v := h.verdict(); v != "ok" {
		t.Fatalf("verdict %q after onboard\n%s%s", v, h.must(0, "status").stdout, h.logs())
	}
	if first, _, _ := strings.Cut(h.must(0, "status").stdout, "\n"); !strings.Contains(first, "ok") {
		t.Errorf("the first line of status is %q, not the verdict", first)
	}
	if r := h.ask(); !strings.Contains(r.stdout, "200 OK") || !strings.Contains(r.stdout, "ping") {
		t.Errorf("no answer through the relay:\n%s\n%s", r.stdout, r.stderr)
	}
	for _, r := range provider.Requests() {
		if got := r.Header.Get("Authorization"); got != "Bearer "+canary {
			t.Errorf("%s %s came with %q", r.Method, r.Path, got)
		}
	}
	if r := h.run("exec", "claw", "--", "/bin/sh", "-c", "echo out; echo err >&2; exit 7"); r.code != 7 || r.stdout != "out\n" || !strings.Contains(r.stderr, "err") {
		t.Errorf("exec: %+v", r)
	}
	if r := h.must(0, "exec", "claw", "--", "/bin/sh", "-c", "env; cat /proc/*/environ 2>/dev/null; id -u; ls -a /sandbox"); strings.Contains(r.stdout, canary) {
		t.Error("the provider's key is visible inside the sandbox")
	}
	if r := h.runInput("from outside\n", creel, nil, "exec", "claw", "--", "cat"); r.code != 0 || r.stdout != "from outside\n" {
		t.Errorf("standard input of exec: %+v", r)
	}
	if r := h.must(0, "logs", "claw"); r.stdout == "" {
		t.Error("the log of a running agent is empty")
	}
	h.noSecrets()

	url := decode[dashboardDocument](t, h.must(0, "dashboard", "claw", "--json")).URL
	if url == "" || strings.Contains(url, "token") {
		t.Fatalf("dashboard url is %q", url)
	}
	page, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	_ = page.Body.Close()
	if page.StatusCode != http.StatusOK {
		t.Errorf("the page answers %s", page.Status)
	}

	before := snapshot(t, h.dir)
	pid := h.gatewayPID()
	again := h.onboard(provider)
	if !strings.Contains(again.stdout+again.stderr, "othing to do") {
		t.Errorf("a second onboard does not say that there is nothing to do:\n%s%s", again.stdout, again.stderr)
	}
	if after := h.gatewayPID(); after != pid {
		t.Errorf("a second onboard replaced the gateway: pid %d, then %d", pid, after)
	}
	if after := snapshot(t, h.dir); before != after {
		t.Errorf("a second onboard changed files:\n%s\n---\n%s", before, after)
	}

	h.must(0, "destroy", "claw", "--yes")
	h.must(0, "destroy", "claw", "--yes")
	if l := decode[listDocument](t, h.must(0, "list", "--json")); len(l.Sandboxes) != 0 {
		t.Errorf("destroyed, but listed: %+v", l)
	}
	decoy := filepath.Join(h.dir, "state", "decoy")
	if err := os.WriteFile(decoy, []byte("not ours"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.must(0, "uninstall", "--yes")
	h.must(0, "uninstall", "--yes")
	if left := h.processes(); len(left) != 0 {
		t.Errorf("processes left: %v", left)
	}
	var files []string
	_ = filepath.WalkDir(h.dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, path)
		}
		return nil
	})
	if len(files) != 1 || files[0] != decoy {
		t.Errorf("left after uninstall: %v, want only the decoy", files)
	}
}

// snapshot names every file that belongs to desired or recorded state with its
// content. Databases and logs change while the gateway lives and are left out.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.Type().IsRegular() && !strings.Contains(name, ".db") && !strings.HasSuffix(name, ".log") && name != "creel" {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, "%s %q\n", strings.TrimPrefix(path, dir), content)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func testSurvival(t *testing.T) {
	h, _ := stack(t)
	h.must(0, "exec", "claw", "--", "/bin/sh", "-c", "echo marker > /sandbox/marker")
	agent, gateway := h.agentPID(), h.gatewayPID()
	url := decode[dashboardDocument](t, h.must(0, "dashboard", "claw", "--json")).URL

	if err := syscall.Kill(gateway, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "status sees that the gateway is dead", func() bool { return h.verdict() == "failed" })
	if syscall.Kill(agent, 0) != nil {
		t.Fatal("the agent died with the gateway")
	}
	h.must(0, "gateway", "start")
	eventually(t, "everything is ok again", func() bool { return h.verdict() == "ok" })
	if now := h.agentPID(); now != agent {
		t.Errorf("the agent's pid is %d, it was %d", now, agent)
	}
	if now := decode[dashboardDocument](t, h.must(0, "dashboard", "claw", "--json")).URL; now != url {
		t.Errorf("the dashboard moved from %s to %s", url, now)
	}
	if r := h.must(0, "exec", "claw", "--", "cat", "/sandbox/marker"); r.stdout != "marker\n" {
		t.Errorf("the marker is %q", r.stdout)
	}
	if r := h.ask(); !strings.Contains(r.stdout, "200 OK") {
		t.Errorf("no chat after the restart:\n%s%s", r.stdout, r.stderr)
	}

	// Everything killed at once, as by a reboot: one command brings it back.
	for _, p := range h.processes() {
		_ = syscall.Kill(p.pid, syscall.SIGKILL)
	}
	eventually(t, "everything is dead", func() bool { return len(h.processes()) == 0 && syscall.Kill(agent, 0) != nil })
	h.must(0, "gateway", "start")
	eventually(t, "everything is ok after a reboot", func() bool { return h.verdict() == "ok" })
	if r := h.must(0, "exec", "claw", "--", "cat", "/sandbox/marker"); r.stdout != "marker\n" {
		t.Errorf("the marker is %q after a reboot", r.stdout)
	}
	h.noSecrets()
}

func testDoubleOnboard(t *testing.T) {
	h, provider := stack(t)
	pid, agent := h.gatewayPID(), h.agentPID()
	h.onboard(provider, "--name", "second")
	if now := h.gatewayPID(); now != pid {
		t.Errorf("the gateway was replaced: pid %d, then %d", pid, now)
	}
	if syscall.Kill(agent, 0) != nil {
		t.Error("the first agent did not survive the second onboard")
	}
	a := decode[dashboardDocument](t, h.must(0, "dashboard", "claw", "--json")).URL
	b := decode[dashboardDocument](t, h.must(0, "dashboard", "second", "--json")).URL
	if a == b || a == "" || b == "" {
		t.Errorf("dashboards at %q and %q", a, b)
	}
	if v := h.verdict(); v != "ok" {
		t.Errorf("verdict %q with two sandboxes", v)
	}
}

// testKilledAnywhere is requirement R1: SIGKILL after every journal entry, then
// the same command again.
func testKilledAnywhere(t *testing.T) {
	provider := openaitest.Start(t)
	provider.SetKey(canary)
	killed := 0
	for after := 1; ; after++ {
		if after > 60 {
			t.Fatal("a run has more than 60 journal entries")
		}
		h := newHome(t)
		env := []string{"TEST_KEY=" + canary}
		r := h.runProgram(killer, append(env, fmt.Sprintf("KILLER_AFTER=%d", after)), h.onboardArgs(provider)...)
		if r.code == 0 {
			break // fewer entries than that: every one was tried
		}
		if r.code != 128+int(syscall.SIGKILL) {
			t.Fatalf("entry %d: exit %d, not killed\n%s%s", after, r.code, r.stdout, r.stderr)
		}
		killed++
		if r := h.runProgram(killer, env, h.onboardArgs(provider)...); r.code != 0 {
			t.Fatalf("entry %d: the same command again: exit %d\n%s%s%s", after, r.code, r.stdout, r.stderr, h.logs())
		}
		if r := h.runProgram(killer, nil, "status"); r.code != 0 {
			t.Errorf("entry %d: status after the second run: exit %d\n%s", after, r.code, r.stdout)
		}
		if l := decode[listDocument](t, h.must(0, "list", "--json")); len(l.Sandboxes) != 1 {
			t.Errorf("entry %d: sandboxes %+v", after, l)
		}
		h.must(0, "uninstall", "--yes")
	}
	if killed < 5 {
		t.Errorf("only %d entries were reached", killed)
	}
}

func testBusy(t *testing.T) {
	h, provider := stack(t)
	lock := filepath.Join(h.dir, "state", "gateways", "creel", "gateway.lock")
	f, err := os.OpenFile(lock, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	r := h.run(h.onboardArgs(provider, "--name", "other")...)
	if r.code != 5 {
		t.Errorf("onboard beside another run: exit %d\n%s", r.code, r.stderr)
	}
	if v := h.verdict(); v != "ok" {
		t.Errorf("status while the lock is held: %q", v)
	}
}

func testDestroyDead(t *testing.T) {
	h, _ := stack(t)
	agent := h.agentPID()
	if err := syscall.Kill(h.gatewayPID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	h.must(0, "destroy", "claw", "--yes")
	eventually(t, "the agent is gone", func() bool { return syscall.Kill(agent, 0) != nil })
	h.must(0, "gateway", "start")
	if l := decode[listDocument](t, h.must(0, "list", "--json")); len(l.Sandboxes) != 0 {
		t.Errorf("the gateway brought back what was destroyed: %+v", l)
	}
}

// testDestroyMute: a gateway that lives is not raced for its sandbox, whether it
// hangs or only this side lacks what it takes to ask it.
func testDestroyMute(t *testing.T) {
	h, dir := standing(t)
	agent, pid := h.agentPID(), h.gatewayPID()
	refused := func(reason string) {
		t.Helper()
		r := h.must(1, "destroy", "claw", "--yes")
		for _, says := range []string{reason, "creel gateway stop"} {
			if !strings.Contains(r.stdout+r.stderr, says) {
				t.Errorf("it does not say %q:\n%s%s", says, r.stdout, r.stderr)
			}
		}
		if syscall.Kill(agent, 0) != nil {
			t.Fatal("the agent is gone")
		}
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	refused("gateway-hung")
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, "tls", "client", "tls.key")
	if err := os.Rename(key, key+".kept"); err != nil {
		t.Fatal(err)
	}
	refused("secrets-")
	if stones, err := filepath.Glob(filepath.Join(dir, "deleted", "*")); err != nil || len(stones) > 0 {
		t.Errorf("tombstones %q, %v", stones, err)
	}
	// What it advises does it.
	h.must(0, "gateway", "stop")
	h.must(0, "destroy", "claw", "--yes")
	eventually(t, "the agent is gone", func() bool { return syscall.Kill(agent, 0) != nil })
}

func testBadInput(t *testing.T) {
	provider := openaitest.Start(t)
	h := newHome(t)
	cases := []struct {
		name string
		mode openaitest.Mode
		args []string
		code int
		says string
	}{
		{"unknown flag", "", []string{"onboard", "--no-such-flag"}, 2, "no-such-flag"},
		{"unknown command", "", []string{"onbord"}, 2, "onbord"},
		{"bad name", "", []string{"onboard", "--yes", "--name", "Bad_Name"}, 2, "Bad_Name"},
		{"reserved name", "", []string{"onboard", "--yes", "--name", "status"}, 2, "command"},
		{"unknown provider", "", []string{"onboard", "--yes", "--provider", "nope"}, 2, "nope"},
		{"conflict", "", []string{"onboard", "--yes", "--provider", "none", "--model", "m"}, 2, "--model"},
		{"model with a space", "", []string{"onboard", "--yes", "--provider", "custom", "--endpoint-url", provider.URL, "--model", "a b"}, 2, "a b"},
		{"port", "", []string{"onboard", "--yes", "--dashboard-port", "70000"}, 2, "70000"},
		{"401", openaitest.Unauthorized, h.onboardArgs(provider), 1, "provider-credential"},
		{"404", openaitest.NotFound, h.onboardArgs(provider), 1, "provider-endpoint"},
		{"429", openaitest.RateLimited, h.onboardArgs(provider), 1, "provider-unreachable"},
		{"html", openaitest.HTML, h.onboardArgs(provider), 1, "provider-endpoint"},
		{"nothing", openaitest.Nothing, h.onboardArgs(provider), 1, "provider-unreachable"},
		{"never", openaitest.Never, h.onboardArgs(provider), 1, "provider-unreachable"},
	}
	for _, c := range cases {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			if c.mode == "" {
				c.mode = openaitest.Answer
			}
			provider.SetMode(c.mode)
			r := h.runProgram(creel, []string{"TEST_KEY=" + canary, "CREEL_BUDGET_PROVIDER=1s"}, c.args...)
			if r.code != c.code || !strings.Contains(r.stderr+r.stdout, c.says) {
				t.Errorf("exit %d (want %d), said (want %q):\n%s%s", r.code, c.code, c.says, r.stdout, r.stderr)
			}
			if strings.Contains(r.stderr+r.stdout, canary) {
				t.Error("the key was printed")
			}
		})
	}
	if content, err := os.ReadFile(filepath.Join(h.dir, "state", "gateways", "creel", "gateway.db")); err == nil && strings.Contains(string(content), canary) {
		t.Error("a refused key was stored")
	}

	t.Run("home-is-a-file", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		other := &home{t: t, dir: file, env: append(append([]string{}, h.env...), "CREEL_HOME="+file)}
		if r := other.run("status"); r.code != 2 || !strings.Contains(r.stderr, file) {
			t.Errorf("exit %d: %s", r.code, r.stderr)
		}
	})
	t.Run("socket-path-too-long", func(t *testing.T) {
		long := filepath.Join(t.TempDir(), strings.Repeat("d", 100))
		other := &home{t: t, dir: long, env: append(append([]string{}, h.env...), "CREEL_HOME="+long)}
		r := other.run("onboard", "--yes", "--provider", "none")
		if r.code != 1 || !strings.Contains(r.stderr, "socket-path-too-long") {
			t.Errorf("exit %d: %s", r.code, r.stderr)
		}
		if _, err := os.Stat(filepath.Join(long, "config")); err == nil {
			t.Error("something was written although the run could not work")
		}
	})
	t.Run("strict-yaml", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "g.yaml")
		content := "apiVersion: creel/v1alpha1\nkind: Gateway\nname: creel\ninference:\n  provider: none\n  modle: x\n"
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if r := h.run("plan", "-f", file); r.code != 2 || !strings.Contains(r.stderr, "modle") || !strings.Contains(r.stderr, "6") {
			t.Errorf("exit %d: %s", r.code, r.stderr)
		}
	})
}
