package kubestore

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"creel/internal/bundle"
	"creel/test/kubeenv"
)

// leftovers are the names of what is left over, sorted.
func (w *world) leftovers() []string {
	w.Helper()
	found, err := w.store().Leftovers(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	var names []string
	for _, l := range found {
		names = append(names, l.object.Metadata.Name)
		if l.String() != "Secret "+w.namespace+"/"+l.object.Metadata.Name {
			w.Errorf("it is called %s", l)
		}
	}
	slices.Sort(names)
	return names
}

// Only what Creel made, for this gateway, beside its members, is left over: every
// other secret survives, whatever it is called or labelled.
func TestLeftovers(t *testing.T) {
	w := newWorld(t, bundle.Generation2)
	w.mustRepair(bundle.RepairOptions{})
	if got := w.leftovers(); len(got) != 0 {
		t.Errorf("of a set that was issued: %q", got)
	}
	w.change(jwtKeys, func(o *object) { o.Data["kid"] = []byte("wrong") })
	w.mustRepair(replace)
	if _, err := w.rotate(time.Now(), true); err != nil { // puts the next certificates aside, and makes more backups
		t.Fatal(err)
	}
	want := []string{jwtKeys + "-creel-backup-1", bundle.ClientTLS + "-creel-backup-1", next, bundle.ServerTLS + "-creel-backup-1"}
	slices.Sort(want)
	ours := map[string]string{bundle.LabelManagedBy: bundle.ManagedBy, bundle.LabelInstance: "claws"}
	for name, o := range map[string]object{
		"of another gateway":                   {},
		"openshell-server-tls-creel-backup-7":  {}, // no label
		"openshell-server-tls-creel-backup-x":  {},
		"openshell-server-tls-creel-backup-8":  {},
		"openshell-server-tls-creel-backup-9":  {},
		"other-creel-backup-1":                 {},
		"openshell-client-tls-creel-backup-11": {},
		"other-creel-next":                     {},
		"innocent":                             {},
	} {
		name = strings.ReplaceAll(name, " ", "-")
		labels, annotations := maps.Clone(ours), map[string]string{}
		of, _, _ := strings.Cut(name, "-creel-")
		annotations[bundle.AnnotationBackupOf] = of
		switch name {
		case "of-another-gateway":
			labels[bundle.LabelInstance] = "other"
		case "openshell-server-tls-creel-backup-7":
			labels = nil
		case "openshell-server-tls-creel-backup-8":
			labels[bundle.LabelManagedBy] = "Helm"
		case "openshell-server-tls-creel-backup-9":
			annotations = nil // its name alone
		case "openshell-client-tls-creel-backup-11":
			annotations[bundle.AnnotationBackupOf] = bundle.ServerTLS // of another than its name says
		}
		o.Metadata.Name, o.Metadata.Labels, o.Metadata.Annotations = name, labels, annotations
		w.Must(t, "POST", w.secretPath(), o)
	}
	if got := w.leftovers(); !slices.Equal(got, want) {
		t.Fatalf("left over are %q, want %q", got, want)
	}
	before := w.versions()
	s := w.store()
	found, err := s.Leftovers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// What was written since it was found is not deleted.
	w.change(next, func(o *object) { o.Metadata.Labels["touched"] = "yes" })
	if err := s.Remove(t.Context(), found); err == nil || !strings.Contains(err.Error(), next) {
		t.Errorf("one that was changed: %v", err)
	}
	now := w.versions()
	for _, name := range want {
		if _, there := now[name]; there != (name == next) {
			t.Errorf("%s is there: %v", name, there)
		}
		delete(now, name)
		delete(before, name)
	}
	if !maps.Equal(before, now) {
		t.Errorf("something else was touched:\n%v\n%v", before, now)
	}
	if found, err = s.Leftovers(t.Context()); err != nil || s.Remove(t.Context(), found) != nil || s.Remove(t.Context(), found) != nil {
		t.Errorf("the rest, and removing what is gone: %v", err)
	}
	if got := w.leftovers(); len(got) != 0 {
		t.Errorf("left over are %q", got)
	}
}

// A backup that somebody pointed the gateway at is in use.
func TestBackupInUseIsNotLeftOver(t *testing.T) {
	w := spoiled(t)
	w.mustRepair(replace)
	backup := bundle.SSHHandshake + "-creel-backup-1"
	if got := w.leftovers(); !slices.Equal(got, []string{backup}) {
		t.Fatalf("left over are %q", got)
	}
	pod := strings.ReplaceAll(pod1, `"name":"openshell-ssh-handshake"`, fmt.Sprintf(`"name":%q`, backup))
	w.Must(t, "PATCH", w.path("apis/apps/v1", "statefulsets", "openshell"), `{"spec":{"template":{"spec":`+pod+`}}}`)
	if got := w.leftovers(); len(got) != 0 {
		t.Errorf("what is in use is called left over: %q", got)
	}
	// Without a gateway nothing is in use, and members are members all the same.
	w.Must(t, "DELETE", w.path("apis/apps/v1", "statefulsets", "openshell"), nil)
	if got := w.leftovers(); !slices.Equal(got, []string{backup}) {
		t.Errorf("left over are %q", got)
	}
}

// What cannot be known is not left over.
func TestLeftoversUnknown(t *testing.T) {
	w := spoiled(t)
	w.mustRepair(replace)
	w.kubeconfig = w.ServiceAccount(t, w.namespace, "creel", everyRight()...) // without list
	_, err := w.store().Leftovers(t.Context())
	w.wants(err, "cluster-forbidden", "list", "secrets")
	w.kubeconfig = w.ServiceAccount(t, w.namespace, "lists", kubeenv.Rule{Resources: []string{"secrets"}, Verbs: []string{"list"}})
	if _, err := w.store().Leftovers(t.Context()); advisoryID(err) != "cluster-forbidden" {
		t.Errorf("without knowing what is in use: %v", err)
	}
}
