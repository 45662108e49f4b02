package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"creel/internal/gateway/launch"
	"creel/internal/health"
	"creel/internal/host"
	"creel/internal/state"
	"creel/test/kubeenv"
)

// forwarding runs the port-forward until the test ends, and returns what it was asked
// to end with, and how it ended.
func (w *world) forwarding() (end func() error) {
	w.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended, r := make(chan error, 1), w.runtime()
	go func() { ended <- r.Serve(ctx) }()
	done := false
	end = func() error {
		if done {
			return nil
		}
		done = true
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(20 * time.Second):
			return errors.New("the port-forward does not end")
		}
	}
	w.Cleanup(func() {
		if err := end(); err != nil {
			w.Errorf("port-forward: %v", err)
		}
	})
	return end
}

// leads waits until the port-forward leads to a pod.
func (w *world) leads(uid string) forward {
	w.Helper()
	var f forward
	w.eventually("the port-forward leads to pod "+uid, func() bool {
		f = w.runtime().lookForward()
		return f.serves() && f.marker.Link.PodUID == uid
	})
	return f
}

// connect opens a connection through the port-forward, as far as to the pod.
func (w *world) connect(f forward) net.Conn {
	w.Helper()
	asked := len(w.node.Asked())
	conn, err := net.Dial("tcp", net.JoinHostPort(bind, strconv.Itoa(f.marker.Port)))
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = conn.Close() })
	w.eventually("the node is asked", func() bool { return len(w.node.Asked()) > asked })
	return conn
}

func (w *world) uid() string { return w.pod() }

// The gateway is judged through the port-forward, and without one it is said which
// of the two is at fault.
func TestChain(t *testing.T) {
	w, p := healthy(t, "0.0.88")
	o := w.observe()
	w.is(o, health.Failed, "gateway-forward-down", "pod openshell-0 is healthy", "creel gateway start")
	if o.Identity.InstanceID != "" {
		t.Errorf("who is not reached has an identity: %+v", o.Identity)
	}
	end := w.forwarding()
	uid := w.uid()
	w.leads(uid)
	o = w.observe()
	w.is(o, health.OK, "", "of the set's own authority", "port-forward https://127.0.0.1:")
	if o.Identity.InstanceID != uid || o.Identity.Version != "0.0.88" || o.Endpoint.Port == 0 || o.Endpoint != w.runtime().Endpoint() || len(o.Caveats)+len(o.Drift) != 0 {
		t.Errorf("%+v", o)
	}
	c, err := w.runtime().Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if who, err := c.Identity(t.Context()); err != nil || who.Version != "0.0.88" {
		t.Errorf("%+v, %v", who, err)
	}
	_ = c.Close()

	p.sick.Store(true)
	w.is(w.observe(), health.Failed, "gateway-unhealthy", "UNHEALTHY")
	p.sick.Store(false)
	if err := end(); err != nil {
		t.Error(err)
	}
	w.is(w.observe(), health.Failed, "gateway-forward-down")
	if _, err := w.runtime().Dial(t.Context()); idOf(err, "") != "gateway-forward-down" {
		t.Errorf("dial: %v", err)
	}
	if _, err := os.Stat(w.paths.File(state.PortForwardFile)); !os.IsNotExist(err) {
		t.Errorf("the marker stayed: %v", err)
	}
}

// A version whose sandboxes are made in another way is judged all the same.
func TestOldVersion(t *testing.T) {
	w, _ := healthy(t, "0.0.36")
	w.forwarding()
	w.leads(w.uid())
	o := w.observe()
	w.is(o, health.OK, "")
	if len(o.Caveats) != 1 || o.Caveats[0].Advisory != "gateway-version-unsupported" {
		t.Errorf("%+v", o.Caveats)
	}
	if _, err := w.runtime().Dial(t.Context()); idOf(err, "") != "gateway-version-unsupported" {
		t.Errorf("dial: %v", err)
	}
}

