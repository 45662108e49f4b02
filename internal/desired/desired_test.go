package desired

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"creel/internal/advisory"
	"creel/internal/dashboard"
	"creel/internal/policy"
	"creel/internal/sandbox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const start = "apiVersion: creel/v1alpha1\nkind: Gateway\nname: creel\n"

func TestParseFillsDefaults(t *testing.T) {
	d, err := Parse("f.yaml", []byte(start+"sandboxes:\n  - name: claw\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := Document{APIVersion: APIVersion, Kind: Kind, Name: "creel", Runtime: "embedded", Driver: "process",
		Inference: Inference{Provider: "none"},
		Sandboxes: []Sandbox{{Name: "claw", Agent: "console", Restart: sandbox.RestartAlways, Confinement: sandbox.TierAuto, Wanted: sandbox.Running}}}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// Every refusal names its advisory, and what is wrong with the text names its line.
func TestParseRefuses(t *testing.T) {
	box := start + "sandboxes:\n  - name: claw\n"
	for _, c := range []struct {
		name, text, advisory string
		says                 []string
	}{
		{"empty", "", "desired-invalid", []string{"empty"}},
		{"no mapping", "- a\n", "desired-invalid", []string{"no mapping"}},
		{"no version", "kind: Gateway\n", "desired-invalid", []string{"apiVersion is missing"}},
		{"newer version", "apiVersion: creel/v2\nkind: Gateway\nsurprise: 1\n", "desired-version", []string{"creel/v2", APIVersion}},
		{"version is no text", "apiVersion: [1]\n", "desired-invalid", []string{"1:"}},
		{"other kind", "apiVersion: creel/v1alpha1\nkind: Pod\n", "desired-invalid", []string{"Pod", "Gateway"}},
		{"syntax", start + "gateway: {port: 1\n", "desired-invalid", []string{"4:"}},
		{"unknown key", start + "gatway:\n  port: 1\n", "desired-invalid", []string{"[4:1]", "gatway"}},
		{"unknown key inside", box + "    colour: red\n", "desired-invalid", []string{"[6:", "colour"}},
		{"wrong type", start + "gateway:\n  port: many\n", "desired-invalid", []string{"[5:9]", "many"}},
		{"duplicate key", start + "name: other\n", "desired-invalid", []string{"[4:1]", "name"}},
		{"second document", start + "---\n" + start, "desired-invalid", []string{"2 documents"}},
		{"anchor", start + "gateway: &a {port: 1}\n", "desired-invalid", []string{"line 4", "anchors"}},
		{"tag", start + "gateway: !!map {port: 1}\n", "desired-invalid", []string{"line 4", "tags"}},
		{"deep", start + "gateway: " + strings.Repeat("[", 100) + "\n", "desired-invalid", []string{"nested"}},
		{"not UTF-8", start + "runtime: \"\xff\"\n", "desired-invalid", []string{"UTF-8"}},
		{"too large", start + strings.Repeat("#", MaxSize), "desired-invalid", []string{"at most"}},
		{"policy key", box + "    policy:\n      version: 1\n      colour: red\n", "desired-invalid", []string{"[8:", "colour"}},

		{"gateway name", "apiVersion: creel/v1alpha1\nkind: Gateway\nname: Creel\n", "desired-invalid", []string{"gateway", "Creel"}},
		{"runtime", start + "runtime: k8s\n", "desired-invalid", []string{"k8s", "embedded"}},
		{"cluster of embedded", start + "cluster: {namespace: a}\n", "desired-invalid", []string{"kubernetes", "embedded"}},
		{"kubeconfig of k3s", start + "runtime: k3s\ncluster: {kubeconfig: a}\n", "desired-invalid", []string{"cluster.container"}},
		{"container of kubernetes", start + "runtime: kubernetes\ncluster: {container: a}\n", "desired-invalid", []string{"k3s"}},
		{"two ways into a cluster", start + "runtime: kubernetes\ncluster: {inCluster: true, context: a}\n", "desired-invalid", []string{"inCluster"}},
		{"name of a container", start + "runtime: k3s\ncluster: {container: a b}\n", "desired-invalid", []string{"a b"}},
		{"namespace", start + "runtime: kubernetes\ncluster: {namespace: A}\n", "desired-invalid", []string{"cluster.namespace"}},
		{"driver", start + "driver: docker\n", "desired-invalid", []string{"docker", "process"}},
		{"driver of openshell", start + "runtime: openshell\ndriver: process\n", "desired-invalid", []string{"docker", "process"}},
		{"endpoint of embedded", start + "gateway: {endpoint: \"https://h:1\"}\n", "desired-invalid", []string{"external"}},
		{"endpoint with a path", start + "runtime: external\ngateway: {endpoint: \"https://h:1/x\"}\n", "desired-invalid", []string{"nothing more"}},
		{"endpoint with a password", start + "runtime: external\ngateway: {endpoint: \"https://u:p@h:1\"}\n", "desired-invalid", []string{"user information"}},
		{"plain endpoint of kubernetes", start + "runtime: kubernetes\ngateway: {endpoint: \"http://h:1\"}\n", "desired-invalid", []string{"https"}},
		{"port and endpoint of kubernetes", start + "runtime: kubernetes\ngateway: {endpoint: \"https://h:1\", port: 5}\n", "desired-invalid", []string{"port-forward"}},
		{"endpoint of k3s", start + "runtime: k3s\ngateway: {endpoint: \"https://h:1\"}\n", "desired-invalid", []string{"kubernetes"}},
		{"port of external", start + "runtime: external\ngateway: {port: 5}\n", "desired-invalid", []string{"gateway.endpoint"}},
		{"tls", start + "runtime: openshell\ngateway: {tls: none}\n", "desired-invalid", []string{"none", "plaintext"}},
		{"plaintext of embedded", start + "gateway: {tls: plaintext}\n", "desired-invalid", []string{"openshell"}},
		{"console elsewhere", start + "runtime: openshell\nsandboxes:\n  - name: claw\n", "desired-invalid", []string{"console", "command"}},
		{"policy elsewhere", start + "runtime: openshell\nsandboxes:\n  - name: claw\n    agent: command\n    command: [x]\n    policy: {version: 1}\n", "desired-invalid", []string{"policy"}},
		{"dashboard elsewhere", start + "runtime: openshell\nsandboxes:\n  - name: claw\n    agent: command\n    command: [x]\n    dashboard: {port: 5000}\n", "desired-invalid", []string{"dashboards"}},
		{"gateway port", start + "gateway:\n  port: 70000\n", "desired-invalid", []string{"gateway.port", "70000"}},
		{"unknown provider", start + "inference:\n  provider: hal\n  model: m\n", "provider-unknown", []string{"hal", "openai"}},
		{"unsupported provider", start + "inference:\n  provider: anthropic\n  model: m\n", "provider-unsupported", []string{"anthropic"}},
		{"none with model", start + "inference:\n  provider: none\n  model: m\n", "desired-invalid", []string{"none", "model"}},
		{"model missing", start + "inference:\n  provider: openai\n", "desired-invalid", []string{"needs a model"}},
		{"model with space", start + "inference:\n  provider: openai\n  model: a b\n", "desired-invalid", []string{"a b"}},
		{"custom without endpoint", start + "inference:\n  provider: custom\n  model: m\n", "desired-invalid", []string{"endpointURL"}},
		{"bad endpoint", start + "inference:\n  provider: custom\n  model: m\n  endpointURL: ftp://x\n", "desired-invalid", []string{"http"}},
		{"sandbox name", start + "sandboxes:\n  - name: status\n", "desired-invalid", []string{"status", "command"}},
		{"same name", box + "  - name: claw\n", "desired-invalid", []string{"claw", "twice"}},
		{"same port", box + "    dashboard: {port: 5000}\n  - name: b\n    dashboard: {port: 5000}\n", "desired-invalid", []string{"claw", `"b"`, "5000"}},
		{"gateway's port", start + "gateway: {port: 5000}\nsandboxes:\n  - name: claw\n    dashboard: {port: 5000}\n", "desired-invalid", []string{"5000", "gateway"}},
		{"agent", box + "    agent: hal\n", "desired-invalid", []string{"hal", "console"}},
		{"command missing", box + "    agent: command\n", "desired-invalid", []string{"needs a command"}},
		{"target of openclaw", box + "    agent: openclaw\n    dashboard: {targetPort: 80}\n", "desired-invalid", []string{"targetPort"}},
		{"command empty", box + "    agent: command\n    command: [\"\"]\n", "desired-invalid", []string{"empty"}},
		{"command of console", box + "    command: [\"true\"]\n", "desired-invalid", []string{"takes no command"}},
		{"target of console", box + "    dashboard: {targetPort: 80}\n", "desired-invalid", []string{"targetPort"}},
		{"restart", box + "    restart: sometimes\n", "desired-invalid", []string{"sometimes", "on-failure"}},
		{"confinement", box + "    confinement: chroot\n", "desired-invalid", []string{"chroot", "landlock"}},
		{"unconfined unaccepted", box + "    confinement: unconfined\n", "desired-invalid", []string{"acceptRisk"}},
		{"risk", box + "    acceptRisk: all\n", "desired-invalid", []string{"all", "unconfined"}},
		{"wanted", box + "    wanted: maybe\n", "desired-invalid", []string{"maybe", "stopped"}},
		{"bind", box + "    dashboard: {bind: 10.0.0.1}\n", "desired-invalid", []string{"10.0.0.1"}},
		{"public URL", box + "    dashboard: {publicURL: \"ftp://h\"}\n", "dashboard-url-invalid", []string{"publicURL", "ftp"}},
		{"public URL with a query", box + "    dashboard: {publicURL: \"https://h/?token=x\"}\n", "dashboard-url-invalid", []string{"query"}},
		{"trusted proxies", box + "    dashboard: {trustedProxies: [proxy.example]}\n", "dashboard-proxies-invalid", []string{"trustedProxies", "proxy.example"}},
		{"access elsewhere", start + "runtime: openshell\nsandboxes:\n  - name: claw\n    agent: command\n    command: [x]\n    dashboard: {publicURL: \"https://h\"}\n", "desired-invalid", []string{"dashboards"}},
		{"forward to nowhere", box + "    forwards: [{bind: 0.0.0.0}]\n", "desired-invalid", []string{"neither port nor targetPort"}},
		{"forward's port", box + "    forwards: [{port: 70000, targetPort: 1}]\n", "desired-invalid", []string{"70000"}},
		{"forward's target", box + "    forwards: [{targetPort: -1}]\n", "desired-invalid", []string{"-1"}},
		{"forward's bind", box + "    forwards: [{port: 5000, bind: localhost}]\n", "desired-invalid", []string{"localhost"}},
		{"forward twice", box + "    forwards: [{port: 5000}, {port: 5000, targetPort: 6}]\n", "desired-invalid", []string{"5000", "twice"}},
		{"forward to the dashboard", box + "    forwards: [{port: 5000, targetPort: 18789}]\n", "desired-invalid", []string{"18789", "dashboard"}},
		{"forward on the dashboard's port", box + "    dashboard: {port: 5000}\n    forwards: [{port: 5000}]\n", "desired-invalid", []string{"5000", "twice"}},
		{"forward on another's port", box + "    forwards: [{port: 5000}]\n  - name: b\n    forwards: [{port: 5000}]\n", "desired-invalid", []string{"claw", `"b"`, "5000"}},
		{"forward on another's dashboard", box + "    forwards: [{port: 5000}]\n  - name: b\n    dashboard: {port: 5000}\n", "desired-invalid", []string{"claw", `"b"`, "5000"}},
		{"forward on the gateway's port", start + "gateway: {port: 5000}\nsandboxes:\n  - name: claw\n    forwards: [{port: 5000}]\n", "desired-invalid", []string{"5000", "gateway"}},
		{"forward elsewhere", start + "runtime: openshell\nsandboxes:\n  - name: claw\n    agent: command\n    command: [x]\n    forwards: [{port: 5000}]\n", "desired-invalid", []string{"openshell forward start"}},
		{"health path", box + "    agent: command\n    command: [\"true\"]\n    dashboard: {targetPort: 80, healthPath: health}\n", "desired-invalid", []string{"slash"}},
		{"reserved variable", box + "    environment: {OPENAI_API_KEY: x}\n", "desired-invalid", []string{"OPENAI_API_KEY", "set by Creel"}},
		{"variable name", box + "    environment: {\"A=B\": x}\n", "desired-invalid", []string{"A=B"}},
		{"both policies", box + "    policyFile: p.yaml\n    policy: {version: 1}\n", "desired-invalid", []string{"exclude"}},
		{"bad policy", box + "    policy:\n      version: 9\n", "desired-invalid", []string{"claw", "version"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse("f.yaml", []byte(c.text))
			if err == nil {
				t.Fatal("was accepted")
			}
			outer, _ := advisory.Of(err)
			var ids []string
			for e := error(outer); e != nil; e = errors.Unwrap(e) {
				var p *advisory.Problem
				if errors.As(e, &p) {
					ids = append(ids, p.ID)
				}
			}
			if !strings.Contains(strings.Join(ids, " "), c.advisory) {
				t.Errorf("advisories %v, want %s", ids, c.advisory)
			}
			for _, says := range append(c.says, "f.yaml") {
				if !strings.Contains(err.Error(), says) {
					t.Errorf("error %q does not say %q", err, says)
				}
			}
		})
	}
}

func TestParseNeverRepeatsASecret(t *testing.T) {
	const canary = "sk-canary-5d1c"
	for name, text := range map[string]string{
		"key of ours":        start + "inference:\n  provider: openai\n  apiKey: " + canary + "\n",
		"quoted key":         start + "inference:\n  \"api_key\": \"" + canary + "\"\n",
		"token nearby":       start + "token: " + canary + "\nsurprise: 1\n",
		"in the wrong place": start + "inference:\n  provider: openai\n  model: m\n  credentialEnv: " + canary + "\n",
		"in the URL":         start + "inference:\n  provider: custom\n  model: m\n  endpointURL: https://u:" + canary + "@host/v1\n",
		"in the public URL":  start + "sandboxes:\n  - name: claw\n    dashboard: {publicURL: \"https://u:" + canary + "@host\"}\n",
		"wrong type":         start + "gateway:\n  password: {a: " + canary + "}\n",
	} {
		_, err := Parse("f.yaml", []byte(text))
		if err == nil {
			t.Errorf("%s: was accepted", name)
		} else if strings.Contains(err.Error(), canary) {
			t.Errorf("%s: the error repeats the secret: %v", name, err)
		}
	}
}

func TestSaveAndLoad(t *testing.T) {
	p := policy.Default()
	d := New("creel").With(Sandbox{Name: "claw", Agent: "command", Command: []string{"sh", "-c", "a: b # c\n\"d\""},
		Environment: map[string]string{"LANGUAGE": "de", "N": "07"}, Policy: &p,
		Dashboard: Dashboard{Port: 5001, TargetPort: 80, HealthPath: "/h"}}).WithDefaults()
	d.Inference = Inference{Provider: "custom", EndpointURL: "http://127.0.0.1:1/v1", Model: "m:7b", CredentialEnv: "K"}
	path := filepath.Join(t.TempDir(), "config", "gateways", "creel.yaml")
	if err := d.Save(path); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	got, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Equal(d) {
		t.Errorf("(-saved +loaded)\n%s", cmp.Diff(d, got))
	}
	changed := got
	changed.Inference.Model = "other"
	if got.Equal(changed) {
		t.Error("documents with another model are equal")
	}
}

func TestLoadRefusesWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(filepath.Join(dir, "absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	if d, err := Recorded(filepath.Join(dir, "absent")); d != nil || err != nil {
		t.Errorf("Recorded(absent) = %v, %v", d, err)
	}
	if _, err := Load(dir); !isAdvisory(err, "desired-unreadable") {
		t.Errorf("directory: %v", err)
	}
}

// Another version's file is refused and stays as it is, byte for byte.
func TestNewerFileIsNotRewritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "creel.yaml")
	content := []byte("apiVersion: creel/v9\nkind: Gateway\nname: creel\n")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Recorded(path); !isAdvisory(err, "desired-version") || !strings.Contains(err.Error(), path) {
		t.Errorf("Recorded: %v", err)
	}
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, content) {
		t.Errorf("the file changed to %q, %v", now, err)
	}
}

