package credential

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func keyring(t testing.TB, path string) *Keyring {
	t.Helper()
	k, err := OpenKeyring(path)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestSealAndOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "credentials.key")
	k := keyring(t, path)
	const canary = "sk-canary-1234"
	sealed, err := k.Seal(NewSecret(canary))
	if err != nil || bytes.Contains(sealed, []byte(canary)) {
		t.Fatalf("sealed: %v", err)
	}
	again := keyring(t, path)
	if s, err := again.Open(sealed); err != nil || s.Reveal() != canary {
		t.Errorf("opened after reading the key again: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v: %v", info.Mode(), err)
	}
	other := keyring(t, filepath.Join(t.TempDir(), "other.key"))
	if _, err := other.Open(sealed); err == nil {
		t.Error("another key opened it")
	}
	sealed[len(sealed)-1] ^= 1
	if _, err := k.Open(sealed); err == nil {
		t.Error("a changed box was opened")
	}
	empty, err := k.Seal(Secret{})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := k.Open(empty); err != nil || !s.Empty() {
		t.Errorf("nothing, sealed and opened: %v", err)
	}
}

func TestManyMakeOneKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "credentials.key")
	var all sync.WaitGroup
	keys := make([]*Keyring, 8)
	for n := range keys {
		all.Go(func() { keys[n], _ = OpenKeyring(path) })
	}
	all.Wait()
	final := keyring(t, path)
	for n, k := range keys {
		// Who reads while another writes may be refused; nobody gets another key.
		if k != nil && k.identity.String() != final.identity.String() {
			t.Errorf("%d has a key of its own", n)
		}
	}
}

func TestForeignKeyIsRefused(t *testing.T) {
	dir := t.TempDir()
	good := keyring(t, filepath.Join(dir, "good"))
	for name, content := range map[string]string{
		"empty":    "",
		"text":     "hello\n",
		"comments": "# nothing else\n",
		"cut off":  good.identity.String()[:40] + "\n",
		"two keys": good.identity.String() + "\n" + good.identity.String() + "\n",
	} {
		path := filepath.Join(dir, "k")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := OpenKeyring(path)
		if err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "AGE-SECRET") {
			t.Errorf("%s: the error shows a key", name)
		}
		if after, err := os.ReadFile(path); err != nil || string(after) != content {
			t.Errorf("%s: the file was changed: %v", name, err)
		}
	}
	if _, err := OpenKeyring(dir); err == nil {
		t.Error("a directory is no key")
	}
}

func FuzzOpenKeyring(f *testing.F) {
	f.Add("# comment\nAGE-SECRET-KEY-1\n")
	f.Add("\x00")
	f.Fuzz(func(t *testing.T, content string) {
		k, err := parseKeyring("path", []byte(content))
		if (k == nil) == (err == nil) {
			t.Fatal("neither a key nor an error, or both")
		}
	})
}
