package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/gofrs/flock"
)

// Holder is what a lock's file says about who holds it. It is only for the
// message: the kernel's lock decides.
type Holder struct {
	PID     int       `json:"pid"`
	Command string    `json:"command"`
	Since   time.Time `json:"since"`
}

// Busy is the error of a lock that another process holds.
type Busy struct {
	Path   string
	Holder Holder // zero when the file does not say
}

// Error names the holder.
func (b *Busy) Error() string {
	if b.Holder.PID == 0 {
		return fmt.Sprintf("%s is locked by another process", b.Path)
	}
	return fmt.Sprintf("%s is locked by %q (pid %d, since %s)", b.Path, b.Holder.Command, b.Holder.PID,
		b.Holder.Since.Format(time.RFC3339))
}

// Lock is a held flock. It ends with the process that holds it, however that
// ends.
type Lock struct{ fl *flock.Flock }

// TryLock takes the lock at path or returns *Busy at once. Missing directories
// are made.
func TryLock(path, command string) (*Lock, error) {
	if err := MkdirAll(filepath.Dir(path)); err != nil {
		return nil, err
	}
	fl := flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(FileMode))
	ok, err := tryExclusive(fl)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if !ok {
		return nil, &Busy{Path: path, Holder: readHolder(path)}
	}
	h, err := json.Marshal(Holder{PID: os.Getpid(), Command: command, Since: time.Now().UTC()})
	if err == nil {
		err = os.WriteFile(path, append(h, '\n'), FileMode)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("write lock %s: %w", path, err), fl.Unlock())
	}
	return &Lock{fl: fl}, nil
}

// tryExclusive takes the lock exclusively or says that somebody holds it. Who
// asks with Held has a shared lock for some microseconds: that is not holding it,
// so where a shared lock can be had the question is put again.
func tryExclusive(fl *flock.Flock) (bool, error) {
	for deadline := time.Now().Add(askersGone); ; {
		if ok, err := fl.TryLock(); ok || err != nil {
			return ok, err
		}
		shared, err := fl.TryRLock()
		if err != nil || !shared {
			return false, err
		}
		if err := fl.Unlock(); err != nil {
			return false, err
		}
		if time.Now().After(deadline) {
			return false, nil
		}
		runtime.Gosched()
	}
}

// askersGone is much longer than anybody's asking takes.
const askersGone = 200 * time.Millisecond

// Held reports whether some process holds the lock at path, without taking it
// for longer than the question. A missing file is not held.
func Held(path string) (bool, Holder, error) {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return false, Holder{}, nil
	}
	fl := flock.New(path, flock.SetFlag(os.O_RDONLY))
	ok, err := fl.TryRLock()
	if err != nil {
		return false, Holder{}, fmt.Errorf("ask lock %s: %w", path, err)
	}
	if ok {
		return false, Holder{}, fl.Unlock()
	}
	return true, readHolder(path), nil
}

// Unlock gives the lock back. The file stays: removing it would race with the
// next holder.
func (l *Lock) Unlock() error { return l.fl.Unlock() }

func readHolder(path string) Holder {
	b, err := os.ReadFile(path)
	if err != nil {
		return Holder{}
	}
	var h Holder
	if json.Unmarshal(bytes.TrimSpace(b), &h) != nil {
		return Holder{}
	}
	return h
}
