package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Untrusted is the error of a path that somebody else could change: they could put
// programs and sockets of their own where Creel looks for its own.
type Untrusted struct {
	Path  string // the file or directory that somebody else owns or may write to
	Owner int    // its user id
	Mine  bool   // Path is Creel's own, and nobody else's files lie in it
	Write bool   // the owner is right, and others may write there
}

// Error says what is wrong with which directory.
func (u *Untrusted) Error() string {
	if u.Write {
		return fmt.Sprintf("%s can be written to by other users", u.Path)
	}
	return fmt.Sprintf("%s belongs to user %d", u.Path, u.Owner)
}

// CheckOwners reports a directory of Creel's, or one on the way to one, that belongs
// neither to user uid nor to root, or in which others may write, as an *Untrusted.
// What does not exist yet is no fault, and neither is a directory such as /tmp, where
// nobody can rename what is another's.
func (r Roots) CheckOwners(uid int) error {
	own := []string{r.Config, r.State, r.Run, r.OpenShell}
	if home := filepath.Dir(r.State); home == filepath.Dir(r.Config) && home == filepath.Dir(r.Run) {
		own = append(own, home) // CREEL_HOME
	}
	for _, path := range []string{r.Config, r.State, r.Run, r.OpenShell, r.DesiredFiles(), r.Versions(), filepath.Join(r.State, GatewaysDir), filepath.Join(r.Run, GatewaysDir)} {
		err := checkPath(path, uid)
		if u := new(Untrusted); errors.As(err, &u) {
			u.Mine = slices.ContainsFunc(own, func(dir string) bool { return u.Path == dir || strings.HasPrefix(u.Path, dir+"/") })
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// mostLinks is how many symbolic links are followed, as in the kernel.
const mostLinks = 40

// checkPath looks at every component of an absolute path, of symbolic links at the
// link and at what it leads to.
func checkPath(path string, uid int) error {
	trusted := []int{0, uid}
	if fi, err := os.Lstat("/"); err == nil {
		// Whoever owns the root directory can do as they like: in a user namespace that
		// is a user without a number.
		trusted = append(trusted, owner(fi))
	}
	at, rest := "/", split(path)
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		if name == ".." {
			at = filepath.Dir(at)
			continue
		}
		at = filepath.Join(at, name)
		fi, err := os.Lstat(at)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return fmt.Errorf("ask whose %s is: %w", at, err)
		}
		if err := checkFile(at, fi, uid, trusted, len(rest) == 0); err != nil {
			return err
		}
		if fi.Mode()&fs.ModeSymlink == 0 {
			continue
		}
		if links++; links > mostLinks {
			return fmt.Errorf("ask whose %s is: %w", path, syscall.ELOOP)
		}
		to, err := os.Readlink(at)
		if err != nil {
			return fmt.Errorf("ask whose %s is: %w", at, err)
		}
		if at = filepath.Dir(at); filepath.IsAbs(to) {
			at = "/"
		}
		rest = append(split(to), rest...)
	}
	return nil
}

// split is the components of a path; a link's may lead up.
func split(path string) []string {
	return slices.DeleteFunc(strings.Split(path, "/"), func(name string) bool { return name == "" || name == "." })
}

// checkFile judges one component; last is the directory itself, in which others may
// not even make files of their own.
func checkFile(path string, fi fs.FileInfo, uid int, trusted []int, last bool) error {
	if !slices.Contains(trusted, owner(fi)) {
		return &Untrusted{Path: path, Owner: owner(fi)}
	}
	if fi.Mode()&fs.ModeSymlink != 0 || !othersWrite(fi, uid) || fi.Mode()&fs.ModeSticky != 0 && !last {
		return nil
	}
	return &Untrusted{Path: path, Owner: owner(fi), Write: true}
}

// othersWrite reports that users beside the owner, root and uid may write to a
// file. The group of an ordinary user with the user's own number is the user alone.
func othersWrite(fi fs.FileInfo, uid int) bool {
	private := uid != 0 && group(fi) == uid
	return fi.Mode()&0o002 != 0 || fi.Mode()&0o020 != 0 && !private
}

func owner(fi fs.FileInfo) int { return int(fi.Sys().(*syscall.Stat_t).Uid) }
func group(fi fs.FileInfo) int { return int(fi.Sys().(*syscall.Stat_t).Gid) }
