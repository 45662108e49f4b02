package bundle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"creel/internal/advisory"
	"creel/internal/health"
)

func advisoryID(err error) string {
	p, ok := advisory.Of(err)
	if !ok {
		return ""
	}
	return p.ID
}

func TestRepairFromNothing(t *testing.T) {
	for name, want := range everyKind() {
		t.Run(name, func(t *testing.T) {
			store := newMemoryStore(Snapshot{Secrets: map[string]Secret{}})
			var said []string
			out, err := Repair(t.Context(), Fixed{store, want}, moment(), RepairOptions{Progress: func(m string) { said = append(said, m) }})
			if err != nil || !out.Repaired || out.After.Verdict() != health.OK || len(store.backups) != 0 {
				t.Fatalf("outcome %+v, %v", out, err)
			}
			if len(said) != 2 || !strings.HasPrefix(said[0], "OpenShell bootstrap secrets missing: ") || !strings.HasSuffix(said[0], ". Repairing...") ||
				said[1] != "✓ OpenShell bootstrap secrets created" {
				t.Errorf("said %q", said)
			}
			for _, m := range want.members() {
				if !slices.Contains(out.Written, m.stored) || !strings.Contains(said[0], m.stored) {
					t.Errorf("%s is not among %q", m.stored, out.Written)
				}
			}
			again, err := Repair(t.Context(), Fixed{store, want}, moment(), RepairOptions{Replace: true, Renew: RenewExpiring})
			if err != nil || again.Repaired || store.applies != 1 {
				t.Errorf("a good set: %+v, %v after %d writes", again, err, store.applies)
			}
		})
	}
}

// TestRepairEveryDamage runs every case of the classification. Without consent
// only what is automatic is mended and the rest keeps its bytes; with it the set
// becomes good and what was there is in a backup.
func TestRepairEveryDamage(t *testing.T) {
	for _, c := range damages() {
		t.Run(c.name, func(t *testing.T) {
			s := fresh(t, c.want, moment())
			c.spoil(t, s)
			if r := Inspect(s, c.want, moment()); len(r.Bad()) == 0 {
				return
			}
			store := newMemoryStore(s)
			out, err := Repair(t.Context(), Fixed{store, c.want}, moment(), RepairOptions{})
			consent := out.Plan.Consent()
			if len(consent) == 0 && (err != nil || !out.Repaired) {
				t.Errorf("nothing needs consent, and yet: %v", err)
			}
			if len(consent) > 0 && (advisoryID(err) != "secrets-need-consent" || out.Repaired || len(out.Remaining) == 0) {
				t.Errorf("%+v needs consent, and yet: %v, remaining %+v", consent, err, out.Remaining)
			}
			for _, step := range consent {
				if !reflect.DeepEqual(store.secrets[step.Name], s.Secrets[step.Name]) {
					t.Errorf("%s was written without consent", step.Name)
				}
			}
			if out, err = Repair(t.Context(), Fixed{store, c.want}, moment(), RepairOptions{Replace: true}); err != nil {
				t.Fatalf("with consent: %v\n%+v", err, out.Plan)
			}
			for name, before := range s.Secrets {
				now := store.secrets[name]
				kept := slices.ContainsFunc(store.backups, func(b Secret) bool { return reflect.DeepEqual(b, before) })
				if !reflect.DeepEqual(before, now) && !kept {
					t.Errorf("the previous %s is lost", name)
				}
			}
		})
	}
}

// TestTokenKeySurvivesItsCompanions: running sandboxes hold tokens of it.
func TestTokenKeySurvivesItsCompanions(t *testing.T) {
	for _, key := range []string{keyPublic, keyKeyID} {
		for name, value := range map[string]string{"gone": "", "wrong": "wrong"} {
			s := fresh(t, directory(), moment())
			before := clone(s).Secrets[JWT]
			s.Secrets[JWT].Data[key] = []byte(value)
			store := newMemoryStore(s)
			if _, err := Repair(t.Context(), Fixed{store, directory()}, moment(), RepairOptions{Replace: true}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, store.secrets[JWT]); diff != "" {
				t.Errorf("%s %s:\n%s", key, name, diff)
			}
		}
	}
}

