package state

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// Modes of everything Creel writes for itself.
const (
	DirMode  fs.FileMode = 0o700
	FileMode fs.FileMode = 0o600
)

// MkdirAll makes a directory and its parents with DirMode.
func MkdirAll(dir string) error { return os.MkdirAll(dir, DirMode) }

// WriteFile replaces path by content durably: a draft in the same directory,
// fsync, rename, fsync of the directory. A reader sees the old content or the new
// one. The directory must exist.
func WriteFile(path string, content []byte, mode fs.FileMode) error {
	d, err := written(path, content, mode)
	if err != nil {
		return err
	}
	return d.Commit()
}

// CreateFile writes a file that must not exist yet (fs.ErrExist otherwise), and
// is on disk when it returns. A reader sees no file or the whole content.
func CreateFile(path string, content []byte, mode fs.FileMode) error {
	d, err := written(path, content, mode)
	if err != nil {
		return err
	}
	return d.commitNew()
}

// written is a draft that holds content, on disk.
func written(path string, content []byte, mode fs.FileMode) (*Draft, error) {
	d, err := NewDraft(path, mode)
	if err != nil {
		return nil, err
	}
	_, err = d.Write(content)
	if err == nil {
		err = d.Sync()
	}
	if err != nil {
		d.Discard()
		return nil, err
	}
	return d, nil
}

// SyncDir makes renames and creations in dir durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// RemoveIfExists removes a file; its absence is fine.
func RemoveIfExists(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove: %w", err)
	}
	return nil
}

// maxSmall bounds what is read of a file that claims to be a small one of ours.
const maxSmall = 64 << 10

// ReadSmall reads a file of at most 64 KiB; a larger one is an error that names it
// (*fs.PathError).
func ReadSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxSmall+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxSmall {
		return nil, &fs.PathError{Op: "read", Path: path, Err: errors.New("file is too large")}
	}
	return b, nil
}
