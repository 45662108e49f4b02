// Package clustertest is the exam that every store of bootstrap secrets in a
// cluster passes, against a real API server. It knows no store.
package clustertest

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"creel/internal/advisory"
	"creel/internal/bundle"
	"creel/test/kubeenv"
)

// Gateway is what the examined stores call their gateway.
const Gateway = "exam"

// World is a cluster and how a store for a gateway in it is opened.
type World struct {
	Cluster *kubeenv.Cluster
	// Open opens the store of Gateway and statefulset/openshell in a namespace.
	Open func(t testing.TB, namespace string) bundle.Target
	// Slow: a call takes long, so one damage of each class is enough.
	Slow bool
}

// Run is the exam.
func (w World) Run(t *testing.T) {
	for _, part := range []struct {
		name string
		test func(*testing.T, World)
	}{
		{"NoGateway", noGateway},
		{"EverySubset", everySubset},
		{"Handshakes", handshakes},
		{"EveryDamage", everyDamage},
		{"WhatCannotBeChanged", whatCannotBeChanged},
		{"Conflicts", conflicts},
		{"BeingDeleted", beingDeleted},
		{"Rolls", rolls},
		{"InterruptedBeforeItsRoll", interruptedBeforeItsRoll},
		{"Rotates", rotates},
		{"NamesOfATemplate", namesOfATemplate},
	} {
		t.Run(part.name, func(t *testing.T) {
			t.Parallel() // each has namespaces of its own
			part.test(t, w)
		})
	}
}

// Pod templates of OpenShell up to 0.0.36, and of a release "claws" of the chart
// of 0.0.111.
const (
	Pod1 = `{"volumes":[
		{"name":"tls-cert","secret":{"secretName":"openshell-server-tls"}},
		{"name":"tls-client-ca","secret":{"secretName":"openshell-server-client-ca"}}],
		"containers":[{"name":"openshell","image":"i","env":[
			{"name":"OPENSHELL_SSH_HANDSHAKE_SECRET","valueFrom":{"secretKeyRef":{"name":"openshell-ssh-handshake","key":"secret"}}},
			{"name":"OPENSHELL_CLIENT_TLS_SECRET_NAME","value":"openshell-client-tls"}]}]}`
	Pod2 = `{"volumes":[
		{"name":"tls-cert","secret":{"secretName":"openshell-server-tls"}},
		{"name":"sandbox-jwt","projected":{"sources":[{"secret":{"name":"claws-jwt-keys","items":[{"key":"signing.pem","path":"signing.pem"}]}}]}}],
		"containers":[{"name":"gateway","image":"i","env":[{"name":"OPENSHELL_CLIENT_TLS_SECRET_NAME","value":"openshell-client-tls"}]}]}`
)

// Place is a namespace with a gateway.
type Place struct {
	Cluster   *kubeenv.Cluster
	Namespace string
	Target    bundle.Target
	Want      bundle.Requirements // as the store reads it
}

// Gateway makes a namespace with a StatefulSet of that pod. extra is what else its
// specification says, as in `"replicas":0,`.
func (w World) Gateway(t testing.TB, pod, extra string) Place {
	t.Helper()
	p := Place{Cluster: w.Cluster, Namespace: w.Cluster.NewNamespace(t)}
	p.MakeGateway(t, pod, extra)
	p.Target = w.Open(t, p.Namespace)
	var err error
	if p.Want, err = p.Target.Requirements(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p
}

// MakeGateway makes the StatefulSet.
func (p Place) MakeGateway(t testing.TB, pod, extra string) {
	t.Helper()
	p.Cluster.Must(t, "POST", p.path("apps", "statefulsets", ""), `{"apiVersion":"apps/v1","kind":"StatefulSet","metadata":{"name":"openshell"},
		"spec":{`+extra+`"serviceName":"openshell","selector":{"matchLabels":{"a":"b"}},
		"template":{"metadata":{"labels":{"a":"b"}},"spec":`+pod+`}}}`)
}

func (p Place) path(group, plural, name string) string {
	base := "/api/v1"
	if group != "" {
		base = "/apis/" + group + "/v1"
	}
	path := base + "/namespaces/" + p.Namespace + "/" + plural
	if name != "" {
		path += "/" + name
	}
	return path
}

// Secrets reads all secrets of the namespace, not through the store.
func (p Place) Secrets(t testing.TB) map[string]bundle.ClusterSecret {
	t.Helper()
	var list struct{ Items []bundle.ClusterSecret }
	if err := json.Unmarshal(p.Cluster.Must(t, "GET", p.path("", "secrets", ""), nil), &list); err != nil {
		t.Fatal(err)
	}
	found := map[string]bundle.ClusterSecret{}
	for _, o := range list.Items {
		found[o.Metadata.Name] = o
	}
	return found
}

// Put stores secrets as they are, in place of those that are there.
func (p Place) Put(t testing.TB, set ...bundle.Secret) {
	t.Helper()
	for _, s := range set {
		p.Delete(t, s.Name)
		p.Cluster.Must(t, "POST", p.path("", "secrets", ""), bundle.ClusterSecret{APIVersion: "v1", Kind: "Secret", Type: s.Type, Data: s.Data,
			Metadata: bundle.ClusterMetadata{Name: s.Name, Labels: map[string]string{"theirs": "kept"}, Annotations: map[string]string{"note": s.Name},
				OwnerReferences: json.RawMessage(`[{"apiVersion":"v1","kind":"ConfigMap","name":"owner","uid":"a3b7a6e2-0000-4000-8000-000000000000"}]`)}})
	}
}

// Delete removes secrets, if they are there.
func (p Place) Delete(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		if status, answer := p.Cluster.Do(t, "DELETE", p.path("", "secrets", name), nil); status/100 != 2 && status != http.StatusNotFound {
			t.Fatalf("delete %s: %s", name, answer)
		}
	}
}