func TestUnknownIsNeverRepaired(t *testing.T) {
	store := newMemoryStore(Snapshot{})
	store.failLoad = errors.New("connection refused")
	out, err := Repair(t.Context(), Fixed{store, generation1()}, moment(), RepairOptions{Replace: true})
	if advisoryID(err) != "secrets-unknown" || !errors.Is(err, store.failLoad) || out.Repaired || store.applies != 0 {
		t.Errorf("%+v, %v after %d writes", out, err, store.applies)
	}
	own := advisory.New("state-unreadable", "read", nil)
	store.failLoad = own
	if _, err := Repair(t.Context(), Fixed{store, generation1()}, moment(), RepairOptions{}); advisoryID(err) != own.ID {
		t.Errorf("the store's own advisory became %q", advisoryID(err))
	}
	store.failLoad = nil
	if _, err := Repair(t.Context(), Fixed{store, Requirements{Generation: 7}}, moment(), RepairOptions{}); advisoryID(err) != "secrets-unknown" || store.applies != 0 {
		t.Errorf("generation 7: %v", err)
	}
}

func TestRepairPlansAgainAfterAConflict(t *testing.T) {
	want := directory()
	other := fresh(t, want, moment())
	store := newMemoryStore(Snapshot{Secrets: map[string]Secret{}})
	store.secrets = map[string]Secret{}
	store.beforeApply = func(m *memoryStore) { // somebody else is faster, once
		m.beforeApply = nil
		m.secrets = clone(other).Secrets
		m.version++
	}
	out, err := Repair(t.Context(), Fixed{store, want}, moment(), RepairOptions{})
	if err != nil || out.Repaired || store.applies != 1 {
		t.Errorf("%+v, %v after %d writes", out, err, store.applies)
	}
	if diff := cmp.Diff(other.Secrets, store.secrets); diff != "" {
		t.Errorf("what the other wrote changed:\n%s", diff)
	}
	store = newMemoryStore(Snapshot{})
	store.secrets = map[string]Secret{}
	store.beforeApply = func(m *memoryStore) { m.version++ } // always
	if _, err := Repair(t.Context(), Fixed{store, want}, moment(), RepairOptions{}); advisoryID(err) != "secrets-changed" || !errors.Is(err, ErrChanged) {
		t.Errorf("endless conflict: %v", err)
	}
	if store.applies != attempts {
		t.Errorf("tried %d times", store.applies)
	}
}

// lyingStore says that it wrote and did not.
type lyingStore struct{ memoryStore }

func (l *lyingStore) Apply(context.Context, []Secret, Snapshot) error { return nil }

func TestRepairBelievesOnlyWhatItReads(t *testing.T) {
	out, err := Repair(t.Context(), Fixed{&lyingStore{}, directory()}, moment(), RepairOptions{Replace: true})
	if err == nil || out.Repaired || advisoryID(err) != "secrets-absent" {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestRepairRenews(t *testing.T) {
	want := directory()
	store := newMemoryStore(fresh(t, want, moment()))
	before := maps.Clone(store.secrets)
	late := moment().Add(250 * 24 * time.Hour) // two thirds of a year are over
	if out, err := Repair(t.Context(), Fixed{store, want}, late, RepairOptions{}); err != nil || out.Repaired || len(out.After.Caveats) != 2 {
		t.Errorf("without being asked: %+v, %v", out.After.Caveats, err)
	}
	out, err := Repair(t.Context(), Fixed{store, want}, late, RepairOptions{Renew: RenewExpiring})
	if err != nil || !out.Repaired || len(out.After.Caveats) != 0 {
		t.Fatalf("%+v, %v", out, err)
	}
	for _, name := range []string{CA, JWT} {
		if !reflect.DeepEqual(before[name], store.secrets[name]) {
			t.Errorf("%s changed", name)
		}
	}
}

// TestAnySubsetIsRepaired deletes and damages any members of any kind of set.
func TestAnySubsetIsRepaired(t *testing.T) {
	base := map[string]Snapshot{}
	for name, want := range everyKind() {
		base[name] = fresh(t, want, moment())
	}
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom(slices.Sorted(maps.Keys(base))).Draw(t, "kind")
		want, s := everyKind()[name], clone(base[name])
		onlyDeleted := true
		for _, m := range want.members() {
			switch rapid.SampledFrom([]string{"keep", "delete", "damage"}).Draw(t, m.name) {
			case "delete":
				delete(s.Secrets, m.stored)
			case "damage":
				onlyDeleted = false
				key := rapid.SampledFrom(m.keys).Draw(t, "key")
				value := s.Secrets[m.stored].Data[key]
				s.Secrets[m.stored].Data[key] = value[:rapid.IntRange(0, len(value)-1).Draw(t, "length")]
			}
		}
		store := newMemoryStore(s)
		out, err := Repair(context.Background(), Fixed{store, want}, moment(), RepairOptions{Replace: !onlyDeleted})
		if err != nil {
			t.Fatalf("%v\n%+v", err, out.Plan)
		}
		if r := Inspect(Snapshot{Secrets: store.secrets}, want, moment()); len(r.Bad()) != 0 {
			t.Fatalf("%s", r)
		}
		for _, f := range out.Before.Findings {
			_, planned := out.Plan.step(f.Member)
			if planned {
				continue
			}
			if !f.Class.Good() {
				t.Fatalf("%s is %s and was not planned", f.Name, f.Class)
			}
			for key, value := range s.Secrets[f.Name].Data {
				if !bytes.Equal(store.secrets[f.Name].Data[key], value) {
					t.Fatalf("%s of %s changed", key, f.Name)
				}
			}
		}
	})
}

