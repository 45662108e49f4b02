package k3s

import (
	"testing"

	"creel/internal/health"
)

// Every case there is: five containers, three answers, two images.
func TestDecide(t *testing.T) {
	const ok, failed, unknown = health.OK, health.Failed, health.Unknown
	for _, c := range []struct {
		container presence
		ready     health.Verdict
		same      decision // the image is of the same version
		other     decision
	}{
		{missing, failed, cleanUp, cleanUp},
		{missing, unknown, cleanUp, cleanUp},
		{missing, ok, reuseWarned, reuseWarned},
		{unseen, ok, reuseWarned, reuseWarned},
		{unseen, failed, refuse, refuse},
		{unseen, unknown, refuse, refuse},
		{running, failed, restart, restart},
		{running, ok, reuse, upgrade},
		{running, unknown, refuse, refuse},
		{stopped, failed, start, start},
		{stopped, unknown, start, start},
		{stopped, ok, start, start}, // whoever answers there is another
		{held, failed, refuse, refuse},
		{held, unknown, refuse, refuse},
		{held, ok, refuse, refuse},
	} {
		for other, want := range map[bool]decision{false: c.same, true: c.other} {
			if got := decide(facts{c.container, c.ready, other}); got != want {
				t.Errorf("container %d, ready %s, other image %t: %d, want %d", c.container, c.ready, other, got, want)
			}
		}
	}
	if decide(facts{}) != refuse {
		t.Error("of nothing something is made")
	}
}
