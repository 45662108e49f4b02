package state

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Draft is a file that becomes another when it is complete, written to as any
// file. It lies beside that other under a name of its own and is locked for as
// long as its writer lives: what is not locked was left by a writer that was
// killed, and may be swept by anybody at any time.
type Draft struct {
	*os.File
	path string
	// lock is an open file of its own, so that the draft can be closed for writing
	// before it gets its name: an executable that is open for writing cannot run.
	lock *os.File
}

// draftMark stands between the name of the file that a draft becomes and a number.
const draftMark = ".tmp-"

func draftPrefix(path string) string { return "." + filepath.Base(path) + draftMark }

// NewDraft begins a file that becomes path, whose directory must exist. What
// killed writers of path left is swept first.
func NewDraft(path string, mode fs.FileMode) (*Draft, error) {
	_ = Sweep(path) // what cannot be removed does no harm here
	for {
		f, err := os.CreateTemp(filepath.Dir(path), draftPrefix(path))
		if err != nil {
			return nil, err
		}
		lock, err := lockDraft(f)
		if err == nil {
			err = f.Chmod(mode)
		}
		d := &Draft{File: f, path: path, lock: lock}
		switch {
		case err != nil:
			d.Discard()
			return nil, err
		case lock == nil: // somebody swept it before it could be locked
			_ = f.Close()
			continue
		}
		return d, nil
	}
}

// lockDraft locks a draft that was just made. nil means that it is gone. Where
// the file system has no locks the draft is not locked, and nobody can sweep.
func lockDraft(f *os.File) (*os.File, error) {
	lock, err := os.Open(f.Name())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	_ = flockRetry(lock, syscall.LOCK_EX) // a sweeper holds it for microseconds
	ours, err := f.Stat()
	if err != nil {
		return lock, err
	}
	if there, err := os.Lstat(f.Name()); err != nil || !os.SameFile(ours, there) {
		_ = lock.Close()
		return nil, nil //nolint:nilerr // it is gone
	}
	return lock, nil
}

func flockRetry(f *os.File, how int) error {
	for {
		if err := syscall.Flock(int(f.Fd()), how); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// Commit gives the draft its name, replacing what had it, durably but for the
// content: whoever needs that on disk syncs before. The draft is closed in any
// case, and gone when this fails.
func (d *Draft) Commit() error {
	return d.finish(func() error { return os.Rename(d.Name(), d.path) })
}

// commitNew is Commit, but fs.ErrExist when the name is taken.
func (d *Draft) commitNew() error {
	return d.finish(func() error {
		if err := os.Link(d.Name(), d.path); err != nil {
			return err
		}
		return os.Remove(d.Name())
	})
}

func (d *Draft) finish(rename func() error) error {
	err := d.Close()
	if err == nil {
		err = rename()
	}
	if err != nil {
		d.Discard()
		return err
	}
	return errors.Join(d.lock.Close(), SyncDir(filepath.Dir(d.path)))
}

// Discard removes the draft.
func (d *Draft) Discard() {
	_ = d.Close()
	_ = os.Remove(d.Name())
	if d.lock != nil {
		_ = d.lock.Close()
	}
}

// Sweep removes the drafts of path that killed writers left. Those of writers
// that live stay.
func Sweep(path string) error {
	return sweep(filepath.Dir(path), func(name string) bool { return isDraft(name, draftPrefix(path)) })
}

// SweepGateway removes what killed writers left anywhere among the files of one
// gateway, but for what its agents have: those files are theirs.
func SweepGateway(g Gateway) error {
	tls := g.File(TLSDir)
	dirs := []string{g.Dir(), tls, filepath.Join(tls, ServerDir), filepath.Join(tls, ClientDir), g.File(JWTDir)}
	problems := []error{Sweep(g.Desired())}
	for _, parent := range []string{g.File(BackupDir), g.Sandboxes()} {
		entries, err := os.ReadDir(parent)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			problems = append(problems, err)
		}
		for _, e := range entries {
			if e.IsDir() {
				dirs = append(dirs, filepath.Join(parent, e.Name()))
			}
		}
	}
	for _, dir := range dirs {
		problems = append(problems, sweep(dir, func(name string) bool {
			i := strings.LastIndex(name, draftMark)
			return i > 1 && isDraft(name, name[:i]+draftMark)
		}))
	}
	return errors.Join(problems...)
}

// isDraft tells drafts from whatever else begins with a dot.
func isDraft(name, prefix string) bool {
	number, ok := strings.CutPrefix(name, prefix)
	return ok && name[0] == '.' && number != "" && strings.Trim(number, "0123456789") == ""
}

func sweep(dir string, left func(name string) bool) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	problems := []error{err}
	for _, e := range entries {
		if e.Type().IsRegular() && left(e.Name()) {
			problems = append(problems, sweepOne(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(problems...)
}

// sweepOne removes a draft unless its writer holds it. A writer that has made it
// and not locked it yet finds it gone and makes another.
func sweepOne(path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if flockRetry(f, syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		return nil // its writer lives, or there are no locks here
	}
	return RemoveIfExists(path)
}
