//go:build linux

package confine

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"id":1,"op":"spawn","command":{"Argv":["true"]}}`))
	f.Add([]byte(`{"id":-1}`))
	f.Add([]byte(`{"id":3,"exit":true,"code":137,"signal":9}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		// What is understood survives being said again.
		if r, err := decodeRequest(b); err == nil {
			again(t, r, decodeRequest)
		}
		if e, err := decodeEvent(b); err == nil {
			again(t, e, decodeEvent)
		}
		if p, err := decodePlan(b); err == nil {
			again(t, p, decodePlan)
		}
	})
}

func again[T any](t *testing.T, v T, decode func([]byte) (T, error)) {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(v, got, cmpopts.EquateEmpty(), cmp.AllowUnexported(plan{}, request{}, event{}, observed{}, grant{})); diff != "" {
		t.Errorf("said again:\n%s", diff)
	}
}

func FuzzStat(f *testing.F) {
	f.Add("7 (sh) S 1 7 7 0")
	f.Add("7 (a) b (c) R 1 2 3")
	f.Add(") (")
	f.Fuzz(func(t *testing.T, s string) {
		if p, ok := parseStat(s); !ok && p != (process{}) {
			t.Errorf("%q: %+v", s, p)
		}
	})
}

func TestParseStat(t *testing.T) {
	for _, c := range []struct {
		stat string
		want process
		ok   bool
	}{
		{"7 (sh) S 1 6 5 0 -1", process{7, 1, 6, 5}, true},
		{"7 (a) R 9 9 9) S 1 6 5 0", process{7, 1, 6, 5}, true}, // a command that imitates the rest
		{"7 (sh) Z 1 6 5 0", process{}, false},
		{"7 (sh) S 1 6", process{}, false},
		{"x (sh) S 1 6 5", process{}, false},
		{"", process{}, false},
	} {
		if got, ok := parseStat(c.stat); got != c.want || ok != c.ok {
			t.Errorf("%q: %+v, %v", c.stat, got, ok)
		}
	}
}

func TestDescendants(t *testing.T) {
	table := []process{{pid: 2, parent: 1}, {pid: 3, parent: 2}, {pid: 4, parent: 3}, {pid: 5, parent: 1}, {pid: 6, parent: 9}}
	if diff := cmp.Diff([]int{3, 4}, descendants(table, 2)); diff != "" {
		t.Error(diff)
	}
	if got := descendants(table, 7); len(got) != 0 {
		t.Errorf("of nobody: %v", got)
	}
}
