package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The pages in docs/ are those that the tree and the registry make now.
func TestPagesAreCurrent(t *testing.T) {
	for name, want := range pages() {
		have, err := os.ReadFile(filepath.Join("../../../docs", name))
		if err != nil {
			t.Errorf("%v; run: go generate ./...", err)
			continue
		}
		if diff := cmp.Diff(string(have), string(want)); diff != "" {
			t.Errorf("docs/%s is stale (-have +want); run: go generate ./...\n%s", name, diff)
		}
	}
}

func TestWriteReplacesPages(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "cli.md"), []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := write(dir); err != nil {
		t.Fatal(err)
	}
	for name, want := range pages() {
		have, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if string(have) != string(want) {
			t.Errorf("%s was not replaced", name)
		}
	}
	if err := write(filepath.Join(dir, "absent")); err == nil {
		t.Error("a directory that does not exist is no error")
	}
}