func TestChainThatBreaks(t *testing.T) {
	t.Run("nobody listens in the pod", func(t *testing.T) {
		w := newWorld(t, clusterWithControllers.Get(t), map[string]any{"template": portTemplate(9)})
		w.repair()
		w.pod()
		w.serve("0.0.88", "")
		w.is(w.observe(), health.Failed, "gateway-unreachable", "connection refused", "port 9 of pod openshell-0")
		w.forwarding()
		w.leads(w.uid())
		w.is(w.observe(), health.Failed, "gateway-unreachable", "connection refused")
	})
	t.Run("the pod has other secrets", func(t *testing.T) {
		w, _ := healthy(t, "0.0.88")
		for _, name := range []string{"openshell-server-tls", "openshell-server-client-ca", "openshell-client-tls"} {
			w.Must(t, "DELETE", w.path("api/v1", "secrets", name), nil)
		}
		w.repair()
		w.is(w.observe(), health.Failed, "gateway-secrets-outdated", "creel gateway restart")
	})
	t.Run("a foreign client CA", func(t *testing.T) {
		w, _ := healthy(t, "0.0.88")
		for _, name := range []string{"openshell-server-client-ca", "openshell-client-tls"} {
			w.Must(t, "DELETE", w.path("api/v1", "secrets", name), nil)
		}
		w.repair()
		w.is(w.observe(), health.Failed, "gateway-secrets-outdated", "certificate")
	})
	t.Run("secrets that may not be read", func(t *testing.T) {
		w, _ := healthy(t, "0.0.88")
		w.kubeconfig = w.ServiceAccount(t, w.namespace, "looks", kubeenv.Rule{APIGroups: []string{"apps"}, Resources: []string{"statefulsets"}, Verbs: []string{"get"}},
			kubeenv.Rule{Resources: []string{"pods"}, Verbs: []string{"get"}})
		w.is(w.observe(), health.Unknown, "cluster-forbidden", "secrets")
	})
	t.Run("forwards that are not allowed", func(t *testing.T) {
		w, _ := healthy(t, "0.0.88")
		w.kubeconfig = w.ServiceAccount(t, w.namespace, "looks", kubeenv.Rule{APIGroups: []string{"apps"}, Resources: []string{"statefulsets"}, Verbs: []string{"get"}},
			kubeenv.Rule{Resources: []string{"pods", "secrets"}, Verbs: []string{"get"}})
		o := w.observe()
		w.is(o, health.Unknown, "cluster-forbidden", "pods/portforward", "--verb=create --resource=pods/portforward")
		w.forwarding()
		w.eventually("the port-forward says why", func() bool {
			return strings.Contains(w.runtime().lookForward().message, "pods/portforward")
		})
	})
}

func portTemplate(port int) any {
	return map[string]any{"metadata": map[string]any{"labels": map[string]any{"app": "openshell"}}, "spec": map[string]any{
		"volumes": []any{map[string]any{"name": "tls-cert", "secret": map[string]any{"secretName": "openshell-server-tls"}},
			map[string]any{"name": "tls-client-ca", "secret": map[string]any{"secretName": "openshell-server-client-ca"}}},
		"containers": []any{map[string]any{"name": "openshell", "image": "i", "ports": []any{map[string]any{"name": "grpc", "containerPort": port}},
			"env": []any{map[string]any{"name": "OPENSHELL_CLIENT_TLS_SECRET_NAME", "value": "openshell-client-tls"}}}}}}
}

// The port-forward follows the pod: what was connected to the one before is cut, and
// the same address leads to the next.
func TestForwardFollowsThePod(t *testing.T) {
	w, _ := healthy(t, "0.0.88")
	w.forwarding()
	before := w.uid()
	f := w.leads(before)
	conn := w.connect(f)
	after := w.remake()
	if after == before {
		t.Fatal("the pod was not made anew")
	}
	w.serve("0.0.89", "")
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.ReadAll(conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a connection to the pod before goes on")
	}
	now := w.leads(after)
	if now.marker.Port != f.marker.Port {
		t.Errorf("port %d became %d", f.marker.Port, now.marker.Port)
	}
	if o := w.observe(); o.Verdict != health.OK || o.Identity.Version != "0.0.89" || o.Identity.InstanceID != after {
		t.Errorf("%+v", o)
	}
	// The API goes away and comes back: the way is found again by itself.
	w.KillAPI(t)
	w.StartAPI(t)
	w.eventually("the way is found again", func() bool { return w.observe().Verdict == health.OK })
}

