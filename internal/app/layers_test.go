package app

import (
	"testing"

	"creel/internal/cli"
	"creel/internal/desired"
	"creel/internal/layer"
)

// A gateway alone that Creel does not run has no layer of the model, until somebody
// names it: taking the model's provider back must not walk nothing.
func TestInferenceOfAGatewayAlone(t *testing.T) {
	home := t.TempDir()
	g := &graph{getenv: func(n string) string {
		if n == "CREEL_HOME" {
			return home
		}
		return ""
	}}
	d := desired.New("creel")
	d.Runtime, d.Driver = desired.External, desired.DriverOf(desired.External)
	for _, c := range []struct {
		only []layer.ID
		want bool
	}{{nil, false}, {[]layer.ID{layer.Inference}, true}} {
		stack, err := g.layers(t.Context(), d, cli.Scope{Only: c.only})
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, l := range stack.Layers {
			found = found || l.ID() == layer.Inference
		}
		if found != c.want {
			t.Errorf("only %v: the layer is there: %t", c.only, found)
		}
		if err := stack.Close(); err != nil {
			t.Error(err)
		}
	}
}
