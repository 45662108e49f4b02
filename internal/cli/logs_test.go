package cli

import "testing"

// A log shows what an agent wrote and drives no terminal.
func TestPrintable(t *testing.T) {
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
		if got := printable(in); got != want {
			t.Errorf("printable(%q) = %q, want %q", in, got, want)
		}
	}
}
