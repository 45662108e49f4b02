package script_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"creel/internal/bundle"
	"creel/internal/bundle/script"
)

// held is a run that waits inside a call of kubectl, with keys on disk.
type held struct {
	m              *machine
	cmd            *exec.Cmd
	release        func()
	stdout, stderr bytes.Buffer
}

// hold starts a run whose first creation waits until it is released.
func hold(t *testing.T, w *world, m *machine, text string) *held {
	t.Helper()
	reached, goOn := filepath.Join(m.home, "reached"), filepath.Join(m.home, "go on")
	for _, fifo := range []string{reached, goOn} {
		if err := syscall.Mkfifo(fifo, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m.wrap("kubectl", w.c.Bin+"/kubectl", fmt.Sprintf(
		"case \" $* \" in %s) echo reached >'%s'; read -r _ <'%s' ;; esac", creation, reached, goOn))
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	h := &held{m: m, cmd: m.command(ctx, m.file(text))}
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	h.cmd.Stdout, h.cmd.Stderr = &h.stdout, &h.stderr
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// Both ends wait for each other here.
	if _, err := os.ReadFile(reached); err != nil {
		t.Fatal(err)
	}
	h.release = func() {
		if err := os.WriteFile(goOn, []byte("go on\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func (h *held) wait(t *testing.T, code int) {
	t.Helper()
	err := h.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if got := h.cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("exit code %d, want %d\n%s%s", got, code, &h.stdout, &h.stderr)
	}
	h.m.clean()
}

func TestSignals(t *testing.T) {
	c := cluster.Get(t)
	// Under nohup, or in the background of a script, some are ignored, and a shell
	// cannot catch what was ignored when it began. What this program catches is not
	// ignored by what it starts.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP, syscall.SIGINT)
	t.Cleanup(func() { signal.Stop(caught) })
	for _, s := range shells(t) {
		for sig, code := range map[syscall.Signal]int{syscall.SIGTERM: 143, syscall.SIGHUP: 129, syscall.SIGINT: 130} {
			t.Run(fmt.Sprint(s.name, " ", sig), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, c, bundle.Generation1)
				m := newMachine(t, s, c.Bin+"/kubectl", c.AdminKubeconfig)
				h := hold(t, w, m, generate(t, script.Options{Want: w.want}))
				private(t, m.tmp)
				// To all of them, as a terminal does it.
				if err := syscall.Kill(-h.cmd.Process.Pid, sig); err != nil {
					t.Fatal(err)
				}
				h.wait(t, code)
				if found := w.secrets(); len(found) > 0 {
					t.Errorf("it went on and wrote %d secrets", len(found))
				}
			})
		}
		t.Run(s.name+" terminated while a program runs", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, c, bundle.Generation1)
			m := newMachine(t, s, c.Bin+"/kubectl", c.AdminKubeconfig)
			h := hold(t, w, m, generate(t, script.Options{Want: w.want}))
			if err := h.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			h.release()
			h.wait(t, 143)
			if found := w.secrets(); len(found) != 1 {
				t.Errorf("it went on and wrote %d secrets", len(found))
			}
		})
		t.Run(s.name+" nobody reads", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, c, bundle.Generation1)
			m := newMachine(t, s, c.Bin+"/kubectl", c.AdminKubeconfig)
			r, out, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			cmd := m.command(t.Context(), m.file(generate(t, script.Options{Want: w.want})))
			cmd.Stdout = out
			if err := errors.Join(r.Close(), cmd.Start(), out.Close()); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err == nil {
				t.Error("it ended with 0")
			}
			m.clean()
			if found := w.secrets(); len(found) > 0 {
				t.Errorf("it wrote %d secrets", len(found))
			}
		})
	}
}

// private fails the test when others could read what is below a directory.
func private(t *testing.T, dir string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %s", path, info.Mode())
		}
		if err == nil && info.Mode().IsRegular() {
			files++
		}
		if d.Name() == "ca.key" {
			t.Errorf("%s is still there", path)
		}
		return err
	})
	if err != nil || files < 8 {
		t.Errorf("%d files, %v", files, err)
	}
}

