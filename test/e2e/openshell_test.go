package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"creel/internal/host"
)

// testOpenShellLifecycle is a gateway of runtime openshell from its first start to
// its end.
func testOpenShellLifecycle(t *testing.T) {
	for _, mode := range []string{"mtls", "plaintext"} {
		t.Run(mode, func(t *testing.T) {
			h := newGatewayHome(t, "gateway: {tls: "+mode+"}\n", "version=0.0.88")
			h.secrets = []string{canary}
			h.must(0, "gateway", "start")
			s, r := h.status()
			want, code := "ok", 0
			if mode == "plaintext" {
				want, code = "degraded", 3
			}
			if s.Verdict != want || r.code != code || s.PID == 0 || s.Version != "0.0.88" {
				t.Fatalf("exit %d: %+v", r.code, s)
			}
			if (len(s.Caveats) == 1 && s.Caveats[0].Advisory == "gateway-plaintext") != (mode == "plaintext") {
				t.Errorf("caveats %+v", s.Caveats)
			}
			environment, err := os.ReadFile("/proc/" + strconv.Itoa(s.PID) + "/environ")
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(environment, []byte("OPENAI")) || !bytes.Contains(environment, []byte("OPENSHELL_BIND_ADDRESS=127.0.0.1\x00")) {
				t.Errorf("environment of the gateway: %q", environment)
			}
			if p, err := host.Lookup(s.PID); err != nil || p.Session != s.PID {
				t.Errorf("its session is %d, %v; want its own", p.Session, err)
			}
			// Starting what runs changes nothing.
			h.must(0, "gateway", "start")
			if again, _ := h.status(); again.PID != s.PID {
				t.Errorf("pid %d was replaced by %d", s.PID, again.PID)
			}
			h.sandboxes()
			// Other settings, or another executable in its place, are drift, and the
			// next start takes them.
			copyFile(t, h.exe+".new", fakeGateway)
			if err := os.Rename(h.exe+".new", h.exe); err != nil {
				t.Fatal(err)
			}
			drifted, r := h.status()
			if r.code != 3 || len(drifted.Drift) != 1 || !strings.Contains(drifted.Drift[0], "replaced") {
				t.Errorf("exit %d, drift %q", r.code, drifted.Drift)
			}
			h.must(0, "gateway", "start")
			now, _ := h.status()
			if now.PID == s.PID || len(now.Drift) != 0 || now.Endpoint != s.Endpoint {
				t.Errorf("after the drift: %+v", now)
			}
			for range 2 { // stopping what is stopped is fine
				h.must(0, "gateway", "stop")
			}
			if p, err := host.Lookup(now.PID); err == nil && !p.Gone() {
				t.Error("stop returned before the process had ended")
			}
			h.noGatewayProcess()
			// Uninstalling takes the sandboxes that only the gateway can remove.
			h.must(0, "gateway", "start")
			h.must(3, "apply", "--yes", "-f", h.document("  - {name: left, agent: command, command: [sleep, \"9\"]}\n", mode))
			h.must(0, "uninstall", "--yes")
			if !strings.Contains(h.reached(), "deleted left") {
				t.Errorf("a sandbox was left in the gateway:\n%s", h.reached())
			}
			h.noGatewayProcess()
			h.noSecrets()
		})
	}

	t.Run("ignores-term", func(t *testing.T) {
		h := newGatewayHome(t, "", "mode=ignores-term", "version=0.0.88")
		h.env = append(h.env, "CREEL_BUDGET_GATEWAY_STOP=300ms")
		h.must(0, "gateway", "start")
		r := h.must(0, "gateway", "stop")
		if !strings.Contains(r.stderr, "killing pid") || !strings.Contains(h.reached(), "asked to end") {
			t.Errorf("%s\n%s", r.stderr, h.reached())
		}
		h.noGatewayProcess()
	})
	t.Run("dead-is-dead-at-once", func(t *testing.T) {
		h := newGatewayHome(t, "", "version=0.0.88")
		h.must(0, "gateway", "start")
		s, _ := h.status()
		end(t, s.PID)
		// What only a dead gateway knows is not called absent.
		if r := h.run("destroy", "box", "--yes"); r.code != 1 || !strings.Contains(r.stderr, "gateway-not-running") {
			t.Errorf("destroy: exit %d\n%s", r.code, r.stderr)
		}
		began := time.Now()
		if s, r := h.status(); s.Reason != "gateway-not-running" || r.code != 1 {
			t.Errorf("exit %d: %+v", r.code, s)
		}
		t.Logf("called dead after %s, process start included", time.Since(began))
	})
	t.Run("tls-changed", func(t *testing.T) {
		h := newGatewayHome(t, "", "version=0.0.88")
		onboard := []string{"onboard", "--yes", "--non-interactive", "--provider", "none", "--agent", "command", "--name", "box", "--gateway-tls"}
		h.must(3, append(onboard, "mtls", "--", "sleep", "1000")...)
		before, _ := h.status()
		r := h.must(3, append(onboard, "plaintext", "--", "sleep", "1000")...)
		if !strings.Contains(r.stderr, "gateway tls: mtls becomes plaintext") {
			t.Errorf("the change is not told:\n%s", r.stderr)
		}
		if now, _ := h.status(); now.PID == before.PID || !strings.HasPrefix(now.Endpoint, "http://") || now.Verdict != "degraded" {
			t.Errorf("%+v", now)
		}
		h.must(3, append(onboard, "mtls", "--", "sleep", "1000")...)
		if now, _ := h.status(); !strings.HasPrefix(now.Endpoint, "https://") || now.Verdict != "ok" {
			t.Errorf("and back: %+v", now)
		}
	})
	t.Run("versions", func(t *testing.T) {
		for _, version := range []string{"0.0.36", "0.1.0"} {
			h := newGatewayHome(t, "", "version="+version)
			h.must(0, "gateway", "start")
			s, _ := h.status()
			if s.Verdict != "degraded" || len(s.Caveats) != 1 || s.Caveats[0].Advisory != "gateway-version-unsupported" {
				t.Errorf("%s: %+v", version, s)
			}
			r := h.run("list", "--json")
			if !strings.Contains(r.stdout+r.stderr, "supported is OpenShell 0.0.37") {
				t.Errorf("%s: exit %d\n%s%s", version, r.code, r.stdout, r.stderr)
			}
			// The gateway alone is judged all the same.
			h.must(3, "onboard", "--yes", "--gateway-only")
			h.must(3, "onboard", "--yes")
			h.must(3, "apply", "--yes", "-f", h.document("", "mtls"))
			h.must(3, "repair", "--yes")
			if r := h.must(3, "status"); strings.Contains(r.stdout, "inference") || !strings.Contains(r.stdout, "registration") {
				t.Errorf("%s: status\n%s", version, r.stdout)
			}
		}
	})
	t.Run("embedded-gateway-only", func(t *testing.T) {
		h := newHome(t)
		h.must(0, "onboard", "--yes", "--gateway-only")
		h.must(0, "status")
		h.must(0, "apply", "--yes", "-f", filepath.Join(h.dir, "config", "gateways", "creel.yaml"))
		if l := decode[listDocument](t, h.must(0, "list", "--json")); len(l.Sandboxes) != 0 {
			t.Errorf("%+v", l)
		}
	})
	t.Run("two-side-by-side", testSideBySide)
}

