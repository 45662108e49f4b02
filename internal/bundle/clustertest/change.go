package clustertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"creel/internal/bundle"
)

// conflicts: whoever was faster keeps what he wrote.
func conflicts(t *testing.T, w World) {
	p := w.Gateway(t, Pod1, "")
	issued := issue(t, p.Want, time.Now())
	p.Put(t, issued[bundle.ServerTLS], issued[bundle.SSHHandshake])
	load := func() bundle.Snapshot {
		t.Helper()
		s, err := p.Target.Load(t.Context(), p.Want)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for _, c := range []struct {
		name      string
		meanwhile func()
		write     []string
	}{
		{"changed", func() { p.Patch(t, "", "secrets", bundle.ServerTLS, `{"metadata":{"labels":{"a":"b"}}}`) }, []string{bundle.ServerTLS}},
		{"deleted", func() { p.Delete(t, bundle.SSHHandshake) }, []string{bundle.SSHHandshake}},
		{"made anew", func() { p.Put(t, issued[bundle.SSHHandshake]) }, []string{bundle.SSHHandshake}},
		{"created", func() { p.Put(t, issued[bundle.ClientTLS]) }, []string{bundle.ClientTLS}},
		{"half of a pair created", func() { p.Delete(t, bundle.ClientTLS); p.Put(t, issued[bundle.ServerCA]) }, []string{bundle.ServerCA, bundle.ClientTLS}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := load()
			c.meanwhile()
			before := p.Secrets(t)
			var write []bundle.Secret
			for _, secret := range issue(t, p.Want, time.Now()) {
				if slices.Contains(c.write, secret.Name) {
					write = append(write, secret)
				}
			}
			slices.SortFunc(write, func(a, b bundle.Secret) int { return slices.Index(c.write, a.Name) - slices.Index(c.write, b.Name) })
			if err := p.Target.Apply(t.Context(), write, s); !errors.Is(err, bundle.ErrChanged) {
				t.Errorf("a stale write: %v", err)
			}
			after := p.Secrets(t)
			for _, name := range c.write {
				if !unchanged(before[name], after[name]) {
					t.Errorf("%s was written", name)
				}
			}
		})
	}
	// A repair looks again by itself.
	faster := &racing{Target: p.Target, first: func() {
		p.Delete(t, bundle.ServerCA)
		p.Put(t, issued[bundle.ServerCA], issued[bundle.ClientTLS], issued[bundle.ServerTLS], issued[bundle.SSHHandshake])
	}}
	p.Delete(t, bundle.ServerCA, bundle.ClientTLS)
	if out, err := bundle.Repair(t.Context(), faster, time.Now(), bundle.RepairOptions{}); err != nil || out.Repaired || len(out.Written) > 0 {
		t.Errorf("somebody else repaired: %+v, %v", out, err)
	}
	p.good(t)
	if err := p.Target.Apply(t.Context(), nil, bundle.Snapshot{}); err == nil {
		t.Error("a snapshot of no store was accepted")
	}
	// Of what is absent in both places, no version tells them apart.
	elsewhere := w.Gateway(t, Pod1, "")
	s, err := elsewhere.Target.Load(t.Context(), elsewhere.Want)
	if err != nil {
		t.Fatal(err)
	}
	p.Delete(t, bundle.SSHHandshake)
	if err := p.Target.Apply(t.Context(), []bundle.Secret{issued[bundle.SSHHandshake]}, s); err == nil || errors.Is(err, bundle.ErrChanged) {
		t.Errorf("a snapshot of another namespace: %v", err)
	}
	if _, ok := p.Secrets(t)[bundle.SSHHandshake]; ok {
		t.Error("it was written into another namespace than was looked at")
	}
}

// racing lets somebody else be faster, once.
type racing struct {
	bundle.Target
	first func()
}

func (r *racing) Load(ctx context.Context, want bundle.Requirements) (bundle.Snapshot, error) {
	s, err := r.Target.Load(ctx, want)
	if r.first != nil {
		r.first()
		r.first = nil
	}
	return s, err
}

// beingDeleted: a secret that a finalizer holds is neither there nor absent.
func beingDeleted(t *testing.T, w World) {
	p := w.Gateway(t, Pod1, "")
	set := issue(t, p.Want, time.Now())
	p.Put(t, set[bundle.SSHHandshake])
	p.Patch(t, "", "secrets", bundle.SSHHandshake, `{"metadata":{"finalizers":["example.com/hold","example.com/too"]}}`)
	p.Delete(t, bundle.SSHHandshake)
	before := p.Secrets(t)
	out, err := bundle.Repair(t.Context(), p.Target, time.Now(), bundle.RepairOptions{Replace: true})
	if AdvisoryID(err) != "cluster-secret-going" || !contains(err.Error(), bundle.SSHHandshake) || !contains(err.Error(), "example.com/hold, example.com/too") || out.Repaired ||
		!advises(err, "get secret "+bundle.SSHHandshake+" -o jsonpath={.metadata.finalizers}") {
		t.Errorf("%+v, %v", out, err)
	}
	p.sameSecrets(t, before)
	p.Patch(t, "", "secrets", bundle.SSHHandshake, `{"metadata":{"finalizers":null}}`)
	if out, err = bundle.Repair(t.Context(), p.Target, time.Now(), bundle.RepairOptions{}); err != nil || !out.Repaired || out.Rolled {
		t.Errorf("once it is gone: %+v, %v", out, err)
	}
	p.good(t)
}

