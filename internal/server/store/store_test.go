package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"creel/internal/advisory"
	"creel/internal/sandbox"
)

func open(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func record(n int) Object[Sandbox] {
	return Object[Sandbox]{ID: fmt.Sprintf("id-%04d", n), Name: fmt.Sprintf("box-%04d", n), Labels: map[string]string{"n": fmt.Sprint(n)},
		Value: Sandbox{Spec: sandbox.Spec{Agent: "console", Command: []string{"a", "b"}, Environment: map[string]string{"K": "v"},
			Policy: bytes.Repeat([]byte("p"), 1500)}, Wanted: sandbox.Running, Phase: sandbox.Provisioning,
			DashboardToken: bytes.Repeat([]byte("x"), 230), RelayToken: bytes.Repeat([]byte("y"), 230)}}
}

func TestObjects(t *testing.T) {
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "a dir?#%", "gateway.db")
	s := open(t, path)
	created, err := s.Sandboxes.Create(ctx, record(1))
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Sandboxes.Get(ctx, "", "box-0001")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(created, got); d != "" {
		t.Errorf("read back differs:\n%s", d)
	}
	again := record(2)
	again.Name = "box-0001"
	if _, err := s.Sandboxes.Create(ctx, again); !errors.Is(err, ErrExists) {
		t.Errorf("second of a name: %v", err)
	}
	if _, err := s.Providers.Create(ctx, Object[Provider]{ID: "p", Name: "box-0001"}); err != nil {
		t.Errorf("same name, other kind: %v", err)
	}
	got.Value.Phase = sandbox.Ready
	updated, err := s.Sandboxes.Update(ctx, got)
	if err != nil || updated.Version != 2 {
		t.Fatalf("update: version %d, %v", updated.Version, err)
	}
	got.Value.Phase = sandbox.Error
	if _, err := s.Sandboxes.Update(ctx, got); !errors.Is(err, ErrConflict) {
		t.Errorf("update of an old version: %v", err)
	}
	if _, err := s.Sandboxes.Update(ctx, Object[Sandbox]{ID: "none"}); !errors.Is(err, ErrNotFound) {
		t.Errorf("update of nothing: %v", err)
	}
	if _, err := s.Routes.ByID(ctx, created.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("id of another kind: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path)
	if after, err := s.Sandboxes.ByID(ctx, created.ID); err != nil || after.Value.Phase != sandbox.Ready || after.Version != 2 {
		t.Errorf("after opening again: %+v %v", after.Value.Phase, err)
	}
	for _, want := range []bool{true, false} {
		if deleted, err := s.Sandboxes.Delete(ctx, created.ID); err != nil || deleted != want {
			t.Errorf("delete: %v %v, want %v", deleted, err, want)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v: %v", info.Mode(), err)
	}
}

func TestChangeLosesNoUpdate(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "gateway.db"))
	o := record(1)
	o.Value.DashboardPort = 0
	if _, err := s.Sandboxes.Create(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	const writers, each = 8, 20
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for range each {
				if _, err := s.Sandboxes.Change(t.Context(), o.ID, func(o *Object[Sandbox]) error {
					o.Value.DashboardPort++
					return nil
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	got, err := s.Sandboxes.ByID(t.Context(), o.ID)
	if err != nil || got.Value.DashboardPort != writers*each || got.Version != writers*each+1 {
		t.Errorf("%d updates, version %d: %v", got.Value.DashboardPort, got.Version, err)
	}
}

func TestList(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "gateway.db"))
	for _, n := range []int{3, 1, 2} {
		if _, err := s.Sandboxes.Create(t.Context(), record(n)); err != nil {
			t.Fatal(err)
		}
	}
	for name, x := range map[string]struct {
		q    Query
		want string
	}{
		"all":             {Query{}, "box-0001 box-0002 box-0003"},
		"page":            {Query{Limit: 1, Offset: 1}, "box-0002"},
		"names":           {Query{Names: []string{"box-0003", "none", `"'`}}, "box-0003"},
		"other workspace": {Query{Workspace: "x"}, ""},
	} {
		found, err := s.Sandboxes.List(t.Context(), x.q)
		var names []string
		for _, o := range found {
			names = append(names, o.Name)
		}
		if err != nil || strings.Join(names, " ") != x.want {
			t.Errorf("%s: %v %v", name, names, err)
		}
	}
}

// A database that cannot be used is refused with its bytes as they were.
func TestRefused(t *testing.T) {
	sqlite := func(statements string) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			db, err := sql.Open("sqlite", path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := db.Exec(statements); err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	ours := func(t *testing.T, path string) {
		s, err := Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		for n := range 50 {
			if _, err := s.Sandboxes.Create(t.Context(), record(n)); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for name, x := range map[string]struct {
		make func(t *testing.T, path string)
		id   string
		says string
	}{
		"text":               {func(t *testing.T, path string) { write(t, path, []byte(strings.Repeat("dear diary ", 30))) }, "database-foreign", "not an SQLite file"},
		"short":              {func(t *testing.T, path string) { write(t, path, []byte("SQLite format 3\x00xx")) }, "database-corrupt", "cut off"},
		"of another program": {sqlite("CREATE TABLE t (x); PRAGMA user_version = 1"), "database-foreign", "another program"},
		"newer": {func(t *testing.T, path string) {
			ours(t, path)
			sqlite("PRAGMA user_version = 7")(t, path)
		}, "database-newer", "schema version 7"},
		"cut off": {func(t *testing.T, path string) {
			ours(t, path)
			content := read(t, path)
			write(t, path, content[:len(content)/2])
		}, "database-corrupt", "damaged"},
		"overwritten in the middle": {func(t *testing.T, path string) {
			ours(t, path)
			content := read(t, path)
			copy(content[4096:], bytes.Repeat([]byte{0xa5}, 8192))
			write(t, path, content)
		}, "database-corrupt", "damaged"},
		"without its table": {sqlite(fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = 1; CREATE TABLE t (x)", applicationID)), "database-corrupt", "objects"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "gateway.db")
			x.make(t, path)
			before := read(t, path)
			s, err := Open(t.Context(), path)
			if err == nil {
				_ = s.Close()
				t.Fatal("it was opened")
			}
			p, ok := advisory.Of(err)
			if !ok || p.ID != x.id || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), x.says) {
				t.Errorf("refused with %v", err)
			}
			if _, known := advisory.Lookup(x.id); !known {
				t.Errorf("advisory %s is not in the registry", x.id)
			}
			if !bytes.Equal(before, read(t, path)) {
				t.Error("its bytes have changed")
			}
			left, err := filepath.Glob(path + "?*")
			if err != nil || len(left) > 0 {
				t.Errorf("left beside it: %v %v", left, err)
			}
		})
	}
}

// A database of the version before is looked at without a change, and opened it is of
// this one with all that it had: an earlier build refuses it from then on.
func TestMigration(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gateway.db")
	s := open(t, path)
	created, err := s.Sandboxes.Create(t.Context(), record(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("PRAGMA user_version = 1"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	before := read(t, path)
	if err := Check(t.Context(), path); err != nil {
		t.Errorf("Check = %v", err)
	}
	if !bytes.Equal(before, read(t, path)) {
		t.Error("a look changed it")
	}
	for range 2 { // the second time there is nothing to migrate
		s = open(t, path)
		var version int
		if err := s.db.QueryRow("PRAGMA user_version").Scan(&version); err != nil || version != SchemaVersion || version == 1 {
			t.Errorf("version %d, %v", version, err)
		}
		got, err := s.Sandboxes.Get(t.Context(), "", "box-0001")
		if d := cmp.Diff(created, got); err != nil || d != "" {
			t.Errorf("%v, differs:\n%s", err, d)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if header := read(t, path); header[63] != SchemaVersion {
			t.Errorf("the file says version %d", header[63])
		}
	}
}

// A version that is only in the write-ahead log counts as much as one in the file.
func TestNewerInTheLog(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "gateway.db")
	s := open(t, path)
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("PRAGMA user_version = 9"); err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "copy.db") // as a crash would leave it
	write(t, copied, read(t, path))
	write(t, copied+"-wal", read(t, path+"-wal"))
	before := read(t, copied)
	_, err = Open(t.Context(), copied)
	if p, ok := advisory.Of(err); !ok || p.ID != "database-newer" {
		t.Errorf("opened with %v", err)
	}
	if !bytes.Equal(before, read(t, copied)) {
		t.Error("its bytes have changed")
	}
	_ = s
}

// Who is told to move a damaged database away moves the file and not its log.
// SQLite would write that log's pages into the new database.
func TestLogOfADatabaseThatWasMovedAway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gateway.db")
	s := open(t, path)
	for n := range 50 {
		if _, err := s.Sandboxes.Create(t.Context(), record(n)); err != nil {
			t.Fatal(err)
		}
	}
	log := read(t, path+"-wal")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	write(t, path+"-wal", log) // as a crash leaves it
	write(t, path+"-shm", bytes.Repeat([]byte{1}, 32<<10))
	s = open(t, path)
	found, err := s.Sandboxes.List(t.Context(), Query{All: true})
	if err != nil || len(found) != 0 {
		t.Errorf("the new database has %d records: %v", len(found), err)
	}
	if _, err := s.Sandboxes.Create(t.Context(), record(1)); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := Check(t.Context(), path); err != nil {
		t.Errorf("the new database: %v", err)
	}
	left, err := filepath.Glob(path + "-wal.left-*")
	if err != nil || len(left) != 1 || !bytes.Equal(read(t, left[0]), log) {
		t.Errorf("the old log is kept as %v, %v", left, err)
	}
}

// What cannot be read is not damaged: nobody shall move it away for that.
func TestUnreadableIsNotDamaged(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "gateway.db")
	if err := open(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Check(ended, path); err == nil || isAdvisory(err, "database-corrupt") {
		t.Errorf("asked with a context that has ended: %v", err)
	}
	if os.Geteuid() != 0 { // root reads it in any case
		if err := os.Chmod(path, 0); err != nil {
			t.Fatal(err)
		}
		if err := Check(t.Context(), path); !isAdvisory(err, "state-permission") {
			t.Errorf("without the right to read it: %v", err)
		}
	}
	if err := Check(t.Context(), dir); !isAdvisory(err, "database-foreign") || !strings.Contains(err.Error(), dir) {
		t.Errorf("a directory: %v", err)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Check(t.Context(), pipe); !isAdvisory(err, "database-foreign") {
		t.Errorf("a pipe: %v", err)
	}
	if err := Check(t.Context(), filepath.Join(dir, "absent")); err != nil {
		t.Errorf("absent: %v", err)
	}
}

func isAdvisory(err error, id string) bool {
	p, ok := advisory.Of(err)
	return ok && p.ID == id
}

func TestEmptyFileIsNoDatabaseYet(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gateway.db")
	write(t, path, nil)
	write(t, path+".new", []byte("a crash left this"))
	open(t, path)
	if _, err := os.Stat(path + ".new"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("left over: %v", err)
	}
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func FuzzOpen(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("SQLite format 3\x00"))
	f.Add(append([]byte("SQLite format 3\x00"), make([]byte, 84)...))
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(t.TempDir(), "gateway.db")
		write(t, path, content)
		s, err := Open(context.Background(), path)
		if err != nil {
			if !bytes.Equal(content, read(t, path)) {
				t.Fatal("refused and changed")
			}
			return
		}
		_ = s.Close()
	})
}

func BenchmarkList1000(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "gateway.db"))
	for n := range 1000 {
		if _, err := s.Sandboxes.Create(b.Context(), record(n)); err != nil {
			b.Fatal(err)
		}
	}
	var worst time.Duration
	for b.Loop() {
		began := time.Now()
		found, err := s.Sandboxes.List(b.Context(), Query{})
		if err != nil || len(found) != 1000 {
			b.Fatal(len(found), err)
		}
		worst = max(worst, time.Since(began))
	}
	b.ReportMetric(float64(worst.Milliseconds()), "worst-ms")
}

func BenchmarkOpenNew(b *testing.B) {
	for b.Loop() {
		s, err := Open(b.Context(), filepath.Join(b.TempDir(), "gateway.db"))
		if err != nil {
			b.Fatal(err)
		}
		_ = s.Close()
	}
}
