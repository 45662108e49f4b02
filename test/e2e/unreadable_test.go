package e2e

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"creel/test/require"
)

// testUnreadable: what this user may not read is neither absent nor damaged.
func testUnreadable(t *testing.T) {
	require.Feature(t, "ordinary-user", os.Geteuid() != 0, "run the tests as an ordinary user too: root reads everything")
	h, dir := standing(t)
	agent := h.agentPID()
	handles, err := filepath.Glob(filepath.Join(dir, "sandboxes", "*", "handle.json"))
	if err != nil || len(handles) != 1 {
		t.Fatalf("records %v, %v", handles, err)
	}
	status, start := []string{"status"}, []string{"gateway", "start"}
	for _, c := range []struct {
		path, advisory string
		stopped        bool // the gateway
		commands       []says
	}{
		{filepath.Join(h.dir, "config", "gateways", "creel.yaml"), "desired-unreadable", false, []says{{status, 4}, {bring, 1}, {start, 1}, {[]string{"list"}, 4}}},
		{filepath.Join(dir, "journal.jsonl"), "journal-unreadable", false, []says{{bring, 1}}},
		{filepath.Join(dir, "gateway.json"), "gateway-unknown", false, []says{{status, 4}, {start, 1}}},
		{filepath.Join(dir, "tls", "client", "tls.key"), "secrets-unknown", false, []says{{status, 4}, {bring, 4}}},
		{filepath.Join(dir, "gateway.db"), "state-permission", true, []says{{status, 1}, {start, 1}, {bring, 1}}},
		{filepath.Join(dir, "credentials.key"), "state-permission", true, []says{{status, 1}, {start, 1}, {bring, 1}}},
	} {
		t.Run(filepath.Base(c.path), func(t *testing.T) {
			h.t = t
			if c.stopped {
				h.must(0, "gateway", "stop")
			}
			mode := closeFile(t, c.path)
			for _, command := range c.commands {
				r := h.run(command.args...)
				if said := r.stdout + r.stderr; r.code != command.code || !strings.Contains(said, c.path) || !strings.Contains(said, c.advisory) {
					t.Errorf("creel %s: exit %d, want %d, %s and %s\n%s", strings.Join(command.args, " "), r.code, command.code, c.path, c.advisory, said)
				}
				h.nextExists(r)
			}
			if err := os.Chmod(c.path, mode); err != nil {
				t.Fatal(err)
			}
			h.must(0, "gateway", "start")
			eventually(t, "all is well again", func() bool { return h.verdict() == "ok" })
			if now := h.agentPID(); now != agent {
				t.Errorf("the agent's pid is %d, it was %d", now, agent)
			}
		})
	}
	h.t = t
	h.must(0, "gateway", "stop")
	mode := closeFile(t, handles[0])
	h.must(0, "gateway", "start")
	eventually(t, "the record is named", func() bool {
		r := h.run("status")
		return r.code == 1 && strings.Contains(r.stdout, handles[0]) && strings.Contains(r.stdout, "permission denied")
	})
	if err := os.Chmod(handles[0], mode); err != nil {
		t.Fatal(err)
	}
	h.must(0, "start", "claw")
	if v := h.verdict(); v != "ok" {
		t.Errorf("verdict %q", v)
	}
}

// closeFile takes away every right to a file and returns those it had.
func closeFile(t *testing.T, path string) fs.FileMode {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	return info.Mode().Perm()
}
