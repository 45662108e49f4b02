package e2e

import (
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"creel/internal/server/store"
)

// laterSchema is what the later build writes into the database (test/e2e/killer).
const laterSchema = 1000

// embeddedHome is a home whose gateway is of one build of creel, with a sandbox, and
// which has another build installed.
type embeddedHome struct {
	*home
	agent int
}

func newEmbeddedHome(t *testing.T) *embeddedHome {
	t.Helper()
	h := &embeddedHome{home: newHome(t)}
	t.Cleanup(func() { h.program = "" })
	h.must(0, bring...)
	h.agent = h.agentPID()
	h.must(0, "exec", "claw", "--", "sh", "-c", "echo marker > /sandbox/marker")
	h.program = killer
	return h
}

// later says how the daemon of the later build fails; "" is not at all.
func (h *embeddedHome) later(how string) {
	h.t.Helper()
	path := filepath.Join(h.dir, "later")
	if how == "" {
		_ = os.Remove(path)
	} else if err := os.WriteFile(path, []byte(how), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

func (h *embeddedHome) file(name string) string {
	return filepath.Join(h.dir, "state", "gateways", "creel", name)
}

// runs fails unless a gateway of that version is healthy, everything that it had is
// there, and the agent is the process that it was.
func (h *embeddedHome) runs(later bool) gatewayStatus {
	h.t.Helper()
	s := decode[gatewayStatus](h.t, h.run("gateway", "status", "--json"))
	if s.PID == 0 || s.Verdict != "ok" && s.Verdict != "degraded" || (s.Version == laterVersion) != later {
		h.t.Errorf("%+v; want a healthy one, the later version: %v", s, later)
	}
	for _, c := range s.Caveats {
		h.t.Errorf("caveat %s", c.Advisory)
	}
	if n, names := format(h.t, h.file("gateway.db"), "SELECT name FROM objects WHERE object_type = 'sandbox'"); n != store.SchemaVersion || !slices.Equal(names, []string{"claw"}) {
		h.t.Errorf("database of format %d with %q", n, names)
	}
	if _, err := os.Stat(h.file("upgrade.json")); err == nil {
		h.t.Error("an upgrade is still under way")
	}
	if now := h.agentPID(); now != h.agent {
		h.t.Errorf("the agent's pid is %d, it was %d", now, h.agent)
	}
	return s
}

func testUpgradeEmbedded(t *testing.T) {
	h := newEmbeddedHome(t)
	before := h.runs(false)
	plan := h.must(0, "gateway", "upgrade", "--plan")
	for _, says := range []string{"another build of creel", "version " + laterVersion, "disturbs  nobody", "sandboxes go on"} {
		if !strings.Contains(plan.stdout, says) {
			t.Errorf("the plan lacks %q:\n%s", says, plan.stdout)
		}
	}
	if now := h.runs(false); now.PID != before.PID {
		t.Error("a plan replaced it")
	}
	h.must(0, "gateway", "upgrade") // nobody is disturbed, and nobody asked
	after := h.runs(true)
	if after.PID == before.PID || after.Endpoint != before.Endpoint || len(after.Drift) != 0 {
		t.Errorf("%+v, was %+v", after, before)
	}
	if r := h.must(0, "exec", "claw", "--", "cat", "/sandbox/marker"); r.stdout != "marker\n" {
		t.Errorf("%+v", r)
	}
	eventually(t, "all is well", func() bool { return h.verdict() == "ok" })
	if r := h.must(0, "gateway", "upgrade"); !strings.Contains(r.stdout, "nothing to upgrade") {
		t.Errorf("%s", r.stdout)
	}
	// Restart is the same way, and so is back.
	h.program = ""
	h.must(0, "gateway", "restart")
	h.runs(false)
}

func testUpgradeEmbeddedBack(t *testing.T) {
	h := newEmbeddedHome(t)
	h.env = append(h.env, "CREEL_BUDGET_GATEWAY_START=4s")
	for _, how := range []string{"gives up", "killed", "hangs"} {
		before := h.runs(false)
		h.later(how)
		r := h.must(1, "gateway", "upgrade")
		for _, says := range []string{"gateway-upgrade-failed", "the old one is back", "to " + laterVersion, "gateway failed to start"} {
			if !strings.Contains(r.stderr, says) {
				t.Errorf("%s: it does not say %q:\n%s", how, says, r.stderr)
			}
		}
		if n, _ := format(t, h.file("upgrade/refused/gateway.db"), "SELECT a FROM of_the_later_version"); n != laterSchema {
			t.Errorf("%s: the later one wrote format %d, then this shows nothing", how, n)
		}
		if after := h.runs(false); after.PID == before.PID || after.Endpoint != before.Endpoint {
			t.Errorf("%s: %+v, was %+v", how, after, before)
		}
		h.nextExists(r)
	}
	// Everything is killed while the later one has written and is not up.
	h.later("hangs")
	cmd := exec.Command(killer, "gateway", "upgrade")
	cmd.Env = h.env
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the later one has written", func() bool {
		_, err := os.Stat(h.file("upgrade/kept/gateway.db"))
		n, _ := format(t, h.file("gateway.db"), "SELECT 1")
		return err == nil && n == laterSchema
	})
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	for _, p := range h.processes() {
		if strings.Contains(p.command, "gateway serve") {
			_ = syscall.Kill(p.pid, syscall.SIGKILL)
		}
	}
	eventually(t, "no gateway runs", func() bool { return strings.Contains(h.run("gateway", "status").stdout, "was interrupted") })
	h.later("gives up")
	if r := h.must(1, "gateway", "start"); !strings.Contains(r.stderr, "the old one is back") {
		t.Errorf("%s", r.stderr)
	}
	h.runs(false)

	// Stopped, it comes back as well: the build that ran last is kept.
	h.must(0, "gateway", "stop")
	h.later("gives up")
	if r := h.must(1, "gateway", "start"); !strings.Contains(r.stderr, "the old one is back") {
		t.Errorf("%s", r.stderr)
	}
	h.runs(false)
	h.later("")
	h.must(0, "gateway", "upgrade")
	h.runs(true)
}

