package websearch

import (
	"errors"
	"strings"
	"testing"
)

const canary = "brave-key-canary-77"

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		name, agent, content string
		err                  error
		state                State
		provider, says       string
	}{
		{"enabled", "openclaw", `{"tools":{"web":{"search":{"enabled":true,"provider":"brave","apiKey":"` + canary + `"}}}}`, nil, Enabled, "brave", "provider brave"},
		{"enabled, provider chosen by its key", "openclaw", `{"tools":{"web":{"search":{"enabled":true}}}}`, nil, Enabled, "", "enabled"},
		{"comments", "openclaw", "{// mine\n\"tools\":{\"web\":{\"search\":{\"enabled\":true,},},},}", nil, Enabled, "", "enabled"},
		{"switched off", "openclaw", `{"tools":{"web":{"search":{"enabled":false,"provider":"tavily"}}}}`, nil, NotEnabled, "tavily", "not enabled"},
		{"says nothing of enabled", "openclaw", `{"tools":{"web":{"search":{"provider":"tavily"}}}}`, nil, NotEnabled, "tavily", "not enabled"},
		{"no search", "openclaw", `{"tools":{"web":{}}}`, nil, NotConfigured, "", "no tools.web.search"},
		{"null", "openclaw", `{"tools":null}`, nil, NotConfigured, "", "no tools.web.search"},
		{"a key where a name should be", "openclaw", `{"tools":{"web":{"search":{"enabled":true,"provider":"sk-` + strings.Repeat("A", 20) + canary + `"}}}}`, nil, Enabled, "", "enabled"},
		{"a long word", "openclaw", `{"tools":{"web":{"search":{"enabled":true,"provider":"` + strings.Repeat("a", 14) + canary + `"}}}}`, nil, Enabled, "", "enabled"},
		{"another type", "openclaw", `{"tools":{"web":{"search":{"enabled":"` + canary + `"}}}}`, nil, Unreadable, "", "another type"},
		{"no JSON", "openclaw", `{"tools": ` + canary, nil, Unreadable, "", "neither JSON"},
		{"empty", "openclaw", " \n", nil, Unreadable, "", "empty"},
		{"too large", "openclaw", strings.Repeat(" ", MaxSize+1), nil, Unreadable, "", "larger"},
		{"not there", "openclaw", "", errors.New("no such file"), Unreadable, "", "no such file"},

		{"hermes", "hermes", "web:\n  backend: tavily\n", nil, Enabled, "tavily", "tavily"},
		{"hermes, for search alone", "hermes", "web:\n  backend: firecrawl\n  search_backend: exa\n", nil, Enabled, "exa", "exa"},
		{"hermes without a backend", "hermes", "web:\n  extract_char_limit: 5\n", nil, NotEnabled, "", "selects no"},
		{"hermes without web", "hermes", "model: x\n", nil, NotConfigured, "", "no web section"},
		{"hermes with a key as backend", "hermes", "web:\n  backend: " + canary + strings.Repeat("X", 30) + "\n", nil, Enabled, "", "selected"},
		{"hermes of another form", "hermes", "web: [" + canary + "]\n", nil, Unreadable, "", "expected form"},
		{"hermes that does not parse", "hermes", "web: {" + canary, nil, Unreadable, "", "does not parse"},
		{"hermes not there", "hermes", "", errors.New("no such file"), Unreadable, "", "no such file"},

		{"another agent", "console", "{}", nil, Unreadable, "", `"console"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := Check(c.agent, []byte(c.content), c.err)
			if f.State != c.state || f.Provider != c.provider || !strings.Contains(f.Message, c.says) {
				t.Errorf("Check = %+v; want %q, provider %q, saying %q", f, c.state, c.provider, c.says)
			}
			if strings.Contains(f.Message+f.Provider, canary) {
				t.Errorf("repeats the content: %+v", f)
			}
		})
	}
}

func TestPath(t *testing.T) {
	for agent, want := range map[string]string{"openclaw": ".openclaw/openclaw.json", "hermes": ".hermes/config.yaml", "console": ""} {
		if got, ok := Path(agent); got != want || ok != (want != "") {
			t.Errorf("Path(%q) = %q, %v", agent, got, ok)
		}
	}
}

func FuzzCheck(f *testing.F) {
	f.Add("openclaw", []byte(`{"tools":{"web":{"search":{"enabled":true}}}}`))
	f.Add("hermes", []byte("web:\n  backend: tavily\n"))
	f.Fuzz(func(t *testing.T, agent string, content []byte) {
		if got := Check(agent, content, nil); got.Message == "" {
			t.Errorf("no message: %+v", got)
		}
	})
}
