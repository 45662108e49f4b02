package kubestore

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"creel/internal/advisory"
	"creel/internal/bundle"
	"creel/internal/kubeapi"
	"creel/test/kubeenv"
)

var cluster kubeenv.Shared

func TestMain(m *testing.M) { os.Exit(cluster.Run(m)) }

// What gateways of the two generations mount: pod templates as in OpenShell.
const (
	pod1 = `{"volumes":[
		{"name":"tls-cert","secret":{"secretName":"openshell-server-tls"}},
		{"name":"tls-client-ca","secret":{"secretName":"openshell-server-client-ca"}}],
		"containers":[{"name":"openshell","image":"openshell","env":[
			{"name":"OPENSHELL_SSH_HANDSHAKE_SECRET","valueFrom":{"secretKeyRef":{"name":"openshell-ssh-handshake","key":"secret"}}},
			{"name":"OPENSHELL_CLIENT_TLS_SECRET_NAME","value":"openshell-client-tls"}]}]}`
	pod2 = `{"volumes":[
		{"name":"tls-cert","secret":{"secretName":"openshell-server-tls"}},
		{"name":"tls-client-ca","secret":{"secretName":"openshell-server-tls","items":[{"key":"ca.crt","path":"ca.crt"}]}},
		{"name":"sandbox-jwt","secret":{"secretName":"openshell-jwt-keys"}}],
		"containers":[{"name":"openshell","image":"openshell","env":[
			{"name":"OPENSHELL_CLIENT_TLS_SECRET_NAME","value":"openshell-client-tls"}]}]}`
	jwtKeys = "openshell-jwt-keys"
)

var pods = map[bundle.Generation]string{bundle.Generation1: pod1, bundle.Generation2: pod2}

var members = map[bundle.Generation][]string{
	bundle.Generation1: {bundle.ServerTLS, bundle.ServerCA, bundle.ClientTLS, bundle.SSHHandshake},
	bundle.Generation2: {bundle.ServerTLS, bundle.ClientTLS, jwtKeys},
}

func everyGeneration(t *testing.T, test func(*testing.T, bundle.Generation)) {
	for _, g := range []bundle.Generation{bundle.Generation1, bundle.Generation2} {
		t.Run(fmt.Sprintf("generation %d", g), func(t *testing.T) { test(t, g) })
	}
}

// world is a namespace with a gateway's StatefulSet in a real cluster.
type world struct {
	testing.TB
	*kubeenv.Cluster
	generation bundle.Generation
	namespace  string
	kubeconfig string
	wire       *wire
}

func newWorld(t testing.TB, g bundle.Generation) *world { return newWorldIn(t, cluster.Get(t), g) }

func newWorldIn(t testing.TB, c *kubeenv.Cluster, g bundle.Generation) *world {
	t.Helper()
	w := &world{TB: t, Cluster: c, generation: g, namespace: c.NewNamespace(t), kubeconfig: c.AdminKubeconfig, wire: &wire{}}
	w.Must(t, "POST", w.path("apis/apps/v1", "statefulsets"), statefulSetManifest(pods[g]))
	return w
}

func statefulSetManifest(pod string) string {
	return `{"apiVersion":"apps/v1","kind":"StatefulSet","metadata":{"name":"openshell"},"spec":{"serviceName":"openshell",
		"selector":{"matchLabels":{"app":"openshell"}},"template":{"metadata":{"labels":{"app":"openshell"}},"spec":` + pod + `}}}`
}

func (w *world) path(api, resource string, name ...string) string {
	return "/" + strings.Join(append([]string{api, "namespaces", w.namespace, resource}, name...), "/")
}

func (w *world) secretPath(name ...string) string { return w.path("api/v1", "secrets", name...) }

// store opens the namespace as a program that was just started would.
func (w *world) store() *Store {
	w.Helper()
	o := Options{Kubeconfig: w.kubeconfig, Namespace: w.namespace, Gateway: "claws"}
	config, _, err := kubeapi.Configure(kubeapi.Options{Kubeconfig: o.Kubeconfig})
	if err != nil {
		w.Fatal(err)
	}
	w.wire.known = map[string]bool{}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { w.wire.next = next; return w.wire })
	api, err := kubeapi.New(config, o.Namespace)
	if err != nil {
		w.Fatal(err)
	}
	s, err := New(api, o.StatefulSet, o.Gateway)
	if err != nil {
		w.Fatal(err)
	}
	return s
}

// repair is one run of the program. Whatever it returns is looked through for
// secrets.
func (w *world) repair(o bundle.RepairOptions) (bundle.Outcome, error) {
	w.Helper()
	out, err := bundle.Repair(w.Context(), w.store(), time.Now(), o)
	w.noSecretIn(err)
	return out, err
}

func (w *world) mustRepair(o bundle.RepairOptions) bundle.Outcome {
	w.Helper()
	out, err := w.repair(o)
	if err != nil {
		w.Fatalf("repair: %v\nremaining %+v", err, out.Remaining)
	}
	return out
}

