package e2e

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// testUpgrade: a gateway that runs is replaced by another version of it. A sandbox
// survives, a version that does not come up leaves the old one with everything that
// it had, and so does a SIGKILL in the middle.
func testUpgrade(t *testing.T) {
	t.Run("openshell", func(t *testing.T) {
		t.Parallel()
		t.Run("replaced", testUpgradeOpenShell)
		t.Run("comes-back", testUpgradeOpenShellBack)
		t.Run("downgrade", testDowngradeOpenShell)
		t.Run("configuration", testConfigurationOpenShell)
		t.Run("killed-anywhere", testUpgradeOpenShellKilled)
	})
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		t.Run("replaced", testUpgradeEmbedded)
		t.Run("comes-back", testUpgradeEmbeddedBack)
		t.Run("downgrade", testDowngradeEmbedded)
		t.Run("killed-anywhere", testUpgradeEmbeddedKilled)
	})
}

// survivor is a sandbox of a gateway program that runs on when the gateway ends.
type survivor struct {
	t    *testing.T
	file string
	pid  int
}

// older is a home whose gateway, an older version with one sandbox, runs.
func older(t *testing.T) (*gatewayHome, *survivor) {
	t.Helper()
	h := newGatewayHome(t, "")
	s := &survivor{t: t, file: filepath.Join(h.dir, "heart")}
	h.install("version=0.0.88", "format=1", "heart="+s.file)
	h.must(3, "onboard", "--yes", "--non-interactive", "--provider", "none", "--agent", "command", "--name", "box", "--", "sleep", "1000")
	s.pid = s.last()
	t.Cleanup(s.end)
	return h, s
}

// end ends the sandbox's process, if it is still that one: a gateway that is slow to
// answer is not asked to.
func (s *survivor) end() {
	if command, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", s.pid)); strings.Contains(string(command), s.file) {
		_ = syscall.Kill(-s.pid, syscall.SIGKILL)
	}
}

// install puts a version of the gateway program where it is looked for, as a package
// manager does: the file that runs stays, without a name. What it does is part of the
// program and goes with each copy of it.
func (h *gatewayHome) install(lines ...string) {
	h.t.Helper()
	copyFile(h.t, h.exe+".new", fakeGateway)
	f, err := os.OpenFile(h.exe+".new", os.O_WRONLY|os.O_APPEND, 0)
	if err == nil {
		_, err = f.WriteString("\n#mode\n" + strings.Join(lines, "\n") + "\n")
	}
	if err == nil {
		err = f.Close()
	}
	if err := errors.Join(err, os.RemoveAll(h.exe+".mode"), os.Rename(h.exe+".new", h.exe)); err != nil {
		h.t.Fatal(err)
	}
}

// last waits for another beat of the sandbox's heart and returns whose it is.
func (s *survivor) last() int {
	s.t.Helper()
	size := func() int64 {
		fi, err := os.Stat(s.file)
		if err != nil {
			return 0
		}
		return fi.Size()
	}
	before := size()
	eventually(s.t, "the sandbox's heart beats", func() bool { return size() > before })
	content, err := os.ReadFile(s.file)
	if err != nil {
		s.t.Fatal(err)
	}
	lines := strings.Fields(string(content))
	pid, err := strconv.Atoi(lines[len(lines)-1])
	if err != nil {
		s.t.Fatal(err)
	}
	return pid
}

// alive fails unless the sandbox is the same process and its heart beats.
func (s *survivor) alive() {
	s.t.Helper()
	if pid := s.last(); pid != s.pid || syscall.Kill(pid, 0) != nil {
		s.t.Errorf("the sandbox's process is %d, it was %d", pid, s.pid)
	}
}

