// Package test holds the house rules that a compiler does not know: which
// package may import which, and how packages are documented and named.
package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

const module = "creel/"

type listed struct {
	ImportPath, Dir, Name     string
	Imports, Deps             []string
	GoFiles, IgnoredGoFiles   []string
	TestGoFiles, XTestGoFiles []string
}

// packages is every package of the module as `go list` sees it on Linux.
var packages = sync.OnceValues(func() ([]listed, error) {
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Dir,Name,Imports,Deps,GoFiles,IgnoredGoFiles,TestGoFiles,XTestGoFiles", "./...")
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "GOOS=linux")
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	var all []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
})

func all(t *testing.T) []listed {
	t.Helper()
	ps, err := packages()
	if err != nil {
		t.Fatal(err)
	}
	if len(ps) < 20 {
		t.Fatalf("go list found %d packages", len(ps))
	}
	return ps
}

// matches reports whether an import path is pattern, or below it when the
// pattern ends in "/...".
func matches(pattern, importPath string) bool {
	if root, ok := strings.CutSuffix(pattern, "/..."); ok {
		return importPath == root || strings.HasPrefix(importPath, root+"/")
	}
	return importPath == pattern
}

func matchesAny(patterns []string, importPath string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, importPath) })
}

// rule: the packages of from do not import those of not, except those of but.
type rule struct {
	from, not, but []string
	deep           bool // neither directly nor through others
	reason         string
}

var rules = []rule{
	{
		from:   []string{"creel/internal/health", "creel/internal/advisory", "creel/internal/budget", "creel/internal/state", "creel/internal/version"},
		not:    []string{"creel/..."},
		reason: "leaves are what everything else stands on",
	},
	{
		from:   []string{"creel/internal/health", "creel/internal/advisory"},
		not:    []string{"os", "net", "net/http", "os/exec", "syscall"},
		reason: "a verdict and a table of advisories do no I/O",
	},
	{
		from: []string{"creel/internal/bundle", "creel/internal/bundle/script", "creel/internal/policy", "creel/internal/dashboard", "creel/internal/sandbox",
			"creel/internal/gateway/release", "creel/internal/gateway/kube/rollout"},
		not: []string{"os", "net/http", "os/exec", "syscall", "golang.org/x/sys/...", "google.golang.org/grpc/...", "k8s.io/...", "github.com/moby/...",
			"creel/internal/state", "creel/internal/host"},
		reason: "pure packages decide; others act",
	},
	{
		from: []string{"creel/internal/cli/...", "creel/internal/onboard/...", "creel/internal/layer", "creel/internal/desired"},
		not: []string{"creel/internal/gateway/...", "creel/internal/server/...", "creel/internal/sandbox/...", "creel/internal/supervisor/...",
			"creel/internal/bundle/...", "creel/internal/app", "creel/api/..."},
		but:    []string{"creel/internal/gateway", "creel/internal/sandbox", "creel/internal/bundle", "creel/internal/bundle/script"},
		reason: "commands and layers see contracts, never a concrete runtime, driver or store",
	},
	{
		from:   []string{"creel/internal/gateway", "creel/internal/layer", "creel/internal/bundle", "creel/internal/sandbox"},
		not:    []string{"creel/api/...", "google.golang.org/grpc/...", "google.golang.org/protobuf/..."},
		deep:   true,
		reason: "contracts carry no generated code",
	},
	{
		from: []string{"creel/internal/gateway/classify"},
		not: []string{"creel/...", "os/...", "net/...", "syscall", "io/fs", "io/ioutil", "path/filepath", "log/...", "fmt", "plugin", "time",
			"internal/poll", "internal/syscall/...", "golang.org/x/...", "google.golang.org/..."},
		deep:   true,
		reason: "text is judged by what it says; a classifier that could ask would be tempted to",
	},
	{
		from: []string{"creel/internal/gateway/embedded", "creel/internal/gateway/openshell", "creel/internal/gateway/external", "creel/internal/gateway/k3s", "creel/internal/gateway/kube/...",
			"creel/internal/gateway/launch", "creel/internal/gateway/client", "creel/internal/gateway/evidence", "creel/internal/gateway/upgrade", "creel/internal/gateway/service"},
		not:    []string{"creel/internal/server/...", "creel/internal/supervisor/...", "creel/internal/cli/...", "creel/internal/layer", "creel/internal/onboard/..."},
		reason: "a runtime is given its server; it knows neither that nor who uses it",
	},
	{
		from:   []string{"creel/internal/systemd"},
		not:    []string{"creel/internal/gateway/...", "creel/internal/state", "creel/internal/desired", "creel/internal/cli/...", "creel/internal/layer", "creel/internal/server/..."},
		reason: "it speaks with systemd and knows nothing of gateways",
	},
	{
		from:   []string{"creel/internal/server/..."},
		not:    []string{"creel/internal/gateway/...", "creel/internal/sandbox/process", "creel/internal/supervisor/...", "creel/internal/cli/...", "creel/internal/layer", "creel/internal/onboard/..."},
		but:    []string{"creel/internal/gateway", "creel/internal/gateway/client"}, // servertest shows the server as clients see it
		reason: "the server reaches sandboxes through the driver's contract and the supervisor's session",
	},
	{
		from:   []string{"creel/internal/supervisor/..."},
		not:    []string{"creel/internal/server/...", "creel/internal/gateway/...", "creel/internal/cli/...", "creel/internal/layer", "creel/internal/onboard/..."},
		reason: "the supervisor outlives the gateway and needs nothing of it but its socket",
	},
	{
		from:   []string{"creel/..."},
		not:    []string{"creel/internal/app"},
		but:    nil,
		reason: "the composition root is at the top",
	},
	{
		from:   []string{"creel/..."},
		not:    []string{"github.com/spf13/viper/...", "github.com/sirupsen/logrus/...", "github.com/stretchr/testify/...", "gopkg.in/yaml.v2/...", "gopkg.in/yaml.v3/...", "github.com/docker/docker/...", "io/ioutil"},
		reason: "architecture: one library a purpose, no assertion framework, no global configuration",
	},
}

