package policy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

const full = `version: 1
filesystem_policy:
  include_workdir: false
  read_only: [/usr, /lib/]
  read_write:
    - /sandbox
landlock:
  compatibility: best_effort
process:
  run_as_user: "1000"
  run_as_group: sandbox
network_policies:
  github:
    name: GitHub
    endpoints:
      - host: api.github.com
        port: 443
        protocol: rest
        enforcement: enforce
        rules:
          - allow: {method: GET, path: "/repos/**", query: {per_page: "1*", sort: {any: [created, updated]}}}
        deny_rules:
          - {method: DELETE, path: /**}
      - host: "*.githubusercontent.com"
        ports: [443, 80]
        access: read-only
        protocol: rest
        allowed_ips: [10.0.0.0/8, 192.168.1.1]
      - host: mcp.example.com
        port: 443
        protocol: mcp
        mcp: {strict_tool_names: false, max_body_bytes: 65536}
        rules: [{allow: {tool: search, params: {q: "*"}}}]
      - {host: graph.example.com, port: 443, protocol: graphql, access: full, graphql_max_body_bytes: 65536,
         persisted_queries: allow_registered, graphql_persisted_queries: {abc: {operation_type: query, fields: [me]}}}
    binaries:
      - {path: /usr/bin/git}
      - path: /usr/**/node
network_middlewares:
  audit:
    middleware: recorder
    on_error: fail_closed
    order: 3
    config: {level: 3, ratio: 0.5, whole: 2.0, big: 18446744073709551615, nested: {list: [a, null, true]}}
    endpoints: {include: ["*.example.com"], exclude: [a.example.com]}
`

func TestParseReadsEverything(t *testing.T) {
	d, err := Parse([]byte(full))
	if err != nil {
		t.Fatal(err)
	}
	no := false
	want := Document{
		Version:    1,
		Filesystem: Filesystem{ReadOnly: []string{"/usr", "/lib"}, ReadWrite: []string{"/sandbox"}},
		Landlock:   Landlock{"best_effort"},
		Process:    Process{"1000", "sandbox"},
		NetworkPolicies: map[string]Rule{"github": {Name: "GitHub", Binaries: []Binary{{Path: "/usr/bin/git"}, {Path: "/usr/**/node"}},
			Endpoints: []Endpoint{
				{Host: "api.github.com", Port: 443, Protocol: "rest", Enforcement: "enforce",
					Rules: []Allow{{Matching{Method: "GET", Path: "/repos/**", Query: map[string]Matcher{
						"per_page": {Glob: "1*"}, "sort": {Any: []string{"created", "updated"}}}}}},
					DenyRules: []Matching{{Method: "DELETE", Path: "/**"}}},
				{Host: "*.githubusercontent.com", Ports: []int{443, 80}, Access: "read-only", Protocol: "rest", AllowedIPs: []string{"10.0.0.0/8", "192.168.1.1"}},
				{Host: "mcp.example.com", Port: 443, Protocol: "mcp", MCP: &MCP{StrictToolNames: &no, MaxBodyBytes: 65536},
					Rules: []Allow{{Matching{Tool: "search", Params: map[string]Matcher{"q": {Glob: "*"}}}}}},
				{Host: "graph.example.com", Port: 443, Protocol: "graphql", Access: "full", GraphQLMaxBodyBytes: 65536, PersistedQueries: "allow_registered",
					GraphQLPersistedQueries: map[string]GraphQL{"abc": {OperationType: "query", Fields: []string{"me"}}}},
			}}},
		NetworkMiddlewares: map[string]Middleware{"audit": {Middleware: "recorder", OnError: "fail_closed", Order: 3,
			Config: map[string]any{"level": int64(3), "ratio": 0.5, "whole": int64(2), "big": uint64(math.MaxUint64),
				"nested": map[string]any{"list": []any{"a", nil, true}}},
			Endpoints: Selector{Include: []string{"*.example.com"}, Exclude: []string{"a.example.com"}}}},
	}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Errorf("document:\n%s", diff)
	}
	for name, read := range map[string]func([]byte) (Document, error){"FromCanonical": FromCanonical, "Parse": Parse} {
		again, err := read(d.Canonical())
		if err != nil {
			t.Fatalf("%s of the canonical form: %v", name, err)
		}
		if diff := cmp.Diff(d, again); diff != "" {
			t.Errorf("%s of the canonical form:\n%s", name, diff)
		}
	}
}

