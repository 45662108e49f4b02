package e2e

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// trafficProgram builds test/traffic, once.
var trafficProgram = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "creel-traffic-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	cmd := exec.Command("go", "build", "-o", filepath.Join(dir, "traffic"), "creel/test/traffic")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build traffic: %w\n%s", err, out)
	}
	return os.ReadFile(filepath.Join(dir, "traffic"))
})

// traffic puts the program of test/traffic into the sandbox claw.
func (h *home) installTraffic() {
	h.t.Helper()
	program, err := trafficProgram()
	if err != nil {
		h.t.Fatal(err)
	}
	if r := h.runInput(string(program), creel, nil, "exec", "claw", "--", "/bin/sh", "-c", "cat >/sandbox/traffic && chmod +x /sandbox/traffic"); r.code != 0 {
		h.t.Fatalf("put a program into the sandbox: %+v", r)
	}
}

// traffic runs it there on a port until the sandbox ends, whatever becomes of the
// gateway.
func (h *home) traffic(port int) {
	h.t.Helper()
	h.must(0, "exec", "claw", "--", "/bin/sh", "-c",
		fmt.Sprintf("mkfifo -m 600 /tmp/up && { setsid /sandbox/traffic %d </dev/null >/tmp/up 2>&1 & head -n 1 /tmp/up; rm /tmp/up; }", port))
}

// serves starts a program of this machine that says in one line where it listens.
func serves(t testing.TB, cmd *exec.Cmd) (line string) {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if line, err = bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("%v does not serve: %q %v", cmd.Args, line, err)
	}
	return strings.TrimSpace(line)
}

// dialled connects to a port of this machine, for at most a minute.
func dialled(t testing.TB, port int) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

// echoed sends a byte through a port and waits for it to come back.
func echoed(port int) error {
	c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), 5*time.Second)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Write([]byte("Ex")); err != nil {
		return err
	}
	_, err = io.ReadFull(c, make([]byte, 1))
	return err
}

// swallowed sends so many bytes through a port and returns what arrived.
func swallowed(t testing.TB, port int, bytes int64) int64 {
	t.Helper()
	c := dialled(t, port)
	defer func() { _ = c.Close() }()
	if _, err := c.Write([]byte("S")); err != nil {
		t.Fatal(err)
	}
	chunk := make([]byte, 256<<10)
	for left := bytes; left > 0; left -= int64(len(chunk)) {
		if _, err := c.Write(chunk[:min(left, int64(len(chunk)))]); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	number := make([]byte, 8)
	if _, err := io.ReadFull(c, number); err != nil {
		t.Fatal(err)
	}
	return int64(binary.BigEndian.Uint64(number))
}

// fetched asks for so many bytes through a port and returns how many came.
func fetched(t testing.TB, port int, bytes int64) int64 {
	t.Helper()
	c := dialled(t, port)
	defer func() { _ = c.Close() }()
	if _, err := c.Write(binary.BigEndian.AppendUint64([]byte("P"), uint64(bytes))); err != nil {
		t.Fatal(err)
	}
	n, chunk := int64(0), make([]byte, 256<<10)
	for {
		k, err := c.Read(chunk)
		if n += int64(k); err == io.EOF {
			return n
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// started runs `forward start` and returns the port that it says.
func (h *home) forwardStart(args ...string) int {
	h.t.Helper()
	_, port, err := net.SplitHostPort(strings.TrimSpace(h.must(0, append([]string{"forward", "start"}, args...)...).stdout))
	if err != nil {
		h.t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		h.t.Fatal(err)
	}
	return n
}
