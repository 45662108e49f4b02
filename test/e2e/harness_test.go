// Package e2e runs the creel executable as a user does: real processes, a real
// home, a local model provider, no network beyond loopback. Each suite has a
// name that can be selected: go test ./test/e2e -run 'TestE2E/full'.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"creel/test/nethosts"
	"creel/test/systemdenv"
)

// creel is the executable under test; killer is the same program of a later version
// that kills itself, or fails, when it is asked to.
var creel, killer string

// laterVersion is what killer calls itself.
const laterVersion = "9.9.9"

// fakeGateway is a gateway of OpenShell that misbehaves on demand.
var fakeGateway string

// fakeOpenClaw is an agent that is shaped like OpenClaw, alone in its directory.
var fakeOpenClaw string

func TestMain(m *testing.M) {
	systemdenv.Become()
	if program := os.Getenv(withoutLandlock); program != "" {
		os.Exit(runWithoutLandlock(program))
	}
	if id := os.Getenv(sshProxy); id != "" {
		os.Exit(runProxy(id))
	}
	if os.Getenv(mountHolder) != "" {
		os.Exit(holdMounts())
	}
	if holder := os.Getenv(mountJoiner); holder != "" {
		os.Exit(joinMounts(holder))
	}
	os.Exit(build(m))
}

func build(m *testing.M) int {
	dir, err := os.MkdirTemp("", "creel-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "make a directory for the executables:", err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Chmod(dir, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	creel, killer, fakeGateway = filepath.Join(dir, "creel"), filepath.Join(dir, "killer"), filepath.Join(dir, "fakegateway")
	fakeOpenClaw = filepath.Join(dir, "openclaw", "openclaw")
	for target, source := range map[string]string{fakeOpenClaw: "creel/test/openclawtest/fakeopenclaw", creel: "creel/cmd/creel", killer: "creel/test/e2e/killer", fakeGateway: "creel/test/fakegateway"} {
		build := []string{"build", "-o", target}
		if target == killer {
			build = append(build, "-ldflags", "-X creel/internal/version.stamp="+laterVersion)
		}
		cmd := exec.Command("go", append(build, source)...)
		if target == fakeGateway { // it also runs where there is no C library
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		}
		out, err := cmd.CombinedOutput()
		if err != nil {
			fmt.Fprintf(os.Stderr, "build %s: %v\n%s", source, err, out)
			return 1
		}
	}
	return clusters.Run(m)
}

// home is one user's Creel: a CREEL_HOME of its own.
type home struct {
	t   testing.TB
	dir string
	env []string
	// secrets must never be seen anywhere; see noSecrets.
	secrets []string
	output  bytes.Buffer // everything printed so far
	// program is what run runs; empty is creel.
	program string
	// holder is the process whose mount namespace the home is seen in, 0 for this
	// one's own, and root is what to put before its paths to see it from here.
	holder int
	root   string
	// host is the network namespace that creel runs in, nil for this one's own.
	host *nethosts.Host
}

// newHome makes an empty home and takes everything of it down at the end.
func newHome(t testing.TB) *home {
	t.Helper()
	dir, err := os.MkdirTemp("", "c")
	if err != nil {
		t.Fatal(err)
	}
	h := &home{t: t, dir: dir, env: []string{
		"CREEL_HOME=" + dir, "PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "LANG=C.UTF-8", "CI=true",
	}}
	t.Cleanup(func() {
		h.run("uninstall", "--yes")
		left := h.processes()
		for _, p := range left {
			t.Errorf("process left after uninstall: %d %s", p.pid, p.command)
			_ = syscall.Kill(p.pid, syscall.SIGKILL)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove home: %v", err)
		}
	})
	return h
}

// in is the same home for a subtest, which is the one that fails.
func (h *home) in(t testing.TB) *home {
	return &home{t: t, dir: h.dir, env: h.env, secrets: h.secrets}
}

// result is how a command ended.
type result struct {
	code           int
	stdout, stderr string
	took           time.Duration
	args           []string
}

// run runs creel with a bound of 60 s.
func (h *home) run(args ...string) result {
	h.t.Helper()
	if h.program != "" {
		return h.runProgram(h.program, nil, args...)
	}
	return h.runProgram(creel, nil, args...)
}

func (h *home) runProgram(program string, extra []string, args ...string) result {
	h.t.Helper()
	return h.runInput("", program, extra, args...)
}

func (h *home) runInput(input, program string, extra []string, args ...string) result {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(append([]string{}, h.env...), extra...)
	if h.holder != 0 {
		cmd = exec.CommandContext(ctx, os.Args[0], append([]string{program}, args...)...)
		cmd.Env = append(append(append([]string{}, h.env...), extra...), fmt.Sprintf("%s=%d", mountJoiner, h.holder))
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if input != "" {
		cmd.Stdin = strings.NewReader(input)
	}
	cmd.WaitDelay = time.Second
	began := time.Now()
	run := cmd.Run
	if h.host != nil {
		run = func() error { return h.host.Do(cmd.Run) }
	}
	err := run()
	r := result{stdout: stdout.String(), stderr: stderr.String(), took: time.Since(began), args: args}
	h.output.Write(stdout.Bytes())
	h.output.Write(stderr.Bytes())
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		h.t.Fatalf("creel %s: not done within 60 s\n%s%s", strings.Join(args, " "), r.stdout, r.stderr)
	case errors.As(err, &exit):
		r.code = exit.ExitCode()
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			r.code = 128 + int(ws.Signal())
		}
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		h.t.Fatalf("creel %s: %v", strings.Join(args, " "), err)
	}
	return r
}

