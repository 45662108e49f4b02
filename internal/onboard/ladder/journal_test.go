package ladder

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"creel/internal/advisory"
)

func open(t *testing.T, path string) *Journal {
	t.Helper()
	j, err := OpenJournal(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func write(t *testing.T, j *Journal, entries ...Entry) {
	t.Helper()
	for _, e := range entries {
		if err := j.Append(e); err != nil {
			t.Fatal(err)
		}
	}
}

func run(id string, ok bool, actions ...string) []Entry {
	entries := []Entry{{Run: id, Kind: KindRunStarted}}
	for _, a := range actions {
		entries = append(entries, Entry{Run: id, Kind: KindIntent, Subject: "s", Action: a}, Entry{Run: id, Kind: KindOutcome, Subject: "s", Action: a, OK: ok})
	}
	return append(entries, Entry{Run: id, Kind: KindRunEnded, OK: ok})
}

func TestJournalIsReadAsWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "journal.jsonl")
	if entries, err := ReadJournal(path); entries != nil || err != nil {
		t.Errorf("absent: %v, %v", entries, err)
	}
	var told []Entry
	j, err := OpenJournal(path, func(e Entry) {
		onDisk, err := ReadJournal(path)
		if err != nil || onDisk[len(onDisk)-1] != e {
			t.Errorf("told of %+v before it was on disk: %v, %v", e, onDisk, err)
		}
		told = append(told, e)
	})
	if err != nil {
		t.Fatal(err)
	}
	write(t, j, run("r1", true, "a")...)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t, path)
	write(t, again, Entry{Run: "r2", Kind: KindRunStarted})
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	entries, err := ReadJournal(path)
	if err != nil || len(entries) != 5 || len(told) != 4 {
		t.Fatalf("%d entries, told of %d, %v", len(entries), len(told), err)
	}
	for i, e := range entries {
		if e.Seq != int64(i+1) || e.Version != 1 || e.At.IsZero() {
			t.Errorf("entry %d is %+v", i, e)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// A crash while the last line was written leaves any prefix of it.
func TestTornLastLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j := open(t, path)
	write(t, j, run("r1", true, "a")...)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	start := bytes.LastIndexByte(whole[:len(whole)-1], '\n') + 1
	for cut := start; cut < len(whole); cut++ {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		entries, err := ReadJournal(path)
		if err != nil || len(entries) != 3 {
			t.Fatalf("cut at %d: %d entries, %v", cut, len(entries), err)
		}
		j := open(t, path)
		write(t, j, Entry{Run: "r2", Kind: KindRunStarted})
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		entries, err = ReadJournal(path)
		if err != nil || len(entries) != 4 || entries[3].Run != "r2" || entries[3].Seq != 4 {
			t.Fatalf("cut at %d, then appended: %+v, %v", cut, entries, err)
		}
	}
}

func TestDamagedJournal(t *testing.T) {
	line := `{"version":1,"seq":1,"at":"2026-01-02T03:04:05Z","run":"r","kind":"intent"}` + "\n"
	for _, c := range []struct{ name, content, advisory, says string }{
		{"text in the middle", line + "garbage\n" + line, "journal-corrupt", "line 2"},
		{"zeroes in the middle", line + strings.Repeat("\x00", 40) + "\n" + line, "journal-corrupt", "line 2"},
		{"null", line + "null\n" + line, "journal-corrupt", "line 2"},
		{"no entry", `{"a":1}` + "\n" + line, "journal-corrupt", "line 1"},
		{"newer", line + strings.Replace(line, `"version":1`, `"version":2`, 1), "journal-newer", "version 2"},
		{"newer in the middle", strings.Replace(line, `"version":1`, `"version":9`, 1) + line, "journal-newer", "version 9"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "journal")
			if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := ReadJournal(path)
			if p, ok := advisory.Of(err); !ok || p.ID != c.advisory || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), path) {
				t.Errorf("ReadJournal: %v, want %s, %q and the path", err, c.advisory, c.says)
			}
			j, err := OpenJournal(path, nil)
			if c.advisory == "journal-newer" {
				if p, ok := advisory.Of(err); !ok || p.ID != c.advisory {
					t.Errorf("OpenJournal: %v", err)
				}
				if now, err := os.ReadFile(path); err != nil || string(now) != c.content {
					t.Errorf("a newer journal was changed to %q, %v", now, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			write(t, j, Entry{Run: "new", Kind: KindRunStarted})
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			entries, err := ReadJournal(path)
			if err != nil || len(entries) != 1 || entries[0].Run != "new" {
				t.Errorf("afterwards: %v, %v", entries, err)
			}
			if kept, err := os.ReadFile(path + ".corrupt"); err != nil || string(kept) != c.content {
				t.Errorf("what was set aside: %q, %v", kept, err)
			}
		})
	}
}

func TestJournalThatCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"through a file": filepath.Join(file, "journal"), "a directory": dir} {
		_, err := OpenJournal(path, nil)
		if p, ok := advisory.Of(err); !ok || p.ID != "state-unwritable" && p.ID != "journal-unreadable" {
			t.Errorf("%s: %v", name, err)
		}
	}
	j := open(t, filepath.Join(dir, "journal"))
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := j.Append(Entry{Run: "r", Kind: KindRunStarted}); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("append to a closed journal: %v", err)
	}
}

// A journal does not grow without end: opened above 1 MiB it keeps whole runs
// from its end, and goes on counting.
func TestJournalIsCompacted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	var all []Entry
	size := 0
	for i := 0; size <= compactAt; i++ {
		for _, e := range run(fmt.Sprintf("run-%05d", i), true, strings.Repeat("a", 300)) {
			e.Version, e.Seq = 1, int64(len(all)+1)
			all = append(all, e)
			size += len(encode([]Entry{e}))
		}
	}
	if err := os.WriteFile(path, encode(all), 0o600); err != nil {
		t.Fatal(err)
	}
	j := open(t, path)
	write(t, j, Entry{Run: "new", Kind: KindRunStarted})
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	entries, err := ReadJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	kept := entries[:len(entries)-1]
	if diff := cmp.Diff(all[len(all)-len(kept):], kept, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("not the end of what was there:\n%s", diff)
	}
	if len(kept) < 4 || kept[0].Kind != KindRunStarted || len(encode(kept)) > compactAt/2 {
		t.Errorf("kept %d entries, %d bytes, from %+v", len(kept), len(encode(kept)), kept[0])
	}
	if last := entries[len(entries)-1]; last.Seq != int64(len(all)+1) {
		t.Errorf("counting went on with %d, want %d", last.Seq, len(all)+1)
	}
}

func TestJournalFromManySides(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j := open(t, path)
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for range 5 {
				if err := j.Append(Entry{Run: "r", Kind: KindIntent}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	entries, err := ReadJournal(path)
	if err != nil || len(entries) != 40 || entries[39].Seq != 40 {
		t.Errorf("%d entries, %v", len(entries), err)
	}
}

func TestUnfinished(t *testing.T) {
	good, bad := run("good", true, "a"), run("bad", false, "b")
	for _, c := range []struct {
		name    string
		entries []Entry
		run     string
		want    bool
	}{
		{"none", nil, "", false},
		{"ended well", good, "good", false},
		{"ended badly", bad, "bad", true},
		{"did not end", good[:2], "good", true},
		{"badly, then well", append(append([]Entry{}, bad...), good...), "good", false},
		{"well, then not ended", append(append([]Entry{}, good...), bad[:1]...), "bad", true},
	} {
		if run, ok := Unfinished(c.entries); run != c.run || ok != c.want {
			t.Errorf("%s: %s, %t", c.name, run, ok)
		}
	}
}

func FuzzJournal(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(encode(run("r", true, "a")))
	f.Add([]byte("{\"version\":1}\n\n{}"))
	f.Add([]byte("null\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		entries, good, err := parseJournal("f", content)
		if good > len(content) || good > 0 && content[good-1] != '\n' {
			t.Fatalf("good %d of %d bytes", good, len(content))
		}
		if err != nil {
			return
		}
		// What was read is read again when it is written.
		again, all, err := parseJournal("f", encode(entries))
		if err != nil || all != len(encode(entries)) || len(again) != len(entries) {
			t.Fatalf("%d entries, again %d, %v", len(entries), len(again), err)
		}
	})
}
