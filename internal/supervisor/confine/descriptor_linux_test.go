package confine

import (
	"io"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestDescriptorOutlivesItsReader: the next stage inherits the number, so that a
// collection between the two must not close what is behind it.
func TestDescriptorOutlivesItsReader(t *testing.T) {
	fd, err := unix.MemfdCreate("creel-test", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	content := strings.Repeat("plan", 5000)
	if _, err := unix.Write(fd, []byte(content)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // both stages read it from its beginning
		b, err := io.ReadAll(io.NewSectionReader(descriptor(fd), 0, 1<<24))
		if err != nil || string(b) != content {
			t.Fatalf("%d bytes, %v", len(b), err)
		}
		for range 3 {
			runtime.GC() // finalizers run after the first, on a goroutine of their own
			runtime.Gosched()
		}
	}
	r, w, err := os.Pipe() // would get the number if it were free
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = r.Close(), w.Close() }()
	if _, err := io.ReadAll(io.NewSectionReader(descriptor(int(r.Fd())), 0, 10)); err == nil {
		t.Error("a pipe was read as a plan")
	}
}
