package execstore

import (
	"slices"
	"testing"
)

func TestSandboxes(t *testing.T) {
	pod := func(name, owner string) string {
		return `{"kind":"Pod","metadata":{"name":"` + name + `","namespace":"openshell"` + owner + `}}`
	}
	const (
		gateway = `,"ownerReferences":[{"kind":"StatefulSet","name":"openshell"}]`
		sandbox = `,"ownerReferences":[{"kind":"Sandbox","name":"claw"}]`
		another = `,"ownerReferences":[{"kind":"StatefulSet","name":"other"}]`
	)
	for _, c := range []struct {
		name, stdout, stderr string
		code                 int
		want                 []string
		id                   string
	}{
		{"none", list(), "", 0, nil, ""},
		{"the gateway alone", list(pod("openshell-0", gateway)), "", 0, nil, ""},
		{"sandboxes", list(pod("zoe", ""), pod("openshell-0", gateway), pod("claw", sandbox), pod("x-0", another)), "", 0, []string{"claw", "x-0", "zoe"}, ""},
		{"no cluster", "", "The connection to the server 127.0.0.1:6443 was refused\n", 1, nil, "cluster-unreachable"},
		{"something else", list(`{"kind":"Secret","metadata":{"name":"x"}}`), "", 0, nil, "cluster-not-kubernetes"},
		{"no JSON", "<html>", "", 0, nil, "cluster-not-kubernetes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := said(c.stdout, c.stderr, c.code).store(t).Sandboxes(t.Context())
			if !slices.Equal(got, c.want) || id(err) != c.id || (err == nil) != (c.id == "") {
				t.Errorf("%q, %v; want %q, %q", got, err, c.want, c.id)
			}
		})
	}
}
