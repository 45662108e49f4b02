package script_test

import (
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"creel/internal/bundle"
	"creel/internal/bundle/script"
	"creel/test/kubeenv"
)

// Nothing is written where there is no gateway, and nothing over what could not
// be read.
func TestRefusals(t *testing.T) {
	c := cluster.Get(t)
	for _, s := range shells(t) {
		for name, try := range map[string]func(*testing.T, *world, *machine){
			"no namespace": func(t *testing.T, w *world, m *machine) {
				m.run(generate(t, script.Options{Want: requirements(1, "nowhere")})).must(t, 1, "", "creel: there is no namespace nowhere, nothing was changed\n")
			},
			"no StatefulSet": func(t *testing.T, w *world, m *machine) {
				m.run(generate(t, script.Options{Want: w.want, StatefulSet: "other"})).must(t, 1, "", "there is no StatefulSet other in namespace "+w.namespace)
			},
			"StatefulSet being deleted": func(t *testing.T, w *world, m *machine) {
				w.c.Must(t, "PATCH", w.statefulSet("/openshell"), `{"metadata": {"finalizers": ["creel/test"]}}`)
				w.c.Must(t, "DELETE", w.statefulSet("/openshell"), nil)
				m.run(generate(t, script.Options{Want: w.want})).must(t, 1, "", "is being deleted, nothing was changed")
			},
			"unreachable": func(t *testing.T, w *world, m *machine) {
				m.kubeconfig = unreachable(t, w.c)
				out := m.run(generate(t, script.Options{Want: w.want}))
				out.must(t, 4, "", "look for StatefulSet openshell in namespace "+w.namespace+": the cluster could not be asked, nothing was changed\n  ")
				if !strings.Contains(out.stderr, "refused") || strings.Contains(out.stderr, "memcache") {
					t.Errorf("it says %q", out.stderr)
				}
			},
			"unauthorized": func(t *testing.T, w *world, m *machine) {
				m.kubeconfig = w.c.Kubeconfig(t, kubeenv.Login{Token: "wrong"})
				m.run(generate(t, script.Options{Want: w.want})).must(t, 4, "", "nothing was changed")
			},
			"no right at all": func(t *testing.T, w *world, m *machine) {
				m.kubeconfig = w.c.ServiceAccount(t, w.namespace, "nobody")
				m.run(generate(t, script.Options{Want: w.want})).must(t, 4, "", "(Forbidden)")
			},
			"no right to read one secret": func(t *testing.T, w *world, m *machine) {
				m.kubeconfig = w.account(t, kubeenv.Rule{Resources: []string{"secrets"}, Verbs: []string{"create"}},
					kubeenv.Rule{Resources: []string{"secrets"}, Verbs: []string{"get"}, ResourceNames: w.want.Stored()[1:]})
				out := m.run(generate(t, script.Options{Want: w.want}))
				out.must(t, 4, "", "look for secrets in namespace "+w.namespace+": the cluster could not be asked, nothing was changed\n  ")
				out.must(t, 4, "", "(Forbidden)")
			},
			"no right to create": func(t *testing.T, w *world, m *machine) {
				m.kubeconfig = w.account(t, kubeenv.Rule{Resources: []string{"secrets"}, Verbs: []string{"get"}})
				out := m.run(generate(t, script.Options{Want: w.want}))
				out.must(t, 1, "Repairing...", "creel: create secret openshell-server-client-ca\n")
				out.must(t, 1, "Repairing...", "(Forbidden)")
			},
			"a gateway of the other generation": func(t *testing.T, w *world, m *machine) {
				m.run(generate(t, script.Options{Want: requirements(2, w.namespace)})).must(t, 1, "",
					"uses secrets of generation 1 and this script makes those of generation 2, nothing was changed")
			},
			"no kubectl": func(t *testing.T, w *world, m *machine) {
				m.remove("kubectl")
				m.run(generate(t, script.Options{Want: w.want})).must(t, 1, "", "creel: kubectl is needed and not installed, nothing was changed\n")
			},
			"no openssl": func(t *testing.T, w *world, m *machine) {
				m.remove("openssl")
				m.run(generate(t, script.Options{Want: w.want})).must(t, 1, "", "creel: openssl is needed and not installed, nothing was changed\n")
			},
			"openssl fails": func(t *testing.T, w *world, m *machine) {
				m.wrap("openssl", s.program(t, "openssl"), `case $1 in verify) echo "no: broken" >&2; exit 1 ;; esac`)
				out := m.run(generate(t, script.Options{Want: w.want}))
				out.must(t, 1, "Repairing...", "creel: openssl verify\n  no: broken\n")
			},
			"nowhere to put files": func(t *testing.T, w *world, m *machine) {
				m.tmp = filepath.Join(m.tmp, "absent")
				m.run(generate(t, script.Options{Want: w.want})).must(t, 1, "", "creel: make a directory for temporary files\n")
			},
		} {
			t.Run(s.name+" "+name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, c, bundle.Generation1)
				try(t, w, newMachine(t, s, c.Bin+"/kubectl", c.AdminKubeconfig))
				if found := w.secrets(); len(found) > 0 {
					t.Errorf("it wrote %q", slices.Sorted(maps.Keys(found)))
				}
			})
		}
	}
}

// account may read the StatefulSet, and what the rules say.
func (w *world) account(t testing.TB, rules ...kubeenv.Rule) string {
	t.Helper()
	rules = append(rules, kubeenv.Rule{APIGroups: []string{"apps"}, Resources: []string{"statefulsets"}, Verbs: []string{"get"}})
	return w.c.ServiceAccount(t, w.namespace, "repairer", rules...)
}

func (m *machine) remove(program string) {
	m.t.Helper()
	if err := os.Remove(filepath.Join(m.bin, program)); err != nil {
		m.t.Fatal(err)
	}
}

