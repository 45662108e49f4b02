package engine

import (
	"os"
	"testing"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/test/engineenv"
)

var engines = []*engineenv.Shared{{Kind: engineenv.Docker}, {Kind: engineenv.Podman}}

func TestMain(m *testing.M) {
	// Other test programs work at the same time. What is about a budget sets its
	// own.
	if err := os.Setenv(budget.Probe.Variable(), "60s"); err != nil {
		panic(err)
	}
	code := m.Run()
	for _, e := range engines {
		e.Stop()
	}
	os.Exit(code)
}

// onBoth runs a test on Docker and on Podman.
func onBoth(t *testing.T, test func(t *testing.T, real *engineenv.Engine, e *Engine)) {
	t.Helper()
	for _, shared := range engines {
		t.Run(string(shared.Kind), func(t *testing.T) {
			real := shared.Get(t)
			e := New(Options{Host: real.Host, Getenv: nothing})
			t.Cleanup(func() { _ = e.Close() })
			test(t, real, e)
		})
	}
}

func nothing(string) string { return "" }

func advisoryID(err error) string {
	if p, ok := advisory.Of(err); ok {
		return p.ID
	}
	return ""
}