// onlyIn: the packages of what are imported nowhere but in in.
type onlyIn struct {
	what, in []string
	reason   string
}

var homes = []onlyIn{
	{[]string{"creel/api/..."}, []string{"creel/api/...", "creel/internal/server/...", "creel/internal/gateway/client", "creel/internal/gateway/evidence", "creel/internal/supervisor/session"},
		"generated types are converted at the edge"},
	{[]string{"creel/internal/gateway/client"}, []string{"creel/internal/app", "creel/internal/gateway/...", "creel/internal/server/servertest"}, "the client is a runtime's to hand out"},
	{[]string{"modernc.org/sqlite/..."}, []string{"creel/internal/server/store"}, "one package knows the database"},
	{[]string{"github.com/spf13/cobra/..."}, []string{"creel/internal/cli/...", "creel/cmd/..."}, "commands are the command line's"},
	{[]string{"github.com/charmbracelet/..."}, []string{"creel/internal/cli/ui"}, "colours and widths are the terminal's"},
	{[]string{"github.com/landlock-lsm/...", "github.com/elastic/go-seccomp-bpf/...", "github.com/vishvananda/..."}, []string{"creel/internal/supervisor/confine/..."}, "one package confines"},
	{[]string{"k8s.io/..."}, []string{"creel/internal/kubeapi", "creel/internal/bundle/kubestore", "creel/internal/sandbox/kube"}, "one package reaches a cluster"},
	{[]string{"creel/internal/kubeapi"}, []string{"creel/internal/gateway/kube", "creel/internal/bundle/kubestore", "creel/internal/sandbox/kube"}, "three know what is in a cluster"},
	{[]string{"github.com/moby/...", "github.com/containerd/..."}, []string{"creel/internal/host/engine"}, "one package reaches container engines"},
	{[]string{"creel/internal/supervisor/confine/..."}, []string{"creel/internal/app", "creel/internal/supervisor/...", "creel/internal/sandbox/process"}, "confinement belongs to supervisors and their driver"},
	{[]string{"github.com/pires/go-proxyproto/..."}, []string{"creel/internal/dashboard/preface"}, "one package knows what stands in front of a connection"},
	{[]string{"github.com/pelletier/go-toml/..."}, []string{"creel/internal/gateway/openshell"}, "one program of somebody else's is configured in TOML"},
	{[]string{"filippo.io/age/..."}, []string{"creel/internal/credential"}, "one package encrypts at rest"},
}

