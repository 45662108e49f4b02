package app

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"creel/internal/advisory"
	"creel/internal/state"
	"creel/test/require"
)

// Root with the CREEL_HOME or the HOME of an ordinary user executed what that user
// had put there.
func TestRootTrustsNobodysHome(t *testing.T) {
	require.Feature(t, "root", os.Geteuid() == 0, "run the tests as root: others cannot give files away")
	home := filepath.Join(t.TempDir(), "it's here")
	if err := errors.Join(os.Mkdir(home, 0o700), os.Lchown(home, 65533, 0)); err != nil {
		t.Fatal(err)
	}
	graphOf := func(name, value string) *graph {
		return &graph{getenv: func(n string) string { return map[string]string{name: value}[n] }}
	}
	g := graphOf("CREEL_HOME", home)
	_, err := g.findRoots()
	p, _ := advisory.Of(err)
	if p == nil || p.ID != "home-untrusted" || !strings.Contains(err.Error(), "belongs to user 65533") {
		t.Fatalf("another user's home: %v", err)
	}
	if want := "chown -hR root: " + advisory.Quote(home); !strings.Contains(strings.Join(p.Commands(), "\n"), want) {
		t.Errorf("next: %q, want %s", p.Commands(), want)
	}
	if err := g.serve(t.Context(), "creel"); !errors.As(err, new(*state.Untrusted)) {
		t.Errorf("served from there: %v", err)
	}
	if files, err := os.ReadDir(home); err != nil || len(files) != 0 {
		t.Errorf("written there: %v %v", files, err)
	}
	// A whole home is not to be given to root.
	_, err = graphOf("HOME", home).findRoots()
	if p, _ := advisory.Of(err); p == nil || p.ID != "home-untrusted" || strings.Contains(strings.Join(p.Commands(), "\n"), "chown") {
		t.Errorf("HOME of another user: %v", err)
	}
	if err := os.Lchown(home, 0, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := g.findRoots(); err != nil {
		t.Errorf("root's own: %v", err)
	}
}

// A service starts at every boot what others may write: also an ordinary user's is
// not installed there.
func TestNoServiceWhereOthersWrite(t *testing.T) {
	home := t.TempDir()
	if err := os.Chmod(home, 0o777); err != nil {
		t.Fatal(err)
	}
	g := &graph{getenv: func(n string) string { return map[string]string{"CREEL_HOME": home}[n] }}
	_, _, err := g.installService(t.Context(), "creel", func(string) {})
	if p, _ := advisory.Of(err); p == nil || p.ID != "home-untrusted" || !strings.Contains(strings.Join(p.Commands(), "\n"), "chmod go-w") {
		t.Errorf("installed: %v", err)
	}
}
