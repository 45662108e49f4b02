package script_test

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"creel/internal/bundle"
	"creel/internal/bundle/script"
	"creel/test/kubeenv"
)

const gatewayName = "creel"

func requirements(g bundle.Generation, namespace string) bundle.Requirements {
	return bundle.Requirements{Generation: g, Layout: bundle.Kubernetes, Namespace: namespace}
}

func generate(t testing.TB, o script.Options) string {
	t.Helper()
	if o.Gateway == "" {
		o.Gateway = gatewayName
	}
	text, err := script.Generate(o)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// issue makes a whole set natively, for the script to find parts of.
func issue(t testing.TB, want bundle.Requirements) bundle.Snapshot {
	t.Helper()
	secrets, err := bundle.Issue(bundle.PlanMissingOf(want, want.Stored()), bundle.Snapshot{}, want, time.Now(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := bundle.Snapshot{Secrets: map[string]bundle.Secret{}}
	for _, secret := range secrets {
		s.Secrets[secret.Name] = secret
	}
	return s
}

// object is a secret as the API has it.
type object struct {
	Metadata struct {
		Name            string            `json:"name"`
		UID             string            `json:"uid,omitempty"`
		ResourceVersion string            `json:"resourceVersion,omitempty"`
		Labels          map[string]string `json:"labels,omitempty"`
		Annotations     map[string]string `json:"annotations,omitempty"`
		Finalizers      []string          `json:"finalizers,omitempty"`
	} `json:"metadata"`
	Type      string            `json:"type"`
	Immutable bool              `json:"immutable,omitempty"`
	Data      map[string][]byte `json:"data"`
}

func objectOf(s bundle.Secret) object {
	o := object{Type: s.Type, Data: s.Data}
	o.Metadata.Name = s.Name
	return o
}

// world is a namespace with a gateway in it.
type world struct {
	t         testing.TB
	c         *kubeenv.Cluster
	namespace string
	want      bundle.Requirements
}

func newWorld(t testing.TB, c *kubeenv.Cluster, g bundle.Generation) *world {
	t.Helper()
	w := &world{t: t, c: c, namespace: c.NewNamespace(t)}
	w.want = requirements(g, w.namespace)
	w.install(w.want.Stored()...)
	return w
}

func (w *world) path(what string) string {
	return "/api/v1/namespaces/" + w.namespace + "/" + what
}

func (w *world) statefulSet(name string) string {
	return "/apis/apps/v1/namespaces/" + w.namespace + "/statefulsets" + name
}

// install makes a StatefulSet that mounts secrets.
func (w *world) install(secrets ...string) {
	w.t.Helper()
	volumes := []any{}
	for i, name := range secrets {
		volumes = append(volumes, map[string]any{"name": fmt.Sprint("v", i), "secret": map[string]any{"secretName": name}})
	}
	labels := map[string]any{"app": "openshell"}
	w.c.Must(w.t, "POST", w.statefulSet(""), map[string]any{
		"metadata": map[string]any{"name": "openshell"},
		"spec": map[string]any{"serviceName": "openshell", "selector": map[string]any{"matchLabels": labels},
			"template": map[string]any{"metadata": map[string]any{"labels": labels},
				"spec": map[string]any{"containers": []any{map[string]any{"name": "openshell", "image": "openshell"}}, "volumes": volumes}}}})
}

func (w *world) create(o object) {
	w.t.Helper()
	w.c.Must(w.t, "POST", w.path("secrets"), o)
}

func (w *world) lose(name string) {
	w.t.Helper()
	w.c.Must(w.t, "DELETE", w.path("secrets/"+name), nil)
}

func (w *world) secrets() map[string]object {
	w.t.Helper()
	var list struct{ Items []object }
	if err := json.Unmarshal(w.c.Must(w.t, "GET", w.path("secrets"), nil), &list); err != nil {
		w.t.Fatal(err)
	}
	found := map[string]object{}
	for _, o := range list.Items {
		found[o.Metadata.Name] = o
	}
	return found
}

func snapshotOf(found map[string]object) bundle.Snapshot {
	s := bundle.Snapshot{Secrets: map[string]bundle.Secret{}}
	for name, o := range found {
		s.Secrets[name] = bundle.Secret{Name: name, Type: o.Type, Data: o.Data}
	}
	return s
}

// rolled says when the gateway was told to start again; empty when it was not.
func (w *world) rolled() string {
	return w.gateway().Spec.Template.Metadata.Annotations["creel/restarted-at"]
}

// pending is what is noted on the gateway as about to be replaced.
func (w *world) pending() string { return w.gateway().Metadata.Annotations["creel/restart-pending"] }

func (w *world) gateway() (set struct {
	Metadata struct{ Annotations map[string]string }
	Spec     struct {
		Template struct {
			Metadata struct{ Annotations map[string]string }
		}
	}
}) {
	w.t.Helper()
	if err := json.Unmarshal(w.c.Must(w.t, "GET", w.statefulSet("/openshell"), nil), &set); err != nil {
		w.t.Fatal(err)
	}
	return set
}

// good fails the test unless the whole set is.
func (w *world) good() map[string]object {
	w.t.Helper()
	found := w.secrets()
	if r := bundle.Inspect(snapshotOf(found), w.want, time.Now()); len(r.Bad()) > 0 || len(r.Findings) == 0 {
		w.t.Fatalf("%s", r)
	}
	return found
}