func TestImportDirection(t *testing.T) {
	for _, p := range all(t) {
		for _, v := range violations(p) {
			t.Error(v)
		}
	}
}

func violations(p listed) []string {
	var found []string
	for _, r := range rules {
		if !matchesAny(r.from, p.ImportPath) || isTop(p.ImportPath) {
			continue
		}
		imports := p.Imports
		if r.deep {
			imports = p.Deps
		}
		for _, i := range imports {
			if i != p.ImportPath && matchesAny(r.not, i) && !matchesAny(r.but, i) {
				found = append(found, p.ImportPath+" imports "+i+": "+r.reason)
			}
		}
	}
	for _, h := range homes {
		if matchesAny(h.in, p.ImportPath) {
			continue
		}
		for _, i := range p.Imports {
			if matchesAny(h.what, i) && !strings.HasPrefix(p.ImportPath, "creel/test/") {
				found = append(found, p.ImportPath+" imports "+i+": "+h.reason)
			}
		}
	}
	return found
}

// isTop: the program and its tests put everything together.
func isTop(importPath string) bool {
	return importPath == "creel/internal/app" || strings.HasPrefix(importPath, "creel/cmd/") || strings.HasPrefix(importPath, "creel/test")
}

// The rules bite: each of these imports is one that somebody might write.
func TestImportRulesBite(t *testing.T) {
	for _, c := range []struct{ from, imports string }{
		{"creel/internal/health", "creel/internal/state"},
		{"creel/internal/advisory", "net"},
		{"creel/internal/policy", "os"},
		{"creel/internal/bundle", "creel/internal/state"},
		{"creel/internal/bundle/script", "os/exec"},
		{"creel/internal/cli", "creel/internal/gateway/embedded"},
		{"creel/internal/cli/ui", "creel/internal/server"},
		{"creel/internal/layer", "creel/internal/bundle/dirstore"},
		{"creel/internal/onboard/ladder", "creel/internal/sandbox/process"},
		{"creel/internal/gateway/embedded", "creel/internal/server"},
		{"creel/internal/gateway/embedded", "creel/api/creel/v1"},
		{"creel/internal/gateway/openshell", "creel/internal/server"},
		{"creel/internal/gateway/external", "creel/internal/layer"},
		{"creel/internal/gateway/k3s", "creel/internal/layer"},
		{"creel/internal/gateway/k3s", "github.com/moby/moby/client"},
		{"creel/internal/gateway/service", "creel/internal/server"},
		{"creel/internal/systemd", "creel/internal/gateway"},
		{"creel/internal/server", "creel/internal/gateway/embedded"},
		{"creel/internal/supervisor", "creel/internal/server/token"},
		{"creel/internal/server", "modernc.org/sqlite"},
		{"creel/internal/server", "creel/internal/app"},
		{"creel/internal/server", "creel/internal/gateway/client"},
		{"creel/internal/onboard", "github.com/spf13/cobra"},
		{"creel/internal/bundle/execstore", "github.com/moby/moby/client"},
		{"creel/internal/host", "github.com/containerd/errdefs"},
		{"creel/internal/desired", "gopkg.in/yaml.v3"},
		{"creel/internal/gateway/kube", "creel/internal/server"},
		{"creel/internal/gateway/kube", "k8s.io/client-go/rest"},
		{"creel/internal/gateway/kube/rollout", "net/http"},
		{"creel/internal/gateway/kube/rollout", "creel/internal/host"},
		{"creel/internal/layer", "creel/internal/kubeapi"},
		{"creel/internal/gateway/classify", "os"},
		{"creel/internal/gateway/classify", "net/http"},
		{"creel/internal/gateway/classify", "fmt"},
		{"creel/internal/gateway/classify", "creel/internal/host"},
	} {
		if len(violations(listed{ImportPath: c.from, Imports: []string{c.imports}, Deps: []string{c.imports}})) == 0 {
			t.Errorf("%s may import %s", c.from, c.imports)
		}
	}
	for _, c := range []struct{ from, imports string }{
		{"creel/internal/cli", "creel/internal/gateway"},
		{"creel/internal/server/store", "modernc.org/sqlite"},
		{"creel/internal/app", "creel/internal/server"},
		{"creel/internal/gateway/kube", "creel/internal/kubeapi"},
		{"creel/internal/kubeapi", "k8s.io/client-go/rest"},
		{"creel/internal/host/engine", "github.com/moby/moby/client"},
		{"creel/cmd/creel", "creel/internal/app"},
	} {
		if v := violations(listed{ImportPath: c.from, Imports: []string{c.imports}, Deps: []string{c.imports}}); len(v) > 0 {
			t.Errorf("refused although allowed: %q", v)
		}
	}
}

