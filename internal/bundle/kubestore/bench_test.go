package kubestore

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"creel/internal/bundle"
	"creel/internal/health"
)

// BenchmarkRepair is all four secrets of generation 1 from nothing to verified:
// what the gateway needs, what is there, issue, write, read again. Target:
// 300 ms.
func BenchmarkRepair(b *testing.B) {
	w := newWorld(b, bundle.Generation1)
	s := w.store()
	for b.Loop() {
		out, err := bundle.Repair(b.Context(), s, time.Now(), bundle.RepairOptions{})
		if err != nil || len(out.Written) != 4 {
			b.Fatalf("%+v, %v", out, err)
		}
		b.StopTimer()
		w.delete(out.Written...)
		b.StartTimer()
	}
}

// BenchmarkReplace is the same over a set that is there and garbled: four
// backups, four updates and a roll.
func BenchmarkReplace(b *testing.B) {
	w := newWorld(b, bundle.Generation1)
	w.mustRepair(bundle.RepairOptions{})
	s := w.store()
	for n := 0; b.Loop(); n++ {
		b.StopTimer()
		for _, name := range members[bundle.Generation1] {
			w.change(name, func(o *object) {
				for key := range o.Data {
					o.Data[key] = fmt.Appendf(nil, "garbage %d", n)
				}
			})
		}
		b.StartTimer()
		out, err := bundle.Repair(b.Context(), s, time.Now(), replace)
		if err != nil || len(out.Replaced) != 4 || !out.Rolled {
			b.Fatalf("%+v, %v", out, err)
		}
	}
}

// BenchmarkInspect is what a start loop does every time. Target: 60 ms, also in a
// crowded namespace.
func BenchmarkInspect(b *testing.B) {
	for _, others := range []int{0, 1000} {
		b.Run(fmt.Sprintf("others=%d", others), func(b *testing.B) {
			w := newWorld(b, bundle.Generation1)
			w.mustRepair(bundle.RepairOptions{})
			w.crowd(others)
			s := w.store()
			for b.Loop() {
				want, snapshot, err := bundle.Survey(b.Context(), s)
				if err != nil || bundle.Inspect(snapshot, want, time.Now()).Verdict() != health.OK {
					b.Fatal(err)
				}
			}
		})
	}
}

// crowd puts unrelated secrets into the namespace.
func (w *world) crowd(n int) {
	w.Helper()
	var wg sync.WaitGroup
	next := make(chan int)
	for range 8 {
		wg.Go(func() {
			for i := range next {
				status, answer, err := w.Request(w.Context(), http.MethodPost, w.secretPath(),
					map[string]any{"metadata": map[string]any{"name": fmt.Sprintf("other-%d", i)}, "data": map[string]any{"x": make([]byte, 1000)}})
				if err != nil || status != http.StatusCreated {
					w.Errorf("status %d: %s, %v", status, answer, err)
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// TestCrowdedNamespace: a thousand secrets of others change nothing.
func TestCrowdedNamespace(t *testing.T) {
	w := newWorld(t, bundle.Generation1)
	w.crowd(1000)
	before := w.versions()
	w.mustRepair(bundle.RepairOptions{})
	now := w.versions()
	for name, version := range before {
		if now[name] != version {
			t.Errorf("%s was written", name)
		}
	}
	if len(now) != len(before)+4 {
		t.Errorf("%d secrets became %d", len(before), len(now))
	}
}
