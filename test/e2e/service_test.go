package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"creel/test/systemdenv"
)

// lodger is somebody who uses creel on a machine that systemd runs.
type lodger struct {
	t    *testing.T
	m    *systemdenv.Machine
	uid  int
	home string
	env  []string
	// program is what run runs.
	program string
}

// programs is where the machine sees the executables under test.
const programs = "/opt/creel-e2e"

func (r *lodger) in(t *testing.T) *lodger {
	copied := *r
	copied.t = t
	return &copied
}

func (r *lodger) command(program string, args ...string) result {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 60*time.Second)
	defer cancel()
	cmd := r.m.Command(ctx, r.uid, r.env, program, args...)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	began := time.Now()
	err := cmd.Run()
	var exit *exec.ExitError
	out := result{stdout: stdout.String(), stderr: stderr.String(), took: time.Since(began), args: append([]string{program}, args...)}
	switch {
	case errors.As(err, &exit):
		out.code = exit.ExitCode()
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		r.t.Fatalf("%s %s: %v", program, strings.Join(args, " "), err)
	}
	return out
}

func (r *lodger) run(args ...string) result {
	r.t.Helper()
	return r.command(r.program, args...)
}

func (r *lodger) must(code int, args ...string) result {
	r.t.Helper()
	got := r.run(args...)
	if got.code != code {
		journal, _ := r.m.Command(context.Background(), 0, nil, "journalctl", "--no-pager", "-n", "40").CombinedOutput()
		r.t.Fatalf("creel %s: exit %d, want %d\n%s%s\n%s", strings.Join(args, " "), got.code, code, got.stdout, got.stderr, journal)
	}
	return got
}

// systemctl asks the manager that keeps this user's services, without Creel.
func (r *lodger) systemctl(args ...string) result {
	r.t.Helper()
	scope := "--user"
	if r.uid == 0 {
		scope = "--system"
	}
	copied := *r
	copied.env = append([]string{fmt.Sprintf("XDG_RUNTIME_DIR=/run/user/%d", r.uid)}, r.env...)
	return copied.command("systemctl", append([]string{scope, "--no-pager"}, args...)...)
}

// property is what the manager says of the gateway's unit.
func (r *lodger) property(name string) string {
	r.t.Helper()
	return strings.TrimSpace(r.systemctl("show", "--value", "--property="+name, serviceUnit).stdout)
}

const serviceUnit = "creel-gateway-creel.service"

type serviceStatus struct {
	Verdict string `json:"verdict"`
	Reason  string `json:"reason"`
	PID     int    `json:"pid"`
	Caveats []struct {
		Advisory string `json:"advisory"`
	} `json:"caveats"`
	Service *struct {
		Verdict string `json:"verdict"`
		Reason  string `json:"reason"`
		Path    string `json:"path"`
	} `json:"service"`
}

func (r *lodger) status() serviceStatus {
	r.t.Helper()
	return decode[serviceStatus](r.t, r.run("gateway", "status", "--json"))
}

// gateway is the gateway's process, in the machine's numbers.
func (r *lodger) gateway() int {
	r.t.Helper()
	s := r.status()
	if s.PID <= 1 {
		r.t.Fatalf("no gateway runs: %+v", s)
	}
	return s.PID
}

// agent is the sandbox's main process.
func (r *lodger) agent() int {
	r.t.Helper()
	l := decode[listDocument](r.t, r.must(0, "list", "--json"))
	if len(l.Sandboxes) != 1 || l.Sandboxes[0].PID <= 1 {
		r.t.Fatalf("no agent runs: %+v", l)
	}
	return l.Sandboxes[0].PID
}

// kept fails the test unless the gateway is the unit's main process, as both say.
func (r *lodger) kept() int {
	r.t.Helper()
	s := r.status()
	if s.Verdict != "ok" || s.Service == nil || s.Service.Verdict != "ok" {
		r.t.Fatalf("the gateway is not kept: %+v %+v", s, s.Service)
	}
	if main := r.property("MainPID"); main != strconv.Itoa(s.PID) {
		r.t.Fatalf("the gateway is %d, the unit's main process %s", s.PID, main)
	}
	return s.PID
}

// file is a file of the user's, as seen from outside.
func (r *lodger) file(names ...string) string {
	return filepath.Join(append([]string{r.m.Root(), r.home}, names...)...)
}

