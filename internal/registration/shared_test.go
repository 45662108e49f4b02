package registration

import (
	"os"
	"path/filepath"
	"testing"

	"creel/internal/advisory"
	"creel/internal/bundle"
	"creel/internal/state"
)

func files(kind string) bundle.ClientFiles {
	return bundle.ClientFiles{CA: []byte(kind + " ca"), Cert: []byte(kind + " cert"), Key: []byte(kind + " key")}
}

func cluster(t *testing.T) (state.Gateway, Endpoint) {
	root := t.TempDir()
	return state.Roots{State: filepath.Join(root, "state"), OpenShell: filepath.Join(root, "openshell")}.Gateway("nemoclaw"), Endpoint{Host: "127.0.0.1", Port: 8080}
}

// A registration that another program wrote is ours to see to exactly when it
// leads to the gateway that is meant.
func TestSharedRegistration(t *testing.T) {
	for _, c := range []struct {
		name     string
		metadata string // "" is none at all
		have     string // kind of the client files; "" is none
		state    State
		renewed  bool
	}{
		{"nothing", "", "", Absent, true},
		{"as it should be", `{"gateway_endpoint":"https://127.0.0.1:8080","auth_mode":null}`, "new", OK, false},
		{"by another name of this machine", `{"gateway_endpoint":"https://localhost:8080"}`, "new", OK, false},
		{"an old certificate", `{"gateway_endpoint":"https://127.0.0.1:8080","backend":"k3s"}`, "old", Stale, true},
		{"no certificate", `{"gateway_endpoint":"https://127.0.0.1:8080"}`, "", Stale, true},
		{"another port", `{"gateway_endpoint":"https://127.0.0.1:8081"}`, "new", Foreign, false},
		{"another machine", `{"gateway_endpoint":"https://gateway.example:8080"}`, "old", Foreign, false},
		{"plaintext", `{"gateway_endpoint":"http://127.0.0.1:8080","auth_mode":"plaintext"}`, "", Foreign, false},
		{"no endpoint", `{}`, "old", Foreign, false},
		{"garbage", `garbage`, "old", Foreign, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, e := cluster(t)
			content := map[string]string{}
			if c.metadata != "" {
				content["metadata.json"] = c.metadata
			}
			if c.have != "" {
				for name, b := range clientFiles(files(c.have)) {
					content["mtls/"+name] = string(b)
				}
			}
			registeredBy(t, g, content)
			before := tree(t, g.Roots.OpenShell)
			r := Examine(g, e, files("new"))
			if r.State != c.state || (r.Err != nil) != (c.state == Foreign) {
				t.Errorf("%s, %v, %+v; want %s", r.State, r.Err, r.Problems, c.state)
			}
			what, err := Renew(g, e, files("new"))
			if p, _ := advisory.Of(err); (c.state == Foreign) != (p != nil && p.ID == "registration-foreign") {
				t.Errorf("%v", err)
			}
			if (what == Attached) != c.renewed {
				t.Errorf("%q", what)
			}
			after := tree(t, g.Roots.OpenShell)
			if !c.renewed {
				if len(after) != len(before) || after["gateways/nemoclaw/mtls/tls.crt"] != before["gateways/nemoclaw/mtls/tls.crt"] {
					t.Errorf("it was touched: %v", after)
				}
				return
			}
			if r := Examine(g, e, files("new")); r.State != OK {
				t.Errorf("afterwards %s: %+v", r.State, r.Problems)
			}
			if c.metadata != "" && after["gateways/nemoclaw/metadata.json"] != before["gateways/nemoclaw/metadata.json"] {
				t.Error("what is not Creel's was changed")
			}
			if owned, err := Owned(g); err != nil || owned != (c.metadata == "") {
				t.Errorf("owned: %t, %v", owned, err)
			}
			if got, err := Opens(g, e); err != nil || string(got.Cert) != "new cert" {
				t.Errorf("opens: %q, %v", got.Cert, err)
			}
		})
	}
}

func TestOpens(t *testing.T) {
	g, e := cluster(t)
	if _, err := Opens(g, e); !os.IsNotExist(err) {
		t.Errorf("nothing: %v", err)
	}
	mustWrite(t, g, e, credentials(), false)
	if c, err := Opens(g, e); err != nil || string(c.Key) != "key\n" {
		t.Errorf("%v", err)
	}
	for _, other := range []Endpoint{{Host: "127.0.0.1", Port: 8081}, {Host: "10.0.0.1", Port: 8080}, {Host: "127.0.0.1", Port: 8080, Plaintext: true}} {
		if c, err := Opens(g, other); err == nil || len(c.Key) > 0 {
			t.Errorf("%s is opened with the key of another endpoint", other.URL())
		}
	}
}

// Somebody's choice of the active gateway stays; only where there is none, or one
// that no client could use, is this one chosen.
func TestSelect(t *testing.T) {
	for _, c := range []struct {
		name, active, others, want string
		registered                 bool
	}{
		{"none", "", "", "nemoclaw", true},
		{"ours", "nemoclaw", "", "nemoclaw", true},
		{"another", "other", "other", "other", true},
		{"one that is gone", "other", "", "nemoclaw", true},
		{"a name that leads elsewhere", "../x", "", "nemoclaw", true},
		{"none, and we are not registered", "", "", "", false},
		{"one that is gone, and we are not registered", "other", "", "other", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, _ := cluster(t)
			if c.active != "" {
				put(t, activePath(g), c.active+"\n")
			}
			if c.others != "" {
				put(t, filepath.Join(g.Roots.Gateway(c.others).Registration(), state.MetadataFile), "{}")
			}
			if c.registered {
				put(t, filepath.Join(g.Registration(), state.MetadataFile), `{"gateway_endpoint":"https://127.0.0.1:8080"}`)
			}
			for range 2 {
				if got, err := Select(g); err != nil || got != c.want {
					t.Errorf("%q, %v, want %q", got, err, c.want)
				}
			}
			if active, err := readActive(activePath(g)); err != nil || active != c.want {
				t.Errorf("on disk %q, %v", active, err)
			}
			// What was chosen here is taken back, and nothing else.
			if err := Remove(g); err != nil {
				t.Fatal(err)
			}
			want := c.active
			if c.want == "nemoclaw" && c.active != "nemoclaw" {
				want = ""
			}
			if active, err := readActive(activePath(g)); err != nil || active != want {
				t.Errorf("after removing %q, %v, want %q", active, err, want)
			}
			if _, err := os.Stat(filepath.Join(g.Registration(), state.MetadataFile)); c.registered && err != nil {
				t.Errorf("the registration of another program is gone: %v", err)
			}
		})
	}
}
