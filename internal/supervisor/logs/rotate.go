package logs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"creel/internal/state"
)

// Rotation of the files: FileSize bytes in each of FileCount files, the newest
// without a number.
const (
	FileSize  = 5 << 20
	FileCount = 3
)

// File is a file that is replaced when it is full: NAME, NAME.1, NAME.2.
type File struct {
	path string
	size int64
	keep int

	mu      sync.Mutex
	file    *os.File
	written int64
}

// OpenFile opens or makes the file at path, and its directory.
func OpenFile(path string) (*File, error) {
	if err := state.MkdirAll(filepath.Dir(path)); err != nil {
		return nil, err
	}
	f := &File{path: path, size: FileSize, keep: FileCount}
	if err := f.open(); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *File) open() error {
	file, err := os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, state.FileMode)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return errors.Join(err, file.Close())
	}
	f.file, f.written = file, info.Size()
	return nil
}

// Write appends p, in a new file when the current one would grow too large. A
// failed rotation keeps the current file: a line too many is better than none.
func (f *File) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == nil {
		return 0, fs.ErrClosed
	}
	if f.written > 0 && f.written+int64(len(p)) > f.size {
		if err := f.rotate(); err != nil {
			return 0, fmt.Errorf("rotate %s: %w", filepath.Base(f.path), err)
		}
	}
	n, err := f.file.Write(p)
	f.written += int64(n)
	return n, err
}

func (f *File) rotate() error {
	for i := f.keep - 1; i > 0; i-- {
		from := f.path
		if i > 1 {
			from = fmt.Sprintf("%s.%d", f.path, i-1)
		}
		if err := os.Rename(from, fmt.Sprintf("%s.%d", f.path, i)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	old := f.file
	if err := f.open(); err != nil {
		return err // old stays open and in use, under its new name
	}
	return old.Close()
}

// Close closes the file; later writes fail.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == nil {
		return nil
	}
	err := f.file.Close()
	f.file = nil
	return err
}
