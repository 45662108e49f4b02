package kubestore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"creel/internal/bundle"
)

// spoiled is a good set of generation 1 with a handshake that needs consent.
func spoiled(t *testing.T) *world {
	w := newWorld(t, bundle.Generation1)
	w.mustRepair(bundle.RepairOptions{})
	w.change(bundle.SSHHandshake, func(o *object) { o.Data["secret"] = []byte("short") })
	return w
}

var replace = bundle.RepairOptions{Replace: true}

func TestKilledBetweenReadingAndWriting(t *testing.T) {
	w := spoiled(t)
	before := w.versions()
	w.wire.once(func() { w.KillAPI(t) })
	out, err := w.repair(replace)
	if len(out.Written) != 0 || out.Repaired {
		t.Errorf("%+v", out)
	}
	w.wants(err, "cluster-unreachable", "back up Secret", bundle.SSHHandshake, "connection refused")
	if _, err := w.repair(replace); advisoryID(err) != "cluster-unreachable" {
		t.Errorf("an API that is down: %v", err)
	}
	w.StartAPI(t)
	w.mustBe(before)
	w.mustRepair(replace)
}

func TestPausedAPI(t *testing.T) {
	w := spoiled(t)
	before := w.versions()
	t.Setenv("CREEL_BUDGET_CLUSTER", "2s")
	bounded := func(what string) {
		t.Helper()
		began := time.Now()
		_, err := w.repair(replace)
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("%s: it took %s", what, took)
		}
		w.wants(err, "cluster-timeout", what, `not done within 2s (budget "cluster")`)
	}
	w.PauseAPI(t)
	bounded("read StatefulSet")
	w.ResumeAPI()
	w.mustBe(before)
	w.wire.once(func() { w.PauseAPI(t) })
	bounded("create Secret")
	w.ResumeAPI()
	w.wire = &wire{} // what was given up may still be on the old one
	t.Setenv("CREEL_BUDGET_CLUSTER", "10s")
	w.mustRepair(replace)
}

func TestCallerGivesUp(t *testing.T) {
	w := spoiled(t)
	before := w.versions()
	why := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	w.wire.before = func(r *http.Request) error {
		if r.URL.Query().Get("dryRun") != "" {
			cancel(why)
		}
		return nil
	}
	if _, err := bundle.Repair(ctx, w.store(), time.Now(), replace); !errors.Is(err, why) {
		t.Errorf("before the first write: %v", err)
	}
	w.mustBe(before)
	w.wire = &wire{} // what was given up may still be on the old one
	// Once it writes, it goes on to the end: half a set helps nobody.
	w.change(bundle.ServerTLS, func(o *object) { o.Data["tls.crt"] = []byte("garbage") })
	ctx, cancel = context.WithCancelCause(t.Context())
	w.wire.before = func(r *http.Request) error {
		if r.Method == http.MethodPut && writes(r) {
			cancel(why)
		}
		return nil
	}
	out, err := bundle.Repair(ctx, w.store(), time.Now(), replace)
	if len(out.Written) != 2 || !errors.Is(err, why) {
		t.Errorf("%+v, %v", out, err)
	}
	w.wire = &wire{}
	if out := w.mustRepair(bundle.RepairOptions{}); !out.Rolled {
		t.Errorf("the gateway was not rolled: %+v", out)
	}
}

// TestNoGatewayYet: whoever is about to create it may create the secrets too.
func TestNoGatewayYet(t *testing.T) {
	base := cluster.Get(t)
	hold := func(w *world) {
		w.Must(w, "PATCH", w.path("apis/apps/v1", "statefulsets", "openshell"), `{"metadata":{"finalizers":["example.com/hold"]}}`)
		w.Must(w, "DELETE", w.path("apis/apps/v1", "statefulsets", "openshell"), nil)
	}
	for _, c := range []struct {
		name, says string
		make       func(w *world)
	}{
		{"no namespace", `namespace "nowhere" does not exist`, func(w *world) { w.namespace = "nowhere" }},
		{"no StatefulSet", `StatefulSet "openshell" does not exist in namespace`, func(w *world) { w.namespace = base.NewNamespace(t) }},
		{"namespace is going", "is being deleted", func(w *world) {
			w.namespace = base.NewNamespace(t)
			w.Must(t, "DELETE", "/api/v1/namespaces/"+w.namespace, nil)
		}},
		{"namespace is going, StatefulSet is there", "is being deleted", func(w *world) {
			w.Must(t, "DELETE", "/api/v1/namespaces/"+w.namespace, nil)
		}},
		{"StatefulSet is going", "is being deleted", hold},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, bundle.Generation1)
			c.make(w)
			out, err := w.repair(replace)
			if err != nil || !strings.Contains(out.NotApplicable, c.says) || out.Repaired {
				t.Errorf("%+v, %v", out, err)
			}
			_, _, err = bundle.Survey(t.Context(), w.store())
			w.wants(err, "secrets-not-applicable", c.says)
			w.hints(err, "get statefulsets")
			if len(w.objects()) != 0 {
				t.Errorf("secrets were made: %v", w.versions())
			}
		})
	}
}

