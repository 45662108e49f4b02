package bundle

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRolls(t *testing.T) {
	for _, c := range []struct {
		name, spec string
		rolls, ok  bool
	}{
		{"by default", `{}`, true, true},
		{"rolling update", `{"replicas":1,"updateStrategy":{"type":"RollingUpdate","rollingUpdate":{"partition":0}}}`, true, true},
		{"no pod", `{"replicas":0,"updateStrategy":{"type":"OnDelete"}}`, false, true},
		{"on delete", `{"updateStrategy":{"type":"OnDelete"}}`, false, false},
		{"partition", `{"replicas":2,"updateStrategy":{"type":"RollingUpdate","rollingUpdate":{"partition":1}}}`, false, false},
	} {
		w, err := ParseWorkload([]byte(`{"kind":"StatefulSet","metadata":{"name":"openshell"},"spec":` + c.spec + `}`))
		if err != nil {
			t.Fatal(err)
		}
		if rolls, err := w.Rolls(); rolls != c.rolls || (err == nil) != c.ok {
			t.Errorf("%s: %v, %v", c.name, rolls, err)
		}
		if err := w.Applicable(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	many, err := ParseWorkload([]byte(`{"kind":"StatefulSet","metadata":{"name":"gw"},"spec":{"replicas":2,"ordinals":{"start":3}}}`))
	if err != nil || !slices.Equal(many.Pods(), []string{"gw-3", "gw-4"}) {
		t.Errorf("pods %q, %v", many.Pods(), err)
	}
	w, err := ParseWorkload([]byte(`{"kind":"StatefulSet","metadata":{"name":"openshell","deletionTimestamp":"2031-05-06T07:08:09Z"}}`))
	if err != nil || !errors.Is(w.Applicable(), ErrNotApplicable) {
		t.Errorf("a gateway that is being deleted: %v, %v", w.Applicable(), err)
	}
}

// TestPromise: what is about to be replaced is noted, and is owed as soon as it
// is another one, until the roll takes the note back.
func TestPromise(t *testing.T) {
	want := generation1()
	cluster := newFakeCluster(t, fresh(t, want, moment()))
	load := func(w Workload) Snapshot {
		t.Helper()
		s, err := cluster.Load(t.Context(), want)
		if err != nil {
			t.Fatal(err)
		}
		w.NoteUnrolled(&s)
		return s
	}
	var w Workload
	prev := load(w)
	changes, err := ClusterChanges("gw", "openshell", []Secret{prev.Secrets[ServerTLS], prev.Secrets[SSHHandshake]}, prev, moment())
	if err != nil {
		t.Fatal(err)
	}
	merge := func(patch []byte) {
		t.Helper()
		if err := json.Unmarshal(patch, &w); err != nil {
			t.Fatal(err)
		}
	}
	merge(PromisePatch(changes, prev))
	if s := load(w); len(s.Unrolled) > 0 {
		t.Errorf("owed before it was done: %q", s.Unrolled)
	}
	if err := cluster.do("replace", changes[0].New); err != nil {
		t.Fatal(err)
	}
	s := load(w)
	if !slices.Equal(s.Unrolled, []string{ServerTLS}) || len(s.Caveats) != 1 || s.Caveats[0].Advisory != "secrets-not-rolled" {
		t.Errorf("owed: %q, %+v", s.Unrolled, s.Caveats)
	}
	// A second write that does not touch it must not forget it.
	changes, err = ClusterChanges("gw", "openshell", []Secret{s.Secrets[SSHHandshake]}, s, moment())
	if err != nil {
		t.Fatal(err)
	}
	merge(PromisePatch(changes, s))
	if s := load(w); !slices.Equal(s.Unrolled, []string{ServerTLS}) {
		t.Errorf("owed after a second promise: %q", s.Unrolled)
	}
	// Nor what somebody else is about to replace.
	promised := cluster.secrets[ClientTLS]
	if changes, err = ClusterChanges("gw", "openshell", []Secret{s.Secrets[ClientTLS]}, s, moment()); err != nil {
		t.Fatal(err)
	}
	merge(PromisePatch(changes, s))
	s = load(w)
	if changes, err = ClusterChanges("gw", "openshell", []Secret{s.Secrets[SSHHandshake]}, s, moment()); err != nil {
		t.Fatal(err)
	}
	merge(PromisePatch(changes, s))
	if err := cluster.do("replace", promised); err != nil {
		t.Fatal(err)
	}
	if s := load(w); !slices.Equal(s.Unrolled, []string{ClientTLS, ServerTLS}) {
		t.Errorf("owed to two: %q", s.Unrolled)
	}
	delete(cluster.secrets, ServerCA)
	s = load(w)
	if changes, err = ClusterChanges("gw", "openshell", []Secret{prev.Secrets[ServerCA]}, s, moment()); err != nil || PromisePatch(changes, s) != nil {
		t.Errorf("nothing is replaced, and yet %s, %v", PromisePatch(changes, s), err)
	}
	w.Metadata.Annotations[AnnotationRestartPending] = "nonsense"
	if s := load(w); len(s.Unrolled) > 0 {
		t.Errorf("owed because of nonsense: %q", s.Unrolled)
	}
}

func TestRollPatch(t *testing.T) {
	var patch struct {
		Metadata struct{ Annotations map[string]*string }
		Spec     struct {
			Template struct {
				Metadata struct{ Annotations map[string]string }
			}
		}
	}
	at := moment().Add(time.Nanosecond) // two rolls in one second are two
	if err := json.Unmarshal(RollPatch(at, []string{"a", "b"}), &patch); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{AnnotationRestartedAt: "2031-05-06T07:08:09.000000001Z", AnnotationRestartedFor: "a,b"}
	if diff := cmp.Diff(want, patch.Spec.Template.Metadata.Annotations); diff != "" {
		t.Error(diff)
	}
	if pending, ok := patch.Metadata.Annotations[AnnotationRestartPending]; !ok || pending != nil {
		t.Errorf("the promise is not taken back: %+v", patch.Metadata)
	}
}
