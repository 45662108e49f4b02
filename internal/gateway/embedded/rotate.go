package embedded

import (
	"os"
	"sync"

	"creel/internal/gateway/launch"
	"creel/internal/state"
)

// The daemon's log: the current file and the rotated ones before it.
const (
	logBytes = launch.LogBytes
	logFiles = launch.LogFiles
)

func rotated(path string, n int) string { return launch.Rotated(path, n) }

// rotatingLog is an append-only file that is renamed when it is full. A record
// is never split over two files.
type rotatingLog struct {
	path  string
	limit int64
	// adopt is called with each new current file, so that the process's own
	// standard output and error follow.
	adopt func(*os.File) error

	mu   sync.Mutex
	f    *os.File
	size int64
}

func openLog(path string, limit int64, adopt func(*os.File) error) (*rotatingLog, error) {
	l := &rotatingLog{path: path, limit: limit, adopt: adopt}
	if err := l.open(); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *rotatingLog) open() error {
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, state.FileMode)
	if err != nil {
		return err
	}
	fi, err := f.Stat()
	if err == nil && l.adopt != nil {
		err = l.adopt(f)
	}
	if err != nil {
		_ = f.Close()
		return err
	}
	l.f, l.size = f, fi.Size()
	return nil
}

// Write appends a record. If rotating is not possible the log goes on in the
// file it has: too long is better than lost.
func (l *rotatingLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size > 0 && l.size+int64(len(b)) > l.limit {
		l.rotate()
	}
	n, err := l.f.Write(b)
	l.size += int64(n)
	return n, err
}

func (l *rotatingLog) rotate() {
	for n := logFiles - 1; n > 1; n-- {
		_ = os.Rename(rotated(l.path, n-1), rotated(l.path, n))
	}
	if err := os.Rename(l.path, rotated(l.path, 1)); err != nil {
		l.size = 0 // tried again after another limit's worth
		return
	}
	old := l.f
	if err := l.open(); err != nil {
		l.f = old
		_ = os.Rename(rotated(l.path, 1), l.path)
		l.size = 0
		return
	}
	_ = old.Close()
}

// Close closes the current file.
func (l *rotatingLog) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.f.Close()
}
