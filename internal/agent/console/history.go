package console

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"creel/internal/state"
)

// Bounds of the conversation that is kept. The file may hold twice as many bytes
// before it is written anew.
const (
	maxEntries      = 400
	maxHistoryBytes = 1 << 20
	maxAnswer       = 512 << 10 // bytes of one answer
)

// The roles of an entry.
const (
	roleUser      = "user"
	roleAssistant = "assistant"
)

// The states of an answer; a complete one has none.
const (
	stateStopped = "stopped" // the user stopped it
	stateLength  = "length"  // the model's limit was reached
	stateFailed  = "failed"  // Error says why
)

// entry is one line of the history file: a question or its answer.
type entry struct {
	Role  string    `json:"role"`
	ID    string    `json:"id"` // the same for a question and its answer
	Text  string    `json:"text"`
	At    time.Time `json:"at"`
	State string    `json:"state,omitempty"`
	Model string    `json:"model,omitempty"`
	Error *fault    `json:"error,omitempty"`
}

func (e entry) valid() bool {
	if e.Role != roleUser && e.Role != roleAssistant || checkID(e.ID) != nil || len(e.Text) > maxAnswer+8 {
		return false
	}
	switch e.State {
	case "", stateStopped, stateLength, stateFailed:
	default:
		return false
	}
	return (e.State == stateFailed) == (e.Error != nil)
}

// parseHistory reads what it can: a line that is torn, or that anything inside
// the sandbox has spoiled, costs only itself. skipped counts such lines.
func parseHistory(r io.Reader) (entries []entry, skipped int, err error) {
	in := bufio.NewReaderSize(r, 64<<10)
	for {
		line, tooLong, err := readLine(in, 2*maxAnswer)
		if len(bytes.TrimSpace(line)) > 0 || tooLong {
			var e entry
			if tooLong || json.Unmarshal(line, &e) != nil || !e.valid() {
				skipped++
			} else {
				entries = append(entries, e)
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return bound(entries), skipped, nil
		case err != nil:
			return nil, skipped, fmt.Errorf("read history: %w", err)
		}
	}
}

// readLine returns the next line without holding more than limit bytes of it.
func readLine(in *bufio.Reader, limit int) (line []byte, tooLong bool, err error) {
	for {
		part, err := in.ReadSlice('\n')
		if len(line)+len(part) > limit {
			tooLong, line = true, nil
		}
		if !tooLong {
			line = append(line, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, tooLong, err
		}
	}
}

// bound keeps the newest entries within the limits, and begins with a question.
func bound(entries []entry) []entry {
	bytes := 0
	from := len(entries)
	for from > 0 && len(entries)-from < maxEntries {
		bytes += len(entries[from-1].Text)
		if bytes > maxHistoryBytes {
			break
		}
		from--
	}
	if from > 0 {
		for from < len(entries) && entries[from].Role != roleUser {
			from++
		}
	}
	return entries[from:]
}

// historyFile is the conversation on disk. Losing it must never cost an answer,
// so callers log its errors and go on.
type historyFile struct {
	path string
	size int64
}

// load reads the file; one that does not exist is an empty conversation.
func (h *historyFile) load() ([]entry, int, error) {
	// The workspace is the agent's to change: a pipe put here must not hang us,
	// so nothing below opens the path without O_NONBLOCK.
	f, err := os.OpenFile(h.path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("open history: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, fmt.Errorf("open history: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("open history: %s is not a regular file", h.path)
	}
	h.size = info.Size()
	return parseHistory(io.LimitReader(f, 16<<20))
}

// add appends one entry; all is the whole conversation, which is written anew
// when the file has grown past its bound.
func (h *historyFile) add(e entry, all []entry) error {
	line := append(encode(e), '\n')
	if h.size+int64(len(line)) > 2*maxHistoryBytes {
		return h.replace(all)
	}
	f, err := os.OpenFile(h.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK, state.FileMode)
	if err != nil {
		return fmt.Errorf("open history: %w", err)
	}
	_, err = f.Write(line)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("append to history: %w", err)
	}
	h.size += int64(len(line))
	return nil
}

// replace writes the conversation anew.
func (h *historyFile) replace(all []entry) error {
	var content bytes.Buffer
	for _, e := range all {
		content.Write(encode(e))
		content.WriteByte('\n')
	}
	if err := state.WriteFile(h.path, content.Bytes(), state.FileMode); err != nil {
		return fmt.Errorf("write history: %w", err)
	}
	h.size = int64(content.Len())
	return nil
}

// prepare makes the directory and ends a torn last line, so that the next entry
// does not continue it.
func (h *historyFile) prepare() error {
	if err := state.MkdirAll(filepath.Dir(h.path)); err != nil {
		return fmt.Errorf("make history directory: %w", err)
	}
	f, err := os.OpenFile(h.path, os.O_RDWR|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK, state.FileMode)
	if err != nil {
		return fmt.Errorf("open history: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return err
	}
	last := make([]byte, 1)
	if _, err := f.ReadAt(last, info.Size()-1); err != nil {
		return fmt.Errorf("read history: %w", err)
	}
	if last[0] == '\n' {
		return nil
	}
	if _, err := f.Write([]byte{'\n'}); err != nil {
		return fmt.Errorf("append to history: %w", err)
	}
	return nil
}
