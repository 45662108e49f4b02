//go:build linux

package process

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/credential"
	"creel/internal/dashboard"
	"creel/internal/sandbox"
	"creel/internal/sandbox/drivertest"
	"creel/internal/state"
	"creel/internal/supervisor/confine"
)

// TestMain lets the test binary play the supervisor; how it behaves is the first
// word of its sandbox's command.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "supervise" {
		os.Exit(supervise(os.Args[3]))
	}
	if len(os.Args) == 2 && os.Args[1] == "linger" {
		pause()
	}
	goleak.VerifyTestMain(m)
}

// pause waits for ever; the runtime may take an empty select for a deadlock.
func pause() {
	for {
		_ = syscall.Pause()
	}
}

func supervise(dir string) int {
	ready := os.NewFile(3, "ready")
	say := func(w word) {
		b, _ := json.Marshal(w)
		fmt.Fprintf(ready, "%s\n", b)
	}
	b, err := os.ReadFile(filepath.Join(dir, state.LaunchFile))
	if err != nil {
		say(word{Error: err.Error()})
		return 1
	}
	var launch sandbox.Launch
	if err := json.Unmarshal(b, &launch); err != nil {
		say(word{Error: err.Error()})
		return 1
	}
	mode := launch.Spec.Command[0]
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	switch mode {
	case "silent":
		fmt.Fprintln(os.Stderr, "ending without a word")
		return 3
	case "refuse":
		say(word{Advisory: "confinement-unavailable", Error: "nothing works"})
		return 1
	case "babble":
		fmt.Fprintln(ready, "hello there")
		<-terminated
		return 1
	case "hang":
		pause()
	}
	lock, err := state.TryLock(filepath.Join(dir, state.SupervisorLock), "supervise")
	if err != nil {
		say(word{Error: err.Error()})
		return 1
	}
	if mode == "litter" {
		child := exec.Command("/proc/self/exe", "linger")
		child.Env = []string{confine.MarkerVariable + "=" + launch.ID}
		child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if launch.HostUID != os.Geteuid() {
			child.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(launch.HostUID), Gid: uint32(launch.HostGID)}
		}
		if err := child.Start(); err != nil {
			say(word{Error: err.Error()})
			return 1
		}
		if err := os.WriteFile(filepath.Join(dir, "litter"), fmt.Append(nil, child.Process.Pid), 0o600); err != nil {
			return 1
		}
	}
	if mode == "environment" {
		if err := os.WriteFile(filepath.Join(dir, "environment"), []byte(strings.Join(os.Environ(), "\n")), 0o600); err != nil {
			return 1
		}
	}
	say(word{OK: true, PID: os.Getpid()})
	ready.Close()
	<-terminated
	if mode == "stubborn" {
		pause()
	}
	_ = lock.Unlock()
	return 0
}

func newDriver(t *testing.T) *Driver {
	t.Helper()
	// Users that are a sandbox's alone have to reach the executable.
	root, err := os.MkdirTemp("", "creel-process-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(root); err != nil {
			t.Error(err)
		}
	})
	roots := state.Roots{Config: filepath.Join(root, "config"), State: filepath.Join(root, "state"), Run: filepath.Join(root, "run"),
		OpenShell: filepath.Join(root, "config", "openshell")}
	return New(roots.Gateway("exam"), os.Executable, Options{})
}

func TestExam(t *testing.T) {
	drivertest.Exam(t, func(t *testing.T) sandbox.Driver { return newDriver(t) })
}

const testID = "11111111-0000-4000-8000-000000000001"

func secret(s string) credential.Secret { return credential.NewSecret(s) }

func prepared(t *testing.T, d *Driver, mode string) sandbox.Handle {
	t.Helper()
	h, err := d.Prepare(t.Context(), testID, "demo", "exam", sandbox.Spec{Agent: "command", Command: []string{mode}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Destroy(context.WithoutCancel(t.Context()), h); err != nil {
			t.Error(err)
		}
	})
	return h
}

