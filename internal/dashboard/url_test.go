package dashboard

import (
	"net/url"
	"strings"
	"testing"

	"creel/internal/advisory"
)

func TestAuthenticatedURL(t *testing.T) {
	tests := []struct{ base, token, want string }{
		{"http://127.0.0.1:18789", "abc", "http://127.0.0.1:18789/#token=abc"},
		{"http://127.0.0.1:18789/", "abc", "http://127.0.0.1:18789/#token=abc"},
		{"https://agent.example/base", "abc", "https://agent.example/base#token=abc"},
		{"https://agent.example/?a=b", "abc", "https://agent.example/?a=b#token=abc"},
		{"http://127.0.0.1:18789/#token=old", "new", "http://127.0.0.1:18789/#token=new"},
		{"http://127.0.0.1:18789", "a b+c/d=&#é", "http://127.0.0.1:18789/#token=a%20b%2Bc%2Fd%3D%26%23%C3%A9"},
		{"http://127.0.0.1:18789/#x", "", "http://127.0.0.1:18789/"},
	}
	for _, tt := range tests {
		if got := AuthenticatedURL(tt.base, tt.token); got != tt.want {
			t.Errorf("AuthenticatedURL(%q, %q) = %q, want %q", tt.base, tt.token, got, tt.want)
		}
	}
}

func TestDisplayURL(t *testing.T) {
	tests := []struct{ in, want string }{
		{"http://127.0.0.1:18789/#token=abc", "http://127.0.0.1:18789/"},
		{"http://127.0.0.1:18789/#TOKEN=abc", "http://127.0.0.1:18789/"},
		{"http://127.0.0.1:18789/#Token=a#token=b", "http://127.0.0.1:18789/"},
		{"http://127.0.0.1:18789/#section", "http://127.0.0.1:18789/#section"},
		{"https://me:hunter2@agent.example/x", "https://REDACTED@agent.example/x"},
		{"https://me@agent.example/x", "https://REDACTED@agent.example/x"},
		{"https://me:p@ss@agent.example/x", "https://REDACTED@agent.example/x"},
		{"me:hunter2@agent.example", "REDACTED@agent.example"},
		{"//me:hunter2@agent.example", "//REDACTED@agent.example"},
		{"https://agent.example/a@b", "https://agent.example/a@b"},
		{"https://agent.example/?token=abc&x=1", "https://agent.example/?token=REDACTED&x=1"},
		{"https://agent.example/?x=1&access_token=abc", "https://agent.example/?x=1&access_token=REDACTED"},
		{"", ""},
	}
	for _, tt := range tests {
		if got := DisplayURL(tt.in); got != tt.want {
			t.Errorf("DisplayURL(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestLoopbackHost(t *testing.T) {
	yes := []string{"localhost", "localhost:18789", "LOCALHOST:80", "localhost.:80", "127.0.0.1", "127.0.0.1:18789", "127.1.2.3:1", "[::1]:18789", "[::1]"}
	no := []string{
		"", ":80", "localhost:", "localhost:0", "localhost:99999", "localhost:80:80", "agent.example", "agent.example:18789",
		"127.0.0.1.example", "localhost.example", "0.0.0.0:18789", "10.0.0.1", "[::]:80", "[fe80::1]:80", "127.0.0.1 ", "2130706433", "0x7f.1", "localhost;", "[::1%lo]:80",
	}
	for _, h := range yes {
		if !LoopbackHost(h) {
			t.Errorf("LoopbackHost(%q) = false, want true", h)
		}
	}
	for _, h := range no {
		if LoopbackHost(h) {
			t.Errorf("LoopbackHost(%q) = true, want false", h)
		}
	}
}

// Whatever the user typed, what is built from it is a URL that a browser opens,
// and a complaint about it never repeats a password or a token.
func FuzzBuild(f *testing.F) {
	for _, s := range []string{
		"", "localhost", "http://[::1]:80", "https://agent.example:8443/a?b#c", "agent.example:x", "http://u:CANARY@h",
		"http://h/#token=CANARY", "http://%zz", "http://h:80:80", "//h", "http://h\n", "u:CANARY@h:%%", "http://[::1%25lo]",
	} {
		f.Add(s, "", false)
		f.Add(s, "19000", true)
	}
	f.Fuzz(func(t *testing.T, raw, port string, wsl bool) {
		c, err := Build(Input{URL: raw, Port: port, WSL: wsl})
		if err != nil {
			if _, ok := advisory.Of(err); !ok {
				t.Fatalf("Build(%q, %q): %v carries no advisory", raw, port, err)
			}
			if strings.Contains(raw, "@") && strings.Contains(raw, "CANARY") && strings.Index(raw, "CANARY") < strings.Index(raw, "@") &&
				!strings.ContainsAny(raw[:strings.Index(raw, "@")], "/?#") && strings.Contains(err.Error(), "CANARY") {
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
		if c.BindAddress == Loopback && (wsl || !isLoopback(u.Hostname())) {
			t.Fatalf("Build(%q): loopback listener for %q", raw, c.AccessURL)
		}
	})
}

// A token put into a URL comes back exactly, and the display form never holds it.
func FuzzToken(f *testing.F) {
	f.Add("http://127.0.0.1:18789", "abc")
	f.Add("https://agent.example/x#token=old", "a b+%/#é")
	f.Fuzz(func(t *testing.T, base, token string) {
		if _, err := parse(base); err != nil || token == "" {
			t.Skip()
		}
		full := AuthenticatedURL(base, token)
		_, fragment, _ := strings.Cut(full, "#")
		got, err := url.PathUnescape(strings.TrimPrefix(fragment, "token="))
		if err != nil || got != token {
			t.Fatalf("AuthenticatedURL(%q, %q) = %q: comes back as %q, %v", base, token, full, got, err)
		}
		if shown := DisplayURL(full); strings.Contains(strings.ToLower(shown), "#token=") {
			t.Fatalf("DisplayURL(%q) = %q", full, shown)
		}
	})
}
