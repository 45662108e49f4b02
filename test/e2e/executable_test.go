package e2e

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// put installs a program at a path as an upgrade does: beside it, then renamed.
func put(t *testing.T, program, path string) {
	t.Helper()
	from, err := os.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = from.Close() }()
	to, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// testExecutable: the executable is replaced by another build, and deleted, while
// everything runs from it. killer is the other build: it is creel unless it is
// told to kill itself.
func testExecutable(t *testing.T) {
	h := newHome(t)
	dir, err := os.MkdirTemp("", "creel-own-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.program = ""
		_ = os.RemoveAll(dir)
	})
	own := filepath.Join(dir, "creel")
	put(t, creel, own)
	h.program = own
	h.must(0, bring...)
	agent, gateway := h.agentPID(), h.gatewayPID()
	build := func(pid int) string {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if err != nil {
			t.Fatal(err)
		}
		return filepath.Base(filepath.Dir(exe))
	}
	first := build(gateway)

	// Replaced: what runs goes on, and is said to be another build.
	put(t, killer, own)
	if r := h.run("status"); r.code != 3 || !strings.Contains(r.stdout, "gateway-drifted") || !strings.Contains(r.stdout, first[:12]) {
		t.Errorf("status after an upgrade: exit %d, build %s\n%s", r.code, first, r.stdout)
	}
	if r := h.run("gateway", "status"); r.code != 3 || !strings.Contains(r.stdout, "another build") || !strings.Contains(r.stdout+r.stderr, "creel gateway upgrade") {
		t.Errorf("gateway status after an upgrade: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	if r := h.run(bring...); r.code != 3 || syscall.Kill(gateway, 0) != nil {
		t.Errorf("onboard after an upgrade: exit %d; it must not restart what is only another build\n%s%s", r.code, r.stdout, r.stderr)
	}
	if r := h.run("gateway", "restart"); r.code != 0 {
		t.Fatalf("restart: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	if r := h.run("status"); r.code != 0 || strings.Contains(r.stdout, "gateway-drifted") {
		t.Errorf("status after the restart: exit %d\n%s", r.code, r.stdout)
	}
	if now := build(h.gatewayPID()); now == first {
		t.Error("the restarted gateway is the old build")
	}
	if now := h.agentPID(); now != agent {
		t.Errorf("the agent's pid is %d, it was %d", now, agent)
	}
	if r := h.run("exec", "claw", "--", "echo", "on"); r.code != 0 || r.stdout != "on\n" {
		t.Errorf("exec: %+v", r)
	}

	// Deleted, and the copies with it: a gateway can still start sandboxes, and be
	// restarted by whoever has an executable.
	if err := os.Remove(own); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(h.dir, "state", "versions")); err != nil {
		t.Fatal(err)
	}
	h.program = killer // the same build as the one that runs
	h.must(0, "status")
	if now := h.agentPID(); now != agent {
		t.Errorf("the agent's pid is %d, it was %d", now, agent)
	}
	h.must(0, "stop", "claw")
	h.must(0, "start", "claw")
	h.must(0, "gateway", "restart")
	eventually(t, "everything is ok again", func() bool { return h.run("status").code == 0 })
	if r := h.must(0, "exec", "claw", "--", "echo", "on"); r.stdout != "on\n" {
		t.Errorf("exec: %+v", r)
	}
	if r := h.runProgram(creel, nil, "status"); r.code != 3 || !strings.Contains(r.stdout, "gateway-drifted") {
		t.Errorf("status of the first build: exit %d\n%s", r.code, r.stdout)
	}
}
