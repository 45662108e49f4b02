// Package logs keeps what an agent and its supervisor say: the last lines in
// memory for whoever asks, all of them in files that do not grow without end. It
// must not block or fail the program whose lines it keeps.
package logs

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"time"
	"unicode/utf8"
)

// Limits.
const (
	MaxLine  = 16 << 10 // bytes; a longer line is cut into several
	RingSize = 2000     // lines kept in memory
)

// The sources of lines.
const (
	Agent      = "agent"
	Supervisor = "supervisor"
)

// Line is one line.
type Line struct {
	// Seq grows by one from line to line. It begins at the nanosecond the log was
	// opened, so that the lines of a supervisor that was started again follow.
	Seq     uint64
	At      time.Time
	Level   string // "info", "warn", "error"
	Source  string
	Message string
}

// Log is a ring of lines and a file of the agent's.
type Log struct {
	mu    sync.Mutex
	ring  []Line // at most RingSize; the oldest at next once it is full
	next  int
	seq   uint64
	more  chan struct{} // closed and replaced with every line
	file  io.Writer
	lost  bool // the file could not be written
	clock func() time.Time
}

// Open makes a log whose agent lines also go to file, which may be nil.
func Open(file io.Writer) *Log {
	now := time.Now()
	return &Log{seq: uint64(now.UnixNano()), more: make(chan struct{}), file: file, clock: time.Now}
}

// Add keeps one line. It never fails: a file that cannot be written is told of
// once, in the ring.
func (l *Log) Add(source, level, message string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	line := l.add(source, level, message)
	if l.file == nil || source != Agent {
		return
	}
	_, err := fmt.Fprintf(l.file, "%s %s\n", line.At.UTC().Format("2006-01-02T15:04:05.000Z"), line.Message)
	if err != nil && !l.lost {
		l.add(Supervisor, "error", "write agent log: "+err.Error())
	}
	l.lost = err != nil
}

func (l *Log) add(source, level, message string) Line {
	l.seq++
	line := Line{Seq: l.seq, At: l.clock(), Level: level, Source: source, Message: message}
	if len(l.ring) < RingSize {
		l.ring = append(l.ring, line)
	} else {
		l.ring[l.next] = line
		l.next = (l.next + 1) % RingSize
	}
	close(l.more)
	l.more = make(chan struct{})
	return line
}

// After returns up to limit lines that follow seq, oldest first, and a channel
// that is closed when there are more than were there at the call.
func (l *Log) After(seq uint64, limit int) ([]Line, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var lines []Line
	for i := range l.ring {
		line := l.ring[(l.next+i)%len(l.ring)]
		if line.Seq > seq && len(lines) < limit {
			lines = append(lines, line)
		}
	}
	return lines, l.more
}

// Copy adds every line that r gives until it ends. The error is r's, nil at its
// end.
func (l *Log) Copy(source, level string, r io.Reader) error {
	buffer, held := make([]byte, 8<<10), []byte(nil)
	for {
		n, err := r.Read(buffer)
		held = split(append(held, buffer[:n]...), func(line string) { l.Add(source, level, line) })
		if err == nil {
			continue
		}
		if len(held) > 0 {
			l.Add(source, level, text(held))
		}
		if err == io.EOF {
			return nil
		}
		return err
	}
}

// split calls line for each complete line of data, and for each MaxLine bytes of
// one that is longer, and returns what is left.
func split(data []byte, line func(string)) []byte {
	for {
		end := bytes.IndexByte(data[:min(len(data), MaxLine+1)], '\n')
		switch {
		case end >= 0:
			line(text(data[:end]))
			data = data[end+1:]
		case len(data) > MaxLine:
			cut := MaxLine
			for back := 1; back < utf8.UTFMax; back++ { // not inside a character
				if utf8.RuneStart(data[MaxLine-back]) {
					if !utf8.FullRune(data[MaxLine-back : MaxLine]) {
						cut = MaxLine - back
					}
					break
				}
			}
			line(text(data[:cut]))
			data = data[cut:]
		default:
			return bytes.Clone(data)
		}
	}
}

// text makes valid UTF-8 without the carriage return that terminals add.
func text(b []byte) string {
	return string(bytes.ToValidUTF8(bytes.TrimSuffix(b, []byte("\r")), []byte("\uFFFD")))
}
