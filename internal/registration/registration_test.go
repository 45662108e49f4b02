package registration

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"creel/internal/advisory"
	"creel/internal/bundle"
	"creel/internal/bundle/dirstore"
	"creel/internal/state"
)

func home(t *testing.T) state.Gateway {
	dir := t.TempDir()
	return state.Roots{Config: dir + "/c/creel", State: dir + "/state", Run: dir + "/run", OpenShell: dir + "/c/openshell"}.Gateway("creel")
}

func credentials() Credentials {
	return Credentials{CA: []byte("ca\n"), Cert: []byte("cert\n"), Key: []byte("key\n")}
}

func endpoint() Endpoint { return Endpoint{Host: "127.0.0.1", Port: 17670} }

func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			found[rel] = info.Mode().String()
		case info.Mode().IsRegular():
			b, err := os.ReadFile(path)
			found[rel] = info.Mode().String() + " " + string(b)
			return err
		default:
			target, err := os.Readlink(path)
			found[rel] = "link " + target
			return err
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return found
}

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func mustWrite(t *testing.T, g state.Gateway, e Endpoint, c Credentials, active bool) {
	t.Helper()
	if err := Write(g, e, c, active); err != nil {
		t.Fatal(err)
	}
}

func TestWriteInspectRemoveLeaveNothing(t *testing.T) {
	g := home(t)
	if r := Inspect(g, endpoint(), credentials()); r.State != Absent || r.Err != nil {
		t.Fatalf("before: %+v", r)
	}
	mustWrite(t, g, endpoint(), credentials(), false)
	if r := Inspect(g, endpoint(), credentials()); r.State != OK || r.Active != "creel" || r.Endpoint != "https://127.0.0.1:17670" {
		t.Fatalf("after: %+v", r)
	}
	want := map[string]string{
		".": "drwx------", "active_gateway": "-rw------- creel", "gateways": "drwx------", "gateways/creel": "drwx------",
		"gateways/creel/mtls":         "drwx------",
		"gateways/creel/mtls/ca.crt":  "-rw------- ca\n",
		"gateways/creel/mtls/tls.crt": "-rw------- cert\n",
		"gateways/creel/mtls/tls.key": "-rw------- key\n",
	}
	have := tree(t, g.Roots.OpenShell)
	var fields map[string]any
	if err := json.Unmarshal([]byte(strings.TrimPrefix(have["gateways/creel/metadata.json"], "-rw------- ")), &fields); err != nil {
		t.Fatal(err)
	}
	delete(have, "gateways/creel/metadata.json")
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("files:\n%s", diff)
	}
	if diff := cmp.Diff(map[string]any{"name": "creel", "gateway_endpoint": "https://127.0.0.1:17670", "is_remote": false,
		"gateway_port": 17670.0, "auth_mode": "mtls"}, fields); diff != "" {
		t.Errorf("metadata.json:\n%s", diff)
	}

	before := tree(t, filepath.Dir(g.Roots.State))
	mustWrite(t, g, endpoint(), credentials(), false)
	if diff := cmp.Diff(before, tree(t, filepath.Dir(g.Roots.State))); diff != "" {
		t.Errorf("writing again changed:\n%s", diff)
	}

	for range 2 {
		if err := Remove(g); err != nil {
			t.Fatal(err)
		}
		if left := tree(t, g.Roots.OpenShell); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

func TestStale(t *testing.T) {
	dir := func(g state.Gateway, name string) string { return filepath.Join(g.Registration(), name) }
	cases := []struct {
		name    string
		change  func(t *testing.T, g state.Gateway)
		e       Endpoint
		c       Credentials
		want    State
		problem string // field
	}{
		{"port moved", nil, Endpoint{Port: 17671}, credentials(), Stale, "gateway_port"},
		{"client certificate renewed", nil, endpoint(), Credentials{CA: []byte("ca\n"), Cert: []byte("new"), Key: []byte("new")}, Stale, "mtls/tls.crt"},
		{"everything renewed", nil, endpoint(), Credentials{CA: []byte("1"), Cert: []byte("2"), Key: []byte("3")}, Stale, "mtls/ca.crt"},
		{"certificate overwritten", func(t *testing.T, g state.Gateway) { put(t, dir(g, "mtls/tls.crt"), "wrong") }, endpoint(), credentials(), Stale, "mtls/tls.crt"},
		{"metadata garbled", func(t *testing.T, g state.Gateway) { put(t, dir(g, "metadata.json"), "{") }, endpoint(), credentials(), Stale, "metadata.json"},
		{"metadata edited", func(t *testing.T, g state.Gateway) {
			put(t, dir(g, "metadata.json"), `{"name":"creel","gateway_endpoint":"https://127.0.0.1:17670","is_remote":true,"gateway_port":17670,"auth_mode":"mtls"}`)
		}, endpoint(), credentials(), Stale, "is_remote"},
		{"field of a strange kind", func(t *testing.T, g state.Gateway) { put(t, dir(g, "metadata.json"), `{"name":["creel"]}`) }, endpoint(), credentials(), Stale, "name"},
		{"key readable", func(t *testing.T, g state.Gateway) {
			if err := os.Chmod(dir(g, "mtls/tls.key"), 0o644); err != nil {
				t.Fatal(err)
			}
		}, endpoint(), credentials(), Stale, "mtls/tls.key"},
		{"key missing", func(t *testing.T, g state.Gateway) {
			if err := os.Remove(dir(g, "mtls/tls.key")); err != nil {
				t.Fatal(err)
			}
		}, endpoint(), credentials(), Absent, "mtls/tls.key"},
		{"everything lost", func(t *testing.T, g state.Gateway) {
			if err := os.RemoveAll(g.Roots.OpenShell); err != nil {
				t.Fatal(err)
			}
		}, endpoint(), credentials(), Absent, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			g := home(t)
			mustWrite(t, g, endpoint(), credentials(), false)
			if c.change != nil {
				c.change(t, g)
			}
			r := Inspect(g, c.e, c.c)
			if r.State != c.want {
				t.Fatalf("report %+v, want %s", r, c.want)
			}
			found := c.problem == ""
			for _, p := range r.Problems {
				found = found || p.Field == c.problem
			}
			if !found {
				t.Errorf("problems %+v, want one about %s", r.Problems, c.problem)
			}
			mustWrite(t, g, c.e, c.c, false)
			if r := Inspect(g, c.e, c.c); r.State != OK {
				t.Errorf("after mending: %+v", r)
			}
			if err := Remove(g); err != nil {
				t.Fatal(err)
			}
			if left := tree(t, g.Registration()); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// TestForeignIsNeverTouched: whatever Creel did not write survives every verb.
func TestForeignIsNeverTouched(t *testing.T) {
	other := `{"name":"creel","gateway_endpoint":"https://user:canary@gateway.example.com:443","is_remote":true,"gateway_port":443,"auth_mode":"mtls"}`
	cases := map[string]func(t *testing.T, g state.Gateway){
		"registered before us": func(t *testing.T, g state.Gateway) { put(t, g.Registration()+"/metadata.json", other) },
		"looks exactly like ours": func(t *testing.T, g state.Gateway) {
			want, err := contents(g, endpoint(), credentials())
			if err != nil {
				t.Fatal(err)
			}
			for name, content := range want {
				put(t, filepath.Join(g.Registration(), name), string(content))
			}
		},
		"only a token so far": func(t *testing.T, g state.Gateway) { put(t, g.Registration()+"/edge_token", "x") },
		"a file":              func(t *testing.T, g state.Gateway) { put(t, g.Registration(), "x") },
		"a link to a registration": func(t *testing.T, g state.Gateway) {
			put(t, g.Roots.OpenShell+"/elsewhere/metadata.json", other)
			put(t, g.Roots.OpenShell+"/gateways/other/metadata.json", other)
			if err := os.Symlink("../elsewhere", g.Registration()); err != nil {
				t.Fatal(err)
			}
		},
		"replaced after we registered": func(t *testing.T, g state.Gateway) {
			mustWrite(t, g, endpoint(), credentials(), false)
			if err := os.RemoveAll(g.Registration()); err != nil {
				t.Fatal(err)
			}
			put(t, g.Registration()+"/metadata.json", other)
			put(t, g.Registration()+"/mtls/ca.crt", "theirs")
			put(t, g.Roots.OpenShell+"/active_gateway", "theirs")
		},
		"a key is a link": func(t *testing.T, g state.Gateway) {
			mustWrite(t, g, endpoint(), credentials(), false)
			put(t, g.Roots.OpenShell+"/active_gateway", "theirs")
			put(t, g.Roots.OpenShell+"/precious", "key\n")
			if err := os.Remove(g.Registration() + "/mtls/tls.key"); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("../../../precious", g.Registration()+"/mtls/tls.key"); err != nil {
				t.Fatal(err)
			}
		},
		"mtls is a link": func(t *testing.T, g state.Gateway) {
			mustWrite(t, g, endpoint(), credentials(), false)
			if err := os.RemoveAll(g.Registration() + "/mtls"); err != nil {
				t.Fatal(err)
			}
			put(t, g.Roots.OpenShell+"/active_gateway", "theirs")
			put(t, g.Roots.OpenShell+"/precious/tls.key", "theirs")
			if err := os.Symlink("../../precious", g.Registration()+"/mtls"); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, arrange := range cases {
		t.Run(name, func(t *testing.T) {
			g := home(t)
			arrange(t, g)
			before := tree(t, g.Roots.OpenShell)
			r := Inspect(g, endpoint(), credentials())
			if p, ok := advisory.Of(r.Err); r.State != Foreign || !ok || p.ID != "registration-foreign" {
				t.Errorf("Inspect: %+v", r)
			}
			if strings.Contains(fmt.Sprint(r, r.Err), "canary") {
				t.Errorf("a password is shown: %v %v", r, r.Err)
			}
			err := Write(g, endpoint(), credentials(), true)
			if p, ok := advisory.Of(err); !ok || p.ID != "registration-foreign" {
				t.Errorf("Write: %v", err)
			}
			if err := Remove(g); err != nil {
				t.Errorf("Remove: %v", err)
			}
			if diff := cmp.Diff(before, tree(t, g.Roots.OpenShell)); diff != "" {
				t.Errorf("something changed:\n%s", diff)
			}
		})
	}
}

func TestDecoysSurvive(t *testing.T) {
	g := home(t)
	mustWrite(t, g, endpoint(), credentials(), false)
	decoys := []string{"gateways/creel2/metadata.json", "gateways/cree/mtls/tls.key", "gateways/creel/last_sandbox",
		"gateways/creel/mtls/tls.key.old", "gateways/creel_metadata.json", "ssh_config"}
	for _, d := range decoys {
		put(t, filepath.Join(g.Roots.OpenShell, d), "decoy")
	}
	if err := Remove(g); err != nil {
		t.Fatal(err)
	}
	have := tree(t, g.Roots.OpenShell)
	for _, d := range decoys {
		if have[d] != "-rw------- decoy" {
			t.Errorf("%s: %q", d, have[d])
		}
	}
	for _, gone := range append(names(), "../../active_gateway") {
		if _, ok := have[filepath.Join("gateways/creel", gone)]; ok {
			t.Errorf("%s is still there", gone)
		}
	}
}

func TestActiveGateway(t *testing.T) {
	cases := []struct {
		name        string
		before      string // content of active_gateway, "-" for no file
		ask         bool
		after       string // once registered
		change      string // by the user afterwards, "" for none
		afterRemove string // "-" for no file
	}{
		{"absent", "-", false, "creel", "", "-"},
		{"empty", "\n", false, "creel", "", "-"},
		{"another", "prod\n", false, "prod\n", "", "prod\n"},
		{"another, asked", "prod\n", true, "creel", "", "-"},
		{"ours by the user's hand", "creel\n", true, "creel\n", "", "creel\n"},
		{"changed afterwards", "-", false, "creel", "prod", "prod"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			g := home(t)
			path := filepath.Join(g.Roots.OpenShell, "active_gateway")
			if c.before != "-" {
				put(t, path, c.before)
			}
			for range 2 { // the second time must not forget who set it
				mustWrite(t, g, endpoint(), credentials(), c.ask)
			}
			if got := content(t, path); got != c.after {
				t.Errorf("registered: active_gateway %q, want %q", got, c.after)
			}
			if c.change != "" {
				put(t, path, c.change)
			}
			if err := Remove(g); err != nil {
				t.Fatal(err)
			}
			if got := content(t, path); got != c.afterRemove {
				t.Errorf("removed: active_gateway %q, want %q", got, c.afterRemove)
			}
		})
	}
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "-"
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestInterruptedWriteIsStillOurs: the note is on disk before anything that it
// describes, so no prefix of a write looks like somebody else's registration.
func TestInterruptedWriteIsStillOurs(t *testing.T) {
	renewed := Credentials{CA: []byte("1"), Cert: []byte("2"), Key: []byte("3")}
	for written := range names() {
		g := home(t)
		mustWrite(t, g, endpoint(), credentials(), false)
		old := tree(t, g.Registration())
		mustWrite(t, g, Endpoint{Port: 2}, renewed, false)
		// Put back the files that the interrupted write would not have reached, and
		// the note as it was meanwhile.
		rec, err := readRecord(g)
		if err != nil {
			t.Fatal(err)
		}
		for i, name := range names() {
			before := strings.SplitN(old[name], " ", 2)[1]
			rec.Files[name] = union(rec.Files[name], []string{digest([]byte(before))})
			if i >= written {
				put(t, filepath.Join(g.Registration(), name), before)
			}
		}
		if err := writeRecord(g, rec); err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(g.Registration(), "mtls/.tls.key.tmp-77"), "half a key")
		if r := Inspect(g, Endpoint{Port: 2}, renewed); r.State != Stale {
			t.Fatalf("after %d files: %+v", written, r)
		}
		mustWrite(t, g, Endpoint{Port: 2}, renewed, false)
		if r := Inspect(g, Endpoint{Port: 2}, renewed); r.State != OK {
			t.Errorf("after %d files, mended: %+v", written, r)
		}
		if _, err := os.Lstat(filepath.Join(g.Registration(), "mtls/.tls.key.tmp-77")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("half a key survives: %v", err)
		}
	}
}

func TestMovedConfigurationLeavesNothingBehind(t *testing.T) {
	g := home(t)
	mustWrite(t, g, endpoint(), credentials(), false)
	moved := g
	moved.Roots.OpenShell = filepath.Join(filepath.Dir(g.Roots.State), "elsewhere")
	mustWrite(t, moved, endpoint(), credentials(), false)
	if left := tree(t, g.Registration()); len(left) > 0 {
		t.Errorf("the old place holds %v", left)
	}
	if r := Inspect(moved, endpoint(), credentials()); r.State != OK {
		t.Errorf("the new place: %+v", r)
	}
}

func TestDamagedRecordStopsEverything(t *testing.T) {
	for name, text := range map[string]string{
		"garbled": "{", "newer": `{"version":2}`, "no version": `{}`,
		"strange field": `{"version":1,"x":1}`, "climbs out": `{"version":1,"files":{"../../precious":["x"]}}`,
	} {
		t.Run(name, func(t *testing.T) {
			g := home(t)
			mustWrite(t, g, endpoint(), credentials(), false)
			put(t, g.File(state.RegistrationFile), text)
			before := tree(t, filepath.Dir(g.Roots.State))
			for verb, err := range map[string]error{
				"Inspect": Inspect(g, endpoint(), credentials()).Err,
				"Write":   Write(g, endpoint(), credentials(), true),
				"Remove":  Remove(g),
			} {
				if p, ok := advisory.Of(err); !ok || p.ID != "registration-record-invalid" || !strings.Contains(err.Error(), g.File(state.RegistrationFile)) {
					t.Errorf("%s: %v", verb, err)
				}
			}
			if diff := cmp.Diff(before, tree(t, filepath.Dir(g.Roots.State))); diff != "" {
				t.Errorf("something changed:\n%s", diff)
			}
		})
	}
}

func TestMendingKeepsWhatSomebodyWrote(t *testing.T) {
	g := home(t)
	mustWrite(t, g, endpoint(), credentials(), false)
	put(t, g.Registration()+"/mtls/tls.crt", "mine")
	mustWrite(t, g, endpoint(), credentials(), false)
	kept, _ := filepath.Glob(g.File(state.BackupDir) + "/*-registration/tls.crt")
	if len(kept) != 1 || content(t, kept[0]) != "mine" {
		t.Errorf("backups %q", kept)
	}
}

func TestIncompleteInputIsRefused(t *testing.T) {
	g := home(t)
	for _, c := range []struct {
		e Endpoint
		c Credentials
	}{{Endpoint{Port: 0}, credentials()}, {Endpoint{Port: 65536}, credentials()}, {endpoint(), Credentials{CA: []byte("x")}}} {
		if err := Write(g, c.e, c.c, false); err == nil {
			t.Errorf("%+v was written", c)
		}
	}
	if left := tree(t, g.Roots.OpenShell); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestURL(t *testing.T) {
	for want, e := range map[string]Endpoint{
		"https://127.0.0.1:1": {Port: 1}, "https://[::1]:2": {Host: "::1", Port: 2}, "https://localhost:3": {Host: "localhost", Port: 3},
		"http://127.0.0.1:4": {Port: 4, Plaintext: true},
	} {
		if got := e.URL(); got != want {
			t.Errorf("%+v: %s, want %s", e, got, want)
		}
	}
}

// TestRegistrationOpensTheGateway reads the files as an OpenShell client does
// and opens a gateway with them; without the client certificate it stays shut.
func TestRegistrationOpensTheGateway(t *testing.T) {
	g := home(t)
	store := dirstore.New(g)
	if _, err := bundle.Repair(t.Context(), store.Target(), time.Now(), bundle.RepairOptions{}); err != nil {
		t.Fatal(err)
	}
	snapshot, err := store.Load(t.Context(), dirstore.Requirements())
	if err != nil {
		t.Fatal(err)
	}
	material, err := bundle.Open(snapshot)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, r.TLS.PeerCertificates[0].Subject)
	}))
	server.TLS = material.ServerConfig()
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // it reports the refused client
	server.StartTLS()
	defer server.Close()
	port := server.Listener.Addr().(*net.TCPAddr).Port
	mustWrite(t, g, Endpoint{Host: "127.0.0.1", Port: port}, CredentialsOf(bundle.ClientFiles{CA: material.CAPEM, Cert: material.ClientPEM.Cert, Key: material.ClientPEM.Key}), false)

	var m metadata
	text, err := os.ReadFile(g.Registration() + "/metadata.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	ca, err := os.ReadFile(g.Registration() + "/mtls/ca.crt")
	if err != nil || !pool.AppendCertsFromPEM(ca) {
		t.Fatal("ca.crt", err)
	}
	pair, err := tls.LoadX509KeyPair(g.Registration()+"/mtls/tls.crt", g.Registration()+"/mtls/tls.key")
	if err != nil {
		t.Fatal(err)
	}
	get := func(c *tls.Config) error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, m.GatewayEndpoint, nil)
		if err != nil {
			return err
		}
		transport := &http.Transport{TLSClientConfig: c}
		defer transport.CloseIdleConnections()
		response, err := (&http.Client{Transport: transport}).Do(request)
		if err != nil {
			return err
		}
		return response.Body.Close()
	}
	if err := get(&tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}}); err != nil {
		t.Errorf("with the registration: %v", err)
	}
	if err := get(&tls.Config{RootCAs: pool}); err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("without a client certificate: %v", err)
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add([]byte(`{"version":1,"directory":"/x","files":{"metadata.json":["00"]},"active":true,"made":["/x"]}`))
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`{`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := parseRecord(text)
		if err != nil {
			return
		}
		if r.Version != recordVersion {
			t.Fatalf("version %d was accepted", r.Version)
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if r2, err := parseRecord(again); err != nil || !cmp.Equal(r, r2) {
			t.Fatalf("%+v became %+v, %v", r, r2, err)
		}
	})
}
