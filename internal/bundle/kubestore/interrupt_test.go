package kubestore

import (
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"creel/internal/bundle"
)

// interrupted is a set from which a repair starts that is killed on the way.
type interrupted struct {
	name       string
	generation bundle.Generation
	consent    bool
	spoil      func(w *world)
}

func interruptions() []interrupted {
	empty := func(name, key string) func(*world) {
		return func(w *world) { w.change(name, func(o *object) { o.Data[key] = nil }) }
	}
	gone := func(names ...string) func(*world) { return func(w *world) { w.delete(names...) } }
	both := func(all ...func(*world)) func(*world) {
		return func(w *world) {
			for _, do := range all {
				do(w)
			}
		}
	}
	// fixed makes an object that cannot be updated, of a wrong type or immutable.
	fixed := func(name string) func(*world) {
		return func(w *world) {
			immutable := true
			if name == bundle.ClientTLS {
				w.recreate(name, func(o *object) { o.Type = "example.com/other" })
				return
			}
			w.change(name, func(o *object) { o.Immutable = &immutable })
		}
	}
	g1, g2 := bundle.Generation1, bundle.Generation2
	return []interrupted{
		{"everything absent", g1, false, gone(members[g1]...)},
		{"client absent", g1, false, gone(bundle.ClientTLS)},
		{"CA absent", g1, false, gone(bundle.ServerCA)},
		{"client incomplete", g1, false, empty(bundle.ClientTLS, "tls.key")},
		{"client incomplete and CA absent", g1, false, both(empty(bundle.ClientTLS, "tls.key"), gone(bundle.ServerCA))},
		{"client without its CA", g1, false, empty(bundle.ClientTLS, "ca.crt")},
		{"CA cannot be changed, client absent", g1, false, both(fixed(bundle.ServerCA), gone(bundle.ClientTLS))},
		{"client cannot be changed, CA absent", g1, false, both(fixed(bundle.ClientTLS), gone(bundle.ServerCA))},
		{"everything bad", g1, true, both(gone(bundle.SSHHandshake), empty(bundle.ServerCA, "ca.crt"), empty(bundle.ServerTLS, "tls.crt"))},
		{"everything bad and fixed", g1, true, both(empty(bundle.ServerCA, "ca.crt"), fixed(bundle.ServerCA), fixed(bundle.ClientTLS))},

		{"everything absent", g2, false, gone(members[g2]...)},
		{"server absent", g2, false, gone(bundle.ServerTLS)},
		{"client absent", g2, false, gone(bundle.ClientTLS)},
		{"server without its key", g2, false, empty(bundle.ServerTLS, "tls.key")},
		{"client without its key", g2, false, empty(bundle.ClientTLS, "tls.key")},
		{"server without the CA", g2, false, empty(bundle.ServerTLS, "ca.crt")},
		{"server without its key, client fixed", g2, false, both(empty(bundle.ServerTLS, "tls.key"), fixed(bundle.ClientTLS))},
		{"both without a key", g2, false, both(empty(bundle.ServerTLS, "tls.key"), empty(bundle.ClientTLS, "tls.crt"))},
		{"both garbled, token key incomplete", g2, true, func(w *world) {
			for _, name := range []string{bundle.ServerTLS, bundle.ClientTLS} {
				w.change(name, func(o *object) { o.Data["tls.crt"] = []byte("garbage") })
			}
			empty(jwtKeys, "kid")(w)
		}},
	}
}

// TestInterruptedAnywhere kills a repair before each of its writes, and after
// each before it learns of it. The next run, a new process with the same consent,
// always ends with a good set, a rolled gateway, and every replaced value in one
// backup.
func TestInterruptedAnywhere(t *testing.T) {
	for _, c := range interruptions() {
		t.Run(fmt.Sprintf("%s %d", c.name, c.generation), func(t *testing.T) {
			t.Parallel()
			options := bundle.RepairOptions{Replace: c.consent}
			for cut := int32(1); ; cut++ {
				ended := false
				for _, answered := range []bool{false, true} {
					w := newWorld(t, c.generation)
					w.mustRepair(bundle.RepairOptions{})
					c.spoil(w)
					before := w.objects()
					writes := w.wire.cutAt(cut, answered)
					_, err := w.repair(options)
					reached := writes.Load() >= cut
					if ended = !reached; ended && err != nil {
						t.Fatalf("not interrupted, and yet: %v", err)
					}
					if reached && err == nil && !answered {
						t.Fatalf("write %d was cut and nobody noticed", cut)
					}
					w.wire = &wire{}
					state := w.describe(before)
					if out, err := w.repair(options); err != nil {
						t.Errorf("cut at write %d (answered %v), then: %v\n%s\n%+v", cut, answered, err, state, out.Plan.Steps)
						continue
					}
					w.handshake()
					w.keptThrough(before)
				}
				if ended {
					if cut < 2 {
						t.Error("nothing was interrupted")
					}
					return
				}
			}
		})
	}
}

// cutAt ends the process at its nth write, before it is sent or when its answer
// is on the way, and counts the writes.
func (w *wire) cutAt(nth int32, answered bool) *atomic.Int32 {
	var n atomic.Int32
	w.before = func(r *http.Request) error {
		if n.Load() >= nth || writes(r) && n.Add(1) == nth && !answered {
			return errCut
		}
		return nil
	}
	w.after = func(r *http.Request) error {
		if answered && n.Load() >= nth && writes(r) {
			return errCut
		}
		return nil
	}
	return &n
}

// describe says what an interrupted repair left.
func (w *world) describe(before map[string]*object) string {
	var b strings.Builder
	for name, o := range w.objects() {
		fmt.Fprintf(&b, "%s changed %v\n", name, o.version() != before[name].version())
	}
	return b.String()
}

// keptThrough is replacementIsKept for two runs: what the first wrote and the
// second replaced was in nobody's use, and may be in a backup as well.
func (w *world) keptThrough(before map[string]*object) {
	w.Helper()
	now := w.objects()
	replaced := false
	for name, old := range before {
		if reflect.DeepEqual(old.Data, now[name].Data) {
			continue
		}
		replaced = true
		kept := 0
		for other, o := range now {
			if strings.HasPrefix(other, name+bundle.BackupInfix) && reflect.DeepEqual(o.Data, old.Data) {
				kept++
			}
		}
		if kept != 1 {
			w.Errorf("the previous %s is in %d backups", name, kept)
		}
	}
	gateway := w.gateway()
	if rolled := gateway.Spec.Template.Metadata.Annotations[bundle.AnnotationRestartedAt] != ""; replaced && !rolled {
		w.Error("something in use was replaced, and the gateway was not rolled")
	}
	if owed := gateway.Metadata.Annotations[bundle.AnnotationRestartPending]; owed != "" {
		w.Errorf("a roll is still owed: %s", owed)
	}
}
