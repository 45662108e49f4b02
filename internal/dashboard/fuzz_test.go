package dashboard

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"creel/internal/advisory"
)

// urls are seeds: what people type, and what others might.
var urls = []string{
	"", "localhost", "http://[::1]:80", "https://agent.example:8443/a?b#c", "agent.example:x", "http://u:CANARY@h",
	"http://h/#token=CANARY", "http://h/#TOKEN=CANARY", "http://h/#x&token=CANARY", "http://%zz", "http://h:80:80", "//h", "http://h\n",
	"u:CANARY@h:%%", "http://[::1%25lo]", "HTTPS://AGENT.example", "https://bücher.example/ä", "http://１２７.0.0.1", "http://xn--bcher-kva.example:0",
	"http://h:99999/x", "http://h:0080", "http://[fd00:0::2]:9000", "http://[::ffff:10.0.0.1]", "http://127.1", "http://0x7f.1", "http://a;b", "http://a b",
	"http://h//a/../b/", "http://h?x=1&token=CANARY", "http://h/%2e%2e/%00", "http://h\\@CANARY", "javascript://h/%0aalert(1)", "ht!tp://me:CANARY@h",
}

// Whatever the user typed, what is built from it is a URL that a browser opens and
// that is read as itself again, and a complaint about it never repeats a password
// or a token.
func FuzzBuild(f *testing.F) {
	for _, s := range urls {
		f.Add(s, "", false)
		f.Add(s, "19000", true)
	}
	f.Fuzz(func(t *testing.T, raw, port string, wsl bool) {
		c, err := Build(Input{URL: raw, Port: port, WSL: wsl})
		if err != nil {
			if _, ok := advisory.Of(err); !ok {
				t.Fatalf("Build(%q, %q): %v carries no advisory", raw, port, err)
			}
			before, after, has := strings.Cut(raw, "@")
			if has && strings.Contains(before, "CANARY") && !strings.Contains(after, "CANARY") && !strings.ContainsAny(before, `/?#\`) && strings.Contains(err.Error(), "CANARY") {
				t.Fatalf("Build(%q): the error repeats the password: %v", raw, err)
			}
			return
		}
		u, err := url.Parse(c.AccessURL)
		if err != nil || u.Hostname() == "" || u.User != nil || u.Fragment != "" || u.Scheme != "http" && u.Scheme != "https" {
			t.Fatalf("Build(%q): access URL %q (%v)", raw, c.AccessURL, err)
		}
		if c.Port < 1 || c.Port > 65535 {
			t.Fatalf("Build(%q): port %d", raw, c.Port)
		}
		if len(c.CORSOrigins) == 2 && c.CORSOrigins[0] == c.CORSOrigins[1] || len(c.CORSOrigins) == 0 || len(c.CORSOrigins) > 2 {
			t.Fatalf("Build(%q): origins %q", raw, c.CORSOrigins)
		}
		for _, o := range c.CORSOrigins {
			if o == "" || Origin(o) != o || strings.ContainsAny(o, " ;,'\"") {
				t.Fatalf("Build(%q): %q is no origin as a browser writes it", raw, o)
			}
		}
		if c.BindAddress == Loopback && (wsl || !isLoopback(u.Hostname())) {
			t.Fatalf("Build(%q): loopback listener for %q", raw, c.AccessURL)
		}
		again, err := Build(Input{URL: c.AccessURL, Port: port, WSL: wsl})
		if err != nil {
			t.Fatalf("Build(%q): %q is not read again: %v", raw, c.AccessURL, err)
		}
		if diff := cmp.Diff(c, again); diff != "" {
			t.Fatalf("Build(%q) is not stable (-first +second):\n%s", raw, diff)
		}
	})
}

// A token put into a URL comes back exactly, and the display form never holds it.
func FuzzToken(f *testing.F) {
	tokens := []string{"abc", "a b+%/#é", "#", "%", "%23", " ", "a#token=b", "a&token=b", "\n", "\x00"}
	for i, s := range urls {
		f.Add(s, tokens[i%len(tokens)])
	}
	f.Add("http://127.0.0.1:18789", "abc")
	f.Add("https://agent.example/x#token=old", "a b+%/#é")
	f.Fuzz(func(t *testing.T, base, token string) {
		if _, err := parse(base); err != nil || token == "" {
			return
		}
		full := AuthenticatedURL(base, token)
		_, fragment, _ := strings.Cut(full, "#")
		got, err := url.PathUnescape(strings.TrimPrefix(fragment, "token="))
		if err != nil || got != token {
			t.Fatalf("AuthenticatedURL(%q, %q) = %q: comes back as %q, %v", base, token, full, got, err)
		}
		for _, form := range []string{full, strings.Replace(full, "#token=", "#tOKen=", 1), strings.Replace(full, "#token=", "#x&Token=", 1)} {
			shown := DisplayURL(form)
			_, left, _ := strings.Cut(shown, "#")
			if left != "" && left != "x" || strings.Contains(strings.ToLower(shown), "#token") {
				t.Fatalf("DisplayURL(%q) = %q", form, shown)
			}
			if twice := DisplayURL(shown); twice != shown {
				t.Fatalf("DisplayURL(%q) = %q, and of that %q", form, shown, twice)
			}
		}
	})
}

// What is recorded is recorded as itself again, and the rules made of it accept
// its own page and refuse that of another website.
func FuzzAccess(f *testing.F) {
	for _, s := range urls {
		f.Add(s, "evil.example", "http://evil.example")
		f.Add(s, s, s)
	}
	f.Fuzz(func(t *testing.T, raw, host, from string) {
		local := netip.MustParseAddr("127.0.0.1")
		// Rules are also made of what nobody has checked.
		unchecked := Access{PublicURL: raw, TrustedProxies: []string{host, from}}.Rules(local, local).Read(Headers{Host: host, ForwardedHost: []string{from}, ForwardedFor: []string{host, from}})
		if unchecked.HostAllowed() && strings.ContainsAny(strings.Join(unchecked.Sockets(), ""), " ;,'\"\r\n") {
			t.Fatalf("%q at %q lets a content policy name %q", raw, host, unchecked.Sockets())
		}
		recorded, err := CheckPublicURL(raw)
		if err != nil {
			return
		}
		if again, err := CheckPublicURL(recorded); err != nil || again != recorded {
			t.Fatalf("CheckPublicURL(%q) = %q, and of that %q, %v", raw, recorded, again, err)
		}
		a := Access{PublicURL: recorded}
		if p := a.Prefix(); p != "" && (p[0] != '/' || strings.HasSuffix(p, "/")) {
			t.Fatalf("Prefix of %q = %q", recorded, p)
		}
		rules := a.Rules(local, local)
		own := Origin(recorded)
		q := rules.Read(Headers{Host: strings.SplitN(own, "//", 2)[1]})
		if !q.HostAllowed() || !q.OriginAllowed(own) {
			t.Fatalf("%q does not accept its own page %q", recorded, own)
		}
		q = rules.Read(Headers{Host: host})
		if q.HostAllowed() && strings.ContainsAny(q.Host, " ;,'\"\r\n") {
			t.Fatalf("host %q passes as %q, which would end a header", host, q.Host)
		}
		if q.OriginAllowed(from) && Origin(from) != own && Origin(from) != "http://"+q.Host {
			t.Fatalf("%q at %q accepts origin %q", recorded, host, from)
		}
	})
}
