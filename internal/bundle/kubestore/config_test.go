package kubestore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/rest"

	"creel/internal/bundle"
)

// noPlace makes an environment in which nothing says where a cluster is.
func noPlace(t *testing.T) (home string) {
	home = t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("KUBECONFIG", "")
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	t.Setenv("KUBERNETES_SERVICE_PORT", "")
	return home
}

func put(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// clusters is a kubeconfig that knows two of them.
func clusters(a, b, current string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: %q
clusters:
- name: a
  cluster: {server: %q}
- name: b
  cluster: {server: %q, insecure-skip-tls-verify: true}
contexts:
- name: one
  context: {cluster: a, user: me, namespace: elsewhere}
- name: two
  context: {cluster: b, user: me}
- name: lost
  context: {cluster: c, user: me}
- name: nobody
  context: {cluster: a, user: she}
users:
- name: me
  user: {token: t}
`, current, a, b)
}

// TestLookupOrder: the flag, KUBECONFIG, the home directory, the pod.
func TestLookupOrder(t *testing.T) {
	home := noPlace(t)
	at := func(host string) string { return clusters("https://"+host, "https://other:1", "one") }
	hostOf := func(o Options) string {
		t.Helper()
		config, _, err := configure(o)
		if err != nil {
			t.Fatal(err)
		}
		return config.Host
	}
	if _, err := Open(Options{}); advisoryID(err) != "cluster-none" || !errors.Is(err, rest.ErrNotInCluster) {
		t.Errorf("nothing anywhere: %v", err)
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
	t.Setenv("KUBERNETES_SERVICE_PORT", "443")
	if _, err := Open(Options{}); advisoryID(err) != "cluster-none" || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a pod without a service account: %v", err)
	}
	put(t, filepath.Join(home, ".kube", "config"), at("home"))
	if got := hostOf(Options{}); got != "https://home" {
		t.Errorf("from the home directory: %s", got)
	}
	if _, err := Open(Options{InCluster: true}); advisoryID(err) != "cluster-none" {
		t.Errorf("in the cluster only: %v", err)
	}
	first := put(t, filepath.Join(home, "first"), at("first"))
	t.Setenv("KUBECONFIG", strings.Join([]string{filepath.Join(home, "missing"), first}, string(filepath.ListSeparator)))
	if got := hostOf(Options{}); got != "https://first" {
		t.Errorf("from KUBECONFIG: %s", got)
	}
	named := put(t, filepath.Join(home, "named"), at("named"))
	if got := hostOf(Options{Kubeconfig: named}); got != "https://named" {
		t.Errorf("from the flag: %s", got)
	}
	if got := hostOf(Options{Kubeconfig: named, Context: "two"}); got != "https://other:1" {
		t.Errorf("of the other context: %s", got)
	}
}

// TestNamespaceIsNotTheContexts: secrets go where the gateway is.
func TestNamespaceIsNotTheContexts(t *testing.T) {
	home := noPlace(t)
	named := put(t, filepath.Join(home, "named"), clusters("https://a", "https://b", "one"))
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

// TestEveryWayToBeWrong: each is told apart, in words that name the file.
func TestEveryWayToBeWrong(t *testing.T) {
	home := noPlace(t)
	path := func(name string) string { return filepath.Join(home, name) }
	good := put(t, path("good"), clusters("https://a", "https://b", "one"))
	const secret = "c2VjcmV0LXRva2VuLXRoYXQtbm9ib2R5LW1heS1zZWU3ODkwMTIz"
	user := func(name, user string) string {
		return put(t, path(name), strings.Replace(clusters("https://a", "https://b", "one"), "{token: t}", user, 1))
	}
	for _, c := range []struct {
		name, advisory string
		options        Options
		variable       string
		says           []string
	}{
		{"file missing", "cluster-kubeconfig-missing", Options{Kubeconfig: path("no")}, "", []string{path("no"), "--kubeconfig"}},
		{"all files missing", "cluster-kubeconfig-missing", Options{}, path("no") + ":" + path("neither"), []string{path("no"), path("neither"), "KUBECONFIG"}},
		{"not YAML", "cluster-kubeconfig-invalid", Options{Kubeconfig: put(t, path("yaml"), "a: [b")}, "", []string{path("yaml")}},
		{"of another form", "cluster-kubeconfig-invalid", Options{Kubeconfig: put(t, path("form"), "apiVersion: v1\nkind: Config\nusers: "+secret)}, "", []string{path("form")}},
		{"certificate no base64", "cluster-kubeconfig-invalid", Options{Kubeconfig: user("base64", "{client-key-data: '"+secret+"!'}")}, "", []string{path("base64")}},
		{"password that is an alias", "cluster-kubeconfig-invalid", Options{Kubeconfig: user("alias", "{password: *"+secret+"}")}, "", []string{path("alias")}},
		{"a directory", "cluster-kubeconfig-invalid", Options{Kubeconfig: home}, "", []string{home}},
		{"empty", "cluster-context-unknown", Options{Kubeconfig: put(t, path("empty"), "")}, "", []string{"it knows: none"}},
		{"no current context", "cluster-context-unknown", Options{Kubeconfig: put(t, path("current"), clusters("https://a", "https://b", ""))}, "", []string{"selects no context", "lost, nobody, one, two"}},
		{"context unknown", "cluster-context-unknown", Options{Kubeconfig: good, Context: "three"}, "", []string{`"three"`, "lost, nobody, one, two"}},
		{"current context unknown", "cluster-context-unknown", Options{Kubeconfig: put(t, path("stale"), clusters("https://a", "https://b", "old"))}, "", []string{`"old"`}},
		{"cluster not there", "cluster-no-server", Options{Kubeconfig: good, Context: "lost"}, "", []string{`cluster "c"`}},
		{"no server", "cluster-no-server", Options{Kubeconfig: put(t, path("server"), clusters("", "https://b", "one"))}, "", []string{`cluster "a"`, "no server"}},
		{"server is no URL", "cluster-kubeconfig-invalid", Options{Kubeconfig: put(t, path("url"), clusters("127.0.0.1", "https://b", "one"))}, "", []string{"no URL"}},
		{"without TLS", "cluster-kubeconfig-invalid", Options{Kubeconfig: put(t, path("plain"), clusters("http://192.0.2.1", "https://b", "one"))}, "", []string{"in the clear"}},
		{"user not there", "cluster-kubeconfig-invalid", Options{Kubeconfig: good, Context: "nobody"}, "", []string{`user "she"`}},
		{"certificate not there", "cluster-kubeconfig-invalid", Options{Kubeconfig: user("cert", "{client-certificate: no.crt, client-key: no.key}")}, "", []string{"no.crt"}},
		{"certificate that is none", "cluster-kubeconfig-invalid", Options{Kubeconfig: user("garbage", "{client-certificate-data: eA==, client-key-data: "+secret+"}")}, "", nil},
		{"login program not there", "cluster-plugin-missing", Options{Kubeconfig: user("exec",
			"{exec: {apiVersion: client.authentication.k8s.io/v1, command: creel-no-such-login, interactiveMode: Never, installHint: 'get it\n from there'}}")}, "",
			[]string{"creel-no-such-login", "get it from there", "executable file not found"}},
		{"login that is gone", "cluster-kubeconfig-invalid", Options{Kubeconfig: user("gcp", "{auth-provider: {name: gcp}}")}, "", []string{"gcp"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("KUBECONFIG", c.variable)
			s, err := Open(c.options)
			if s != nil || advisoryID(err) != c.advisory {
				t.Errorf("%q, want %q: %v", advisoryID(err), c.advisory, err)
			}
			for _, word := range c.says {
				if !strings.Contains(fmt.Sprint(err), word) {
					t.Errorf("it does not say %q: %v", word, err)
				}
			}
			for _, e := range chain(err) {
				if strings.Contains(fmt.Sprintf("%v %#v", e, e), secret[:20]) {
					t.Errorf("it shows a secret: %v", e)
				}
			}
		})
	}
}

// TestInsecureClusterIsACaveat of every inspection.
func TestInsecureClusterIsACaveat(t *testing.T) {
	w := newWorld(t, bundle.Generation1) // before HOME is another one: the programs are in its cache
	home := noPlace(t)
	named := put(t, filepath.Join(home, "named"), clusters("http://127.0.0.1:8001", "https://b", "one"))
	for context, says := range map[string]string{"one": "turns off TLS for 127.0.0.1:8001", "two": "turns off the verification of TLS for b"} {
		s, err := Open(Options{Kubeconfig: named, Context: context})
		if err != nil || len(s.caveats) != 1 || s.caveats[0].Advisory != "cluster-insecure" || !strings.Contains(s.caveats[0].Message, says) {
			t.Errorf("%s: %+v, %v", context, s, err)
		}
	}
	// Through a proxy on this machine, as kubectl has one.
	proxied, err := Open(Options{Kubeconfig: put(t, filepath.Join(home, "proxy"), clusters(w.proxy(), "https://b", "one")), Namespace: w.namespace})
	if err != nil {
		t.Fatal(err)
	}
	_, snapshot, err := bundle.Survey(t.Context(), proxied)
	if err != nil || len(snapshot.Caveats) != 1 {
		t.Errorf("%+v, %v", snapshot.Caveats, err)
	}
}
