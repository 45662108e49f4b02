package k3s

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/bundle"
	"creel/internal/health"
	"creel/internal/host/engine"
)

// Every container, every set and every answer there is, as far as they differ.
func TestObserve(t *testing.T) {
	unreachable := advisory.New("engine-unreachable", "ask", nil)
	noCluster := advisory.New("cluster-unreachable", "ask", nil)
	gone := func(w *world) { w.engine.box = engine.Container{Name: boxName, State: engine.Missing} }
	unseen := func(w *world) { w.engine.err = unreachable }
	serves := func(w *world) { w.serve() }
	known := func(w *world) { w.register(w.cluster.secrets) }
	empty := func(w *world) { w.cluster.remove(generation1.Stored()...) }
	blind := func(w *world) { w.cluster.err = noCluster }
	is := func(status string, code int) func(*world) {
		return func(w *world) {
			w.engine.box.State, w.engine.box.Status, w.engine.box.ExitCode = engine.NotRunning, status, code
		}
	}
	for _, c := range []struct {
		name    string
		world   []func(*world)
		verdict health.Verdict
		reason  string
		caveat  string
		absent  bool
		says    string
		decide  decision
	}{
		{"ready", []func(*world){serves}, health.OK, "", "", false, "OpenShell 0.0.36", reuse},
		{"ready with 200", []func(*world){serves, func(w *world) { w.code = http.StatusOK }}, health.OK, "", "", false, "", reuse},
		{"nothing listens", nil, health.Failed, "gateway-unreachable", "", false, "nothing answers", restart},
		{"404", []func(*world){serves, func(w *world) { w.code = 404 }}, health.Failed, "gateway-unhealthy", "", false, "404", restart},
		{"503", []func(*world){serves, func(w *world) { w.code = 503 }}, health.Failed, "gateway-unhealthy", "", false, "503", restart},
		{"unhealthy", []func(*world){serves, func(w *world) { w.sick = true }}, health.Failed, "gateway-unhealthy", "", false, "UNHEALTHY", restart},
		{"another's certificate", []func(*world){serves, func(w *world) { w.cluster.secrets = issued(w.t) }}, health.Failed, "gateway-foreign-listener", "", false, "", restart},

		{"no secrets", []func(*world){empty}, health.Failed, "secrets-absent", "", false, "no bootstrap secret exists", restart},
		{"no handshake", []func(*world){func(w *world) { w.cluster.remove(bundle.SSHHandshake) }}, health.Failed, "secrets-absent", "", false, "openshell-ssh-handshake is absent; nothing answers", restart},
		{"no handshake, and it runs", []func(*world){serves, func(w *world) { w.cluster.remove(bundle.SSHHandshake) }}, health.OK, "", "secrets-absent", false, "", reuse},
		{"secrets deleted, and it runs, and clients know it", []func(*world){serves, known, empty}, health.OK, "", "secrets-absent", false, "", reuse},
		{"no gateway in it", []func(*world){func(w *world) {
			w.cluster.err = advisory.New("secrets-not-applicable", "none", bundle.ErrNotApplicable)
		}}, health.Failed, "secrets-not-applicable", "", false, "", restart},
		{"its cluster does not answer", []func(*world){blind}, health.Unknown, "cluster-unreachable", "", false, "", refuse},
		{"its cluster does not answer, nor the gateway", []func(*world){known, blind}, health.Failed, "gateway-unreachable", "", false, "nothing answers", restart},
		{"its cluster does not answer, the gateway does", []func(*world){serves, known, blind}, health.OK, "", "cluster-unreachable", false, "", reuse},
		{"its cluster does not answer, and clients have outdated keys", []func(*world){serves, func(w *world) { w.register(issued(w.t)) }, blind}, health.Unknown, "cluster-unreachable", "", false, "our CA did not sign", refuse},
		{"its cluster does not answer, and clients have an outdated certificate", []func(*world){serves, func(w *world) {
			set := issued(w.t)
			set[bundle.ServerTLS] = w.cluster.get(bundle.ServerTLS) // clients trust itself
			w.register(set)
		}, blind}, health.Unknown, "cluster-unreachable", "", false, "refuses our client certificate", refuse},
		{"its cluster does not answer, the gateway does with 503", []func(*world){serves, known, blind, func(w *world) { w.code = 503 }}, health.Failed, "gateway-unhealthy", "", false, "503", restart},

		{"stopped", []func(*world){serves, is("exited", 137), func(w *world) { w.engine.box.OutOfMemory = true }}, health.Failed, "container-not-running", "", true, "exit code 137, killed for want of memory", start},
		{"never started", []func(*world){is("created", 0), func(w *world) { w.engine.box.StartedAt = time.Time{} }}, health.Failed, "container-not-running", "", true, "is created", start},
		{"paused", []func(*world){is("paused", 0)}, health.Failed, "container-not-running", "", false, "is paused", refuse},
		{"restarting", []func(*world){is("restarting", 1)}, health.Failed, "container-not-running", "", false, "exit code 1", refuse},

		{"missing", []func(*world){gone}, health.Failed, "container-missing", "", true, "Creel makes none", cleanUp},
		{"missing, and registered", []func(*world){known, gone}, health.Failed, "container-missing", "", true, "nothing answers", cleanUp},
		{"missing, and it answers", []func(*world){serves, known, gone}, health.OK, "", "container-missing", false, "", reuseWarned},
		{"missing, and another answers", []func(*world){func(w *world) { w.register(issued(w.t)) }, serves, gone}, health.Failed, "container-missing", "", true, "", cleanUp},
		{"unseen", []func(*world){unseen}, health.Unknown, "engine-unreachable", "", false, "", refuse},
		{"unseen, and registered", []func(*world){known, unseen}, health.Unknown, "engine-unreachable", "", false, "nothing answers", refuse},
		{"unseen, and it answers", []func(*world){serves, known, unseen}, health.OK, "", "engine-unreachable", false, "", reuseWarned},
		{"unseen, and it answers with 404", []func(*world){serves, known, unseen, func(w *world) { w.code = 404 }}, health.Unknown, "engine-unreachable", "", false, "404", refuse},

		{"on another port than wanted", []func(*world){serves, func(w *world) { w.cfg.Port = w.port + 1 }}, health.OK, "", "gateway-port-fixed", false, "", reuse},
		{"on the wanted port", []func(*world){serves, func(w *world) { w.cfg.Port = w.port }}, health.OK, "", "", false, "", reuse},
		{"another image", []func(*world){serves, func(w *world) { w.program("echo openshell 0.0.30\n") }}, health.OK, "", "gateway-image-differs", false, "", upgrade},
		{"the same image", []func(*world){serves, func(w *world) { w.program("echo openshell 0.0.36\n") }}, health.OK, "", "", false, "", reuse},
		{"a program that fails", []func(*world){serves, func(w *world) { w.program("exit 1\n") }}, health.OK, "", "", false, "", reuse},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			for _, change := range c.world {
				change(w)
			}
			o := w.observe(t.Context(), nil)
			if o.Verdict != c.verdict || o.Reason != c.reason || o.Absent != c.absent || o.decision != c.decide || !strings.Contains(o.Message, c.says) {
				t.Errorf("%+v", o)
			}
			var caveats []string
			for _, v := range o.Caveats {
				caveats = append(caveats, v.Advisory)
			}
			if strings.Join(caveats, " ") != c.caveat {
				t.Errorf("caveats %q, want %q", caveats, c.caveat)
			}
			if o.Verdict == health.OK != (o.Identity.Version == "0.0.36") {
				t.Errorf("identity %+v", o.Identity)
			}
			if _, known := advisory.Lookup(o.Reason); !known && o.Verdict != health.OK || o.Verdict != health.OK && len(o.Hints) == 0 {
				t.Errorf("reason %q, next %q", o.Reason, o.Hints)
			}
			for i, e := range o.Evidence {
				if e.Verdict != health.OK && o.Verdict == health.OK && len(o.Caveats) == 0 || e.Probe == "" || e.Answer == "" {
					t.Errorf("link %d: %+v", i, e)
				}
			}
			for _, call := range w.engine.calls {
				t.Errorf("a look has done %q", call)
			}
			// What would be done follows from what is told of it, not only from what
			// was seen.
			found := health.Result{Verdict: o.Verdict, Reason: o.Reason, Absent: o.Absent}
			if d := decide(factsOf(found)); o.Verdict != health.OK && d != o.decision {
				t.Errorf("of the result %d would be made, of the observation %d", d, o.decision)
			}
		})
	}
}

