package kubestore

import (
	"strings"
	"testing"
	"time"

	"creel/internal/advisory"
	"creel/internal/bundle"
)

func TestRollSaysWhatForAndWhen(t *testing.T) {
	w := newWorld(t, bundle.Generation1)
	began := time.Now().Add(-time.Minute)
	rolled, err := w.store().Roll(t.Context(), []string{bundle.ServerCA, bundle.ClientTLS})
	if err != nil || !rolled {
		t.Fatalf("%v, %v", rolled, err)
	}
	annotations := w.gateway().Spec.Template.Metadata.Annotations
	at, err := time.Parse(time.RFC3339Nano, annotations[bundle.AnnotationRestartedAt])
	if err != nil || at.Before(began) || annotations[bundle.AnnotationRestartedFor] != bundle.ServerCA+","+bundle.ClientTLS {
		t.Errorf("annotations %v, %v", annotations, err)
	}
	if _, err := w.store().Roll(t.Context(), []string{bundle.SSHHandshake}); err != nil || w.gateway().Spec.Template.Metadata.Annotations[bundle.AnnotationRestartedAt] == annotations[bundle.AnnotationRestartedAt] {
		t.Errorf("a second roll changes nothing: %v", err)
	}
}

// TestRollWhereNobodyRestartsPods: a StatefulSet may leave that to people.
func TestRollWhereNobodyRestartsPods(t *testing.T) {
	for _, c := range []struct {
		name, spec string
		rolled     bool
		says, hint string
	}{
		{"nothing runs", `{"spec":{"replicas":0}}`, false, "", ""},
		{"on delete", `{"spec":{"replicas":2,"updateStrategy":{"type":"OnDelete","rollingUpdate":null}}}`, false, "OnDelete", "delete pod openshell-0 openshell-1"},
		{"partition", `{"spec":{"ordinals":{"start":3},"updateStrategy":{"type":"RollingUpdate","rollingUpdate":{"partition":4}}}}`, false, "number 4", "delete pod openshell-3"},
		{"no partition", `{"spec":{"updateStrategy":{"type":"RollingUpdate","rollingUpdate":{"partition":0}}}}`, true, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := spoiled(t)
			w.Must(t, "PATCH", w.path("apis/apps/v1", "statefulsets", "openshell"), c.spec)
			out, err := w.repair(replace)
			if out.Rolled != c.rolled || (err != nil) != (c.says != "") {
				t.Fatalf("%+v, %v", out, err)
			}
			if w.restartedFor() != bundle.SSHHandshake || w.gateway().Metadata.Annotations[bundle.AnnotationRestartPending] != "" {
				t.Errorf("the StatefulSet says %+v", w.gateway())
			}
			if c.says == "" {
				return
			}
			w.wants(err, "secrets-not-rolled", c.says)
			if p, _ := advisory.Of(err); len(p.Commands()) != 1 || !strings.HasSuffix(p.Commands()[0], c.hint) || !strings.Contains(p.Commands()[0], "--namespace "+w.namespace) {
				t.Errorf("commands %q", p.Commands())
			}
		})
	}
}

// TestOwedRollIsSeen: an inspection tells of a roll that an interrupted repair
// owes, and a note about what did not happen owes nothing.
func TestOwedRollIsSeen(t *testing.T) {
	w := newWorld(t, bundle.Generation2)
	w.mustRepair(bundle.RepairOptions{})
	note := func(text string) {
		w.Must(t, "PATCH", w.path("apis/apps/v1", "statefulsets", "openshell"),
			map[string]any{"metadata": map[string]any{"annotations": map[string]any{bundle.AnnotationRestartPending: text}}})
	}
	for text, owed := range map[string]bool{
		`{"openshell-server-tls":"other/1"}`:                                true,
		`{"openshell-server-tls":"` + w.versions()[bundle.ServerTLS] + `"}`: false,
		`{"what-is-no-member":"other/1"}`:                                   false,
		`garbage`:                                                           false,
		`["openshell-server-tls"]`:                                          false,
		`{"openshell-server-tls":"other/1","openshell-client-tls":"other/2","x":"y/z"}`: true,
	} {
		note(text)
		_, snapshot, err := bundle.Survey(t.Context(), w.store())
		if err != nil || (len(snapshot.Unrolled) > 0) != owed || (len(snapshot.Caveats) > 0) != owed {
			t.Errorf("%s: %v, %+v, %v", text, snapshot.Unrolled, snapshot.Caveats, err)
		}
		if out := w.mustRepair(bundle.RepairOptions{}); out.Rolled != owed || owed && !strings.HasPrefix(w.restartedFor(), "openshell-") {
			t.Errorf("%s: rolled %v for %q", text, out.Rolled, w.restartedFor())
		}
	}
}
