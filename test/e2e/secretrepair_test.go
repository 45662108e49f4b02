package e2e

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"creel/test/kubeenv"
)

type repairedDocument struct {
	Verdict       string   `json:"verdict"`
	NotApplicable string   `json:"not_applicable"`
	Repaired      bool     `json:"repaired"`
	Written       []string `json:"written"`
	Rolled        bool     `json:"rolled"`
	Plan          []struct {
		Member       string   `json:"member"`
		NeedsConsent bool     `json:"needs_consent"`
		Disturbs     []string `json:"disturbs"`
	} `json:"plan"`
}

// testSecretRepair is the suite gateway-bootstrap-secret-repair, through the
// command line and a kubeconfig.
func testSecretRepair(t *testing.T) {
	c := clusters.Get(t)
	h := newHome(t)
	g := newGatewayIn(t, c)
	kubeconfig := c.Kubeconfig(t, kubeenv.Login{})
	at := func(verb string, more ...string) []string {
		return append([]string{"gateway", "secrets", verb, "--kubeconfig", kubeconfig, "--namespace", g.ns}, more...)
	}
	// clean is asked after everything: what is in the set is nobody's to see.
	clean := func(r result) result {
		for name, s := range g.secrets() {
			for key, value := range s.Data {
				private := strings.Contains(key, "key") || key == "secret"
				if text := strings.TrimSpace(string(value)); private && len(text) > 20 && strings.Contains(r.stdout+r.stderr, text[20:len(text)-1]) {
					t.Errorf("creel %s printed %s of %s", strings.Join(r.args, " "), key, name)
				}
			}
		}
		return r
	}

	t.Run("every-subset", func(t *testing.T) {
		h, g := h.in(t), g.in(t)
		for subset := 15; subset >= 0; subset-- {
			before := g.secrets()
			var missing []string
			for i, name := range generation1 {
				if _, there := before[name]; subset&(1<<i) != 0 {
					missing = append(missing, name)
					if there {
						g.remove(name)
					}
				}
			}
			before = g.secrets()
			r := clean(h.must(0, at("repair", "--yes", "--json")...))
			doc := decode[repairedDocument](t, r)
			if line := "OpenShell bootstrap secrets missing: " + strings.Join(missing, ", ") + ". Repairing..."; subset != 0 &&
				(!strings.Contains(r.stderr, line) || !strings.Contains(r.stderr, "✓ OpenShell bootstrap secrets created") || !doc.Repaired) {
				t.Errorf("without %q: %+v, said\n%s", missing, doc, r.stderr)
			}
			after := g.secrets()
			judge(t, g.ns, after)
			pair := slices.Contains(missing, generation1[1]) || slices.Contains(missing, generation1[2])
			for _, name := range generation1 {
				rewritten := slices.Contains(missing, name) || pair && (name == generation1[1] || name == generation1[2])
				if same := reflect.DeepEqual(before[name], after[name]); same == rewritten {
					t.Errorf("without %q: %s rewritten: %v", missing, name, !same)
				}
				if labels := after[name].Metadata.Labels; rewritten && (labels["app.kubernetes.io/managed-by"] != "creel" || labels["app.kubernetes.io/instance"] != "creel") {
					t.Errorf("%s is labelled %v", name, labels)
				}
			}
			if doc := decode[repairedDocument](t, h.must(0, at("repair", "--replace", "--yes", "--json")...)); doc.Repaired || len(doc.Written) != 0 {
				t.Errorf("a second repair wrote %q", doc.Written)
			}
			if !reflect.DeepEqual(after, g.secrets()) {
				t.Error("a second repair changed something")
			}
			clean(h.must(0, at("inspect")...))
		}
	})

	t.Run("every-damage", func(t *testing.T) {
		expired, expiredKey := forge(t, g.ns, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
		early, earlyKey := forge(t, g.ns, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(24 * time.Hour) })
		otherName, otherNameKey := forge(t, g.ns, func(c *x509.Certificate) { c.DNSNames = []string{"elsewhere"} })
		otherUse, otherUseKey := forge(t, g.ns, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
		_, strange := forge(t, g.ns, func(*x509.Certificate) {})
		for _, d := range []struct {
			class, name string
			data        map[string][]byte
			consent     bool
		}{
			{"incomplete", generation1[0], map[string][]byte{"tls.key": {}}, false},
			{"incomplete", generation1[1], map[string][]byte{"ca.crt": {}}, true},
			{"malformed", generation1[0], map[string][]byte{"tls.crt": []byte("garbage")}, true},
			{"mismatched", generation1[0], map[string][]byte{"tls.key": strange}, true},
			{"mismatched", generation1[3], map[string][]byte{"secret": []byte("short")}, true},
			{"expired", generation1[0], map[string][]byte{"tls.crt": expired, "tls.key": expiredKey}, true},
			{"not-yet-valid", generation1[0], map[string][]byte{"tls.crt": early, "tls.key": earlyKey}, true},
			{"wrong-name", generation1[0], map[string][]byte{"tls.crt": otherName, "tls.key": otherNameKey}, true},
			{"wrong-usage", generation1[0], map[string][]byte{"tls.crt": otherUse, "tls.key": otherUseKey}, true},
		} {
			t.Run(d.class+"-"+d.name, func(t *testing.T) {
				h, g := h.in(t), g.in(t)
				g.put(d.name, d.data)
				damaged, rolled := g.secrets(), g.rolled()
				if r := clean(h.run(at("inspect")...)); r.code != 1 || !strings.Contains(r.stdout, d.class) || !strings.Contains(r.stdout, "a repair would") {
					t.Errorf("inspect: exit %d\n%s", r.code, r.stdout)
				}
				if d.consent {
					r := clean(h.run(at("repair", "--json")...))
					if r.code != 1 || !strings.Contains(r.stderr, "--replace") {
						t.Errorf("without consent: exit %d\n%s", r.code, r.stderr)
					}
					if !reflect.DeepEqual(damaged, g.secrets()) || g.rolled() != rolled {
						t.Error("without consent something was changed")
					}
				}
				doc := decode[repairedDocument](t, clean(h.must(0, at("repair", "--replace", "--yes", "--json")...)))
				if !doc.Repaired || !doc.Rolled || len(doc.Plan) == 0 || len(doc.Plan[0].Disturbs) == 0 {
					t.Errorf("repair: %+v", doc)
				}
				judge(t, g.ns, g.secrets())
				if now := g.rolled(); now == rolled || now == "" {
					t.Errorf("the gateway was not rolled: %q, then %q", rolled, now)
				}
				g.keptBackup(damaged[d.name])
			})
		}
	})

	t.Run("not-applicable", func(t *testing.T) {
		h := h.in(t)
		empty := &inCluster{t: t, c: c, ns: c.NewNamespace(t)}
		for _, place := range [][]string{{"--namespace", "nowhere"}, {"--namespace", empty.ns}} {
			args := append([]string{"gateway", "secrets", "repair", "--replace", "--yes", "--json", "--kubeconfig", kubeconfig}, place...)
			if doc := decode[repairedDocument](t, h.must(0, args...)); doc.NotApplicable == "" || doc.Repaired {
				t.Errorf("%q: %+v", place, doc)
			}
			h.must(4, append([]string{"gateway", "secrets", "inspect", "--kubeconfig", kubeconfig}, place...)...)
		}
		if len(empty.secrets()) != 0 {
			t.Error("secrets were made for a gateway that does not exist")
		}
	})

	t.Run("unknown-is-not-repaired", func(t *testing.T) {
		h, g := h.in(t), g.in(t)
		g.remove(generation1[0])
		before := g.secrets()
		reader := c.ServiceAccount(t, g.ns, "sees-half", kubeenv.Rule{APIGroups: []string{"apps"}, Resources: []string{"statefulsets"}, Verbs: []string{"get"}})
		r := h.must(4, "gateway", "secrets", "repair", "--replace", "--yes", "--kubeconfig", reader, "--namespace", g.ns)
		if !strings.Contains(r.stderr, "secrets") || !strings.Contains(strings.ToLower(r.stderr), "forbidden") && !strings.Contains(r.stderr, "may not") {
			t.Errorf("who may not look is told:\n%s", r.stderr)
		}
		c.KillAPI(t)
		began := time.Now()
		r = h.must(4, at("repair", "--replace", "--yes")...)
		if !strings.Contains(r.stderr, "refused") || time.Since(began) > 20*time.Second {
			t.Errorf("a dead API server, after %s:\n%s", time.Since(began), r.stderr)
		}
		h.must(4, at("inspect")...)
		c.StartAPI(t)
		if !reflect.DeepEqual(before, g.secrets()) {
			t.Error("something was written although it was unknown what there is")
		}
		h.must(0, at("repair", "--yes")...)
		judge(t, g.ns, g.secrets())
	})

	t.Run("bad-kubeconfig", func(t *testing.T) {
		h := h.in(t)
		for _, c := range []struct {
			says string
			args []string
		}{
			{"no-such-file", []string{"--kubeconfig", "/no-such-file"}},
			{"no-such-context", []string{"--kubeconfig", kubeconfig, "--context", "no-such-context"}},
			{"in-cluster", []string{"--in-cluster"}},
		} {
			r := h.run(append([]string{"gateway", "secrets", "repair", "--yes"}, c.args...)...)
			if r.code == 0 || !strings.Contains(r.stderr, c.says) || !strings.Contains(r.stderr, "next:") {
				t.Errorf("%q: exit %d\n%s", c.args, r.code, r.stderr)
			}
		}
	})
}

// keptBackup requires that a backup holds what a secret was.
func (g *inCluster) keptBackup(was secret) {
	g.t.Helper()
	var list struct{ Items []secret }
	if err := json.Unmarshal(g.c.Must(g.t, "GET", "/api/v1/namespaces/"+g.ns+"/secrets?labelSelector=app.kubernetes.io/managed-by%3Dcreel", nil), &list); err != nil {
		g.t.Fatal(err)
	}
	var names []string
	for _, s := range list.Items {
		if strings.HasPrefix(s.Metadata.Name, was.Metadata.Name+"-creel-backup-") {
			names = append(names, s.Metadata.Name)
			if fmt.Sprint(s.Data) == fmt.Sprint(was.Data) {
				return
			}
		}
	}
	g.t.Errorf("no backup of %s holds what it was: %q", was.Metadata.Name, names)
}