// TestNamespaceGoesMeanwhile deletes it between reading and writing.
func TestNamespaceGoesMeanwhile(t *testing.T) {
	for name, gone := range map[string]func(w *world){
		"is being deleted": func(w *world) { w.Must(w, "DELETE", "/api/v1/namespaces/"+w.namespace, nil) },
		"does not exist": func(w *world) {
			path := "/api/v1/namespaces/" + w.namespace
			w.Must(w, "DELETE", w.path("apis/apps/v1", "statefulsets", "openshell"), nil)
			var n map[string]any
			if err := json.Unmarshal(w.Must(w, "DELETE", path, nil), &n); err != nil {
				w.Fatal(err)
			}
			n["spec"] = map[string]any{} // as the controller does when all is gone
			w.Must(w, "PUT", path+"/finalize", n)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, bundle.Generation1)
			w.wire.once(func() { gone(w) })
			out, err := w.repair(replace)
			if err != nil || out.Repaired || !strings.Contains(out.NotApplicable, "not applicable yet") {
				t.Errorf("%+v, %v", out, err)
			}
			if len(w.objects()) != 0 {
				t.Errorf("secrets were made: %v", w.versions())
			}
		})
	}
}

// TestSecretThatIsBeingDeleted is neither there nor gone.
func TestSecretThatIsBeingDeleted(t *testing.T) {
	w := spoiled(t)
	w.change(bundle.ServerCA, func(o *object) { o.Metadata.Finalizers = []string{"example.com/hold"} })
	w.delete(bundle.ServerCA)
	before := w.versions()
	_, err := w.repair(replace)
	w.wants(err, "cluster-secret-going", bundle.ServerCA, "example.com/hold")
	w.hints(err, "get secret "+bundle.ServerCA+" -o jsonpath={.metadata.finalizers}")
	w.mustBe(before)
}

func TestFinalizerKeepsWhatMustBeDeleted(t *testing.T) {
	w := spoiled(t)
	w.recreate(bundle.SSHHandshake, func(o *object) { o.Type, o.Metadata.Finalizers = "example.com/other", []string{"example.com/hold"} })
	before := w.versions()
	_, err := w.repair(replace)
	w.wants(err, "cluster-refused", "example.com/hold", "would have to be deleted")
	w.hints(err, "get secret "+bundle.SSHHandshake+" -o jsonpath={.metadata.finalizers}")
	w.mustBe(before)

	t.Setenv("CREEL_BUDGET_CLUSTER_DELETE", "2s")
	s := w.store()
	o, err := s.readSecret(t.Context(), bundle.SSHHandshake)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.delete(t.Context(), *o, false); err != nil {
		t.Fatal(err)
	}
	err = s.awaitGone(t.Context(), *o)
	if err == nil || !strings.Contains(err.Error(), "example.com/hold") || !strings.Contains(err.Error(), `budget "cluster-delete"`) {
		t.Errorf("a deletion that is held back: %v", err)
	}
}

// TestImmutable: neither a type nor an immutable secret can be updated, so they
// are deleted and made again, with what others wrote on them.
func TestImmutable(t *testing.T) {
	yes := true
	for name, edit := range map[string]func(*object){
		"wrong type": func(o *object) { o.Type = "example.com/other" },
		"immutable":  func(o *object) { o.Immutable = &yes },
	} {
		t.Run(name, func(t *testing.T) {
			w := spoiled(t)
			w.recreate(bundle.SSHHandshake, func(o *object) { edit(o); o.Metadata.Labels = map[string]string{"team": "claws"} })
			before := w.objects()
			w.mustRepair(replace)
			now := w.objects()[bundle.SSHHandshake]
			if now.Metadata.UID == before[bundle.SSHHandshake].Metadata.UID || now.Type != opaque || now.Immutable != nil || now.Metadata.Labels["team"] != "claws" {
				t.Errorf("it became %+v, type %s", now.Metadata, now.Type)
			}
			w.replacementIsKept(before)
		})
	}
}

