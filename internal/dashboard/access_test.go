package dashboard

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"creel/internal/advisory"
)

func TestCheckPublicURL(t *testing.T) {
	for raw, want := range map[string]string{
		"https://agent.example":              "https://agent.example",
		" agent.example:8443/claw/ ":         "http://agent.example:8443/claw/",
		"HTTPS://agent.example/#token=CANAR": "https://agent.example/",
		"https://bücher.example":             "https://xn--bcher-kva.example",
		"http://[fd00::2]:9000":              "http://[fd00::2]:9000",
		"https://localhost:8443/a":           "https://localhost:8443/a",
	} {
		if got, err := CheckPublicURL(raw); err != nil || got != want {
			t.Errorf("CheckPublicURL(%q) = %q, %v; want %q", raw, got, err, want)
		}
	}
	for name, raw := range map[string]string{
		"nothing": "", "scheme": "ftp://h", "query": "https://h/?token=CANARY", "empty query": "https://h/?", "password": "https://me:CANARY@h",
		"port": "https://h:99999", "port 0": "https://h:0", "path": "https://h/a%0ab", "long": "https://h/" + strings.Repeat("a", maxURL),
	} {
		got, err := CheckPublicURL(raw)
		if p, ok := advisory.Of(err); !ok || p.ID != "dashboard-url-invalid" {
			t.Errorf("%s: CheckPublicURL = %q, %v", name, got, err)
		} else if strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%s: the error repeats a secret: %v", name, err)
		}
	}
}

func TestCheckProxies(t *testing.T) {
	got, err := CheckProxies([]string{"127.0.0.1", " 10.1.2.3/16 ", "10.1.0.0/16", "", "fd00::/8", "::1", "::ffff:10.0.0.9"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"127.0.0.1/32", "10.1.0.0/16", "fd00::/8", "::1/128", "10.0.0.9/32"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got, err := CheckProxies(nil); got != nil || err != nil {
		t.Errorf("none: %v, %v", got, err)
	}
	many := make([]string, maxProxies+1)
	for i := range many {
		many[i] = "10.0.0." + string(rune('0'+i/10)) + string(rune('0'+i%10))
	}
	for name, given := range map[string][]string{
		"a name": {"proxy.example"}, "everybody": {"0.0.0.0/0"}, "everybody of IPv6": {"::/0"}, "bits": {"10.0.0.0/33"}, "zone": {"fe80::1%eth0"},
		"mapped network": {"::ffff:10.0.0.0/104"}, "a list in one": {"10.0.0.1 10.0.0.2"},
	} {
		if got, err := CheckProxies(given); err == nil {
			t.Errorf("%s: taken as %v", name, got)
		} else if p, ok := advisory.Of(err); !ok || p.ID != "dashboard-proxies-invalid" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPrefixAndPort(t *testing.T) {
	for url, want := range map[string]struct {
		prefix string
		port   int
	}{
		"":                                    {"", 0},
		"https://agent.example":               {"", 0},
		"https://agent.example:8443/":         {"", 0},
		"http://agent.example:9000":           {"", 9000},
		"http://agent.example":                {"", 0},
		"http://127.0.0.1:19000":              {"", 19000},
		"http://localhost:8080/claw/":         {"/claw", 0},
		"https://agent.example/a/../b//c/":    {"/b/c", 0},
		"https://agent.example/a%20b":         {"/a b", 0},
		"https://agent.example:8443/claw?x=1": {"/claw", 0},
		"no url at all\x00":                   {"", 0},
	} {
		a := Access{PublicURL: url}
		if p := a.Prefix(); p != want.prefix {
			t.Errorf("Prefix of %q = %q, want %q", url, p, want.prefix)
		}
		if p := a.ListenPort(); p != want.port {
			t.Errorf("ListenPort of %q = %d, want %d", url, p, want.port)
		}
	}
}