// document is a file with these sandboxes wanted.
func (h *gatewayHome) document(sandboxes, tls string) string {
	h.t.Helper()
	path := filepath.Join(h.dir, "wanted.yaml")
	content := "apiVersion: creel/v1alpha1\nkind: Gateway\nname: creel\nruntime: openshell\ngateway: {tls: " + tls + "}\nsandboxes:\n" + sandboxes
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		h.t.Fatal(err)
	}
	return path
}

// sandboxes makes one through onboard, looks at it, and destroys it.
func (h *gatewayHome) sandboxes() {
	h.t.Helper()
	h.must(3, "onboard", "--yes", "--non-interactive", "--provider", "none", "--agent", "command", "--name", "box", "--", "sleep", "1000")
	if !strings.Contains(h.reached(), "created box") {
		h.t.Errorf("no sandbox was made:\n%s", h.reached())
	}
	var list struct {
		Sandboxes []struct{ Name, Phase string }
	}
	if err := json.Unmarshal([]byte(h.must(0, "list", "--json").stdout), &list); err != nil || len(list.Sandboxes) != 1 || list.Sandboxes[0].Phase != "ready" {
		h.t.Errorf("list: %+v, %v", list, err)
	}
	if r := h.run("status"); r.code != 3 {
		h.t.Errorf("status: exit %d, want 3: what the gateway does not tell is a caveat\n%s", r.code, r.stdout)
	}
	if r := h.run("onboard", "--yes", "--non-interactive", "--agent", "console", "--name", "box"); r.code != 2 || !strings.Contains(r.stderr, "embedded only") {
		h.t.Errorf("console: exit %d\n%s", r.code, r.stderr)
	}
	recorded := filepath.Join(h.dir, "config", "gateways", "creel.yaml")
	h.must(3, "apply", "-f", recorded, "--yes")
	content, err := os.ReadFile(recorded)
	if err != nil {
		h.t.Fatal(err)
	}
	other := strings.Replace(strings.Replace(string(content), "openshell", "external", 1), "docker", "external", 1)
	other = strings.NewReplacer("gateway:\n", "", "  tls: plaintext\n", "", "  tls: mtls\n", "").Replace(other)
	if r := h.runInput(other, creel, nil, "apply", "-f", "-", "--yes"); r.code != 2 || !strings.Contains(r.stderr, "runtime-changed") {
		h.t.Errorf("another runtime: exit %d\n%s", r.code, r.stderr)
	}
	if r := h.run("gateway", "serve"); r.code != 2 || !strings.Contains(r.stderr, "runtime-changed") {
		h.t.Errorf("serve: exit %d\n%s", r.code, r.stderr)
	}
	if r := h.run("dashboard", "box"); r.code == 0 {
		h.t.Error("a dashboard was shown")
	}
	if r := h.run("stop", "box"); r.code != 0 {
		h.t.Errorf("stop: exit %d\n%s", r.code, r.stderr)
	}
	if r := h.must(0, "list", "--json"); !strings.Contains(r.stdout, "stopped") {
		h.t.Errorf("after the stop: %s", r.stdout)
	}
	if r := h.run("start", "box"); r.code != 0 {
		h.t.Errorf("start: exit %d\n%s", r.code, r.stderr)
	}
	h.must(0, "destroy", "box", "--yes")
}

