//go:build linux

package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"creel/internal/cli/ui"
	"creel/internal/gateway"
)

// shellRuntime's gateway runs a shell that is a function.
type shellRuntime struct {
	worldRuntime
	shell func(context.Context, gateway.Exec) (int, error)
}

func (r shellRuntime) Dial(context.Context) (gateway.Client, error) {
	return shellClient{worldClient{r.w}, r.shell}, nil
}

type shellClient struct {
	worldClient
	shell func(context.Context, gateway.Exec) (int, error)
}

func (c shellClient) Exec(ctx context.Context, e gateway.Exec) (int, error) { return c.shell(ctx, e) }

func openTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Skipf("no pseudo terminal: %v", err)
	}
	t.Cleanup(func() { _, _ = master.Close(), slave.Close() })
	return master, slave
}

func termios(t *testing.T, f *os.File) unix.Termios {
	t.Helper()
	raw, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *raw
}

func TestConnect(t *testing.T) {
	for _, c := range []struct {
		name string
		fail error
		want int
	}{
		{"the shell ends", nil, 4},
		{"the connection breaks", errors.New("the connection broke"), ExitFailed},
	} {
		t.Run(c.name, func(t *testing.T) {
			master, slave := openTerminal(t)
			if err := pty.Setsize(slave, &pty.Winsize{Rows: 24, Cols: 80}); err != nil {
				t.Fatal(err)
			}
			p := newProgram(t)
			p.must(ExitOK, "onboard")
			p.env["TERM"] = "xterm-test"
			before := termios(t, slave)
			shell := func(ctx context.Context, e gateway.Exec) (int, error) {
				if e.Cols != 80 || e.Rows != 24 || !e.TTY || e.Env["TERM"] != "xterm-test" {
					return 0, fmt.Errorf("the shell was opened with %+v", e)
				}
				if inside := termios(t, slave); inside.Lflag&unix.ECHO != 0 || inside.Lflag&unix.ICANON != 0 {
					return 0, errors.New("the terminal is not raw")
				}
				if err := pty.Setsize(master, &pty.Winsize{Rows: 50, Cols: 132}); err != nil {
					return 0, err
				}
				if err := syscall.Kill(os.Getpid(), syscall.SIGWINCH); err != nil {
					return 0, err
				}
				select {
				case size := <-e.Resize:
					if size != [2]int{132, 50} {
						return 0, fmt.Errorf("the new size is %v", size)
					}
				case <-ctx.Done():
					return 0, ctx.Err()
				}
				return 4, c.fail
			}
			p.change = func(d *Deps) {
				d.Streams = ui.Streams{In: slave, Out: slave, Err: &p.err, OutTerminal: ui.Terminal{TTY: true}}
				d.Runtime = func(string) (gateway.Runtime, error) { return shellRuntime{worldRuntime{p.world}, shell}, nil }
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if got := p.run(ctx, "connect"); got != c.want {
				t.Errorf("exit code %d, want %d\n%s", got, c.want, p.err.String())
			}
			if diff := cmp.Diff(before, termios(t, slave)); diff != "" {
				t.Errorf("the terminal was not given back as it was:\n%s", diff)
			}
		})
	}
}
