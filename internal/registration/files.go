package registration

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"creel/internal/state"
)

// maxFile is larger than any file of a registration.
const maxFile = 1 << 20

// errOther is in the chain when something is there that is no plain file or
// directory: Creel never makes such a thing, so it is somebody else's.
var errOther = errors.New("is not what Creel writes")

// readFile reads a regular file without following a link.
func readFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("%s is a symbolic link: %w", path, errOther)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return nil, fmt.Errorf("%s is no file of at most %d bytes: %w", path, maxFile, errOther)
	}
	return io.ReadAll(io.LimitReader(f, maxFile))
}

// checkDirectory accepts a real directory, and nothing at all with fs.ErrNotExist.
func checkDirectory(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is no directory: %w", path, errOther)
	}
	return nil
}

// found is what is in a registration's directory.
type found struct {
	exists bool
	empty  bool              // nothing at all is in it, or it does not exist
	files  map[string][]byte // by name; an absent file is absent
}

// look reads a registration's files. An error wraps errOther when what is there
// cannot be Creel's, and is something else when it could not be determined.
func look(dir string) (found, error) {
	f := found{files: map[string][]byte{}, empty: true}
	switch err := checkDirectory(dir); {
	case errors.Is(err, fs.ErrNotExist):
		return f, nil
	case err != nil:
		return f, err
	}
	f.exists = true
	entries, err := os.ReadDir(dir)
	if err != nil {
		return f, err
	}
	f.empty = len(entries) == 0
	mtls := filepath.Join(dir, state.MTLSDir)
	if err := checkDirectory(mtls); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	for _, name := range names() {
		content, err := readFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return f, err
		}
		f.files[name] = content
	}
	return f, nil
}

// ours reports whether what was found is Creel's own: the record names the
// directory, and of the files that are there at least one holds what Creel
// wrote. One damaged file leaves a registration ours; another gateway's
// registration in the same place shares no file with it.
func (r record) ours(dir string, f found) bool {
	if r.Directory != dir {
		return false
	}
	for name, content := range f.files {
		if r.knows(name, content) {
			return true
		}
	}
	return len(f.files) == 0
}

// readActive returns the name of the active gateway, empty when none is set.
func readActive(path string) (string, error) {
	content, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(content)), nil
}

// missingDirectories lists those of path and its parents that do not exist,
// parents first.
func missingDirectories(path string) []string {
	var missing []string
	for ; ; path = filepath.Dir(path) {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) || path == filepath.Dir(path) {
			return missing
		}
		missing = append([]string{path}, missing...)
	}
}
