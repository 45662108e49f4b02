package ladder

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"creel/internal/advisory"
	"creel/internal/state"
)

// Kind says what a journal entry records.
type Kind string

// The kinds of entries.
const (
	KindRunStarted Kind = "run-started"
	KindIntent     Kind = "intent"  // written before an action
	KindOutcome    Kind = "outcome" // written after it
	KindRunEnded   Kind = "run-ended"
)

// journalVersion is the version of the entries that this program writes.
const journalVersion = 1

// compactAt is the size in bytes from which a journal is cut to its last runs.
const compactAt = 1 << 20

// Entry is one line of the journal. It never holds a secret: actions name what
// they do, not with what.
type Entry struct {
	Version int       `json:"version"`
	Seq     int64     `json:"seq"`
	At      time.Time `json:"at"`
	Run     string    `json:"run"`
	Kind    Kind      `json:"kind"`
	Layer   string    `json:"layer,omitempty"`
	Subject string    `json:"subject,omitempty"`
	Action  string    `json:"action,omitempty"`
	OK      bool      `json:"ok,omitempty"`
	Error   string    `json:"error,omitempty"`
}

// Journal is the append-only record of what was intended and what came of it.
// It explains a run; it never decides anything.
type Journal struct {
	path  string
	after func(Entry)
	now   func() time.Time

	mu   sync.Mutex
	file *os.File
	seq  int64
	size int64 // of the whole entries
}

// ReadJournal returns the entries of the journal at path, oldest first. A torn
// last line, the trace of a crash while writing, is left out; an absent file has
// no entries. A line in the middle that is no entry is an error that names it,
// and so is an entry of a newer version.
func ReadJournal(path string) ([]Entry, error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, advisory.New("journal-unreadable", "read journal", err)
	}
	entries, _, err := parseJournal(path, content)
	return entries, err
}

// parseJournal returns the entries and the length in bytes of the part that
// holds them.
func parseJournal(path string, content []byte) (entries []Entry, good int, err error) {
	for line := 1; good < len(content); line++ {
		end := bytes.IndexByte(content[good:], '\n')
		if end < 0 {
			return entries, good, nil // torn: the newline is written last
		}
		raw := content[good : good+end]
		last := good+end+1 == len(content)
		var e Entry
		err := json.Unmarshal(raw, &e)
		if err == nil && (e.Version < 1 || e.Kind == "" || e.Run == "") {
			err = errors.New("version, kind or run is missing")
		}
		switch {
		case err != nil && last:
			return entries, good, nil
		case err != nil:
			return entries, good, advisory.New("journal-corrupt", fmt.Sprintf("%s, line %d is not an entry", path, line), err)
		case e.Version > journalVersion:
			return entries, good, advisory.New("journal-newer", fmt.Sprintf("%s, line %d has version %d, this program reads %d", path, line, e.Version, journalVersion), nil)
		}
		entries = append(entries, e)
		good += end + 1
	}
	return entries, good, nil
}

// OpenJournal opens the journal for appending, cutting off a torn last line. A
// corrupt journal is set aside under a name that ends in ".corrupt" and a new
// one is begun: it must not keep anything from being mended. A newer version is
// refused. after, which may be nil, is called when an entry is on disk.
func OpenJournal(path string, after func(Entry)) (*Journal, error) {
	if err := state.MkdirAll(filepath.Dir(path)); err != nil {
		return nil, unwritable(err)
	}
	content, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, advisory.New("journal-unreadable", "read journal", err)
	}
	entries, good, err := parseJournal(path, content)
	if p, _ := advisory.Of(err); p != nil && p.ID == "journal-corrupt" {
		if err := os.Rename(path, path+".corrupt"); err != nil {
			return nil, unwritable(err)
		}
		entries, good = nil, 0
	} else if err != nil {
		return nil, err
	}
	if good > compactAt {
		kept := lastRuns(entries, compactAt/4)
		if err := state.WriteFile(path, encode(kept), state.FileMode); err != nil {
			return nil, unwritable(err)
		}
		good = len(encode(kept))
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, state.FileMode)
	if err != nil {
		return nil, unwritable(err)
	}
	j := &Journal{path: path, file: f, after: after, now: time.Now, size: int64(good)}
	if err := errors.Join(j.rewind(), state.SyncDir(filepath.Dir(path))); err != nil {
		return nil, errors.Join(unwritable(err), f.Close())
	}
	if n := len(entries); n > 0 {
		j.seq = entries[n-1].Seq
	}
	return j, nil
}

// rewind cuts off what follows the last whole entry.
func (j *Journal) rewind() error {
	if err := j.file.Truncate(j.size); err != nil {
		return err
	}
	_, err := j.file.Seek(j.size, io.SeekStart)
	return err
}

// lastRuns keeps whole runs from the end, up to about size bytes and at least
// the last run.
func lastRuns(entries []Entry, size int) []Entry {
	from, total := len(entries), 0
	for i := len(entries) - 1; i >= 0; i-- {
		total += len(encode(entries[i : i+1]))
		if entries[i].Kind == KindRunStarted {
			if total > size && from < len(entries) {
				break
			}
			from = i
		}
	}
	return entries[from:]
}

func encode(entries []Entry) []byte {
	var b bytes.Buffer
	for _, e := range entries {
		line, err := json.Marshal(e)
		if err != nil {
			panic(err) // plain strings and numbers
		}
		b.Write(line)
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// Append writes e, numbered and dated, and returns when it is on disk. An entry
// that could not be written whole leaves no trace.
func (j *Journal) Append(e Entry) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	e.Version, e.Seq, e.At = journalVersion, j.seq+1, j.now().UTC()
	line := encode([]Entry{e})
	_, err := j.file.Write(line)
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		return unwritable(errors.Join(err, j.rewind()))
	}
	j.seq, j.size = e.Seq, j.size+int64(len(line))
	if j.after != nil {
		j.after(e)
	}
	return nil
}

// Close closes the file.
func (j *Journal) Close() error { return j.file.Close() }

func unwritable(err error) error { return advisory.New("state-unwritable", "write journal", err) }

// Unfinished returns the last run that began and did not end well, and whether
// there is one.
func Unfinished(entries []Entry) (run string, ok bool) {
	for _, e := range entries {
		switch e.Kind {
		case KindRunStarted:
			run, ok = e.Run, true
		case KindRunEnded:
			if e.Run == run && e.OK {
				ok = false
			}
		}
	}
	return run, ok
}