// rolls: what does not start again by itself is said, with how to do it.
func rolls(t *testing.T, w World) {
	for _, c := range []struct {
		name, extra string
		rolled      bool
		says        string
	}{
		{"no pod", `"replicas":0,`, false, ""},
		{"by default", "", true, ""},
		{"by hand", `"updateStrategy":{"type":"OnDelete"},`, false, "OnDelete"},
		{"in part", `"replicas":3,"updateStrategy":{"rollingUpdate":{"partition":2}},`, false, "2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := w.Gateway(t, Pod1, c.extra)
			rolled, err := p.Target.Roll(t.Context(), []string{bundle.ServerTLS, bundle.SSHHandshake})
			if rolled != c.rolled || (c.says == "") != (err == nil) || err != nil && (AdvisoryID(err) != "secrets-not-rolled" || !contains(err.Error(), c.says)) {
				t.Errorf("%v, %v", rolled, err)
			}
			_, first := p.restarts(t)
			if first[bundle.AnnotationRestartedAt] == "" || first[bundle.AnnotationRestartedFor] != bundle.ServerTLS+","+bundle.SSHHandshake {
				t.Errorf("template %v", first)
			}
			if _, err := p.Target.Roll(t.Context(), []string{bundle.ServerTLS}); (c.says == "") != (err == nil) {
				t.Error(err)
			}
			if _, second := p.restarts(t); second[bundle.AnnotationRestartedAt] == first[bundle.AnnotationRestartedAt] {
				t.Error("a second roll changes nothing")
			}
		})
	}
}

// interruptedBeforeItsRoll: a repair that is killed after it has replaced leaves
// a gateway with the old secrets. The next one makes up for it.
func interruptedBeforeItsRoll(t *testing.T, w World) {
	p := w.Gateway(t, Pod1, "")
	set := issue(t, p.Want, time.Now())
	for _, s := range set {
		p.Put(t, s)
	}
	s, err := p.Target.Load(t.Context(), p.Want)
	if err != nil || len(s.Unrolled) > 0 {
		t.Fatalf("%q, %v", s.Unrolled, err)
	}
	if err := p.Target.Apply(t.Context(), []bundle.Secret{issue(t, p.Want, time.Now())[bundle.ServerTLS]}, s); err != nil {
		t.Fatal(err)
	}
	out, err := bundle.Repair(t.Context(), w.Open(t, p.Namespace), time.Now(), bundle.RepairOptions{})
	if err != nil || !out.Rolled || out.Repaired || len(out.Before.Caveats) != 1 || out.Before.Caveats[0].Advisory != "secrets-not-rolled" {
		t.Errorf("%+v, %v", out, err)
	}
	pending, template := p.restarts(t)
	if pending != "" || template[bundle.AnnotationRestartedFor] != bundle.ServerTLS {
		t.Errorf("pending %q, template %v", pending, template)
	}
	if out, err = bundle.Repair(t.Context(), p.Target, time.Now(), bundle.RepairOptions{}); err != nil || out.Rolled {
		t.Errorf("once more: %+v, %v", out, err)
	}
}

// rotates: a set of generation 2 gets new leaves in two steps, and what was put
// aside between them is emptied.
func rotates(t *testing.T, w World) {
	p := w.Gateway(t, Pod2, "")
	if _, err := bundle.Repair(t.Context(), p.Target, time.Now(), bundle.RepairOptions{}); err != nil {
		t.Fatal(err)
	}
	before := p.good(t)
	now := time.Now()
	for _, step := range []struct {
		stage   bundle.Stage
		all     bool
		after   time.Duration
		changed bool
	}{
		{bundle.RotationTrust, true, 0, false},
		{bundle.RotationWaiting, true, time.Second, false},
		{bundle.RotationSwitch, true, bundle.TrustTime + time.Second, true},
		{bundle.RotationDone, false, bundle.TrustTime + time.Minute, true},
	} {
		out, err := bundle.Rotate(t.Context(), p.Target, now.Add(step.after), step.all)
		if err != nil || out.Rotation.Stage != step.stage || out.Rolled != (len(out.Written) > 0) {
			t.Fatalf("%s: it was %s, wrote %q, rolled %v, %v", step.stage, out.Rotation.Stage, out.Written, out.Rolled, err)
		}
		after := p.good(t)
		for _, name := range []string{bundle.ServerTLS, bundle.ClientTLS} {
			if changed := string(after[name].Data["tls.crt"]) != string(before[name].Data["tls.crt"]); changed != step.changed {
				t.Errorf("%s: the certificate of %s is another one: %v", step.stage, name, changed)
			}
		}
	}
	if left := p.Secrets(t)[bundle.ServerTLS+"-creel-next"].Data; len(left) > 0 {
		t.Errorf("what was put aside still holds %d values", len(left))
	}
}

// namesOfATemplate: a pod template may name what no secret can be called, and
// that must not become a flag or another path.
func namesOfATemplate(t *testing.T, w World) {
	p := w.Gateway(t, Pod1, "")
	for _, name := range []string{"--all", "../../../api/v1/secrets", "a b", "UPPER", "a,b", "a?b=c", "a%2fb", `x"; true`, "a/b"} {
		pod := strings.Replace(Pod1, `"value":"openshell-client-tls"`, fmt.Sprintf(`"value":%q`, name), 1)
		p.Patch(t, "apps", "statefulsets", "openshell", `{"spec":{"template":{"spec":`+pod+`}}}`)
		out, err := bundle.Repair(t.Context(), p.Target, time.Now(), bundle.RepairOptions{Replace: true})
		if AdvisoryID(err) != "secrets-unknown" || out.Repaired {
			t.Errorf("%q: %+v, %v", name, out, err)
		}
		p.sameSecrets(t, nil)
	}
}