// What opened the gateway the last time saves looking into the container, and is
// believed no longer than it opens it.
func TestObserveRemembers(t *testing.T) {
	w := newWorld(t)
	stop := w.serve()
	if err := w.Start(t.Context(), w.report); err != nil {
		t.Fatal(err)
	}
	loads := w.cluster.loads
	o := w.observe(t.Context(), nil)
	if o.Verdict != health.OK || w.cluster.loads != loads {
		t.Errorf("the set was read %d times: %+v", w.cluster.loads-loads, o)
	}
	// Another container may hold another set.
	w.engine.set(func(b *engine.Container) { b.ID = "id2" })
	if o := w.observe(t.Context(), nil); o.Verdict != health.OK || w.cluster.loads == loads {
		t.Errorf("of another container it is believed: %+v", o)
	}
	w.engine.set(func(b *engine.Container) { b.ID = "id1" })
	// A set that was replaced since, by whom ever.
	stop()
	w.cluster.mu.Lock()
	w.cluster.secrets = issued(t)
	w.cluster.mu.Unlock()
	w.serve()
	if o := w.observe(t.Context(), nil); o.Verdict != health.OK {
		t.Errorf("with new secrets: %+v", o)
	}
	if r := w.InspectRegistration(t.Context()); r.Verdict != health.Failed || r.Reason != "registration-stale" {
		t.Errorf("%+v", r)
	}
	if err := w.Register(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := w.InspectRegistration(t.Context()); r.Verdict != health.OK || w.knows() != string(w.cluster.get(bundle.ClientTLS).Data["tls.crt"]) {
		t.Errorf("%+v", r)
	}
	// The endpoint is remembered for when the engine cannot be asked.
	w.engine.err = advisory.New("engine-unreachable", "ask", nil)
	if e := w.Endpoint(); e.Port != w.port {
		t.Errorf("endpoint %+v", e)
	}
}

// A container that ends while the gateway is asked is not running, whatever answered.
func TestObserveEndedMeanwhile(t *testing.T) {
	w := newWorld(t)
	w.serve()
	asked := &turning{scripted: w.engine, after: 1}
	w.Runtime = New(Config{Gateway: w.home, Container: boxName, Engine: asked, Cluster: w.cluster, Getenv: w.cfg.Getenv})
	if o := w.Observe(t.Context()); o.Verdict != health.Failed || o.Reason != "container-not-running" || !o.Absent || !strings.Contains(o.Message, "ended while") {
		t.Errorf("%+v", o)
	}
}

func TestObserveInTime(t *testing.T) {
	t.Setenv(budget.Probe.Variable(), "200ms")
	t.Setenv(budget.Cluster.Variable(), "200ms")
	w := newWorld(t)
	w.Runtime = New(Config{Gateway: w.home, Container: boxName, Engine: &hanging{w.engine}, Cluster: w.cluster, Getenv: w.cfg.Getenv})
	began := time.Now()
	if o := w.Observe(t.Context()); o.Verdict != health.Unknown || o.Reason != "engine-unreachable" || time.Since(began) > 5*time.Second {
		t.Errorf("after %s: %+v", time.Since(began), o)
	}
}

func TestRemedies(t *testing.T) {
	for _, c := range []struct {
		name     string
		found    health.Result
		owned    bool
		blind    bool
		want     string
		disturbs string
	}{
		{"ok", health.Result{Verdict: health.OK}, false, false, "", ""},
		{"unknown", health.Result{Verdict: health.Unknown, Reason: "engine-unreachable"}, true, false, "", ""},
		{"unknown inside", health.Result{Verdict: health.Unknown, Reason: "cluster-unreachable"}, true, false, "", ""},
		{"stopped", health.Result{Verdict: health.Failed, Reason: "container-not-running", Absent: true}, false, false, startGateway, ""},
		{"paused", health.Result{Verdict: health.Failed, Reason: "container-not-running"}, false, false, "", ""},
		{"not ready", health.Result{Verdict: health.Failed, Reason: "gateway-unhealthy"}, false, false, restartGateway, "sandbox/claw sandbox/zoe"},
		{"not ready, nobody can be asked", health.Result{Verdict: health.Failed, Reason: "gateway-unhealthy"}, false, true, restartGateway, "every sandbox in container " + boxName + " (they could not be listed)"},
		{"missing", health.Result{Verdict: health.Failed, Reason: "container-missing", Absent: true}, true, false, forgetGateway, ""},
		{"missing, another wrote the registration", health.Result{Verdict: health.Failed, Reason: "container-missing", Absent: true}, false, false, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.cluster.sandboxes = []string{"claw", "zoe"}
			if c.owned {
				if err := w.Register(t.Context()); err != nil {
					t.Fatal(err)
				}
			} else {
				w.register(w.cluster.secrets)
			}
			if c.blind {
				w.cluster.err = advisory.New("cluster-unreachable", "ask", nil)
			}
			var ids, disturbs []string
			for _, r := range w.Remedies(t.Context(), c.found) {
				ids, disturbs = append(ids, r.ID), append(disturbs, r.Disturbs...)
				if r.Title == "" || r.Destructive {
					t.Errorf("%+v", r)
				}
			}
			if strings.Join(ids, " ") != c.want || strings.Join(disturbs, " ") != c.disturbs {
				t.Errorf("%q disturbs %q", ids, disturbs)
			}
		})
	}
}