// kill sends a signal to a process of the machine.
func (r *lodger) kill(pid int, signal string) {
	r.t.Helper()
	r.m.Must("kill", "-"+signal, strconv.Itoa(pid))
}

// alive reports whether a process of the machine runs.
func (r *lodger) alive(pid int) bool {
	return r.m.Command(r.t.Context(), 0, nil, "sh", "-c", fmt.Sprintf("grep -q '^State:[[:space:]]*[^ZX]' /proc/%d/status", pid)).Run() == nil
}

var onboardBox = []string{"onboard", "--yes", "--non-interactive", "--provider", "none", "--agent", "command", "--name", "box", "--", "sleep", "100000"}

// testService is a gateway that a real systemd keeps, from the first boot on.
func testService(t *testing.T) {
	m := systemdenv.Boot(t, map[string]string{programs: filepath.Dir(creel)})
	m.AddUser("ada", 4242)
	m.AddUser("ben", 4243)
	user := func(uid int, home string) *lodger {
		return &lodger{t: t, m: m, uid: uid, home: home, env: []string{"HOME=" + home}, program: programs + "/creel"}
	}
	ada := user(4242, "/home/ada")
	t.Run("hand-over", func(t *testing.T) { serviceHandOver(ada.in(t)) })
	t.Run("lifecycle", func(t *testing.T) { serviceLifecycle(ada.in(t)) })
	t.Run("deviations", func(t *testing.T) { serviceDeviations(ada.in(t)) })
	root := user(0, "/root")
	root.env = append(root.env, "CREEL_HOME=/var/lib/odd %h $HOME; #", "XDG_RUNTIME_DIR=/run/user/0")
	t.Run("root", func(t *testing.T) { serviceOfRoot(root.in(t)) })
	t.Run("upgrade", func(t *testing.T) { serviceUpgrade(root.in(t)) })
	t.Run("power-cut", func(t *testing.T) { servicePowerCut(ada.in(t), root.in(t)) })
	t.Run("no-lingering", func(t *testing.T) { serviceNoLingering(user(4243, "/home/ben").in(t)) })
	t.Run("start-fails", func(t *testing.T) { serviceStartFails(ada.in(t)) })
	t.Run("uninstall", func(t *testing.T) { serviceUninstall(ada.in(t), root.in(t)) })
}

// A gateway that runs, started from a shell without a login session, is handed over,
// and its sandbox does not notice.
func serviceHandOver(r *lodger) {
	// Deleted after it has installed the service, as a built one of "go run" is.
	gone := "/home/ada/creel-of-a-moment"
	r.m.Must("install", "-m", "755", programs+"/creel", gone)
	r.must(0, onboardBox...)
	agent, before := r.agent(), r.gateway()
	r.program = gone
	installed := r.must(0, "gateway", "install-service")
	for _, want := range []string{"unit file", "loaded, enabled", "active (running)", "is the gateway that answers", "linger"} {
		if !strings.Contains(installed.stdout, want) {
			r.t.Errorf("it does not show %q:\n%s", want, installed.stdout)
		}
	}
	r.t.Logf("a running gateway was handed over and proven in %s", installed.took)
	r.m.Must("rm", gone)
	r.program = programs + "/creel"
	pid := r.kept()
	if pid == before || r.alive(before) {
		r.t.Errorf("the gateway is %d, was %d", pid, before)
	}
	if got := r.property("UnitFileState"); got != "enabled" {
		r.t.Errorf("the unit is %s", got)
	}
	if _, err := os.Stat(filepath.Join(r.m.Root(), "var/lib/systemd/linger/ada")); err != nil {
		r.t.Errorf("lingering: %v", err)
	}
	if now := r.agent(); now != agent {
		r.t.Errorf("the sandbox was touched: process %d, was %d", now, agent)
	}
	r.must(0, "status")
	again := r.must(0, "gateway", "install-service")
	if !strings.Contains(again.stderr, "nothing was changed") || r.kept() != pid {
		r.t.Errorf("a second time:\n%s", again.stderr)
	}
	if doc := decode[map[string]any](r.t, r.must(0, "gateway", "install-service", "--json")); doc["verdict"] != "ok" || doc["unit"] != serviceUnit {
		r.t.Errorf("document %v", doc)
	}
}