// TestEveryDeletedSubset is exhaustive where NemoClaw's suite is: each subset of
// the four secrets of generation 1.
func TestEveryDeletedSubset(t *testing.T) {
	want := generation1()
	base := fresh(t, want, moment())
	names := []string{ServerTLS, ServerCA, ClientTLS, SSHHandshake}
	for subset := range 1 << len(names) {
		s := clone(base)
		var deleted []string
		for i, name := range names {
			if subset&(1<<i) != 0 {
				delete(s.Secrets, name)
				deleted = append(deleted, name)
			}
		}
		store := newMemoryStore(s)
		out, err := Repair(t.Context(), Fixed{store, want}, moment(), RepairOptions{})
		if err != nil || out.Repaired != (subset != 0) {
			t.Fatalf("without %q: %+v, %v", deleted, out, err)
		}
		pair := slices.Contains(deleted, ServerCA) || slices.Contains(deleted, ClientTLS)
		for _, name := range names {
			rewritten := slices.Contains(deleted, name) || pair && (name == ServerCA || name == ClientTLS)
			if same := reflect.DeepEqual(base.Secrets[name], store.secrets[name]); same == rewritten {
				t.Errorf("without %q: %s rewritten %v", deleted, name, !same)
			}
		}
	}
}

// clusterTarget is a set whose gateway may not be there and can be rolled.
type clusterTarget struct {
	Fixed
	absent, failRoll error
	rolls            [][]string
}

func (c *clusterTarget) Requirements(ctx context.Context) (Requirements, error) {
	if c.absent != nil {
		return Requirements{}, c.absent
	}
	return c.Fixed.Requirements(ctx)
}

func (c *clusterTarget) Roll(_ context.Context, names []string) (bool, error) {
	c.rolls = append(c.rolls, names)
	return c.failRoll == nil, c.failRoll
}

func TestNothingIsTouchedWithoutAGateway(t *testing.T) {
	store := newMemoryStore(Snapshot{Secrets: map[string]Secret{}})
	c := &clusterTarget{Fixed: Fixed{store, generation1()}, absent: fmt.Errorf("namespace openshell does not exist: %w", ErrNotApplicable)}
	out, err := Repair(t.Context(), c, moment(), RepairOptions{Replace: true})
	if err != nil || out.Repaired || !strings.Contains(out.NotApplicable, "namespace openshell") || store.applies != 0 {
		t.Errorf("%+v, %v after %d writes", out, err, store.applies)
	}
	c.absent = errors.New("connection refused")
	if _, err := Repair(t.Context(), c, moment(), RepairOptions{Replace: true}); advisoryID(err) != "secrets-unknown" || store.applies != 0 {
		t.Errorf("a gateway that could not be asked: %v after %d writes", err, store.applies)
	}
}

// TestRollsOnlyForWhatWasReplaced: a pod waits for what is absent, and must start
// again for what it had.
func TestRollsOnlyForWhatWasReplaced(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(Snapshot)
		rolls [][]string
	}{
		{"good", func(Snapshot) {}, nil},
		{"absent", func(s Snapshot) { delete(s.Secrets, ServerTLS); delete(s.Secrets, SSHHandshake) }, nil},
		{"replaced", func(s Snapshot) { s.Secrets[SSHHandshake].Data[keyHandshake] = []byte("short") }, [][]string{{SSHHandshake}}},
		{"the pair of an absent one", func(s Snapshot) { delete(s.Secrets, ClientTLS) }, [][]string{{ServerCA}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := fresh(t, generation1(), moment())
			c.spoil(s)
			target := &clusterTarget{Fixed: Fixed{newMemoryStore(s), generation1()}}
			out, err := Repair(t.Context(), target, moment(), RepairOptions{Replace: true})
			if err != nil || out.Rolled != (len(c.rolls) > 0) {
				t.Fatalf("%+v, %v", out, err)
			}
			if diff := cmp.Diff(c.rolls, target.rolls); diff != "" {
				t.Errorf("rolls differ (-want +got):\n%s", diff)
			}
		})
	}
	s := fresh(t, generation1(), moment())
	s.Secrets[SSHHandshake].Data[keyHandshake] = []byte("short")
	target := &clusterTarget{Fixed: Fixed{newMemoryStore(s), generation1()}, failRoll: errors.New("forbidden")}
	out, err := Repair(t.Context(), target, moment(), RepairOptions{Replace: true})
	if advisoryID(err) != "secrets-not-rolled" || out.Rolled || out.Repaired || len(out.Written) != 1 {
		t.Errorf("a roll that is refused: %+v, %v", out, err)
	}
}