func TestPackageNamesAndComments(t *testing.T) {
	empty := []string{"util", "utils", "common", "helper", "helpers", "manager", "misc"}
	for _, p := range all(t) {
		for _, part := range strings.Split(p.ImportPath, "/") {
			if slices.Contains(empty, part) {
				t.Errorf("%s: a package named %q is two packages or none", p.ImportPath, part)
			}
		}
		if strings.HasPrefix(p.ImportPath, module+"api/") {
			continue // generated
		}
		files := slices.Concat(p.GoFiles, p.IgnoredGoFiles)
		if len(p.GoFiles) == 0 {
			files = slices.Concat(p.TestGoFiles, p.XTestGoFiles)
		}
		var with []string
		for _, f := range files {
			text := packageComment(t, filepath.Join(p.Dir, f))
			if text == "" {
				continue
			}
			with = append(with, f)
			want := "Package " + strings.TrimSuffix(p.Name, "_test") + " "
			if p.Name == "main" {
				want = "Command " + path.Base(p.ImportPath) + " "
			}
			if !strings.HasPrefix(text, want) && !strings.HasPrefix(text, "Package main ") {
				t.Errorf("%s/%s: the package comment begins %.40q, want %q", p.ImportPath, f, text, want)
			}
		}
		if len(with) != 1 {
			t.Errorf("%s has its package comment in %q; one file holds it", p.ImportPath, with)
		}
	}
}

func packageComment(t *testing.T, file string) string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.PackageClauseOnly|parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	return f.Doc.Text()
}

func TestSmallFilesStaySmall(t *testing.T) {
	for file, limit := range map[string]int{"../cmd/creel/main.go": 40, "../AGENTS.md": 60} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
			continue
		}
		if n := bytes.Count(b, []byte("\n")); n >= limit {
			t.Errorf("%s has %d lines, it is to stay under %d", file, n, limit)
		}
	}
}

// docs/state.md and the constants of package state name the same files.
func TestStateDirectoryIsDocumented(t *testing.T) {
	names := stateNames(t)
	b, err := os.ReadFile("../docs/state.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{} // constant → name
	for _, m := range regexp.MustCompile("(?m)^\\| `([A-Za-z]+)` \\| `([^`]+)` \\|").FindAllStringSubmatch(string(b), -1) {
		if _, twice := rows[m[1]]; twice {
			t.Errorf("docs/state.md lists %s twice", m[1])
		}
		rows[m[1]] = m[2]
	}
	for name, value := range names {
		if rows[name] != value {
			t.Errorf("state.%s is %q, docs/state.md says %q", name, value, rows[name])
		}
	}
	for name, value := range rows {
		if _, ok := names[name]; !ok {
			t.Errorf("docs/state.md lists %s (%s), which package state does not know", name, value)
		}
	}
}

// stateNames are the string constants of package state's paths.go.
func stateNames(t *testing.T) map[string]string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "../internal/state/paths.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{}
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		for _, s := range g.Specs {
			v := s.(*ast.ValueSpec)
			for i, n := range v.Names {
				if lit, ok := v.Values[i].(*ast.BasicLit); ok && lit.Kind == token.STRING {
					names[n.Name] = strings.Trim(lit.Value, `"`)
				}
			}
		}
	}
	if len(names) < 30 {
		t.Fatalf("found %d constants", len(names))
	}
	return names
}