// Whatever happens to the gateway, the manager and the commands agree on who runs it,
// and the sandbox goes on, also one that the unit's own gateway started.
func serviceLifecycle(r *lodger) {
	r.must(0, "stop", "box")
	r.must(0, "start", "box")
	if got := r.must(0, "status"); !strings.Contains(got.stdout, "tier namespaces") {
		r.t.Errorf("a sandbox that the unit's gateway started:\n%s", got.stdout)
	}
	fastest(r.t, "asking a healthy gateway and the systemd that keeps it", 50*time.Millisecond, func() time.Duration {
		return time.Duration(decode[manyGateways](r.t, r.must(0, "gateway", "status", "--json")).Elapsed) * time.Microsecond
	})
	agent := r.agent()
	same := func(what string) {
		r.t.Helper()
		if now := r.agent(); now != agent {
			r.t.Errorf("%s: the sandbox's process is %d, was %d", what, now, agent)
		}
	}
	group := r.m.Must("cat", fmt.Sprintf("/proc/%d/cgroup", agent))
	if !strings.Contains(group, serviceUnit) {
		r.t.Fatalf("the sandbox is not among the unit's processes, so it cannot be shown that it outlives it: %s", group)
	}
	pid := r.kept()
	r.kill(pid, "KILL")
	eventually(r.t, "the gateway is started again", func() bool { s := r.status(); return s.Verdict == "ok" && s.PID != pid })
	pid = r.kept()
	same("killed")

	if got := r.systemctl("restart", serviceUnit); got.code != 0 {
		r.t.Fatalf("systemctl restart: %s", got.stderr)
	}
	if now := r.kept(); now == pid {
		r.t.Error("systemctl restart did not")
	}
	same("systemctl restart")

	// Stopped is stopped: the manager does not bring it back.
	for range 2 {
		r.must(0, "gateway", "stop")
	}
	if r.property("ActiveState") != "inactive" || !r.alive(agent) {
		r.t.Errorf("after the stop the unit is %s, the sandbox lives: %v", r.property("ActiveState"), r.alive(agent))
	}
	if s := r.status(); s.Reason != "gateway-not-running" || s.Service == nil || s.Service.Reason != "service-not-active" {
		r.t.Errorf("%+v %+v", s, s.Service)
	}
	restarts := r.property("NRestarts")
	r.must(0, "gateway", "start")
	pid = r.kept()
	same("stop and start")
	r.must(0, "gateway", "start") // changes nothing
	if now := r.kept(); now != pid {
		r.t.Errorf("a second start replaced %d by %d", pid, now)
	}
	r.must(0, "gateway", "restart")
	if now := r.kept(); now == pid {
		r.t.Error("restart did not")
	}
	same("restart")
	if got := r.property("NRestarts"); got != restarts {
		r.t.Errorf("the manager started it %s times by itself, was %s", got, restarts)
	}

	// One that hangs is called hung, and a restart helps. The unit's watchdog would
	// too, in its own time; with less of that it is seen to.
	r.kill(r.kept(), "STOP")
	if s := r.status(); s.Reason != "gateway-hung" {
		r.t.Errorf("stopped by a signal: %+v", s)
	}
	r.must(0, "gateway", "restart")
	r.kept()
	same("hung and restarted")
	r.dropIn("WatchdogSec=1s")
	r.must(0, "gateway", "restart")
	pid = r.kept()
	r.kill(pid, "STOP")
	eventually(r.t, "the watchdog ends a gateway that hangs", func() bool { s := r.status(); return s.Verdict == "ok" && s.PID != pid })
	same("hung and ended by the watchdog")
	r.dropIn("")
	r.must(0, "gateway", "restart")
	r.kept()

	// A process of a sandbox that the kernel kills for want of memory is no reason to
	// end the unit.
	if got := r.property("OOMPolicy") + " " + r.property("KillMode"); got != "continue process" {
		r.t.Errorf("policies %q", got)
	}
}

// dropIn changes the unit as its user may; "" takes that back.
func (r *lodger) dropIn(settings string) {
	r.t.Helper()
	path := r.file(".config/systemd/user", serviceUnit+".d", "test.conf")
	err := os.RemoveAll(filepath.Dir(path))
	if err == nil && settings != "" {
		if err = os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
			err = os.WriteFile(path, []byte("[Service]\n"+settings+"\n"), 0o644)
		}
	}
	if err != nil {
		r.t.Fatal(err)
	}
	r.systemctl("daemon-reload")
}