// must runs creel and requires the exit code.
func (h *home) must(code int, args ...string) result {
	h.t.Helper()
	r := h.run(args...)
	if r.code != code {
		h.t.Fatalf("creel %s: exit %d, want %d\nstdout:\n%s\nstderr:\n%s%s", strings.Join(args, " "), r.code, code, r.stdout, r.stderr, h.logs())
	}
	return r
}

// logs returns the ends of all logs, for failure messages.
func (h *home) logs() string {
	var b strings.Builder
	_ = filepath.WalkDir(h.root+h.dir, func(path string, _ os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".log") {
			content, _ := os.ReadFile(path)
			fmt.Fprintf(&b, "--- %s\n%s\n", strings.TrimPrefix(path, h.dir), content[max(0, len(content)-3000):])
		}
		return nil
	})
	return b.String()
}

// decode parses a command's only document.
func decode[T any](t testing.TB, r result) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(r.stdout), &v); err != nil {
		t.Fatalf("creel %s printed no JSON document: %v\n%s\n%s", strings.Join(r.args, " "), err, r.stdout, r.stderr)
	}
	return v
}

type process struct {
	pid     int
	command string
}

// processes lists those whose environment or command line names this home.
func (h *home) processes() []process {
	var found []process
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		environ, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		cmdline, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if bytes.Contains(environ, []byte("CREEL_HOME="+h.dir+"\x00")) || bytes.Contains(cmdline, []byte(h.dir+"/")) {
			stat, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
			if i := bytes.LastIndexByte(stat, ')'); i > 0 && i+2 < len(stat) && stat[i+2] == 'Z' {
				continue // ended; its parent has not looked yet
			}
			found = append(found, process{pid, strings.ReplaceAll(string(cmdline), "\x00", " ")})
		}
	}
	return found
}

// eventually polls until ok or 20 s.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// noSecrets fails when a secret shows in what was printed, in a file of the
// home, or in the command line or environment of any process but those allowed.
func (h *home) noSecrets() {
	h.t.Helper()
	for _, secret := range h.secrets {
		if strings.Contains(h.output.String(), secret) {
			h.t.Errorf("a secret was printed")
		}
		_ = filepath.WalkDir(h.dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				if content, err := os.ReadFile(path); err == nil && bytes.Contains(content, []byte(secret)) {
					h.t.Errorf("a secret is readable in %s", path)
				}
			}
			return nil
		})
		entries, _ := os.ReadDir("/proc")
		for _, e := range entries {
			if pid, err := strconv.Atoi(e.Name()); err != nil || pid == os.Getpid() {
				continue
			}
			for _, f := range []string{"cmdline", "environ"} {
				content, _ := os.ReadFile(filepath.Join("/proc", e.Name(), f))
				if bytes.Contains(content, []byte(secret)) {
					h.t.Errorf("a secret is in /proc/%s/%s", e.Name(), f)
				}
			}
		}
	}
}
