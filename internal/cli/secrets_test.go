package cli

import (
	"context"
	"encoding/json"
	"testing"

	"creel/internal/advisory"
	"creel/internal/bundle"
)

// A cluster that nothing leads to cannot be read, whichever flag was to lead there.
func TestSecretsOfNoClusterAreUnknown(t *testing.T) {
	p := newProgram(t)
	p.change = func(d *Deps) {
		d.ClusterSecrets = func(context.Context, Place) (bundle.Target, error) {
			return nil, advisory.New("cluster-none", "there is no kubeconfig", nil)
		}
	}
	p.must(ExitUnknown, "gateway", "secrets", "repair", "--context", "nope")
	p.must(ExitUnknown, "gateway", "secrets", "inspect", "--namespace", "nope")
	p.must(ExitUnknown, "gateway", "secrets", "inspect", "--context", "nope", "--json")
	var doc SecretsDocument
	if err := json.Unmarshal(p.out.Bytes(), &doc); err != nil || doc.Verdict != "unknown" {
		t.Errorf("%+v, %v", doc, err)
	}
}
