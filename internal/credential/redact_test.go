package credential

import (
	"strings"
	"testing"
)

func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		"see https://user:pw@host/x":                 "see https://REDACTED@host/x",
		"http://127.0.0.1:1/#token=abc&x=1":          "http://127.0.0.1:1/#token=REDACTED&x=1",
		"http://h/?TOKEN=abc":                        "http://h/?TOKEN=REDACTED",
		"http://h/?a=1&api_key=abc&b=2":              "http://h/?a=1&api_key=REDACTED&b=2",
		"Authorization: Bearer abcdefgh.ijk":         "Authorization: Bearer REDACTED",
		"Authorization: Bearer abc.def":              "Authorization: Bearer REDACTED",
		"key nvapi-abcdefghijkl is bad":              "key REDACTED is bad",
		"sk-proj-abcdefghijkl":                       "REDACTED",
		"key AIzaSyA-0123456789 refused":             "key REDACTED refused",
		"OPENAI_API_KEY=whatever":                    "OPENAI_API_KEY=REDACTED",
		"OPENAI_API_KEY=sk-live-0123456789":          "OPENAI_API_KEY=REDACTED",
		"AGE-SECRET-KEY-1ABCDEF":                     "REDACTED",
		`{"token": "abc", "port": 1}`:                `{"token": "REDACTED", "port": 1}`,
		`{"password": "hunter2"}`:                    `{"password": "REDACTED"}`,
		"PASSWORD:hunter2":                           "PASSWORD:REDACTED",
		"jwt eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ4In0.":  "jwt REDACTED",
		"sandbox task-force is ready":                "sandbox task-force is ready",
		"set OPENAI_API_KEY or name a variable":      "set OPENAI_API_KEY or name a variable",
		"https://127.0.0.1:17670 answers":            "https://127.0.0.1:17670 answers",
		"--credential-env OPENAI_API_KEY":            "--credential-env OPENAI_API_KEY",
		"gateway serves host=127.0.0.1 port=17670":   "gateway serves host=127.0.0.1 port=17670",
		"read token: permission denied":              "read token: permission denied",
		"read bootstrap secrets: connection refused": "read bootstrap secrets: connection refused",
		"open state/gateways/creel: is a directory":  "open state/gateways/creel: is a directory",
		`secret "openshell-server-tls" not found`:    `secret "openshell-server-tls" not found`,
	} {
		if got := Redact(in); got != want {
			t.Errorf("Redact(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzRedact(f *testing.F) {
	f.Add("https://a:b@c/", "tok")
	f.Add("x=1", "abc%20")
	f.Fuzz(func(t *testing.T, before, token string) {
		if strings.ContainsAny(token, " \t\r\n\v\f&\"'<>\u0085\u00a0") || token == "" {
			t.Skip()
		}
		if out := Redact("http://h/#token=" + token); strings.Contains(out, token) && !strings.Contains("http://h/#token="+Redacted, token) {
			t.Errorf("%q is still in %q", token, out)
		}
		once := Redact(before)
		if twice := Redact(once); once != twice {
			t.Errorf("Redact(%q) = %q, and again %q", before, once, twice)
		}
	})
}