// quota makes a ResourceQuota that leaves room for so many more secrets. Its
// status is what the quota controller would write.
func (w *world) quota(room int) {
	w.Helper()
	used := len(w.objects())
	hard := map[string]string{"count/secrets": fmt.Sprint(used + room)}
	path := w.path("api/v1", "resourcequotas")
	w.Must(w, "POST", path, map[string]any{"metadata": map[string]any{"name": "few"}, "spec": map[string]any{"hard": hard}})
	status := map[string]any{"hard": hard, "used": map[string]string{"count/secrets": fmt.Sprint(used)}}
	w.Must(w, "PATCH", path+"/few/status", map[string]any{"status": status})
	// The API server learns of quotas a moment after they are stored.
	deadline := time.Now().Add(20 * time.Second)
	for probe := map[string]any{"metadata": map[string]any{"generateName": "probe-"}}; ; {
		refused := 0
		for range room + 1 {
			if status, _ := w.Do(w, "POST", w.secretPath()+"?dryRun=All", probe); status == http.StatusForbidden {
				refused++
			}
		}
		if refused == 0 && room > 0 || refused > 0 && room == 0 {
			return
		}
		if time.Now().After(deadline) {
			w.Fatal("the quota has no effect")
		}
	}
}

func TestQuota(t *testing.T) {
	t.Run("no room", func(t *testing.T) {
		w := newWorld(t, bundle.Generation1)
		w.quota(0)
		_, err := w.repair(replace)
		w.wants(err, "cluster-quota", "exceeded quota")
		w.mustBe(map[string]string{})
	})
	t.Run("no room for a backup", func(t *testing.T) {
		w := spoiled(t)
		w.quota(0)
		before := w.versions()
		_, err := w.repair(replace)
		w.wants(err, "cluster-quota", "back up Secret", "exceeded quota")
		w.mustBe(before)
	})
	t.Run("the backup takes the last room", func(t *testing.T) {
		w := spoiled(t)
		w.recreate(bundle.SSHHandshake, func(o *object) { o.Type = "example.com/other" })
		w.quota(1)
		before := w.versions()
		_, err := w.repair(replace)
		w.wants(err, "cluster-quota", "is created again")
		now := w.versions()
		delete(now, bundle.SSHHandshake+"-creel-backup-1")
		if len(now) != len(before) || now[bundle.SSHHandshake] != before[bundle.SSHHandshake] {
			t.Errorf("it was deleted although it could not be made again: %v", now)
		}
	})
	t.Run("room for some", func(t *testing.T) {
		w := newWorld(t, bundle.Generation1)
		w.quota(2)
		_, err := w.repair(replace)
		w.wants(err, "cluster-quota", "already written: "+bundle.ServerTLS+", "+bundle.ServerCA)
		w.Must(t, "DELETE", w.path("api/v1", "resourcequotas", "few"), nil)
		deadline := time.Now().Add(20 * time.Second)
		for err != nil && time.Now().Before(deadline) {
			_, err = w.repair(bundle.RepairOptions{}) // the pair is whole again without consent
			if id := advisoryID(err); err != nil && id != "cluster-quota" {
				t.Fatal(err)
			}
		}
		if err != nil {
			t.Error(err)
		}
	})
}

// TestWebhookWithoutRehearsals says no to every rehearsal and yes in earnest.
func TestWebhookWithoutRehearsals(t *testing.T) {
	w := spoiled(t)
	w.recreate(bundle.ServerTLS, func(o *object) { o.Type, o.Data["tls.crt"] = "example.com/other", []byte("garbage") })
	before := w.objects()
	var refused atomic.Int32
	w.wire.instead = func(r *http.Request, body []byte) *http.Response {
		if r.URL.Query().Get("dryRun") == "" && !strings.Contains(string(body), `"dryRun"`) {
			return nil
		}
		refused.Add(1)
		return answer(http.StatusBadRequest, "application/json", `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"BadRequest","code":400,
			"message":"admission webhook \"a.example.com\" does not support dry run"}`)
	}
	w.mustRepair(replace)
	if refused.Load() != 4 { // delete, create again, update; patch
		t.Errorf("%d rehearsals", refused.Load())
	}
	w.replacementIsKept(before)
}
