package credential

import (
	"strings"
	"testing"
)

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain ✓ text\n\twith lines":        "plain ✓ text\n\twith lines",
		"\x1b[31mred\x1b[0m":                "red",
		"a\x1b]0;title\x07b":                "ab",
		"a\x1b]52;c;ZXZpbA==\x1b\\b":        "ab",
		"\x1b[2J\x1b[Hgone":                 "gone",
		"\x1b\x1b[0m[2J":                    "\uFFFD[2J",
		"a\x1b]0;never ended: the cause":    "a\uFFFD]0;never ended: the cause",
		"over\rwritten":                     "over\uFFFDwritten",
		"a\r\nb\r":                          "a\nb",
		"bell\a back\b del\x7f":             "bell\uFFFD back\uFFFD del\uFFFD",
		"\u009b2J":                          "\uFFFD2J",
		"\x9b2J":                            "\uFFFD2J",
		"reordered \u202egpj.exe":           "reordered \uFFFDgpj.exe",
		"שלום and مرحبا stay as they are":   "שלום and مرحبا stay as they are",
		"\x1b[0mtok\x1b[1men=x stays whole": "token=x stays whole",
	} {
		if got := Printable(in); got != want {
			t.Errorf("Printable(%q) = %q, want %q", in, got, want)
		}
	}
}

// Every message that is redacted is printable, and a sequence hides no secret.
func TestRedactedIsPrintable(t *testing.T) {
	got := Redact("refused: \x1b]0;x\x07\x1b[2Jto\x1b[0mken=canary\u009b")
	if strings.ContainsFunc(got, Control) || strings.Contains(got, "canary") || !strings.HasPrefix(got, "refused: ") {
		t.Errorf("%q", got)
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("\x1b[31mred\x1b\x1b[0m[2J\r\n\u009b")
	f.Fuzz(func(t *testing.T, text string) {
		once := Printable(text)
		if strings.ContainsFunc(once, Control) {
			t.Errorf("Printable(%q) = %q", text, once)
		}
		if twice := Printable(once); once != twice {
			t.Errorf("Printable(%q) = %q, and again %q", text, once, twice)
		}
	})
}
