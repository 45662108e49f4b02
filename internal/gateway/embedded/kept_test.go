package embedded

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"creel/internal/advisory"
	"creel/internal/gateway"
	"creel/internal/gateway/upgrade"
	"creel/internal/health"
	"creel/internal/state"
	"creel/internal/version"
)

// keeper is a service manager that starts the daemon as its document says, and tells
// it nothing else.
type keeper struct {
	w       *world
	program string
	cmd     *exec.Cmd
	exited  chan struct{}
	// onStop is called when a daemon has been ended.
	onStop func()
}

func (k *keeper) Kept() (bool, error) { return true, nil }

func (k *keeper) Point(executable string) error {
	k.program = executable
	return nil
}

func (k *keeper) Start(ctx context.Context, executable string) error {
	k.program = executable
	return k.boot(ctx)
}

// boot starts what the service's link leads to.
func (k *keeper) boot(ctx context.Context) error {
	k.cmd = exec.Command(k.program, "gateway", "serve", "--gateway", k.w.g.Name)
	k.cmd.Env = []string{"CREEL_HOME=" + k.w.home, "PATH=" + os.Getenv("PATH")}
	if err := k.cmd.Start(); err != nil {
		return err
	}
	k.exited = make(chan struct{})
	go func(cmd *exec.Cmd, exited chan struct{}) {
		defer close(exited)
		_ = cmd.Wait()
	}(k.cmd, k.exited)
	for !serves(k.w.g) {
		if err := pause(ctx, k.exited); err != nil {
			return errors.Join(advisory.New("gateway-start-failed", "the unit failed", err), k.Stop(ctx))
		}
	}
	return nil
}

func (k *keeper) Stop(ctx context.Context) error {
	if k.cmd == nil {
		return nil
	}
	_ = k.cmd.Process.Signal(os.Interrupt) // it may have ended
	select {
	case <-k.exited:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	k.cmd = nil
	if k.onStop != nil {
		k.onStop()
	}
	return nil
}

func (k *keeper) PID(context.Context) (int, error) {
	if k.cmd == nil {
		return 0, nil
	}
	return k.cmd.Process.Pid, nil
}

// document asks for a port by number, and so does the command line.
func (w *world) document(port int) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.home, documentFile), []byte(strconv.Itoa(port)), 0o600); err != nil {
		w.t.Fatal(err)
	}
	cfg := w.r.cfg
	cfg.Port, cfg.PortExplicit = port, true
	w.r = New(cfg)
}

