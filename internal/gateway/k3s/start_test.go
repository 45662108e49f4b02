package k3s

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/bundle"
	"creel/internal/gateway"
	"creel/internal/health"
	"creel/internal/host/engine"
	"creel/internal/state"
)

// turning is an engine whose container ends after so many looks.
type turning struct {
	*scripted
	after int
}

func (e *turning) Container(ctx context.Context, name string) (engine.Container, error) {
	if e.after--; e.after < 0 {
		e.set(func(b *engine.Container) { b.State, b.Status, b.ExitCode = engine.NotRunning, "exited", 9 })
	}
	return e.scripted.Container(ctx, name)
}

// hanging is an engine that answers nothing.
type hanging struct{ *scripted }

func (e *hanging) Container(ctx context.Context, _ string) (engine.Container, error) {
	<-ctx.Done()
	return engine.Container{}, context.Cause(ctx)
}

// A gateway that waits for its secrets is given them, and its clients what opens it.
func TestStartRepairs(t *testing.T) {
	w := newWorld(t)
	w.register(issued(t)) // of a set that is gone
	w.cluster.remove(generation1.Stored()...)
	w.cluster.onApply = func() { w.serve() } // the pod, when its secrets exist
	if err := w.Start(t.Context(), w.report); err != nil {
		t.Fatal(err)
	}
	if !w.heard("OpenShell bootstrap secrets missing: "+strings.Join(generation1.Stored(), ", ")+". Repairing...") || !w.heard("✓ OpenShell bootstrap secrets created") {
		t.Errorf("said %q", w.said)
	}
	if w.knows() != string(w.cluster.get(bundle.ClientTLS).Data["tls.crt"]) {
		t.Error("OpenShell clients do not have the new certificate")
	}
	if w.cluster.rolled || len(w.engine.calls) > 0 {
		t.Errorf("rolled %t, engine %q", w.cluster.rolled, w.engine.calls)
	}
}

func TestStartOfAStoppedContainer(t *testing.T) {
	w := newWorld(t)
	w.engine.box.State, w.engine.box.Status = engine.NotRunning, "exited"
	w.engine.onCall = func(call string) {
		if strings.HasPrefix(call, "start") {
			w.serve()
		}
	}
	if err := w.Start(t.Context(), w.report); err != nil || w.engine.did("start "+boxName) != 1 {
		t.Errorf("%v, %q", err, w.engine.calls)
	}
}

// What a start must not touch it does not, and says why.
func TestStartRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*world)
		id    string
	}{
		"missing": {func(w *world) { w.engine.box = engine.Container{Name: boxName, State: engine.Missing} }, "container-missing"},
		"unseen":  {func(w *world) { w.engine.err = advisory.New("engine-unreachable", "ask", nil) }, "engine-unreachable"},
		"paused":  {func(w *world) { w.engine.box.State, w.engine.box.Status = engine.NotRunning, "paused" }, "container-not-running"},
		"going":   {func(w *world) { w.engine.box.State, w.engine.box.Status = engine.NotRunning, "removing" }, "container-not-running"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.register(w.cluster.secrets)
			before := w.knows()
			w.cluster.remove(bundle.SSHHandshake)
			c.spoil(w)
			began := time.Now()
			err := w.Start(t.Context(), w.report)
			if id(err) != c.id || time.Since(began) > 5*time.Second {
				t.Errorf("%v", err)
			}
			if len(w.engine.calls) > 0 || w.cluster.loads > 0 || w.knows() != before {
				t.Errorf("it was touched: %q, read %d times", w.engine.calls, w.cluster.loads)
			}
			if p, ok := advisory.Of(err); ok && len(p.Commands()) == 0 {
				t.Error("nothing is said to do next")
			}
		})
	}
}