// What is not as it was written shows in the status and is mended, or refused, by
// install-service.
func serviceDeviations(r *lodger) {
	caveat := func(want string) {
		r.t.Helper()
		s := r.status()
		if s.Verdict != "degraded" || s.Service == nil || s.Service.Reason != want || len(s.Caveats) != 1 || s.Caveats[0].Advisory != want {
			r.t.Errorf("%+v %+v, want %s", s, s.Service, want)
		}
	}
	agent := r.agent()
	r.systemctl("disable", serviceUnit)
	caveat("service-not-enabled")
	r.must(0, "gateway", "install-service")
	r.kept()

	unit := r.file(".config/systemd/user", serviceUnit)
	text, err := os.ReadFile(unit)
	if err != nil {
		r.t.Fatal(err)
	}
	edited := strings.Replace(string(text), "RestartSec=1s", "RestartSec=2s", 1)
	if err := os.WriteFile(unit, []byte(edited), 0o644); err != nil {
		r.t.Fatal(err)
	}
	caveat("service-unit-edited")
	for _, verb := range []string{"install-service", "uninstall-service"} {
		if got := r.run("gateway", verb); got.code != 1 || !strings.Contains(got.stderr, "service-unit-edited") {
			r.t.Errorf("%s: exit %d\n%s", verb, got.code, got.stderr)
		}
	}
	if now, _ := os.ReadFile(unit); string(now) != edited {
		r.t.Error("an edited unit was touched")
	}
	if err := os.WriteFile(unit, text, 0o644); err != nil {
		r.t.Fatal(err)
	}
	r.systemctl("daemon-reload")
	r.kept()

	// A gateway beside its unit: said, and handed over by a restart.
	r.systemctl("stop", serviceUnit)
	serve := r.m.Command(context.Background(), r.uid, r.env, "setsid", r.program, "gateway", "serve")
	if err := serve.Start(); err != nil {
		r.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- serve.Wait() }()
	eventually(r.t, "a gateway beside its unit", func() bool { return r.status().Verdict == "degraded" })
	caveat("service-other-process")
	if got := r.must(0, "gateway", "start"); !strings.Contains(got.stderr, "outside of its service") {
		r.t.Errorf("start does not say so:\n%s", got.stderr)
	}
	r.must(0, "gateway", "restart")
	r.kept()
	<-ended
	if now := r.agent(); now != agent {
		r.t.Errorf("the sandbox was touched: process %d, was %d", now, agent)
	}
}

// Root's service is the system's, also in a directory whose name means something to
// systemd, and also for a gateway that was started in a login session.
func serviceOfRoot(r *lodger) {
	r.must(0, onboardBox...)
	agent := r.agent()
	r.must(0, "gateway", "install-service")
	r.kept()
	if got := r.property("FragmentPath"); got != "/etc/systemd/system/"+serviceUnit {
		r.t.Errorf("the unit is %s", got)
	}
	if now := r.agent(); now != agent {
		r.t.Errorf("the sandbox was touched: process %d, was %d", now, agent)
	}
	// A sandbox that the hardened gateway starts is confined as well as any.
	r.must(0, "stop", "box")
	r.must(0, "start", "box")
	if got := r.must(0, "status"); !strings.Contains(got.stdout, "tier namespaces") {
		r.t.Errorf("%s", got.stdout)
	}
	if got := r.must(0, "exec", "box", "--", "sh", "-c", "echo x >/dev/null && head -c1 /dev/urandom | wc -c && id -u"); strings.Fields(got.stdout)[0] != "1" {
		r.t.Errorf("inside: %q %s", got.stdout, got.stderr)
	}
}