// Patch merges into an object.
func (p Place) Patch(t testing.TB, group, plural, name, patch string) {
	t.Helper()
	p.Cluster.Must(t, "PATCH", p.path(group, plural, name), patch)
}

// restarts are the annotations about restarts: of the StatefulSet and of its pod
// template.
func (p Place) restarts(t testing.TB) (pending string, template map[string]string) {
	t.Helper()
	var set struct {
		Metadata struct{ Annotations map[string]string }
		Spec     struct {
			Template struct {
				Metadata struct{ Annotations map[string]string }
			}
		}
	}
	if err := json.Unmarshal(p.Cluster.Must(t, "GET", p.path("apps", "statefulsets", "openshell"), nil), &set); err != nil {
		t.Fatal(err)
	}
	return set.Metadata.Annotations[bundle.AnnotationRestartPending], set.Spec.Template.Metadata.Annotations
}

// issue makes a whole set at a moment.
func issue(t testing.TB, want bundle.Requirements, now time.Time) map[string]bundle.Secret {
	t.Helper()
	made, err := bundle.Issue(bundle.MakePlan(bundle.Inspect(bundle.Snapshot{}, want, now)), bundle.Snapshot{}, want, now, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	set := map[string]bundle.Secret{}
	for _, s := range made {
		set[s.Name] = s
	}
	return set
}

// good makes sure that a set is, by reading it without the store.
func (p Place) good(t testing.TB) map[string]bundle.ClusterSecret {
	t.Helper()
	all := p.Secrets(t)
	s := bundle.Snapshot{Secrets: map[string]bundle.Secret{}}
	for _, name := range p.Want.Stored() {
		if o, ok := all[name]; ok {
			s.Secrets[name] = bundle.Secret{Name: name, Type: o.Type, Data: o.Data}
		}
	}
	if r := bundle.Inspect(s, p.Want, time.Now()); len(r.Findings) != len(p.Want.Stored()) || len(r.Bad()) > 0 {
		t.Fatalf("the set is not good: %s", r)
	}
	return all
}

// unchanged compares objects as the API counts their changes.
func unchanged(a, b bundle.ClusterSecret) bool {
	return a.Metadata.UID == b.Metadata.UID && a.Metadata.ResourceVersion == b.Metadata.ResourceVersion && maps.EqualFunc(a.Data, b.Data, bytes.Equal)
}

// sameSecrets fails the test when anything was written in between.
func (p Place) sameSecrets(t testing.TB, before map[string]bundle.ClusterSecret) {
	t.Helper()
	now := p.Secrets(t)
	for name, o := range now {
		if !unchanged(before[name], o) {
			t.Errorf("%s was written", name)
		}
	}
	for name := range before {
		if _, ok := now[name]; !ok {
			t.Errorf("%s was deleted", name)
		}
	}
}

// AdvisoryID is the id of an error's advisory.
func AdvisoryID(err error) string {
	if p, ok := advisory.Of(err); ok {
		return p.ID
	}
	return ""
}

// advises reports that an error comes with a command that ends like that.
func advises(err error, command string) bool {
	p, ok := advisory.Of(err)
	return ok && len(p.Hints) > 0 && strings.HasSuffix(p.Hints[0], command)
}

func names(set map[string]bundle.ClusterSecret, part string) []string {
	var found []string
	for name := range set {
		if strings.Contains(name, part) {
			found = append(found, name)
		}
	}
	return found
}
