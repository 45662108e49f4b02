package service_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"creel/internal/app"
	"creel/internal/bundle"
	"creel/internal/bundle/dirstore"
	"creel/internal/gateway"
	"creel/internal/gateway/embedded"
	"creel/internal/gateway/service"
	"creel/internal/health"
	"creel/internal/host"
	"creel/internal/state"
	"creel/internal/systemd"
	"creel/internal/version"
)

// The gateway of these tests is a real one: the test's own executable, which is then
// all of Creel.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "gateway" {
		home := os.Getenv("CREEL_HOME")
		if said, err := os.ReadFile(filepath.Join(home, lastLog)); err == nil {
			log := state.Roots{State: filepath.Join(home, "state")}.Gateway("creel").Log()
			if f, err := os.OpenFile(log, os.O_APPEND|os.O_WRONLY, 0); err == nil {
				_, _ = f.Write(said)
			}
			os.Exit(1)
		}
		os.Exit(app.Main(context.Background(), os.Args[1:], app.Options{}))
	}
	os.Exit(build(m))
}

// lastLog is a file in the home with all that the daemon logs before it fails.
const lastLog = "last-log"

// doubting is a runtime that cannot prove what runs, as where the client certificate
// cannot be read.
type doubting struct{ gateway.Runtime }

func (d doubting) Observe(ctx context.Context) gateway.Observation {
	o := d.Runtime.Observe(ctx)
	if !o.Absent {
		o.Verdict, o.Reason = health.Unknown, "secrets-unknown"
	}
	return o
}

// fakeSystemd is the program that is systemctl and loginctl here.
var fakeSystemd string

