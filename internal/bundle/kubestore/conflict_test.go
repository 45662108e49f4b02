package kubestore

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"creel/internal/bundle"
)

func TestSomebodyElseIsFaster(t *testing.T) {
	valid := []byte(strings.Repeat("ab", 32))
	for _, c := range []struct {
		name  string
		spoil func(w *world)
		other func(w *world)
	}{
		{"creates what was absent", func(w *world) { w.delete(bundle.SSHHandshake) }, func(w *world) {
			w.Must(w, "POST", w.secretPath(), map[string]any{"metadata": map[string]any{"name": bundle.SSHHandshake}, "data": map[string]any{"secret": valid}})
		}},
		{"updates", func(*world) {}, func(w *world) {
			w.change(bundle.SSHHandshake, func(o *object) { o.Data["secret"] = valid })
		}},
		{"deletes and creates", func(*world) {}, func(w *world) {
			w.recreate(bundle.SSHHandshake, func(o *object) { o.Data["secret"] = valid })
		}},
		{"updates what must be deleted", func(w *world) {
			w.recreate(bundle.SSHHandshake, func(o *object) { o.Type = "example.com/other" })
		}, func(w *world) {
			w.change(bundle.SSHHandshake, func(o *object) { o.Data["secret"] = valid })
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := spoiled(t)
			c.spoil(w)
			w.wire.once(func() { c.other(w) })
			s := w.store()
			want, snapshot, err := bundle.Survey(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			issued := w.issued(time.Now(), want)[bundle.SSHHandshake]
			err = s.Apply(t.Context(), []bundle.Secret{issued}, snapshot)
			if !errors.Is(err, bundle.ErrChanged) {
				t.Errorf("apply over what somebody else wrote: %v", err)
			}
			w.noSecretIn(err)
			if got := w.objects()[bundle.SSHHandshake].Data["secret"]; string(got) != string(valid) {
				t.Errorf("what somebody else wrote became %q", got)
			}
		})
	}
	t.Run("planned again", func(t *testing.T) {
		w := spoiled(t)
		w.wire.once(func() { w.change(bundle.SSHHandshake, func(o *object) { o.Data["secret"] = valid }) })
		out := w.mustRepair(replace)
		if got := w.objects()[bundle.SSHHandshake].Data["secret"]; out.Repaired || string(got) != string(valid) {
			t.Errorf("%+v: %q", out, got)
		}
	})
	t.Run("all the time", func(t *testing.T) {
		w := spoiled(t)
		n := 0
		w.wire.before = func(r *http.Request) error {
			if writes(r) && r.Method == http.MethodPut {
				n++
				w.change(bundle.SSHHandshake, func(o *object) { o.Data["secret"] = fmt.Appendf(nil, "other %d", n) })
			}
			return nil
		}
		_, err := w.repair(replace)
		w.wants(err, "secrets-changed", bundle.SSHHandshake)
		if n != 3 {
			t.Errorf("tried %d times", n)
		}
	})
	t.Run("deletes", func(t *testing.T) {
		w := spoiled(t)
		w.wire.once(func() { w.delete(bundle.SSHHandshake) })
		if out := w.mustRepair(bundle.RepairOptions{Replace: true}); !out.Repaired {
			t.Errorf("%+v", out)
		}
	})
}
