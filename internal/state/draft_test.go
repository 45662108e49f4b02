package state

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"creel/test/require"
)

// The test binary started with this variable writes half of the file that it
// names and is killed.
const writerVariable = "STATE_TEST_WRITE"

func beKilledWriting(path string) int {
	d, err := NewDraft(path, FileMode)
	if err == nil {
		_, err = d.Write([]byte("half"))
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("writing")
	_, _ = io.Copy(io.Discard, os.Stdin) // until the kill comes
	return 1
}

// killedWriter leaves what a writer of path leaves that is killed, and returns
// its name. whileAlive is called before the kill.
func killedWriter(t *testing.T, path string, whileAlive func(draft string)) string {
	t.Helper()
	before := entries(t, filepath.Dir(path))
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), writerVariable+"="+path)
	in, err := cmd.StdinPipe() // open until the end of the test: only the kill ends it
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, len("writing\n"))
	if _, err := io.ReadFull(out, line); err != nil || string(line) != "writing\n" {
		t.Errorf("the writer said %q, %v", line, err)
	}
	after := slices.DeleteFunc(entries(t, filepath.Dir(path)), func(n string) bool { return slices.Contains(before, n) })
	if len(after) != 1 {
		t.Errorf("beside the file there is %q, want one draft", after)
	}
	draft := filepath.Join(filepath.Dir(path), after[0])
	if whileAlive != nil {
		whileAlive(draft)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // it was killed
	return draft
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// A killed writer once left a hidden file for good, for some files with a key in
// it. The next write of the same file removes it, and no write removes what
// somebody is writing.
func TestNextWriteSweeps(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	draft := killedWriter(t, path, func(draft string) {
		if err := WriteFile(path, []byte("from another process"), FileMode); err != nil {
			t.Error(err)
		}
		if !exists(draft) {
			t.Error("the draft of a writer that lives was removed")
		}
	})
	if !exists(draft) {
		t.Fatal("a killed writer leaves nothing: this test tests nothing")
	}
	others := []string{".other.tmp-1", "file.tmp-1", ".file.tmp-", ".file.tmp-1a", ".file.tmp-notes"}
	for _, name := range others {
		if err := os.WriteFile(filepath.Join(dir, name), nil, FileMode); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Mkdir(filepath.Join(dir, ".file.tmp-2"), DirMode), os.Symlink(path, filepath.Join(dir, ".file.tmp-3"))); err != nil {
		t.Fatal(err)
	}
	others = append(others, ".file.tmp-2", ".file.tmp-3", "file")
	slices.Sort(others)
	if err := WriteFile(path, []byte("whole"), FileMode); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(others, entries(t, dir)); d != "" {
		t.Errorf("after a write (-want +got)\n%s", d)
	}
}

// Writers and sweepers of one file at once: every write succeeds, whoever sweeps
// at which moment, and nothing is left.
func TestSweepersDisturbNoWriter(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	stop := make(chan struct{})
	var writers, sweepers sync.WaitGroup
	for range 2 {
		sweepers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := Sweep(path); err != nil {
					t.Errorf("sweep: %v", err)
					return
				}
			}
		})
	}
	for n := range 4 {
		writers.Go(func() {
			for i := range 100 {
				if err := WriteFile(path, fmt.Appendf(nil, "%d %d", n, i), FileMode); err != nil {
					t.Errorf("write: %v", err)
					return
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	sweepers.Wait()
	if d := cmp.Diff([]string{"file"}, entries(t, dir)); d != "" {
		t.Error(d)
	}
}

// The one moment in which a draft is not locked: a sweeper that comes then takes
// it, and its writer has to see that and make another.
func TestDraftSweptBeforeItIsLocked(t *testing.T) {
	dir := t.TempDir()
	f, err := os.CreateTemp(dir, draftPrefix("file"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	sweeper, err := os.Open(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	if err := flockRetry(sweeper, syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	waiting := regexp.MustCompile(fmt.Sprintf(`-> FLOCK .*:%d `, info.Sys().(*syscall.Stat_t).Ino))
	locked := make(chan *os.File, 1)
	go func() {
		lock, err := lockDraft(f)
		if err != nil {
			t.Error(err)
		}
		locked <- lock
	}()
	deadline, tick := time.After(20*time.Second), time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		locks, err := os.ReadFile("/proc/locks")
		require.Feature(t, "proc-locks", err == nil, "the kernel lists locks in /proc/locks")
		if waiting.Match(locks) {
			break
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("the writer does not wait for the sweeper's lock")
		}
	}
	if err := errors.Join(os.Remove(f.Name()), sweeper.Close()); err != nil {
		t.Fatal(err)
	}
	if lock := <-locked; lock != nil {
		t.Error("a draft that was swept is taken for good")
		_ = lock.Close()
	}
}

// A key that a killed process left empty could never be made again: creation is
// all or nothing.
func TestCreateFileIsAtomic(t *testing.T) {
	dir := t.TempDir()
	content := bytes.Repeat([]byte("k"), 100_000)
	for i := range 50 {
		path := filepath.Join(dir, fmt.Sprint(i))
		created := make(chan error, 1)
		go func() { created <- CreateFile(path, content, FileMode) }()
		for done := false; !done; {
			select {
			case err := <-created:
				if err != nil {
					t.Fatal(err)
				}
				done = true
			default:
			}
			if got, err := os.ReadFile(path); err == nil && len(got) != len(content) {
				t.Fatalf("a reader saw %d bytes of %d", len(got), len(content))
			}
		}
	}
	path := filepath.Join(dir, "key")
	killedWriter(t, path, nil)
	if err := CreateFile(path, content, FileMode); err != nil {
		t.Errorf("after a killed creation: %v", err)
	}
	for _, name := range entries(t, dir) {
		if strings.HasPrefix(name, ".") {
			t.Errorf("%s is left", name)
		}
	}
}

func TestSweepGateway(t *testing.T) {
	home := t.TempDir()
	g := Roots{Config: filepath.Join(home, "config"), State: filepath.Join(home, "state")}.Gateway("creel")
	if err := SweepGateway(g); err != nil {
		t.Errorf("a gateway without files: %v", err)
	}
	box := g.Sandbox("id")
	swept := []string{g.Desired(), g.Marker(), g.File(TLSDir + "/" + CAKeyFile), g.File(TLSDir + "/" + ServerDir + "/" + TLSKeyFile),
		g.File(JWTDir + "/" + JWTSigningFile), g.File(BackupDir + "/20260101-ca/" + CAKeyFile), box.File(TokenFile)}
	for _, path := range append([]string{filepath.Join(box.Workspace(), "file")}, swept...) {
		if err := MkdirAll(filepath.Dir(path)); err != nil {
			t.Fatal(err)
		}
	}
	agents := filepath.Join(box.Workspace(), ".file.tmp-1")
	if err := os.WriteFile(agents, nil, FileMode); err != nil {
		t.Fatal(err)
	}
	living, err := NewDraft(g.Marker(), FileMode)
	if err != nil {
		t.Fatal(err)
	}
	defer living.Discard()
	var left []string
	for i, path := range swept {
		left = append(left, filepath.Join(filepath.Dir(path), fmt.Sprintf(".%s.tmp-%d", filepath.Base(path), i)))
		if err := os.WriteFile(left[i], nil, FileMode); err != nil {
			t.Fatal(err)
		}
	}
	if err := SweepGateway(g); err != nil {
		t.Error(err)
	}
	for _, path := range left {
		if exists(path) {
			t.Errorf("%s is left", path)
		}
	}
	for _, path := range []string{agents, living.Name()} {
		if !exists(path) {
			t.Errorf("%s was removed", path)
		}
	}
	if err := living.Commit(); err != nil || !exists(g.Marker()) {
		t.Errorf("commit after the sweep: %v", err)
	}
}

func TestDraftOfAbsentDirectory(t *testing.T) {
	if _, err := NewDraft(filepath.Join(t.TempDir(), "absent", "file"), FileMode); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error = %v, want fs.ErrNotExist", err)
	}
}
