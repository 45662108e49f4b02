//go:build linux

package confine

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"creel/internal/sandbox"
	"creel/test/require"
)

// control says how an attack is made outside, to prove that it works there.
type control int

const (
	plain      control = iota // as the test's user
	privileged                // as root: of the machine, or of a user namespace
	onlyRoot                  // as root of the machine
)

// outside makes an attack without a box.
func outside(t *testing.T, how control, argv ...string) (code int, output string) {
	t.Helper()
	c := exec.Command(self(t), append([]string{"attack"}, argv...)...)
	if how == privileged && os.Geteuid() != 0 {
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}}
	} else if how == privileged {
		// What the attack changes ends with its namespaces.
		c.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	}
	out, err := c.CombinedOutput()
	if c.ProcessState == nil {
		t.Fatalf("run the control: %v", err)
	}
	return c.ProcessState.ExitCode(), string(out)
}

// fixture is what attacks aim at.
type fixture struct {
	home     string // file that everybody may read
	neighbor string // file in another sandbox's workspace
	drop     string // directory that everybody may write to
	shown    string // directory that everybody may write to and the policy shows read-only
	port     int    // listener on the host's loopback
	other    int    // listener on another sandbox's loopback
	socket   string // Unix socket of the host
	abstract string // abstract Unix socket of the host
	victim   int    // process of the test's user on the host
	setuid   string // root's program with the setuid bit, in the workspace; root only
	box      *Box
}

func prepareFixture(t *testing.T, tier sandbox.Tier) fixture {
	t.Helper()
	dir := open(t)
	f := fixture{home: filepath.Join(dir, "home", "id_rsa"), drop: filepath.Join(dir, "drop"), shown: filepath.Join(dir, "shown"),
		socket: filepath.Join(dir, "daemon.sock"), abstract: "@" + filepath.Base(dir)}
	for _, d := range []string{filepath.Dir(f.home), f.drop, f.shown} {
		if err := os.Mkdir(d, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(f.home, []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(f.shown, "readme"), []byte("hello"), 0o644); err != nil {
		t.Fatal(err)
	}
	f.port = listenHere(t, "tcp4", "127.0.0.1:0").(*net.TCPAddr).Port
	listenHere(t, "unix", f.socket)
	if err := os.Chmod(f.socket, 0o777); err != nil {
		t.Fatal(err)
	}
	listenHere(t, "unix", f.abstract)
	victim := exec.Command(self(t), "attack", "bystander")
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = victim.Process.Kill()
		_ = victim.Wait()
	})
	f.victim = victim.Process.Pid

	neighbor := profile(t, tier)
	if os.Geteuid() == 0 {
		neighbor.HostUID, neighbor.HostGID = identity(1)
	}
	if err := os.Chmod(neighbor.Workspace, 0o777); err != nil { // nothing but the confinement protects it
		t.Fatal(err)
	}
	f.neighbor = filepath.Join(neighbor.Workspace, "notes")
	if err := os.WriteFile(f.neighbor, []byte("theirs"), 0o644); err != nil {
		t.Fatal(err)
	}
	theirs := start(t, neighbor)
	l, err := theirs.Listen(t.Context(), theirs.RelayPort())
	if err != nil {
		t.Fatal(err)
	}
	accept(t, l)
	f.other = theirs.RelayPort()
	if tier == sandbox.TierNamespaces {
		// The same port in its own network has no listener.
		r := run(t, theirs, theirs.Executable(), "attack", "connect", strconv.Itoa(f.other))
		if r.status.Code != 0 {
			t.Fatalf("control: the neighbor cannot reach its own port: %+v", r)
		}
	}
	mine := profile(t, tier)
	mine.ReadOnly = []string{f.shown}
	if os.Geteuid() == 0 {
		f.setuid = setuidCopy(t, mine.Executable, mine.Workspace)
	}
	f.box = start(t, mine)
	return f
}

func listenHere(t *testing.T, network, address string) net.Addr {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	accept(t, l)
	return l.Addr()
}

// accept takes and closes connections until the test ends.
func accept(t *testing.T, l net.Listener) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
}

func setuidCopy(t *testing.T, executable, workspace string) string {
	t.Helper()
	b, err := os.ReadFile(executable)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(workspace, "setuid")
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	return path
}

type attack struct {
	name string
	argv []string
	how  control
	// instead is what the control does where the same words mean something else
	// outside; nil is argv.
	instead []string
	only    sandbox.Tier // empty: both
}

