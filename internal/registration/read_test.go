package registration

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"creel/internal/advisory"
	"creel/internal/state"
)

func TestRead(t *testing.T) {
	const token = "tok-canary"
	mtls := map[string]string{"mtls/ca.crt": "a", "mtls/tls.crt": "b", "mtls/tls.key": "c"}
	with := func(metadata string, files map[string]string) map[string]string {
		all := map[string]string{"metadata.json": metadata}
		for n, c := range files {
			all[n] = c
		}
		return all
	}
	for _, c := range []struct {
		name  string
		files map[string]string
		want  Entry
		says  string // of the refusal
	}{
		{"mtls", with(`{"gateway_endpoint":"https://127.0.0.1:8080","auth_mode":"mtls","surprise":1}`, mtls), Entry{Host: "127.0.0.1", Port: 8080, TLS: true, Auth: MTLS}, ""},
		{"https without a mode", with(`{"gateway_endpoint":"https://h"}`, mtls), Entry{Host: "h", Port: 443, TLS: true, Auth: MTLS}, ""},
		{"http without a mode", with(`{"gateway_endpoint":"http://[::1]:81/"}`, nil), Entry{Host: "::1", Port: 81, Auth: Plaintext}, ""},
		{"oidc", with(`{"gateway_endpoint":"https://h:1","auth_mode":"oidc"}`, map[string]string{"oidc_token.json": `{"access_token":"` + token + `"}`}), Entry{Host: "h", Port: 1, TLS: true, Auth: OIDC}, ""},
		{"edge", with(`{"gateway_endpoint":"https://h:1","auth_mode":"cloudflare_jwt"}`, map[string]string{"edge_token": token + "\n"}), Entry{Host: "h", Port: 1, TLS: true, Auth: Edge}, ""},

		{"no key", with(`{"gateway_endpoint":"https://h:1","auth_mode":"mtls"}`, map[string]string{"mtls/ca.crt": "a", "mtls/tls.crt": "b"}), Entry{}, "tls.key is missing"},
		{"no token", with(`{"gateway_endpoint":"https://h:1","auth_mode":"oidc"}`, nil), Entry{}, "oidc_token.json is missing"},
		{"damaged token file", with(`{"gateway_endpoint":"https://h:1","auth_mode":"oidc"}`, map[string]string{"oidc_token.json": `{"access_token":` + token}), Entry{}, "does not parse"},
		{"token of two lines", with(`{"gateway_endpoint":"https://h:1","auth_mode":"cloudflare_jwt"}`, map[string]string{"edge_token": token + "\nx: y"}), Entry{}, "no token has"},
		{"empty token", with(`{"gateway_endpoint":"https://h:1","auth_mode":"cloudflare_jwt"}`, map[string]string{"edge_token": " \n"}), Entry{}, "empty"},
		{"no JSON", with(`{`, nil), Entry{}, "parse"},
		{"password in the endpoint", with(`{"gateway_endpoint":"https://u:`+token+`@h:1"}`, nil), Entry{}, "user information"},
		{"no scheme", with(`{"gateway_endpoint":"h:1"}`, nil), Entry{}, "https://"},
		{"path", with(`{"gateway_endpoint":"https://h:1/x"}`, nil), Entry{}, "more than a host"},
		{"port", with(`{"gateway_endpoint":"https://h:0"}`, nil), Entry{}, "does not exist"},
		{"mode", with(`{"gateway_endpoint":"https://h:1","auth_mode":"magic"}`, nil), Entry{}, "not known"},
		{"mtls over http", with(`{"gateway_endpoint":"http://h:1","auth_mode":"mtls"}`, nil), Entry{}, "does not exist"},
		{"plaintext over https", with(`{"gateway_endpoint":"https://h:1","auth_mode":"plaintext"}`, nil), Entry{}, "plaintext"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			g := state.Roots{OpenShell: dir}.Gateway("creel")
			for name, content := range c.files {
				path := filepath.Join(g.Registration(), name)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			e, err := Read(g)
			if c.says != "" {
				if p, ok := advisory.Of(err); !ok || p.ID != "registration-unusable" || !strings.Contains(err.Error(), c.says) {
					t.Fatalf("%v", err)
				}
				if errors.Is(err, fs.ErrNotExist) {
					t.Error("a registration that is there counts as absent")
				}
				if strings.Contains(err.Error(), token) {
					t.Errorf("the error repeats the secret: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if e.Host != c.want.Host || e.Port != c.want.Port || e.TLS != c.want.TLS || e.Auth != c.want.Auth {
				t.Errorf("%+v", e)
			}
			if wants := c.want.Auth == OIDC || c.want.Auth == Edge; wants && e.Token.Reveal() != token || !wants && !e.Token.Empty() {
				t.Errorf("token %q", e.Token.Reveal())
			}
		})
	}
	if _, err := Read(state.Roots{OpenShell: t.TempDir()}.Gateway("creel")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
}

// Whatever is written there, an endpoint that is taken is one host and one port.
func FuzzParseEndpoint(f *testing.F) {
	f.Add("https://127.0.0.1:8080")
	f.Add("http://u:p@h")
	f.Fuzz(func(t *testing.T, text string) {
		host, port, _, err := ParseEndpoint(text)
		if err == nil && (host == "" || port < 1 || port > 65535) {
			t.Errorf("%q: %q %d", text, host, port)
		}
		if err == nil && strings.ContainsAny(text, "@") {
			t.Errorf("%q holds user information", text)
		}
	})
}
