package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"creel/internal/state"
)

// replace writes a file and returns what puts the old content back.
func replace(t *testing.T, path, content string) (restore func()) {
	t.Helper()
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	put := func(content []byte) {
		t.Helper()
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put([]byte(content))
	return func() { put(old) }
}

// damaged are a file's content as a newer version, a crash and another program
// would have left it.
func damaged(t *testing.T, path string) map[string]string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	newer := strings.Replace(string(content), `"version": 1`, `"version": 99`, 1)
	if newer == string(content) {
		t.Fatalf("%s has no version:\n%s", path, content)
	}
	return map[string]string{"newer": newer, "cut off": string(content[:len(content)/2]), "foreign": `{"editor": "tabs"}` + "\n"}
}

func testDamagedMarker(t *testing.T) {
	h, dir := standing(t)
	path := filepath.Join(dir, "gateway.json")
	gateway := h.gatewayPID()
	for name, content := range damaged(t, path) {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			h.t = t
			restore := replace(t, path, content)
			advisory := "gateway-marker-invalid"
			commands := []says{{[]string{"status"}, 1}, {[]string{"gateway", "status"}, 1}, {[]string{"gateway", "start"}, 1}, {[]string{"list"}, 4}}
			if name == "newer" { // which onboarding must not touch either
				advisory = "gateway-marker-newer"
				commands = append(commands, says{bring, 1})
			}
			h.refuse(path, advisory, commands...)
			restore()
			if now := h.gatewayPID(); now != gateway {
				t.Errorf("the gateway was replaced: pid %d, then %d", gateway, now)
			}
		})
	}
	h.t = t
	// What is advised for a damaged one mends it.
	replace(t, path, "noise")
	agent := h.agentPIDFromTable()
	h.must(0, "gateway", "restart")
	if v := h.verdict(); v != "ok" {
		t.Errorf("verdict %q", v)
	}
	if now := h.agentPID(); now != agent {
		t.Errorf("the agent's pid is %d, it was %d", now, agent)
	}
}

// agentPIDFromTable finds the agent when the gateway cannot be asked.
func (h *home) agentPIDFromTable() int {
	h.t.Helper()
	handles, err := filepath.Glob(filepath.Join(h.dir, "state", "gateways", "creel", "sandboxes", "*"))
	if err != nil || len(handles) != 1 {
		h.t.Fatalf("sandboxes on disk: %v, %v", handles, err)
	}
	comms, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range comms {
		command, _ := os.ReadFile(p + "/cmdline")
		environment, _ := os.ReadFile(p + "/environ")
		if strings.Contains(string(command), "agent\x00console") && strings.Contains(string(environment), filepath.Base(handles[0])) {
			var pid int
			_, _ = fmt.Sscan(filepath.Base(p), &pid)
			return pid
		}
	}
	h.t.Fatal("no agent runs")
	return 0
}

func testDamagedRecord(t *testing.T) {
	h, dir := standing(t)
	h.must(0, append(bring[:len(bring):len(bring)], "--name", "second")...)
	var path string
	handles, err := filepath.Glob(filepath.Join(dir, "sandboxes", "*", "handle.json"))
	if err != nil || len(handles) != 2 {
		t.Fatalf("records %v, %v", handles, err)
	}
	for _, p := range handles {
		if content, err := os.ReadFile(p); err == nil && strings.Contains(string(content), `"name": "claw"`) {
			path = p
		}
	}
	for name, content := range damaged(t, path) {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			h.t = t
			h.must(0, "gateway", "stop")
			restore := replace(t, path, content)
			h.must(0, "gateway", "start")
			eventually(t, "the record is said to be damaged", func() bool { return strings.Contains(h.run("status").stdout, "sandbox-record-corrupt") })
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range []says{{[]string{"status"}, 1}, {append(bring[:len(bring):len(bring)], "--name", "claw"), 1}} {
				r := h.run(c.args...)
				if said := r.stdout + r.stderr; r.code != c.code || !strings.Contains(said, path) || !strings.Contains(said, "sandbox-record-corrupt") {
					t.Errorf("creel %s: exit %d\n%s", strings.Join(c.args, " "), r.code, said)
				}
				h.nextExists(r)
			}
			for _, name := range []string{"claw", "second"} { // the one runs on, the other is not affected
				if r := h.run("exec", name, "--", "echo", "on"); r.code != 0 || r.stdout != "on\n" {
					t.Errorf("exec in %s: %+v", name, r)
				}
			}
			if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
				t.Errorf("the record was changed: %q, %v", after, err)
			}
			restore()
			h.must(0, "start", "claw")
		})
	}
	h.t = t
	// What is advised mends it: moved away, it is made again.
	h.must(0, "exec", "claw", "--", "sh", "-c", "echo marker > /sandbox/marker")
	h.must(0, "gateway", "stop")
	replace(t, path, "noise")
	h.must(0, "gateway", "start")
	h.must(0, "stop", "claw") // also without a record to go by
	if r := h.run("start", "claw"); r.code != 1 || !strings.Contains(r.stderr, path) || !strings.Contains(r.stderr, "sandbox-record-corrupt") {
		t.Errorf("start without a record: exit %d\n%s", r.code, r.stderr)
	}
	if err := os.Rename(path, path+".damaged"); err != nil {
		t.Fatal(err)
	}
	h.must(0, "start", "claw")
	eventually(t, "all is well", func() bool { return h.verdict() == "ok" })
	if r := h.must(0, "exec", "claw", "--", "sh", "-c", "cat /sandbox/marker; echo more > /sandbox/marker"); r.stdout != "marker\n" {
		t.Errorf("the workspace: %+v", r)
	}
	// And it is deleted, however its record is.
	h.must(0, "gateway", "stop")
	replace(t, path, "noise")
	h.must(0, "gateway", "start")
	h.must(0, "destroy", "claw", "--yes")
	if _, err := os.Stat(filepath.Dir(path)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left of the destroyed sandbox: %v", err)
	}
}