func attacks(f fixture, b *Box) []attack {
	self := strconv.Itoa(os.Getpid())
	first := "1"
	if b.plan.Tier != sandbox.TierNamespaces {
		first = strconv.Itoa(b.PID())
	}
	return []attack{
		{name: "read a file of the home", argv: []string{"read", f.home}},
		{name: "read another sandbox's workspace", argv: []string{"read", f.neighbor}},
		{name: "list another sandbox's workspace", argv: []string{"list", filepath.Dir(f.neighbor)}},
		{name: "write another sandbox's workspace", argv: []string{"write", filepath.Join(filepath.Dir(f.neighbor), "planted")}},
		{name: "write outside", argv: []string{"write", filepath.Join(f.drop, "planted")}},
		{name: "write what is shown read-only", argv: []string{"write", filepath.Join(f.shown, "planted")}},
		{name: "connect to the host's loopback", argv: []string{"connect", strconv.Itoa(f.port)}},
		{name: "connect to another sandbox's port", argv: []string{"connect", strconv.Itoa(f.other)}, instead: []string{"connect", strconv.Itoa(f.port)}},
		{name: "connect without connect", argv: []string{"fastopen", strconv.Itoa(f.port)}},
		{name: "open a socket of the host", argv: []string{"unix", f.socket}},
		{name: "open an abstract socket of the host", argv: []string{"unix", f.abstract}},
		{name: "send UDP", argv: []string{"udp"}, only: sandbox.TierLandlock},
		{name: "MPTCP", argv: []string{"mptcp"}, only: sandbox.TierLandlock},
		{name: "bind a port", argv: []string{"bind", "28471"}, only: sandbox.TierLandlock},
		{name: "listen to kernel events", argv: []string{"audit"}},
		{name: "open a raw socket", argv: []string{"raw"}, how: privileged},
		{name: "open a packet socket", argv: []string{"packet"}, how: privileged},
		{name: "trace a process", argv: []string{"ptrace"}},
		{name: "read a process's memory", argv: []string{"memory"}},
		{name: "signal a process of the host", argv: []string{"signal", strconv.Itoa(f.victim), "0"}},
		{name: "mount", argv: []string{"mount", "/tmp"}, how: privileged},
		{name: "mount anew", argv: []string{"newmount"}, how: privileged},
		{name: "chroot", argv: []string{"chroot", "/usr"}, how: privileged},
		{name: "make a device", argv: []string{"mknod", filepath.Join(b.Workspace(), "null")}, how: onlyRoot, instead: []string{"mknod", filepath.Join(f.drop, "null")}},
		{name: "make a user namespace", argv: []string{"userns"}},
		{name: "make a user namespace by clone3", argv: []string{"clone3"}},
		{name: "look through the first process's root", argv: []string{"list", "/proc/" + first + "/root"}, instead: []string{"list", "/proc/" + self + "/root"}},
		{name: "read the first process's environment", argv: []string{"read", "/proc/" + first + "/environ"}, instead: []string{"read", "/proc/" + self + "/environ"}},
		{name: "list the first process's descriptors", argv: []string{"list", "/proc/" + first + "/fd"}, instead: []string{"list", "/proc/" + self + "/fd"}},
		{name: "read the supervisor's environment", argv: []string{"read", "/proc/" + self + "/environ"}},
		{name: "use the kernel's keyring", argv: []string{"keyctl"}},
		{name: "take a file handle", argv: []string{"handle", "/usr"}},
		{name: "make a file in memory", argv: []string{"memfd"}},
		{name: "open a process", argv: []string{"pidfd"}},
		{name: "run a setuid program", argv: []string{"setuid", filepath.Join(b.Workspace(), "setuid")}, how: onlyRoot, instead: []string{"setuid", f.setuid}},
		{name: "write a kernel setting", argv: []string{"write", "/proc/sys/kernel/core_pattern"}, how: onlyRoot, instead: []string{"read", "/proc/sys/kernel/core_pattern"}},
		{name: "read the shadow file", argv: []string{"read", "/etc/shadow"}, how: onlyRoot},
	}
}

// TestEscapes makes every attack outside, where it has to succeed, and inside,
// where it has to be refused.
func TestEscapes(t *testing.T) {
	tiers(t, func(t *testing.T, tier sandbox.Tier) {
		f := prepareFixture(t, tier)
		for _, a := range attacks(f, f.box) {
			if a.only != "" && a.only != tier {
				continue
			}
			t.Run(a.name, func(t *testing.T) {
				if a.how == onlyRoot {
					require.Feature(t, "root", os.Geteuid() == 0, "run the tests as root")
				}
				argv := a.argv
				if a.instead != nil {
					argv = a.instead
				}
				if code, out := outside(t, a.how, argv...); code != 0 {
					t.Fatalf("the control did not succeed: %d %s", code, out)
				}
				r := run(t, f.box, append([]string{f.box.Executable(), "attack"}, a.argv...)...)
				if r.status.Code != attackRefused {
					t.Errorf("inside it ended with %+v", r)
				}
			})
		}
		// None of it harmed the box.
		if r := run(t, f.box, "true"); r.status.Code != 0 {
			t.Errorf("afterwards: %+v", r)
		}
		for _, path := range []string{filepath.Join(f.drop, "planted"), filepath.Join(f.shown, "planted")} {
			if b, err := os.ReadFile(path); err == nil && len(b) == 0 {
				t.Errorf("%s was made from inside", path)
			}
		}
	})
}

