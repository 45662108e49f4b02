package e2e

import (
	"bytes"
	"crypto/rand"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	_ "modernc.org/sqlite"
)

// testDamage: a file that is of a newer version, damaged or another program's is
// named, refused before anything is written, and left as it is.
func testDamage(t *testing.T) {
	t.Run("database", testDamagedDatabase)
	t.Run("desired-state", testDamagedDesired)
	t.Run("marker", testDamagedMarker)
	t.Run("record", testDamagedRecord)
	t.Run("journal", testDamagedJournal)
	t.Run("key", testDamagedKey)
	t.Run("leftovers", testLeftovers)
	t.Run("unreadable", testUnreadable)
}

// standing is a home in which everything is up.
func standing(t *testing.T) (h *home, dir string) {
	t.Helper()
	h = newHome(t)
	h.must(0, bring...)
	return h, filepath.Join(h.dir, "state", "gateways", "creel")
}

// files are the contents of everything that is no log and no lock. Nor are they
// what SQLite keeps beside a database while it is open, or what a gateway program of
// the tests and its sandbox say of themselves.
func (h *home) files() map[string]string {
	h.t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(h.dir, func(path string, d fs.DirEntry, err error) error {
		name := filepath.Base(path)
		skip := strings.HasSuffix(name, ".log") || strings.HasSuffix(name, ".lock") || strings.Contains(name, ".db-") || name == "creel" ||
			strings.HasSuffix(name, ".reached") || name == "heart"
		if err != nil || !d.Type().IsRegular() || skip {
			return err
		}
		content, err := os.ReadFile(path)
		all[path] = string(content)
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return all
}

// says is how a command has to end.
type says struct {
	args []string
	code int
}

// refuse runs commands, each of which has to name the file and the advisory and to
// change nothing.
func (h *home) refuse(path, advisory string, commands ...says) {
	h.t.Helper()
	before := h.files()
	for _, c := range commands {
		r := h.run(c.args...)
		said := r.stdout + r.stderr
		if r.code != c.code || !strings.Contains(said, path) || !strings.Contains(said, advisory) {
			h.t.Errorf("creel %s: exit %d, want %d, %s and %s\n%s", strings.Join(c.args, " "), r.code, c.code, path, advisory, said)
		}
		h.nextExists(r)
		after := h.files()
		for p, content := range before {
			if after[p] != content {
				h.t.Errorf("creel %s changed %s", strings.Join(c.args, " "), p)
			}
		}
		for p := range after {
			if _, ok := before[p]; !ok {
				h.t.Errorf("creel %s made %s", strings.Join(c.args, " "), p)
			}
		}
	}
}

// nextExists requires next commands, and that those of creel's exist.
func (h *home) nextExists(r result) {
	h.t.Helper()
	_, next, ok := strings.Cut(r.stderr+r.stdout, "next:\n")
	if !ok {
		h.t.Errorf("creel %s gives no next command\n%s%s", strings.Join(r.args, " "), r.stdout, r.stderr)
	}
	for line := range strings.Lines(next) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "creel" || !strings.HasPrefix(line, "  ") {
			continue
		}
		if help := h.run(append(words[1:], "--help")...); help.code != 0 {
			h.t.Errorf("the next command %q does not exist: %s", strings.TrimSpace(line), help.stderr)
		}
	}
}

func testDamagedDatabase(t *testing.T) {
	h, dir := standing(t)
	agent := h.agentPID()
	h.must(0, "gateway", "stop")
	path := filepath.Join(dir, "gateway.db")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(content []byte) {
		t.Helper()
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	statement := func(text string) {
		t.Helper()
		db, err := sql.Open("sqlite", path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec(text); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	noise := make([]byte, 8192)
	_, _ = rand.Read(noise)
	for _, c := range []struct {
		name, advisory string
		damage         func()
		next           bool // the next commands mend it
	}{
		{"newer", "database-newer", func() { statement("PRAGMA user_version = 99") }, false},
		{"of another program", "database-foreign", func() {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			statement("CREATE TABLE notes (text); INSERT INTO notes VALUES ('dear diary'); PRAGMA user_version = 1")
		}, true},
		{"no database", "database-foreign", func() { write(noise) }, true},
		{"damaged", "database-corrupt", func() { write(slices.Concat(good[:4096], noise, good[4096+len(noise):])) }, true},
		{"cut off", "database-corrupt", func() { write(good[:len(good)/2]) }, true},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			h.t = t
			write(good)
			c.damage()
			h.refuse(path, c.advisory, says{[]string{"gateway", "start"}, 1}, says{bring, 1}, says{[]string{"status"}, 1},
				says{[]string{"gateway", "status"}, 1}, says{[]string{"gateway", "restart"}, 1})
			if beside, err := filepath.Glob(path + "-*"); err != nil || len(beside) > 0 {
				t.Errorf("made beside the database: %v, %v", beside, err)
			}
			if !c.next {
				return
			}
			// What is advised mends it: the sandbox is taken over from what is on disk.
			r := h.run("gateway", "start")
			_, next, _ := strings.Cut(r.stderr, "next:\n")
			mv := strings.Fields(next)
			if len(mv) < 3 || mv[0] != "mv" || mv[1] != path {
				t.Fatalf("the first next command moves nothing away: %q", next)
			}
			if out, err := exec.Command(mv[0], mv[1:3]...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			h.must(0, "gateway", "start")
			eventually(t, "all is well again", func() bool { return h.verdict() == "ok" })
			if now := h.agentPID(); now != agent {
				t.Errorf("the agent's pid is %d, it was %d", now, agent)
			}
			h.must(0, "gateway", "stop")
		})
	}
	h.t = t
}

func testDamagedDesired(t *testing.T) {
	h, _ := standing(t)
	path := filepath.Join(h.dir, "config", "gateways", "creel.yaml")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	commands := []says{{[]string{"status"}, 4}, {bring, 2}, {[]string{"gateway", "start"}, 2}, {[]string{"gateway", "restart"}, 2}, {[]string{"list"}, 4}, {[]string{"plan"}, 2}}
	for name, c := range map[string]struct {
		advisory string
		content  []byte
	}{
		"newer":   {"desired-version", bytes.Replace(good, []byte("creel/v1alpha1"), []byte("creel/v99"), 1)},
		"damaged": {"desired-invalid", good[:len(good)/2]},
		"foreign": {"desired-invalid", []byte("apiVersion: v1\nkind: ConfigMap\n")},
		"noise":   {"desired-invalid", []byte{0xff, 0xfe, 0, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			h.t = t
			if err := os.WriteFile(path, c.content, 0o600); err != nil {
				t.Fatal(err)
			}
			h.refuse(path, c.advisory, commands...)
		})
	}
	h.t = t
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Rename(path, path+".kept"), os.Mkdir(path, 0o700)); err != nil {
		t.Fatal(err)
	}
	for i := range commands {
		if commands[i].code == 2 { // not a mistake in a document, but a file that cannot be opened
			commands[i].code = 1
		}
	}
	h.refuse(path, "desired-unreadable", commands...)
	if err := errors.Join(os.Remove(path), os.Rename(path+".kept", path)); err != nil {
		t.Fatal(err)
	}
	if v := h.verdict(); v != "ok" {
		t.Errorf("verdict %q afterwards", v)
	}
}
