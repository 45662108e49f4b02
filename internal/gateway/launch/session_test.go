package launch

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"creel/internal/host"
)

// A gateway that forks and ends leaves a process that may keep its port. That one
// is ended; a process of another session, which has nothing to do with it, is not.
func TestEndSession(t *testing.T) {
	bystander := exec.Command("sleep", "600")
	if err := bystander.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = bystander.Process.Kill(); _ = bystander.Wait() }()
	log := filepath.Join(t.TempDir(), "log")
	c, err := Start(exec.Command("/bin/sh", "-c", "sleep 600 & echo $!"), log)
	if err != nil {
		t.Fatal(err)
	}
	<-c.Exited()
	content, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	s := bufio.NewScanner(strings.NewReader(string(content)))
	s.Scan()
	fork, err := strconv.Atoi(s.Text())
	if err != nil {
		t.Fatal(err)
	}
	if p, err := host.Lookup(fork); err != nil || p.Gone() || p.Session != c.PID() {
		t.Fatalf("the fork is %+v, %v: then this shows nothing", p, err)
	}
	// A leader that began at another time is not the one that was launched.
	if err := EndSession(os.Getpid(), c.Began()); err != nil {
		t.Error(err)
	}
	if err := c.EndSession(); err != nil {
		t.Error(err)
	}
	if p, err := host.Lookup(fork); err == nil && !p.Gone() {
		t.Error("the fork lives")
	}
	if p, err := host.Lookup(bystander.Process.Pid); err != nil || p.Gone() {
		t.Error("a bystander was ended")
	}
}

func TestGLIBCIsExplained(t *testing.T) {
	f := &StartFailure{Ended: "exited with code 127 before becoming ready"}
	f.explainGLIBC("x: version `GLIBC_2.38' not found\nx: version `GLIBC_2.39' not found\nx: version `GLIBC_2.38' not found\n")
	if !strings.Contains(f.Ended, "needs GLIBC 2.38, 2.39") {
		t.Error(f.Ended)
	}
	if have := host.GLIBC(); have != "" && !strings.Contains(f.Ended, "this machine has "+have) {
		t.Error(f.Ended)
	}
}