// A pod that is replaced while the tunnel to the one before stays open, as a kubelet
// keeps it, is noticed too.
func TestPodIsReplacedBehindAnOpenTunnel(t *testing.T) {
	w, _ := healthy(t, "0.0.88")
	w.forwarding()
	before := w.uid()
	f := w.leads(before)
	conn := w.connect(f)
	w.Must(t, "DELETE", w.path("api/v1", "pods", "openshell-0"), map[string]any{"gracePeriodSeconds": 0}) // and no Cut
	w.eventually("another pod", func() bool { return w.pod() != before })
	if o := w.observe(); o.Verdict == health.OK {
		t.Errorf("a pod that is not ready is called healthy: %+v", o)
	}
	w.serve("0.0.89", "")
	w.leads(w.uid())
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.ReadAll(conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a connection to the pod before goes on")
	}
}

// One whose directory was removed is found by nobody, and ends.
func TestForwardThatIsAbandoned(t *testing.T) {
	w, _ := healthy(t, "0.0.88")
	ended, r := make(chan error, 1), w.runtime()
	ctx := within(t, 60*time.Second)
	go func() { ended <- r.Serve(ctx) }()
	w.leads(w.uid())
	if err := os.RemoveAll(w.paths.Dir()); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil || ctx.Err() != nil {
			t.Errorf("%v, %v", err, ctx.Err())
		}
	case <-time.After(20 * time.Second):
		t.Error("it goes on")
	}
}

