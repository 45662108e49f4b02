package upgrade

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"creel/internal/advisory"
	"creel/internal/state"
)

func testGateway(t testing.TB) state.Gateway {
	t.Helper()
	dir := t.TempDir()
	g := state.Roots{Config: dir, State: dir, Run: dir, OpenShell: dir}.Gateway("creel")
	if err := state.MkdirAll(g.Dir()); err != nil {
		t.Fatal(err)
	}
	return g
}

func TestServed(t *testing.T) {
	g := testGateway(t)
	if s, err := Served(g, "openshell"); s != nil || err != nil {
		t.Errorf("%+v, %v", s, err)
	}
	side := Side{Version: "0.0.88", Executable: "/usr/bin/openshell-gateway", Settings: json.RawMessage(`{"port":8080}`)}
	if err := WriteServed(g, "openshell", side); err != nil {
		t.Fatal(err)
	}
	got, err := Served(g, "openshell")
	if err != nil || got == nil || !got.same(side) || got.Version != side.Version || got.Executable != side.Executable {
		t.Fatalf("%+v, %v", got, err)
	}
	before, err := os.Stat(g.File(state.ServedFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := WriteServed(g, "openshell", side); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(g.File(state.ServedFile)); err != nil || !os.SameFile(before, after) {
		t.Error("what is recorded was written again")
	}
	// Of another runtime is of another database.
	if s, err := Served(g, "embedded"); s != nil || err != nil {
		t.Errorf("%+v, %v", s, err)
	}
}

// An upgrade that another runtime did not finish is not walked over.
func TestLook(t *testing.T) {
	g := testGateway(t)
	if r, s, err := Look(g, "embedded"); r != nil || s != nil || err != nil {
		t.Errorf("%+v, %+v, %v", r, s, err)
	}
	c := Config{Gateway: g, Runtime: "embedded"}
	if err := c.walk(nil, Record{From: oldSide, To: newSide}, nil).record(Trying); err != nil {
		t.Fatal(err)
	}
	if r, _, err := Look(g, "embedded"); err != nil || r == nil || r.Step != Trying {
		t.Errorf("%+v, %v", r, err)
	}
	_, _, err := Look(g, "openshell")
	if p, ok := advisory.Of(err); !ok || p.ID != "gateway-upgrade-elsewhere" || !strings.Contains(err.Error(), "as runtime embedded") {
		t.Errorf("%v", err)
	}
	// A recorded runtime is not changed by a command; the document that says another
	// one goes first, if there is one.
	again := "creel onboard --runtime embedded"
	if p, _ := advisory.Of(err); !slices.Equal(p.Commands(), []string{again}) {
		t.Errorf("without a document: %q", p.Commands())
	}
	if err := os.MkdirAll(filepath.Dir(g.Desired()), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(g.Desired(), []byte("runtime: openshell\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err = Look(g, "openshell")
	if p, _ := advisory.Of(err); !slices.Equal(p.Commands(), []string{"mv " + g.Desired() + " " + g.Desired() + ".moved", again}) {
		t.Errorf("with a document: %q", p.Commands())
	}
}

func TestRecordsOfOthers(t *testing.T) {
	for name, c := range map[string]struct{ content, id string }{
		"newer":       {`{"version":2,"more":1}`, "gateway-record-newer"},
		"cut off":     {`{"version":1,`, "gateway-record-invalid"},
		"foreign":     {`{"editor":"tabs"}`, "gateway-record-invalid"},
		"more fields": {`{"version":1,"gateway":"creel","more":1}`, "gateway-record-invalid"},
		"another's":   {`{"version":1,"gateway":"other","runtime":"embedded"}`, "gateway-record-invalid"},
	} {
		for _, file := range []string{state.UpgradeFile, state.ServedFile} {
			g := testGateway(t)
			if err := os.WriteFile(g.File(file), []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			var err error
			if file == state.UpgradeFile {
				_, err = Read(g)
			} else {
				_, err = Served(g, "embedded")
			}
			if p, ok := advisory.Of(err); !ok || p.ID != c.id || !strings.Contains(err.Error(), g.File(file)) {
				t.Errorf("%s, %s: %v", name, file, err)
			}
		}
	}
}

func TestSameProgram(t *testing.T) {
	for _, c := range []struct {
		a, b Side
		want bool
	}{
		{Side{Build: "a", Version: "1"}, Side{Build: "a", Version: "2"}, true},
		{Side{Build: "a", Version: "1"}, Side{Build: "b", Version: "1"}, false},
		{Side{Version: "1"}, Side{Version: "1"}, true},
		{Side{Version: "1"}, Side{Version: "2"}, false},
		{Side{}, Side{}, false}, // nothing is known of either
		{Side{Version: "1"}, Side{Build: "a", Version: "1"}, false},
	} {
		if got := c.a.SameProgram(c.b); got != c.want {
			t.Errorf("%+v and %+v: %v", c.a, c.b, got)
		}
	}
}

func TestNext(t *testing.T) {
	for _, c := range []struct {
		step Step
		lost bool
		want action
	}{
		{Prepared, false, keepAndTry}, {Prepared, true, keepAndTry},
		{Trying, false, tryAgain}, {Trying, true, tryAgain},
		{Returning, false, putBackAndLaunchOld}, {Returning, true, putBackAndTry},
	} {
		if got := next(c.step, c.lost); got != c.want {
			t.Errorf("%s, %v: %d, want %d", c.step, c.lost, got, c.want)
		}
	}
}

// No record leads out of the gateway's directory.
func FuzzRead(f *testing.F) {
	f.Add(`{"version":1,"gateway":"creel","runtime":"embedded","step":"trying","started_at":"2026-01-02T03:04:05Z","from":{"version":"","executable":""},"to":{"version":"","executable":""},"kept":["gateway.db"]}`)
	f.Add(`{"version":1,"kept":["../x"]}`)
	f.Fuzz(func(t *testing.T, content string) {
		g := testGateway(t)
		if err := os.WriteFile(g.File(state.UpgradeFile), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := Read(g)
		if err != nil || r == nil {
			return
		}
		for _, name := range r.Kept {
			if rel, err := filepath.Rel(g.Dir(), g.File(name)); err != nil || strings.HasPrefix(rel, "..") {
				t.Errorf("%q leads out", name)
			}
		}
		if r.Gateway != "creel" || r.Version != 1 {
			t.Errorf("%+v", r)
		}
	})
}

// An upgrade that changes settings only is not called one from a version to the same.
func TestBetween(t *testing.T) {
	old := Side{Version: "1.0.0", Build: "aaaa"}
	for want, to := range map[string]Side{
		"from 1.0.0 (build aaaa) to 1.1.0 (build bbbb)": {Version: "1.1.0", Build: "bbbb"},
		"from 1.0.0 (build aaaa) to other settings":     {Version: "1.0.0", Build: "aaaa"},
	} {
		if got := Between(old, to); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
