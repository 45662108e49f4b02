package embedded

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"creel/internal/state"
	"creel/internal/version"
)

func TestSelfIsAWholeCopy(t *testing.T) {
	roots := state.Roots{State: t.TempDir()}
	path, err := Self(roots)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	same := func() bool {
		got, err := os.ReadFile(path)
		return err == nil && bytes.Equal(got, want)
	}
	if !same() {
		t.Error("the copy differs from the executable")
	}
	if id, err := version.BuildIDOf(path); err != nil || filepath.Base(filepath.Dir(path)) != id {
		t.Errorf("%s is not below its build id %s, %v", path, id, err)
	}
	// A copy that was cut short is made again, one that is whole is left alone.
	if err := os.Truncate(path, 100); err != nil {
		t.Fatal(err)
	}
	if _, err := Self(roots); err != nil || !same() {
		t.Errorf("a cut copy was not mended: %v", err)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Self(roots); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Error("a whole copy was made again")
	}
	// One that others may change, or that somebody else put there, is not executed.
	if err := os.Chmod(path, 0o775); err != nil {
		t.Fatal(err)
	}
	if _, err := Self(roots); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(path); err != nil || os.SameFile(before, after) || after.Mode().Perm()&0o022 != 0 {
		t.Errorf("a copy that others may write to was kept: %v", err)
	}
	if es, err := os.ReadDir(filepath.Dir(path)); err != nil || len(es) != 1 {
		t.Errorf("left beside the copy: %v, %v", es, err)
	}
}

func TestPruneKeepsWhatIsUsed(t *testing.T) {
	roots := state.Roots{State: t.TempDir()}
	keep, err := Self(roots)
	if err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-time.Hour)
	version := func(id string) string {
		t.Helper()
		p := filepath.Join(roots.Versions(), id, ExecutableName)
		if err := state.MkdirAll(filepath.Dir(p)); err != nil {
			t.Fatal(err)
		}
		sleep, err := exec.LookPath("sleep")
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(sleep)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, b, 0o700); err != nil {
			t.Fatal(err)
		}
		return p
	}
	running, named, unused := version("running"), version("named"), version("unused")
	version("fresh")
	cmd := exec.Command(running, "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	launch := roots.Gateway("creel").Sandbox("id").File(state.LaunchFile)
	if err := state.MkdirAll(filepath.Dir(launch)); err != nil {
		t.Fatal(err)
	}
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(launch, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []string{keep, running, named, unused} {
		if err := os.Chtimes(filepath.Dir(p), long, long); err != nil {
			t.Fatal(err)
		}
	}
	write("{") // a sandbox whose record cannot be read may use any of them
	if removed, err := Prune(roots, keep); err == nil || len(removed) > 0 {
		t.Errorf("Prune = %q, %v", removed, err)
	}
	write(`{"executable":"` + named + `"}`)
	removed, err := Prune(roots, keep)
	if err != nil || len(removed) != 1 || removed[0] != "unused" {
		t.Errorf("Prune = %q, %v; want the unused one removed", removed, err)
	}
	for _, p := range []string{keep, running, named} {
		if _, err := os.Stat(p); err != nil {
			t.Error(err)
		}
	}
}

// An executable that is removed while it runs, as `go run` does, still starts
// its gateway: the copy comes from the running process.
func TestStartFromARemovedExecutable(t *testing.T) {
	const variable = "EMBEDDED_TEST_START"
	if home := os.Getenv(variable); home != "" {
		if err := os.Remove(os.Args[0]); err != nil {
			t.Fatal(err)
		}
		roots, err := state.RootsFrom(func(n string) string { return map[string]string{"CREEL_HOME": home}[n] })
		if err != nil {
			t.Fatal(err)
		}
		r := New(Config{Gateway: roots.Gateway("creel"), Getenv: func(n string) string { return map[string]string{"CREEL_HOME": home}[n] }})
		if err := r.Start(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		// The daemon outlives this process, which ends without waiting for it.
		os.Exit(0)
	}
	w := newWorld(t, "good")
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(w.home, "program")
	if err := os.WriteFile(program, self, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-test.run", "^TestStartFromARemovedExecutable$")
	cmd.Env = append(os.Environ(), variable+"="+w.home)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if _, err := os.Stat(program); err == nil {
		t.Fatal("the program was not removed: the test proves nothing")
	}
	if o := w.r.Observe(t.Context()); o.Verdict.String() != "ok" {
		t.Errorf("Observe = %v: %s", o.Verdict, o.Message)
	}
}
