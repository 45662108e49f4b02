package kubestore

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"creel/internal/bundle"
)

// damage is one way to spoil a set, by its classes of the specification.
type damage struct {
	class      bundle.Class
	generation bundle.Generation
	name       string
	consent    bool
	spoil      func(w *world)
}

func damages() []damage {
	const year = 365 * 24 * time.Hour
	set := func(name, key, value string) func(*world) {
		return func(w *world) { w.change(name, func(o *object) { o.Data[key] = []byte(value) }) }
	}
	// of puts whole members of another set there, made at another time or for
	// another gateway.
	of := func(age time.Duration, alter func(*bundle.Requirements), names ...string) func(*world) {
		return func(w *world) {
			want := w.requirements()
			if alter != nil {
				alter(&want)
			}
			other := w.issued(time.Now().Add(-age), want)
			for _, name := range names {
				w.change(name, func(o *object) { o.Data = other[name].Data })
			}
		}
	}
	swap := func(name, by string) func(*world) {
		return func(w *world) {
			from := w.objects()[by].Data
			w.change(name, func(o *object) { o.Data["tls.crt"], o.Data["tls.key"] = from["tls.crt"], from["tls.key"] })
		}
	}
	elsewhere := func(r *bundle.Requirements) { r.Namespace = "elsewhere" }
	g1, g2 := bundle.Generation1, bundle.Generation2
	return []damage{
		{bundle.Absent, g1, bundle.SSHHandshake, false, func(w *world) { w.delete(bundle.SSHHandshake) }},
		{bundle.Incomplete, g1, bundle.ServerTLS, false, set(bundle.ServerTLS, "tls.key", "")},
		{bundle.Incomplete, g1, bundle.ServerCA, true, set(bundle.ServerCA, "ca.crt", "")},
		{bundle.Incomplete, g2, jwtKeys, false, set(jwtKeys, "kid", " ")},
		{bundle.Malformed, g1, bundle.ServerTLS, true, set(bundle.ServerTLS, "tls.crt", "garbage")},
		{bundle.Malformed, g2, jwtKeys, true, set(jwtKeys, "signing.pem", "garbage")},
		{bundle.Mismatched, g1, bundle.ServerTLS, true, func(w *world) {
			other := w.issued(time.Now(), w.requirements())[bundle.ServerTLS]
			set(bundle.ServerTLS, "tls.key", string(other.Data["tls.key"]))(w)
		}},
		{bundle.Mismatched, g1, bundle.ClientTLS, true, of(0, nil, bundle.ClientTLS)},
		{bundle.Mismatched, g1, bundle.SSHHandshake, true, set(bundle.SSHHandshake, "secret", strings.Repeat("g", 64))},
		{bundle.Mismatched, g2, bundle.ClientTLS, true, of(0, nil, bundle.ClientTLS)},
		{bundle.Mismatched, g2, jwtKeys, true, set(jwtKeys, "kid", strings.Repeat("0", 32))},
		{bundle.WrongUsage, g1, bundle.ServerTLS, true, swap(bundle.ServerTLS, bundle.ClientTLS)},
		{bundle.WrongUsage, g2, bundle.ClientTLS, true, swap(bundle.ClientTLS, bundle.ServerTLS)},
		{bundle.WrongName, g1, bundle.ServerTLS, true, of(0, elsewhere, bundle.ServerTLS)},
		{bundle.WrongName, g2, bundle.ServerTLS, true, of(0, elsewhere, bundle.ServerTLS, bundle.ClientTLS)},
		{bundle.Expired, g1, bundle.ServerTLS, true, of(11*year, nil, bundle.ServerTLS)},
		{bundle.Expired, g2, bundle.ClientTLS, true, of(2*year, nil, bundle.ServerTLS, bundle.ClientTLS)},
		// Issued on a machine whose clock is an hour ahead.
		{bundle.NotYetValid, g1, bundle.ServerCA, true, of(-time.Hour, nil, bundle.ServerCA, bundle.ClientTLS)},
		{bundle.NotYetValid, g2, bundle.ServerTLS, true, of(-time.Hour, nil, bundle.ServerTLS, bundle.ClientTLS)},
		{bundle.Expiring, g1, bundle.ServerTLS, false, of(8*year, nil, bundle.ServerTLS)},
	}
}

// TestEveryDamage runs every class of the specification. Without consent what
// needs it is not touched; with it the set becomes good. What was replaced is in
// a backup, and the gateway is rolled for it.
func TestEveryDamage(t *testing.T) {
	for _, d := range damages() {
		t.Run(fmt.Sprintf("%s %s %d", d.class, d.name, d.generation), func(t *testing.T) {
			w := newWorld(t, d.generation)
			w.mustRepair(bundle.RepairOptions{})
			d.spoil(w)
			before := w.objects()
			out, err := w.repair(bundle.RepairOptions{})
			if got := findStored(out.Before, d.name).Class; got != d.class {
				t.Fatalf("%s is %q, want %q", d.name, got, d.class)
			}
			switch {
			case d.consent && (advisoryID(err) != "secrets-need-consent" || out.Rolled):
				t.Errorf("it needs consent, and yet: %+v, %v", out, err)
			case !d.consent && err != nil:
				t.Errorf("it needs no consent, and yet: %v", err)
			}
			if d.consent || d.class.Good() {
				w.mustBe(versionsOf(before))
			}
			w.mustRepair(bundle.RepairOptions{Replace: true})
			w.replacementIsKept(before)
			w.handshake()
		})
	}
}

func findStored(r bundle.Report, name string) bundle.Finding {
	i := slices.IndexFunc(r.Findings, func(f bundle.Finding) bool { return f.Name == name })
	if i < 0 {
		return bundle.Finding{}
	}
	return r.Findings[i]
}

func versionsOf(objects map[string]*object) map[string]string {
	versions := map[string]string{}
	for name, o := range objects {
		versions[name] = o.version()
	}
	return versions
}

// replacementIsKept: every value that was there and is another one now is in
// exactly one backup, and the gateway was told.
func (w *world) replacementIsKept(before map[string]*object) {
	w.Helper()
	now := w.objects()
	replaced := false
	for name, old := range before {
		if strings.Contains(name, bundle.BackupInfix) {
			if now[name].version() != old.version() {
				w.Errorf("backup %s was touched", name)
			}
			continue
		}
		kept := 0
		for other, o := range now {
			if strings.HasPrefix(other, name+bundle.BackupInfix) && reflect.DeepEqual(o.Data, old.Data) {
				kept++
				if o.Type != opaque || o.Metadata.Labels[bundle.LabelManagedBy] != "creel" || o.Metadata.Labels[bundle.LabelInstance] != "claws" ||
					o.Metadata.Annotations[bundle.AnnotationBackupOf] != name || o.Metadata.Annotations[bundle.AnnotationBackupType] != old.Type {
					w.Errorf("backup %s: %+v", other, o.Metadata)
				}
			}
		}
		changed := now[name] == nil || !reflect.DeepEqual(now[name].Data, old.Data)
		if changed && kept != 1 || !changed && kept > 1 {
			w.Errorf("%s changed %v, its value is in %d backups", name, changed, kept)
		}
		replaced = replaced || changed
	}
	gateway := w.gateway()
	if rolled := gateway.Spec.Template.Metadata.Annotations[bundle.AnnotationRestartedAt] != ""; rolled != replaced {
		w.Errorf("replaced %v, rolled %v", replaced, rolled)
	}
	if owed := gateway.Metadata.Annotations[bundle.AnnotationRestartPending]; owed != "" {
		w.Errorf("a roll is still owed: %s", owed)
	}
}
