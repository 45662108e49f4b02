package launch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// followAgain is how often a followed log is looked at.
const followAgain = 100 * time.Millisecond

// LogFiles is how many files a rotated log has: gateway.log, gateway.log.1, gateway.log.2.
const LogFiles = 3

// LogBytes is the size from which on a log is rotated.
const LogBytes = 10 << 20

// RotateLog rotates a log that is full, before a process appends to it that knows
// nothing of rotation.
func RotateLog(path string) {
	fi, err := os.Stat(path)
	if err != nil || fi.Size() < LogBytes {
		return
	}
	for n := LogFiles - 1; n > 1; n-- {
		_ = os.Rename(Rotated(path, n-1), Rotated(path, n))
	}
	_ = os.Rename(path, Rotated(path, 1))
}

// Rotated is the n-th rotated file of a log.
func Rotated(path string, n int) string { return fmt.Sprintf("%s.%d", path, n) }

// ReadLog writes the last lines of a log that is rotated as the daemon's is, from
// its files; lines 0 means all. With follow it goes on until ctx ends, which is no
// error, and waits for a log that does not exist yet.
func ReadLog(ctx context.Context, w io.Writer, path string, lines int, follow bool) error {
	f, err := os.Open(path)
	switch {
	case errors.Is(err, os.ErrNotExist) && follow: // it will come
	case err != nil:
		return fmt.Errorf("read log: %w", err)
	default:
		if err := tail(w, path, f, lines); err != nil {
			_ = f.Close()
			return fmt.Errorf("read log: %w", err)
		}
	}
	if !follow {
		return f.Close()
	}
	return followLog(ctx, w, path, f)
}

// tail writes the last lines of the log and leaves f at its end. 0 means all.
func tail(w io.Writer, path string, f *os.File, lines int) error {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	offset, found, err := lineOffset(f, end, lines)
	if err != nil {
		return err
	}
	if lines == 0 || found < lines {
		if err := tailRotated(w, path, 1, max(lines-found, 0), lines == 0); err != nil {
			return err
		}
	}
	_, err = io.Copy(w, io.NewSectionReader(f, offset, end-offset))
	return err
}

// tailRotated writes the last lines of the n-th rotated file, after those of the
// older ones that are still needed.
func tailRotated(w io.Writer, path string, n, lines int, all bool) error {
	if n >= LogFiles {
		return nil
	}
	f, err := os.Open(Rotated(path, n))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	wanted := lines
	if all {
		wanted = 0
	}
	offset, found, err := lineOffset(f, end, wanted)
	if err != nil {
		return err
	}
	if all || found < lines {
		if err := tailRotated(w, path, n+1, max(lines-found, 0), all); err != nil {
			return err
		}
	}
	_, err = io.Copy(w, io.NewSectionReader(f, offset, end-offset))
	return err
}

// lineOffset finds where the last lines of the first end bytes begin, reading
// backwards, and how many there are up to that number. 0 lines means all and is
// not counted.
func lineOffset(r io.ReaderAt, end int64, lines int) (offset int64, found int, err error) {
	if lines <= 0 || end == 0 {
		return 0, 0, nil
	}
	const block = 32 << 10
	buf := make([]byte, block)
	at := end
	// A line break at the very end closes the last line; one more break than
	// lines is looked for.
	for at > 0 {
		n := min(block, at)
		at -= n
		b := buf[:n]
		if _, err := r.ReadAt(b, at); err != nil && !errors.Is(err, io.EOF) {
			return 0, 0, err
		}
		for {
			i := bytes.LastIndexByte(b, '\n')
			if i < 0 {
				break
			}
			if at+int64(i) != end-1 {
				found++
				if found == lines {
					return at + int64(i) + 1, found, nil
				}
			}
			b = b[:i]
		}
	}
	return 0, found + 1, nil // the first line has no break before it
}

// followLog copies what is appended. When the name leads to another file the old
// one is first read to its end.
func followLog(ctx context.Context, w io.Writer, path string, f *os.File) error {
	defer func() {
		if f != nil {
			_ = f.Close()
		}
	}()
	t := time.NewTicker(followAgain)
	defer t.Stop()
	for {
		next, err := follower(path, f)
		if err != nil {
			return fmt.Errorf("follow log: %w", err)
		}
		if f != nil {
			// Read after looking at the name: what was written before the rotation
			// is all there now.
			if _, err := io.Copy(w, f); err != nil {
				return fmt.Errorf("follow log: %w", err)
			}
		}
		if next != nil {
			if f != nil {
				_ = f.Close()
			}
			f = next
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// follower opens the file at path when it is another one than f; nil when it is
// the same or there is none at the moment.
func follower(path string, f *os.File) (*os.File, error) {
	now, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if f != nil {
		was, err := f.Stat()
		if err != nil {
			return nil, err
		}
		if os.SameFile(was, now) {
			return nil, nil
		}
	}
	next, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return next, err
}