// Of a set with two pods any one that is ready serves: the port-forward stays on the
// second when the first is back, and leaves one that is not ready for one that is.
func TestTwoPods(t *testing.T) {
	first := newWorld(t, clusterWithControllers.Get(t), map[string]any{"replicas": 2, "podManagementPolicy": "Parallel"})
	second := first.another("openshell-1")
	first.repair()
	before, other := first.pod(), second.pod()
	first.serve("0.0.88", "")
	second.serve("0.0.89", "")
	first.forwarding()
	is := func(uid, version string) {
		t.Helper()
		o := first.observe()
		first.is(o, health.OK, "")
		if o.Identity.InstanceID != uid || o.Identity.Version != version {
			t.Errorf("%+v", o)
		}
	}
	first.leads(before)
	is(before, "0.0.88")
	after := first.remake()
	first.leads(other)
	is(other, "0.0.89")
	first.serve("0.0.90", "")
	is(other, "0.0.89")
	second.status(map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": "False"}}})
	first.leads(after)
	is(after, "0.0.90")
	// With no better one it stays, and the way is there when the pod is ready again.
	first.status(map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": "False"}}})
	first.is(first.observe(), health.Failed, "gateway-pod-not-ready")
	first.ready()
	is(after, "0.0.90")
}

// A look ends in time when neither the port-forward nor the cluster's way to the pod
// answers.
func TestObserveInTime(t *testing.T) {
	t.Setenv("CREEL_BUDGET_CLUSTER", "2s")
	t.Setenv("CREEL_BUDGET_PROBE", "500ms")
	w, _ := healthy(t, "0.0.88")
	mute, err := net.Listen("tcp", net.JoinHostPort(bind, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	lock, err := state.TryLock(w.paths.File(state.PortForwardLock), "test")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	me, err := host.Lookup(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := writeMarker(w.paths, marker{Mark: launch.MarkOf("claws", me.PID, me.Start, time.Time{}), Port: mute.Addr().(*net.TCPAddr).Port,
		Link: link{Pod: w.name, PodUID: w.uid(), PodPort: 8080}}); err != nil {
		t.Fatal(err)
	}
	asked, over := make(chan struct{}, 10), make(chan struct{})
	api := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/portforward") {
			asked <- struct{}{}
			<-over
			return
		}
		status, body := w.Do(t, r.Method, r.URL.RequestURI(), nil)
		rw.Header().Set("Content-Type", "application/json")
		rw.WriteHeader(status)
		_, _ = rw.Write(body)
	}))
	defer api.Close()
	defer close(over)
	w.kubeconfig = kubeconfigFor(t, api.URL)
	began := time.Now()
	o := w.observe()
	took := time.Since(began)
	w.is(o, health.Unknown, "cluster-timeout", "through the port-forward: ", "never answers")
	if most := 2 * (2*time.Second + 500*time.Millisecond); took > most || len(asked) == 0 {
		t.Errorf("it took %s, at most %s; the way to the pod was asked for %d times", took, most, len(asked))
	}
}

// Two port-forwards of one gateway do not run, and a port that was asked for is not
// replaced by another.
func TestForwardsThatDoNotStart(t *testing.T) {
	t.Setenv("CREEL_BUDGET_LOCK", "100ms")
	w, _ := healthy(t, "0.0.88")
	w.forwarding()
	f := w.leads(w.uid())
	if err := w.runtime().Serve(within(t, 20*time.Second)); idOf(err, "") != "gateway-forward-failed" || !strings.Contains(err.Error(), "another port-forward") {
		t.Errorf("a second one: %v", err)
	}
	other := *w
	other.paths = w.paths.Roots.Gateway("other")
	other.config.Gateway, other.config.Port, other.config.PortExplicit = other.paths, f.marker.Port, true
	if err := other.runtime().Serve(within(t, 20*time.Second)); idOf(err, "") != "port-in-use" || !strings.Contains(err.Error(), fmt.Sprintf("pid %d", os.Getpid())) {
		t.Errorf("on a taken port: %v", err)
	}
	// Nobody asked for that port: the next free one is taken.
	other.config.PortExplicit = false
	other.forwarding()
	if g := other.leads(w.uid()); g.marker.Port == f.marker.Port {
		t.Errorf("both are on port %d", g.marker.Port)
	}
	declared := *w
	declared.config.Endpoint = "https://gateway.example:8080"
	if err := declared.runtime().Serve(within(t, 20*time.Second)); idOf(err, "") != "gateway-forward-failed" {
		t.Errorf("where a service is declared: %v", err)
	}
}

// A marker proves nothing without the lock, and a lock nothing without the process
// that the marker names.
func TestMarker(t *testing.T) {
	w := newWorld(t, quietCluster.Get(t))
	file := w.paths.File(state.PortForwardFile)
	look := func() forward { return w.runtime().lookForward() }
	if f := look(); f.running || f.held || f.reason != "gateway-forward-down" {
		t.Errorf("nothing there: %+v", f)
	}
	good := marker{Mark: launch.MarkOf("claws", os.Getpid(), 1, time.Time{}), Port: 8080, Link: link{Pod: "openshell-0", PodUID: "u"}}
	if err := state.MkdirAll(w.paths.Dir()); err != nil {
		t.Fatal(err)
	}
	if err := writeMarker(w.paths, good); err != nil {
		t.Fatal(err)
	}
	if f := look(); f.running || !strings.Contains(f.message, "without saying so") {
		t.Errorf("left by one that was killed: %+v", f)
	}
	lock, err := state.TryLock(w.paths.File(state.PortForwardLock), "test")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	if f := look(); f.running || f.reason != "gateway-forward-down" || !strings.Contains(f.message, "another") {
		t.Errorf("start time of another process: %+v", f)
	}
	// A process that cannot be looked at may be the one: it is not called down, and not
	// ended to be replaced.
	blind := w.runtime()
	blind.lookup = func(int) (host.Process, error) { return host.Process{}, errors.New("too many open files") }
	if f := blind.lookForward(); f.running || !f.held || f.verdict != health.Unknown || f.reason != "gateway-unknown" || !strings.Contains(f.message, "too many open files") {
		t.Errorf("a process that cannot be looked at: %+v", f)
	}
	if err := blind.ensureForward(t.Context(), nil, func(string) {}); idOf(err, "") != "gateway-unknown" {
		t.Errorf("it is replaced: %v", err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(file, 0o700); err != nil {
		t.Fatal(err)
	}
	if f := look(); f.verdict != health.Unknown || !f.held {
		t.Errorf("a marker that cannot be read: %+v", f)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	for content, reason := range map[string]string{
		`{"version":9}`: "gateway-marker-newer", `{`: "gateway-forward-down", `{"version":1,"gateway":"other"}`: "gateway-forward-down",
		`{"version":1,"gateway":"claws","pid":1,"process_start":5,"port":80}`: "gateway-forward-down",
		`{"version":1,"gateway":"claws","pid":7,"process_start":5,"port":0}`:  "gateway-forward-down",
		`{"version":1,"gateway":"claws","surprise":1}`:                        "gateway-forward-down",
	} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if f := look(); f.running || f.reason != reason || !f.held {
			t.Errorf("%s: %+v", content, f)
		}
	}
}
