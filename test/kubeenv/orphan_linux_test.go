package kubeenv_test

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"creel/test/kubeenv"
)

// child is set in the test program that TestNothingOutlivesTheTestProgram kills.
const child = "KUBEENV_TEST_CHILD"

func TestNothingOutlivesTheTestProgram(t *testing.T) {
	if os.Getenv(child) != "" {
		c := kubeenv.Start(t)
		_, _ = os.Stdout.WriteString("serves " + c.Server + "\n")
		<-t.Context().Done()
		return
	}
	kubeenv.Dir(t)
	tmp := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), child+"=1", "TMPDIR="+tmp)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || !strings.HasPrefix(line, "serves ") {
		t.Fatalf("the child: %v: %s", err, line)
	}
	if found := programsIn(t, tmp); len(found) != 2 {
		t.Fatalf("etcd and kube-apiserver should run: %q", found)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for found := programsIn(t, tmp); len(found) > 0; found = programsIn(t, tmp) {
		select {
		case <-ctx.Done():
			t.Fatalf("still run: %q", found)
		case <-tick.C:
		}
	}
}

// programsIn lists the processes that work in a directory below dir.
func programsIn(t *testing.T, dir string) (found []string) {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil || len(links) == 0 {
		t.Fatalf("list processes: %v", err)
	}
	for _, link := range links {
		if at, err := os.Readlink(link); err == nil && strings.HasPrefix(at, dir+"/") {
			name, _ := os.ReadFile(filepath.Join(filepath.Dir(link), "comm"))
			found = append(found, strings.TrimSpace(string(name)))
		}
	}
	return found
}
