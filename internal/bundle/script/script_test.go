package script_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"creel/internal/bundle"
	"creel/internal/bundle/script"
	"creel/test/require"
)

var update = flag.Bool("update", false, "write the scripts in testdata")

// variants are scripts of all kinds: each has other blocks.
func variants(t testing.TB) map[string]string {
	t.Helper()
	list := map[string]string{}
	for _, g := range []bundle.Generation{bundle.Generation1, bundle.Generation2} {
		want := requirements(g, "")
		list[fmt.Sprintf("generation-%d", g)] = generate(t, script.Options{Want: want})
		for _, name := range want.Stored() {
			plan := bundle.PlanMissingOf(want, []string{name})
			list[fmt.Sprintf("generation-%d %s", g, name)] = generate(t, script.Options{Want: want, Plan: &plan})
		}
	}
	other := requirements(bundle.Generation2, "prod")
	other.Names, other.Without = map[string]string{bundle.Server: "a.b", bundle.Client: "1"}, []string{bundle.JWT}
	other.Hosts, other.Service = []string{"gw.example.com"}, "gw"
	list["another gateway"] = generate(t, script.Options{Want: other, StatefulSet: "gw", Gateway: "Prod_1", Context: "it's mine"})
	return list
}

func TestGolden(t *testing.T) {
	all := variants(t)
	for file, text := range map[string]string{"generation-1.sh": all["generation-1"], "generation-2.sh": all["generation-2"],
		"client-only.sh": all["generation-1 openshell-client-tls"]} {
		path := filepath.Join("testdata", file)
		if *update {
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		have, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(strings.Split(string(have), "\n"), strings.Split(text, "\n")); diff != "" {
			t.Errorf("%s (-have +want), after looking run: go test ./internal/bundle/script -run Golden -update\n%s", path, diff)
		}
	}
}

func TestShellcheck(t *testing.T) {
	path, err := exec.LookPath("shellcheck")
	require.Feature(t, "shellcheck", err == nil, "apt-get install shellcheck")
	for name, text := range variants(t) {
		cmd := exec.CommandContext(t.Context(), path, "-s", "sh", "-")
		cmd.Stdin = strings.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

func TestNothingMissing(t *testing.T) {
	for _, g := range []bundle.Generation{bundle.Generation1, bundle.Generation2} {
		plan := bundle.PlanMissingOf(requirements(g, ""), []string{"noise", " "})
		if text := generate(t, script.Options{Want: requirements(g, ""), Plan: &plan}); text != "exit 0\n" {
			t.Errorf("generation %d: %q", g, text)
		}
	}
}

// What is not needed is not in the script.
func TestBlocks(t *testing.T) {
	blocks := []string{"issue_server_tls()", "issue_client_bundle()", "issue_tls_bundle()", "issue_handshake()", "issue_sandbox_key()",
		"prepare()", "replace()", "roll()"}
	for _, c := range []struct {
		generation bundle.Generation
		missing    []string
		want       string // one digit a block
	}{
		{1, []string{"openshell-client-tls", "noise", " openshell-server-tls ", ""}, "11000111"},
		{1, []string{"openshell-server-client-ca"}, "01000111"},
		{1, []string{"openshell-server-tls"}, "10000100"},
		{1, []string{"openshell-ssh-handshake"}, "00010000"},
		{2, []string{"openshell-server-tls"}, "00100111"},
		{2, []string{"openshell-jwt-keys"}, "00001000"},
		{2, []string{"openshell-jwt-keys", "openshell-client-tls"}, "00101111"},
	} {
		plan := bundle.PlanMissingOf(requirements(c.generation, ""), c.missing)
		text := generate(t, script.Options{Want: requirements(c.generation, ""), Plan: &plan})
		got := ""
		for _, b := range blocks {
			got += map[bool]string{true: "1", false: "0"}[strings.Contains(text, "\n"+b+" {")]
		}
		if got != c.want {
			t.Errorf("%d %q: blocks %s, want %s", c.generation, c.missing, got, c.want)
		}
	}
}

func TestPlansThatAreNotForAScript(t *testing.T) {
	k1, k2 := requirements(bundle.Generation1, ""), requirements(bundle.Generation2, "")
	broken := issue(t, k1)
	delete(broken.Secrets[bundle.ServerTLS].Data, "tls.key")
	renamed := k2
	renamed.Names = map[string]string{bundle.JWT: "keys"}
	incomplete := bundle.PlanMissingOf(k1, []string{bundle.ServerTLS})
	incomplete.Missing = append(incomplete.Missing, bundle.SSHHandshake)
	for _, c := range []struct {
		name, err string
		want      bundle.Requirements
		plan      bundle.Plan
	}{
		{"another generation", "the plan is for generation 1", k2, bundle.PlanMissingOf(k1, k1.Stored())},
		{"a directory", "the plan is for generation 2 (directory)", k2, bundle.PlanMissing(2, []string{"server"})},
		{"another gateway", `it has a step for "jwt" ("openshell-jwt-keys")`, renamed, bundle.PlanMissingOf(k2, k2.Stored())},
		{"something broken", "the plan replaces openshell-server-tls, which is incomplete", k1, bundle.MakePlan(bundle.Inspect(broken, k1, time.Now()))},
		{"no step", `no step for "openshell-ssh-handshake"`, k1, incomplete},
		{"requirements of a directory", "there is no generation 2 (directory)", bundle.Requirements{Generation: 2, Layout: bundle.Directory}, bundle.Plan{}},
		{"no generation", "there is no generation 3", bundle.Requirements{Generation: 3}, bundle.Plan{}},
	} {
		text, err := script.Generate(script.Options{Want: c.want, Plan: &c.plan, Gateway: gatewayName})
		if err == nil || !strings.Contains(err.Error(), c.err) || !strings.HasPrefix(err.Error(), "generate script: ") || text != "" {
			t.Errorf("%s: %v, %q", c.name, err, text)
		}
	}
}

// hostile are texts that a shell, YAML, JSON or OpenSSL would read as more than
// a name.
func hostile() []string {
	return []string{"'", `"`, "`touch pwned`", "$(touch pwned)", "${HOME}", "a;touch pwned", "a b", "a\nb", "a\ttouch", "\x00", "-n", "--all",
		"a'$(touch pwned)'", "a\\", "a/../b", "../../x", "a: b", "{{.}}", "<% .Gateway %>", "a#b", "a|b", "a&b", "a>b", "*", "?", "~", "ä", "a\u202eb",
		"a,DNS:evil", "a=b", "[x]", strings.Repeat("a", 300)}
}

func TestHostileNames(t *testing.T) {
	for _, name := range hostile() {
		for field, o := range map[string]script.Options{
			"namespace":       {Want: requirements(1, name)},
			"service":         {Want: bundle.Requirements{Generation: 1, Service: name}},
			"service of 2":    {Want: bundle.Requirements{Generation: 2, Service: name}},
			"StatefulSet":     {Want: requirements(1, ""), StatefulSet: name},
			"gateway":         {Want: requirements(1, ""), Gateway: name},
			"secret":          {Want: bundle.Requirements{Generation: 1, Names: map[string]string{bundle.ServerCA: name}}},
			"token key":       {Want: bundle.Requirements{Generation: 2, Names: map[string]string{bundle.JWT: name}}},
			"host":            {Want: bundle.Requirements{Generation: 1, Hosts: []string{name}}},
			"host and others": {Want: bundle.Requirements{Generation: 2, Hosts: []string{"a.example.com", name + ".example.com"}}},
		} {
			if field == "host and others" && name == "*" {
				continue // a wildcard is a name
			}
			if o.Gateway == "" {
				o.Gateway = gatewayName
			}
			if text, err := script.Generate(o); err == nil {
				t.Errorf("%s %q is taken:\n%.0s", field, name, text)
			}
		}
	}
	for field, o := range map[string]script.Options{
		"two secrets of one name": {Want: bundle.Requirements{Generation: 1, Names: map[string]string{bundle.ServerCA: bundle.ServerTLS}}, Gateway: gatewayName},
		"no gateway":              {Want: requirements(1, "")},
		"an address with a zone":  {Want: bundle.Requirements{Generation: 1, Hosts: []string{"fe80::1%eth0"}}, Gateway: gatewayName},
		"a namespace with a dot":  {Want: requirements(1, "a.b"), Gateway: gatewayName},
		"a secret that leaves no room for its backup": {Want: bundle.Requirements{Generation: 1,
			Names: map[string]string{bundle.ServerCA: strings.Repeat("a", 238)}}, Gateway: gatewayName},
		"a context on two lines": {Want: requirements(1, ""), Gateway: gatewayName, Context: "a\nb"},
	} {
		if _, err := script.Generate(o); err == nil {
			t.Errorf("%s is taken", field)
		}
	}
}

// A context may be called anything; it reaches kubectl as it is.
func TestHostileContext(t *testing.T) {
	for _, s := range shells(t) {
		m := newMachine(t, s, "/bin/false", "/nonexistent")
		for _, name := range hostile() {
			if strings.ContainsAny(name, "\n\t\x00") {
				continue
			}
			m.run(generate(t, script.Options{Want: requirements(1, ""), Context: name})).must(t, 4, "", "could not be asked")
			if !strings.Contains(m.arguments(), "\n--context="+name+"\n--namespace=openshell\n") {
				t.Errorf("%s: kubectl was not given the context %q", s.name, name)
			}
		}
		if found, err := filepath.Glob(filepath.Join(m.home, "pwned")); err != nil || len(found) > 0 {
			t.Errorf("%s: %q, %v", s.name, found, err)
		}
	}
}

// The script reckons with dates by itself, since POSIX date does not.
func TestDates(t *testing.T) {
	text := generate(t, script.Options{Want: requirements(1, "")})
	functions, ok := strings.CutSuffix(text, "main </dev/null\n")
	if !ok {
		t.Fatal("the script does not end with main")
	}
	var begins, want strings.Builder
	for at := time.Date(1999, 12, 31, 23, 59, 59, 0, time.UTC); at.Year() < 2105; at = at.Add(37*24*time.Hour + 3*time.Hour + 61*time.Second) {
		for _, days := range []int{1, 365, 3650} {
			fmt.Fprintf(&begins, "%s %d\n", at.Format("20060102150405"), days)
			fmt.Fprintf(&want, "%s\n", at.AddDate(0, 0, days).Format("20060102150405Z"))
		}
	}
	for _, s := range shells(t) {
		m := newMachine(t, s, "/bin/false", "/nonexistent")
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		cmd := m.command(ctx, m.file(functions+"while read -r begin days; do after \"$days\"; echo; done\n"))
		cmd.Stdin = strings.NewReader(begins.String())
		out := m.finish(cmd)
		cancel()
		out.must(t, 0, "", "")
		if diff := cmp.Diff(strings.Fields(want.String()), strings.Fields(out.stdout)); diff != "" {
			t.Errorf("%s: %s", s.name, diff)
		}
	}
}
