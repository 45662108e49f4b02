package printable

import (
	"slices"
	"strings"
	"testing"
)

// Text shows what was written and drives no terminal.
func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"plain ✓ text\n\twith lines":               "plain ✓ text\n\twith lines",
		"\x1b[31mred\x1b[0m":                       "red",
		"a\x1b]0;title\x07b":                       "ab",
		"a\x1b]52;c;ZXZpbA==\x1b\\b":               "ab",
		"\x1b[2J\x1b[Hgone":                        "gone",
		"\x1b\x1b[0m[2J":                           "\uFFFD[2J",
		"a\x1b]0;never ended: the cause":           "a\uFFFD]0;never ended: the cause",
		"over\rwritten":                            "over\uFFFDwritten",
		"a\r\nb\r":                                 "a\nb",
		"\x1b[1m\x1b(B\x1b[mplain again":           "plain again",
		"plain\ttext é":                            "plain\ttext é",
		"\x1b[90m10:00\x1b[39m \x1b[1;36mok":       "10:00 ok",
		"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\": "link",
		"half \x1b[3":                              "half \uFFFD[3",
		"lone \x1b":                                "lone \uFFFD",
		"bell\a back\b del\x7f":                    "bell\uFFFD back\uFFFD del\uFFFD",
		"\u009b2J":                                 "\uFFFD2J",
		"\x9b2J":                                   "\uFFFD2J",
		"reordered \u202egpj.exe":                  "reordered \uFFFDgpj.exe",
		"שלום and مرحبا stay as they are":          "שלום and مرحبا stay as they are",
		"\x1b[0mtok\x1b[1men=x stays whole":        "token=x stays whole",
	} {
		if got := Text(in); got != want {
			t.Errorf("Text(%q) = %q, want %q", in, got, want)
		}
	}
}

// However the bytes arrive, whole lines are handed on, and none grows without end.
func TestWriter(t *testing.T) {
	long := strings.Repeat("x", 2*Longest+1)
	content := "one\r\n\ntwo \x1b[31mred\x1b[0m\n" + long + "\nlast"
	want := []string{"one", "", "two red", long[:Longest], long[:Longest], "x", "last"}
	for _, size := range []int{1, 7, len(content)} {
		var got []string
		w := NewWriter(func(l string) { got = append(got, l) })
		for part := range slices.Chunk([]byte(content), size) {
			if n, err := w.Write(part); n != len(part) || err != nil {
				t.Fatal(n, err)
			}
		}
		w.Flush()
		w.Flush()
		if !slices.Equal(got, want) {
			t.Errorf("in parts of %d: %d lines, %.60q", size, len(got), got)
		}
	}
}

func FuzzText(f *testing.F) {
	f.Add("\x1b[31mred\x1b\x1b[0m[2J\r\n\u009b")
	f.Fuzz(func(t *testing.T, text string) {
		once := Text(text)
		if strings.ContainsFunc(once, Control) {
			t.Errorf("Text(%q) = %q", text, once)
		}
		if twice := Text(once); once != twice {
			t.Errorf("Text(%q) = %q, and again %q", text, once, twice)
		}
	})
}
