package openclaw

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tailscale/hujson"
	"pgregory.net/rapid"

	"creel/internal/credential"
)

const canary = "token-canary-5f3a"

var page = Access{Port: 18789, Token: credential.NewSecret(canary), Origins: []string{"http://127.0.0.1:18790", "https://agent.example"}}

// gateway is what OpenClaw would read of a configuration.
type gateway struct {
	Mode string `json:"mode"`
	Bind string `json:"bind"`
	Port int    `json:"port"`
	Auth struct{ Mode, Token string }
	UI   struct {
		Origins  []string `json:"allowedOrigins"`
		BasePath string   `json:"basePath"`
	} `json:"controlUi"`
}

func read(t testing.TB, config []byte) gateway {
	t.Helper()
	text, err := hujson.Standardize(slices.Clone(config))
	if err != nil {
		t.Fatalf("%v in\n%s", err, config)
	}
	var c struct{ Gateway gateway }
	if err := json.Unmarshal(text, &c); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return c.Gateway
}

func TestMerge(t *testing.T) {
	ours := slices.Clone(page.Origins)
	for _, c := range []struct {
		name, config string
		before       []string
		want         func(*gateway)
	}{
		{"nothing", "", nil, nil},
		{"blank", " \n", nil, nil},
		{"empty", "{}", nil, nil},
		{"own token", `{"gateway":{"auth":{"token":"theirs"}}}`, nil, nil},
		{"reference to a token", `{"gateway":{"auth":{"token":{"source":"env","id":"X"}}}}`, nil, nil},
		{"no authentication", `{"gateway":{"auth":{"mode":"none"}}}`, nil, nil},
		{"another port", `{"gateway":{"port":19001}}`, nil, nil},
		{"chosen bind and mode stay", `{"gateway":{"bind":"lan","mode":"remote"}}`, nil, func(g *gateway) { g.Bind, g.Mode = "lan", "remote" }},
		{"base path stays", `{"gateway":{"controlUi":{"basePath":"/x"}}}`, nil, func(g *gateway) { g.UI.BasePath = "/x" }},
		{"somebody else's origin stays", `{"gateway":{"controlUi":{"allowedOrigins":["https://mine.example","http://127.0.0.1:18790"]}}}`, nil,
			func(g *gateway) { g.UI.Origins = append(ours, "https://mine.example") }},
		{"an earlier origin goes", `{"gateway":{"controlUi":{"allowedOrigins":["http://127.0.0.1:18789","https://mine.example"]}}}`,
			[]string{"http://127.0.0.1:18789"}, func(g *gateway) { g.UI.Origins = append(ours, "https://mine.example") }},
		{"comments and commas", "{ // mine\n \"gateway\": {/* port */ \"port\": 1,},\n}", nil, nil},
		{"escaped name", `{"g\u0061teway":{"port":1}}`, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := Merge([]byte(c.config), page, c.before)
			if err != nil {
				t.Fatal(err)
			}
			want := gateway{Mode: "local", Bind: "loopback", Port: 18789}
			want.Auth.Mode, want.Auth.Token, want.UI.Origins = "token", canary, ours
			if c.want != nil {
				c.want(&want)
			}
			if diff := cmp.Diff(want, read(t, out)); diff != "" {
				t.Errorf("(-want +got)\n%s\n%s", diff, out)
			}
			again, err := Merge(out, page, page.Origins)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(out), string(again)); diff != "" {
				t.Errorf("a second merge changes something\n%s", diff)
			}
		})
	}
}

// OpenClaw takes a list of origins or none, and no null.
func TestMergeWithoutOrigins(t *testing.T) {
	bare := page
	bare.Origins = nil
	for config, want := range map[string]string{
		"":   "",
		`{}`: "",
		`{"gateway":{"controlUi":{"allowedOrigins":["http://gone"]}}}`: "[]",
		`{"gateway":{"controlUi":{"allowedOrigins":["http://mine"]}}}`: `["http://mine"]`,
	} {
		out, err := Merge([]byte(config), bare, []string{"http://gone"})
		if err != nil {
			t.Fatal(err)
		}
		text, err := hujson.Standardize(slices.Clone(out))
		if err != nil {
			t.Fatal(err)
		}
		var c struct {
			Gateway struct {
				UI struct {
					Origins json.RawMessage `json:"allowedOrigins"`
				} `json:"controlUi"`
			}
		}
		if err := json.Unmarshal(text, &c); err != nil || string(c.Gateway.UI.Origins) != want {
			t.Errorf("%s becomes origins %s, want %s (%v)", config, c.Gateway.UI.Origins, want, err)
		}
	}
}

