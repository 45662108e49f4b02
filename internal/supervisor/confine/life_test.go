//go:build linux

package confine

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/sandbox"
	"creel/test/require"
)

func bystander(t testing.TB, b *Box) *Process {
	t.Helper()
	p, err := b.Spawn(t.Context(), Command{Argv: []string{b.Executable(), "attack", "bystander"}}, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestHostPID(t *testing.T) {
	tiers(t, func(t *testing.T, tier sandbox.Tier) {
		b := start(t, profile(t, tier))
		for range 3 {
			p := bystander(t, b)
			fields, err := status(strconv.Itoa(p.HostPID()))
			if err != nil {
				t.Fatal(err)
			}
			numbers := strings.Fields(fields["NSpid"])
			if numbers[0] != strconv.Itoa(p.HostPID()) || numbers[len(numbers)-1] != strconv.Itoa(p.PID()) {
				t.Errorf("inside %d, outside %d, the kernel says %v", p.PID(), p.HostPID(), numbers)
			}
		}
	})
}

func TestExitStatus(t *testing.T) {
	tiers(t, func(t *testing.T, tier sandbox.Tier) {
		b := start(t, profile(t, tier))
		if r := run(t, b, "sh", "-c", "exit 42"); r.status.Code != 42 || r.status.Signal != 0 {
			t.Errorf("exit: %+v", r)
		}
		if r := run(t, b, "sh", "-c", "kill -9 $$"); r.status.Code != 137 || r.status.Signal != 9 {
			t.Errorf("signal: %+v", r)
		}
	})
}

// Programs expect to wait for their input and output.
func TestDescriptorsBlock(t *testing.T) {
	tiers(t, func(t *testing.T, tier sandbox.Tier) {
		b := start(t, profile(t, tier))
		if r := run(t, b, b.Executable(), "attack", "blocking"); r.status.Code != 0 {
			t.Errorf("pipes do not block: %+v", r)
		}
		p, err := b.Spawn(t.Context(), Command{Argv: []string{b.Executable(), "attack", "blocking"}, TTY: true}, nil, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer p.PTY.Close()
		if s, err := p.Wait(t.Context()); err != nil || s.Code != 0 {
			t.Errorf("terminals do not block: %+v, %v", s, err)
		}
	})
}

func TestSpawnRefusals(t *testing.T) {
	tiers(t, func(t *testing.T, tier sandbox.Tier) {
		b := start(t, profile(t, tier))
		for name, c := range map[string]struct {
			command Command
			want    error
		}{
			"no such program":   {Command{Argv: []string{"no-such-program"}}, unix.ENOENT},
			"no such path":      {Command{Argv: []string{"/usr/bin/no-such-program"}}, unix.ENOENT},
			"no such directory": {Command{Argv: []string{"true"}, Dir: "/no/such"}, unix.ENOENT},
			"not executable":    {Command{Argv: []string{"/etc/ssl/openssl.cnf"}}, unix.EACCES},
			"too long":          {Command{Argv: []string{"true", strings.Repeat("x", maxMessage)}}, unix.E2BIG},
		} {
			if _, err := b.Spawn(t.Context(), c.command, nil, nil, nil); !errors.Is(err, c.want) {
				t.Errorf("%s: %v, want %v", name, err, c.want)
			}
		}
		if _, err := b.Spawn(t.Context(), Command{}, nil, nil, nil); err == nil {
			t.Error("nothing was spawned without an error")
		}
		if r := run(t, b, "pwd"); strings.TrimSpace(r.stdout) != b.Workspace() {
			t.Errorf("afterwards: %+v", r)
		}
	})
}

// A signal reaches every process group of a session, which a shell with job
// control has several of.
func TestSignalReachesTheSession(t *testing.T) {
	tiers(t, func(t *testing.T, tier sandbox.Tier) {
		b := start(t, profile(t, tier))
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		p, err := b.Spawn(t.Context(), Command{Argv: []string{"bash", "-mc", "sleep 1000 & echo started; wait"}}, nil, w, nil)
		w.Close()
		if err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(r).ReadString('\n'); line != "started\n" {
			t.Fatalf("%q, %v", line, err)
		}
		if err := p.Signal(t.Context(), unix.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if s, err := p.Wait(t.Context()); err != nil || s.Signal != int(unix.SIGTERM) {
			t.Errorf("ended with %+v, %v", s, err)
		}
		// The pipe ends when the background job, in a group of its own, has too.
		if _, err := io.Copy(io.Discard, r); err != nil {
			t.Error(err)
		}
		if err := p.Signal(t.Context(), unix.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("signalling what has ended: %v", err)
		}
	})
}

func TestTerminal(t *testing.T) {
	tiers(t, func(t *testing.T, tier sandbox.Tier) {
		b := start(t, profile(t, tier))
		p, err := b.Spawn(t.Context(), Command{Argv: []string{"sh", "-c", "stty size; test -t 0 && test -t 1 && test -t 2 && echo yes; read line; echo got $line >/dev/tty"},
			Env: []string{"PATH=" + defaultPath}, TTY: true, Cols: 100, Rows: 40}, nil, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer p.PTY.Close()
		if _, err := io.WriteString(p.PTY, "hello\n"); err != nil {
			t.Fatal(err)
		}
		if s, err := p.Wait(t.Context()); err != nil || s.Code != 0 {
			t.Errorf("ended with %+v, %v", s, err)
		}
		var out strings.Builder
		_, _ = io.Copy(&out, p.PTY) // ends with EIO when the other side is closed
		for _, want := range []string{"40 100", "yes", "got hello"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("terminal said %q, without %q", out.String(), want)
			}
		}
	})
}

func TestListenAndDial(t *testing.T) {
	tiers(t, func(t *testing.T, tier sandbox.Tier) {
		b := start(t, profile(t, tier))
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		p, err := b.Spawn(t.Context(), Command{Argv: []string{b.Executable(), "attack", "serve", strconv.Itoa(b.DashboardPort())}}, nil, w, nil)
		w.Close()
		if err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(r).ReadString('\n'); line != "listening\n" {
			t.Fatalf("%q, %v", line, err)
		}
		c, err := b.Dial(t.Context(), b.DashboardPort())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if got, err := io.ReadAll(c); err != nil || string(got) != "from inside" {
			t.Errorf("%q, %v", got, err)
		}
		if s, err := p.Wait(t.Context()); err != nil || s.Code != 0 {
			t.Errorf("server ended with %+v, %v", s, err)
		}
		if _, err := b.Dial(t.Context(), b.DashboardPort()); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("dialling nobody: %v", err)
		}
		l, err := b.Listen(t.Context(), b.RelayPort())
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		answered := make(chan error, 1)
		go func() {
			c, err := l.Accept()
			if err == nil {
				err = c.Close()
			}
			answered <- err
		}()
		if r := run(t, b, b.Executable(), "attack", "connect", strconv.Itoa(b.RelayPort())); r.status.Code != 0 {
			t.Errorf("connecting to the relay: %+v", r)
		}
		if err := <-answered; err != nil {
			t.Error(err)
		}
		if _, err := b.Listen(t.Context(), b.RelayPort()); err == nil {
			t.Error("one port was listened on twice")
		}
	})
}

// What listens on this machine is not reached as if it were inside.
func TestDialStaysInside(t *testing.T) {
	tiers(t, func(t *testing.T, tier sandbox.Tier) {
		here := listenHere(t, "tcp4", "127.0.0.1:0").(*net.TCPAddr).Port
		b := start(t, profile(t, tier))
		if c, err := b.Dial(t.Context(), here); err == nil {
			_ = c.Close()
			t.Error("a port of this machine was reached")
		}
	})
}

// Without a network of its own a box takes another port when its own is taken.
func TestPortsAreReplaced(t *testing.T) {
	need(t, sandbox.TierLandlock)
	taken := listenHere(t, "tcp4", "127.0.0.1:0").(*net.TCPAddr).Port
	p := profile(t, sandbox.TierLandlock)
	p.RelayPort, p.DashboardPort = taken, taken
	b := start(t, p)
	if b.RelayPort() == taken || b.DashboardPort() == taken || b.RelayPort() == 0 || b.DashboardPort() == 0 {
		t.Errorf("relay %d, dashboard %d, taken %d", b.RelayPort(), b.DashboardPort(), taken)
	}
}

// Root's own directories above a workspace are opened for traversal where the
// sandbox's user has to walk them; nobody else's are.
func TestTheWayToTheWorkspace(t *testing.T) {
	require.Feature(t, "root", os.Geteuid() == 0, "run the tests as root")
	need(t, sandbox.TierLandlock)
	p := profile(t, sandbox.TierLandlock)
	top := filepath.Dir(p.Workspace)
	foreign := filepath.Join(top, "foreign")
	own := filepath.Join(foreign, "own")
	workspace := filepath.Join(own, "deep", "workspace")
	if err := os.MkdirAll(workspace, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(workspace, p.HostUID, p.HostGID); err != nil {
		t.Fatal(err)
	}
	p.Workspace, p.Hidden = workspace, []string{own}
	_, err := Start(t.Context(), p.Executable, p)
	if a, ok := advisory.Of(err); !ok || a.ID != "workspace-unreachable" || !strings.Contains(err.Error(), foreign+":") {
		t.Fatalf("through a directory that is closed: %v", err)
	}
	if err := os.Chmod(foreign, 0o711); err != nil {
		t.Fatal(err)
	}
	b := start(t, p)
	if r := run(t, b, "sh", "-c", "cd "+workspace+" && echo here >file && cat file"); r.stdout != "here\n" {
		t.Errorf("%+v", r)
	}
	if fi, err := os.Stat(own); err != nil || fi.Mode().Perm() != 0o711 {
		t.Errorf("own directory: %v, %v", fi.Mode(), err)
	}
}

func TestOrphansAreReaped(t *testing.T) {
	need(t, sandbox.TierNamespaces)
	b := start(t, profile(t, sandbox.TierNamespaces))
	run(t, b, "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10; do (sh -c 'exit 0' &) ; done")
	// The orphans end in their own time.
	for deadline := time.Now().Add(10 * time.Second); ; {
		r := run(t, b, "sh", "-c", "cat /proc/[0-9]*/stat | grep -c ') Z '")
		if strings.TrimSpace(r.stdout) == "0" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("zombies stay: %q", r.stdout)
		}
	}
}

func TestCloseTakesEverything(t *testing.T) {
	tiers(t, func(t *testing.T, tier sandbox.Tier) {
		p := profile(t, tier)
		p.Limits.Processes = 100
		b := start(t, p)
		for range 4 {
			if _, err := b.Spawn(t.Context(), Command{Argv: []string{b.Executable(), "attack", "hop"}}, nil, nil, nil); err != nil {
				t.Fatal(err)
			}
		}
		sleeper := bystander(t, b)
		if !lives(sleeper.HostPID()) {
			t.Fatal("control: nothing to kill")
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := sleeper.Wait(t.Context()); !errors.Is(err, ErrGone) {
			// Its end may have been told before the box ended.
			if s, _ := sleeper.Wait(t.Context()); s.Signal != int(unix.SIGKILL) {
				t.Errorf("wait: %+v, %v", s, err)
			}
		}
		if left := runningCopies(t, p.Executable); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
		if _, err := b.Spawn(t.Context(), Command{Argv: []string{"true"}}, nil, nil, nil); !errors.Is(err, ErrGone) {
			t.Errorf("spawning in a closed box: %v", err)
		}
		if err := b.Close(); err != nil {
			t.Errorf("closing twice: %v", err)
		}
	})
}

// runningCopies are the processes that run an executable of a box.
func runningCopies(t *testing.T, executable string) []int {
	t.Helper()
	var want unix.Stat_t
	if err := unix.Stat(executable, &want); err != nil {
		t.Fatal(err)
	}
	var out []int
	for _, p := range processes() {
		var got unix.Stat_t
		if unix.Stat(fmt.Sprintf("/proc/%d/exe", p.pid), &got) == nil && got.Ino == want.Ino && got.Dev == want.Dev && lives(p.pid) {
			out = append(out, p.pid)
		}
	}
	return out
}

// hold plays a supervisor that is killed: it starts a box with programs in it,
// says their numbers and waits.
func hold(args []string) int {
	var p Profile
	if err := json.Unmarshal([]byte(args[0]), &p); err != nil {
		return 9
	}
	b, err := Start(context.Background(), p.Executable, p)
	if err != nil {
		fmt.Println(err)
		return 9
	}
	pids := []int{b.PID()}
	for range 3 {
		c, err := b.Spawn(context.Background(), Command{Argv: []string{b.Executable(), "attack", "bystander"}}, nil, nil, nil)
		if err != nil {
			return 9
		}
		pids = append(pids, c.HostPID())
	}
	_ = json.NewEncoder(os.Stdout).Encode(pids)
	pause()
	return 0
}

func TestSupervisorsDeathTakesTheBoxDown(t *testing.T) {
	tiers(t, func(t *testing.T, tier sandbox.Tier) {
		p := profile(t, tier)
		arg, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		supervisor := exec.Command(p.Executable, "attack", "hold", string(arg))
		out, err := supervisor.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := supervisor.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadBytes('\n')
		var pids []int
		if err == nil {
			err = json.Unmarshal(line, &pids)
		}
		if err != nil || len(pids) != 4 || slices.Contains(pids, 0) {
			t.Fatalf("the supervisor said %q: %v", line, err)
		}
		var held []int
		for _, pid := range pids {
			fd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				t.Fatalf("control: process %d does not run: %v", pid, err)
			}
			defer unix.Close(fd)
			held = append(held, fd)
		}
		if err := supervisor.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = supervisor.Wait()
		for i, fd := range held {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000)
			if n != 1 {
				t.Errorf("process %d outlived its supervisor: %v", pids[i], err)
			}
		}
	})
}

// Sweep finds what lost its first process, by marker or by user.
func TestSweep(t *testing.T) {
	p := profile(t, sandbox.TierLandlock)
	c := exec.Command(self(t), "attack", "bystander")
	c.Env = []string{MarkerVariable + "=" + p.SandboxID}
	other := exec.Command(self(t), "attack", "bystander")
	other.Env = []string{MarkerVariable + "=" + p.SandboxID + "x"}
	ended := make(chan error, 2)
	for _, c := range []*exec.Cmd{c, other} {
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		go func() { ended <- c.Wait() }()
	}
	defer func() {
		_ = other.Process.Kill()
		<-ended
	}()
	// By marker: the user is not the sandbox's alone.
	n, err := Sweep(t.Context(), p.SandboxID, os.Getuid())
	if err != nil || n != 1 {
		t.Errorf("swept %d, %v", n, err)
	}
	<-ended
	if lives(c.Process.Pid) || !lives(other.Process.Pid) {
		t.Errorf("marked lives: %v, other lives: %v", lives(c.Process.Pid), lives(other.Process.Pid))
	}
}

func TestStartRefusesRootOutside(t *testing.T) {
	p := profile(t, sandbox.TierAuto)
	p.HostUID, p.HostGID = 0, 0
	if _, err := Start(t.Context(), p.Executable, p); err == nil {
		t.Error("a box whose programs are root outside was started")
	}
}

func TestStartEndsWithItsContext(t *testing.T) {
	need(t, sandbox.TierNamespaces)
	p := profile(t, sandbox.TierNamespaces)
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	cancel(enough)
	if b, err := Start(ctx, p.Executable, p); err == nil {
		b.Close()
		t.Error("started in an ended context")
	}
}

// Common programs work inside.
func TestPrograms(t *testing.T) {
	tiers(t, func(t *testing.T, tier sandbox.Tier) {
		b := start(t, profile(t, tier))
		for name, c := range map[string]struct{ script, want string }{
			"git":    {"git init -q repo && cd repo && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x && git log --format=%s", "x"},
			"python": {"/usr/bin/python3 -c 'import subprocess,tempfile,threading; t=threading.Thread(target=print,args=(1,)); t.start(); t.join(); tempfile.TemporaryFile().close(); print(subprocess.run([\"echo\",\"sub\"],capture_output=True,text=True).stdout)'", "sub"},
			"node":   {"node -e 'require(\"child_process\").execFile(\"echo\",[\"sub\"],(e,o)=>{if(e)throw e;console.log(o)})'", "sub"},
			"npm":    {"npm --version >/dev/null && echo done", "done"},
			"pipes":  {"yes | head -n 3 | wc -l", "3"},
			"who":    {"id >/dev/null && cd / && test \"$(whoami 2>/dev/null || id -u)\" != root && echo fine", "fine"},
		} {
			t.Run(name, func(t *testing.T) {
				tool, _, _ := strings.Cut(c.script, " ")
				if _, err := exec.LookPath(tool); err != nil {
					t.Skipf("%s is not installed here", tool)
				}
				r := run(t, b, "sh", "-c", c.script)
				if r.status.Code != 0 || !strings.Contains(r.stdout, c.want) {
					t.Errorf("%+v", r)
				}
			})
		}
	})
}

func BenchmarkStart(b *testing.B) {
	need(b, sandbox.TierNamespaces)
	p := profile(b, sandbox.TierNamespaces)
	for b.Loop() {
		box, err := Start(b.Context(), p.Executable, p)
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := box.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func BenchmarkSpawn(b *testing.B) {
	need(b, sandbox.TierNamespaces)
	box := start(b, profile(b, sandbox.TierNamespaces))
	for b.Loop() {
		p, err := box.Spawn(b.Context(), Command{Argv: []string{"/bin/true"}}, nil, nil, nil)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := p.Wait(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkProbe(b *testing.B) {
	for b.Loop() {
		if s := Probe(b.Context()); s.LandlockABI == 0 {
			b.Fatal(s)
		}
	}
}

// Probe has to be cheap: it is asked before every start.
func TestProbe(t *testing.T) {
	s := Probe(t.Context())
	t.Logf("%+v", s)
	if s.namespacesGap() != "" && s.landlockGap() != "" {
		t.Skip("nothing works here")
	}
	ctx, cancel := budget.Context(t.Context(), budget.Probe, "probe")
	defer cancel()
	if _, _, err := Choose(sandbox.TierAuto, Probe(ctx), false); err != nil {
		t.Error(err)
	}
}

// Where user namespaces are switched off the probe says so, and landlock is what
// is left.
func TestProbeWithoutNamespaces(t *testing.T) {
	need(t, sandbox.TierNamespaces)
	c := exec.Command(self(t), "attack", "probe")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}}
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	var s Support
	if err := json.Unmarshal(out, &s); err != nil {
		t.Fatalf("%q: %v", out, err)
	}
	if !strings.Contains(s.Namespaces, "user.max_user_namespaces is 0") {
		t.Errorf("the cause is not named: %+v", s)
	}
	tier, reason, err := Choose(sandbox.TierAuto, s, false)
	if s.landlockGap() == "" && (tier != sandbox.TierLandlock || reason == "" || err != nil) {
		t.Errorf("chose %q because %q, %v", tier, reason, err)
	}
}

// An unconfined box is what it says, and says what it is not.
func TestUnconfined(t *testing.T) {
	p := profile(t, sandbox.TierUnconfined)
	if _, err := Start(t.Context(), p.Executable, p); err == nil {
		t.Fatal("started without the risk accepted")
	}
	p.RiskAccepted = true
	b := start(t, p)
	c := b.Confinement()
	if c.Tier != sandbox.TierUnconfined || c.Reason == "" {
		t.Errorf("%+v", c)
	}
	for _, protection := range c.Protections {
		if strings.HasPrefix(protection.Name, "landlock") && protection.On {
			t.Errorf("%+v", protection)
		}
	}
	if r := run(t, b, "ls", "/"); r.status.Code != 0 {
		t.Errorf("%+v", r)
	}
	// Root's privileges are gone even so.
	if r := run(t, b, "id", "-u"); strings.TrimSpace(r.stdout) != strconv.Itoa(p.HostUID) {
		t.Errorf("runs as %s, want %d", r.stdout, p.HostUID)
	}
}
