package credential

import (
	"creel/internal/printable"
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
		"https://user:p@ss@host/":                    "https://REDACTED@host/",
		`Get "https://user:p@s:s@host": no`:          `Get "https://REDACTED@host": no`,
		"see https://host/a@b and c@d":               "see https://host/a@b and c@d",
		"https://a@b/ https://c:d@e@f/@":             "https://REDACTED@b/ https://REDACTED@f/@",
		"password=ab":                                "password=REDACTED",
		"password=a,bcdefgh":                         "password=REDACTED,bcdefgh",
		"token=a token=b;secret=c":                   "token=REDACTED token=REDACTED;secret=REDACTED",
		"password:ab":                                "password:REDACTED",
		`password="a b c d"`:                         `password="REDACTED"`,
		`password = 'a b c d' port=1`:                `password = 'REDACTED' port=1`,
		`PASSWORD:"a b"`:                             `PASSWORD:"REDACTED"`,
		`{"password": "correct horse battery"}`:      `{"password": "REDACTED"}`,
		`{"password":"a \"b\" c, d","port":1}`:       `{"password":"REDACTED","port":1}`,
		`{'token': 'a b', 'port': 1}`:                `{'token': 'REDACTED', 'port': 1}`,
		`{\"password\": \"a b, c\", \"port\": 1}`:    `{\"password\": \"REDACTED\", \"port\": 1}`,
		`{"token": 123456, "port": 1}`:               `{"token": REDACTED, "port": 1}`,
		`token="a b"token="c d"`:                     `token="REDACTED"token="REDACTED"`,
		"password=\"a b\nnext line":                  "password=\"REDACTED\nnext line",
		`password="a b\`:                             `password="REDACTED`,
		"Authorization: Basic dXNlcjpwYXNz":          "Authorization: Basic REDACTED",
		"Authorization: Basic abc":                   "Authorization: Basic REDACTED",
		"authorization: dXNlcjpwYXNz":                "authorization: REDACTED",
		`{"Authorization":"Bearer abc"}`:             `{"Authorization":"Bearer REDACTED"}`,
		"sent Basic dXNlcjpwYXNz":                    "sent Basic REDACTED",
		"sent bearer abcdefg1":                       "sent bearer REDACTED",
		"invalid basic constraints":                  "invalid basic constraints",
		"X509v3 Basic Constraints: critical":         "X509v3 Basic Constraints: critical",
		"bearer authentication is needed":            "bearer authentication is needed",
		"check authorization: connection refused":    "check authorization: connection refused",
		"requested: count/secrets=1, limited: 4":     "requested: count/secrets=1, limited: 4",
		`{"max_tokens": 512, "n": 1}`:                `{"max_tokens": 512, "n": 1}`,
		`password=""`:                                `password=""`,
		`Get "https://h/token": dial tcp: refused`:   `Get "https://h/token": dial tcp: refused`,
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
	f.Add(`{"password": "a b"} token='c d' secrets=4 "token": 7 Basic dXNlcjpwYXNz`, "")
	f.Add(`\"token\": \"a\\\" token="b\`, "")
	f.Fuzz(func(t *testing.T, before, token string) {
		whole := token != "" && !strings.ContainsAny(token, " \t\r\n\v\f&\"'<>\u0085\u00a0")
		if out := Redact("http://h/#token=" + token); whole && strings.Contains(out, token) && !strings.Contains("http://h/#token="+Redacted, token) {
			t.Errorf("%q is still in %q", token, out)
		}
		once := Redact(before)
		if twice := Redact(once); once != twice {
			t.Errorf("Redact(%q) = %q, and again %q", before, once, twice)
		}
	})
}

// Every message that is redacted is printable, and a sequence hides no secret.
func TestRedactedIsPrintable(t *testing.T) {
	got := Redact("refused: \x1b]0;x\x07\x1b[2Jto\x1b[0mken=canary\u009b")
	if strings.ContainsFunc(got, printable.Control) || strings.Contains(got, "canary") || !strings.HasPrefix(got, "refused: ") {
		t.Errorf("%q", got)
	}
}
