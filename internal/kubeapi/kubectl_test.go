package kubeapi

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	"creel/internal/advisory"
)

// Whatever a person is told to run asks the cluster that was meant, and not the one
// that kubectl has selected.
func TestCommandsAreAboutTheClusterThatIsMeant(t *testing.T) {
	home := noPlace(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "https://" + l.Addr().String()
	l.Close()
	config := put(t, filepath.Join(home, "kube config"), clusters(nobody, nobody, "one"))
	flags := "kubectl --kubeconfig '" + config + "' --context two "
	o := Options{Kubeconfig: config, Context: "two", Namespace: "claws"}
	if got, want := o.Kubectl("get pods"), flags+"--namespace claws get pods"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := o.KubectlCluster("get nodes"), flags+"get nodes"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	aimed := func(what string, err error) {
		t.Helper()
		p, ok := advisory.Of(err)
		if !ok || len(p.Commands()) == 0 {
			t.Fatalf("%s: %v", what, err)
		}
		for _, c := range p.Commands() {
			if strings.HasPrefix(c, "kubectl ") && !strings.HasPrefix(c, strings.TrimSuffix(flags, "two ")) {
				t.Errorf("%s: %s: %q", what, p.ID, c)
			}
		}
	}
	unknown := o
	unknown.Context = "nope"
	_, err = Open(unknown)
	aimed("open", err)
	c, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Do(t.Context(), "ask", c.Get().AbsPath("/version"))
	aimed("ask", err)
	if p, _ := advisory.Of(err); p.ID != "cluster-unreachable" || !strings.HasPrefix(p.Commands()[0], flags) {
		t.Errorf("%s: %q", p.ID, p.Commands())
	}
	_, err = c.Stream(t.Context(), "follow", c.Get().AbsPath("/version"))
	aimed("follow", err)
	_, err = c.Forward(t.Context(), "p")
	aimed("forward", err)
	// Where kubectl would ask the same cluster anyway the commands stay short.
	t.Setenv("KUBECONFIG", config)
	c, err = Open(Options{Namespace: "claws"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Do(t.Context(), "ask", c.Get().AbsPath("/version"))
	if p, ok := advisory.Of(err); !ok || strings.Contains(strings.Join(p.Commands(), " "), "--context") {
		t.Errorf("%v", err)
	}
}
