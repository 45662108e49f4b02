package release

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for s, want := range map[string]string{
		"0.0.88": "0.0.88", "v0.0.88": "0.0.88", "V0.0.88": "0.0.88", " 0.0.88\n": "0.0.88", "0.1": "0.1.0", "v1.0": "1.0.0",
		"0.0.103-rhaiv.0": "0.0.103-rhaiv.0", "0.0.103+rhaiv.0": "0.0.103+rhaiv.0", "0.0.116-dev.1+g12ab": "0.0.116-dev.1+g12ab",
		"0.0.88 (g12ab)": "0.0.88", "0.0.20261125": "0.0.20261125", "0.1-rc.1": "0.1.0-rc.1",
	} {
		if r, ok := Parse(s); !ok || r.String() != want {
			t.Errorf("%q: %q, %v; want %q", s, r, ok, want)
		}
	}
	for _, s := range []string{"", "v", "dev", "0", "1", "0.0.80.1", "0.0.-1", "0.0.+1", "0.0.x", "0..1", ".0.1", "0.0.1-", "0.0.01", "0.0.1-rc..1",
		"vv0.0.1", "0,0,1", "٠.٠.١", "0.0.99999999999", "latest", "openshell-gateway 0.0.88", "0.0.1-" + strings.Repeat("a", 100), "\x00", "0.0.1\x1b[31m"} {
		if r, ok := Parse(s); ok || r != (Release{}) {
			t.Errorf("%q was read as %q", s, r)
		}
	}
}

// Each is older than the next.
func TestOrder(t *testing.T) {
	order := []string{"0.0.36", "0.0.37-rc.1", "0.0.37", "0.0.88-alpha", "0.0.88-rc.1", "0.0.88-rc.2", "0.0.88", "0.0.103-rhaiv.0", "0.0.103", "0.0.116", "0.1.0-pre.1", "0.1", "0.1.9", "0.10.0", "1.0.0"}
	for i, a := range order {
		for k, b := range order {
			one, ok := Parse(a)
			other, ok2 := Parse(b)
			if !ok || !ok2 {
				t.Fatalf("%q or %q is no release", a, b)
			}
			if got := one.Before(other); got != (i < k) {
				t.Errorf("%s before %s: %v", a, b, got)
			}
		}
	}
	// What a build says of itself does not order.
	a, _ := Parse("0.0.88+one")
	b, _ := Parse("v0.0.88+two")
	if a.Before(b) || b.Before(a) {
		t.Error("builds of one release are ordered")
	}
}

func TestAtLeast(t *testing.T) {
	for _, c := range []struct {
		s    string
		want bool // at least 0.0.44
	}{{"0.0.43", false}, {"0.0.44", true}, {"0.0.44-rc.1", true}, {"0.0.45", true}, {"0.1.0", true}, {"1.0.0", true}, {"0.0.4", false}} {
		r, _ := Parse(c.s)
		if got := r.AtLeast(0, 0, 44); got != c.want {
			t.Errorf("%s: %v", c.s, got)
		}
	}
	if (Release{}).AtLeast(0, 0, 0) {
		t.Error("no release is at least one")
	}
}

// Whatever is read is written so that it is read as the same.
func FuzzParse(f *testing.F) {
	f.Add("v0.0.88-rc.1+g1")
	f.Add("0.1")
	f.Fuzz(func(t *testing.T, s string) {
		r, ok := Parse(s)
		if !ok {
			return
		}
		again, ok := Parse(r.String())
		if !ok || again != r || r.Before(r) || !r.AtLeast(0, 0, 0) {
			t.Errorf("%q is %q, again %q", s, r, again)
		}
	})
}
