package kubestore

import (
	"errors"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/rest"

	"creel/internal/bundle"
	"creel/internal/kubeapi"
)

// proxy is a server on this machine without TLS in front of the API.
func (w *world) proxy() string {
	target, err := url.Parse(w.Server)
	if err != nil {
		w.Fatal(err)
	}
	config, _, err := kubeapi.Configure(kubeapi.Options{Kubeconfig: w.kubeconfig})
	if err != nil {
		w.Fatal(err)
	}
	transport, err := rest.TransportFor(config)
	if err != nil {
		w.Fatal(err)
	}
	server := httptest.NewServer(&httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }})
	w.Cleanup(server.Close)
	return server.URL
}

// TestNamesFromThePodTemplate become parts of URLs, and anybody may have written
// them.
func TestNamesFromThePodTemplate(t *testing.T) {
	w := newWorld(t, bundle.Generation1)
	for _, name := range []string{"../configmaps/x", "a/b", "UPPER", "a?b=c", "%2e%2e"} {
		_, err := w.store().Load(t.Context(), bundle.Requirements{Generation: bundle.Generation1, Names: map[string]string{bundle.SSHHandshake: name}})
		w.wants(err, "secrets-unknown", name)
	}
	for _, r := range w.wire.sent() {
		if strings.Contains(r, "configmaps") || strings.Contains(r, "UPPER") || strings.Contains(r, "a/b") {
			t.Errorf("asked %q", r)
		}
	}
	_, err := w.store().Load(t.Context(), bundle.Requirements{Generation: bundle.Generation2, Layout: bundle.Directory})
	w.wants(err, "secrets-unknown", "directory")
}

// TestAppliesOnlyToItsOwnSnapshot: without one nothing says what may be replaced.
func TestAppliesOnlyToItsOwnSnapshot(t *testing.T) {
	w, other := spoiled(t), newWorld(t, bundle.Generation1)
	before := w.versions()
	_, snapshot, err := bundle.Survey(t.Context(), w.store())
	if err != nil {
		t.Fatal(err)
	}
	_, foreign, err := bundle.Survey(t.Context(), other.store())
	if err != nil {
		t.Fatal(err)
	}
	good := bundle.Secret{Name: bundle.SSHHandshake, Type: opaque, Data: map[string][]byte{"secret": []byte("x")}}
	for name, c := range map[string]struct {
		write []bundle.Secret
		prev  bundle.Snapshot
	}{
		"no snapshot":        {[]bundle.Secret{good}, bundle.Snapshot{}},
		"another namespace":  {[]bundle.Secret{good}, foreign},
		"a secret not asked": {[]bundle.Secret{{Name: "other"}}, snapshot},
		"twice":              {[]bundle.Secret{good, good}, snapshot},
	} {
		if err := w.store().Apply(t.Context(), c.write, c.prev); err == nil || errors.Is(err, bundle.ErrChanged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.mustBe(before)
	if err := w.store().Apply(t.Context(), nil, snapshot); err != nil {
		t.Errorf("nothing to write: %v", err)
	}
	// What is handed out is not what is backed up: a caller may edit it.
	clear(snapshot.Secrets[bundle.SSHHandshake].Data)
	if err := w.store().Apply(t.Context(), []bundle.Secret{good}, snapshot); err != nil {
		t.Fatal(err)
	}
	if got := w.objects()[bundle.SSHHandshake+"-creel-backup-1"].Data["secret"]; string(got) != "short" {
		t.Errorf("the backup holds %q", got)
	}
}

// TestOfWhichGateway: secrets go where the gateway is, whatever the context says.
func TestOfWhichGateway(t *testing.T) {
	named := kubeconfig(t, "https://a")
	s, err := Open(Options{Kubeconfig: named})
	if err != nil || s.gateway != "openshell" || s.String() != "StatefulSet openshell in namespace openshell of https://a" {
		t.Errorf("%s, %v", s, err)
	}
	s, err = Open(Options{Kubeconfig: named, Namespace: "claws", StatefulSet: "gw", Gateway: "mine"})
	if err != nil || s.gateway != "mine" || s.String() != "StatefulSet gw in namespace claws of https://a" {
		t.Errorf("%s, %v", s, err)
	}
	for _, o := range []Options{{Namespace: "../x"}, {Namespace: "Claws"}, {StatefulSet: "a/b"}, {Gateway: "no label"}} {
		o.Kubeconfig = named
		if _, err := Open(o); advisoryID(err) != "cluster-name-invalid" {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// TestInsecureClusterIsACaveat through a proxy on this machine, as kubectl has one.
func TestInsecureClusterIsACaveat(t *testing.T) {
	w := newWorld(t, bundle.Generation1)
	proxied, err := Open(Options{Kubeconfig: kubeconfig(t, w.proxy()), Namespace: w.namespace})
	if err != nil {
		t.Fatal(err)
	}
	_, snapshot, err := bundle.Survey(t.Context(), proxied)
	if err != nil || len(snapshot.Caveats) != 1 || snapshot.Caveats[0].Advisory != "cluster-insecure" {
		t.Errorf("%+v, %v", snapshot.Caveats, err)
	}
}

// kubeconfig is one whose context is in another namespace than any gateway.
func kubeconfig(t *testing.T, server string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	content := `{"apiVersion":"v1","kind":"Config","current-context":"one","clusters":[{"name":"a","cluster":{"server":"` + server + `"}}],
		"contexts":[{"name":"one","context":{"cluster":"a","user":"me","namespace":"elsewhere"}}],"users":[{"name":"me","user":{"token":"t"}}]}`
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
