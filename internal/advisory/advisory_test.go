package advisory

import (
	"os/exec"
	"testing"
)

func TestQuote(t *testing.T) {
	for _, word := range []string{"", "plain", "a b", "it's", "$HOME", "~/x", "a;b", "--context=x", "\"", "\\", "*", "ä"} {
		out, err := exec.Command("/bin/sh", "-c", "printf %s "+Quote(word)).Output()
		if err != nil || string(out) != word {
			t.Errorf("a shell reads %s as %q, %v", Quote(word), out, err)
		}
	}
	if got := Quote("plain-1.yaml"); got != "plain-1.yaml" {
		t.Errorf("a plain word became %s", got)
	}
}