// What has to work is refused nothing: else a box that runs nothing would pass.
func TestPermitted(t *testing.T) {
	tiers(t, func(t *testing.T, tier sandbox.Tier) {
		f := prepareFixture(t, tier)
		l, err := f.box.Listen(t.Context(), f.box.RelayPort())
		if err != nil {
			t.Fatal(err)
		}
		accept(t, l)
		for name, argv := range map[string][]string{
			"read what is shown":    {"read", filepath.Join(f.shown, "readme")},
			"write the workspace":   {"write", filepath.Join(f.box.Workspace(), "file")},
			"connect to the relay":  {"connect", strconv.Itoa(f.box.RelayPort())},
			"bind the dashboard":    {"bind", strconv.Itoa(f.box.DashboardPort())},
			"read a certificate":    {"list", "/etc/ssl/certs"},
			"read its own process":  {"read", "/proc/self/status"},
			"read the random":       {"execute", "/usr/bin/true"},
			"write the null device": {"write", "/dev/null"},
		} {
			t.Run(name, func(t *testing.T) {
				if r := run(t, f.box, append([]string{f.box.Executable(), "attack"}, argv...)...); r.status.Code != 0 {
					t.Errorf("refused: %+v", r)
				}
			})
		}
	})
}

// A program inside can kill the first process without namespaces; with them it
// cannot. Either way nothing is left.
func TestKillTheFirstProcess(t *testing.T) {
	t.Run("namespaces", func(t *testing.T) {
		need(t, sandbox.TierNamespaces)
		b := start(t, profile(t, sandbox.TierNamespaces))
		for sig := 1; sig <= 64; sig++ {
			// The C library keeps 32 and 33; the kernel does not.
			run(t, b, b.Executable(), "attack", "signal", "1", strconv.Itoa(sig))
		}
		if r := run(t, b, "echo", "alive"); r.stdout != "alive\n" {
			t.Errorf("the first process did not survive: %+v", r)
		}
	})
	t.Run("landlock", func(t *testing.T) {
		need(t, sandbox.TierLandlock)
		b := start(t, profile(t, sandbox.TierLandlock))
		p, err := b.Spawn(t.Context(), Command{Argv: []string{b.Executable(), "attack", "bystander"}}, nil, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		run2, err := b.Spawn(t.Context(), Command{Argv: []string{b.Executable(), "attack", "signal", strconv.Itoa(b.PID()), "9"}}, nil, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		<-b.Done()
		for _, pid := range []int{p.HostPID(), run2.HostPID()} {
			if lives(pid) {
				t.Errorf("process %d outlived the first", pid)
			}
		}
	})
}

// lives reports whether a process runs; one that nobody has reaped does not.
func lives(pid int) bool {
	fields, err := status(strconv.Itoa(pid))
	return err == nil && !strings.HasPrefix(fields["State"], "Z")
}

// An agent has the three descriptors it was given and no other.
func TestNoDescriptorLeaks(t *testing.T) {
	tiers(t, func(t *testing.T, tier sandbox.Tier) {
		// The control: a descriptor that is inherited is seen.
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		defer w.Close()
		c := exec.Command(self(t), "attack", "descriptors")
		c.ExtraFiles = []*os.File{r}
		out, err := c.Output()
		if err != nil || !strings.Contains("\n"+string(out), "\n3 pipe:") {
			t.Fatalf("control: %q, %v", out, err)
		}
		leak, err := unix.Open("/usr", unix.O_RDONLY|unix.O_DIRECTORY, 0) // not close-on-exec, as careless code would
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(leak)
		b := start(t, profile(t, tier))
		l, err := b.Listen(t.Context(), b.RelayPort())
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		got := run(t, b, b.Executable(), "attack", "descriptors")
		if lines := strings.Split(strings.TrimSpace(got.stdout), "\n"); len(lines) != 3 {
			t.Errorf("descriptors inside: %q (exit %d)", lines, got.status.Code)
		}
	})
}

// The network inside is the loopback alone.
func TestOnlyLoopback(t *testing.T) {
	need(t, sandbox.TierNamespaces)
	b := start(t, profile(t, sandbox.TierNamespaces))
	r := run(t, b, "sh", "-c", "tail -n +3 /proc/net/dev | cut -d: -f1")
	if got := strings.Fields(r.stdout); fmt.Sprint(got) != "[lo]" {
		t.Errorf("interfaces %v, want lo", got)
	}
}

// Directories that must stay unseen are covered where a system directory that is
// shown holds them.
func TestHiddenBelowOpt(t *testing.T) {
	require.Feature(t, "root", os.Geteuid() == 0, "run the tests as root")
	need(t, sandbox.TierNamespaces)
	dir, err := os.MkdirTemp("/opt", "creel-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.MkdirAll(filepath.Join(dir, "state"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"visible", "state/key"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p := profile(t, sandbox.TierNamespaces)
	p.Hidden = []string{filepath.Join(dir, "state")}
	b := start(t, p)
	if r := run(t, b, "cat", filepath.Join(dir, "visible")); r.status.Code != 0 {
		t.Errorf("control: %+v", r)
	}
	if r := run(t, b, "cat", filepath.Join(dir, "state", "key")); r.status.Code == 0 {
		t.Errorf("a hidden file was read")
	}
}
