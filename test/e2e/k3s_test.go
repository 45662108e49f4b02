package e2e

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"creel/test/engineenv"
)

// testK3s is the suite gateway-k3s: gateways that are a cluster in a container.
func testK3s(t *testing.T) {
	e := engineenv.Start(t, engineenv.Docker)
	for name, test := range map[string]func(*testing.T, *engineenv.Engine){
		"repaired": testK3sRepaired, "onboarded": testK3sOnboarded, "restarted": testK3sRestarted, "missing": testK3sMissing,
		"unseen": testK3sUnseen, "never-ready": testK3sNeverReady, "ends-meanwhile": testK3sEnds, "checks": testK3sChecks, "clients": testK3sClients,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each has a container and a namespace of its own, and mostly waits
			test(t, e)
		})
	}
	t.Run("podman", func(t *testing.T) {
		t.Parallel()
		testK3sPodman(t, engineenv.Start(t, engineenv.Podman))
	})
}

// testK3sRepaired: a gateway that hangs because none of its secrets exists, from the
// first look to its end.
func testK3sRepaired(t *testing.T, e *engineenv.Engine) {
	h := newK3sHome(t, e)
	h.sandbox("claw")
	h.registered(h.endpoint(), "an old certificate")
	h.boot()
	eventually(t, "the pod waits", func() bool { return strings.Contains(h.reached(), "waits for its secrets") })

	before := h.files()
	s, r := h.gateway()
	if s.Verdict != "failed" || s.Reason != "secrets-absent" || r.code != 1 || !strings.Contains(s.Message, "no bootstrap secret exists yet") {
		t.Errorf("exit %d: %+v", r.code, s)
	}
	r = h.must(1, "repair", "--plan")
	for _, word := range []string{"restart its container " + h.container, "disturbs sandbox/claw"} {
		if !strings.Contains(r.stdout, word) {
			t.Errorf("the plan does not say %q:\n%s", word, r.stdout)
		}
	}
	if after := h.files(); !reflect.DeepEqual(before, after) {
		t.Error("looking changed files")
	}

	r = h.must(0, "gateway", "start")
	for _, word := range []string{"OpenShell bootstrap secrets missing: " + strings.Join(generation1, ", ") + ". Repairing...",
		"✓ OpenShell bootstrap secrets created", "OpenShell clients have the certificate", "gateway runs at " + h.endpoint()} {
		if !strings.Contains(r.stderr, word) {
			t.Errorf("start does not say %q:\n%s", word, r.stderr)
		}
	}
	t.Logf("from no secrets to ready in %s", r.took)
	made := h.g.secrets()
	judge(t, h.g.ns, made)
	if got := h.read("config/openshell/gateways/nemoclaw/mtls/tls.crt"); got != string(made[generation1[2]].Data["tls.crt"]) {
		t.Error("OpenShell clients were not given the new certificate")
	}
	if got := h.read("config/openshell/active_gateway"); got != "nemoclaw" {
		t.Errorf("the active gateway is %q", got)
	}
	if status, _ := h.state(); status != "running" || !strings.Contains(h.reached(), "http GET /") || !strings.Contains(h.reached(), "health") {
		t.Errorf("the container is %s, and was asked:\n%s", status, h.reached())
	}
	_, began := h.state()

	s, r = h.gateway()
	if s.Verdict != "ok" || r.code != 0 || s.Version != "0.0.36" || s.Endpoint != h.endpoint() || len(s.Caveats) > 0 {
		t.Errorf("exit %d: %+v", r.code, s)
	}
	var probes []string
	for _, e := range s.Evidence {
		probes = append(probes, e.Probe)
		if e.Verdict != "ok" {
			t.Errorf("%+v", e)
		}
	}
	if len(probes) != 7 || probes[0] != "container "+h.container || probes[1] != "bootstrap secrets" || !strings.HasPrefix(probes[4], "http GET") {
		t.Errorf("asked %q", probes)
	}
	if status := decode[statusDocument](t, h.must(0, "status", "--json")); len(status.Layers) != 4 || status.Layers[1].Layer != "gateway" || status.Layers[2].Layer != "secrets" {
		t.Errorf("%+v", status)
	}
	// A start of what is ready writes nothing anywhere.
	files := h.files()
	h.must(0, "gateway", "start")
	if !reflect.DeepEqual(made, h.g.secrets()) || !reflect.DeepEqual(files, h.files()) {
		t.Error("a second start changed something")
	}
	// Its sandboxes are not for Creel, which says what is.
	if r := h.run("list"); r.code == 0 || !strings.Contains(r.stdout+r.stderr, "0.0.36") || !strings.Contains(r.stdout+r.stderr, "supported is OpenShell 0.0.37") {
		t.Errorf("list: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}

	r = h.must(0, "gateway", "stop")
	if !strings.Contains(r.stderr, "stopping container "+h.container+", and with it sandbox claw") || strings.Contains(r.stderr, "sandboxes go on") {
		t.Errorf("stop:\n%s", r.stderr)
	}
	if status, _ := h.state(); status != "exited" || !strings.Contains(h.reached(), "asked to end") {
		t.Errorf("stop returned, and the container is %s", status)
	}
	h.must(0, "gateway", "stop")
	if s, r := h.gateway(); s.Reason != "container-not-running" || r.code != 1 || !strings.Contains(s.Message, "exited (exit code 0)") || r.took > 2*time.Second {
		t.Errorf("exit %d after %s: %+v", r.code, r.took, s)
	}
	if r := h.must(0, "repair", "--yes"); !strings.Contains(r.stderr+r.stdout, "start container "+h.container) {
		t.Errorf("repair:\n%s%s", r.stdout, r.stderr)
	}
	if _, again := h.state(); again == began {
		t.Error("the container was not started again")
	}
	h.must(0, "gateway", "restart")
	if s, _ := h.gateway(); s.Verdict != "ok" {
		t.Errorf("after a restart: %+v", s)
	}
	// What Creel did not make stays when Creel goes.
	h.must(0, "uninstall", "--yes")
	if status, _ := h.state(); status != "running" || len(h.g.secrets()) != 4 {
		t.Errorf("uninstalling left the container %s, with %d secrets", status, len(h.g.secrets()))
	}
	if got := h.read("config/openshell/gateways/nemoclaw/metadata.json"); !strings.Contains(got, "is_remote") {
		t.Errorf("the registration of another program became %q", got)
	}
}

// testK3sOnboarded: from nothing recorded.
func testK3sOnboarded(t *testing.T, e *engineenv.Engine) {
	h := newK3sHome(t, e)
	h.boot()
	if err := os.Remove(filepath.Join(h.home.dir, "config/gateways/nemoclaw.yaml")); err != nil {
		t.Fatal(err)
	}
	args := []string{"onboard", "--runtime", "k3s", "--gateway-only", "--container", h.container, "--namespace", h.g.ns, "--non-interactive"}
	r := h.must(0, append(args, "--plan")...)
	if !strings.Contains(r.stdout+r.stderr, "see to gateway nemoclaw") || len(h.g.secrets()) != 0 {
		t.Errorf("plan:\n%s%s", r.stdout, r.stderr)
	}
	h.must(0, append(args, "--yes")...)
	judge(t, h.g.ns, h.g.secrets())
	if got := h.read("config/openshell/gateways/nemoclaw/mtls/tls.crt"); got != string(h.g.secrets()[generation1[2]].Data["tls.crt"]) {
		t.Error("OpenShell clients do not know the gateway")
	}
	made := h.g.secrets()
	if r := h.must(0, append(args, "--yes")...); !strings.Contains(r.stdout+r.stderr, "Nothing to do") || !reflect.DeepEqual(made, h.g.secrets()) {
		t.Errorf("again:\n%s%s", r.stdout, r.stderr)
	}
	// A part that a running gateway does not read again is made anew, and the rest
	// kept; the registration follows.
	h.g.remove(generation1[3])
	if r := h.run("status"); r.code != 1 || !strings.Contains(r.stdout, generation1[3]+" is absent") {
		t.Errorf("status: exit %d\n%s", r.code, r.stdout)
	}
	h.must(0, "repair", "--yes")
	now := h.g.secrets()
	judge(t, h.g.ns, now)
	for _, name := range generation1[:3] {
		if !reflect.DeepEqual(made[name], now[name]) {
			t.Errorf("%s was good and is another", name)
		}
	}
	// The secrets' own command finds them where the gateway is, and sees to the clients
	// as well.
	h.g.remove(generation1[1])
	h.g.remove(generation1[2])
	if doc := decode[struct{ Place string }](t, h.must(1, "gateway", "secrets", "inspect", "--json")); !strings.Contains(doc.Place, "container "+h.container) {
		t.Errorf("the secrets were looked for in %s", doc.Place)
	}
	h.must(0, "gateway", "secrets", "repair", "--yes")
	if got := h.read("config/openshell/gateways/nemoclaw/mtls/tls.crt"); got != string(h.g.secrets()[generation1[2]].Data["tls.crt"]) {
		t.Error("OpenShell clients were not given the new certificate")
	}
	// The registration that Creel wrote goes with Creel.
	h.must(0, "uninstall", "--yes")
	if _, err := os.Stat(filepath.Join(h.home.dir, "config/openshell/gateways/nemoclaw")); !os.IsNotExist(err) {
		t.Errorf("the registration is left: %v", err)
	}
}

// testK3sRestarted: a gateway that only a new start of its container brings back.
func testK3sRestarted(t *testing.T, e *engineenv.Engine) {
	h := newK3sHome(t, e, "mode=unhealthy")
	h.sandbox("claw")
	h.env = append(h.env, "NEMOCLAW_REUSE_HEALTH_POLL_COUNT=1", "NEMOCLAW_REUSE_HEALTH_POLL_INTERVAL=2")
	h.boot()
	h.must(0, "gateway", "secrets", "repair", "--yes")
	eventually(t, "it serves", func() bool { return strings.Contains(h.reached(), "bound unhealthy") })
	_, began := h.state()
	h.behave()
	r := h.must(1, "repair", "--plan")
	if !strings.Contains(r.stdout, "restart its container "+h.container+" if that does not make it ready within 2s") || !strings.Contains(r.stdout, "disturbs sandbox/claw") {
		t.Errorf("plan:\n%s", r.stdout)
	}
	r = h.must(0, "repair", "--yes")
	if _, now := h.state(); now == began {
		t.Error("the container was not restarted")
	}
	if !strings.Contains(r.stdout+r.stderr, "stopping container") {
		t.Errorf("repair:\n%s%s", r.stdout, r.stderr)
	}
}

// testK3sMissing: a container that is gone is not made, and of its gateway only what
// Creel wrote is cleaned up.
func testK3sMissing(t *testing.T, e *engineenv.Engine) {
	h := newK3sHome(t, e)
	h.boot()
	h.must(0, "gateway", "start")
	h.box.Remove(t)
	s, r := h.gateway()
	if s.Reason != "container-missing" || r.code != 1 || !strings.Contains(s.Message, "Creel makes none") {
		t.Errorf("exit %d: %+v", r.code, s)
	}
	r = h.run("gateway", "start")
	if r.code != 1 || !strings.Contains(r.stderr, "container-missing") || !strings.Contains(r.stderr, "creel onboard --gateway OTHER --runtime embedded") || r.took > 3*time.Second {
		t.Errorf("start: exit %d after %s\n%s", r.code, r.took, r.stderr)
	}
	h.must(0, "gateway", "stop")
	if r := h.must(1, "repair", "--plan"); !strings.Contains(r.stdout, "take gateway nemoclaw from OpenShell clients") {
		t.Errorf("plan:\n%s", r.stdout)
	}
	// Mended it is not: that is the user's to decide.
	if r := h.run("repair", "--yes"); r.code != 1 || !strings.Contains(r.stdout+r.stderr, "container-missing") {
		t.Errorf("repair: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	for _, left := range []string{"gateways/nemoclaw", "active_gateway"} {
		if _, err := os.Stat(filepath.Join(h.home.dir, "config/openshell", left)); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", left, err)
		}
	}
	h.registered(h.endpoint(), "somebody's")
	if r := h.must(1, "repair", "--plan"); strings.Contains(r.stdout, "take gateway") {
		t.Errorf("the registration of another program would be removed:\n%s", r.stdout)
	}
	if r := h.run("gateway", "logs"); r.code != 1 || !strings.Contains(r.stderr, "container-missing") {
		t.Errorf("logs: exit %d\n%s", r.code, r.stderr)
	}
}

// testK3sUnseen: an engine that cannot be asked says nothing about the gateway. One
// that answers is used; for one that does not, nothing is touched.
func testK3sUnseen(t *testing.T, e *engineenv.Engine) {
	h := newK3sHome(t, e)
	h.boot()
	h.must(0, "gateway", "start")
	mute, err := net.Listen("unix", filepath.Join(h.dir, "mute.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	_, began := h.state()
	for name, host := range map[string]string{"gone": "unix://" + filepath.Join(h.dir, "none.sock"), "mute": "unix://" + filepath.Join(h.dir, "mute.sock")} {
		t.Run(name, func(t *testing.T) {
			h := *h
			h.home = h.in(t)
			h.env = append(h.env, "DOCKER_HOST="+host, "CREEL_BUDGET_PROBE=700ms")
			h.behave()
			eventually(t, "it answers", func() bool { s, _ := h.gateway(); return s.Verdict != "unknown" })
			before := h.files()
			s, r := h.gateway()
			if s.Verdict != "degraded" || r.code != 3 || len(s.Caveats) != 1 || s.Caveats[0].Advisory != "engine-unreachable" || r.took > 5*time.Second {
				t.Errorf("it answers: exit %d after %s: %+v", r.code, r.took, s)
			}
			if r := h.must(0, "gateway", "start"); !strings.Contains(r.stderr, "warning: ") || !strings.Contains(r.stderr, "used as it is") {
				t.Errorf("start:\n%s", r.stderr)
			}
			if r := h.run("gateway", "stop"); r.code == 0 || !strings.Contains(r.stderr, "engine-unreachable") {
				t.Errorf("stop: exit %d\n%s", r.code, r.stderr)
			}
			h.box.Pause(t)
			s, r = h.gateway()
			if s.Verdict != "unknown" || s.Reason != "engine-unreachable" || r.code != 4 || r.took > 5*time.Second {
				t.Errorf("it does not answer: exit %d after %s: %+v", r.code, r.took, s)
			}
			if r := h.run("gateway", "start"); r.code == 0 || !strings.Contains(r.stderr, "engine-unreachable") || r.took > 6*time.Second {
				t.Errorf("start: exit %d after %s\n%s", r.code, r.took, r.stderr)
			}
			if r := h.must(4, "repair", "--plan"); strings.Contains(r.stdout, "start") {
				t.Errorf("something is planned:\n%s", r.stdout)
			}
			h.box.Unpause(t)
			if after := h.files(); !reflect.DeepEqual(before, after) {
				t.Error("files were changed")
			}
		})
	}
	if _, now := h.state(); now != began {
		t.Error("the container was restarted")
	}
	h.box.Pause(t)
	if s, r := h.gateway(); s.Reason != "container-not-running" || r.code != 1 {
		t.Errorf("paused: exit %d, %+v", r.code, s)
	}
	if r := h.run("gateway", "start"); r.code != 1 || !strings.Contains(r.stderr, "docker unpause "+h.container) {
		t.Errorf("start of what is paused: exit %d\n%s", r.code, r.stderr)
	}
	h.box.Unpause(t)
}

// testK3sNeverReady: whatever answers wrongly is never called healthy, and the start
// ends in time with the reason.
func testK3sNeverReady(t *testing.T, e *engineenv.Engine) {
	for _, c := range []struct {
		mode   []string
		reason string
		says   []string
		proof  string
	}{
		{[]string{"root=404"}, "gateway-unhealthy", []string{"404 Not Found", "health: not asked"}, "http GET /"},
		{[]string{"root=503"}, "gateway-unhealthy", []string{"503 Service Unavailable"}, "http GET /"},
		{[]string{"mode=unhealthy"}, "gateway-unhealthy", []string{"SERVICE_STATUS_UNHEALTHY", "401 Unauthorized"}, "health unhealthy"},
		{[]string{"mode=foreign-certificate"}, "gateway-foreign-listener", []string{"our CA did not sign"}, "bound foreign-certificate"},
		{[]string{"mode=never-answers"}, "gateway-hung", []string{"accepts connections and never answers"}, "accepted"},
	} {
		t.Run(c.mode[0], func(t *testing.T) {
			t.Parallel()
			h := newK3sHome(t, e, c.mode...)
			// Long enough for a look into the cluster on a busy machine.
			h.env = append(h.env, "NEMOCLAW_HEALTH_POLL_COUNT=2", "NEMOCLAW_HEALTH_POLL_INTERVAL=2", "CREEL_BUDGET_CONTAINER_START=", "CREEL_BUDGET_PROBE=700ms")
			h.boot()
			h.must(0, "gateway", "secrets", "repair", "--yes")
			r := h.run("gateway", "start")
			if r.code != 1 || r.took > 12*time.Second {
				t.Errorf("exit %d after %s", r.code, r.took)
			}
			for _, word := range append(c.says, c.reason, "not done within 4s", "the container is left running") {
				if !strings.Contains(r.stderr, word) {
					t.Errorf("it does not say %q:\n%s", word, r.stderr)
				}
			}
			if strings.Contains(r.stderr, "gateway runs at") || strings.Contains(r.stderr, "answers at "+h.endpoint()+" (") {
				t.Errorf("it was called healthy:\n%s", r.stderr)
			}
			if s, r := h.gateway(); s.Verdict != "failed" || s.Reason != c.reason || r.code != 1 {
				t.Errorf("status: exit %d, %+v", r.code, s)
			}
			if !strings.Contains(h.reached(), c.proof) {
				t.Errorf("the sabotage was not reached:\n%s", h.reached())
			}
			if status, _ := h.state(); status != "running" {
				t.Errorf("the container is %s", status)
			}
		})
	}
	h := newK3sHome(t, e)
	h.env = append(h.env, "NEMOCLAW_HEALTH_POLL_COUNT=many")
	if r := h.run("gateway", "start"); r.code != 2 || !strings.Contains(r.stderr, `NEMOCLAW_HEALTH_POLL_COUNT="many"`) {
		t.Errorf("exit %d\n%s", r.code, r.stderr)
	}
}

// testK3sEnds: a container that ends while the gateway is waited for ends the wait,
// with its code and what it wrote, but for secrets.
func testK3sEnds(t *testing.T, e *engineenv.Engine) {
	h := newK3sHome(t, e, "mode=exits-later")
	h.boot()
	r := h.run("gateway", "start")
	if r.code != 1 || r.took > 5*time.Second {
		t.Errorf("exit %d after %s", r.code, r.took)
	}
	for _, word := range []string{"gateway-start-failed", "container " + h.container + " ended with exit code 5 before the gateway was ready", "cluster state is damaged", "asked:"} {
		if !strings.Contains(r.stderr, word) {
			t.Errorf("it does not say %q:\n%s", word, r.stderr)
		}
	}
	logs := h.must(0, "gateway", "logs", "--lines", "3")
	if all := r.stderr + logs.stdout; strings.Contains(all, "sk-canary-of-the-log") || !strings.Contains(logs.stdout, "cluster state is damaged") {
		t.Errorf("the log:\n%s", all)
	}
	if s, r := h.gateway(); s.Reason != "container-not-running" || r.code != 1 || !strings.Contains(s.Message, "exit code 5") {
		t.Errorf("exit %d: %+v", r.code, s)
	}
}

// testK3sChecks: a cluster that finds itself ill is not registered, and a cluster in
// which nothing may be guessed is not written to.
func testK3sChecks(t *testing.T, e *engineenv.Engine) {
	h := newK3sHome(t, e)
	h.boot()
	h.must(0, "gateway", "secrets", "repair", "--yes")
	h.healthcheck("#!/bin/sh\necho 'etcd has no leader'\nexit 1\n")
	r := h.must(0, "gateway", "start")
	if !strings.Contains(r.stderr, "etcd has no leader") {
		t.Errorf("start:\n%s", r.stderr)
	}
	if _, err := os.Stat(filepath.Join(h.home.dir, "config/openshell")); !os.IsNotExist(err) {
		t.Errorf("it was registered: %v", err)
	}
	// What needs consent is not replaced, and is the reason of the failure.
	h.g.put(generation1[0], map[string][]byte{"tls.key": []byte("garbage")})
	before := h.g.secrets()
	h.must(0, "gateway", "stop")
	if err := os.Remove(filepath.Join(h.dir, "mounted")); err != nil {
		t.Fatal(err)
	}
	h.behave("mode=never-binds")
	if r := h.startInVain("secrets-need-consent"); r.code != 1 || !strings.Contains(r.stderr, "secrets-need-consent") || !strings.Contains(r.stderr, generation1[0]) {
		t.Errorf("exit %d\n%s", r.code, r.stderr)
	}
	if !reflect.DeepEqual(before, h.g.secrets()) {
		t.Error("secrets were replaced without consent")
	}
}

// startInVain is a start that ends with its budget, and for a reason that is only known
// after looking into the cluster. On a busy machine that takes longer than a short
// budget: then it is given a long one.
func (h *k3sHome) startInVain(reason string) (r result) {
	h.t.Helper()
	before := h.env
	defer func() { h.env = before }()
	for _, limit := range []string{"2s", "5s", "20s"} {
		h.env = append(slices.Clone(before), "CREEL_BUDGET_CONTAINER_START="+limit)
		if r = h.run("gateway", "start"); r.code == 0 || strings.Contains(r.stderr, reason) {
			break
		}
		h.t.Logf("not known after %s", limit)
	}
	return r
}

// fakeProgram is an openshell command that prints what it is told.
func (h *k3sHome) fakeProgram(script string) {
	h.t.Helper()
	dir := filepath.Join(h.dir, "bin")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "openshell"), []byte("#!/bin/sh\necho \"$OPENSHELL_GATEWAY $*\" >> "+h.dir+"/asked\n"+script), 0o755); err != nil {
		h.t.Fatal(err)
	}
	h.env = append(h.env, "PATH="+dir+":"+os.Getenv("PATH"))
}

// testK3sClients: OpenShell's own program has a say where it is there, and which
// gateway its users chose stays.
func testK3sClients(t *testing.T, e *engineenv.Engine) {
	h := newK3sHome(t, e)
	h.boot()
	h.write("config/openshell/active_gateway", "other")
	h.write("config/openshell/gateways/other/metadata.json", `{"name":"other","gateway_endpoint":"https://gateway.example:443"}`)
	h.fakeProgram("printf 'Server Status\\n  Gateway: nemoclaw\\nError:   × client error (Connect)\\n  ╰─▶ Connection refused (os error 111)\\n'\n")
	r := h.startInVain("openshell-disagrees")
	if r.code != 1 || !strings.Contains(r.stderr, "openshell-disagrees") || !strings.Contains(r.stderr, "Connection refused") || strings.Contains(r.stderr, "gateway runs at") {
		t.Errorf("exit %d\n%s", r.code, r.stderr)
	}
	h.fakeProgram("printf '\\033[1mServer Status\\033[0m\\n  Gateway: nemoclaw\\n  Status: Connected\\n'\n")
	r = h.must(0, "gateway", "start")
	if !strings.Contains(r.stderr, "OpenShell clients use gateway other unless told otherwise") {
		t.Errorf("start:\n%s", r.stderr)
	}
	if got := h.read("config/openshell/active_gateway"); got != "other" {
		t.Errorf("the active gateway is %q now", got)
	}
	asked, err := os.ReadFile(filepath.Join(h.dir, "asked"))
	if err != nil || !strings.Contains(string(asked), "nemoclaw status\n") || !strings.Contains(string(asked), "nemoclaw gateway info -g nemoclaw\n") || strings.Contains(string(asked), "select") {
		t.Errorf("it was asked %q, %v", asked, err)
	}
	// Another gateway that is registered under this name is nobody's to change.
	h.registered("https://gateway.example:8080", "theirs")
	h.must(0, "gateway", "stop")
	if r := h.must(0, "gateway", "start"); !strings.Contains(r.stderr, "not given its certificate") {
		t.Errorf("start:\n%s", r.stderr)
	}
	if got := h.read("config/openshell/gateways/nemoclaw/mtls/tls.crt"); got != "theirs" {
		t.Errorf("the certificate of another gateway's registration became %q", got)
	}
	if doc := decode[statusDocument](t, h.run("status", "--json")); doc.Verdict != "failed" {
		t.Errorf("%+v", doc)
	}
}

// testK3sPodman is the short of it with the other engine.
func testK3sPodman(t *testing.T, e *engineenv.Engine) {
	h := newK3sHome(t, e)
	h.boot()
	h.must(0, "gateway", "start")
	judge(t, h.g.ns, h.g.secrets())
	if s, _ := h.gateway(); s.Verdict != "ok" {
		t.Errorf("%+v", s)
	}
	h.must(0, "gateway", "restart")
	h.must(0, "gateway", "stop")
	var c struct{ State struct{ Running bool } }
	if err := json.Unmarshal(e.Must(t, "GET", "/containers/"+h.container+"/json", nil), &c); err != nil || c.State.Running {
		t.Errorf("%+v, %v", c, err)
	}
	if r := h.must(0, "gateway", "logs"); r.stderr != "" {
		t.Errorf("logs:\n%s", r.stderr)
	}
}
