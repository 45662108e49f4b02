package console

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestParseRequest(t *testing.T) {
	good := []string{
		`{"type":"auth","token":"x"}`, `{"type":"clear"}`, `{"type":"stop","id":"a-B_9"}`, `{"type":"chat","id":"a","text":"hi"}`,
		`{"type":"chat","id":"a","text":"hi","replaces":"b","unknown":1}`,
	}
	for _, s := range good {
		if _, err := parseRequest([]byte(s)); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	bad := []string{
		``, `null`, `[]`, `{}`, `"auth"`, `{"type":"nope"}`, `{"type":"chat","id":"a"}`, `{"type":"chat","id":"a","text":" \n"}`, `{"type":"chat","text":"hi"}`,
		`{"type":"chat","id":"a b","text":"hi"}`, `{"type":"stop"}`, `{"type":"chat","id":"` + strings.Repeat("a", 65) + `","text":"x"}`,
		`{"type":"chat","id":"a","text":"x","replaces":"../x"}`, `{"type":"auth"}{"type":"auth"}`, `{"type":1}`,
		`{"type":"chat","id":"a","text":"` + strings.Repeat("a", maxQuestion+1) + `"}`,
	}
	for _, s := range bad {
		if r, err := parseRequest([]byte(s)); err == nil {
			t.Errorf("%.60s: accepted as %+v", s, r)
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	for _, s := range []string{`{"type":"chat","id":"a","text":"hi"}`, `{"type":"auth","token":"CANARY"}`, `{"type":"CANARY"}`, `{"type":`, `{"type":"stop","id":"x"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseRequest(data)
		if err != nil {
			if strings.Contains(err.Error(), "CANARY") {
				t.Fatalf("%q: the error repeats the message: %v", data, err)
			}
			return
		}
		switch r.Type {
		case "chat":
			if strings.TrimSpace(r.Text) == "" || len(r.Text) > maxQuestion || checkID(r.ID) != nil || r.Replaces != "" && checkID(r.Replaces) != nil {
				t.Fatalf("%q: accepted %+v", data, r)
			}
			// What is kept of it is read back.
			if !(entry{Role: roleUser, ID: r.ID, Text: strings.ToValidUTF8(r.Text, "\uFFFD")}).valid() {
				t.Fatalf("%q: its entry is not valid", data)
			}
		case "stop":
			if checkID(r.ID) != nil {
				t.Fatalf("%q: accepted %+v", data, r)
			}
		case "auth", "clear":
		default:
			t.Fatalf("%q: type %q", data, r.Type)
		}
	})
}

func pair(id, question, answer string) []entry {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	return []entry{{Role: roleUser, ID: id, Text: question, At: at}, {Role: roleAssistant, ID: id, Text: answer, At: at, Model: "m"}}
}

func TestHistoryFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".creel", "console-history.jsonl")
	reopen := func() (*historyFile, []entry, int) {
		t.Helper()
		h := &historyFile{path: path}
		if err := h.prepare(); err != nil {
			t.Fatal(err)
		}
		entries, skipped, err := h.load()
		if err != nil {
			t.Fatal(err)
		}
		return h, entries, skipped
	}
	h, entries, _ := reopen()
	if len(entries) != 0 {
		t.Fatalf("a new history has %d entries", len(entries))
	}
	want := append(pair("a", "q\n\"1\"", "é"), pair("b", "q2", "a2")...)
	for n, e := range want {
		if err := h.add(e, want[:n+1]); err != nil {
			t.Fatal(err)
		}
	}
	_, entries, skipped := reopen()
	if diff := cmp.Diff(want, entries); diff != "" || skipped != 0 {
		t.Fatalf("skipped %d (-want +got):\n%s", skipped, diff)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}

	// A torn last line, as a kill in the middle of a write leaves it, costs itself
	// only, and the entry after it is whole.
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content[:len(content)-9], 0o600); err != nil {
		t.Fatal(err)
	}
	h, entries, skipped = reopen()
	if diff := cmp.Diff(want[:3], entries); diff != "" || skipped != 1 {
		t.Fatalf("torn: skipped %d (-want +got):\n%s", skipped, diff)
	}
	if err := h.add(want[3], nil); err != nil {
		t.Fatal(err)
	}
	_, entries, skipped = reopen()
	if diff := cmp.Diff(want, entries); diff != "" || skipped != 1 {
		t.Errorf("after torn: skipped %d (-want +got):\n%s", skipped, diff)
	}
}

func TestHistoryFileIsBounded(t *testing.T) {
	h := &historyFile{path: filepath.Join(t.TempDir(), "h.jsonl")}
	if err := h.prepare(); err != nil {
		t.Fatal(err)
	}
	var all []entry
	for n := range 120 {
		for _, e := range pair("id"+string(rune('a'+n%26))+string(rune('a'+n/26)), "q", strings.Repeat("x", 64<<10)) {
			all = bound(append(all, e))
			if err := h.add(e, all); err != nil {
				t.Fatal(err)
			}
		}
	}
	info, err := os.Stat(h.path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > 2*maxHistoryBytes || info.Size() != h.size {
		t.Errorf("the file has %d bytes, the record says %d, the bound is %d", info.Size(), h.size, 2*maxHistoryBytes)
	}
	entries, skipped, err := h.load()
	if err != nil || skipped != 0 || len(entries) == 0 || entries[len(entries)-1] != all[len(all)-1] || entries[0].Role != roleUser {
		t.Errorf("%d entries, skipped %d, %v", len(entries), skipped, err)
	}
}

// Something inside the sandbox may put anything in the history's place.
func TestHistoryIsNoFile(t *testing.T) {
	for name, make := range map[string]func(string) error{
		"pipe":      func(p string) error { return unix.Mkfifo(p, 0o600) },
		"directory": func(p string) error { return os.Mkdir(p, 0o700) },
		"endless":   func(p string) error { return os.Symlink("/dev/zero", p) },
	} {
		t.Run(name, func(t *testing.T) {
			home := t.TempDir()
			path := filepath.Join(home, ".creel", "console-history.jsonl")
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := make(path); err != nil {
				t.Fatal(err)
			}
			i := start(t, home, "http://127.0.0.1:1/v1")
			if p := i.open(); p.hello.Saved || len(p.hello.History) != 0 {
				t.Errorf("hello = %+v", p.hello)
			}
		})
	}
}

func FuzzParseHistory(f *testing.F) {
	f.Add("")
	f.Add(string(encode(pair("a", "q", "r")[0])) + "\n" + string(encode(pair("a", "q", "r")[1])) + "\n")
	f.Add("{}\n[]\nnull\n\n{\"role\":\"user\"")
	f.Add(`{"role":"assistant","id":"a","text":"x","state":"failed","error":{"code":"c","message":"m"}}`)
	f.Fuzz(func(t *testing.T, content string) {
		entries, skipped, err := parseHistory(strings.NewReader(content))
		if err != nil || skipped > strings.Count(content, "\n")+1 {
			t.Fatalf("skipped %d, %v", skipped, err)
		}
		var again strings.Builder
		for _, e := range entries {
			if !e.valid() {
				t.Fatalf("%+v is not valid", e)
			}
			again.Write(encode(e))
			again.WriteByte('\n')
		}
		same, skipped, err := parseHistory(strings.NewReader(again.String()))
		if diff := cmp.Diff(entries, same); diff != "" || skipped != 0 || err != nil {
			t.Fatalf("written and read again: skipped %d, %v\n%s", skipped, err, diff)
		}
	})
}

func TestTurns(t *testing.T) {
	long := strings.Repeat("x", maxContext/2)
	failed := pair("f", "lost", "")
	failed[1].State, failed[1].Error = stateFailed, &fault{"c", "m"}
	var all []entry
	for _, p := range [][]entry{pair("a", "old", long), pair("b", "newer", long[:100]), failed} {
		all = append(all, p...)
	}
	all = append(all, entry{Role: roleUser, ID: "q", Text: long})
	var got []string
	for _, m := range turns(settings{sandbox: "demo"}, all)[1:] {
		got = append(got, m.Role+":"+m.Content[:min(5, len(m.Content))])
	}
	if want := []string{"user:newer", "assistant:xxxxx", "user:xxxxx"}; !cmp.Equal(want, got) {
		t.Errorf("turns = %q, want %q", got, want)
	}
	// A question that alone is too long goes out all the same.
	huge := []entry{{Role: roleUser, ID: "q", Text: strings.Repeat("x", maxContext+1)}}
	if got := turns(settings{}, huge); len(got) != 2 {
		t.Errorf("%d turns", len(got))
	}
}

func TestClip(t *testing.T) {
	for in, want := range map[string]string{"abc": "abc", "abcdef": "abcd…", "abcé": "abc…", "\xffab": "\uFFFDa…"} {
		if got := clip(in, 4); got != want || !utf8.ValidString(got) {
			t.Errorf("clip(%q) = %q, want %q", in, got, want)
		}
	}
}