// format is the format number of a database and the names in one of its columns.
func format(t testing.TB, path, query string) (int, []string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro&_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var n int
	if err := db.QueryRow("PRAGMA user_version").Scan(&n); err != nil {
		t.Fatal(err)
	}
	rows, err := db.Query(query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	names := []string{}
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	return n, names
}

// runs fails unless a gateway of that version is healthy, with the sandbox in a
// database of that format, and no upgrade is under way.
func (h *gatewayHome) runs(version string, n int) gatewayStatus {
	h.t.Helper()
	s, r := h.status()
	if s.Version != version || s.PID == 0 || s.Verdict != "ok" && s.Verdict != "degraded" {
		h.t.Errorf("exit %d: %+v; want a healthy one of version %s", r.code, s, version)
	}
	for _, c := range s.Caveats {
		h.t.Errorf("caveat %s", c.Advisory)
	}
	if got, names := format(h.t, h.file("openshell.db"), "SELECT name FROM sandboxes"); got != n || !slices.Equal(names, []string{"box"}) {
		h.t.Errorf("database of format %d with %q, want %d", got, names, n)
	}
	if _, err := os.Stat(h.file("upgrade.json")); err == nil {
		h.t.Error("an upgrade is still under way")
	}
	return s
}

func testUpgradeOpenShell(t *testing.T) {
	h, box := older(t)
	before := h.runs("0.0.88", 1)
	h.install("version=0.0.92", "format=2")
	s, r := h.status()
	if r.code != 3 || s.Verdict != "degraded" || len(s.Drift) != 1 || !strings.Contains(s.Drift[0], "replaced") || s.PID != before.PID {
		t.Errorf("exit %d: %+v", r.code, s)
	}
	files := h.files()
	plan := h.must(0, "gateway", "upgrade", "--plan")
	for _, says := range []string{"replaced or removed", "from", "version 0.0.88", "to", "version 0.0.92", "disturbs  sandbox/box", "stops the containers"} {
		if !strings.Contains(plan.stdout, says) {
			t.Errorf("the plan lacks %q:\n%s", says, plan.stdout)
		}
	}
	if r := h.must(2, "gateway", "upgrade"); !strings.Contains(r.stderr, "confirmation-needed") {
		t.Errorf("a sandbox is disturbed, and nobody was asked:\n%s", r.stderr)
	}
	for path, content := range h.files() {
		if strings.HasPrefix(path, h.file("")) && files[path] != content {
			t.Errorf("a plan changed %s", path)
		}
	}
	h.must(0, "gateway", "upgrade", "--yes")
	after := h.runs("0.0.92", 2)
	if after.PID == before.PID || after.Endpoint != before.Endpoint || len(after.Drift) != 0 || !strings.Contains(h.reached(), "migrated to format 2") {
		t.Errorf("%+v, was %+v", after, before)
	}
	box.alive()
	if r := h.run("list"); !strings.Contains(r.stdout, "box") {
		t.Errorf("list:\n%s%s", r.stdout, r.stderr)
	}
	if left, _ := filepath.Glob(h.file("upgrade*")); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	if r := h.must(0, "gateway", "upgrade"); !strings.Contains(r.stdout, "nothing to upgrade") {
		t.Errorf("%s", r.stdout)
	}
	if now := h.runs("0.0.92", 2); now.PID != after.PID {
		t.Error("it was replaced by itself")
	}

	// Stopped, replaced, started: the database is kept all the same, but the program
	// that could go back to it is gone.
	h.must(0, "gateway", "stop")
	h.install("version=0.0.95", "format=3", "mode=fails-after-writing")
	if r := h.must(1, "gateway", "start"); !strings.Contains(r.stderr, "gateway-upgrade-stranded") || !strings.Contains(r.stderr, "the migration cannot go on") {
		t.Errorf("%s", r.stderr)
	}
	if n, names := format(t, h.file("openshell.db"), "SELECT name FROM sandboxes"); n != 2 || !slices.Equal(names, []string{"box"}) {
		t.Errorf("database of format %d with %q", n, names)
	}
	if s, _ := h.status(); !strings.Contains(s.Message, "was interrupted") {
		t.Errorf("%+v", s)
	}
	h.install("version=0.0.95", "format=3")
	h.must(0, "gateway", "start")
	h.runs("0.0.95", 3)
	box.alive()
}

func testUpgradeOpenShellBack(t *testing.T) {
	h, box := older(t)
	for _, c := range []struct{ mode, says string }{
		{"fails-after-writing", "the migration cannot go on"}, {"unhealthy", "SERVICE_STATUS_UNHEALTHY"}, {"http-404", "does not speak TLS"},
	} {
		h.install("version=0.0.92", "format=2", "mode="+c.mode)
		before, _ := h.status()
		r := h.must(1, "gateway", "upgrade", "--yes")
		for _, says := range []string{"gateway-upgrade-failed", "was not upgraded from 0.0.88 to 0.0.92; the old one is back", c.says, "creel gateway logs"} {
			if !strings.Contains(r.stderr, says) {
				t.Errorf("%s: it does not say %q:\n%s", c.mode, says, r.stderr)
			}
		}
		if !strings.Contains(h.reached(), "migrated to format 2") {
			t.Errorf("%s: the new one wrote nothing, then this shows nothing", c.mode)
		}
		after := h.runs("0.0.88", 1)
		if after.PID == before.PID || after.Endpoint != before.Endpoint || after.Verdict != "degraded" || len(after.Drift) == 0 {
			t.Errorf("%s: %+v, was %+v", c.mode, after, before)
		}
		box.alive()
		h.nextExists(r)
	}
	// What could not start at all is found out before anything is stopped.
	h.install("version=0.0.92", "format=2", "tells=glibc")
	before := h.runs("0.0.88", 1)
	if r := h.must(1, "gateway", "upgrade", "--yes"); !strings.Contains(r.stderr, "gateway-glibc") {
		t.Errorf("%s", r.stderr)
	}
	if after := h.runs("0.0.88", 1); after.PID != before.PID {
		t.Error("it was stopped for a program that cannot run")
	}
	// And one that does not tell its version is taken.
	h.install("version=0.0.92", "format=2", "tells=noise")
	doc := decode[upgradeDocument](t, h.must(0, "gateway", "upgrade", "--yes", "--json"))
	if !doc.Changed || doc.From.Version != "0.0.88" || doc.To.Version != "" || !slices.Equal(doc.Disturbs, []string{"sandbox/box"}) {
		t.Errorf("%+v", doc)
	}
	h.runs("0.0.92", 2)
	box.alive()
}

type upgradeDocument struct {
	Changed  bool     `json:"changed"`
	Planned  bool     `json:"planned"`
	Differs  []string `json:"differs"`
	Disturbs []string `json:"disturbs"`
	From     struct {
		Version string `json:"version"`
	} `json:"from"`
	To struct {
		Version string `json:"version"`
	} `json:"to"`
	Problem *struct {
		Advisory string `json:"advisory"`
	} `json:"problem"`
}

// An older gateway is not given the database of a newer one, running or stopped,
// before anything is written.
func testDowngradeOpenShell(t *testing.T) {
	h, box := older(t)
	h.install("version=0.0.92", "format=2")
	h.must(0, "gateway", "upgrade", "--yes")
	running := h.runs("0.0.92", 2)
	h.install("version=0.0.88", "format=1")
	refused := []says{{[]string{"gateway", "start"}, 1}, {[]string{"gateway", "upgrade", "--yes"}, 1}, {[]string{"gateway", "upgrade", "--plan"}, 1}, {[]string{"gateway", "restart"}, 1}}
	h.refuse(h.file("openshell.db"), "gateway-downgrade", refused...)
	if now := h.runs("0.0.92", 2); now.PID != running.PID {
		t.Error("the newer one was stopped")
	}
	// Allowed, it may try; this one cannot read the database, and the newer one is back.
	if r := h.must(1, "gateway", "upgrade", "--yes", "--allow-downgrade"); !strings.Contains(r.stderr, "gateway-upgrade-failed") || !strings.Contains(r.stderr, "database-newer") {
		t.Errorf("%s", r.stderr)
	}
	h.runs("0.0.92", 2)
	box.alive()
	h.must(0, "gateway", "stop")
	h.refuse(h.file("openshell.db"), "gateway-downgrade", refused[:3]...)
	// One that can read it is let in.
	h.install("version=0.0.88", "format=2")
	h.must(0, "gateway", "upgrade", "--yes", "--allow-downgrade")
	h.runs("0.0.88", 2)
	// Without a database there is nothing to lose.
	h.must(0, "gateway", "stop")
	for _, name := range []string{"openshell.db", "openshell.db-wal", "openshell.db-shm"} {
		if err := os.Remove(h.file(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	h.install("version=0.0.80", "format=1")
	h.must(0, "gateway", "start")
	if s, _ := h.status(); s.Version != "0.0.80" {
		t.Errorf("%+v", s)
	}
}

// Each version gets the configuration that it reads, and none gets another's.
func testConfigurationOpenShell(t *testing.T) {
	for _, tls := range []string{"mtls", "plaintext"} {
		h := newGatewayHome(t, "gateway: {tls: "+tls+"}\n")
		for i, version := range []string{"0.0.40", "0.0.44", "0.0.47", "0.0.50", "0.0.116", "0.1.0"} {
			h.install("version="+version, "format="+strconv.Itoa(i+1))
			h.must(0, "gateway", "start")
			s, r := h.status()
			if s.Version != version || len(s.Drift) > 0 {
				t.Errorf("%s, %s: exit %d: %+v", tls, version, r.code, s)
			}
			// The first had no file to say in how its containers are labelled.
			if said := strings.Count(h.reached(), "configured label= "); said != i {
				t.Errorf("%s, %s: configured %d times, want %d:\n%s", tls, version, said, i, h.reached())
			}
		}
	}
	h := newGatewayHome(t, "", "version=0.0.88")
	h.must(0, "gateway", "start")
	if !strings.Contains(h.reached(), "configured label=openshell-creel ") {
		t.Errorf("%s", h.reached())
	}
	config, err := os.ReadFile(h.file("openshell.toml"))
	if err != nil {
		t.Fatal(err)
	}
	// Other settings in the file are drift like those of the environment.
	h.env = append(h.env, "OPENSHELL_DOCKER_SUPERVISOR_IMAGE=registry.example/supervisor:1")
	if s, r := h.status(); r.code != 3 || len(s.Drift) != 1 || !strings.Contains(s.Drift[0], "settings") {
		t.Errorf("exit %d: %+v", r.code, s)
	}
	h.must(0, "gateway", "start")
	if now, err := os.ReadFile(h.file("openshell.toml")); err != nil || string(now) == string(config) || !strings.Contains(string(now), "registry.example/supervisor:1") {
		t.Errorf("%v\n%s", err, now)
	}
}

// The command that upgrades is killed after each of its steps; the next start leaves
// one of the two gateways healthy, with everything that it had.
func testUpgradeOpenShellKilled(t *testing.T) {
	h, box := older(t)
	h.must(0, "gateway", "stop")
	kept := map[string][]byte{}
	for _, name := range []string{"openshell.db", "openshell.db-wal", "served.json", "openshell.toml"} {
		content, err := os.ReadFile(h.file(name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		kept[name] = content
	}
	for mode, ends := range map[string]string{"mode=healthy": "0.0.92", "mode=fails-after-writing": "0.0.88"} {
		killed := 0
		for after := 1; ; after++ {
			// The older one, as it was.
			h.install("version=0.0.88", "format=1", "heart="+box.file)
			for _, left := range []string{"openshell.db-shm", "upgrade.json", "upgrade"} {
				if err := os.RemoveAll(h.file(left)); err != nil {
					t.Fatal(err)
				}
			}
			for name, content := range kept {
				if err := os.WriteFile(h.file(name), content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			h.must(0, "gateway", "start")
			h.runs("0.0.88", 1)
			h.install("version=0.0.92", "format=2", mode)
			r := h.runProgram(killer, []string{fmt.Sprintf("KILLER_AFTER_STEP=%d", after)}, "gateway", "upgrade", "--yes")
			dead := r.code == 128+int(syscall.SIGKILL)
			if dead {
				killed++
				if r := h.run("gateway", "start"); r.code != 0 && !strings.Contains(r.stderr, "the old one is back") {
					t.Errorf("%s, step %d: start: exit %d\n%s", mode, after, r.code, r.stderr)
				}
			}
			n := 2
			s, _ := h.status()
			if s.Version == "0.0.88" {
				n = 1
			} else if s.Version != ends {
				t.Errorf("%s, step %d: %+v, want %s", mode, after, s, ends)
			}
			h.runs(s.Version, n)
			box.alive()
			h.must(0, "gateway", "stop")
			h.noGatewayProcess()
			if t.Failed() {
				t.Fatalf("%s, killed after step %d", mode, after)
			}
			if !dead {
				break
			}
		}
		if killed < 5 {
			t.Errorf("%s: killed after %d steps only", mode, killed)
		}
	}
}