// The end of the container ends the wait at once, with what it left.
func TestStartEndsWithTheContainer(t *testing.T) {
	for _, c := range []struct {
		name, log string
		memory    bool
		id        string
		says      []string
	}{
		{"by itself", "level=info msg=up\nlevel=fatal msg=\"no\" password=hunter2hunter2\n", false, "gateway-start-failed", []string{"ended with exit code 7", "level=fatal"}},
		{"for want of memory", "", true, "container-out-of-memory", []string{"killed for want of memory"}},
		{"a panic of another program", "panic: runtime error\n", false, "gateway-start-failed", []string{"panic: runtime error"}},
		{"port in use", "listen tcp :6443: bind: address already in use\n", false, "port-in-use", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.engine.log, w.engine.ended = c.log, make(chan int, 1)
			asked := make(chan struct{}, 100)
			w.Runtime = New(Config{Gateway: w.home, Container: boxName, Engine: w.engine, Cluster: &telling{w.cluster, asked}, Getenv: w.cfg.Getenv})
			go func() {
				<-asked // it is being waited for
				w.engine.set(func(b *engine.Container) {
					b.State, b.Status, b.ExitCode, b.OutOfMemory = engine.NotRunning, "exited", 7, c.memory
				})
				w.engine.ended <- 7
			}()
			began := time.Now()
			err := w.Start(t.Context(), w.report)
			if id(err) != c.id || time.Since(began) > 3*time.Second {
				t.Fatalf("after %s: %v", time.Since(began), err)
			}
			for _, word := range append(c.says, "before the gateway was ready", "asked:") {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("it does not say %q: %v", word, err)
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a secret is told: %v", err)
			}
		})
	}
	t.Run("started again by the engine at once", func(t *testing.T) {
		w := newWorld(t)
		w.engine.ended = make(chan int, 1)
		w.engine.ended <- 4
		if err := w.Start(t.Context(), nil); id(err) != "gateway-start-failed" || !strings.Contains(err.Error(), "exit code 4") {
			t.Errorf("%v", err)
		}
	})
	t.Run("not told by the engine", func(t *testing.T) {
		w := newWorld(t)
		w.Runtime = New(Config{Gateway: w.home, Container: boxName, Engine: &turning{scripted: w.engine, after: 4}, Cluster: w.cluster, Getenv: w.cfg.Getenv})
		if err := w.Start(t.Context(), nil); id(err) != "gateway-start-failed" || !strings.Contains(err.Error(), "exit code 9") {
			t.Errorf("%v", err)
		}
	})
}

// slowing is a cluster that answers once, and then not in time.
type slowing struct {
	*cluster
	asked int
}

func (c *slowing) Requirements(ctx context.Context) (bundle.Requirements, error) {
	if c.asked++; c.asked > 1 {
		<-ctx.Done()
		return bundle.Requirements{}, advisory.New("cluster-timeout", "ask", context.Cause(ctx))
	}
	return c.cluster.Requirements(ctx)
}

// telling is a cluster that says when it is looked into.
type telling struct {
	*cluster
	asked chan struct{}
}

func (c *telling) HealthCheck(ctx context.Context) (health.Verdict, error) {
	select {
	case c.asked <- struct{}{}:
	default:
	}
	return c.cluster.HealthCheck(ctx)
}

// A wait that was for nothing names what was lacking, the deepest first.
func TestStartInTime(t *testing.T) {
	t.Setenv(budget.ContainerStart.Variable(), "700ms")
	for _, c := range []struct {
		name  string
		spoil func(*world)
		id    string
		says  string
	}{
		{"nothing listens", func(*world) {}, "gateway-unreachable", "nothing answers"},
		{"404", func(w *world) { w.serve(); w.code = http.StatusNotFound }, "gateway-unhealthy", "404"},
		{"a damaged set", func(w *world) {
			s := w.cluster.secrets[bundle.ServerTLS]
			w.cluster.secrets[bundle.ServerTLS] = bundle.Secret{Name: s.Name, Type: s.Type, Data: map[string][]byte{"tls.crt": s.Data["tls.crt"], "tls.key": []byte("x")}}
		}, "secrets-need-consent", bundle.ServerTLS},
		{"no gateway in it", func(w *world) {
			w.cluster.err = advisory.New("secrets-not-applicable", "statefulset/openshell does not exist", bundle.ErrNotApplicable)
		}, "secrets-not-applicable", "statefulset/openshell does not exist"},
		{"no cluster in it", func(w *world) { w.cluster.err = advisory.New("cluster-unreachable", "ask", nil) }, "cluster-unreachable", ""},
		{"OpenShell says otherwise", func(w *world) {
			w.serve()
			w.program("echo 'Error: Connection refused (os error 111)'\n")
		}, "openshell-disagrees", "Connection refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			c.spoil(w)
			if w.env["PATH"] != "" { // time for a program to run on a busy machine
				t.Setenv(budget.ContainerStart.Variable(), "3s")
			}
			began := time.Now()
			err := w.Start(t.Context(), w.report)
			var expired *budget.Expired
			if id(err) != c.id || !errors.As(err, &expired) || expired.Budget != budget.ContainerStart || time.Since(began) > 6*time.Second {
				t.Fatalf("after %s: %s: %v", time.Since(began), id(err), err)
			}
			if !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "the container is left running") {
				t.Errorf("%v", err)
			}
			if w.heard("answers at") || len(w.engine.calls) > 0 {
				t.Errorf("said %q, did %q", w.said, w.engine.calls)
			}
		})
	}
	t.Run("the last look was cut short", func(t *testing.T) {
		t.Setenv(budget.ContainerStart.Variable(), (lookInside + 500*time.Millisecond).String())
		w := newWorld(t)
		w.cluster.secrets[bundle.SSHHandshake] = bundle.Secret{Name: bundle.SSHHandshake, Data: map[string][]byte{"secret": []byte("short")}}
		slow := &slowing{cluster: w.cluster}
		w.Runtime = New(Config{Gateway: w.home, Container: boxName, Engine: w.engine, Cluster: slow, Getenv: w.cfg.Getenv})
		if err := w.Start(t.Context(), w.report); id(err) != "secrets-need-consent" || slow.asked != 2 {
			t.Errorf("%s, asked %d times: %v", id(err), slow.asked, err)
		}
	})
	t.Run("interrupted", func(t *testing.T) {
		w := newWorld(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("enough")
		cancel(why)
		if err := w.Start(ctx, w.report); !errors.Is(err, why) || id(err) != "" {
			t.Errorf("%v", err)
		}
	})
}

