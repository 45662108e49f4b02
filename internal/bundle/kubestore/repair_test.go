package kubestore

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"creel/internal/bundle"
	"creel/internal/health"
)

// TestEveryDeletedSubset deletes each subset of the secrets of each generation.
// What was there keeps its bytes, except for the other half of a pair, and a
// second run writes nothing.
func TestEveryDeletedSubset(t *testing.T) {
	everyGeneration(t, func(t *testing.T, g bundle.Generation) {
		w := newWorld(t, g)
		names := members[g]
		if out := w.mustRepair(bundle.RepairOptions{}); !out.Repaired || !out.Before.Absent() || out.Rolled || out.Before.Generation != g {
			t.Fatalf("from nothing: %+v", out)
		}
		for subset := range 1 << len(names) {
			before := w.objects()
			var deleted []string
			for i, name := range names {
				if subset&(1<<i) != 0 {
					deleted = append(deleted, name)
				}
			}
			w.delete(deleted...)
			out := w.mustRepair(bundle.RepairOptions{})
			if out.Repaired != (subset != 0) || out.After.Verdict() != health.OK {
				t.Fatalf("without %q: %+v", deleted, out)
			}
			after := w.objects()
			for _, name := range names {
				written := slices.Contains(deleted, name) || isPairedWith(g, name, deleted)
				if same := before[name].version() == after[name].version(); same == written {
					t.Errorf("without %q: %s written %v", deleted, name, !same)
				}
				if !written && !reflect.DeepEqual(before[name].Data, after[name].Data) {
					t.Errorf("without %q: %s has other bytes", deleted, name)
				}
			}
			if out.Rolled != (len(out.Replaced) > 0) {
				t.Errorf("without %q: replaced %q, rolled %v", deleted, out.Replaced, out.Rolled)
			}
			w.handshake()
			versions := w.versions()
			if again := w.mustRepair(bundle.RepairOptions{Replace: true, Renew: bundle.RenewExpiring}); again.Repaired || again.Rolled {
				t.Errorf("without %q, again: %+v", deleted, again)
			}
			w.mustBe(versions)
		}
	})
}

// isPairedWith reports that a member is issued along with one that was deleted.
func isPairedWith(g bundle.Generation, name string, deleted []string) bool {
	pair := []string{bundle.ServerCA, bundle.ClientTLS}
	if g == bundle.Generation2 {
		pair = []string{bundle.ServerTLS, bundle.ClientTLS}
	}
	return slices.Contains(pair, name) && (slices.Contains(deleted, pair[0]) || slices.Contains(deleted, pair[1]))
}

