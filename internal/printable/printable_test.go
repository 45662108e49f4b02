package printable

import (
	"slices"
	"strings"
	"testing"
)

// A line shows what was written and drives no terminal.
func TestLine(t *testing.T) {
	for in, want := range map[string]string{
		"plain\ttext é":                            "plain\ttext é",
		"\x1b[90m10:00\x1b[39m \x1b[1;36mok":       "10:00 ok",
		"\x1b]0;title\x07text":                     "text",
		"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\": "link",
		"a\rb\x08c":                                "a�b�c",
		"half \x1b[3":                              "half ",
		"lone \x1b":                                "lone ",
		"c1 \u009b31mred":                          "c1 �31mred",
	} {
		if got := Line(in); got != want {
			t.Errorf("Line(%q) = %q, want %q", in, got, want)
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