// testExternal is a gateway that somebody else runs, with each kind of registration.
func testExternal(t *testing.T) {
	serve := func(t *testing.T, plaintext bool, lines ...string) (*gatewayHome, gatewayStatus) {
		tls := "mtls"
		if plaintext {
			tls = "plaintext"
		}
		owner := newGatewayHome(t, "gateway: {tls: "+tls+"}\n", append(lines, "version=0.0.88")...)
		owner.must(0, "gateway", "start")
		s, _ := owner.status()
		return owner, s
	}
	register := func(t *testing.T, h *gatewayHome, metadata map[string]any, files map[string]string) {
		t.Helper()
		dir := filepath.Join(h.dir, "config", "openshell", "gateways", "creel")
		b, err := json.Marshal(metadata)
		if err != nil {
			t.Fatal(err)
		}
		files["metadata.json"] = string(b)
		for name, content := range files {
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	user := func(t *testing.T) *gatewayHome {
		h := newGatewayHome(t, "")
		h.want("runtime: external\n")
		return h
	}
	// untouched: whatever was done to it, the owner's gateway is as it was.
	untouched := func(t *testing.T, owner *gatewayHome, was gatewayStatus) {
		t.Helper()
		if s, _ := owner.status(); s.PID != was.PID || s.Verdict != was.Verdict {
			t.Errorf("the owner's gateway was touched: %+v", s)
		}
	}
	refusals := func(t *testing.T, h *gatewayHome) {
		t.Helper()
		if r := h.run("gateway", "upgrade", "--yes"); r.code != 1 || !strings.Contains(r.stderr, "gateway-upgrade-unsupported") {
			t.Errorf("gateway upgrade: exit %d\n%s", r.code, r.stderr)
		}
		for _, verb := range []string{"start", "stop", "restart", "logs"} {
			if r := h.run("gateway", verb); r.code != 1 || !strings.Contains(r.stderr, "gateway-external") {
				t.Errorf("gateway %s: exit %d\n%s", verb, r.code, r.stderr)
			}
		}
	}

	t.Run("mtls", func(t *testing.T) {
		owner, was := serve(t, false)
		h := user(t)
		files := map[string]string{}
		for name, from := range map[string]string{"mtls/ca.crt": "tls/ca.crt", "mtls/tls.crt": "tls/client/tls.crt", "mtls/tls.key": "tls/client/tls.key"} {
			content, err := os.ReadFile(owner.file(from))
			if err != nil {
				t.Fatal(err)
			}
			files[name] = string(content)
		}
		register(t, h, map[string]any{"name": "creel", "gateway_endpoint": was.Endpoint, "auth_mode": "mtls"}, files)
		if s, r := h.status(); s.Verdict != "ok" || r.code != 0 || s.Version != "0.0.88" {
			t.Fatalf("exit %d: %+v", r.code, s)
		}
		h.must(3, "onboard", "--yes", "--non-interactive", "--provider", "none", "--agent", "command", "--name", "box", "--", "sleep", "1000")
		if !strings.Contains(owner.reached(), "created box") {
			t.Error("no sandbox was made")
		}
		h.must(0, "destroy", "box", "--yes")
		refusals(t, h)
		h.must(0, "uninstall", "--yes")
		untouched(t, owner, was)

		// Without the key the question cannot be put: unknown, not failed.
		delete(files, "mtls/tls.key")
		if err := os.Remove(filepath.Join(h.dir, "config", "openshell", "gateways", "creel", "mtls", "tls.key")); err != nil {
			t.Fatal(err)
		}
		h.want("runtime: external\n")
		if s, r := h.status(); s.Verdict != "unknown" || s.Reason != "registration-unusable" || r.code != 4 || !strings.Contains(s.Message, "tls.key is missing") {
			t.Errorf("exit %d: %+v", r.code, s)
		}
	})
	for _, c := range []struct{ auth, file, good, bad string }{
		{"oidc", "oidc_token.json", `{"access_token":"tok-canary-1","expires_at":9999999999}`, `{"access_token":"wrong"}`},
		{"cloudflare_jwt", "edge_token", "tok-canary-1\n", "wrong\n"},
	} {
		t.Run(c.auth, func(t *testing.T) {
			owner, was := serve(t, true, "token=tok-canary-1")
			h := user(t)
			metadata := map[string]any{"name": "creel", "gateway_endpoint": was.Endpoint, "auth_mode": c.auth}
			register(t, h, metadata, map[string]string{c.file: c.good})
			if s, r := h.status(); s.Verdict != "degraded" || r.code != 3 || !strings.Contains(owner.reached(), "token accepted") {
				t.Errorf("exit %d: %+v", r.code, s)
			}
			h.must(0, "list")
			if strings.Contains(h.output.String(), "tok-canary-1") {
				t.Error("the token was printed")
			}
			register(t, h, metadata, map[string]string{c.file: c.bad})
			if s, r := h.status(); s.Verdict != "failed" || s.Reason != "gateway-credential-refused" || r.code != 1 {
				t.Errorf("a wrong token: exit %d: %+v", r.code, s)
			}
			if c.auth == "oidc" {
				register(t, h, metadata, map[string]string{c.file: `{"access_token":"tok-canary-1","expires_at":1}`})
				if s, _ := h.status(); s.Verdict != "unknown" || s.Reason != "gateway-token-expired" {
					t.Errorf("an expired token: %+v", s)
				}
				// A token is sent to whom it is for, and not in plaintext over a network.
				register(t, h, map[string]any{"name": "creel", "gateway_endpoint": "http://192.0.2.1:1", "auth_mode": c.auth}, map[string]string{c.file: c.good})
				if s, _ := h.status(); s.Reason != "gateway-token-exposed" {
					t.Errorf("in plaintext: %+v", s)
				}
				h.want("runtime: external\ngateway: {endpoint: \"http://127.0.0.1:9\"}\n")
				if s, _ := h.status(); s.Reason != "gateway-endpoint-differs" {
					t.Errorf("another endpoint: %+v", s)
				}
			}
			untouched(t, owner, was)
		})
	}
	t.Run("plaintext", func(t *testing.T) {
		owner, was := serve(t, true)
		h := user(t)
		if s, r := h.status(); s.Verdict != "unknown" || s.Reason != "registration-absent" || r.code != 4 {
			t.Errorf("unregistered: exit %d: %+v", r.code, s)
		}
		if r := h.run("gateway", "status"); !strings.Contains(r.stdout+r.stderr, "creel onboard --gateway-only --runtime external --gateway-endpoint URL") {
			t.Errorf("how to name an endpoint is not said:\n%s%s", r.stdout, r.stderr)
		}
		h.want("runtime: external\ngateway: {endpoint: \"" + was.Endpoint + "\"}\n")
		if s, r := h.status(); s.Verdict != "degraded" || r.code != 3 {
			t.Errorf("exit %d: %+v", r.code, s)
		}
		owner.must(0, "gateway", "stop")
		if s, r := h.status(); s.Verdict != "failed" || s.Reason != "gateway-unreachable" || r.code != 1 {
			t.Errorf("stopped: exit %d: %+v", r.code, s)
		}
	})
}
