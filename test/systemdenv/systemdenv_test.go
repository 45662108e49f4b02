//go:build linux

package systemdenv

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMain(m *testing.M) {
	Become()
	os.Exit(m.Run())
}

// What is in the machine stays in it, over a power cut too, and goes with it.
func TestMachine(t *testing.T) {
	shared := t.TempDir()
	if err := os.WriteFile(filepath.Join(shared, "file"), []byte("seen"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(shared, 0o755); err != nil {
		t.Fatal(err)
	}
	m := Boot(t, map[string]string{"/opt/shared": shared})
	dir := m.dir
	if got := strings.TrimSpace(m.Must("cat", "/proc/1/comm")); got != "systemd" {
		t.Errorf("process 1 is %q", got)
	}
	if got := m.Must("cat", "/opt/shared/file"); got != "seen" {
		t.Errorf("shared: %q", got)
	}
	m.AddUser("ada", 4242)
	m.Must("sh", "-c", "echo kept >/home/ada/file; echo lost >/run/file")
	if _, err := os.Lstat("/home/ada"); err == nil {
		t.Error("the machine's files are on the machine that tests it")
	}
	// A user's manager that runs from boot on is one after the power was cut, too.
	m.Must("loginctl", "enable-linger", "ada")
	before := m.first.Process.Pid
	m.PowerCut()
	if m.first.Process.Pid == before {
		t.Error("it is the same first process")
	}
	if got := m.Must("cat", "/home/ada/file"); got != "kept\n" {
		t.Errorf("after the power cut: %q", got)
	}
	if _, err := os.Stat(m.Root() + "/run/file"); err == nil {
		t.Error("what was in memory is there after the power cut")
	}
	if got := m.Must("loginctl", "show-user", "ada", "--property=Linger"); got != "Linger=yes\n" {
		t.Errorf("after the power cut: %q", got)
	}
	out, err := m.Command(t.Context(), 4242, nil, "id", "-u").Output()
	if err != nil || string(out) != "4242\n" {
		t.Errorf("a user's command: %q, %v", out, err)
	}
	m.end()
	if _, err := os.Lstat(dir); err == nil {
		t.Error("the machine is left")
	}
	if mounts, err := os.ReadFile("/proc/self/mounts"); err != nil || strings.Contains(string(mounts), dir) {
		t.Errorf("mounts are left: %v", err)
	}
}
