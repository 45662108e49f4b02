package state

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
)

// The test binary started with this variable holds the lock that it names until
// its standard input ends.
const holderVariable = "STATE_TEST_HOLD"

func TestMain(m *testing.M) {
	if path := os.Getenv(holderVariable); path != "" {
		if _, err := TryLock(path, "holder of the test"); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("held")
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	if path := os.Getenv(writerVariable); path != "" {
		os.Exit(beKilledWriting(path))
	}
	goleak.VerifyTestMain(m)
}

// holder is another process that holds the lock at path.
func holder(t *testing.T, path string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), holderVariable+"="+path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "held\n" {
		t.Fatalf("holder said %q, %v", line, err)
	}
	return cmd
}

func TestLockOfALiveHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made", "too", "gateway.lock")
	if held, _, err := Held(path); held || err != nil {
		t.Errorf("Held of a missing file = %v, %v", held, err)
	}
	other := holder(t, path)
	held, who, err := Held(path)
	if !held || err != nil || who.PID != other.Process.Pid || who.Command != "holder of the test" {
		t.Errorf("Held = %v, %+v, %v", held, who, err)
	}
	_, err = TryLock(path, "test")
	var busy *Busy
	if !errors.As(err, &busy) || busy.Holder.PID != other.Process.Pid {
		t.Fatalf("TryLock = %v, want Busy of pid %d", err, other.Process.Pid)
	}
	for _, want := range []string{"holder of the test", fmt.Sprint(other.Process.Pid), path} {
		if !strings.Contains(busy.Error(), want) {
			t.Errorf("error %q lacks %q", busy, want)
		}
	}
}

// R2: a dead holder never blocks, whatever it left in the file.
func TestLockOfADeadHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gateway.lock")
	other := holder(t, path)
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = other.Wait()
	if held, _, err := Held(path); held || err != nil {
		t.Errorf("Held = %v, %v", held, err)
	}
	for _, content := range []string{"", "{", fmt.Sprintf(`{"pid":%d}`, os.Getpid()), "\x00\xff"} {
		if err := os.WriteFile(path, []byte(content), FileMode); err != nil {
			t.Fatal(err)
		}
		l, err := TryLock(path, "test")
		if err != nil {
			t.Fatalf("with %q in the file: %v", content, err)
		}
		if held, who, err := Held(path); !held || err != nil || who.PID != os.Getpid() {
			t.Errorf("Held = %v, %+v, %v", held, who, err)
		}
		if err := l.Unlock(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the lock file was removed: %v", err)
	}
}

// A busy lock whose file says nothing is still busy.
func TestBusyWithoutAHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gateway.lock")
	holder(t, path)
	if err := os.WriteFile(path, nil, FileMode); err != nil {
		t.Fatal(err)
	}
	_, err := TryLock(path, "test")
	var busy *Busy
	if !errors.As(err, &busy) || busy.Holder.PID != 0 || !strings.Contains(err.Error(), "another process") {
		t.Errorf("TryLock = %v", err)
	}
}

// Asking is not holding: however many ask, a free lock is taken.
func TestAskersDoNotBlock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gateway.lock")
	first, err := TryLock(path, "test")
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Unlock(); err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	var askers sync.WaitGroup
	for range 4 {
		askers.Go(func() {
			for !stop.Load() {
				if _, _, err := Held(path); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 300 {
		l, err := TryLock(path, "test")
		if err != nil {
			t.Error(err)
			break
		}
		if err := l.Unlock(); err != nil {
			t.Error(err)
		}
	}
	stop.Store(true)
	askers.Wait()
}

// Of many who want it at once exactly one gets it.
func TestOneOfManyGetsTheLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gateway.lock")
	for range 20 {
		var got atomic.Int32
		locks := make([]*Lock, 8)
		var wg sync.WaitGroup
		for i := range locks {
			wg.Go(func() {
				l, err := TryLock(path, "test")
				if err == nil {
					got.Add(1)
					locks[i] = l
				} else if busy := (*Busy)(nil); !errors.As(err, &busy) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got.Load() != 1 {
			t.Fatalf("%d hold the lock", got.Load())
		}
		for _, l := range locks {
			if l != nil {
				if err := l.Unlock(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}