func TestPolicyFileIsTakenIn(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("p.yaml", "version: 1\nfilesystem_policy:\n  read_only: [/usr]\n")
	main := write("f.yaml", start+"sandboxes:\n  - name: claw\n    policyFile: p.yaml\n")
	d, err := Load(main)
	if err != nil {
		t.Fatal(err)
	}
	s, _ := d.Sandbox("claw")
	if s.PolicyFile != "" || s.Policy == nil || len(s.Policy.Filesystem.ReadOnly) != 1 {
		t.Errorf("policy was not taken in: %+v", s)
	}
	write("p.yaml", "version: 1\ncolour: red\n")
	if _, err := Load(main); !isAdvisory(err, "desired-invalid") || !strings.Contains(err.Error(), "p.yaml") {
		t.Errorf("bad policy file: %v", err)
	}
}

// A kubeconfig is found beside the file that names it, from whatever directory it is
// read later.
func TestKubeconfigIsBesideTheFile(t *testing.T) {
	dir := t.TempDir()
	for given, want := range map[string]string{"k.yaml": filepath.Join(dir, "k.yaml"), "../k.yaml": filepath.Join(filepath.Dir(dir), "k.yaml"), "/k.yaml": "/k.yaml"} {
		path := filepath.Join(dir, "f.yaml")
		content := start + "runtime: kubernetes\ngateway: {endpoint: \"https://gw.example:8443\"}\ncluster: {kubeconfig: \"" + given + "\"}\n"
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := Load(path)
		if err != nil || d.Cluster.Kubeconfig != want || !d.GatewayOnly() {
			t.Errorf("%s: %q, %v; want %q", given, d.Cluster.Kubeconfig, err, want)
		}
	}
}

