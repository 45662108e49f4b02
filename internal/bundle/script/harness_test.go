package script_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"creel/test/kubeenv"
	"creel/test/require"
)

var cluster kubeenv.Shared

func TestMain(m *testing.M) { os.Exit(cluster.Run(m)) }

// shell is one that a script runs under, and all the programs that it gets.
type shell struct {
	name string
	argv []string
}

// programs are those that a script may use: what is not here is not found.
var programs = []string{"cat", "cmp", "cp", "cut", "date", "grep", "mkdir", "mktemp", "mv", "openssl", "rm", "sed", "tr", "wc"}

func dash(t testing.TB) shell { return lookShell(t, "dash", "dash", "apt-get install dash") }
func bash(t testing.TB) shell { return lookShell(t, "bash", "bash", "apt-get install bash") }

// busybox is its shell with its own applets.
func busybox(t testing.TB) shell {
	return lookShell(t, "busybox", "busybox", "apt-get install busybox-static", "sh")
}

func lookShell(t testing.TB, name, program, how string, args ...string) shell {
	t.Helper()
	path, err := exec.LookPath(program)
	require.Feature(t, name, err == nil, how)
	return shell{name: name, argv: append([]string{path}, args...)}
}

func shells(t testing.TB) []shell { return []shell{dash(t), busybox(t), bash(t)} }

// machine is where a script is run: a PATH, a home and a directory for temporary
// files. Every program writes down its arguments before it does its work.
type machine struct {
	t          testing.TB
	shell      shell
	bin, home  string
	tmp, log   string
	kubeconfig string
}

func newMachine(t testing.TB, s shell, kubectl, kubeconfig string) *machine {
	t.Helper()
	dir := t.TempDir()
	m := &machine{t: t, shell: s, kubeconfig: kubeconfig, bin: filepath.Join(dir, "bin"), home: filepath.Join(dir, "home"),
		tmp: filepath.Join(dir, "tmp dir"), log: filepath.Join(dir, "arguments")}
	for _, d := range []string{m.bin, m.home, m.tmp} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	m.wrap("kubectl", kubectl, "")
	for _, p := range programs {
		before := ""
		if s.name == "busybox" && p != "openssl" {
			before = "set -- " + p + ` "$@"`
		}
		m.wrap(p, s.program(t, p), before)
	}
	return m
}

// program is the one that a shell's user would have: of busybox its applets.
func (s shell) program(t testing.TB, name string) string {
	t.Helper()
	if s.name == "busybox" && name != "openssl" {
		return s.argv[0]
	}
	path, err := exec.LookPath(name)
	require.Feature(t, name, err == nil, "apt-get install coreutils diffutils grep openssl sed")
	return path
}

// wrap puts a program into the PATH, with lines of shell that run before it.
func (m *machine) wrap(name, path, before string) {
	m.t.Helper()
	text := fmt.Sprintf("#!/bin/sh\nprintf '%%s\\n' \"${0##*/}\" \"$@\" >>'%s'\n%s\nexec '%s' \"$@\"\n", m.log, before, path)
	if err := os.WriteFile(filepath.Join(m.bin, name), []byte(text), 0o700); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) command(ctx context.Context, args ...string) *exec.Cmd {
	argv := append(append([]string{}, m.shell.argv...), args...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = []string{"HOME=" + m.home, "PATH=" + m.bin, "TMPDIR=" + m.tmp, "KUBECONFIG=" + m.kubeconfig}
	cmd.WaitDelay = time.Second
	return cmd
}

// outcome is how a run ended.
type outcome struct {
	code           int
	stdout, stderr string
}

// limit is for one run on a machine that has other things to do.
const limit = 2 * time.Minute

// run runs a script from a file, as users do.
func (m *machine) run(text string, options ...string) outcome {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return m.finish(m.command(ctx, append(options, m.file(text))...))
}

func (m *machine) file(text string) string {
	m.t.Helper()
	path := filepath.Join(m.home, "repair.sh")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
	return path
}

func (m *machine) finish(cmd *exec.Cmd) outcome {
	m.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		m.t.Fatalf("%v\n%s%s", err, &stdout, &stderr)
	}
	m.clean()
	return outcome{code: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
}

// clean fails the test when a run left temporary files.
func (m *machine) clean() {
	m.t.Helper()
	left, err := filepath.Glob(filepath.Join(m.tmp, "*"))
	if err != nil || len(left) > 0 {
		m.t.Errorf("temporary files are left: %q, %v", left, err)
	}
}

// arguments is what all programs were given so far.
func (m *machine) arguments() string {
	b, err := os.ReadFile(m.log)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		m.t.Fatal(err)
	}
	return string(b)
}

// must fails the test unless a run ended as said.
func (o outcome) must(t testing.TB, code int, stdout, stderr string) {
	t.Helper()
	if o.code != code || !strings.Contains(o.stdout, stdout) || !strings.Contains(o.stderr, stderr) || (stderr == "") != (o.stderr == "") {
		t.Fatalf("exit code %d, want %d\nstandard output, want %q:\n%s\nstandard error, want %q:\n%s", o.code, code, stdout, o.stdout, stderr, o.stderr)
	}
}