func build(m *testing.M) int {
	dir, err := os.MkdirTemp("", "creel-service-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	fakeSystemd = filepath.Join(dir, "fakesystemd")
	if out, err := exec.Command("go", "build", "-o", fakeSystemd, "creel/test/fakesystemd").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the service manager: %v\n%s", err, out)
		return 1
	}
	for name, value := range map[string]string{"GATEWAY_START": "6s", "PROBE": "2s"} { // what waits for a lie
		if err := os.Setenv("CREEL_BUDGET_"+name, value); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return m.Run()
}

// managerState is what the service manager remembers.
type managerState struct {
	PID    map[string]int `json:"pid"`
	Linger bool           `json:"linger"`
	Calls  []string       `json:"calls"`
}

// world is a home with a gateway's secrets and a service manager of its own.
type world struct {
	t    *testing.T
	home string
	g    state.Gateway
	m    *systemd.Manager
	s    *service.Service
	r    *embedded.Runtime
	said []string

	cfg    service.Config
	getenv func(string) string
}

// serve makes the service as it is configured now.
func (w *world) serve() {
	w.s = service.New(w.cfg)
	w.r = embedded.New(embedded.Config{Gateway: w.g, Getenv: w.getenv, Keeper: w.s})
}

func newWorld(t *testing.T) *world {
	t.Helper()
	home, err := os.MkdirTemp("", "creel") // short: it holds sockets
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, home: home}
	env := map[string]string{"CREEL_HOME": home, "HOME": home, "PATH": os.Getenv("PATH"), "XDG_RUNTIME_DIR": home}
	getenv := func(n string) string {
		if strings.HasPrefix(n, "CREEL_BUDGET_") {
			return os.Getenv(n)
		}
		return env[n]
	}
	roots, err := state.RootsFrom(getenv)
	if err != nil {
		t.Fatal(err)
	}
	w.g = roots.Gateway("creel")
	bin := filepath.Join(home, "bin")
	for _, dir := range []string{bin, w.g.Dir(), filepath.Join(home, "linger"), filepath.Join(home, "systemd", "private")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"systemctl", "loginctl"} {
		if err := os.Symlink(fakeSystemd, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	shareExecutable(t, roots)
	w.m = &systemd.Manager{UID: os.Geteuid(), Getenv: getenv, Booted: home, LingerDir: filepath.Join(home, "linger"),
		Look: func(name string) (string, error) { return filepath.Join(bin, name), nil }}
	w.cfg = service.Config{Gateway: w.g, Manager: w.m, Environment: embedded.ServiceEnvironment(getenv),
		Executable: func() (string, error) { return embedded.Self(roots) }}
	w.getenv = getenv
	w.serve()
	want := bundle.Requirements{Generation: bundle.Generation2}
	if _, err := bundle.Repair(t.Context(), bundle.Fixed{Store: dirstore.New(w.g), Want: want}, time.Now(), bundle.RepairOptions{Replace: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.lie()
		// Without its keeper, whatever state the test left that in.
		if err := embedded.New(embedded.Config{Gateway: w.g, Getenv: getenv}).Stop(context.Background(), nil); err != nil {
			t.Errorf("stop the gateway: %v", err)
		}
		all, err := host.Executables()
		if err != nil {
			t.Error(err)
		}
		for _, exe := range all {
			if strings.HasPrefix(exe, home+"/") {
				t.Errorf("a process still runs %s", exe)
			}
		}
		if err := os.RemoveAll(home); err != nil {
			t.Error(err)
		}
	})
	return w
}

// shareExecutable spares the home a copy of this large program: a link to it does.
func shareExecutable(t *testing.T, roots state.Roots) {
	t.Helper()
	id, err := version.Identify()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(roots.Versions(), id)
	self, err := os.Executable()
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Link(self, filepath.Join(dir, embedded.ExecutableName)); err != nil {
		t.Logf("it is copied: %v", err) // another file system
	}
}

// lie has the service manager lie so from now on.
func (w *world) lie(words ...string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.home, "bin", "lies"), []byte(strings.Join(words, " ")), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// told reports whether a lie was told.
func (w *world) told(word string) bool {
	b, _ := os.ReadFile(filepath.Join(w.home, "bin", "told"))
	return slices.Contains(strings.Fields(string(b)), word)
}

// manager is what the service manager remembers.
func (w *world) manager() managerState {
	w.t.Helper()
	b, err := os.ReadFile(filepath.Join(w.home, "bin", "state.json"))
	if err != nil {
		return managerState{}
	}
	var s managerState
	if err := json.Unmarshal(b, &s); err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *world) report(said string) { w.said = append(w.said, said) }

func (w *world) install() (gateway.Service, bool, error) {
	w.t.Helper()
	return w.s.Install(w.t.Context(), w.r, w.report)
}

func (w *world) observe() gateway.Observation { return w.r.Observe(w.t.Context()) }

// running is the gateway's process; the test ends without one.
func (w *world) running() int {
	w.t.Helper()
	o := w.observe()
	if o.Verdict != health.OK {
		w.t.Fatalf("the gateway is %s: %s", o.Verdict, o.Message)
	}
	return o.Identity.PID
}

func (w *world) unit() string {
	return filepath.Join(w.home, ".config", "systemd", "user", service.UnitName("creel"))
}

// enabled is the link that has the unit started at boot.
func (w *world) enabled() string {
	return filepath.Join(filepath.Dir(w.unit()), "default.target.wants", service.UnitName("creel"))
}

// decoy is a process of the test's that must survive it.
func (w *world) decoy() {
	w.t.Helper()
	cmd := exec.Command("sleep", "300")
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if p, err := host.Lookup(cmd.Process.Pid); err != nil || p.Gone() {
			w.t.Errorf("an innocent process was ended: %v", err)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if err := os.WriteFile(filepath.Join(w.home, "bin", "decoy"), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// nothingLeft fails the test when anything that Install writes is there.
func (w *world) nothingLeft() {
	w.t.Helper()
	for _, path := range []string{w.unit(), w.enabled(), w.s.Program(), w.g.File(state.ServiceFile)} {
		if _, err := os.Lstat(path); err == nil {
			w.t.Errorf("%s is left", path)
		}
	}
}