// The database of a later version is refused before anything is written, also when a
// daemon of that version runs.
func testDowngradeEmbedded(t *testing.T) {
	h := newEmbeddedHome(t)
	h.must(0, "gateway", "upgrade")
	h.must(0, "gateway", "stop")
	db := h.file("gateway.db")
	execute(t, db, fmt.Sprintf("PRAGMA user_version = %d", store.SchemaVersion+1))
	h.program = ""
	h.refuse(db, "database-newer", says{[]string{"gateway", "start"}, 1}, says{[]string{"gateway", "upgrade"}, 1}, says{[]string{"gateway", "upgrade", "--plan"}, 1}, says{[]string{"gateway", "restart"}, 1})
	execute(t, db, fmt.Sprintf("PRAGMA user_version = %d", store.SchemaVersion))
	record := h.file("served.json")
	content, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(record, []byte(strings.Replace(string(content), `"version": 1`, `"version": 2`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	h.refuse(record, "gateway-record-newer", says{[]string{"gateway", "start"}, 1}, says{[]string{"status"}, 1}, says{bring, 1})
	if err := os.WriteFile(record, content, 0o600); err != nil {
		t.Fatal(err)
	}
	// The same schema: an earlier build may have it back.
	h.must(0, "gateway", "start")
	h.runs(false)
}

func testUpgradeEmbeddedKilled(t *testing.T) {
	h := newEmbeddedHome(t)
	for _, how := range []string{"", "gives up"} {
		killed := 0
		for after := 1; ; after++ {
			h.later("")
			h.program = ""
			h.must(0, "gateway", "upgrade") // back to the earlier build, or nothing
			h.runs(false)
			h.later(how)
			h.program = killer
			r := h.runProgram(killer, []string{fmt.Sprintf("KILLER_AFTER_STEP=%d", after)}, "gateway", "upgrade")
			dead := r.code == 128+int(syscall.SIGKILL)
			if dead {
				killed++
				// Whichever of the two is installed by then.
				h.program = []string{killer, creel}[after%2]
				if r := h.run("gateway", "start"); r.code != 0 && !strings.Contains(r.stderr, "the old one is back") {
					t.Errorf("%q, step %d: start: exit %d\n%s", how, after, r.code, r.stderr)
				}
				h.program = killer
			}
			s := decode[gatewayStatus](t, h.run("gateway", "status", "--json"))
			h.runs(how == "" && s.Version == laterVersion)
			if t.Failed() {
				t.Fatalf("%q, killed after step %d", how, after)
			}
			if !dead {
				break
			}
		}
		if killed < 5 {
			t.Errorf("%q: killed after %d steps only", how, killed)
		}
	}
}

// execute changes a database that nobody has open.
func execute(t testing.TB, path, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err == nil {
		_, err = db.Exec(statement)
	}
	if err == nil {
		err = db.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}
