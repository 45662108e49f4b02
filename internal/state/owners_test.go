package state

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"creel/test/require"
)

// Who could rename a directory of Creel's could have root execute a program and talk
// to a socket of theirs.
func TestCheckOwners(t *testing.T) {
	const other = 65533
	me := os.Geteuid()
	mkdir := func(t *testing.T, path string, mode os.FileMode) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(path, 0o700), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
	}
	give := func(t *testing.T, path string, uid, gid int) {
		t.Helper()
		require.Feature(t, "root", me == 0, "run the tests as root: others cannot give files away")
		if err := os.Lchown(path, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name    string
		prepare func(t *testing.T, dir string)
		uid     int
		want    string // below dir; "" is no fault
		mine    bool
		write   bool
	}{
		{name: "nothing is there yet", prepare: func(*testing.T, string) {}, uid: me},
		{name: "all one's own", prepare: func(t *testing.T, dir string) { mkdir(t, dir+"/home/state/versions", 0o755) }, uid: me},
		{name: "another's home", prepare: func(t *testing.T, dir string) { mkdir(t, dir+"/home", 0o700); give(t, dir+"/home", other, 0) }, uid: me, want: "/home", mine: true},
		{name: "a directory above is another's", prepare: func(t *testing.T, dir string) { mkdir(t, dir+"/home/state", 0o700); give(t, dir, other, 0) }, uid: me, want: "/"},
		{name: "another's copies of the program", prepare: func(t *testing.T, dir string) {
			mkdir(t, dir+"/home/state/versions", 0o700)
			give(t, dir+"/home/state/versions", other, 0)
		}, uid: me, want: "/home/state/versions", mine: true},
		{name: "everybody may write", prepare: func(t *testing.T, dir string) { mkdir(t, dir+"/home/state", 0o777) }, uid: me, want: "/home/state", mine: true, write: true},
		{name: "a sticky directory on the way", prepare: func(t *testing.T, dir string) {
			mkdir(t, dir, os.ModeSticky|0o777)
			mkdir(t, dir+"/home/state", 0o700)
		}, uid: me},
		{name: "another's in a sticky one", prepare: func(t *testing.T, dir string) {
			mkdir(t, dir, os.ModeSticky|0o777)
			mkdir(t, dir+"/home", 0o700)
			give(t, dir+"/home", other, 0)
		}, uid: me, want: "/home", mine: true},
		{name: "a sticky directory itself", prepare: func(t *testing.T, dir string) { mkdir(t, dir+"/home/state", os.ModeSticky|0o777) }, uid: me, want: "/home/state", mine: true, write: true},
		{name: "a link to one's own", prepare: func(t *testing.T, dir string) {
			mkdir(t, dir+"/real", 0o700)
			if err := os.Symlink("other/../real", dir+"/home"); err != nil {
				t.Fatal(err)
			}
			mkdir(t, dir+"/other", 0o700)
		}, uid: me},
		{name: "a link to another's", prepare: func(t *testing.T, dir string) {
			mkdir(t, dir+"/real", 0o700)
			give(t, dir+"/real", other, 0)
			if err := os.Symlink(dir+"/real", dir+"/home"); err != nil {
				t.Fatal(err)
			}
		}, uid: me, want: "/real"},
		{name: "another's link to one's own", prepare: func(t *testing.T, dir string) {
			mkdir(t, dir+"/real", 0o700)
			if err := os.Symlink("real", dir+"/home"); err != nil {
				t.Fatal(err)
			}
			give(t, dir+"/home", other, 0)
		}, uid: me, want: "/home", mine: true},
		{name: "a link to itself", prepare: func(t *testing.T, dir string) {
			if err := os.Symlink("home", dir+"/home"); err != nil {
				t.Fatal(err)
			}
		}, uid: me, want: "?"},
		{name: "root's group may write", prepare: func(t *testing.T, dir string) { mkdir(t, dir+"/home", 0o770); give(t, dir+"/home", 0, 0) }, uid: 0, want: "/home", mine: true, write: true},
		{name: "a user's own group may write", prepare: func(t *testing.T, dir string) {
			mkdir(t, dir+"/home", 0o775)
			give(t, dir+"/home", other, other)
		}, uid: other},
		{name: "another group may write", prepare: func(t *testing.T, dir string) { mkdir(t, dir+"/home", 0o775); give(t, dir+"/home", other, 1) }, uid: other, want: "/home", mine: true, write: true},
		{name: "root's directories are good for all", prepare: func(t *testing.T, dir string) { mkdir(t, dir+"/home/state", 0o755); give(t, dir, 0, 0) }, uid: other},
	} {
		t.Run(c.name, func(t *testing.T) {
			top, err := filepath.EvalSymlinks(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(top, "d")
			mkdir(t, top, 0o755)
			mkdir(t, dir, 0o755)
			c.prepare(t, dir)
			roots, err := RootsFrom(func(name string) string { return map[string]string{"CREEL_HOME": dir + "/home"}[name] })
			if err != nil && c.want != "?" {
				t.Fatal(err)
			}
			err = roots.CheckOwners(c.uid)
			var u *Untrusted
			switch {
			case c.want == "?":
				if err == nil || errors.As(err, &u) {
					t.Errorf("%v, want an error that names nobody", err)
				}
			case c.want == "":
				if err != nil {
					t.Error(err)
				}
			case !errors.As(err, &u) || u.Path != filepath.Join(dir, c.want) || u.Mine != c.mine || u.Write != c.write:
				t.Errorf("%v (%+v), want one about %s", err, u, filepath.Join(dir, c.want))
			}
		})
	}
}