func TestSpec(t *testing.T) {
	console, err := Sandbox{Name: "claw", Agent: "console", Confinement: sandbox.TierAuto, Dashboard: Dashboard{Port: 5000}}.Spec(false)
	if err != nil {
		t.Fatal(err)
	}
	want := sandbox.Dashboard{TargetPort: 18789, Bind: dashboard.Loopback, Port: 5000, PortExplicit: true, HealthPath: "/health", WebSocket: "/ws"}
	if diff := cmp.Diff(want, console.Dashboard); diff != "" {
		t.Errorf("console (-want +got)\n%s", diff)
	}
	if console.PolicyHash != policy.Default().Hash() || len(console.Command) == 0 {
		t.Errorf("console: %+v", console)
	}
	job, err := Sandbox{Name: "job", Agent: "command", Command: []string{"make"}}.Spec(false)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sandbox.Dashboard{}, job.Dashboard); diff != "" || job.Command[0] != "make" {
		t.Errorf("job: %+v\n%s", job, diff)
	}
}

// Where the listener is follows from what is declared and from the machine.
func TestSpecOfAccess(t *testing.T) {
	proxy := dashboard.Access{PublicURL: "https://agent.example/claw", TrustedProxies: []string{"10.0.0.1/32"}}
	for _, c := range []struct {
		name     string
		board    Dashboard
		wsl      bool
		bind     string
		port     int
		explicit bool
		access   dashboard.Access
	}{
		{"nothing declared", Dashboard{}, false, "127.0.0.1", 0, false, dashboard.Access{}},
		{"on WSL", Dashboard{}, true, "0.0.0.0", 0, false, dashboard.Access{}},
		{"on WSL, kept narrow", Dashboard{Bind: "127.0.0.1"}, true, "127.0.0.1", 0, false, dashboard.Access{}},
		{"wide", Dashboard{Bind: "0.0.0.0"}, false, "0.0.0.0", 0, false, dashboard.Access{}},
		{"a proxy elsewhere", Dashboard{PublicURL: proxy.PublicURL, TrustedProxies: proxy.TrustedProxies}, false, "0.0.0.0", 0, false, proxy},
		{"a proxy here", Dashboard{PublicURL: proxy.PublicURL, TrustedProxies: proxy.TrustedProxies, Bind: "127.0.0.1"}, false, "127.0.0.1", 0, false, proxy},
		{"a public URL's port is tried", Dashboard{PublicURL: "http://box.example:9000"}, false, "0.0.0.0", 9000, false, dashboard.Access{PublicURL: "http://box.example:9000"}},
		{"an explicit port wins", Dashboard{PublicURL: "http://box.example:9000", Port: 9001}, false, "0.0.0.0", 9001, true, dashboard.Access{PublicURL: "http://box.example:9000"}},
		{"a loopback URL", Dashboard{PublicURL: "http://127.0.0.1:9000"}, false, "127.0.0.1", 9000, false, dashboard.Access{PublicURL: "http://127.0.0.1:9000"}},
	} {
		spec, err := Sandbox{Name: "claw", Agent: "console", Dashboard: c.board}.Spec(c.wsl)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		want := sandbox.Dashboard{TargetPort: 18789, Bind: c.bind, Port: c.port, PortExplicit: c.explicit, HealthPath: "/health", WebSocket: "/ws", Access: c.access}
		if diff := cmp.Diff(want, spec.Dashboard); diff != "" {
			t.Errorf("%s (-want +got)\n%s", c.name, diff)
		}
	}
}

