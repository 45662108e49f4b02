package cli

import (
	"strings"
	"testing"

	"creel/internal/advisory"
	"creel/internal/gateway"
	"creel/internal/state"
)

// Where somebody else may change what is executed, everything is refused that would
// touch it; status says so, and version works.
func TestUntrustedHome(t *testing.T) {
	p := newProgram(t)
	p.must(ExitOK, "onboard")
	p.change = func(d *Deps) {
		d.Roots = func() (state.Roots, error) {
			return state.Roots{}, advisory.New("home-untrusted", "the place for Creel's files is not safe", &state.Untrusted{Path: "/srv/x", Owner: 65533})
		}
		d.Runtime = func(string) (gateway.Runtime, error) {
			t.Error("a runtime was made")
			return nil, nil
		}
	}
	for _, args := range [][]string{{"onboard", "--yes"}, {"gateway", "start"}, {"gateway", "install-service"}, {"start"}, {"logs"}, {"list"}, {"gateway", "status"}, {"status", "--all"}} {
		p.must(ExitFailed, args...)
		if text := p.err.String(); !strings.Contains(text, "home-untrusted") || !strings.Contains(text, "/srv/x belongs to user 65533") {
			t.Errorf("creel %s says:\n%s", strings.Join(args, " "), text)
		}
	}
	p.must(ExitUnknown, "status")
	if text := p.out.String() + p.err.String(); !strings.Contains(text, "/srv/x belongs to user 65533") || !strings.Contains(text, "chown") {
		t.Errorf("status says:\n%s", text)
	}
	p.must(ExitUnknown, "status", "--json")
	if !strings.Contains(p.out.String(), `"home-untrusted"`) {
		t.Errorf("status --json says:\n%s", p.out.String())
	}
	p.must(ExitOK, "version")
}
