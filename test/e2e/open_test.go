package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"creel/test/require"
)

// --open shows the page signed in, in a real browser, and the token is at no time
// in the arguments or the environment of any process but the agent's own.
func testDashboardOpen(t *testing.T) {
	program := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			program = p
			break
		}
	}
	require.Feature(t, "chromium", program != "", "install Debian's package chromium")
	h, _ := stack(t)
	token := strings.SplitN(h.authenticated(), "#token=", 2)[1]

	// The desktop's opener is one that shows the page for real.
	dir, err := os.MkdirTemp("", "creel-open-")
	if err != nil {
		t.Fatal(err)
	}
	profile := filepath.Join(dir, "profile")
	script := fmt.Sprintf(`#!/bin/sh
printf '%%s\n' "$*" >%[1]s/arguments
echo $$ >%[1]s/pid
exec %[2]s --headless=new --no-sandbox --disable-gpu --no-first-run --disable-dev-shm-usage --disable-background-networking --disable-component-update \
	--disable-sync --remote-debugging-port=0 --user-data-dir=%[3]s "$1" >/dev/null 2>&1
`, dir, program, profile)
	if err := os.WriteFile(filepath.Join(dir, "xdg-open"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		text, _ := os.ReadFile(filepath.Join(dir, "pid"))
		if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && pid > 1 && runs(pid, profile) {
			_ = syscall.Kill(pid, syscall.SIGTERM)
		}
		// Its last processes may still be writing.
		eventually(t, "the browser ended", func() bool { return !anyRuns(profile) })
		eventually(t, "its directory is gone", func() bool { return os.RemoveAll(dir) == nil })
	})

	looked := make(chan int)
	stop := make(chan struct{})
	go func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		n := 0
		for {
			if n == 0 { // once is enough to say
				n = betrayers(t, token)
			}
			select {
			case <-stop:
				looked <- n
				return
			case <-tick.C:
			}
		}
	}()
	r := h.runProgram(creel, []string{"PATH=" + dir + ":" + os.Getenv("PATH")}, "dashboard", "claw", "--open")
	if r.code != 0 || strings.Contains(r.stdout+r.stderr, token) {
		t.Fatalf("exit %d\n%s", r.code, strings.ReplaceAll(r.stdout+r.stderr, token, "TOKEN"))
	}
	eventually(t, "the page is signed in", func() bool { return signedIn(profile) })
	close(stop)
	if n := <-looked; n > 0 {
		t.Errorf("the token was seen %d times", n)
	}
	arguments, err := os.ReadFile(filepath.Join(dir, "arguments"))
	if err != nil || !strings.HasPrefix(string(arguments), "http://127.0.0.1:") || strings.Contains(string(arguments), token) {
		t.Errorf("the opener was given %q, %v", strings.ReplaceAll(string(arguments), token, "TOKEN"), err)
	}
	// The address is of no use to anybody now.
	if resp, err := (&http.Client{Timeout: time.Second}).Get(strings.TrimSpace(string(arguments))); err == nil {
		_ = resp.Body.Close()
		t.Errorf("the address still answers: %s", resp.Status)
	}

	// Over SSH there is no browser to open here, and what to do is said.
	ssh := h.runProgram(creel, []string{"SSH_CONNECTION=203.0.113.9 50000 192.0.2.7 22"}, "dashboard", "claw", "--open")
	if ssh.code != 1 || !strings.Contains(ssh.stderr, "ssh -L ") || !strings.Contains(ssh.stderr, "@192.0.2.7") || !strings.Contains(ssh.stderr, "--show-token") {
		t.Errorf("over SSH: exit %d\n%s", ssh.code, ssh.stderr)
	}
}

// betrayers counts the processes whose arguments show the token, or whose
// environment does and that are not inside a sandbox: the agent is given it there.
func betrayers(t *testing.T, token string) (n int) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		arguments, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if bytes.Contains(arguments, []byte(token)) {
			t.Errorf("the token is an argument of %q", bytes.ReplaceAll(bytes.ReplaceAll(arguments, []byte(token), []byte("TOKEN")), []byte{0}, []byte(" ")))
			n++
		}
		environment, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if bytes.Contains(environment, []byte(token)) && !bytes.Contains(environment, []byte("CREEL_DASHBOARD_TOKEN="+token)) {
			t.Errorf("the token is in the environment of %q", bytes.ReplaceAll(arguments, []byte{0}, []byte(" ")))
			n++
		}
	}
	return n
}

// signedIn asks the browser for its pages: one is titled with the sandbox's name,
// which only who is signed in learns, and shows no token in its address.
func signedIn(profile string) bool {
	text, err := os.ReadFile(filepath.Join(profile, "DevToolsActivePort"))
	if err != nil {
		return false
	}
	port, _, _ := strings.Cut(string(text), "\n")
	resp, err := (&http.Client{Timeout: time.Second}).Get("http://127.0.0.1:" + port + "/json/list")
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	var pages []struct{ Title, URL string }
	if json.NewDecoder(resp.Body).Decode(&pages) != nil {
		return false
	}
	for _, p := range pages {
		if strings.HasPrefix(p.Title, "claw ") && !strings.Contains(p.URL, "token") {
			return true
		}
	}
	return false
}

// runs reports whether the process is the one with the profile.
func runs(pid int, profile string) bool {
	arguments, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && bytes.Contains(arguments, []byte(profile))
}

func anyRuns(profile string) bool {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && runs(pid, profile) {
			return true
		}
	}
	return false
}