func testDamagedJournal(t *testing.T) {
	h, dir := standing(t)
	path := filepath.Join(dir, "journal.jsonl")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	good := string(content)
	change := func(restart string) []string { return append(bring[:len(bring):len(bring)], "--restart", restart) }
	put := func(content string) { replace(t, path, content) }

	// Torn: the trace of a crash. It is nobody's concern, and cut off.
	put(good + `{"version":1,"seq":99,"run":"torn`)
	h.must(0, bring...)
	h.must(0, change("never")...)
	if now, err := os.ReadFile(path); err != nil || !strings.HasPrefix(string(now), good) || strings.Contains(string(now), "torn") {
		t.Errorf("after a torn line: %v\n%s", err, now)
	}

	// Damaged in the middle: named, kept aside at the next change, begun anew.
	first, rest, _ := strings.Cut(good, "\n")
	spoilt := first + "\nnoise\n" + rest
	put(spoilt)
	if r := h.must(0, bring...); !strings.Contains(r.stderr, path+", line 2") {
		t.Errorf("a damaged journal is not named:\n%s", r.stderr)
	}
	if now, err := os.ReadFile(path); err != nil || string(now) != spoilt {
		t.Errorf("changed although nothing was to do: %v", err)
	}
	h.must(0, change("always")...)
	if kept, err := os.ReadFile(path + ".corrupt"); err != nil || string(kept) != spoilt {
		t.Errorf("not kept as it was: %v\n%s", err, kept)
	}
	if now, err := os.ReadFile(path); err != nil || strings.Contains(string(now), "noise") || len(now) == 0 {
		t.Errorf("no new journal was begun: %v\n%s", err, now)
	}

	// Newer, and no file: refused. Reading needs no journal.
	put(strings.ReplaceAll(good, `"version":1`, `"version":99`))
	h.refuse(path, "journal-newer", says{bring, 1}, says{change("never"), 1})
	h.must(0, "status")
	if err := errors.Join(os.Rename(path, path+".kept"), os.Mkdir(path, 0o700)); err != nil {
		t.Fatal(err)
	}
	h.refuse(path, "journal-unreadable", says{bring, 1}, says{change("never"), 1})
	h.must(0, "status")
}

func testDamagedKey(t *testing.T) {
	h, dir := standing(t)
	agent := h.agentPID()
	token := h.authenticated()
	h.must(0, "gateway", "stop")
	path := filepath.Join(dir, "credentials.key")
	replace(t, path, "noise")
	h.refuse(path, "credential-key-unusable", says{[]string{"gateway", "start"}, 1}, says{bring, 1}, says{[]string{"status"}, 1})
	// What is advised mends it; what runs keeps its token.
	if err := os.Rename(path, path+".damaged"); err != nil {
		t.Fatal(err)
	}
	h.must(0, "gateway", "start")
	eventually(t, "all is well again", func() bool { return h.verdict() == "ok" })
	if now := h.agentPID(); now != agent || h.authenticated() != token {
		t.Errorf("the agent's pid is %d, it was %d; its token is another: %v", now, agent, h.authenticated() != token)
	}
	h.must(0, "stop", "claw")
	h.must(0, "start", "claw")
}

// testLeftovers: what a SIGKILL leaves of an atomic write goes with the next start
// of the gateway, and everything goes with uninstall.
func testLeftovers(t *testing.T) {
	h, dir := standing(t)
	boxes, err := filepath.Glob(filepath.Join(dir, "sandboxes", "*"))
	if err != nil || len(boxes) != 1 {
		t.Fatalf("sandboxes %v, %v", boxes, err)
	}
	config := filepath.Join(h.dir, "config", "gateways")
	left := []string{filepath.Join(config, ".creel.yaml.tmp-1"), filepath.Join(dir, ".gateway.json.tmp-2"), filepath.Join(dir, "tls", ".ca.key.tmp-3"),
		filepath.Join(dir, "tls", "server", ".tls.key.tmp-4"), filepath.Join(boxes[0], ".launch.json.tmp-5")}
	agents := filepath.Join(boxes[0], "workspace", ".notes.tmp-6")
	for _, path := range append([]string{agents}, left...) {
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	live, err := state.NewDraft(filepath.Join(dir, "registration.json"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer live.Discard()
	h.must(0, "gateway", "restart")
	for _, path := range left {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is left", path)
		}
	}
	for _, path := range []string{agents, live.Name()} {
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("taken away: %v", err)
		}
	}
	if err := os.WriteFile(left[0], nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h.must(0, "uninstall", "--yes")
	if entries, err := os.ReadDir(h.dir); err != nil || len(entries) > 0 {
		t.Errorf("left after uninstall: %v, %v", entries, err)
	}
}