// A gateway that a service keeps is replaced through it: a later version that does not
// come up leaves the old one to it, one that does takes its place, and the sandbox goes
// on.
func serviceUpgrade(r *lodger) {
	home := ""
	for _, e := range r.env {
		if dir, is := strings.CutPrefix(e, "CREEL_HOME="); is {
			home = filepath.Join(r.m.Root(), dir)
		}
	}
	version := func() string {
		return decode[struct {
			Version string `json:"version"`
		}](r.t, r.run("gateway", "status", "--json")).Version
	}
	agent, pid, before := r.agent(), r.kept(), version()
	unit := r.property("NRestarts")
	earlier := r.program
	r.program = programs + "/killer"
	if err := os.WriteFile(filepath.Join(home, "later"), []byte("exits"), 0o600); err != nil {
		r.t.Fatal(err)
	}
	got := r.run("gateway", "upgrade")
	for _, says := range []string{"gateway-upgrade-failed", "the old one is back"} {
		if got.code != 1 || !strings.Contains(got.stderr, says) {
			r.t.Errorf("a later version that gives up: exit %d, does not say %q\n%s", got.code, says, got.stderr)
		}
	}
	if err := os.Remove(filepath.Join(home, "later")); err != nil {
		r.t.Fatal(err)
	}
	r.program = earlier
	if now := r.kept(); now == pid || version() != before || r.agent() != agent {
		r.t.Errorf("after an upgrade that failed: process %d (was %d), version %s, agent %d (was %d)", now, pid, version(), r.agent(), agent)
	}
	r.program = programs + "/killer"
	r.must(0, "gateway", "upgrade")
	if r.kept(); version() != laterVersion || r.agent() != agent {
		r.t.Errorf("after an upgrade: version %s, agent %d (was %d)", version(), r.agent(), agent)
	}
	// The service starts what it was upgraded to, without a command of ours.
	if got := r.systemctl("restart", serviceUnit); got.code != 0 {
		r.t.Fatalf("systemctl restart: %s", got.stderr)
	}
	if r.kept(); version() != laterVersion {
		r.t.Errorf("the service starts version %s", version())
	}
	r.program = earlier
	r.must(0, "gateway", "upgrade")
	if r.kept(); version() != before || r.agent() != agent {
		r.t.Errorf("back: version %s, agent %d (was %d)", version(), r.agent(), agent)
	}
	if now := r.property("NRestarts"); now != unit {
		r.t.Errorf("systemd started it %s times by itself, was %s", now, unit)
	}
}

// After a power cut both gateways and their sandboxes are there, before anybody logs
// in or runs a command.
func servicePowerCut(ada, root *lodger) {
	both := []*lodger{ada, root}
	var before []int
	for _, r := range both {
		r.must(0, "exec", "box", "--", "sh", "-c", "echo data of "+strconv.Itoa(r.uid)+" >/sandbox/file")
		before = append(before, r.kept())
	}
	if before[0] == before[1] {
		ada.t.Fatalf("both gateways are process %d", before[0])
	}
	ada.m.PowerCut()
	eventually(ada.t, "both units are active without a command", func() bool {
		return ada.property("ActiveState") == "active" && root.property("ActiveState") == "active"
	})
	for _, r := range both {
		r.kept()
		// The sandboxes are the reconciler's: no command of ours started them.
		eventually(r.t, "the sandbox is back", func() bool { return r.run("status").code == 0 })
		if got := r.must(0, "exec", "box", "--", "cat", "/sandbox/file"); got.stdout != fmt.Sprintf("data of %d\n", r.uid) {
			r.t.Errorf("the workspace after the power cut: %q", got.stdout)
		}
	}
}

// Where the user may not linger it is said who can change that, and nothing is
// written or touched.
func serviceNoLingering(r *lodger) {
	r.m.Must("systemctl", "mask", "--runtime", "--now", "polkit.service")
	defer r.m.Must("systemctl", "unmask", "--runtime", "polkit.service")
	r.must(0, onboardBox...)
	pid, agent := r.gateway(), r.agent()
	got := r.run("gateway", "install-service")
	if got.code != 1 || !strings.Contains(got.stderr, "service-linger-off") || !strings.Contains(got.stderr, "sudo loginctl enable-linger ben") {
		r.t.Errorf("exit %d\n%s", got.code, got.stderr)
	}
	if regexp.MustCompile(`✓|is kept`).MatchString(got.stdout + got.stderr) {
		r.t.Errorf("it says that it worked:\n%s%s", got.stdout, got.stderr)
	}
	for _, path := range []string{".config/systemd", ".local/state/creel/gateways/creel/service.json"} {
		if _, err := os.Lstat(r.file(path)); err == nil {
			r.t.Errorf("%s was written", path)
		}
	}
	if r.gateway() != pid || r.agent() != agent {
		r.t.Error("the gateway or its sandbox was touched")
	}
	// The command that was named helps.
	r.m.Must("loginctl", "enable-linger", "ben")
	r.must(0, "gateway", "install-service")
	r.kept()
	if r.agent() != agent {
		r.t.Error("the sandbox was touched")
	}
	r.must(0, "uninstall", "--yes")
}

