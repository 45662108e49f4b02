package dirstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"creel/internal/bundle"
	"creel/internal/state"
)

// stampLayout sorts by time and needs no quoting anywhere.
const stampLayout = "20060102T150405Z"

// backUp keeps the files that a member has now. What was absent leaves nothing.
func (s *Store) backUp(w replacement, current bundle.Secret) error {
	if len(current.Data) == 0 {
		return nil
	}
	root := s.gateway.File(state.BackupDir)
	if err := state.MkdirAll(root); err != nil {
		return fmt.Errorf("create backup: %w", err)
	}
	dir, err := makeUnique(filepath.Join(root, time.Now().UTC().Format(stampLayout)+"-"+w.group.member))
	if err != nil {
		return fmt.Errorf("create backup: %w", err)
	}
	for _, f := range w.group.files {
		content, ok := current.Data[f.key]
		if !ok {
			continue
		}
		if err := state.CreateFile(filepath.Join(dir, f.key), content, state.FileMode); err != nil {
			return fmt.Errorf("write backup: %w", err)
		}
	}
	if err := state.SyncDir(root); err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	return nil
}

// makeUnique makes a directory that did not exist, with a number when the name
// is taken: two repairs in one second keep two backups.
func makeUnique(path string) (string, error) {
	for n := 1; ; n++ {
		name := path
		if n > 1 {
			name = fmt.Sprintf("%s-%d", path, n)
		}
		err := os.Mkdir(name, state.DirMode)
		if !errors.Is(err, fs.ErrExist) {
			return name, err
		}
	}
}
