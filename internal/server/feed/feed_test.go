package feed

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	openshellv1 "creel/api/openshell/v1"
)

func line(seq int, at int64) *openshellv1.SandboxLogLine {
	return &openshellv1.SandboxLogLine{TimestampMs: at, Message: fmt.Sprint("m", seq), Fields: map[string]string{SequenceField: strconv.Itoa(seq)}}
}

func messages(f *Feed) string {
	lines, _ := f.Lines()
	var all []string
	for _, l := range lines {
		all = append(all, l.GetMessage())
	}
	return strings.Join(all, " ")
}

func TestReplayIsNotRepeated(t *testing.T) {
	f := New()
	f.AppendLines(line(1, 10), line(2, 11))
	f.AppendLines(line(1, 10), line(2, 11), line(3, 12)) // after a reconnect
	f.AppendLines(line(1, 20))                           // of a supervisor that was started again
	f.AppendLines(&openshellv1.SandboxLogLine{Message: "x"}, &openshellv1.SandboxLogLine{Message: "x"}, nil)
	if got := messages(f); got != "m1 m2 m3 m1 x x" {
		t.Error(got)
	}
}

func TestTailIsBounded(t *testing.T) {
	f := New()
	for n := range MaxLines + 50 {
		f.AppendLines(line(n, int64(n)))
	}
	lines, total := f.Lines()
	if len(lines) != MaxLines || total != MaxLines+50 || lines[0].GetMessage() != "m50" || len(f.seen) != MaxLines {
		t.Errorf("%d lines of %d from %s, %d remembered", len(lines), total, lines[0].GetMessage(), len(f.seen))
	}
	f.AppendLines(line(3, 3)) // a replay that begins before the tail
	if lines, _ := f.Lines(); lines[len(lines)-1].GetMessage() == "m3" {
		t.Error("a forgotten line came back at the end")
	}
	for n := range 100 {
		f.AppendLines(&openshellv1.SandboxLogLine{Message: strings.Repeat("y", 64<<10), Fields: map[string]string{SequenceField: fmt.Sprint("big", n)}, TimestampMs: 1 << 40})
	}
	if lines, _ := f.Lines(); len(lines) > 17 {
		t.Errorf("%d lines of 64 KiB are kept", len(lines))
	}
}

// A subscriber sees every line once, in the tail or live, whenever it comes.
func TestNothingBetweenTailAndLive(t *testing.T) {
	f := New()
	const n = 400
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := range n {
			f.AppendLines(line(i, int64(i)))
		}
	})
	s, tail := f.Subscribe()
	writer.Wait()
	f.Close()
	next := 0
	see := func(l *openshellv1.SandboxLogLine) {
		if l.GetMessage() != fmt.Sprint("m", next) {
			t.Fatalf("line %d is %s", next, l.GetMessage())
		}
		next++
	}
	for _, l := range tail.Lines {
		see(l)
	}
	for u := range s.Updates() {
		see(u.Log)
	}
	if next != n || s.Lagged() {
		t.Errorf("saw %d lines, lagged %v", next, s.Lagged())
	}
}

func TestSlowReaderIsCutOff(t *testing.T) {
	f := New()
	slow, _ := f.Subscribe()
	for range maxWaiting + 1 {
		f.StatusChanged()
	}
	n := 0
	for range slow.Updates() {
		n++
	}
	if n != maxWaiting || !slow.Lagged() {
		t.Errorf("%d updates, lagged %v", n, slow.Lagged())
	}
	slow.Cancel() // again is harmless
	f.Close()
	late, _ := f.Subscribe()
	if _, open := <-late.Updates(); open || late.Lagged() {
		t.Error("a feed that is closed has no updates")
	}
}
