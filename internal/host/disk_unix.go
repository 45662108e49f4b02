//go:build unix

package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Disk is the space of a file system, in bytes.
type Disk struct {
	Path  string // the existing directory that was asked
	Free  uint64 // for this user
	Total uint64
	// InodesFree is 0 together with InodesTotal where the file system has none.
	InodesFree, InodesTotal uint64
}

// FreeDisk asks the file system that path is on, or will be on once it is made.
func FreeDisk(path string) (Disk, error) {
	dir, err := nearest(path)
	if err != nil {
		return Disk{}, err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return Disk{}, fmt.Errorf("ask free disk space of %s: %w", dir, err)
	}
	size := uint64(st.Bsize)
	return Disk{Path: dir, Free: uint64(st.Bavail) * size, Total: uint64(st.Blocks) * size,
		InodesFree: uint64(st.Ffree), InodesTotal: uint64(st.Files)}, nil
}

// CheckWritable reports why nothing could be written to dir; a directory that
// does not exist yet is judged by the nearest parent that does. Nothing stays
// behind, and nothing of another name is ever seen.
func CheckWritable(dir string) error {
	at, err := nearest(dir)
	if err != nil {
		return err
	}
	if fi, err := os.Stat(at); err != nil {
		return fmt.Errorf("check %s: %w", at, err)
	} else if !fi.IsDir() {
		return Explain(&fs.PathError{Op: "write to", Path: at, Err: unix.ENOTDIR}, at)
	}
	if err := tryWrite(at); err != nil {
		return Explain(fmt.Errorf("write to %s: %w", at, err), at)
	}
	return nil
}

// nearest is path or its nearest existing ancestor.
func nearest(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	for at := abs; ; at = filepath.Dir(at) {
		_, err := os.Stat(at)
		switch {
		case err == nil:
			return at, nil
		case errors.Is(err, fs.ErrNotExist) && at != filepath.Dir(at):
		case errors.Is(err, unix.ENOTDIR):
			// Something on the way is a file: name the file, not what is "below" it.
		default:
			return "", Explain(fmt.Errorf("look at %s: %w", at, err), at)
		}
	}
}