// handshake is what the secrets are for: a server and a client that were given
// nothing but what is in the cluster know each other.
func (w *world) handshake() {
	w.Helper()
	set := w.objects()
	server, client := set[bundle.ServerTLS].Data, set[bundle.ClientTLS].Data
	trustedByServer, trustedByClient := client["ca.crt"], server["ca.crt"]
	if w.generation == bundle.Generation1 {
		trustedByServer, trustedByClient = set[bundle.ServerCA].Data["ca.crt"], server["tls.crt"] // signed by itself
	}
	pool := func(text []byte) *x509.CertPool {
		p := x509.NewCertPool()
		if !p.AppendCertsFromPEM(text) {
			w.Fatal("no certificate of an authority")
		}
		return p
	}
	pair := func(data map[string][]byte) []tls.Certificate {
		c, err := tls.X509KeyPair(data["tls.crt"], data["tls.key"])
		if err != nil {
			w.Fatal(err)
		}
		return []tls.Certificate{c}
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{MinVersion: tls.VersionTLS13, Certificates: pair(server),
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool(trustedByServer)})
	if err != nil {
		w.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	served := make(chan error, 1)
	go func() {
		c, err := listener.Accept()
		if err == nil {
			_, err = c.Write([]byte{1}) // after the client's certificate was verified
			_ = c.Close()
		}
		served <- err
	}()
	conn, err := tls.Dial("tcp", listener.Addr().String(), &tls.Config{MinVersion: tls.VersionTLS13, Certificates: pair(client),
		RootCAs: pool(trustedByClient), ServerName: "openshell." + w.namespace + ".svc.cluster.local"})
	if err != nil {
		w.Fatalf("handshake: %v", err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		w.Errorf("the server refuses the client: %v", err)
	}
	if err := <-served; err != nil {
		w.Errorf("serve: %v", err)
	}
}

// TestBackupsCountUp: several repairs of one secret keep several values, also
// when a chart's upgrade took the note about the newest away.
func TestBackupsCountUp(t *testing.T) {
	w := newWorld(t, bundle.Generation1)
	w.mustRepair(bundle.RepairOptions{})
	w.Must(t, "POST", w.secretPath(), `{"metadata":{"name":"openshell-ssh-handshake-creel-backup-2"},"data":{"foreign":"eA=="}}`)
	foreign := w.objects()["openshell-ssh-handshake-creel-backup-2"].version()
	var values []string
	for n := range 4 {
		values = append(values, fmt.Sprintf("value %d", n))
		w.change(bundle.SSHHandshake, func(o *object) {
			o.Data["secret"] = []byte(values[n])
			if n == 2 {
				o.Metadata.Annotations = nil
			}
		})
		w.mustRepair(bundle.RepairOptions{Replace: true})
	}
	now := w.objects()
	for n, number := range []int{1, 3, 4, 5} {
		o := now[fmt.Sprintf("%s%s%d", bundle.SSHHandshake, bundle.BackupInfix, number)]
		if o == nil || string(o.Data["secret"]) != values[n] {
			t.Errorf("backup %d: %+v, want %q", number, o, values[n])
		}
	}
	if now["openshell-ssh-handshake-creel-backup-2"].version() != foreign {
		t.Error("somebody else's secret was overwritten")
	}
	if got := now[bundle.SSHHandshake].Metadata.Annotations[bundle.AnnotationBackup]; got != bundle.SSHHandshake+"-creel-backup-5" {
		t.Errorf("the secret says that its backup is %q", got)
	}
}

// TestKeepsWhatOthersWroteOnIt: labels, annotations and owners; and of what needs not
// be created again also finalizers, and whose fields are whose. What is in it is
// replaced as a whole.
func TestKeepsWhatOthersWroteOnIt(t *testing.T) {
	w := newWorld(t, bundle.Generation1)
	w.mustRepair(bundle.RepairOptions{})
	for name, o := range w.objects() {
		if o.Metadata.Labels[bundle.LabelManagedBy] != "creel" || o.Metadata.Labels[bundle.LabelInstance] != "claws" {
			t.Errorf("%s has the labels %v", name, o.Metadata.Labels)
		}
	}
	for _, name := range []string{bundle.SSHHandshake, bundle.ServerTLS} {
		edit := func(o *object) {
			o.Metadata.Labels = map[string]string{"team": "claws", bundle.LabelManagedBy: "Helm"}
			o.Metadata.Annotations = map[string]string{"meta.helm.sh/release-name": "openshell"}
			o.Metadata.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "owner", UID: "a3b7a6e2-0000-4000-8000-000000000000"}}
			o.Data["further"] = []byte("x")
			if name == bundle.SSHHandshake {
				o.Data["secret"], o.Metadata.Finalizers = []byte("short"), []string{"example.com/hold"}
				return
			}
			o.Type, o.Data["tls.crt"] = opaque, []byte("garbage")
		}
		if name == bundle.ServerTLS {
			w.recreate(name, edit)
		} else {
			w.change(name, edit)
		}
	}
	before := w.objects()[bundle.SSHHandshake].Metadata
	out := w.mustRepair(bundle.RepairOptions{Replace: true})
	if len(out.Replaced) != 2 {
		t.Fatalf("replaced %q", out.Replaced)
	}
	for _, name := range out.Replaced {
		o := w.objects()[name]
		m := o.Metadata
		if m.Labels["team"] != "claws" || m.Labels[bundle.LabelManagedBy] != "Helm" || m.Labels[bundle.LabelInstance] != "claws" ||
			m.Annotations["meta.helm.sh/release-name"] != "openshell" || len(m.OwnerReferences) != 1 || m.Annotations[bundle.AnnotationWrittenAt] == "" || o.Data["further"] != nil {
			t.Errorf("%s: %+v", name, m)
		}
	}
	after := w.objects()[bundle.SSHHandshake].Metadata
	for _, f := range before.ManagedFields {
		if !slices.ContainsFunc(after.ManagedFields, func(o metav1.ManagedFieldsEntry) bool { return o.Manager == f.Manager }) {
			t.Errorf("nothing is %s's any more: %+v", f.Manager, after.ManagedFields)
		}
	}
	if len(before.ManagedFields) == 0 || after.UID != before.UID || !slices.Equal(after.Finalizers, before.Finalizers) || !after.CreationTimestamp.Equal(&before.CreationTimestamp) {
		t.Errorf("before %+v\nafter %+v", before, after)
	}
	if got := w.objects()[bundle.ServerTLS].Type; got != "kubernetes.io/tls" {
		t.Errorf("the server's secret has type %q", got)
	}
}

// TestAsksForNothingElse: a healthy set is judged from one question for the
// gateway and one for each member; nothing is listed, nobody is asked for rights.
func TestAsksForNothingElse(t *testing.T) {
	everyGeneration(t, func(t *testing.T, g bundle.Generation) {
		w := newWorld(t, g)
		w.mustRepair(bundle.RepairOptions{})
		w.wire.requests = nil
		w.wire.before = func(r *http.Request) error {
			if !strings.HasPrefix(r.UserAgent(), "creel/") {
				t.Errorf("calls itself %q", r.UserAgent())
			}
			return nil
		}
		w.mustRepair(bundle.RepairOptions{})
		sent := w.wire.sent()
		if len(sent) != 1+len(members[g]) {
			t.Errorf("%d questions: %q", len(sent), sent)
		}
		for _, r := range sent {
			if strings.HasSuffix(r, "/secrets") || !strings.HasPrefix(r, "GET ") {
				t.Errorf("asked %q", r)
			}
		}
	})
}