// A gateway that answers is ready, and what is not as it should be beside it is told.
func TestStartWarns(t *testing.T) {
	w := newWorld(t)
	w.serve()
	w.cluster.check = advisory.New("cluster-unhealthy", "check", errors.New("etcd has no leader"))
	if err := w.Start(t.Context(), w.report); err != nil || !w.heard("etcd has no leader") || w.knows() != "" {
		t.Errorf("%v, said %q, registered %q", err, w.said, w.knows())
	}
	if _, err := os.Stat(w.home.File(state.ContainerFile)); !os.IsNotExist(err) {
		t.Errorf("it is remembered with what nobody was given: %v", err)
	}
	w.cluster.check = nil
	// Another gateway of this name: its certificate stays.
	if err := os.MkdirAll(filepath.Join(w.home.Registration(), "mtls"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.home.Registration(), "metadata.json"), []byte(`{"gateway_endpoint":"https://elsewhere:1"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.Start(t.Context(), w.report); err != nil || !w.heard("not given its certificate") || w.knows() != "" {
		t.Errorf("%v, said %q", err, w.said)
	}
	// A program that cannot be run has nothing against it.
	w.program("kill -9 $$\n")
	if err := w.Start(t.Context(), w.report); err != nil || !w.heard("could not be asked") {
		t.Errorf("%v, said %q", err, w.said)
	}
	w.engine.err = advisory.New("engine-unreachable", "ask", nil)
	w.register(w.cluster.secrets)
	if err := w.Start(t.Context(), w.report); err != nil || !w.heard("warning: ask; the gateway itself answers") {
		t.Errorf("%v, said %q", err, w.said)
	}
}

// A restart comes only after waiting, and not where it could not help.
func TestMendRestart(t *testing.T) {
	t.Setenv(budget.ContainerSettle.Variable(), "600ms")
	t.Setenv(budget.ContainerStart.Variable(), "5s")
	t.Run("it becomes ready", func(t *testing.T) {
		w := newWorld(t)
		w.serve()
		if err := w.Mend(t.Context(), restartGateway, w.report); err != nil || len(w.engine.calls) > 0 {
			t.Errorf("%v, %q", err, w.engine.calls)
		}
	})
	t.Run("it does not", func(t *testing.T) {
		w := newWorld(t)
		w.cluster.sandboxes = []string{"claw"}
		w.engine.onCall = func(call string) {
			if strings.HasPrefix(call, "start") {
				w.serve()
			}
		}
		if err := w.Mend(t.Context(), restartGateway, w.report); err != nil || strings.Join(w.engine.calls, ", ") != "stop "+boxName+", start "+boxName || !w.heard("and with it sandbox claw") {
			t.Errorf("%v, %q, said %q", err, w.engine.calls, w.said)
		}
	})
	t.Run("its secrets need consent", func(t *testing.T) {
		w := newWorld(t)
		w.cluster.secrets[bundle.SSHHandshake] = bundle.Secret{Name: bundle.SSHHandshake, Data: map[string][]byte{"secret": []byte("short")}}
		if err := w.Mend(t.Context(), restartGateway, w.report); id(err) != "secrets-need-consent" || len(w.engine.calls) > 0 {
			t.Errorf("%v, %q", err, w.engine.calls)
		}
	})
	t.Run("its set cannot be read, and clients' keys open nothing", func(t *testing.T) {
		w := newWorld(t)
		w.serve()
		w.register(issued(t))
		w.cluster.err = advisory.New("cluster-unreachable", "ask", nil)
		if err := w.Mend(t.Context(), restartGateway, w.report); id(err) != "cluster-unreachable" || len(w.engine.calls) > 0 {
			t.Errorf("%v, %q", err, w.engine.calls)
		}
	})
	t.Run("the engine is gone", func(t *testing.T) {
		w := newWorld(t)
		w.engine.err = advisory.New("engine-unreachable", "ask", nil)
		if err := w.Mend(t.Context(), restartGateway, w.report); id(err) != "engine-unreachable" || len(w.engine.calls) > 0 {
			t.Errorf("%v, %q", err, w.engine.calls)
		}
	})
}

func TestMendForgets(t *testing.T) {
	w := newWorld(t)
	if err := w.Register(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The plan is old: the container is there again.
	if err := w.Mend(t.Context(), forgetGateway, w.report); err == nil || w.knows() == "" {
		t.Errorf("%v", err)
	}
	w.engine.box = engine.Container{Name: boxName, State: engine.Missing}
	if err := w.Mend(t.Context(), forgetGateway, w.report); err != nil || w.knows() != "" {
		t.Errorf("%v, %q", err, w.knows())
	}
	if err := w.Mend(t.Context(), "dance", w.report); err == nil {
		t.Error("something else was done")
	}
}

func TestStop(t *testing.T) {
	w := newWorld(t)
	w.cluster.sandboxes = []string{"claw", "zoe"}
	for range 2 {
		if err := w.Stop(t.Context(), w.report); err != nil {
			t.Fatal(err)
		}
	}
	if w.engine.did("stop "+boxName) != 1 || !w.heard("and with it sandbox claw, sandbox zoe") || !w.heard("is not running") {
		t.Errorf("%q, said %q", w.engine.calls, w.said)
	}
	w.engine.err = advisory.New("engine-unreachable", "ask", nil)
	if err := w.Stop(t.Context(), nil); id(err) != "engine-unreachable" {
		t.Errorf("%v", err)
	}
}

// Of a gateway that another engine runs it is not said that it has ended, nor that it
// was restarted.
func TestStopOfAnotherEngines(t *testing.T) {
	w := newWorld(t)
	w.serve()
	w.register(w.cluster.secrets)
	w.engine.set(func(b *engine.Container) { *b = engine.Container{Name: boxName, State: engine.Missing} })
	for operation, err := range map[string]error{"stop": w.Stop(t.Context(), w.report), "restart": gateway.Restart(t.Context(), w.Runtime, w.report)} {
		if id(err) != "container-missing" || !strings.Contains(err.Error(), "another DOCKER_HOST") {
			t.Errorf("%s: %v", operation, err)
		}
	}
	if len(w.engine.calls) > 0 || w.heard("is not running") {
		t.Errorf("%q, said %q", w.engine.calls, w.said)
	}
}

// The program is asked about this gateway by name, with nothing of the user's that
// is not for it, and no longer than it may take.
func TestProgram(t *testing.T) {
	t.Setenv(budget.Probe.Variable(), "2s")
	w := newWorld(t)
	w.env["NVIDIA_API_KEY"] = "nvapi-canary"
	w.program("env\necho \"args: $*\"\n")
	out, err := w.run(t.Context(), w.findProgram(), "gateway", "info", "-g", "nemoclaw")
	for _, want := range []string{"OPENSHELL_GATEWAY=nemoclaw\n", "XDG_CONFIG_HOME=" + filepath.Dir(w.home.Roots.OpenShell) + "\n", "args: gateway info -g nemoclaw\n"} {
		if err != nil || !strings.Contains(out, want) || strings.Contains(out, "canary") {
			t.Errorf("%q, %v", out, err)
		}
	}
	w.program("yes\n") // for ever
	began := time.Now()
	if out, err := w.run(t.Context(), w.findProgram()); err == nil || out != "" || time.Since(began) > 10*time.Second {
		t.Errorf("%d bytes, %v", len(out), err)
	}
	w.program("head -c 1000000 /dev/zero | tr '\\0' x\n")
	if out, err := w.run(t.Context(), w.findProgram()); err != nil || len(out) != most {
		t.Errorf("%d bytes, %v", len(out), err)
	}
	w.env["PATH"] = "relative:/nonexistent"
	if got := w.findProgram(); got != "" {
		t.Errorf("found %q", got)
	}
}
