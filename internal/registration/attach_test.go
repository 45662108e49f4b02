package registration

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"creel/internal/bundle"
	"creel/internal/state"
)

// registeredBy writes what an OpenShell client has for a gateway in a cluster.
func registeredBy(t *testing.T, g state.Gateway, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(g.Registration(), name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAttach(t *testing.T) {
	root := t.TempDir()
	g := state.Roots{State: filepath.Join(root, "state"), OpenShell: filepath.Join(root, "openshell")}.Gateway("nemoclaw")
	c := bundle.ClientFiles{CA: []byte("new ca"), Cert: []byte("new cert"), Key: []byte("new key")}
	yes, no := func([]byte) bool { return true }, func([]byte) bool { return false }
	expect := func(what string, want Attachment, belongs func([]byte) bool, force bool) {
		t.Helper()
		if got, err := Attach(g, c, belongs, force); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", what, got, err, want)
		}
	}
	expect("nothing is registered", NotRegistered, yes, true)
	if _, err := os.Stat(g.Registration()); !os.IsNotExist(err) {
		t.Error("something was written for a gateway that no client knows")
	}
	const metadata = `{"name":"nemoclaw","gateway_endpoint":"https://127.0.0.1:8080","future":1}`
	registeredBy(t, g, map[string]string{"metadata.json": metadata, "mtls/ca.crt": "old ca", "mtls/tls.crt": "old cert", "mtls/tls.key": "old key", "last_sandbox": "x"})
	expect("another gateway's", NotProven, no, false)
	if b, _ := os.ReadFile(filepath.Join(g.Registration(), "mtls/tls.crt")); string(b) != "old cert" {
		t.Errorf("without a proof the certificate became %q", b)
	}
	asked := ""
	expect("this gateway's", Attached, func(cert []byte) bool { asked = string(cert); return true }, false)
	if asked != "old cert" {
		t.Errorf("asked about %q", asked)
	}
	for name, want := range map[string]string{"metadata.json": metadata, "last_sandbox": "x", "mtls/ca.crt": "new ca", "mtls/tls.crt": "new cert", "mtls/tls.key": "new key"} {
		if b, err := os.ReadFile(filepath.Join(g.Registration(), name)); string(b) != want {
			t.Errorf("%s holds %q, %v", name, b, err)
		}
	}
	kept, err := filepath.Glob(filepath.Join(g.File(state.BackupDir), "*-registration", "tls.key"))
	if err != nil || len(kept) != 1 {
		t.Fatalf("backups %v, %v", kept, err)
	}
	if b, _ := os.ReadFile(kept[0]); !bytes.Equal(b, []byte("old key")) {
		t.Errorf("the backup holds %q", b)
	}
	expect("again", Current, no, false)
	c.Cert = []byte("newer cert")
	expect("by force", Attached, no, true)
	// Interrupted after the CA: that it was being attached is proof enough.
	c.CA, c.Cert, c.Key = []byte("third ca"), []byte("third cert"), []byte("third key")
	registeredBy(t, g, map[string]string{"mtls/ca.crt": "third ca"})
	expect("interrupted", Attached, no, false)
}

// TestAttachSparesOurOwn: the name of a cluster's gateway may be that of the
// gateway of this machine.
func TestAttachSparesOurOwn(t *testing.T) {
	root := t.TempDir()
	g := state.Roots{State: filepath.Join(root, "state"), OpenShell: filepath.Join(root, "openshell")}.Gateway("creel")
	own := Credentials{CA: []byte("ca"), Cert: []byte("cert"), Key: []byte("key")}
	if err := Write(g, Endpoint{Port: 17670}, own, false); err != nil {
		t.Fatal(err)
	}
	if got, err := Attach(g, bundle.ClientFiles{CA: []byte("x"), Cert: []byte("y"), Key: []byte("z")}, func([]byte) bool { return true }, true); err == nil {
		t.Errorf("%q", got)
	}
	if got, err := Attach(g, bundle.ClientFiles{CA: []byte("x"), Cert: []byte("y"), Key: []byte("z")}, func([]byte) bool { return true }, false); err != nil || got != OfThisMachine {
		t.Errorf("unasked: %q, %v", got, err)
	}
	if b, _ := os.ReadFile(filepath.Join(g.Registration(), "mtls/tls.crt")); string(b) != "cert" {
		t.Errorf("the certificate of this machine's gateway became %q", b)
	}
}