// object is a Secret with everything that the API has in one, unlike those that
// are tested.
type object struct {
	metav1.TypeMeta
	Metadata  metav1.ObjectMeta `json:"metadata"`
	Immutable *bool             `json:"immutable,omitempty"`
	Type      string            `json:"type,omitempty"`
	Data      map[string][]byte `json:"data,omitempty"`
}

const opaque = "Opaque"

// version identifies one content of one object; "" is that of an absent one.
func (o *object) version() string {
	if o == nil {
		return ""
	}
	return string(o.Metadata.UID) + "/" + o.Metadata.ResourceVersion
}

// objects reads everything in the namespace, past the code that is tested.
func (w *world) objects() map[string]*object {
	w.Helper()
	var list struct {
		Items []*object `json:"items"`
	}
	if err := json.Unmarshal(w.Must(w, "GET", w.secretPath(), nil), &list); err != nil {
		w.Fatal(err)
	}
	found := map[string]*object{}
	for _, o := range list.Items {
		found[o.Metadata.Name] = o
		for _, value := range o.Data {
			w.wire.learn(value)
		}
	}
	return found
}

func (w *world) versions() map[string]string {
	w.Helper()
	versions := map[string]string{}
	for name, o := range w.objects() {
		versions[name] = o.version()
	}
	return versions
}

// change edits a secret by hand: data, or anything else of it.
func (w *world) change(name string, edit func(*object)) {
	w.Helper()
	o := w.objects()[name]
	edit(o)
	w.Must(w, "PUT", w.secretPath(name), o)
}

// recreate is change for what cannot be changed.
func (w *world) recreate(name string, edit func(*object)) {
	w.Helper()
	o := w.objects()[name]
	w.Must(w, "DELETE", w.secretPath(name), nil)
	o.Metadata.UID, o.Metadata.ResourceVersion = "", ""
	edit(o)
	w.Must(w, "POST", w.secretPath(), o)
}

func (w *world) delete(names ...string) {
	w.Helper()
	for _, name := range names {
		w.Must(w, "DELETE", w.secretPath(name), nil)
	}
}

// gateway is the StatefulSet as it is now.
func (w *world) gateway() (t struct {
	Metadata struct{ Annotations map[string]string }
	Spec     struct {
		Template struct {
			Metadata struct{ Annotations map[string]string }
		}
	}
}) {
	w.Helper()
	if err := json.Unmarshal(w.Must(w, "GET", w.path("apis/apps/v1", "statefulsets", "openshell"), nil), &t); err != nil {
		w.Fatal(err)
	}
	return t
}

func (w *world) restartedFor() string {
	w.Helper()
	return w.gateway().Spec.Template.Metadata.Annotations[bundle.AnnotationRestartedFor]
}

func (w *world) mustBe(before map[string]string) {
	w.Helper()
	if now := w.versions(); !maps.Equal(before, now) {
		w.Errorf("something was written:\nbefore %v\nnow    %v", before, now)
	}
}

var keyMaterial = regexp.MustCompile(`-----BEGIN`)

// noSecretIn looks through an error and all of its causes.
func (w *world) noSecretIn(err error) {
	w.Helper()
	w.wire.mu.Lock()
	defer w.wire.mu.Unlock()
	for _, e := range chain(err) {
		text := fmt.Sprintf("%v %+v %#v", e, e, e)
		if keyMaterial.MatchString(text) {
			w.Errorf("an error shows key material: %s", text)
		}
		for line := range w.wire.known {
			if strings.Contains(text, line) {
				w.Errorf("an error shows %q: %s", line, text)
			}
		}
	}
}

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

func advisoryID(err error) string {
	if p, ok := advisory.Of(err); ok {
		return p.ID
	}
	return ""
}

// wants asserts what a refusal says.
func (w *world) wants(err error, id string, words ...string) {
	w.Helper()
	if got := advisoryID(err); got != id {
		w.Errorf("advisory %q, want %q: %v", got, id, err)
	}
	for _, word := range words {
		if err == nil || !strings.Contains(err.Error(), word) {
			w.Errorf("the error does not say %q: %v", word, err)
		}
	}
}

// hints asserts that a refusal comes with a command, about this namespace.
func (w *world) hints(err error, command string) {
	w.Helper()
	want := " --namespace " + w.namespace + " " + command
	if p, ok := advisory.Of(err); !ok || len(p.Hints) == 0 || !strings.HasSuffix(p.Hints[0], want) {
		w.Errorf("the error does not advise %q: %+v", want, p)
	}
}

// issued makes a whole set without a cluster, as of a time.
func (w *world) issued(at time.Time, want bundle.Requirements) map[string]bundle.Secret {
	w.Helper()
	secrets, err := bundle.Issue(bundle.MakePlan(bundle.Inspect(bundle.Snapshot{}, want, at)), bundle.Snapshot{}, want, at, rand.Reader)
	if err != nil {
		w.Fatal(err)
	}
	set := map[string]bundle.Secret{}
	for _, s := range secrets {
		set[s.Name] = s
	}
	return set
}

func (w *world) requirements() bundle.Requirements {
	w.Helper()
	want, err := w.store().Requirements(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	return want
}

var errCut = errors.New("the connection was cut")
