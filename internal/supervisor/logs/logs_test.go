package logs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func messages(lines []Line) []string {
	var out []string
	for _, l := range lines {
		out = append(out, l.Message)
	}
	return out
}

func TestCopySplitsLines(t *testing.T) {
	long := strings.Repeat("é", MaxLine) // two bytes each: two lines
	in := "one\r\n\ntwo\xff\n" + long + "\nlast"
	for name, r := range map[string]io.Reader{"whole": strings.NewReader(in), "bytewise": iotest.OneByteReader(strings.NewReader(in))} {
		l := Open(nil)
		if err := l.Copy(Agent, "info", r); err != nil {
			t.Fatal(err)
		}
		lines, _ := l.After(0, 100)
		want := []string{"one", "", "two\uFFFD", long[:MaxLine], long[:MaxLine], "last"}
		if d := cmp.Diff(want, messages(lines)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// However the output is cut into reads, nothing is lost, no line is longer than
// the limit, and every line is valid text.
func TestSplitLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.SliceOfN(rapid.SampledFrom([]byte("ab\n\xc3\xa9\xff\xe2\x82\xac")), 0, 200).Draw(t, "data")
		data = append(data, strings.Repeat("x", rapid.IntRange(0, 2*MaxLine).Draw(t, "pad"))...)
		pieces, held := "", []byte(nil)
		collect := func(line string) {
			if len(line) > MaxLine*3 || !utf8.ValidString(line) {
				t.Fatalf("line of %d bytes", len(line))
			}
			pieces += line
		}
		for rest := data; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "cut")
			held = split(append(held, rest[:n]...), collect)
			rest = rest[n:]
		}
		pieces += text(held)
		want := strings.ReplaceAll(strings.ToValidUTF8(string(data), ""), "\n", "")
		if got := strings.ReplaceAll(pieces, "\uFFFD", ""); got != want {
			t.Fatalf("got %d bytes %.80q, want %d %.80q", len(got), got, len(want), want)
		}
	})
}

func TestRingKeepsTheLast(t *testing.T) {
	l := Open(nil)
	for i := range RingSize + 5 {
		l.Add(Agent, "info", fmt.Sprint(i))
	}
	all, more := l.After(0, RingSize*2)
	if len(all) != RingSize || all[0].Message != "5" || all[RingSize-1].Message != fmt.Sprint(RingSize+4) {
		t.Fatalf("%d lines, first %q", len(all), all[0].Message)
	}
	for i := 1; i < len(all); i++ {
		if all[i].Seq != all[i-1].Seq+1 {
			t.Fatalf("line %d follows %d", all[i].Seq, all[i-1].Seq)
		}
	}
	select {
	case <-more:
		t.Fatal("more is said to be there")
	default:
	}
	l.Add(Agent, "info", "new")
	<-more
	if next, _ := l.After(all[len(all)-1].Seq, 10); len(next) != 1 || next[0].Message != "new" {
		t.Fatalf("then %q", messages(next))
	}
	if part, _ := l.After(0, 3); len(part) != 3 || part[0].Message != "6" {
		t.Fatalf("a limited question gives %q", messages(part))
	}
}

func TestLaterLogFollowsEarlier(t *testing.T) {
	a := Open(nil)
	a.Add(Agent, "info", "x")
	first, _ := a.After(0, 1)
	b := Open(nil)
	b.Add(Agent, "info", "y")
	second, _ := b.After(first[0].Seq, 1)
	if len(second) != 1 {
		t.Fatal("the lines of a supervisor that was started again do not follow")
	}
}

func TestFileRotates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log", "agent.log")
	f, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.size = 10
	for i := range 5 {
		if _, err := fmt.Fprintf(f, "line %d\n", i); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"": "line 4\n", ".1": "line 3\n", ".2": "line 2\n"} {
		b, err := os.ReadFile(path + name)
		if err != nil || string(b) != want {
			t.Errorf("%s holds %q, %v", name, b, err)
		}
		if fi, err := os.Stat(path + name); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", name, fi.Mode(), err)
		}
	}
	if _, err := os.Stat(path + ".3"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a fourth file: %v", err)
	}
	// What was there when it is opened counts.
	again, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if again.written != 7 {
		t.Errorf("counts %d bytes", again.written)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

// A full disk is told of once and costs no line in memory.
func TestUnwritableFile(t *testing.T) {
	l := Open(full{})
	l.Add(Agent, "info", "a")
	l.Add(Agent, "info", "b")
	lines, _ := l.After(0, 10)
	if got := messages(lines); len(got) != 3 || got[0] != "a" || !strings.Contains(got[1], "no space") || got[2] != "b" {
		t.Fatalf("%q", got)
	}
}

func TestLoggerWritesBoth(t *testing.T) {
	l, out := Open(full{}), &strings.Builder{}
	l.Logger(out).With("sandbox", "demo").Warn("main process ended", "code", 1)
	lines, _ := l.After(0, 10)
	if len(lines) != 1 || lines[0].Level != "warn" || lines[0].Source != Supervisor || lines[0].Message != `msg="main process ended" sandbox=demo code=1` {
		t.Errorf("ring has %+v", lines)
	}
	if !strings.Contains(out.String(), "level=WARN") || !strings.Contains(out.String(), "code=1") {
		t.Errorf("file has %q", out.String())
	}
}
