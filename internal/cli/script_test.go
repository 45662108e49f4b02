package cli

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"creel/internal/cli/ui"
	"creel/internal/sandbox"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		// creel is the real command line over a world in a file.
		"creel": func() {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
			defer stop()
			w := newWorld(os.Getenv("CREEL_TEST_WORLD"))
			d := w.deps(os.Getenv)
			d.Streams = ui.NewStreams(os.Stdin, os.Stdout, os.Stderr, os.Getenv)
			os.Exit(Main(ctx, os.Args[1:], d))
		},
		// world changes it: `world stop`, `world hang`, `world lose NAME`.
		"world": func() {
			w := newWorld(os.Getenv("CREEL_TEST_WORLD"))
			if err := w.tamper(os.Args[1:]); err != nil {
				panic(err)
			}
		},
	})
}

// tamper does to the world what a fault would.
func (w *world) tamper(args []string) error {
	return w.with(func(s *worldState) error {
		switch args[0] {
		case "stop":
			s.Running = false
		case "hang":
			s.Hung = true
		case "drift":
			s.Drift = []string{"another build of creel runs"}
		case "disturbs":
			s.Disturbs = true
		case "broken":
			s.Broken = true
		case "mended":
			s.Broken = false
		case "lose":
			s.Sandboxes = nil
		case "take", "free":
			port, err := strconv.Atoi(args[1])
			if err != nil {
				return err
			}
			if s.Taken = slices.DeleteFunc(s.Taken, func(p int) bool { return p == port }); args[0] == "take" {
				s.Taken = append(s.Taken, port)
			}
		case "no-network":
			for i := range s.Sandboxes {
				if s.Sandboxes[i].Name == args[1] {
					s.Sandboxes[i].State.Confinement.Tier = sandbox.TierLandlock
				}
			}
		case "lose-forwards":
			for i := range s.Sandboxes {
				s.Sandboxes[i].Forwards = nil
			}
		case "corrupt-secret":
			for key := range s.Secrets[args[1]].Data {
				s.Secrets[args[1]].Data[key] = []byte("garbage")
			}
		case "lose-cluster":
			delete(s.Cluster, args[1])
		case "lose-secret":
			delete(s.Secrets, args[1])
		}
		return nil
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("CREEL_HOME", filepath.Join(e.WorkDir, "home"))
			e.Setenv("CREEL_TEST_WORLD", filepath.Join(e.WorkDir, "world.json"))
			return nil
		},
		// exits CODE COMMAND [ARG…]: the command ends with just that exit code.
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": func(ts *testscript.TestScript, _ bool, args []string) {
				var ended *exec.ExitError
				if err := ts.Exec(args[1], args[2:]...); !errors.As(err, &ended) || strconv.Itoa(ended.ExitCode()) != args[0] {
					ts.Fatalf("%v: %v, not exit code %s", args[1:], err, args[0])
				}
			},
		},
		RequireUniqueNames: true,
		ContinueOnError:    true,
	})
}
