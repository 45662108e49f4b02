//go:build linux

package confine

import (
	"testing"

	"creel/internal/sandbox"
)

func TestBoxRunsPrograms(t *testing.T) {
	tiers(t, func(t *testing.T, tier sandbox.Tier) {
		b := start(t, profile(t, tier))
		c := b.Confinement()
		for _, p := range c.Protections {
			t.Logf("%-22s %v %s", p.Name, p.On, p.Detail)
		}
		r := run(t, b, "sh", "-c", "id; pwd; echo out; echo err >&2; ls -l /; cat /proc/self/status | grep -i cap; exit 7")
		t.Logf("%+v", r)
		if r.status.Code != 7 {
			t.Errorf("exit code %d, want 7", r.status.Code)
		}
	})
}
