package client_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/bundle"
	"creel/internal/gateway"
	"creel/internal/gateway/client"
	"creel/internal/inference"
	"creel/internal/sandbox"
	"creel/internal/server/servertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func dial(t testing.TB, port int, config *tls.Config) gateway.Client {
	t.Helper()
	c, err := client.Dial(t.Context(), gateway.Endpoint{Host: "127.0.0.1", Port: port}, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func problem(t *testing.T, err error, id string) {
	t.Helper()
	p, ok := advisory.Of(err)
	if !ok || p.ID != id {
		t.Errorf("want advisory %s, got %v", id, err)
	}
	if _, known := advisory.Lookup(id); !known {
		t.Errorf("advisory %s is not in the registry", id)
	}
}

func TestErrorsInDomainTerms(t *testing.T) {
	g := servertest.Start(t)
	c := g.Client()
	if _, err := c.Dashboard(t.Context(), "none", true); !errors.Is(err, gateway.ErrNotFound) {
		t.Errorf("dashboard of nothing: %v", err)
	}
	if err := c.StopSandbox(t.Context(), "none"); !errors.Is(err, gateway.ErrNotFound) {
		t.Errorf("stop nothing: %v", err)
	}
	if err := c.Logs(t.Context(), "none", 1, false, nil); !errors.Is(err, gateway.ErrNotFound) {
		t.Errorf("logs of nothing: %v", err)
	}
	if all, err := c.Inspect(t.Context(), true, "none"); err != nil || len(all) != 0 {
		t.Errorf("inspect nothing: %v %v", all, err)
	}
	problem(t, c.SetRoute(t.Context(), "nobody", "m"), "provider-missing")
	if err := c.SetProvider(t.Context(), inference.Route{Provider: "Bad Name", Type: "custom"}); err == nil || !strings.Contains(err.Error(), "Bad Name") {
		t.Errorf("bad provider: %v", err)
	}
}

func TestNobodyAnswers(t *testing.T) {
	m := servertest.Material(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	_, err = dial(t, port, m.ClientConfig(bundle.LocalName)).Identity(t.Context())
	problem(t, err, "gateway-unreachable")
	if errors.Is(err, gateway.ErrNotFound) || time.Since(began) > 5*time.Second {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
	if _, err := client.Dial(t.Context(), gateway.Endpoint{Host: "127.0.0.1"}, m.ClientConfig(bundle.LocalName)); err == nil {
		t.Error("dialled an endpoint that is not known")
	}
}

// A listener that accepts and never answers is bounded by the budget.
func TestHungGateway(t *testing.T) {
	t.Setenv(budget.Operation.Variable(), "200ms")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	m := servertest.Material(t)
	_, err = dial(t, l.Addr().(*net.TCPAddr).Port, m.ClientConfig(bundle.LocalName)).Inspect(t.Context(), false)
	var expired *budget.Expired
	if !errors.As(err, &expired) || expired.Budget != budget.Operation {
		t.Errorf("hung: %v", err)
	}
}

func TestWaitIsBoundedAndSaysWhatItWaitsFor(t *testing.T) {
	t.Setenv(budget.SandboxReady.Variable(), "400ms")
	g := servertest.New(t)
	g.Driver.Silent = true // connected, and never says that the main process runs
	g.Run()
	c := g.Client()
	if _, err := c.CreateSandbox(t.Context(), "demo", sandbox.Spec{}); err != nil {
		t.Fatal(err)
	}
	var said []string
	_, err := c.WaitSandbox(t.Context(), "demo", func(m string) { said = append(said, m) })
	var expired *budget.Expired
	if !errors.As(err, &expired) || !strings.Contains(err.Error(), "waiting for its supervisor's report") {
		t.Errorf("waited for: %v", err)
	}
	if len(said) == 0 || !strings.HasPrefix(said[0], "provisioning") {
		t.Errorf("reported %q", said)
	}
}

func TestFollowedLogs(t *testing.T) {
	g := servertest.Start(t)
	c := g.Client()
	if _, err := c.CreateSandbox(t.Context(), "demo", sandbox.Spec{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), servertest.Wait)
	defer cancel()
	var got []gateway.LogLine
	err := c.Logs(ctx, "demo", 10, true, func(l gateway.LogLine) {
		if got = append(got, l); len(got) == 3 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || len(got) != 3 || got[2].Message != "line 2" || got[2].Source != "agent" || got[2].At.IsZero() {
		t.Errorf("%+v: %v", got, err)
	}
	// When the sandbox goes, so do its logs, without an error.
	ended := make(chan error, 1)
	first := make(chan struct{}, 16)
	go func() {
		ended <- c.Logs(t.Context(), "demo", 1, true, func(gateway.LogLine) { first <- struct{}{} })
	}()
	<-first
	if _, err := c.DeleteSandbox(t.Context(), "demo"); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("logs of a deleted sandbox end with %v", err)
	}
}

func TestExecThatIsGivenUp(t *testing.T) {
	g := servertest.Start(t)
	c := g.Client()
	if _, err := c.CreateSandbox(t.Context(), "demo", sandbox.Spec{}); err != nil {
		t.Fatal(err)
	}
	i, err := c.WaitSandbox(t.Context(), "demo", nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	started := writer(func(b []byte) (int, error) { cancel(); return len(b), nil })
	if _, err := c.Exec(ctx, gateway.Exec{SandboxID: i.ID, Command: []string{"sh", "-c", "echo up; exec sleep 600"}, Stdout: started}); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	full := writer(func([]byte) (int, error) { return 0, errors.New("disk is full") })
	if _, err := c.Exec(t.Context(), gateway.Exec{SandboxID: i.ID, Command: []string{"echo", "x"}, Stdout: full}); err == nil || !strings.Contains(err.Error(), "disk is full") {
		t.Errorf("output that cannot be written: %v", err)
	}
	if _, err := c.Exec(t.Context(), gateway.Exec{SandboxID: "none", Command: []string{"true"}}); !errors.Is(err, gateway.ErrNotFound) {
		t.Errorf("in no sandbox: %v", err)
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

func BenchmarkDialAndInspect(b *testing.B) {
	g := servertest.Start(b)
	m := g.Config.Material
	for b.Loop() {
		c := dial(b, g.Ready.Port, m.ClientConfig(bundle.LocalName))
		if _, err := c.Inspect(b.Context(), true); err != nil {
			b.Fatal(err)
		}
		_ = c.Close()
	}
}
