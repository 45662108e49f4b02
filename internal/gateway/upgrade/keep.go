package upgrade

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"creel/internal/state"
)

// Files are what a gateway writes below its directory, and what is put back when it
// did not come up.
type Files struct {
	// Databases are SQLite databases; what SQLite keeps beside them belongs to them.
	Databases []string
	// Plain are other files.
	Plain []string
	// Patterns are files in directories that are not a gateway's alone, as
	// "sandboxes/*/handle.json". Those that were there are put back where their
	// directory still is.
	Patterns []string
}

// names are the files that are a gateway's alone.
func (f Files) names() []string {
	names := slices.Clone(f.Plain)
	for _, db := range f.Databases {
		names = append(names, db, db+"-wal", db+"-journal")
	}
	return names
}

// keep copies the files of a gateway that has ended and returns their names. The
// log of a database is copied with it: one that ended in a hurry left its last
// writes there.
func keep(g state.Gateway, f Files) ([]string, error) {
	dir := kept(g)
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	if err := state.MkdirAll(dir); err != nil {
		return nil, err
	}
	names := f.names()
	for _, pattern := range f.Patterns {
		// Only the last part of a gateway's directory comes from a user, and that is a
		// checked name; the roots are joined after the match.
		found, err := fs.Glob(os.DirFS(g.Dir()), filepath.ToSlash(pattern))
		if err != nil {
			return nil, err
		}
		names = append(names, found...)
	}
	there := []string{}
	for _, name := range names {
		to := filepath.Join(dir, name)
		if err := state.MkdirAll(filepath.Dir(to)); err != nil {
			return nil, err
		}
		switch err := state.CopyFile(g.File(name), to, state.FileMode); {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return nil, fmt.Errorf("keep the old gateway's files: %w", err)
		}
		there = append(there, name)
	}
	return there, nil
}

// putBack makes the files what they were when they were kept. What the other
// gateway wrote is moved to upgrade/refused and stays there until the next upgrade.
// It may be repeated: what was kept stays.
func putBack(g state.Gateway, f Files, names []string) error {
	refused := filepath.Join(g.File(state.UpgradeDir), state.RefusedDir)
	for _, name := range f.names() {
		if err := setAside(g.File(name), filepath.Join(refused, name)); err != nil {
			return fmt.Errorf("set aside what the new gateway wrote: %w", err)
		}
	}
	for _, db := range f.Databases {
		// SQLite's index of the log of the database that is not there any more.
		if err := state.RemoveIfExists(g.File(db + "-shm")); err != nil {
			return err
		}
	}
	for _, name := range names {
		to := g.File(name)
		if _, err := os.Stat(filepath.Dir(to)); errors.Is(err, fs.ErrNotExist) {
			continue // a sandbox that has been deleted
		}
		if err := state.CopyFile(filepath.Join(kept(g), name), to, state.FileMode); err != nil {
			return fmt.Errorf("put back the old gateway's files: %w", err)
		}
	}
	return nil
}

// setAside moves a file, unless one of that name was moved before: then this one was
// put here by an attempt that was interrupted.
func setAside(from, to string) error {
	if _, err := os.Lstat(to); err == nil {
		return state.RemoveIfExists(from)
	}
	if err := state.MkdirAll(filepath.Dir(to)); err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// kept is where the old gateway's files are.
func kept(g state.Gateway) string { return filepath.Join(g.File(state.UpgradeDir), state.KeptDir) }

// OldProgram is where a runtime keeps the executable of a gateway that it is about to
// stop, when there is no better place.
func OldProgram(g state.Gateway) string {
	return filepath.Join(g.File(state.UpgradeDir), state.OldProgramFile)
}

// KeepProgram copies the executable that a process runs, even one that was replaced
// or removed on disk, to a path. The caller has identified the process.
func KeepProgram(pid int, path string) error {
	if err := state.MkdirAll(filepath.Dir(path)); err != nil {
		return err
	}
	if err := state.CopyFile(fmt.Sprintf("/proc/%d/exe", pid), path, programMode); err != nil {
		return fmt.Errorf("keep the executable of process %d: %w", pid, err)
	}
	return nil
}

const programMode = 0o700
