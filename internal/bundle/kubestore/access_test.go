package kubestore

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"creel/internal/advisory"
	"creel/internal/bundle"
	"creel/test/kubeenv"
)

// everyRight is what a service account needs; none of it is about namespaces.
func everyRight() []kubeenv.Rule {
	return []kubeenv.Rule{
		{Resources: []string{"secrets"}, Verbs: []string{"get", "create", "update", "delete"}},
		{APIGroups: []string{"apps"}, Resources: []string{"statefulsets"}, Verbs: []string{"get", "patch"}},
	}
}

// restricted is a set that needs every verb to be repaired, and an account that
// may do what the rules say.
func restricted(t *testing.T, rules []kubeenv.Rule) *world {
	w := spoiled(t)
	w.recreate(bundle.ServerTLS, func(o *object) { o.Type, o.Data["tls.crt"] = "example.com/other", []byte("garbage") })
	w.kubeconfig = w.ServiceAccount(t, w.namespace, "creel", rules...)
	return w
}

func TestWithTheRightsThatAreNeeded(t *testing.T) {
	w := restricted(t, everyRight())
	w.delete(bundle.ServerCA) // absent for who cannot see that the namespace is there
	before := w.objects()
	w.mustRepair(replace)
	w.replacementIsKept(before)
	w.Must(t, "DELETE", w.path("apis/apps/v1", "statefulsets", "openshell"), nil)
	out, err := w.repair(replace)
	if err != nil || !strings.Contains(out.NotApplicable, `StatefulSet "openshell" does not exist`) {
		t.Errorf("no gateway: %+v, %v", out, err)
	}
}

// TestEveryMissingRight takes one right away: it is named, who can grant it is
// told how, and nothing is written.
func TestEveryMissingRight(t *testing.T) {
	for i, rule := range everyRight() {
		for _, verb := range rule.Verbs {
			t.Run(verb+" "+rule.Resources[0], func(t *testing.T) {
				rules := everyRight()
				rules[i].Verbs = slices.DeleteFunc(rules[i].Verbs, func(v string) bool { return v == verb })
				w := restricted(t, rules)
				before := w.versions()
				gateway := w.gateway()
				_, err := w.repair(replace)
				w.wants(err, "cluster-forbidden", verb, rule.Resources[0])
				w.mustBe(before)
				if now := w.gateway(); len(now.Metadata.Annotations) != len(gateway.Metadata.Annotations) {
					t.Errorf("the StatefulSet was written: %v", now.Metadata.Annotations)
				}
				p, ok := advisory.Of(err)
				if !ok || len(p.Commands()) != 4 || !strings.Contains(p.Commands()[1], "--serviceaccount="+w.namespace+":creel") {
					t.Fatalf("hints: %q", p.Commands())
				}
			})
		}
	}
}

// TestTheHintHelps runs the commands that a refusal prints, with the real kubectl
// as somebody who may. A store that lives on notices.
func TestTheHintHelps(t *testing.T) {
	w := restricted(t, nil)
	s := w.store()
	repair := func() error {
		_, err := bundle.Repair(t.Context(), s, time.Now(), replace)
		return err
	}
	err := repair()
	w.wants(err, "cluster-forbidden")
	p, _ := advisory.Of(err)
	for _, command := range p.Commands() {
		words := strings.Fields(command)
		if words[0] != "kubectl" {
			t.Fatalf("command %q", command)
		}
		w.Kubectl(t, "", words[1:]...)
	}
	// The authorizer learns of roles a moment after they are stored.
	for deadline := time.Now().Add(20 * time.Second); err != nil && time.Now().Before(deadline); err = repair() {
		if advisoryID(err) != "cluster-forbidden" {
			t.Fatal(err)
		}
	}
	if err != nil {
		t.Error(err)
	}
}

// TestRightsAreAskedOnce: what was allowed is not asked again.
func TestRightsAreAskedOnce(t *testing.T) {
	w := spoiled(t)
	s := w.store()
	for n := range 2 {
		w.change(bundle.SSHHandshake, func(o *object) { o.Data["secret"] = fmt.Appendf(nil, "short %d", n) })
		w.wire.requests = nil
		if _, err := bundle.Repair(t.Context(), s, time.Now(), replace); err != nil {
			t.Fatal(err)
		}
		reviews := 0
		for _, r := range w.wire.sent() {
			if strings.Contains(r, "selfsubjectaccessreviews") {
				reviews++
			}
		}
		if want := []int{4, 0}[n]; reviews != want { // get, create, update; patch
			t.Errorf("run %d asked for %d rights, want %d", n, reviews, want)
		}
	}
}

// TestWhoMayNotAsk is found out by the rehearsal instead.
func TestWhoMayNotAsk(t *testing.T) {
	refuse := func(r *http.Request, _ []byte) *http.Response {
		if !strings.Contains(r.URL.Path, "selfsubject") {
			return nil
		}
		return answer(http.StatusForbidden, "application/json", `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403,
			"message":"selfsubjectaccessreviews.authorization.k8s.io is forbidden: User \"x\" cannot create resource \"selfsubjectaccessreviews\" in API group \"authorization.k8s.io\" at the cluster scope"}`)
	}
	w := restricted(t, everyRight())
	w.wire.instead = refuse
	w.mustRepair(replace)

	rules := everyRight()
	rules[1].Verbs = []string{"get"}
	w = restricted(t, rules)
	w.wire.instead = refuse
	before := w.versions()
	_, err := w.repair(replace)
	w.wants(err, "cluster-forbidden", "patch", "statefulsets")
	w.mustBe(before)
	if p, _ := advisory.Of(err); len(p.Commands()) != 4 || !strings.Contains(p.Commands()[1], "--user=NAME") {
		t.Errorf("hints: %q", p.Commands())
	}
}
