package advisory

import (
	"os/exec"
	"slices"
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

// What is advised names the file that it is about, fit for a shell.
func TestAt(t *testing.T) {
	for id, want := range map[string][]string{
		"database-foreign":   {"mv '/a b/db' '/a b/db.moved'", "creel gateway start"},
		"desired-unreadable": {"ls -ld '/a b/db'"},
		"state-permission":   {"ls -ld '/a b/db'", "CREEL_HOME=/another/path creel onboard"},
		"gateway-unknown":    mustLookup(t, "gateway-unknown").Commands,
	} {
		if got := New(id, "", nil).At("/a b/db").Commands(); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", id, got, want)
		}
	}
}

func mustLookup(t *testing.T, id string) Advisory {
	t.Helper()
	a, ok := Lookup(id)
	if !ok {
		t.Fatalf("no advisory %s", id)
	}
	return a
}
