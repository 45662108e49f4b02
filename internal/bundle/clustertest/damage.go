package clustertest

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"creel/internal/bundle"
)

func contains(text, part string) bool { return strings.Contains(text, part) }

func isNotApplicable(err error) bool { return errors.Is(err, bundle.ErrNotApplicable) }

const day = 24 * time.Hour

// damage is one way to spoil a set, what it is called, and whether it is mended
// without being asked.
type damage struct {
	name, pod string
	spoil     func(t *testing.T, want bundle.Requirements, set map[string]bundle.Secret)
	member    string // as stored
	class     bundle.Class
	automatic bool
}

func damages() []damage {
	set := func(name, key, value string) func(*testing.T, bundle.Requirements, map[string]bundle.Secret) {
		return func(_ *testing.T, _ bundle.Requirements, s map[string]bundle.Secret) {
			s[name].Data[key] = []byte(value)
		}
	}
	// issued puts members of another set in the place of those of this one.
	issued := func(age time.Duration, change func(*bundle.Requirements), members ...string) func(*testing.T, bundle.Requirements, map[string]bundle.Secret) {
		return func(t *testing.T, want bundle.Requirements, s map[string]bundle.Secret) {
			change(&want)
			other := issue(t, want, time.Now().Add(-age))
			for _, m := range members {
				s[m] = other[m]
			}
		}
	}
	same := func(*bundle.Requirements) {}
	return []damage{
		{"the client lacks its key", Pod2, set(bundle.ClientTLS, "tls.key", ""), bundle.ClientTLS, bundle.Incomplete, true},
		{"a key is empty", Pod1, set(bundle.ServerTLS, "tls.key", ""), bundle.ServerTLS, bundle.Incomplete, true},
		{"the CA is empty", Pod1, set(bundle.ServerCA, "ca.crt", ""), bundle.ServerCA, bundle.Incomplete, false},
		{"no CA", Pod1, set(bundle.ServerCA, "ca.crt", "garbage"), bundle.ServerCA, bundle.Malformed, false},
		{"no certificate", Pod1, set(bundle.ServerTLS, "tls.crt", "garbage"), bundle.ServerTLS, bundle.Malformed, false},
		{"of another authority", Pod1, issued(0, same, bundle.ClientTLS), bundle.ClientTLS, bundle.Mismatched, false},
		{"a handshake that is too short", Pod1, set(bundle.SSHHandshake, "secret", "abcd"), bundle.SSHHandshake, bundle.Mismatched, false},
		{"a key id of another", Pod2, set("claws-jwt-keys", "kid", "0123456789abcdef0123456789abcdef"), "claws-jwt-keys", bundle.Mismatched, false},
		{"a client's certificate for the server", Pod1, func(_ *testing.T, _ bundle.Requirements, s map[string]bundle.Secret) {
			for _, key := range []string{"tls.crt", "tls.key"} {
				s[bundle.ServerTLS].Data[key] = s[bundle.ClientTLS].Data[key]
			}
		}, bundle.ServerTLS, bundle.WrongUsage, false},
		{"for another namespace", Pod1, issued(0, func(r *bundle.Requirements) { r.Namespace = "elsewhere" }, bundle.ServerTLS), bundle.ServerTLS, bundle.WrongName, false},
		{"expired", Pod2, issued(400*day, same, bundle.ServerTLS, bundle.ClientTLS), bundle.ServerTLS, bundle.Expired, false},
		{"not yet valid", Pod1, issued(-day, same, bundle.ServerCA, bundle.ClientTLS), bundle.ClientTLS, bundle.NotYetValid, false},
	}
}

