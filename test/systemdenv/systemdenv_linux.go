// Package systemdenv boots a real systemd for a test: as the first process of
// namespaces of its own, on an overlay of this machine's files that goes when the
// test does, with a login manager and without a network. Nothing that happens in it
// reaches the machine that the test runs on. The power can be cut: then everything in
// it dies at once, and it boots again from the same disk.
package systemdenv

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"creel/test/require"
)

// Feature is what CREEL_TEST_REQUIRE calls this.
const Feature = "systemd"

// how to get it.
const how = "run as root with the right to mount: apt-get install systemd libpam-systemd dbus polkitd util-linux"

// bootTime bounds a boot, which takes a fraction of a second.
const bootTime = 60 * time.Second

// Machine is a booted systemd.
type Machine struct {
	t      testing.TB
	dir    string
	shared map[string]string
	boots  int
	first  *exec.Cmd // nil while the power is off
	ended  chan struct{}
	cgroup string
}

// Boot boots a machine for a test and ends it with that. shared are directories of
// this machine, by where they are seen in the other one, read-only.
func Boot(t testing.TB, shared map[string]string) *Machine {
	t.Helper()
	program := systemd()
	require.Feature(t, Feature, os.Geteuid() == 0 && program != "", how)
	for _, name := range []string{"nsenter", "setpriv", "loginctl", "dbus-daemon", "useradd"} {
		_, err := exec.LookPath(name)
		require.Feature(t, Feature, err == nil, how)
	}
	dir, err := os.MkdirTemp("", "systemdenv-")
	if err != nil {
		t.Fatal(err)
	}
	m := &Machine{t: t, dir: dir, shared: shared}
	t.Cleanup(m.end)
	for _, name := range []string{"disk", "root", "cgroup"} {
		if err := os.Mkdir(m.path(name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// What is written goes to memory: an overlay cannot be the upper part of another.
	err = unix.Mount("systemdenv", m.path("disk"), "tmpfs", 0, "mode=755")
	require.Feature(t, Feature, err == nil, fmt.Sprintf("%s (mount a disk: %v)", how, err))
	err = unix.Mount("systemdenv", m.path("cgroup"), "cgroup2", 0, "")
	require.Feature(t, Feature, err == nil, fmt.Sprintf("%s (mount cgroup2: %v)", how, err))
	if err := m.furnish(); err != nil {
		t.Fatalf("furnish the machine: %v", err)
	}
	m.start()
	return m
}

func systemd() string {
	for _, path := range []string{"/usr/lib/systemd/systemd", "/lib/systemd/systemd"} {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ""
}

func (m *Machine) path(names ...string) string {
	return filepath.Join(append([]string{m.dir}, names...)...)
}

// wanted are the units of those that a boot pulls in which a machine of its own kind
// needs; every other one is for real machines, and some reach the kernel.
var wanted = []string{"systemd-journald.service", "systemd-journald.socket", "systemd-journald-dev-log.socket", "dbus.socket",
	"systemd-tmpfiles-setup.service", "dbus.service", "systemd-logind.service", "systemd-user-sessions.service"}

// target is what is booted, as on a server.
const target = "multi-user.target"

// furnish writes to the disk what makes a boot small and keeps it inside.
func (m *Machine) furnish() error {
	units := m.path("disk", "upper", "etc", "systemd", "system")
	for _, dir := range []string{units, m.path("disk", "work")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(m.path("disk", "upper", "etc", "fstab"), nil, 0o644); err != nil {
		return err
	}
	masked := []string{"timers.target", "paths.target", "getty.target"}
	for _, root := range []string{"/usr/lib/systemd/system", "/lib/systemd/system", "/etc/systemd/system"} {
		for _, by := range []string{"sysinit", "local-fs", "remote-fs", "sockets", "basic", "multi-user"} {
			links, _ := filepath.Glob(filepath.Join(root, by+".target.wants", "*"))
			for _, link := range links {
				if name := filepath.Base(link); !slices.Contains(wanted, name) {
					masked = append(masked, name)
				}
			}
		}
	}
	for _, name := range masked {
		if err := os.Symlink("/dev/null", filepath.Join(units, name)); err != nil && !os.IsExist(err) {
			return err
		}
	}
	return nil
}

// start boots.
func (m *Machine) start() {
	m.t.Helper()
	m.boots++
	m.cgroup = m.path("cgroup", fmt.Sprintf("systemdenv-%d-%d", os.Getpid(), m.boots))
	if err := os.Mkdir(m.cgroup, 0o755); err != nil {
		m.t.Fatal(err)
	}
	cgroup, err := os.Open(m.cgroup)
	if err != nil {
		m.t.Fatal(err)
	}
	defer cgroup.Close()
	console, err := os.OpenFile(m.path("console"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		m.t.Fatal(err)
	}
	defer console.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = []string{variable + "=" + m.dir}
	for inside, here := range m.shared {
		cmd.Env = append(cmd.Env, sharedVariable+inside+"="+here)
	}
	cmd.Stdout, cmd.Stderr = console, console
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, UseCgroupFD: true, CgroupFD: int(cgroup.Fd()), Pdeathsig: syscall.SIGKILL,
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET}
	if err := cmd.Start(); err != nil {
		require.Feature(m.t, Feature, false, fmt.Sprintf("%s (make namespaces: %v)", how, err))
	}
	m.first = cmd
	m.awaitBoot()
}

// awaitBoot returns when the machine is up.
func (m *Machine) awaitBoot() {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), bootTime)
	defer cancel()
	ended := make(chan struct{})
	go func(cmd *exec.Cmd) {
		_ = cmd.Wait()
		close(ended)
	}(m.first)
	m.ended = ended
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		out, _ := m.Command(ctx, 0, nil, "systemctl", "is-system-running").CombinedOutput()
		switch state := string(bytes.TrimSpace(out)); state {
		case "running", "degraded":
			return
		}
		select {
		case <-tick.C:
		case <-ended:
			m.t.Fatalf("the machine's first process has ended:\n%s", m.Console())
		case <-ctx.Done():
			m.t.Fatalf("the machine did not boot within %s:\n%s", bootTime, m.Console())
		}
	}
}

// Command is a program in the machine, run by a user, with the given environment.
func (m *Machine) Command(ctx context.Context, uid int, env []string, program string, args ...string) *exec.Cmd {
	enter := []string{"--target", fmt.Sprint(m.first.Process.Pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--"}
	if uid != 0 {
		enter = append(enter, "setpriv", fmt.Sprintf("--reuid=%d", uid), fmt.Sprintf("--regid=%d", uid), "--init-groups", "--")
	}
	cmd := exec.CommandContext(ctx, "nsenter", slices.Concat(enter, []string{program}, args)...)
	cmd.Env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}, env...)
	cmd.WaitDelay = time.Second
	return cmd
}

// Must runs a program as root and returns what it printed; it has to succeed.
func (m *Machine) Must(program string, args ...string) string {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), bootTime)
	defer cancel()
	out, err := m.Command(ctx, 0, nil, program, args...).CombinedOutput()
	if err != nil {
		m.t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// AddUser makes an ordinary user with a home, who is logged in nowhere.
func (m *Machine) AddUser(name string, uid int) {
	m.t.Helper()
	m.Must("useradd", "--create-home", "--uid", fmt.Sprint(uid), "--shell", "/bin/sh", name)
}

// Root is where the machine's files are seen from outside.
func (m *Machine) Root() string { return fmt.Sprintf("/proc/%d/root", m.first.Process.Pid) }

// Console is what the machine's manager said.
func (m *Machine) Console() string {
	b, _ := os.ReadFile(m.path("console"))
	return string(b)
}

// PowerCut ends everything in the machine at once and boots it again.
func (m *Machine) PowerCut() {
	m.t.Helper()
	m.off()
	m.start()
}

// off cuts the power and returns when nothing of the machine is left.
func (m *Machine) off() {
	if m.first == nil {
		return
	}
	_ = m.first.Process.Kill() // the kernel ends everything in its namespace with it
	<-m.ended
	deadline := time.NewTimer(bootTime)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		events, err := os.ReadFile(filepath.Join(m.cgroup, "cgroup.events"))
		if err != nil || bytes.Contains(events, []byte("populated 0")) {
			break
		}
		select {
		case <-tick.C:
			continue
		case <-deadline.C:
			m.t.Errorf("processes of the machine are left in %s", m.cgroup)
		}
		break
	}
	removeCgroup(m.cgroup)
	m.first = nil
}

// removeCgroup removes a group with those in it, the deepest first.
func removeCgroup(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			removeCgroup(filepath.Join(dir, e.Name()))
		}
	}
	_ = unix.Rmdir(dir)
}

func (m *Machine) end() {
	m.off()
	for _, name := range []string{"disk", "cgroup"} {
		_ = unix.Unmount(m.path(name), unix.MNT_DETACH)
	}
	if err := os.RemoveAll(m.dir); err != nil {
		m.t.Errorf("remove the machine: %v", err)
	}
}