// A unit that cannot start: the failure is told with what the manager knows, nothing
// is tried behind anybody's back, and an installation is taken back.
func serviceStartFails(r *lodger) {
	agent := r.agent()
	for _, c := range []struct{ setting, advisory, says string }{
		{"ExecStart=\nExecStart=/bin/false", "gateway-start-failed", "exited with code 1 before becoming ready"},
		{"ExecStart=\nExecStart=/nowhere/creel", "service-exec-refused", "exited with code 203"},
	} {
		r.dropIn(c.setting)
		r.must(0, "gateway", "stop")
		got := r.run("gateway", "start")
		if got.code != 1 || !strings.Contains(got.stderr, c.advisory) || !strings.Contains(got.stderr, c.says) {
			r.t.Errorf("%q: exit %d\n%s", c.setting, got.code, got.stderr)
		}
		if state := r.property("ActiveState"); state != "inactive" && state != "failed" {
			r.t.Errorf("the unit is %s after a start that failed", state)
		}
	}
	// Without the service it runs; the installation that would break it is taken back.
	r.must(0, "gateway", "uninstall-service")
	r.must(0, "gateway", "start")
	if got := r.run("gateway", "install-service"); got.code != 1 || !strings.Contains(got.stderr, "service-exec-refused") {
		r.t.Errorf("install: exit %d\n%s", got.code, got.stderr)
	}
	if s := r.status(); s.Verdict != "ok" || s.Service != nil {
		r.t.Errorf("after an installation that failed: %+v", s)
	}
	if _, err := os.Lstat(r.file(".config/systemd/user", serviceUnit)); err == nil {
		r.t.Error("the unit is left")
	}
	r.dropIn("")
	r.must(0, "gateway", "install-service")
	r.kept()
	if now := r.agent(); now != agent {
		r.t.Errorf("the sandbox was touched: process %d, was %d", now, agent)
	}
}

// The service is taken away, and nothing of another's; and with the gateway its
// service goes too.
func serviceUninstall(ada, root *lodger) {
	decoy := ada.file(".config/systemd/user/creel-gateway-other.service")
	if err := os.WriteFile(decoy, []byte("[Service]\nExecStart=/bin/true\n"), 0o644); err != nil {
		ada.t.Fatal(err)
	}
	agent := ada.agent()
	ada.must(0, "gateway", "uninstall-service")
	if s := ada.status(); s.Verdict != "ok" || s.Service != nil || ada.agent() != agent {
		ada.t.Errorf("the gateway without its service: %+v", s)
	}
	if got := ada.property("LoadState"); got != "not-found" {
		ada.t.Errorf("the unit is %s", got)
	}
	if got := ada.must(0, "gateway", "uninstall-service"); !strings.Contains(got.stderr, "nothing was changed") {
		ada.t.Errorf("a second time:\n%s", got.stderr)
	}
	ada.must(0, "gateway", "install-service")
	for _, r := range []*lodger{ada, root} {
		path := r.status().Service.Path
		if plan := r.must(0, "uninstall", "--plan"); !strings.Contains(plan.stdout, path) {
			r.t.Errorf("the plan does not name %s:\n%s", path, plan.stdout)
		}
		r.must(0, "uninstall", "--yes")
		if got := r.property("LoadState"); got != "not-found" {
			r.t.Errorf("the unit is %s", got)
		}
		if links, _ := filepath.Glob(r.m.Root() + filepath.Dir(path) + "/*.wants/" + serviceUnit); len(links) > 0 {
			r.t.Errorf("links are left: %q", links)
		}
	}
	if _, err := os.Lstat(decoy); err != nil {
		ada.t.Errorf("another one's unit: %v", err)
	}
	left := ada.m.Must("ps", "-eo", "pid,args")
	if regexp.MustCompile(`creel (gateway|supervise|confine)|sleep 100000`).MatchString(left) {
		ada.t.Errorf("processes are left:\n%s", left)
	}
}