// unreachable is a kubeconfig of a cluster whose port nobody listens on.
func unreachable(t testing.TB, c *kubeenv.Cluster) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "https://" + l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(c.AdminKubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(b), c.Server, closed, 1)
	if text == string(b) {
		t.Fatalf("%s is not in the kubeconfig", c.Server)
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// An API server that accepts and never answers: the run ends by itself.
func TestNoAnswerIsUnknown(t *testing.T) {
	c := kubeenv.Start(t)
	w := newWorld(t, c, bundle.Generation1)
	text := generate(t, script.Options{Want: w.want})
	short := strings.Replace(text, "--request-timeout=10s", "--request-timeout=1s", 1)
	if short == text {
		t.Fatal("the script bounds no request")
	}
	m := newMachine(t, dash(t), c.Bin+"/kubectl", c.AdminKubeconfig)
	c.PauseAPI(t)
	m.run(short).must(t, 4, "", "the cluster could not be asked, nothing was changed\n")
	c.ResumeAPI()
	c.KillAPI(t)
	m.run(text).must(t, 4, "", "the cluster could not be asked, nothing was changed\n")
	c.StartAPI(t)
	if found := w.secrets(); len(found) > 0 {
		t.Errorf("it wrote %q", slices.Sorted(maps.Keys(found)))
	}
	m.run(text).must(t, 0, "✓", "")
	w.good()
}

// The rights that the script says it needs are enough.
func TestLeastRights(t *testing.T) {
	c := cluster.Get(t)
	secrets := func(verbs ...string) kubeenv.Rule {
		return kubeenv.Rule{Resources: []string{"secrets"}, Verbs: verbs}
	}
	t.Run("all absent", func(t *testing.T) {
		w := newWorld(t, c, bundle.Generation2)
		m := newMachine(t, dash(t), c.Bin+"/kubectl", w.account(t, secrets("get", "create")))
		m.run(generate(t, script.Options{Want: w.want})).must(t, 0, "✓", "")
		w.good()
	})
	half := func(t *testing.T, w *world, rules ...kubeenv.Rule) (*machine, map[string]object) {
		for name, s := range issue(t, w.want).Secrets {
			if name != bundle.ClientTLS {
				w.create(objectOf(s))
			}
		}
		return newMachine(t, dash(t), c.Bin+"/kubectl", w.account(t, rules...)), w.secrets()
	}
	t.Run("half a pair", func(t *testing.T) {
		w := newWorld(t, c, bundle.Generation1)
		m, _ := half(t, w, secrets("get", "create", "patch"), kubeenv.Rule{APIGroups: []string{"apps"}, Resources: []string{"statefulsets"}, Verbs: []string{"patch"}})
		m.run(generate(t, script.Options{Want: w.want})).must(t, 0, "✓", "")
		w.good()
	})
	t.Run("half a pair that may not be replaced", func(t *testing.T) {
		w := newWorld(t, c, bundle.Generation1)
		m, before := half(t, w, secrets("get", "create"))
		m.run(generate(t, script.Options{Want: w.want})).must(t, 1, "Repairing", "creel: secret openshell-server-client-ca may not be replaced, nothing was changed\n")
		if diff := cmp.Diff(before, w.secrets()); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("a gateway that may not be told", func(t *testing.T) {
		w := newWorld(t, c, bundle.Generation1)
		m, before := half(t, w, secrets("get", "create", "patch"))
		m.run(generate(t, script.Options{Want: w.want})).must(t, 1, "Repairing",
			"creel: the gateway may not be told to start again, so secret openshell-server-client-ca is not replaced, nothing was changed\n")
		if diff := cmp.Diff(before, w.secrets()); diff != "" {
			t.Error(diff)
		}
	})
}

// Which generation a gateway needs is what its pods mount.
func TestGenerationIsThatOfTheGateway(t *testing.T) {
	c := cluster.Get(t)
	const refused = "nothing was changed"
	for _, k := range []struct {
		name       string
		mounts     []string
		generation bundle.Generation
		refused    string
	}{
		{"nothing", nil, 1, ""},
		{"handshake", []string{"openshell-ssh-handshake"}, 1, ""},
		{"CA", []string{"openshell-server-client-ca", "openshell-server-tls"}, 1, ""},
		{"others", []string{"unrelated"}, 1, ""},
		{"token key", []string{"x-jwt-keys"}, 1, refused},
		{"CA and token key", []string{"openshell-server-client-ca", "openshell-jwt-keys"}, 1, refused},
		{"only TLS", []string{"openshell-server-tls", "openshell-client-tls"}, 1, refused},
		{"token key", []string{"openshell-server-tls", "openshell-jwt-keys"}, 2, ""},
		{"CA and token key", []string{"openshell-server-client-ca", "openshell-jwt-keys"}, 2, ""},
		{"only TLS", []string{"openshell-server-tls"}, 2, ""},
		{"nothing", nil, 2, ""},
		{"CA", []string{"openshell-server-client-ca"}, 2, refused},
		{"handshake", []string{"openshell-ssh-handshake", "openshell-jwt-keys"}, 2, refused},
	} {
		t.Run(fmt.Sprint(k.generation, " ", k.name), func(t *testing.T) {
			t.Parallel()
			w := &world{t: t, c: c, namespace: c.NewNamespace(t)}
			w.want = requirements(k.generation, w.namespace)
			w.install(k.mounts...)
			m := newMachine(t, dash(t), c.Bin+"/kubectl", c.AdminKubeconfig)
			out := m.run(generate(t, script.Options{Want: w.want}))
			if k.refused != "" {
				out.must(t, 1, "", k.refused)
				return
			}
			out.must(t, 0, "✓", "")
			w.good()
		})
	}
}
