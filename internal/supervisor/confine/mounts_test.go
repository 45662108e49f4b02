//go:build linux

package confine

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"creel/internal/sandbox"
)

// The private root is a wall of its own: what Landlock refuses a second time is
// mounted read-only, and no mount lets a setuid program or a device work.
func TestMounts(t *testing.T) {
	need(t, sandbox.TierNamespaces)
	dir := open(t)
	shown, given := filepath.Join(dir, "shown"), filepath.Join(dir, "given")
	for _, d := range []string{shown, given} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	p := profile(t, sandbox.TierNamespaces)
	p.ReadOnly, p.ReadWrite = []string{shown}, []string{given}
	b := start(t, p)
	r := run(t, b, "cat", "/proc/self/mountinfo")
	writable := []string{WorkspacePath, "/tmp", "/run", "/dev/shm", "/dev/pts", "/proc", given}
	var seen []string
	for line := range strings.Lines(r.stdout) {
		f := strings.Fields(line) // proc(5): point is field 5, its options field 6
		point, options := f[4], strings.Split(f[5], ",")
		seen = append(seen, point)
		if got := slices.Contains(options, "rw"); got != slices.Contains(writable, point) {
			t.Errorf("%s is mounted %v", point, options)
		}
		if !slices.Contains(options, "nosuid") {
			t.Errorf("%s lets setuid programs work: %v", point, options)
		}
		if !slices.Contains(options, "nodev") && !strings.HasPrefix(point, "/dev/") && !strings.HasPrefix(point, "/proc/") {
			t.Errorf("%s lets devices work: %v", point, options)
		}
	}
	for _, want := range []string{"/", "/usr", "/proc/sys", ExecutablePath, shown, given, WorkspacePath} {
		if !slices.Contains(seen, want) {
			t.Errorf("%s is not mounted: %v", want, seen)
		}
	}
}