func TestStartSaysWhyNot(t *testing.T) {
	for _, c := range []struct{ mode, advisory, text string }{
		{"silent", "sandbox-start-failed", "ended without saying why (exit status 3)"},
		{"refuse", "confinement-unavailable", "nothing works"},
		{"babble", "sandbox-start-failed", `"hello there`},
		{"hang", "sandbox-start-failed", `budget "sandbox-ready"`},
	} {
		t.Run(c.mode, func(t *testing.T) {
			t.Setenv(budget.SandboxReady.Variable(), "500ms")
			t.Setenv(budget.Lock.Variable(), "50ms")
			d := newDriver(t)
			h := prepared(t, d, c.mode)
			err := d.Start(t.Context(), h, secret("t"), secret("d"), secret("r"))
			p, ok := advisory.Of(err)
			if !ok || p.ID != c.advisory || !strings.Contains(err.Error(), c.text) {
				t.Errorf("start: %v (%v), want %s with %q", err, p, c.advisory, c.text)
			}
			if l := d.Observe(t.Context(), h); !l.Known || l.Alive {
				t.Errorf("left %+v", l)
			}
		})
	}
}

func TestStopKillsTheStubborn(t *testing.T) {
	t.Setenv(budget.SandboxStop.Variable(), "100ms")
	t.Setenv(budget.Probe.Variable(), "10ms")
	d := newDriver(t)
	h := prepared(t, d, "stubborn")
	if err := d.Start(t.Context(), h, secret("t"), secret("d"), secret("r")); err != nil {
		t.Fatal(err)
	}
	if err := d.Stop(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	if l := d.Observe(t.Context(), h); !l.Known || l.Alive {
		t.Errorf("observed %+v", l)
	}
}

// What a killed supervisor leaves behind is cleared by the next start and by stop.
func TestStragglersAreSwept(t *testing.T) {
	for name, clear := range map[string]func(*Driver, sandbox.Handle) error{
		"stop": func(d *Driver, h sandbox.Handle) error { return d.Stop(t.Context(), h) },
		"start": func(d *Driver, h sandbox.Handle) error {
			return d.Start(t.Context(), h, secret("t"), secret("d"), secret("r"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDriver(t)
			h := prepared(t, d, "litter")
			if err := d.Start(t.Context(), h, secret("t"), secret("d"), secret("r")); err != nil {
				t.Fatal(err)
			}
			before := litter(t, d)
			if syscall.Kill(before, 0) != nil {
				t.Fatal("no straggler to sweep")
			}
			if err := syscall.Kill(d.Observe(t.Context(), h).PID, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			released(t, d, h)
			if err := clear(d, h); err != nil {
				t.Fatal(err)
			}
			if alive(before) {
				t.Errorf("straggler %d lives", before)
			}
		})
	}
}

func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := bytes.Cut(b, []byte(") "))
	return len(rest) > 0 && rest[0] != 'Z'
}

func litter(t *testing.T, d *Driver) int {
	t.Helper()
	b, err := os.ReadFile(d.gateway.Sandbox(testID).File("litter"))
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(string(b), &pid); err != nil {
		t.Fatal(err)
	}
	return pid
}

// released waits until a killed supervisor's lock is free.
func released(t *testing.T, d *Driver, h sandbox.Handle) {
	t.Helper()
	if err := end(t.Context(), d.gateway.Sandbox(h.ID).File(state.SupervisorLock), 0, 5*time.Second); err != nil {
		t.Fatal(err)
	}
}

func TestSupervisorsEnvironmentIsScrubbed(t *testing.T) {
	t.Setenv("CREEL_CANARY_API_KEY", "canary-secret")
	t.Setenv("OPENAI_API_KEY", "canary-secret")
	d := newDriver(t)
	h := prepared(t, d, "environment")
	if err := d.Start(t.Context(), h, secret("t"), secret("d"), secret("r")); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(d.gateway.Sandbox(testID).File("environment"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, []byte("PATH=")) {
		t.Errorf("no PATH in %q", b)
	}
	if bytes.Contains(b, []byte("canary")) {
		t.Errorf("the environment leaks: %s", b)
	}
}

// The token that a dashboard had before is not left on disk.
func TestNewDashboardToken(t *testing.T) {
	d := newDriver(t)
	h := prepared(t, d, "true")
	if err := d.NewDashboardToken(t.Context(), h, secret("early")); err != nil {
		t.Errorf("before the first start: %v", err)
	}
	if err := d.Start(t.Context(), h, secret("the-token"), secret("canary-old"), secret("relay")); err != nil {
		t.Fatal(err)
	}
	path := d.gateway.Sandbox(testID).File(state.LaunchFile)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// As a newer build has it, which started the supervisor that lives.
	b = append([]byte(`{"of_a_newer_build":[1],`), b[1:]...)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.NewDashboardToken(t.Context(), h, secret("fresh")); err != nil {
		t.Fatal(err)
	}
	b, err = os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var l sandbox.Launch
	if err := json.Unmarshal(b, &l); err != nil {
		t.Fatal(err)
	}
	if l.DashboardToken != "fresh" || l.RelayToken != "relay" || l.ID != testID || bytes.Contains(b, []byte("canary")) || !bytes.Contains(b, []byte(`"of_a_newer_build":[1]`)) {
		t.Errorf("launch file: %s", b)
	}
	if err := os.WriteFile(path, []byte(`{"dashboard_token":"canary`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.NewDashboardToken(t.Context(), h, secret("fresh")); err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("a damaged file: %v", err)
	}
}

func TestFilesArePrivate(t *testing.T) {
	d := newDriver(t)
	h := prepared(t, d, "true")
	if err := d.Start(t.Context(), h, secret("the-token"), secret("d"), secret("r")); err != nil {
		t.Fatal(err)
	}
	paths := d.gateway.Sandbox(testID)
	for _, f := range []string{state.TokenFile, state.LaunchFile, state.HandleFile} {
		fi, err := os.Stat(paths.File(f))
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", f, fi.Mode())
		}
	}
	for _, dir := range []string{paths.Dir(), paths.Workspace(), paths.File(state.LogDir)} {
		fi, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode().Perm() != 0o700 {
			t.Errorf("%s has mode %v", dir, fi.Mode())
		}
	}
	if b, err := os.ReadFile(paths.File(state.TokenFile)); err != nil || string(b) != "the-token" {
		t.Errorf("token file %q, %v", b, err)
	}
	if b, err := os.ReadFile(paths.File(state.HandleFile)); err != nil || bytes.Contains(b, []byte("the-token")) {
		t.Errorf("handle %q, %v", b, err)
	}
	if os.Geteuid() == 0 && (h.HostUID < confine.FirstHostUID || ownerOf(mustStat(t, paths.Workspace())) != h.HostUID) {
		t.Errorf("workspace of %d has owner %d", h.HostUID, ownerOf(mustStat(t, paths.Workspace())))
	}
}

// A gateway that is started again with another directory for sockets tells so to
// the supervisors that live, and changes nothing else of what they were started
// with, not even what a newer build wrote there.
func TestRenewTellsWhereTheGatewayIs(t *testing.T) {
	d := newDriver(t)
	h := prepared(t, d, "true")
	if err := d.Start(t.Context(), h, secret("t"), secret("d"), secret("r")); err != nil {
		t.Fatal(err)
	}
	path := d.gateway.Sandbox(testID).File(state.LaunchFile)
	read := func() map[string]any {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		launch := map[string]any{}
		if err := json.Unmarshal(b, &launch); err != nil {
			t.Fatal(err)
		}
		return launch
	}
	want := read()
	want["of_a_newer_build"] = 12345678901234567.0
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, state.FileMode); err != nil {
		t.Fatal(err)
	}
	before := mustStat(t, path)
	if err := d.Renew(t.Context(), h, secret("t2")); err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(before, mustStat(t, path)) {
		t.Error("the launch file was written although the gateway is where it was")
	}
	moved := d.gateway
	moved.Roots.Run += "-elsewhere"
	if err := New(moved, os.Executable, Options{}).Renew(t.Context(), h, secret("t3")); err != nil {
		t.Fatal(err)
	}
	want["gateway_socket"] = moved.Socket()
	if diff := cmp.Diff(want, read()); diff != "" {
		t.Error(diff)
	}
	if mode := mustStat(t, path).Mode().Perm(); mode != 0o600 {
		t.Errorf("the launch file has mode %v", mode)
	}
}

func mustStat(t *testing.T, path string) os.FileInfo {
	t.Helper()
	fi, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fi
}

// A workspace can hold directories that are closed to everybody, links that lead
// out, and files of the sandbox's own user.
func TestDestroyRemovesWhatSandboxesLeave(t *testing.T) {
	d := newDriver(t)
	h, err := d.Prepare(t.Context(), testID, "demo", "exam", sandbox.Spec{Command: []string{"true"}})
	if err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(outside, []byte("keep"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := d.gateway.Sandbox(testID).Workspace()
	closed := filepath.Join(w, "a", "closed")
	if err := os.MkdirAll(filepath.Join(closed, "deep"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Dir(outside), filepath.Join(w, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(closed, "deep", "link")); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{filepath.Join(closed, "deep"), closed, filepath.Join(w, "a")} {
		if err := os.Chown(p, h.HostUID, h.HostGID); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(p, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Destroy(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(d.gateway.Sandbox(testID).Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the sandbox's directory is left: %v", err)
	}
	if b, err := os.ReadFile(outside); err != nil || string(b) != "keep" {
		t.Errorf("outside: %q, %v", b, err)
	}
}

// A handle that was damaged and moved away is made again for the same user: the
// files in the workspace are that one's. And who has no handle to go by still
// stops and removes what is there.
func TestLostHandle(t *testing.T) {
	d := newDriver(t)
	h := prepared(t, d, "true")
	paths := d.gateway.Sandbox(testID)
	if err := os.Remove(paths.File(state.HandleFile)); err != nil {
		t.Fatal(err)
	}
	again := prepared(t, d, "true")
	if again.HostUID != h.HostUID || again.HostGID != h.HostGID || ownerOf(mustStat(t, paths.Workspace())) != h.HostUID {
		t.Errorf("user %d became %d, the workspace is %d's", h.HostUID, again.HostUID, ownerOf(mustStat(t, paths.Workspace())))
	}
	if err := d.Destroy(t.Context(), sandbox.Handle{ID: testID, Name: "demo"}); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(paths.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the sandbox's directory is left: %v", err)
	}
}

func TestHandlesTolerateDamage(t *testing.T) {
	d := newDriver(t)
	good := prepared(t, d, "true")
	valid, err := os.ReadFile(d.gateway.Sandbox(testID).File(state.HandleFile))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"torn":    string(valid[:len(valid)/2]),
		"newer":   strings.Replace(string(valid), `"version": 1`, `"version": 3`, 1),
		"foreign": strings.Replace(string(valid), `"process"`, `"docker"`, 1),
		"other":   string(valid), // the id of another
		"root":    strings.NewReplacer(fmt.Sprintf(`"host_uid": %d`, good.HostUID), `"host_uid": 0`, testID, "root").Replace(string(valid)),
	} {
		dir := d.gateway.Sandbox(name).Dir()
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, state.HandleFile), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(d.gateway.Sandbox("halfmade").Dir(), 0o700); err != nil {
		t.Fatal(err)
	}
	all, err := d.Handles(t.Context())
	if diff := cmp.Diff([]sandbox.Handle{good}, all); diff != "" {
		t.Errorf("handles:\n%s", diff)
	}
	for _, name := range []string{"torn", "newer", "foreign", "other", "root"} {
		if err == nil || !strings.Contains(err.Error(), d.gateway.Sandbox(name).File(state.HandleFile)) {
			t.Errorf("%s is not named by %v", name, err)
		}
	}
	if p, ok := advisory.Of(err); !ok || p.ID != "sandbox-record-corrupt" {
		t.Errorf("no advisory in %v", err)
	}
}

// A handle is of the first version for as long as that can say what it holds: an
// earlier build refuses the second by its number, rather than to call it damaged or to
// lose half of it. Both are read.
func TestHandleVersion(t *testing.T) {
	for name, c := range map[string]struct {
		spec sandbox.Spec
		want int
	}{
		"nothing new":     {sandbox.Spec{Dashboard: sandbox.Dashboard{TargetPort: 8080, Port: 18789, PortExplicit: true}}, 1},
		"forwards":        {sandbox.Spec{Forwards: []sandbox.Forward{{Bind: dashboard.Loopback, TargetPort: 80}}}, 2},
		"stopped":         {sandbox.Spec{Dashboard: sandbox.Dashboard{Stopped: true}}, 2},
		"public URL":      {sandbox.Spec{Dashboard: sandbox.Dashboard{Access: dashboard.Access{PublicURL: "https://a.example"}}}, 2},
		"trusted proxies": {sandbox.Spec{Dashboard: sandbox.Dashboard{Access: dashboard.Access{TrustedProxies: []string{"10.0.0.0/8"}}}}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDriver(t)
			for _, step := range []struct {
				spec sandbox.Spec
				want int
			}{{c.spec, c.want}, {sandbox.Spec{}, 1}, {c.spec, c.want}} {
				h, err := d.Prepare(t.Context(), testID, "demo", "g", step.spec)
				if err != nil {
					t.Fatal(err)
				}
				all, err := d.Handles(t.Context())
				if err != nil || len(all) != 1 || all[0].Version != step.want || h.Version != step.want {
					t.Errorf("%+v, %v, want version %d", all, err, step.want)
				}
				if diff := cmp.Diff(step.spec, all[0].Spec); diff != "" {
					t.Errorf("read back:\n%s", diff)
				}
			}
		})
	}
}

func TestUserIDsAreUnique(t *testing.T) {
	taken := map[int]bool{}
	for i := range 50 {
		id := "same"
		uid := chooseUID(id, taken)
		if taken[uid] || uid < confine.FirstHostUID || uid > lastHostUID {
			t.Fatalf("choice %d is %d", i, uid)
		}
		taken[uid] = true
	}
}

// A number that a lock's file names is only signalled when it is the holder's.
func TestOthersAreNotSignalled(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, state.SupervisorLock)
	lock, err := state.TryLock(path, "test")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	bystander := exec.Command("/proc/self/exe", "linger")
	if err := bystander.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = bystander.Wait() }()
	defer func() { _ = bystander.Process.Kill() }()
	stale := state.Holder{PID: bystander.Process.Pid, Since: time.Now().Add(-time.Hour)}
	b, err := json.Marshal(stale)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if sent, err := signalHolder(path, stale, syscall.SIGKILL); sent || err != nil {
		t.Errorf("signalled a process that began after the lock was taken: %v, %v", sent, err)
	}
	stale.Since = time.Now()
	if b, err = json.Marshal(stale); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if sent, err := signalHolder(path, stale, 0); !sent || err != nil {
		t.Errorf("control: the holder was not recognised: %v, %v", sent, err)
	}
}

func FuzzHandle(f *testing.F) {
	f.Add([]byte(`{"version":1,"id":"a","name":"demo","gateway":"g","driver":"process","host_uid":600000,"host_gid":600000,"spec":{}}`))
	f.Add([]byte(`{"version":2,"id":"a","name":"demo","gateway":"g","driver":"process","host_uid":600000,"host_gid":600000,"spec":{"forwards":[{"bind":"127.0.0.1","port":1,"target_port":2}]}}`))
	f.Add([]byte(`{"version":3}`))
	f.Add([]byte(`{"version":1,"id":"../x"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeHandle(b)
		if err != nil {
			return
		}
		if checkID(h.ID) != nil || sandbox.CheckName(h.Name) != nil || h.HostUID <= 0 || h.HostGID <= 0 {
			t.Errorf("accepted %+v", h)
		}
	})
}

func FuzzWord(f *testing.F) {
	f.Add([]byte("{\"ok\":true,\"pid\":7}\n"))
	f.Add([]byte("{\"ok\":true"))
	f.Fuzz(func(t *testing.T, b []byte) {
		w := listen(bytes.NewReader(b))
		if w.OK && !bytes.Contains(b, []byte("\n")) {
			t.Errorf("half a line is a word: %q", b)
		}
		if _, err := io.WriteString(io.Discard, explain(sandbox.Handle{Name: "x"}, w).Error()); err != nil {
			t.Error(err)
		}
	})
}

func TestStartTicks(t *testing.T) {
	for _, c := range []struct {
		stat string
		want int64
		ok   bool
	}{
		{"7 (a) b) S 1 7 7 0 -1 4 1 2 3 4 5 6 7 8 20 0 1 0 4242 1 2", 4242, true},
		{"7 (a) S 1", 0, false},
		{"", 0, false},
	} {
		got, err := startTicks([]byte(c.stat))
		if got != c.want || (err == nil) != c.ok {
			t.Errorf("%q: %d, %v", c.stat, got, err)
		}
	}
}