// No secret is ever in an argument or the environment of a process, nor in the
// output, even when the shell shows each command.
func TestNoSecretLeaves(t *testing.T) {
	c := cluster.Get(t)
	for _, s := range shells(t) {
		for _, g := range []bundle.Generation{bundle.Generation1, bundle.Generation2} {
			t.Run(fmt.Sprint(s.name, " ", g), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, c, g)
				w.fill(bundle.ClientTLS, bundle.SSHHandshake, "openshell-jwt-keys")
				old := w.secrets()
				m := newMachine(t, s, c.Bin+"/kubectl", c.AdminKubeconfig)
				ctx, cancel := context.WithTimeout(context.Background(), limit)
				defer cancel()
				cmd := m.command(ctx, "-x", m.file(generate(t, script.Options{Want: w.want})))
				var stdout, stderr bytes.Buffer
				cmd.Stdout, cmd.Stderr = &stdout, &stderr
				cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				ended, seen := make(chan struct{}), make(chan string)
				go func() { seen <- watch(cmd.Process.Pid, ended) }()
				err := cmd.Wait()
				close(ended)
				processes := <-seen
				if err != nil {
					t.Fatalf("%v\n%s", err, &stderr)
				}
				if !strings.Contains(processes, "kubectl\x00--namespace="+w.namespace) || !strings.Contains(stderr.String(), "genpkey") {
					t.Fatalf("the processes were not watched: %q", processes)
				}
				texts := map[string]string{"standard output": stdout.String(), "the shell's trace": stderr.String(),
					"an argument": m.arguments(), "a process": processes}
				nowhere(t, old, texts)
				nowhere(t, w.good(), texts)
			})
		}
	}
}

// watch collects arguments and environments of a process group's processes.
func watch(group int, ended <-chan struct{}) string {
	var all strings.Builder
	seen := map[string]bool{}
	for {
		select {
		case <-ended:
			return all.String()
		default:
		}
		stats, _ := filepath.Glob("/proc/[0-9]*/stat")
		for _, path := range stats {
			stat, err := os.ReadFile(path)
			if err != nil {
				continue // it has ended
			}
			// proc(5): after the name in parentheses come state, parent and group.
			_, rest, _ := strings.Cut(string(stat), ") ")
			if fields := strings.Fields(rest); len(fields) < 3 || fields[2] != fmt.Sprint(group) {
				continue
			}
			for _, file := range []string{"cmdline", "environ"} {
				text, err := os.ReadFile(filepath.Join(filepath.Dir(path), file))
				if err == nil && !seen[string(text)] {
					seen[string(text)] = true
					all.Write(text)
				}
			}
		}
	}
}

// A script that arrives in part does nothing: it may be piped into a shell.
func TestCutShort(t *testing.T) {
	for _, s := range shells(t) {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, s, "/bin/false", "/nonexistent")
			text := generate(t, script.Options{Want: requirements(bundle.Generation1, "")})
			lines := bufio.NewScanner(strings.NewReader(text))
			part := ""
			for lines.Scan() {
				if lines.Text() == "main </dev/null" {
					break
				}
				part += lines.Text() + "\n"
				cmd := m.command(t.Context())
				cmd.Stdin = strings.NewReader(part + "mai")
				_ = m.finish(cmd) // an error of syntax or of an unknown command
			}
			if m.arguments() != "" {
				t.Errorf("a part of it ran %s", m.arguments())
			}
			cmd := m.command(t.Context())
			cmd.Stdin = strings.NewReader(text)
			m.finish(cmd).must(t, 4, "", "could not be asked")
		})
	}
}

// No program waits for what nobody types, such as a plugin of kubectl that asks
// for a password.
func TestNobodyIsAsked(t *testing.T) {
	c := cluster.Get(t)
	for _, s := range shells(t) {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, c, bundle.Generation2)
			w.fill(bundle.ServerTLS, "openshell-jwt-keys")
			m := newMachine(t, s, c.Bin+"/kubectl", c.AdminKubeconfig)
			m.wrap("kubectl", c.Bin+"/kubectl", `case " $* " in *" -f "*) ;; *) cat >/dev/null ;; esac`)
			ctx, cancel := context.WithTimeout(context.Background(), limit)
			defer cancel()
			cmd := m.command(ctx, m.file(generate(t, script.Options{Want: w.want})))
			r, terminal, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			cmd.Stdin = r
			m.finish(cmd).must(t, 0, "✓", "")
			if err := errors.Join(r.Close(), terminal.Close()); err != nil {
				t.Error(err)
			}
			w.good()
		})
	}
}
