package state

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRootsFrom(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, FileMode); err != nil {
		t.Fatal(err)
	}
	sockets := "/home/u/.local/state/creel/run"
	if there := sessionDir(); there != "" {
		sockets = there + "/creel"
	}
	xdg := map[string]string{"HOME": "/home/u", "XDG_CONFIG_HOME": "/x/config", "XDG_STATE_HOME": "/x/state", "XDG_RUNTIME_DIR": dir}
	for _, c := range []struct {
		name string
		env  map[string]string
		want Roots
		err  string
	}{
		{"home only", map[string]string{"HOME": "/home/u", "XDG_RUNTIME_DIR": dir + "/absent"},
			Roots{"/home/u/.config/creel", "/home/u/.local/state/creel", sockets, "/home/u/.config/openshell"}, ""},
		{"XDG", xdg, Roots{"/x/config/creel", "/x/state/creel", dir + "/creel", "/x/config/openshell"}, ""},
		{"relative XDG values are ignored", map[string]string{"HOME": "/home/u", "XDG_CONFIG_HOME": "c", "XDG_STATE_HOME": "s", "XDG_RUNTIME_DIR": "r"},
			Roots{"/home/u/.config/creel", "/home/u/.local/state/creel", sockets, "/home/u/.config/openshell"}, ""},
		{"a run directory that is not there", map[string]string{"HOME": "/home/u", "XDG_RUNTIME_DIR": dir + "/absent"},
			Roots{"/home/u/.config/creel", "/home/u/.local/state/creel", sockets, "/home/u/.config/openshell"}, ""},
		{"CREEL_HOME", map[string]string{"CREEL_HOME": "/c", "HOME": "/home/u"},
			Roots{"/c/config", "/c/state", "/c/run", "/c/config/openshell"}, ""},
		{"CREEL_HOME beside XDG", map[string]string{"CREEL_HOME": "/c", "XDG_CONFIG_HOME": "/x/config"},
			Roots{"/c/config", "/c/state", "/c/run", "/x/config/openshell"}, ""},
		{"CREEL_HOME is a file", map[string]string{"CREEL_HOME": file}, Roots{}, "is not a directory"},
		{"nothing", nil, Roots{}, "HOME names a directory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := RootsFrom(func(n string) string { return c.env[n] })
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error = %v, want one with %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
	if _, err := RootsFrom(func(n string) string { return map[string]string{"CREEL_HOME": file}[n] }); !errors.As(err, new(*NotDirectory)) {
		t.Errorf("error = %T, want *NotDirectory", err)
	}
}

// Whoever runs a command as a user finds the same directory for sockets, with a
// login session or without; root's session has none that lasts.
func TestRuntimeDir(t *testing.T) {
	dir := t.TempDir()
	link, open := filepath.Join(dir, "link"), filepath.Join(dir, "open")
	err := errors.Join(os.Mkdir(open, 0o700), os.Chmod(open, 0o777), os.Symlink(dir, link), os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	there := sessionDir()
	for _, c := range []struct {
		name, env string
		uid       int
		want      string
	}{
		{"session", dir, os.Geteuid(), dir},
		{"root's own", "/run/user/0/", 0, ""},
		{"another user's", dir, os.Geteuid() + 1<<28, ""},
		{"others may write there", open, os.Geteuid(), there},
		{"a link to it that is one's own", link, os.Geteuid(), link},
		{"relative", "r", 1 << 29, ""},
		{"absent", dir + "/absent", os.Geteuid(), there},
		{"a file", dir + "/file", os.Geteuid(), there},
		{"nobody said, and nobody has one", "", 1 << 29, ""},
	} {
		if got := runtimeDir(func(string) string { return c.env }, c.uid); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	if got := runtimeDir(func(string) string { return "" }, os.Geteuid()); got != there {
		t.Errorf("nobody said: %q, want %q", got, there)
	}
}

// sessionDir is where this user's login sessions keep sockets, "" without one.
func sessionDir() string {
	usual := fmt.Sprintf("/run/user/%d", os.Geteuid())
	if fi, err := os.Stat(usual); os.Geteuid() == 0 || err != nil || !fi.IsDir() {
		return ""
	}
	return usual
}

func TestGatewayNames(t *testing.T) {
	root := t.TempDir()
	r := Roots{Config: root + "/config", State: root + "/state"}
	if names, err := r.GatewayNames(); len(names) != 0 || err != nil {
		t.Errorf("nowhere: %q, %v", names, err)
	}
	for _, dir := range []string{r.DesiredFiles(), r.Gateway("both").Dir(), r.Gateway("state-only").Dir()} {
		if err := MkdirAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{r.Gateway("both").Desired(), r.Gateway("wanted-only").Desired(), r.DesiredFiles() + "/.both.yaml.tmp-1",
		r.DesiredFiles() + "/notes.txt", r.State + "/gateways/a-file"} {
		if err := os.WriteFile(file, []byte("not: [yaml"), FileMode); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"both", "state-only", "wanted-only"}
	if names, err := r.GatewayNames(); err != nil || cmp.Diff(want, names) != "" {
		t.Errorf("%q, %v", names, err)
	}
	// What cannot be listed is not taken for nothing.
	if err := os.Rename(r.State+"/gateways", r.State+"/moved"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.State+"/gateways", nil, FileMode); err != nil {
		t.Fatal(err)
	}
	if names, err := r.GatewayNames(); err == nil || cmp.Diff([]string{"both", "wanted-only"}, names) != "" {
		t.Errorf("%q, %v", names, err)
	}
}

// Two gateways, and two sandboxes of one, share no file.
func TestPathsAreDisjoint(t *testing.T) {
	r := Roots{Config: "/c", State: "/s", Run: "/r", OpenShell: "/o"}
	a, b := r.Gateway("a"), r.Gateway("b")
	paths := func(g Gateway) []string {
		return []string{g.Desired(), g.Dir(), g.RunDir(), g.Lock(), g.Marker(), g.Journal(), g.Database(), g.Log(), g.Socket(), g.Registration(),
			g.Sandboxes(), g.Sandbox("1").Workspace(), g.Sandbox("2").Workspace(), g.Sandbox("1").Log(AgentLogFile)}
	}
	seen := map[string]bool{}
	for _, p := range append(paths(a), paths(b)...) {
		if seen[p] {
			t.Errorf("%s is used twice", p)
		}
		seen[p] = true
	}
}

func TestCheckSocketPath(t *testing.T) {
	if err := CheckSocketPath(strings.Repeat("x", MaxSocketPath)); err != nil {
		t.Error(err)
	}
	if err := CheckSocketPath(strings.Repeat("x", MaxSocketPath+1)); err == nil || !strings.Contains(err.Error(), "CREEL_HOME") {
		t.Errorf("error = %v, want one that names what to change", err)
	}
}

// entries are the names in a directory: what a write leaves behind shows here.
func entries(t *testing.T, dir string) []string {
	t.Helper()
	es, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range es {
		names = append(names, e.Name())
	}
	return names
}

func TestWriteFileReplaces(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, content := range []string{"first", "", "a longer second"} {
		if err := WriteFile(path, []byte(content), FileMode); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != content {
			t.Errorf("read %q, %v; want %q", got, err, content)
		}
	}
	fi, err := os.Stat(path)
	if err != nil || fi.Mode().Perm() != FileMode {
		t.Errorf("mode = %v, %v", fi.Mode(), err)
	}
	if d := cmp.Diff([]string{"file"}, entries(t, dir)); d != "" {
		t.Error(d)
	}
	// What cannot be replaced stays, and nothing is left beside it.
	if err := os.Mkdir(filepath.Join(dir, "directory"), DirMode); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(filepath.Join(dir, "directory"), []byte("x"), FileMode); err == nil {
		t.Error("a directory was replaced by a file")
	}
	if d := cmp.Diff([]string{"directory", "file"}, entries(t, dir)); d != "" {
		t.Error(d)
	}
	if err := WriteFile(filepath.Join(dir, "absent", "file"), nil, FileMode); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("write into an absent directory = %v", err)
	}
}

// A reader sees one whole content or another, never a mixture.
func TestWriteFileIsAtomic(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	contents := [][]byte{bytes.Repeat([]byte("a"), 100_000), bytes.Repeat([]byte("b"), 50_000)}
	if err := WriteFile(path, contents[0], FileMode); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		for {
			got, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(got, contents[0]) && !bytes.Equal(got, contents[1]) {
				t.Errorf("a reader saw %d bytes, %v", len(got), err)
				return
			}
			select {
			case <-done:
				return
			default:
			}
		}
	})
	for i := range 50 {
		if err := WriteFile(path, contents[i%2], FileMode); err != nil {
			t.Error(err)
		}
	}
	close(done)
	wg.Wait()
}

func TestCreateFileNeverReplaces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := CreateFile(path, []byte("first"), FileMode); err != nil {
		t.Fatal(err)
	}
	if err := CreateFile(path, []byte("second"), FileMode); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second creation = %v, want fs.ErrExist", err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "first" {
		t.Errorf("content = %q, %v", got, err)
	}
	for range 2 {
		if err := RemoveIfExists(path); err != nil {
			t.Error(err)
		}
	}
}

func TestReadSmall(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for size, small := range map[int]bool{0: true, 64 << 10: true, 64<<10 + 1: false} {
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := ReadSmall(path)
		if small && (err != nil || len(b) != size) || !small && (err == nil || !strings.Contains(err.Error(), path)) {
			t.Errorf("%d bytes: %d, %v", size, len(b), err)
		}
	}
	if _, err := ReadSmall(path + ".none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}