// Models are asked through the relay, unless somebody chose otherwise.
func TestMergeModels(t *testing.T) {
	a := page
	a.Relay = "http://127.0.0.1:8787/v1"
	for config, model := range map[string]string{
		"": "creel/inference",
		`{"agents":{"defaults":{"model":"mine/best"}}}`:                                                  "mine/best",
		`{"models":{"providers":{"creel":{"baseUrl":"http://old","apiKey":"x"},"mine":{"apiKey":"y"}}}}`: "creel/inference",
	} {
		out, err := Merge([]byte(config), a, nil)
		if err != nil {
			t.Fatal(err)
		}
		text, err := hujson.Standardize(slices.Clone(out))
		if err != nil {
			t.Fatal(err)
		}
		var c struct {
			Agents struct{ Defaults struct{ Model string } }
			Models struct {
				Providers map[string]struct{ BaseURL, APIKey string }
			}
		}
		if err := json.Unmarshal(text, &c); err != nil {
			t.Fatal(err)
		}
		ours := c.Models.Providers["creel"]
		if c.Agents.Defaults.Model != model || ours.BaseURL != a.Relay || ours.APIKey != "${OPENAI_API_KEY}" {
			t.Errorf("%s becomes %+v", config, c)
		}
		if strings.Contains(config, "mine\":") && c.Models.Providers["mine"].APIKey != "y" {
			t.Errorf("another provider is gone: %s", out)
		}
		if again, err := Merge(out, a, nil); err != nil || string(again) != string(out) {
			t.Errorf("a second merge changes something: %v\n%s", err, again)
		}
	}
}

// What is not about access belongs to somebody else.
func TestMergeKeepsTheRest(t *testing.T) {
	config := `{
	// which model
	"agents": {"defaults": {"model": "openai/gpt"}},
	"gateway": {
		"port": 1, // was free once
		"reload": {"mode": "off"},
	},
}
`
	out, err := Merge([]byte(config), page, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"// which model", `"model": "openai/gpt"`, "// was free once", `"reload"`, `"off"`} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is gone from\n%s", want, out)
		}
	}
}

// A refusal says where and never what: the file holds keys.
func TestMergeRefuses(t *testing.T) {
	for _, c := range []struct{ name, config, says string }{
		{"no JSON", "{\n \"a\": " + canary + "\n}", "line 2"},
		{"keys without quotes", "{gateway: {auth: {token: '" + canary + "'}}}", "line 1"},
		{"cut short", `{"gateway":{"auth":{"token":"` + canary, "line 1"},
		{"a list", `["` + canary + `"]`, "the document is no object"},
		{"gateway is a text", `{"gateway":"` + canary + `"}`, "gateway is no object"},
		{"auth is a list", `{"gateway":{"auth":["` + canary + `"]}}`, "gateway.auth is no object"},
		{"origins are a text", `{"gateway":{"controlUi":{"allowedOrigins":"` + canary + `"}}}`, "allowedOrigins is no list"},
		{"an origin is a number", `{"gateway":{"controlUi":{"allowedOrigins":[1]}}}`, "allowedOrigins"},
		{"twice", `{"gateway":{"port":1},"gateway":{}}`, `"gateway" appears twice`},
		{"twice, escaped", `{"gateway":{"port":1},"g\u0061teway":{}}`, `"gateway" appears twice`},
		{"the port twice", `{"gateway":{"port":1,"port":2}}`, `"port" appears twice`},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := Merge([]byte(c.config), page, nil)
			if err == nil {
				t.Fatalf("merged to %s", out)
			}
			if !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), canary) {
				t.Errorf("says %q, wants %q and nothing of the content", err, c.says)
			}
		})
	}
}

// Whatever an object holds, the access is in the result and everything else is
// what it was.
func TestMergeOfAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		leaf := rapid.OneOf(rapid.Just[any](nil), rapid.Custom(func(t *rapid.T) any { return rapid.String().Draw(t, "s") }),
			rapid.Custom(func(t *rapid.T) any { return rapid.Float64Range(-1e9, 1e9).Draw(t, "n") }))
		names := rapid.OneOf(rapid.SampledFrom([]string{"agents", "tools", "reload", "basePath", "enabled"}), rapid.StringN(1, 8, 16))
		fields := rapid.MapOf(names, leaf)
		config := map[string]any{}
		for k, v := range fields.Draw(t, "top") {
			config[k] = v
		}
		gw := map[string]any{}
		for k, v := range fields.Draw(t, "gateway") {
			gw[k] = v
		}
		delete(gw, "auth")
		delete(gw, "controlUi")
		config["gateway"] = gw
		text, err := json.Marshal(config)
		if err != nil {
			t.Skip("no JSON")
		}
		out, err := Merge(text, page, nil)
		if err != nil {
			t.Fatalf("%v for %s", err, text)
		}
		var before, after map[string]any
		standard, err := hujson.Standardize(slices.Clone(out))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &before); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(standard, &after); err != nil {
			t.Fatal(err)
		}
		have := after["gateway"].(map[string]any)
		if have["auth"].(map[string]any)["token"] != canary {
			t.Fatalf("no token in %s", out)
		}
		for _, k := range []string{"auth", "controlUi", "port", "bind", "mode"} {
			delete(have, k)
			delete(before["gateway"].(map[string]any), k)
		}
		if diff := cmp.Diff(before, after); diff != "" {
			t.Fatalf("(-before +after)\n%s", diff)
		}
	})
}

func FuzzMerge(f *testing.F) {
	for _, s := range []string{"", "{}", `{"gateway":{"auth":{"token":"x"}}}`, "{/**/\"gateway\":{},}", `{"a":1}{}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, config []byte) {
		out, err := Merge(config, page, nil)
		if err != nil {
			return
		}
		if g := read(t, out); g.Auth.Token != canary || g.Port != 18789 || !slices.Contains(g.UI.Origins, "https://agent.example") {
			t.Errorf("merged to %s", out)
		}
	})
}
