package kubestore

import (
	"errors"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"k8s.io/client-go/rest"

	"creel/internal/bundle"
)

// proxy is a server on this machine without TLS in front of the API.
func (w *world) proxy() string {
	target, err := url.Parse(w.Server)
	if err != nil {
		w.Fatal(err)
	}
	config, _, err := configure(Options{Kubeconfig: w.kubeconfig})
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
