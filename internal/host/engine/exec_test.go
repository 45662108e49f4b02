package engine

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/test/engineenv"
)

func sh(script string) Command { return Command{Args: []string{"/bin/sh", "-c", script}} }

func TestExec(t *testing.T) {
	onBoth(t, func(t *testing.T, real *engineenv.Engine, e *Engine) {
		c := real.Run(t, engineenv.Spec{Name: "gateway", Args: []string{"sleep", "1000"}})
		anything := []byte("*")
		large := bytes.Repeat([]byte("0123456789abcde\n"), 1<<15)
		for _, test := range []struct {
			name    string
			command Command
			want    Result
		}{
			{"both outputs and a code", sh("echo out; echo err >&2; exit 3"), Result{[]byte("out\n"), []byte("err\n"), 3}},
			{"nothing", sh("true"), Result{}},
			{"no input", sh("cat"), Result{}},
			{"empty input", Command{Args: []string{"cat"}, Stdin: []byte{}}, Result{}},
			{"input", Command{Args: []string{"cat"}, Stdin: []byte("a\x00b\n")}, Result{Stdout: []byte("a\x00b\n")}},
			{"much input", Command{Args: []string{"cat"}, Stdin: large}, Result{Stdout: large}},
			// Podman says on standard error what became of the rest.
			{"input that nobody reads", Command{Args: []string{"false"}, Stdin: large}, Result{Stderr: anything, ExitCode: 1}},
			{"a shell that finds nothing", sh("exec 2>/dev/null; nosuch"), Result{ExitCode: 127}},
			{"exactly the limit", Command{Args: []string{"echo", "123"}, Limit: 4}, Result{Stdout: []byte("123\n")}},
		} {
			t.Run(test.name, func(t *testing.T) {
				got, err := e.Exec(t.Context(), c.Name, test.command)
				if err != nil {
					t.Fatal(err)
				}
				if got.ExitCode != test.want.ExitCode || !bytes.Equal(got.Stdout, test.want.Stdout) ||
					!bytes.Equal(got.Stderr, test.want.Stderr) && !bytes.Equal(test.want.Stderr, anything) {
					t.Errorf("exit code %d, stdout %.100q (%d bytes), stderr %.100q", got.ExitCode, got.Stdout, len(got.Stdout), got.Stderr)
				}
			})
		}
		t.Run("more than the limit", func(t *testing.T) {
			for _, script := range []string{"head -c 2000000 /dev/zero", "head -c 2000000 /dev/zero >&2"} {
				if r, err := e.Exec(t.Context(), c.Name, sh(script)); !errors.Is(err, ErrTooMuch) || len(r.Stdout) > 0 {
					t.Errorf("%s: %d bytes, %v", script, len(r.Stdout), err)
				}
			}
		})
		t.Run("no such program", func(t *testing.T) {
			for _, program := range []string{"kubectl", "/tmp"} {
				_, err := e.Exec(t.Context(), c.Name, Command{Args: []string{program, "--secret-free"}})
				if advisoryID(err) != "container-program-missing" || !strings.Contains(err.Error(), "run "+program) || strings.Contains(err.Error(), "secret-free") {
					t.Errorf("%s: %v", program, err)
				}
			}
		})
	})
}

// await polls for something that only the kernel or an engine knows.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(20 * time.Second)
	defer limit.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatalf("%s: not seen", what)
		}
	}
}

// runs reports whether a process of an engine has an argument.
func runs(e *engineenv.Engine, program, argument string) bool {
	for _, pid := range e.Processes() {
		line, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
		if bytes.HasPrefix(line, []byte(program+"\x00")) && bytes.Contains(line, []byte("\x00"+argument+"\x00")) {
			return true
		}
	}
	return false
}

