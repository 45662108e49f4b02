package state

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestCopyFile(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	if err := CopyFile(from, to, FileMode); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a source: %v", err)
	}
	content := bytes.Repeat([]byte("0123456789abcdef"), 10_000)
	if err := os.WriteFile(from, content, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, []byte("what was there"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := CopyFile(from, to, 0o700); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(to)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if fi, err := os.Stat(to); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", fi, err)
	}
	// They are two files: what happens to one does not to the other.
	if err := os.WriteFile(from, []byte("changed"), 0o644); err != nil {
		t.Fatal(err)
	}
	if again, err := os.ReadFile(to); err != nil || !bytes.Equal(again, content) {
		t.Error("the copy changed with its source")
	}
	// What is no file is not copied, and leaves nothing.
	if err := CopyFile(dir, filepath.Join(dir, "of-a-directory"), FileMode); err == nil {
		t.Error("a directory was copied")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("left: %v, %v", entries, err)
	}
}
