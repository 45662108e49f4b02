package server_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	openshellv1 "creel/api/openshell/v1"
	"creel/internal/gateway"
	"creel/internal/policy"
	"creel/internal/sandbox"
	"creel/internal/server/servertest"
	"creel/internal/server/store"
)

// filled is a gateway with n stopped sandboxes.
func filled(tb testing.TB, n int) *servertest.Gateway {
	tb.Helper()
	g := servertest.New(tb)
	s, err := store.Open(within(tb), g.Config.Gateway.Database())
	if err != nil {
		tb.Fatal(err)
	}
	document := policy.Default()
	for i := range n {
		if _, err := s.Sandboxes.Create(within(tb), store.Object[store.Sandbox]{ID: uuid.NewString(), Name: fmt.Sprintf("box-%04d", i),
			Value: store.Sandbox{Spec: sandbox.Spec{Agent: "console", Command: []string{"creel", "agent", "console"}, Restart: sandbox.RestartAlways,
				Policy: document.Canonical(), PolicyHash: document.Hash(), Dashboard: sandbox.Dashboard{TargetPort: 18789, HealthPath: "/health"}},
				Wanted: sandbox.NotRunning, Phase: sandbox.Stopped, DashboardToken: make([]byte, 230), RelayToken: make([]byte, 230)}}); err != nil {
			tb.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		tb.Fatal(err)
	}
	g.Run()
	return g
}

func TestThousandRecords(t *testing.T) {
	g := filled(t, 1000)
	c := g.Client()
	best := time.Hour
	for range 5 {
		began := time.Now()
		all, err := c.Inspect(within(t), true)
		if err != nil || len(all) != 1000 {
			t.Fatal(len(all), err)
		}
		best = min(best, time.Since(began))
	}
	// The goal is 150 ms; a test machine may be slow and busy.
	if best > 1500*time.Millisecond {
		t.Errorf("inspecting 1,000 sandboxes takes %s", best)
	}
	api := openshellv1.NewOpenShellClient(g.Conn(nil))
	most, err := api.ListSandboxes(within(t), &openshellv1.ListSandboxesRequest{Limit: 5000})
	if err != nil || len(most.GetSandboxes()) != 1000 {
		t.Errorf("%d listed: %v", len(most.GetSandboxes()), err)
	}
	usual, err := api.ListSandboxes(within(t), &openshellv1.ListSandboxesRequest{})
	if err != nil || len(usual.GetSandboxes()) != 100 {
		t.Errorf("%d listed: %v", len(usual.GetSandboxes()), err)
	}
}

func BenchmarkInspect1000(b *testing.B) {
	c := filled(b, 1000).Client()
	for b.Loop() {
		if all, err := c.Inspect(within(b), true); err != nil || len(all) != 1000 {
			b.Fatal(len(all), err)
		}
	}
}

func BenchmarkList1000(b *testing.B) {
	api := openshellv1.NewOpenShellClient(filled(b, 1000).Conn(nil))
	for b.Loop() {
		if r, err := api.ListSandboxes(within(b), &openshellv1.ListSandboxesRequest{Limit: 1000}); err != nil || len(r.GetSandboxes()) != 1000 {
			b.Fatal(len(r.GetSandboxes()), err)
		}
	}
}

func BenchmarkExecTrue(b *testing.B) {
	g := servertest.Start(b)
	c := g.Client()
	i := ready(b, c, "demo", sandbox.Spec{})
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		if code, err := c.Exec(within(b), gateway.Exec{SandboxID: i.ID, Command: []string{"true"}}); err != nil || code != 0 {
			b.Fatal(code, err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "median-ms")
}

func BenchmarkCreateUntilReady(b *testing.B) {
	g := servertest.Start(b)
	c := g.Client()
	n := 0
	for b.Loop() {
		n++
		ready(b, c, fmt.Sprintf("box-%d", n), sandbox.Spec{})
	}
}

func BenchmarkStartEmptyGateway(b *testing.B) {
	m := servertest.Material(b)
	for b.Loop() {
		g := servertest.New(b)
		g.Config.Material = m
		g.Run()
		if _, err := g.Client().Identity(within(b)); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		g.Stop()
		b.StartTimer()
	}
}
