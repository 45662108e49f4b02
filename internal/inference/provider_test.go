package inference_test

import (
	"net/url"
	"strings"
	"testing"

	"creel/internal/advisory"
	"creel/internal/inference"
)

func TestLookup(t *testing.T) {
	for name, want := range map[string]string{"cloud": "build", "BUILD": "build", " openai ": "openai", "none": "none", "custom": "custom"} {
		p, err := inference.Lookup(name)
		if err != nil || p.Name != want {
			t.Errorf("Lookup(%q) = %q, %v, want %q", name, p.Name, err, want)
		}
	}
	for name, want := range map[string]string{"": "provider-unknown", "clippy": "provider-unknown", "anthropic": "provider-unsupported"} {
		_, err := inference.Lookup(name)
		problem, ok := advisory.Of(err)
		if !ok || problem.ID != want || !strings.Contains(err.Error(), "ollama") {
			t.Errorf("Lookup(%q): %v, want advisory %s with the valid names", name, err, want)
		}
	}
}

func TestAdvisoriesOfClassesExist(t *testing.T) {
	for _, c := range []inference.Class{inference.ClassTransport, inference.ClassCredential, inference.ClassModel, inference.ClassEndpoint, inference.ClassNone} {
		if _, ok := advisory.Lookup(advisory.ForInferenceClass(string(c))); !ok {
			t.Errorf("class %s has no advisory", c)
		}
	}
}

func TestNormalizeURL(t *testing.T) {
	good := map[string]string{
		"http://Host:8000":                       "http://host:8000/v1",
		"http://host:8000/":                      "http://host:8000/v1",
		"https://h/v1/":                          "https://h/v1",
		"https://h/v1beta/openai":                "https://h/v1beta/openai",
		" https://h/v1/chat/completions ":        "https://h/v1",
		"https://h/v1/models/":                   "https://h/v1",
		"http://[::1]:11434/v1":                  "http://[::1]:11434/v1",
		"https://h/openai/deployments/a%2Fb/v1/": "https://h/openai/deployments/a%2Fb/v1",
	}
	for raw, want := range good {
		got, err := inference.NormalizeURL(raw)
		if err != nil || got != want {
			t.Errorf("NormalizeURL(%q) = %q, %v, want %q", raw, got, err, want)
		}
	}
	for _, raw := range []string{"", "host/v1", "ftp://h/", "https://", "https://:443/v1", "https://u@h/", "https://h/?key=1", "https://h/#x", "http://h:0/", "http://h:99999", "http://h\x00/"} {
		if got, err := inference.NormalizeURL(raw); err == nil {
			t.Errorf("NormalizeURL(%q) = %q, want an error", raw, got)
		}
	}
}

func TestJoinDoesNotDoubleTheVersion(t *testing.T) {
	for base, want := range map[string]string{
		"https://h/v1":            "https://h/v1/chat/completions",
		"https://h/v1/":           "https://h/v1/chat/completions",
		"https://h/v1beta/openai": "https://h/v1beta/openai/chat/completions",
	} {
		if got := inference.Join(base, "/v1/chat/completions"); got != want {
			t.Errorf("Join(%q) = %q, want %q", base, got, want)
		}
	}
}

func TestCheckModel(t *testing.T) {
	for _, id := range []string{"gpt-5", "nvidia/llama-3.1:70b", "hf.co/a/b:Q4_K_M", "模型"} {
		if err := inference.CheckModel(id); err != nil {
			t.Errorf("CheckModel(%q): %v", id, err)
		}
	}
	for _, id := range []string{"", "a b", "a\n", "\x00", "a\u00a0b", "\xff", strings.Repeat("a", 257)} {
		if inference.CheckModel(id) == nil {
			t.Errorf("CheckModel(%q) accepts it", id)
		}
	}
}

// What NormalizeURL accepts is stable, and a request can be made of it.
func FuzzNormalizeURL(f *testing.F) {
	for _, s := range []string{"http://h", "https://h:1/v1/chat/completions", "http://[::1%25eth0]/", "https://h/%zz", "http://h//models"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		once, err := inference.NormalizeURL(raw)
		if err != nil {
			return
		}
		u, err := url.Parse(inference.Join(once, "/v1/models"))
		if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || !strings.HasSuffix(u.Path, "/models") {
			t.Fatalf("%q became %q, which cannot be asked: %v", raw, once, err)
		}
		if twice, err := inference.NormalizeURL(once); err != nil || twice != once {
			t.Fatalf("%q became %q and then %q, %v", raw, once, twice, err)
		}
	})
}

// Whatever a provider says, the sentence made of it is one bounded line.
func FuzzClassify(f *testing.F) {
	f.Add(404, "application/json", []byte(`{"error":{"message":"model x not found"}}`))
	f.Add(401, "text/html", []byte("<html>"))
	f.Add(400, "", []byte(`{"error":"text","detail":[1]}`))
	f.Add(200, "application/json", []byte(`{"error":{"code":3,"message":"a\nb"}}`))
	f.Fuzz(func(t *testing.T, status int, kind string, body []byte) {
		class, message := inference.Classify(inference.Answer{Status: status, ContentType: kind, Body: body}, "m")
		if class == inference.ClassOK || class == "" || message == "" || len(message) > 400 || strings.ContainsAny(message, "\n\r\x1b") {
			t.Fatalf("class %q, message %q", class, message)
		}
	})
}
