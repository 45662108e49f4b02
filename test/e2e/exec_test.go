package e2e

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
)

// testLongCommands: a command may have 256 KiB. From 192 KiB on it was refused by a
// part that holds less, and one of 43 KiB of "<", six bytes each as JSON, broke
// the connection under every other command in the sandbox.
func testLongCommands(t *testing.T) {
	h := newHome(t)
	h.must(0, "onboard", "--yes", "--provider", "none")
	other := exec.Command(creel, "exec", "claw", "--", "sh", "-c", "echo up; cat; echo end")
	other.Env = h.env
	in, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); err != nil || line != "up\n" {
		t.Fatalf("the other command said %q, %v", line, err)
	}

	const most = 256 << 10
	args := func(total int, text string) []string {
		all := []string{"exec", "claw", "--no-stdin", "--", "sh", "-c", `printf %s "$@" | wc -c`, "sh"}
		for left := total; left > 0; {
			n := min(left, 31<<10)
			all = append(all, strings.Repeat(text, n))
			left -= n
		}
		return all
	}
	for _, c := range []struct {
		total int
		text  string
	}{{190 << 10, "a"}, {193 << 10, "a"}, {230 << 10, "a"}, {most - 200, "a"}, {most - 200, "<"}, {most - 200, "\x01"}} {
		if r := h.run(args(c.total, c.text)...); r.code != 0 || strings.TrimSpace(r.stdout) != fmt.Sprint(c.total) {
			t.Errorf("%d times %q: exit %d, %.100q, %.300q", c.total, c.text, r.code, r.stdout, r.stderr)
		}
	}
	if r := h.run(args(most, "a")...); r.code != 1 || !strings.Contains(r.stderr, "at most 262144 are allowed") || r.stdout != "" {
		t.Errorf("more than may be: exit %d, %.100q, %.300q", r.code, r.stdout, r.stderr)
	}

	if _, err := io.WriteString(in, "undisturbed\n"); err != nil {
		t.Error(err)
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	rest, _ := io.ReadAll(lines)
	if err := other.Wait(); err != nil || string(rest) != "undisturbed\nend\n" {
		t.Errorf("the other command: %v, said %q", err, rest)
	}
}
