package openshell

import (
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"creel/internal/gateway"
	"creel/internal/gateway/launch"
	"creel/internal/gateway/upgrade"
	"creel/internal/state"
)

// A gateway is launched again as it was: with what was recorded of it, or, where that
// is of another one, with what its process was started with. Of that only what Creel
// itself would give it is written to disk: somebody else may have started it.
func TestRunningSide(t *testing.T) {
	r := home(t, map[string]string{"PATH": "/bin", "HOME": "/h"})
	g := r.cfg.Gateway
	write(t, g.File(state.ProcessConfigFile), "[openshell]\nversion = 1\n")
	cmd := exec.Command("sleep", "600")
	cmd.Env = []string{"PATH=/bin", "OPENAI_API_KEY=sk-canary", "LD_PRELOAD=x", "OPENSHELL_SSH_HANDSHAKE_SECRET=canary", "OPENSHELL_SERVER_PORT=8081",
		"OPENSHELL_DB_URL=" + r.databaseURL(), "OPENSHELL_GATEWAY_CONFIG=" + g.File(state.ProcessConfigFile), "OPENSHELL_ENABLE_MTLS_AUTH=true", "RUST_LOG=debug"}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	environment, err := processEnvironment(cmd.Process.Pid)
	// Start returns a moment before the kernel shows the environment.
	for end := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(end); environment, err = processEnvironment(cmd.Process.Pid) {
		runtime.Gosched()
	}
	if err != nil {
		t.Fatal(err)
	}
	o := gateway.Observation{Identity: gateway.Identity{Version: "0.0.88"}}
	m := marker{Mark: launch.Mark{PID: cmd.Process.Pid}, Port: 8081, Binary: "/opt/gw", EnvironmentHash: hash(environment, r.configOf(environment))}
	if _, err := processEnvironment(ended(t)); err == nil {
		t.Error("a process that has ended has an environment")
	}
	side, err := r.runningSide(m, o, "/kept")
	if err != nil {
		t.Fatal(err)
	}
	with, err := settingsOf(side)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"OPENSHELL_DB_URL=" + r.databaseURL(), "OPENSHELL_ENABLE_MTLS_AUTH=true", "OPENSHELL_GATEWAY_CONFIG=" + g.File(state.ProcessConfigFile), "OPENSHELL_SERVER_PORT=8081", "PATH=/bin", "RUST_LOG=debug"}
	if !slices.Equal(with.Environment, want) || side.Version != "0.0.88" || side.Executable != "/kept" || with.Port != 8081 || !strings.Contains(with.Config, "version = 1") {
		t.Errorf("%+v with %+v", side, with)
	}
	if strings.Contains(string(side.Settings), "canary") {
		t.Errorf("a secret would be written: %s", side.Settings)
	}

	// What is recorded goes before it, if it is of this gateway.
	recorded := settings{Port: 8081, Environment: []string{"OPENSHELL_SERVER_PORT=8081"}, Config: "of the record", Told: "0.0.92", Program: identity{Path: "/opt/gw"}}
	s, err := recorded.side("", "/opt/gw")
	if err != nil {
		t.Fatal(err)
	}
	if err := upgrade.WriteServed(g, runtimeName, s); err != nil {
		t.Fatal(err)
	}
	if side, err = r.runningSide(m, o, "/kept"); err != nil || strings.Contains(string(side.Settings), "of the record") {
		t.Errorf("the record of another gateway was taken: %s, %v", side.Settings, err)
	}
	m.EnvironmentHash = hash(recorded.Environment, recorded.Config)
	if side, err = r.runningSide(m, o, "/kept"); err != nil || !strings.Contains(string(side.Settings), "of the record") || side.Version != "0.0.92" {
		t.Errorf("%+v, %v", side, err)
	}
}

// ended is a process that has ended and that nobody has waited for yet.
func ended(t *testing.T) int {
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() })
	if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}