// everyDamage: without consent what may be in use keeps its bytes, with it the
// set becomes good, what was there is in a backup, and the gateway is rolled.
func everyDamage(t *testing.T, w World) {
	places := map[string]Place{Pod1: w.Gateway(t, Pod1, ""), Pod2: w.Gateway(t, Pod2, "")}
	seen := map[bundle.Class]bool{}
	for _, d := range damages() {
		if w.Slow && seen[d.class] {
			continue
		}
		seen[d.class] = true
		t.Run(d.name, func(t *testing.T) {
			p := places[d.pod]
			p.Target = w.Open(t, p.Namespace)
			p.Delete(t, names(p.Secrets(t), "")...)
			set := issue(t, p.Want, time.Now())
			d.spoil(t, p.Want, set)
			p.Put(t, slices.Collect(maps.Values(set))...)
			before := p.Secrets(t)
			_, restarted := p.restarts(t)
			out, err := bundle.Repair(t.Context(), p.Target, time.Now(), bundle.RepairOptions{})
			i := slices.IndexFunc(out.Before.Findings, func(f bundle.Finding) bool { return f.Name == d.member })
			if i < 0 || out.Before.Findings[i].Class != d.class || d.automatic != (err == nil) || d.automatic != out.Repaired {
				t.Fatalf("%+v, %v", out.Before.Findings, err)
			}
			if !d.automatic {
				if AdvisoryID(err) != "secrets-need-consent" {
					t.Errorf("without consent: %v", err)
				}
				p.sameSecrets(t, before)
				if out, err = bundle.Repair(t.Context(), p.Target, time.Now(), bundle.RepairOptions{Replace: true}); err != nil || !out.Repaired {
					t.Fatalf("with consent: %+v, %v", out, err)
				}
			}
			after := p.good(t)
			for name, old := range before {
				replaced := slices.Contains(out.Replaced, name)
				if replaced == unchanged(old, after[name]) {
					t.Errorf("%s was replaced %v", name, !replaced)
				}
				if !replaced {
					continue
				}
				m := after[name].Metadata
				if m.UID != old.Metadata.UID || m.Labels["theirs"] != "kept" || m.Annotations["note"] != name || len(m.OwnerReferences) == 0 || m.Labels[bundle.LabelInstance] != Gateway {
					t.Errorf("%s has the metadata %+v", name, m)
				}
				kept(t, after, old, name+"-creel-backup-1")
			}
			if got := len(names(after, "-creel-backup-")); got != len(out.Replaced) {
				t.Errorf("%d backups of %q", got, out.Replaced)
			}
			pending, template := p.restarts(t)
			if at := template[bundle.AnnotationRestartedAt]; !out.Rolled || pending != "" || at == "" || at == restarted[bundle.AnnotationRestartedAt] {
				t.Errorf("rolled %v, pending %q, template %v", out.Rolled, pending, template)
			}
		})
	}
}

func kept(t *testing.T, all map[string]bundle.ClusterSecret, old bundle.ClusterSecret, name string) {
	t.Helper()
	b, ok := all[name]
	if !ok || !maps.EqualFunc(b.Data, old.Data, bytes.Equal) || b.Metadata.Labels[bundle.LabelManagedBy] != bundle.ManagedBy ||
		b.Metadata.Labels[bundle.LabelInstance] != Gateway || b.Metadata.Annotations[bundle.AnnotationBackupOf] != old.Metadata.Name {
		t.Errorf("backup %s of %s: %v %+v", name, old.Metadata.Name, ok, b.Metadata)
	}
}

// whatCannotBeChanged: an immutable secret, and a type that is wrong, are deleted
// and made again; what a finalizer would hold back is left alone.
func whatCannotBeChanged(t *testing.T, w World) {
	p := w.Gateway(t, Pod1, "")
	set := issue(t, p.Want, time.Now())
	server, handshake := set[bundle.ServerTLS], set[bundle.SSHHandshake]
	server.Type, handshake.Data["secret"] = "example.com/other", []byte("short")
	server.Data["tls.crt"] = []byte("garbage")
	p.Put(t, server, set[bundle.ServerCA], set[bundle.ClientTLS], handshake)
	p.Patch(t, "", "secrets", handshake.Name, `{"immutable":true}`)
	hold := func(patch string) { p.Patch(t, "", "secrets", server.Name, `{"metadata":{"finalizers":`+patch+`}}`) }
	hold(`["example.com/hold"]`)
	before := p.Secrets(t)
	out, err := bundle.Repair(t.Context(), p.Target, time.Now(), bundle.RepairOptions{Replace: true})
	if err == nil || !contains(err.Error(), "example.com/hold") || out.Repaired || !advises(err, "get secret "+server.Name+" -o jsonpath={.metadata.finalizers}") {
		t.Errorf("what a finalizer would hold back: %+v, %v", out, err)
	}
	p.sameSecrets(t, before)
	hold("null")
	before = p.Secrets(t)
	if out, err = bundle.Repair(t.Context(), p.Target, time.Now(), bundle.RepairOptions{Replace: true}); err != nil || !out.Repaired || !out.Rolled {
		t.Fatalf("%+v, %v", out, err)
	}
	after := p.good(t)
	for _, name := range []string{server.Name, handshake.Name} {
		m := after[name].Metadata
		if m.UID == before[name].Metadata.UID || m.Labels["theirs"] != "kept" || m.Annotations["note"] != name || len(m.OwnerReferences) == 0 || after[name].Immutable {
			t.Errorf("%s has the metadata %+v", name, m)
		}
		kept(t, after, before[name], name+"-creel-backup-1")
	}
	if after[server.Name].Type != "kubernetes.io/tls" {
		t.Errorf("type %q", after[server.Name].Type)
	}
}