// What is declared is recorded in one way, however it was written.
func TestAccessIsRecordedOneWay(t *testing.T) {
	d, err := Parse("f.yaml", []byte(start+"sandboxes:\n  - name: claw\n    dashboard:\n      publicURL: HTTPS://bücher.example/claw#token=x\n      trustedProxies: [10.1.2.3/8, 127.0.0.1, 10.0.0.0/8]\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := Dashboard{PublicURL: "https://xn--bcher-kva.example/claw", TrustedProxies: []string{"10.0.0.0/8", "127.0.0.1/32"}}
	if diff := cmp.Diff(want, d.Sandboxes[0].Dashboard); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func isAdvisory(err error, id string) bool {
	p, ok := advisory.Of(err)
	return ok && p.ID == id
}

// What Creel writes it reads again, as the same document.
func TestEncodeIsRead(t *testing.T) {
	text := rapid.StringOf(rapid.RuneFrom([]rune("ab:#-\"'{}[]!&*|>%@` \n\t0~é\r\u2028\u0085\x7f\x01"))).Filter(func(s string) bool { return s != "" })
	rapid.Check(t, func(t *rapid.T) {
		d := New("creel")
		for i := range rapid.IntRange(0, 3).Draw(t, "sandboxes") {
			d = d.With(Sandbox{Name: "s" + string(rune('a'+i)), Agent: "command", Command: rapid.SliceOfN(text, 1, 3).Draw(t, "command"),
				Environment: rapid.MapOfN(rapid.StringMatching(`[A-Za-z_]{1,5}`), text, 0, 3).Draw(t, "environment")})
		}
		content, err := d.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse("f.yaml", content)
		if err != nil {
			t.Fatalf("%v\n%s", err, content)
		}
		if !got.Equal(d) {
			t.Fatalf("(-written +read)\n%s\n%s", cmp.Diff(d.WithDefaults(), got), content)
		}
		for i, s := range d.Sandboxes {
			if diff := cmp.Diff(s.Command, got.Sandboxes[i].Command); diff != "" {
				t.Fatalf("command (-written +read)\n%s\n%s", diff, content)
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	full, err := New("creel").With(Sandbox{Name: "claw"}).Encode()
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{"", start, string(full), start + "sandboxes:\n  - name: claw\n    policy:\n      version: 1\n",
		start + "gateway: {port: [}", "apiVersion: &a *a", "? {\n", start + "inference: {provider: custom, model: \"m\", endpointURL: 'http://x'}\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		d, err := Parse("f.yaml", content)
		if err != nil {
			return
		}
		again, err := d.Encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := Parse("f.yaml", again)
		if err != nil {
			t.Fatalf("what was read cannot be read again: %v\n%s", err, again)
		}
		if !back.Equal(d) {
			t.Fatalf("(-first +second)\n%s", cmp.Diff(d, back))
		}
	})
}
