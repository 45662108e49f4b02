package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"creel/internal/advisory"
	"creel/internal/gateway/launch"
	"creel/internal/state"
)

// logWorld is a gateway that has a log and nothing else.
func logWorld(t testing.TB, current string, older ...string) *Runtime {
	t.Helper()
	dir := t.TempDir()
	g := state.Roots{State: dir, Config: dir, Run: dir}.Gateway("creel")
	if err := state.MkdirAll(g.Dir()); err != nil {
		t.Fatal(err)
	}
	for i, content := range append([]string{current}, older...) {
		path := g.Log()
		if i > 0 {
			path = rotated(path, i)
		}
		if err := os.WriteFile(path, []byte(content), state.FileMode); err != nil {
			t.Fatal(err)
		}
	}
	return New(Config{Gateway: g})
}

func TestLogsTail(t *testing.T) {
	for _, c := range []struct {
		name    string
		current string
		older   []string
		lines   int
		want    string
	}{
		{"all", "c\nd\n", nil, 0, "c\nd\n"},
		{"all, over rotated files", "c\nd\n", []string{"b\n", "a\n"}, 0, "a\nb\nc\nd\n"},
		{"last", "c\nd\n", []string{"b\n"}, 1, "d\n"},
		{"exactly the current file", "c\nd\n", []string{"b\n"}, 2, "c\nd\n"},
		{"one more than the current file", "c\nd\n", []string{"a\nb\n"}, 3, "b\nc\nd\n"},
		{"over three files", "d\n", []string{"b\nc\n", "x\na\n"}, 4, "a\nb\nc\nd\n"},
		{"more than there is", "b\n", []string{"a\n"}, 9, "a\nb\n"},
		{"an open last line counts", "a\nb", nil, 1, "b"},
		{"blank lines count", "a\n\n\n", nil, 2, "\n\n"},
		{"an empty current file", "", []string{"a\nb\n"}, 1, "b\n"},
		{"long lines", strings.Repeat("x", 100_000) + "\nshort\n", nil, 2, strings.Repeat("x", 100_000) + "\nshort\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			if err := logWorld(t, c.current, c.older...).Logs(context.Background(), &out, c.lines, false); err != nil {
				t.Fatal(err)
			}
			if out.String() != c.want {
				t.Errorf("Logs = %.200q, want %.200q", out.String(), c.want)
			}
		})
	}
}

// However lines fall over files and blocks, the tail is the end of the whole.
func TestLogsTailProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		line := rapid.Map(rapid.IntRange(0, 5000), func(n int) string { return strings.Repeat("x", n) + "\n" })
		files := rapid.SliceOfN(rapid.SliceOfN(line, 0, 12), 1, logFiles).Draw(rt, "files")
		var all []string
		for i := len(files) - 1; i >= 0; i-- {
			all = append(all, files[i]...)
		}
		var older []string
		for _, f := range files[1:] {
			older = append(older, strings.Join(f, ""))
		}
		n := rapid.IntRange(1, 40).Draw(rt, "lines")
		var out bytes.Buffer
		if err := logWorld(t, strings.Join(files[0], ""), older...).Logs(context.Background(), &out, n, false); err != nil {
			rt.Fatal(err)
		}
		want := strings.Join(all[max(0, len(all)-n):], "")
		if out.String() != want {
			rt.Fatalf("%d bytes, want %d", out.Len(), len(want))
		}
	})
}

func TestLogsOfNoGateway(t *testing.T) {
	r := logWorld(t, "")
	if err := os.Remove(r.cfg.Gateway.Log()); err != nil {
		t.Fatal(err)
	}
	err := r.Logs(context.Background(), &bytes.Buffer{}, 0, false)
	if p, ok := advisory.Of(err); !ok || p.ID != "gateway-log-missing" {
		t.Errorf("Logs = %v", err)
	}
}

// watched is a writer that a test can wait for.
type watched struct {
	mu      sync.Mutex
	b       bytes.Buffer
	changed chan struct{}
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case w.changed <- struct{}{}:
	default:
	}
	return w.b.Write(p)
}

func (w *watched) await(t *testing.T, want string) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		w.mu.Lock()
		got := w.b.String()
		w.mu.Unlock()
		if got == want {
			return
		}
		select {
		case <-w.changed:
		case <-deadline:
			t.Fatalf("followed %q, want %q", got, want)
		}
	}
}

// Following shows every line once, over a log that appears late and is rotated
// more than once.
func TestLogsFollowOverRotation(t *testing.T) {
	r := logWorld(t, "")
	path := r.cfg.Gateway.Log()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	out := &watched{changed: make(chan struct{}, 1)}
	done := make(chan error, 1)
	go func() { done <- r.Logs(ctx, out, 0, true) }()

	log, err := openLog(path, 40, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	var want string
	for i := range 12 {
		line := fmt.Sprintf("line number %d\n", i)
		if _, err := log.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
		want += line
		out.await(t, want)
	}
	if _, err := os.Stat(rotated(path, 2)); err != nil {
		t.Fatalf("the log was not rotated twice: %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("following ended with %v", err)
	}
}

func TestRotation(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "gateway.log")
	var adopted int
	log, err := openLog(path, 10, func(*os.File) error { adopted++; return nil })
	if err != nil {
		t.Fatal(err)
	}
	for i := range 9 { // each record is larger than half a file
		if _, err := fmt.Fprintf(log, "record%d\n", i); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"gateway.log": "record8\n", "gateway.log.1": "record7\n", "gateway.log.2": "record6\n"} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || string(got) != want {
			t.Errorf("%s = %q, %v; want %q", name, got, err, want)
		}
		if fi, err := os.Stat(filepath.Join(dir, name)); err != nil || fi.Mode().Perm() != state.FileMode {
			t.Errorf("mode of %s: %v, %v", name, fi, err)
		}
	}
	if es, err := os.ReadDir(dir); err != nil || len(es) != logFiles {
		t.Errorf("%d files, %v", len(es), err)
	}
	if adopted != 9 {
		t.Errorf("standard streams followed %d times, want 9", adopted)
	}
}

// A log that cannot be rotated goes on.
func TestRotationThatFails(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "gateway.log")
	refuse := false
	log, err := openLog(path, 10, func(*os.File) error {
		if refuse {
			return errors.New("refused")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	refuse = true
	for range 3 {
		if _, err := log.Write([]byte("0123456\n")); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != strings.Repeat("0123456\n", 3) {
		t.Errorf("log = %q, %v", got, err)
	}
}

func TestScrubbedEnvironment(t *testing.T) {
	env := map[string]string{"PATH": "/bin", "HOME": "/h", "CREEL_HOME": "relative", "XDG_STATE_HOME": "/s", "CREEL_BUDGET_PROBE": "1s",
		"OPENAI_API_KEY": "sk", "NVIDIA_API_KEY": "nvapi", "LD_PRELOAD": "x", "NOTIFY_SOCKET": "/n", "CREEL_HANDSHAKE": "3,4"}
	cwd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(launch.Environment(func(n string) string { return env[n] }), "\n")
	want := "PATH=/bin\nHOME=/h\nCREEL_HOME=" + filepath.Join(cwd, "relative") + "\nXDG_STATE_HOME=/s\nCREEL_BUDGET_PROBE=1s"
	if got != want {
		t.Errorf("environment:\n%s\nwant:\n%s", got, want)
	}
}