// TestExecEndsInTime: whatever the container or the engine does, a call ends with
// its budget and says which.
func TestExecEndsInTime(t *testing.T) {
	t.Setenv(budget.Operation.Variable(), "1s")
	onBoth(t, func(t *testing.T, real *engineenv.Engine, e *Engine) {
		c := real.Run(t, engineenv.Spec{Name: "gateway", Args: []string{"sleep", "1000"}})
		if _, err := e.Exec(t.Context(), c.Name, sh("true")); err != nil {
			t.Fatal(err)
		}
		for _, test := range []struct {
			name, seconds string
			between       func()
		}{
			{"a program that takes long", "777", func() {}},
			{"paused meanwhile", "778", func() { c.Pause(t) }},
		} {
			t.Run(test.name, func(t *testing.T) {
				defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
				defer func() { _ = e.Close() }()
				ctx, cancel := budget.Context(t.Context(), budget.Operation, "read the set")
				defer cancel()
				begin := time.Now()
				failed := make(chan error, 1)
				go func() {
					_, err := e.Exec(ctx, c.Name, Command{Args: []string{"sleep", test.seconds}, Stdin: make([]byte, 1<<20)})
					failed <- err
				}()
				await(t, "the program", func() bool { return runs(real, "sleep", test.seconds) || ctx.Err() != nil })
				test.between()
				err := <-failed
				var expired *budget.Expired
				if !errors.As(err, &expired) || expired.Budget != budget.Operation || time.Since(begin) > 20*time.Second {
					t.Errorf("after %s: %v", time.Since(begin), err)
				}
			})
		}
	})
}

// TestContainerStates: three values, and only the engine's own word for missing.
func TestContainerStates(t *testing.T) {
	onBoth(t, func(t *testing.T, real *engineenv.Engine, e *Engine) {
		c := real.Run(t, engineenv.Spec{Name: "gateway", Args: []string{"sleep", "1000"}})
		check := func(name string, state State, status, id, hint string) {
			t.Helper()
			got, err := e.Container(t.Context(), name)
			if err != nil || got.State != state || status != "" && got.Status != status {
				t.Errorf("%+v, %v; want %s, %s", got, err, state, status)
			}
			r, err := e.Exec(t.Context(), name, sh("true"))
			if advisoryID(err) != id {
				t.Errorf("exec: %+v, %v; want %s", r, err, id)
			}
			if p, ok := advisory.Of(err); ok && !strings.Contains(strings.Join(p.Commands(), "\n"), string(real.Kind)+" "+hint) {
				t.Errorf("hints %q lack %q", p.Commands(), hint)
			}
		}
		check(c.Name, Running, "running", "", "")
		found, err := e.Container(t.Context(), c.Name)
		if err != nil || found.ID == "" || !strings.Contains(found.Image, "creel-test") {
			t.Errorf("%+v, %v", found, err)
		}
		check(found.ID[:12], Missing, "", "", "") // it would be found by that, too
		check("other", Missing, "", "container-missing", "ps --all")
		c.Pause(t)
		check(c.Name, NotRunning, "paused", "container-not-running", "unpause "+c.Name)
		c.Unpause(t)
		check(c.Name, Running, "running", "", "")
		c.Kill(t)
		check(c.Name, NotRunning, "exited", "container-not-running", "start "+c.Name)
		c.Start(t)
		check(c.Name, Running, "running", "", "")
		c.Remove(t)
		check(c.Name, Missing, "", "container-missing", "ps --all")
	})
}

// TestContainerEndsMeanwhile: a program that was ended with its container has
// done nothing that anybody could rely on.
func TestContainerEndsMeanwhile(t *testing.T) {
	onBoth(t, func(t *testing.T, real *engineenv.Engine, e *Engine) {
		for name, end := range map[string]func(*engineenv.Container){
			"stopped": func(c *engineenv.Container) { c.Kill(t) },
			"removed": func(c *engineenv.Container) { c.Remove(t) },
		} {
			t.Run(name, func(t *testing.T) {
				c := real.Run(t, engineenv.Spec{Name: name, Args: []string{"sleep", "1000"}})
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				done := make(chan struct{})
				var r Result
				var err error
				go func() {
					defer close(done)
					r, err = e.Exec(ctx, c.Name, Command{Args: []string{"sleep", "888"}})
				}()
				await(t, "the program", func() bool { return runs(real, "sleep", "888") })
				end(c)
				<-done
				if err == nil && r.ExitCode == 0 || ctx.Err() != nil {
					t.Errorf("%+v, %v", r, err)
				}
			})
		}
	})
}
