package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// bring is the command that has to converge whatever the disk did to it before.
var bring = []string{"onboard", "--yes", "--provider", "none"}

// testDisk: on a disk that is full, at whichever moment, or read-only, commands
// fail with the path, the cause and a next command, leave nothing half-done, and
// the same command converges when there is space.
func testDisk(t *testing.T) {
	t.Run("too-small", func(t *testing.T) { testNoRoom(t, "size=1m", "disk-full", " MiB free, 64 MiB needed") })
	t.Run("read-only", func(t *testing.T) { testNoRoom(t, "ro,size=100m", "disk-read-only", "read-only file system") })
	t.Run("full-at-any-moment", testFullAnywhere)
	t.Run("full-while-it-runs", testFullLater)
	t.Run("read-only-later", testReadOnlyLater)
}

// refused requires an error that names the home, the cause and the advisory, and a
// next command.
func (d *disk) refused(r result, advisory, cause string) {
	d.t.Helper()
	for _, part := range []string{d.home.dir, cause, "\n" + advisory + ": ", "\nnext:\n  "} {
		if r.code != 1 || !strings.Contains(r.stderr, part) {
			d.t.Errorf("creel %s: exit %d, want 1 and %q\n%s%s", strings.Join(r.args, " "), r.code, part, r.stdout, r.stderr)
		}
	}
}

// converges requires that the same command succeeds and that all is well.
func (d *disk) converges() {
	d.t.Helper()
	h := d.home
	h.must(0, bring...)
	if v := h.verdict(); v != "ok" {
		d.t.Errorf("verdict %q\n%s", v, h.must(0, "status").stdout)
	}
	if r := h.must(0, "exec", "claw", "--", "echo", "on"); r.stdout != "on\n" {
		d.t.Errorf("exec: %+v", r)
	}
	if left, _ := filepath.Glob(h.root + h.dir + "/*/*/*/.*.tmp-*"); len(left) > 0 {
		d.t.Errorf("unfinished files: %v", left)
	}
}

func testNoRoom(t *testing.T, options, advisory, cause string) {
	d := newDisk(t, options)
	h := d.home
	d.refused(h.run(bring...), advisory, cause)
	if left, err := os.ReadDir(h.root + h.dir); err != nil || len(left) > 0 {
		t.Errorf("something was written: %v, %v", left, err)
	}
	// Reading is always possible, and says why nothing would work.
	if r := h.run("status"); r.code != 1 || !strings.Contains(r.stdout, advisory) || !strings.Contains(r.stdout, h.dir) {
		t.Errorf("status: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	d.mount("remount,rw," + roomy)
	d.converges()
}

// testFullAnywhere lets the disk run out of files to make: after each number of
// them another step of the command fails.
func testFullAnywhere(t *testing.T) {
	failed := 0
	for files := 2; ; files += 5 {
		if files > 300 {
			t.Fatal("onboard makes more than 300 files")
		}
		d := newDisk(t, fmt.Sprintf("size=2g,nr_inodes=%d", files))
		r := d.home.run(bring...)
		if r.code == 0 {
			break
		}
		failed++
		// The layer's own advisory, or the disk's; the cause and the path in any case.
		said := r.stderr + r.stdout // where all was made, only the last look finds that nothing more could be
		noSpace := strings.Contains(said, "no space left on device") || strings.Contains(said, "no space is left for")
		if !noSpace || !strings.Contains(said, d.home.dir) || !strings.Contains(r.stderr, "\nnext:\n  ") {
			t.Errorf("%d files: exit %d\n%s%s", files, r.code, r.stdout, r.stderr)
		}
		if strings.Contains(r.stderr, "credential-key-unusable") || strings.Contains(r.stderr, "database-corrupt") {
			t.Errorf("%d files: something is said to be damaged\n%s", files, r.stderr)
		}
		if files == 2 {
			d.refused(r, "disk-full", "no space left on device")
		}
		d.mount("remount," + roomy)
		d.converges()
		d.home.must(0, "uninstall", "--yes")
		if t.Failed() {
			break
		}
	}
	if failed < 8 {
		t.Errorf("only %d runs failed: the limit is not where files are made", failed)
	}
}

// fill takes the whole disk.
func (d *disk) fill() (free func()) {
	d.t.Helper()
	path := d.home.root + filepath.Join(d.home.dir, "filler.db") // which snapshot leaves out
	f, err := os.Create(path)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, size := range []int{1 << 20, 1 << 12} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
	}
	if err := f.Close(); err != nil {
		d.t.Fatal(err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			d.t.Fatal(err)
		}
	}
}

func testFullLater(t *testing.T) {
	const degraded = 3 // the disk is small, and is said to be
	d := newDisk(t, "size=150m,nr_inodes=10000")
	h := d.home
	h.must(degraded, bring...)
	before := snapshot(t, h.root+h.dir)
	free := d.fill()
	change := append(bring[:len(bring):len(bring)], "--restart", "never")
	d.refused(h.run(change...), "disk-full", "no space left on device")
	if r := h.run("status"); r.code != 1 || !strings.Contains(r.stdout, "disk-full") {
		t.Errorf("status: exit %d\n%s", r.code, r.stdout)
	}
	if r := h.run("exec", "claw", "--", "echo", "on"); r.code != 0 || r.stdout != "on\n" {
		t.Errorf("what runs does not go on: %+v", r)
	}
	if after := snapshot(t, h.root+h.dir); after != before {
		t.Errorf("files changed:\n%s\n---\n%s", before, after)
	}
	d.refused(h.run("gateway", "restart"), "disk-full", "no space left on device")
	free()
	h.must(0, "gateway", "start")
	h.must(degraded, change...)
	if r := h.must(0, "exec", "claw", "--", "echo", "on"); r.stdout != "on\n" {
		t.Errorf("exec: %+v", r)
	}
}

func testReadOnlyLater(t *testing.T) {
	d := newDisk(t, roomy)
	h := d.home
	h.must(0, bring...)
	h.must(0, "stop", "claw")
	h.must(0, "gateway", "stop")
	before := snapshot(t, h.root+h.dir)
	d.mount("remount,ro," + roomy) // possible once nobody writes
	for _, args := range [][]string{bring, {"gateway", "start"}, {"uninstall", "--yes"}} {
		d.refused(h.run(args...), "disk-read-only", "read-only file system")
	}
	if r := h.run("status"); r.code != 1 || !strings.Contains(r.stdout, "disk-read-only") {
		t.Errorf("status: exit %d\n%s", r.code, r.stdout)
	}
	if after := snapshot(t, h.root+h.dir); after != before {
		t.Errorf("files changed on a read-only disk:\n%s\n---\n%s", before, after)
	}
	d.mount("remount,rw," + roomy)
	d.converges()
}