// keptWorld is a gateway of another build that a service keeps.
func keptWorld(t *testing.T) (w *world, k *keeper, build string) {
	t.Helper()
	w = newWorld(t, "good")
	k = &keeper{w: w}
	executable, build := w.earlier()
	if err := w.r.Stop(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	cfg := w.r.cfg
	cfg.Keeper = k
	w.r = New(cfg)
	w.database("of the earlier one")
	if err := k.Start(t.Context(), executable); err != nil {
		t.Fatal(err)
	}
	w.settledOn(build, "of the earlier one")
	return w, k, build
}

// The port that the document asks for is taken by somebody else at the very moment
// when the old gateway has ended: that one is back on the port that it had, and stays
// there when the service manager starts it again.
func TestKeptComesBackToItsPort(t *testing.T) {
	w, k, build := keptWorld(t)
	before := w.marker().Endpoint
	l := listen(t)
	taken := port(l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	w.document(taken)
	k.onStop = func() {
		k.onStop = nil
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(taken)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
	}
	err := w.r.Upgrade(t.Context(), gateway.UpgradeOptions{}, nil)
	if p, ok := advisory.Of(err); !ok || p.ID != "gateway-upgrade-failed" {
		t.Fatalf("Upgrade = %v", err)
	}
	w.settledOn(build, "of the earlier one")
	if now := w.marker().Endpoint; now != before {
		t.Errorf("it is back on %v, was on %v", now, before)
	}
	if err := k.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := k.boot(t.Context()); err != nil {
		t.Fatalf("started again by its manager: %v", err)
	}
	if now := w.marker().Endpoint; now != before {
		t.Errorf("started again it is on %v, was on %v", now, before)
	}
	// Another document makes what was left stale, and so does a start as it says.
	l = listen(t)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	w.document(port(l))
	if err := w.r.Upgrade(t.Context(), gateway.UpgradeOptions{}, nil); err != nil {
		t.Fatal(err)
	}
	if now := w.marker().Endpoint.Port; now != port(l) {
		t.Errorf("it is on port %d, wanted is %d", now, port(l))
	}
	if _, err := os.Stat(w.g.File(state.StartFile)); err == nil {
		t.Error("what was left for the old one is still there")
	}
}

func TestStaleGiven(t *testing.T) {
	w := newWorld(t, "good")
	w.document(8443)
	if err := w.r.give(settings{Port: 17671}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		document int
		port     int
		explicit bool
	}{{8443, 17671, false}, {8444, 8444, true}} {
		cfg := ServeConfig{Gateway: w.g, Port: c.document, PortExplicit: true}
		if port, explicit := wantedPort(cfg, nil); port != c.port || explicit != c.explicit {
			t.Errorf("with port %d in the document: %d, %v", c.document, port, explicit)
		}
		// A launcher's word counts more.
		if port, _ := wantedPort(cfg, &launcher{hello: hello{Port: 5}}); port != 5 {
			t.Errorf("launched with port 5: %d", port)
		}
	}
	if err := os.WriteFile(w.g.File(state.StartFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if port, _ := wantedPort(ServeConfig{Gateway: w.g, Port: 8443, PortExplicit: true}, nil); port != 8443 {
		t.Errorf("with a damaged file: %d", port)
	}
}

// A gateway is not stopped for a port that is taken already, whoever keeps it.
func TestUpgradeToATakenPort(t *testing.T) {
	w := newWorld(t, "good")
	w.start()
	before := w.marker()
	w.document(port(listen(t)))
	_, planned := w.r.PlanUpgrade(t.Context(), gateway.UpgradeOptions{})
	for _, err := range []error{planned, w.r.Upgrade(t.Context(), gateway.UpgradeOptions{}, nil)} {
		if p, ok := advisory.Of(err); !ok || p.ID != "port-in-use" {
			t.Errorf("%v, want port-in-use", err)
		}
	}
	if now := w.marker(); now.PID != before.PID {
		t.Errorf("process %d was replaced by %d", before.PID, now.PID)
	}
}

// The walk back is cut short by a power cut, at each of its steps: what the service
// starts at the next boot is the old gateway with its own files.
func TestPowerCutOnTheWayBack(t *testing.T) {
	for _, step := range []string{"returning", "put-back"} {
		t.Run(step, func(t *testing.T) {
			w, k, build := keptWorld(t)
			w.modeOf(version.BuildID(), "writes-and-gives-up")
			cfg := w.r.cfg
			cfg.AfterStep = func(name string) {
				if name == step {
					panic(step)
				}
			}
			w.r = New(cfg)
			func() {
				defer func() {
					if p := recover(); p != step {
						t.Fatalf("%v: then this shows nothing", p)
					}
				}()
				_ = w.r.Upgrade(t.Context(), gateway.UpgradeOptions{}, nil)
			}()
			cfg.AfterStep = nil
			w.r = New(cfg)
			if record, err := upgrade.Read(w.g); err != nil || record == nil {
				t.Fatalf("%+v, %v", record, err)
			}
			if err := k.boot(t.Context()); err != nil {
				t.Fatalf("at boot: %v", err)
			}
			if o := w.r.Observe(t.Context()); o.Verdict != health.OK || o.Identity.BuildID != build {
				t.Errorf("%v %s, build %.12s", o.Verdict, o.Message, o.Identity.BuildID)
			}
			w.start() // which forgets the upgrade
			w.settledOn(build, "of the earlier one")
		})
	}
}