func TestDefault(t *testing.T) {
	d := Default()
	if err := d.Validate(); err != nil {
		t.Fatal(err)
	}
	if d.Landlock.Compatibility != "hard_requirement" || !d.Filesystem.IncludeWorkdir || len(d.NetworkPolicies) != 0 {
		t.Errorf("default %+v", d)
	}
	want := `{"version":1,"filesystem_policy":{"include_workdir":true,"read_only":["/usr","/bin","/sbin","/lib","/lib64","/etc","/opt","/proc"],` +
		`"read_write":["/sandbox","/tmp","/dev/null","/dev/zero","/dev/full","/dev/random","/dev/urandom","/dev/tty","/dev/pts","/dev/ptmx","/dev/shm"]},` +
		`"landlock":{"compatibility":"hard_requirement"},"process":{"run_as_user":"sandbox","run_as_group":"sandbox"}}`
	if got := string(d.Canonical()); got != want {
		t.Errorf("canonical\n%s\nwant\n%s", got, want)
	}
	sum := sha256.Sum256([]byte(want))
	if got := d.Hash(); got != hex.EncodeToString(sum[:]) {
		t.Errorf("hash %s", got)
	}
}

// TestEqualDocumentsHaveOneCanonicalForm: how it was written must not show.
func TestEqualDocumentsHaveOneCanonicalForm(t *testing.T) {
	for name, pair := range map[string][2]string{
		"order of keys":     {"version: 1\nlandlock: {compatibility: best_effort}", "landlock: {compatibility: best_effort}\nversion: 1"},
		"omitted sections":  {"version: 1", "version: 1\nlandlock: {}\nprocess: {}\nnetwork_policies: {}\nnetwork_middlewares: {}"},
		"form of paths":     {"version: 1\nfilesystem_policy: {read_only: [/usr]}", "version: 1\nfilesystem_policy: {read_only: [//usr/./], read_write: []}"},
		"form of a matcher": {matcher(`{glob: "x*"}`), matcher(`"x*"`)},
		"form of numbers":   {configured("1"), configured("1.0")},
	} {
		a, err := Parse([]byte(pair[0]))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		b, err := Parse([]byte(pair[1]))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(string(a.Canonical()), string(b.Canonical())); diff != "" || a.Hash() != b.Hash() {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
	a, b := Default(), Default()
	b.Process.RunAsUser = "1000"
	if a.Hash() == b.Hash() {
		t.Error("different documents have one hash")
	}
}

func matcher(m string) string {
	return endpointYAML("host: a.example.com, port: 1, protocol: rest, rules: [{allow: {query: {q: " + m + "}}}]")
}

func configured(value string) string {
	return "version: 1\nnetwork_middlewares: {m: {middleware: x, config: {v: " + value + "}}}"
}

func endpointYAML(fields string) string {
	return "version: 1\nnetwork_policies:\n  r:\n    endpoints:\n      - {" + fields + "}\n"
}

// TestParseRefuses has the line that the error must name and a part of its text.
func TestParseRefuses(t *testing.T) {
	deep := strings.Repeat("[", 200000) + strings.Repeat("]", 20)
	paths := func(n int) string { return "[" + strings.Repeat("/a, ", n-1) + "/a]" }
	var middlewares strings.Builder
	for i := range MaxMiddlewares + 1 {
		fmt.Fprintf(&middlewares, "  m%d: {middleware: x}\n", i)
	}
	cases := []struct{ name, text, want string }{
		{"empty", "", "one is needed"},
		{"no mapping", "- a", "[1:"},
		{"no version", "landlock: {compatibility: best_effort}", `version: 0 is not 1`},
		{"another version", "\n\nversion: 2", `line 3: version: 2 is not 1`},
		{"unknown key", "version: 1\nnetwork: {}", "[2:1] unknown field"},
		{"unknown key deep inside", endpointYAML("host: a.b, port: 1, prot: rest"), `[5:30] unknown field "prot"`},
		{"repeated key", "version: 1\nversion: 1", "[2:1]"},
		{"wrong type", "version: one", "[1:10]"},
		{"list for a mapping", "version: 1\nlandlock: [a]", "[2:11]"},
		{"syntax", "version: 1\n  a: [", "[1:10]"},
		{"second document", "version: 1\n---\nversion: 1", "2 documents"},
		{"alias", "version: 1\nlandlock: &a {}\nprocess: *a", "line 2: anchors"},
		{"merge key", "version: 1\n<<: {}", "line 2: anchors"},
		{"tag", "version: !!int 1", "line 1: tags"},
		{"deep flow", "version: " + deep, "line 1: nested deeper"},
		{"deep block", "version:\n" + strings.Repeat("- ", 100000) + "x", "line 2: nested deeper"},
		{"too large", "version: 1 #" + strings.Repeat("x", MaxBytes), "larger than"},
		{"not UTF-8", "version: 1 # \xff", "not UTF-8"},

		{"relative path", "version: 1\nfilesystem_policy:\n  read_only:\n    - /usr\n    - usr", `line 5: filesystem_policy.read_only[1]: path "usr" is not absolute`},
		{"path with ..", "version: 1\nfilesystem_policy: {read_only: [/usr/../etc]}", `".."`},
		{"writable root", "version: 1\nfilesystem_policy: {read_write: [/]}", "whole file system"},
		{"writable root in disguise", "version: 1\nfilesystem_policy: {read_write: [//.//]}", "whole file system"},
		{"control character in a path", "version: 1\nfilesystem_policy: {read_only: [\"/a\\nb\"]}", "control characters"},
		{"long path", "version: 1\nfilesystem_policy: {read_only: [/" + strings.Repeat("a", MaxPathLength) + "]}", "4097 characters"},
		{"many paths", "version: 1\nfilesystem_policy: {read_only: " + paths(200) + ", read_write: " + paths(57) + "}", "257 paths"},
		{"landlock", "version: 1\nlandlock: {compatibility: maybe}", "line 2: landlock.compatibility"},
		{"root by name", "version: 1\nprocess: {run_as_user: root}", `process.run_as_user: "root"`},
		{"root by number", "version: 1\nprocess: {run_as_group: \"0\"}", `process.run_as_group: "0"`},
		{"no change", "version: 1\nprocess: {run_as_user: \"4294967295\"}", "4294967294"},
		{"too high", "version: 1\nprocess: {run_as_user: \"4294967296\"}", "4294967294"},
		{"root in disguise", "version: 1\nprocess: {run_as_user: \"00\"}", "4294967294"},

		{"rule without endpoints", "version: 1\nnetwork_policies:\n  r: {endpoints: []}", "line 3: network_policies.r.endpoints: none"},
		{"empty name", "version: 1\nnetwork_policies: {\" \": {endpoints: [{host: a.b, port: 1}]}}", "name is empty"},
		{"relative binary", "version: 1\nnetwork_policies: {r: {endpoints: [{host: a.b, port: 1}], binaries: [{path: git}]}}", "binaries[0].path"},
		{"no host", endpointYAML("port: 1"), "line 5: network_policies.r.endpoints[0].host: is missing"},
		{"bare wildcard", endpointYAML(`host: "*", port: 1`), "two labels"},
		{"wildcard over everything", endpointYAML(`host: "**", port: 1`), "two labels"},
		{"top-level wildcard", endpointYAML(`host: "*.com", port: 1`), "two labels"},
		{"wildcard in the middle", endpointYAML(`host: "a.*.com", port: 1`), "only the first label"},
		{"two wildcards", endpointYAML(`host: "*.*.example.com", port: 1`), "only the first label"},
		{"wildcard at the end of a label", endpointYAML(`host: "a*.example.com", port: 1`), "a wildcard is"},
		{"scheme", endpointYAML(`host: "https://a.example.com", port: 1`), "not a host name"},
		{"host with port", endpointYAML(`host: "a.example.com:443", port: 1`), "not a host name"},
		{"empty label", endpointYAML(`host: "a..example.com", port: 1`), "not a host name"},
		{"long host", endpointYAML(`host: ` + strings.Repeat("abcdefgh.", 30) + `com, port: 1`), "longer than 253"},
		{"no port", endpointYAML("host: a.b"), "endpoints[0].port: is missing"},
		{"port and ports", endpointYAML("host: a.b, port: 1, ports: [2]"), "excludes port"},
		{"port too high", endpointYAML("host: a.b, port: 65536"), "65536 is not"},
		{"negative port", endpointYAML("host: a.b, port: -1"), "-1 is not"},
		{"port zero in a list", endpointYAML("host: a.b, ports: [1, 0]"), "ports[1]: 0 is not"},
		{"protocol", endpointYAML("host: a.b, port: 1, protocol: smtp"), "protocol: \"smtp\""},
		{"tls", endpointYAML("host: a.b, port: 1, tls: maybe"), "tls: \"maybe\""},
		{"enforcement", endpointYAML("host: a.b, port: 1, enforcement: strict"), "enforcement: \"strict\""},
		{"access", endpointYAML("host: a.b, port: 1, access: all"), "access: \"all\""},
		{"access and rules", endpointYAML("host: a.b, port: 1, protocol: rest, access: full, rules: [{allow: {method: GET}}]"), "access: excludes rules"},
		{"access for mcp", endpointYAML("host: a.b, port: 1, protocol: mcp, access: full"), "not for the protocol mcp"},
		{"access for json-rpc", endpointYAML("host: a.b, port: 1, protocol: json-rpc, access: full"), "not for the protocol json-rpc"},
		{"empty rules", endpointYAML("host: a.b, port: 1, protocol: rest, rules: []"), "rules: is empty"},
		{"empty deny rules", endpointYAML("host: a.b, port: 1, protocol: rest, deny_rules: []"), "deny_rules: is empty"},
		{"rule that says nothing", endpointYAML("host: a.b, port: 1, protocol: rest, rules: [{allow: {}}]"), "rules[0].allow: says nothing"},
		{"rules without inspection", endpointYAML("host: a.b, port: 1, rules: [{allow: {method: GET}}]"), "rules need one of"},
		{"rules over tcp", endpointYAML("host: a.b, port: 1, protocol: tcp, deny_rules: [{method: GET}]"), "rules need one of"},
		{"empty matcher", matcher("{}"), "query.q: is empty"},
		{"matcher of both kinds", matcher("{glob: a, any: [b]}"), "excludes any"},
		{"unknown key of a matcher", matcher("{blob: a}"), "unknown field"},
		{"loopback", endpointYAML("host: a.b, port: 1, allowed_ips: [127.0.0.5]"), "no policy opens"},
		{"link-local", endpointYAML("host: a.b, port: 1, allowed_ips: [169.254.169.254/32]"), "no policy opens"},
		{"everything", endpointYAML("host: a.b, port: 1, allowed_ips: [0.0.0.0/0]"), "no policy opens"},
		{"everything in IPv6", endpointYAML("host: a.b, port: 1, allowed_ips: [\"::/0\"]"), "no policy opens"},
		{"loopback in disguise", endpointYAML("host: a.b, port: 1, allowed_ips: [\"::ffff:127.0.0.1\"]"), "no policy opens"},
		{"sloppy network", endpointYAML("host: a.b, port: 1, allowed_ips: [128.0.0.1/0]"), "no policy opens"},
		{"zone", endpointYAML("host: a.b, port: 1, allowed_ips: [\"fe80::1%eth0\"]"), "neither an address"},
		{"no address", endpointYAML("host: a.b, port: 1, allowed_ips: [private]"), "neither an address"},
		{"signing", endpointYAML("host: a.b, port: 1, signing_service: s3"), "credential_signing: is missing"},
		{"binding", endpointYAML("host: a.b, port: 1, credential_binding: {provider: \"\"}"), "credential_binding.provider"},
		{"mcp options", endpointYAML("host: a.b, port: 1, mcp: {}"), "only for the protocol mcp"},
		{"json-rpc options", endpointYAML("host: a.b, port: 1, json_rpc: {}"), "only for the protocol json-rpc"},
		{"graphql options", endpointYAML("host: a.b, port: 1, graphql_max_body_bytes: 1"), "is not graphql"},

		{"many middlewares", "version: 1\nnetwork_middlewares:\n" + middlewares.String(), "line 2: network_middlewares: 11 are given"},
		{"nameless middleware", "version: 1\nnetwork_middlewares: {m: {order: 1}}", "middleware: is missing"},
		{"middleware's hosts", "version: 1\nnetwork_middlewares: {m: {middleware: x, endpoints: {include: [\"*\"]}}}", "include[0]"},
		{"infinite number", configured(".inf"), "not finite"},
		{"no number", configured(".nan"), "not finite"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			begin := time.Now()
			d, err := Parse([]byte(c.text))
			if err == nil {
				t.Fatalf("accepted as %s", d.Canonical())
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %q lacks %q", err, c.want)
			}
			if took := time.Since(begin); took > 5*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
}

func TestParseAccepts(t *testing.T) {
	for name, text := range map[string]string{
		"a name":               endpointYAML("host: localhost, port: 1"),
		"an address":           endpointYAML(`host: "2001:db8::1", port: 65535`),
		"one level":            endpointYAML(`host: "*.example.com", port: 1`),
		"all levels":           endpointYAML(`host: "**.example.com", port: 1`),
		"part of a label":      endpointYAML(`host: "*-api.example.com", port: 1`),
		"no inspection":        endpointYAML("host: a.b, port: 1, access: full, tls: skip"),
		"json-rpc":             endpointYAML("host: a.b, port: 1, protocol: json-rpc, json_rpc: {max_body_bytes: 1}"),
		"private network":      endpointYAML("host: a.b, port: 1, allowed_ips: [10.0.0.0/8, \"fd00::/8\"]"),
		"signing":              endpointYAML("host: a.b, port: 1, credential_signing: sigv4, signing_service: s3, signing_region: x"),
		"as many paths as may": "version: 1\nfilesystem_policy: {read_only: [" + strings.Repeat("/a, ", MaxPaths-1) + "/a]}",
		"the highest user":     "version: 1\nprocess: {run_as_user: \"4294967294\"}",
	} {
		if _, err := Parse([]byte(text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestValidateReportsEverything(t *testing.T) {
	d := Default()
	d.Version = 3
	d.Process.RunAsUser = "root"
	d.Filesystem.ReadWrite = []string{"/"}
	var invalid *Invalid
	if err := d.Validate(); !errors.As(err, &invalid) || len(invalid.Problems) != 3 {
		t.Fatalf("error %v, want three problems", err)
	}
	if _, err := FromCanonical(d.Canonical()); !errors.As(err, &invalid) {
		t.Errorf("FromCanonical: %v", err)
	}
}

func TestFromCanonicalRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":       "",
		"unknown field": `{"version":1,"x":1}`,
		"deeper":        `{"version":1,"landlock":{"x":1}}`,
		"more behind":   `{"version":1}{"version":1}`,
		"too large":     `{"version":1}` + strings.Repeat(" ", MaxBytes),
		"huge number":   `{"version":1,"network_middlewares":{"m":{"middleware":"x","config":{"a":1e999}}}}`,
	} {
		if d, err := FromCanonical([]byte(text)); err == nil {
			t.Errorf("%s: accepted as %s", name, d.Canonical())
		}
	}
}

// TestInsideAnotherDocument: a policy keeps its defaults and its strictness where
// it is a part of something larger.
func TestInsideAnotherDocument(t *testing.T) {
	type outer struct {
		Policy *Document `yaml:"policy" json:"policy"`
	}
	var o outer
	if err := yaml.UnmarshalWithOptions([]byte("policy: {version: 1}"), &o, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	if o.Policy == nil || !bytes.Equal(o.Policy.Canonical(), Default().Canonical()) {
		t.Errorf("policy %+v", o.Policy)
	}
	if err := yaml.UnmarshalWithOptions([]byte("policy:\n  version: 1\n  x: 1"), &o, yaml.Strict()); err == nil || !strings.Contains(err.Error(), "[3:3]") {
		t.Errorf("unknown key: %v", err)
	}
	d, err := Parse([]byte(full))
	if err != nil {
		t.Fatal(err)
	}
	text, err := yaml.Marshal(outer{&d})
	if err != nil {
		t.Fatal(err)
	}
	var back outer
	if err := yaml.UnmarshalWithOptions(text, &back, yaml.Strict()); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if diff := cmp.Diff(d, *back.Policy); diff != "" {
		t.Errorf("written as YAML and read again:\n%s", diff)
	}
	if err := json.Unmarshal([]byte(`{"policy":{"version":1,"x":1}}`), &back); err == nil {
		t.Error("an unknown field in JSON was accepted")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(full))
	f.Add([]byte("version: 1"))
	f.Add(Default().Canonical())
	f.Add([]byte(matcher("x")))
	f.Add([]byte(configured("[1, {a: -0.0}, 1e300, '\\u2028', \"\\u0000\"]")))
	f.Add([]byte("version: 1\nlandlock: &a {}\nprocess: *a"))
	f.Add([]byte("? ? ? - - - [{"))
	f.Add([]byte("version: 1\nnetwork_policies:\n  <<: x\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := Parse(text)
		if err != nil {
			return
		}
		stable(t, d)
	})
}

func FuzzFromCanonical(f *testing.F) {
	d, err := Parse([]byte(full))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(d.Canonical())
	f.Add([]byte(`{"version":1,"network_middlewares":{"m":{"middleware":"x","config":{"a":-0.0,"b":1e20,"c":12345678901234567890}}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := FromCanonical(text)
		if err != nil {
			return
		}
		stable(t, d)
	})
}

// stable: the canonical form of what a canonical form says is that form.
func stable(t *testing.T, d Document) {
	t.Helper()
	canonical := d.Canonical()
	again, err := FromCanonical(canonical)
	if err != nil {
		t.Fatalf("canonical form is refused: %v\n%s", err, canonical)
	}
	if !bytes.Equal(again.Canonical(), canonical) || again.Hash() != d.Hash() {
		t.Fatalf("canonical form\n%s\nbecame\n%s", canonical, again.Canonical())
	}
}

func BenchmarkParse(b *testing.B) {
	for b.Loop() {
		if _, err := Parse([]byte(full)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHash(b *testing.B) {
	d := Default()
	for b.Loop() {
		d.Hash()
	}
}