// TestRollIsMadeUpFor: a repair that was killed before its roll left a gateway
// that uses what was replaced, and a set that is good.
func TestRollIsMadeUpFor(t *testing.T) {
	store := newMemoryStore(fresh(t, generation1(), moment()))
	store.unrolled = []string{ServerTLS, ServerCA}
	target := &clusterTarget{Fixed: Fixed{store, generation1()}}
	out, err := Repair(t.Context(), target, moment(), RepairOptions{})
	if err != nil || !out.Rolled || out.Repaired || store.applies != 0 {
		t.Fatalf("a good set: %+v, %v after %d writes", out, err, store.applies)
	}
	store.secrets[SSHHandshake].Data[keyHandshake] = []byte("short")
	if out, err = Repair(t.Context(), target, moment(), RepairOptions{}); err == nil || !out.Rolled {
		t.Errorf("a set of which something needs consent: %+v, %v", out, err)
	}
	if _, err = Repair(t.Context(), target, moment(), RepairOptions{Replace: true}); err != nil {
		t.Error(err)
	}
	want := [][]string{{ServerCA, ServerTLS}, {ServerCA, ServerTLS}, {ServerCA, ServerTLS, SSHHandshake}}
	for _, names := range want {
		slices.Sort(names)
	}
	if diff := cmp.Diff(want, target.rolls); diff != "" {
		t.Errorf("rolls differ (-want +got):\n%s", diff)
	}
	target.failRoll = advisory.New("secrets-not-rolled", "by hand", nil, "kubectl delete pod openshell-0")
	_, err = Repair(t.Context(), target, moment(), RepairOptions{})
	if p, ok := advisory.Of(err); !ok || p.ID != "secrets-not-rolled" || len(p.Hints) != 1 {
		t.Errorf("a roll that needs a hand: %v", err)
	}
}

// refusingStore refuses to write.
type refusingStore struct {
	*memoryStore
	err error
}

func (r refusingStore) Apply(context.Context, []Secret, Snapshot) error { return r.err }

func TestRefusedWrites(t *testing.T) {
	for _, c := range []struct {
		err      error
		advisory string
		gone     bool
	}{
		{errors.New("disk full"), "secrets-write", false},
		{advisory.New("cluster-quota", "no room", nil), "cluster-quota", false},
		{fmt.Errorf("namespace openshell is being deleted: %w", ErrNotApplicable), "", true},
	} {
		store := refusingStore{newMemoryStore(Snapshot{Secrets: map[string]Secret{}}), c.err}
		out, err := Repair(t.Context(), Fixed{store, generation1()}, moment(), RepairOptions{})
		if advisoryID(err) != c.advisory || (err == nil) != c.gone || (out.NotApplicable != "") != c.gone || out.Repaired || len(out.Written) != 0 {
			t.Errorf("%v: %+v, %v", c.err, out, err)
		}
		if err != nil && !errors.Is(err, c.err) {
			t.Errorf("%v is lost in %v", c.err, err)
		}
	}
}

// TestHalfAPairNeedsNoNewConsent: the pair of generation 2 is reissued because
// one lacks its key, and the write ends after the other. The incomplete one still
// says which CA it was of.
func TestHalfAPairNeedsNoNewConsent(t *testing.T) {
	want := kubernetes()
	for bad, good := range map[string]string{ServerTLS: ClientTLS, ClientTLS: ServerTLS} {
		s := fresh(t, want, moment())
		delete(s.Secrets[bad].Data, keyTLSKey)
		s.Secrets[good] = fresh(t, want, moment()).Secrets[good]
		p := MakePlan(Inspect(s, want, moment()))
		if len(p.Steps) != 2 || len(p.Consent()) != 0 {
			t.Errorf("%s lacks its key: %+v", bad, p.Steps)
		}
	}
}
