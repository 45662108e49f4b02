package onboard

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"creel/internal/advisory"
	"creel/internal/credential"
	"creel/internal/desired"
	"creel/internal/inference"
	"creel/internal/layer"
	"creel/internal/sandbox"
)

const canary = "sk-canary-77aa"

// person answers prompts from a script, by title, and fails the test for what it
// does not know.
type person struct {
	t       *testing.T
	answers map[string]string
	asked   []string
	offered []string // values of the last choice
}

func (p *person) answer(title string) string {
	p.asked = append(p.asked, title)
	a, ok := p.answers[title]
	if !ok {
		p.t.Errorf("asked for %q", title)
	}
	return a
}

func (p *person) Select(_ context.Context, title string, options []Option, _ string) (string, error) {
	a := p.answer(title)
	p.offered = nil
	for _, o := range options {
		p.offered = append(p.offered, o.Value)
	}
	for _, o := range options {
		if o.Value == a {
			return a, nil
		}
	}
	return "", errors.New("no such choice")
}

func (p *person) Input(_ context.Context, title, value string, check func(string) error) (string, error) {
	a := p.answer(title)
	if a == "" {
		a = value
	}
	return a, check(a)
}

func (p *person) Secret(_ context.Context, title string) (credential.Secret, error) {
	return credential.NewSecret(p.answer(title)), nil
}

func recordedDocument() *desired.Document {
	d := desired.New("creel").With(desired.Sandbox{Name: "old", Dashboard: desired.Dashboard{Port: 5001}})
	d.Inference = desired.Inference{Provider: "custom", EndpointURL: "http://127.0.0.1:9/v1", Model: "recorded", CredentialEnv: "RECORDED_KEY"}
	d = d.WithDefaults()
	return &d
}

// Flags win over the environment, CREEL_… over NEMOCLAW_…, the environment over
// what is recorded, that over prompts, and prompts over defaults.
func TestSettlePrecedence(t *testing.T) {
	model := func(s Settled) string { return s.Document.Inference.Model }
	name := func(s Settled) string { return s.Sandbox }
	port := func(s Settled) string {
		b, _ := s.Document.Sandbox(s.Sandbox)
		return strconv.Itoa(b.Dashboard.Port)
	}
	for _, c := range []struct {
		name     string
		flags    map[Key]string
		env      map[string]string
		recorded *desired.Document
		prompts  map[string]string
		get      func(Settled) string
		want     string
		asked    int
	}{
		{"default name", nil, nil, nil, nil, name, DefaultSandbox, 0},
		{"recorded name", nil, nil, recordedDocument(), nil, name, "old", 0},
		{"alias", nil, map[string]string{"NEMOCLAW_SANDBOX_NAME": "alias"}, recordedDocument(), nil, name, "alias", 0},
		{"own name before alias", nil, map[string]string{"NEMOCLAW_SANDBOX_NAME": "alias", "CREEL_SANDBOX_NAME": "own"}, recordedDocument(), nil, name, "own", 0},
		{"flag before variable", map[Key]string{Name: "flag"}, map[string]string{"CREEL_SANDBOX_NAME": "own"}, recordedDocument(), nil, name, "flag", 0},

		{"recorded model", nil, nil, recordedDocument(), map[string]string{}, model, "recorded", 0},
		{"variable's model", nil, map[string]string{"NEMOCLAW_MODEL": "variable"}, recordedDocument(), map[string]string{}, model, "variable", 0},
		{"flag's model", map[Key]string{Model: "flag"}, map[string]string{"CREEL_MODEL": "variable"}, recordedDocument(), nil, model, "flag", 0},
		{"prompted model", nil, nil, nil, map[string]string{"Model provider": "ollama", "Model": "prompted"}, model, "prompted", 2},
		{"default of the prompt", nil, map[string]string{"CREEL_PROVIDER": "build", "CREEL_PROVIDER_KEY": "nvapi-1"}, nil, map[string]string{"Model": ""}, model, "nvidia/nemotron-3-super-120b-a12b", 1},
		{"flag leaves no question", map[Key]string{Provider: "ollama", Model: "flag"}, nil, nil, map[string]string{}, model, "flag", 0},
		{"nobody to ask: no provider", nil, nil, nil, nil, model, "", 0},

		{"recorded port", nil, nil, recordedDocument(), nil, port, "5001", 0},
		{"variable's port", nil, map[string]string{"NEMOCLAW_DASHBOARD_PORT": "5002"}, recordedDocument(), nil, port, "5002", 0},
		{"flag's port", map[Key]string{DashboardPort: "5003"}, map[string]string{"CREEL_DASHBOARD_PORT": "5002"}, recordedDocument(), nil, port, "5003", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := Inputs{Gateway: "creel", Flags: c.flags, Getenv: func(n string) string { return c.env[n] }, Recorded: c.recorded}
			var p *person
			if c.prompts != nil {
				p = &person{t: t, answers: c.prompts}
				in.Prompter = p
			}
			s, err := Settle(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			if got := c.get(s); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if p != nil && len(p.asked) != c.asked {
				t.Errorf("asked for %q, want %d questions", p.asked, c.asked)
			}
		})
	}
}

// Every alias of the table is heard.
func TestSettleHearsEveryVariable(t *testing.T) {
	values := map[Key]string{Name: "zoe", Agent: "console", Runtime: "embedded", Driver: "process", Provider: "ollama",
		EndpointURL: "http://127.0.0.1:1/v1", Model: "m1", CredentialEnv: "MY_KEY", PolicyFile: "policy.yaml", DashboardPort: "5005",
		GatewayPort: "5006", Confinement: "landlock", AcceptRisk: "unconfined", Restart: "never", AgentPort: "81", HealthPath: "/h",
		GatewayEndpoint: "http://127.0.0.1:7", GatewayTLS: "plaintext", DashboardBind: "0.0.0.0", PublicURL: "https://agent.example",
		TrustedProxies: "127.0.0.1", Kubeconfig: "/k", KubeContext: "c", Namespace: "ns", StatefulSet: "set", Container: "box"}
	for _, q := range Questions() {
		for _, variable := range q.Env {
			t.Run(variable, func(t *testing.T) {
				env := map[string]string{"CREEL_PROVIDER": "custom", "CREEL_ENDPOINT_URL": "http://127.0.0.1:2/v1", "CREEL_MODEL": "m2", "MY_KEY": canary}
				for _, n := range q.Env {
					delete(env, n)
				}
				in := Inputs{Gateway: "creel", Getenv: func(n string) string { return env[n] }, ReadFile: func(path string) ([]byte, error) {
					if path != "policy.yaml" {
						return nil, fs.ErrNotExist
					}
					return []byte("version: 1\nfilesystem_policy:\n  read_only: [/usr]\n"), nil
				}}
				if q.Key == AgentPort || q.Key == HealthPath {
					in.Command = []string{"prog"}
				}
				if runtime := map[Key]string{GatewayEndpoint: "external", GatewayTLS: "openshell", Container: "k3s",
					Kubeconfig: "kubernetes", KubeContext: "kubernetes", Namespace: "kubernetes", StatefulSet: "kubernetes"}[q.Key]; runtime != "" {
					env["CREEL_RUNTIME"], in.Command = runtime, []string{"prog"}
				}
				if q.Key == Provider {
					env["CREEL_MODEL"] = "m2"
				}
				if q.Key == EndpointURL || q.Key == Model {
					env["CREEL_PROVIDER"] = "ollama"
				}
				value, known := values[q.Key]
				if !known {
					t.Fatalf("no value for %s", q.Key)
				}
				more := maps.Clone(env)
				more[variable] = value
				with := in
				with.Getenv = func(n string) string { return more[n] }
				a, errA := Settle(t.Context(), in)
				b, errB := Settle(t.Context(), with)
				if errB != nil {
					t.Fatal(errB)
				}
				if errA == nil && a.Document.Equal(b.Document) && value != "embedded" && value != "process" && value != "console" {
					t.Errorf("%s=%s changed nothing", variable, value)
				}
			})
		}
	}
}

func TestSettleRefuses(t *testing.T) {
	custom := map[Key]string{Provider: "custom", EndpointURL: "http://127.0.0.1:1/v1", Model: "m"}
	with := func(more ...string) map[Key]string {
		f := maps.Clone(custom)
		for i := 0; i < len(more); i += 2 {
			f[Key(more[i])] = more[i+1]
		}
		return f
	}
	confined := desired.New("creel").With(desired.Sandbox{Name: "a", Confinement: sandbox.TierLandlock}).WithDefaults()
	two := desired.New("creel").With(desired.Sandbox{Name: "a"}).With(desired.Sandbox{Name: "b"}).WithDefaults()
	for _, c := range []struct {
		name     string
		flags    map[Key]string
		command  []string
		env      map[string]string
		recorded *desired.Document
		advisory string
		says     []string
	}{
		{"none and model", map[Key]string{Provider: "none", Model: "m"}, nil, nil, nil, "flag-conflict", []string{"--provider none", "--model"}},
		{"none and endpoint", map[Key]string{Provider: "none", EndpointURL: "http://x"}, nil, nil, nil, "flag-conflict", []string{"--provider none", "--endpoint-url"}},
		{"none and key", map[Key]string{Provider: "none", CredentialEnv: "K"}, nil, nil, nil, "flag-conflict", []string{"--provider none", "--credential-env"}},
		{"console with a program", map[Key]string{Agent: "console"}, []string{"prog"}, nil, nil, "flag-conflict", []string{"--agent console", "-- prog"}},
		{"console with a port", map[Key]string{Agent: "console", AgentPort: "80"}, nil, nil, nil, "flag-conflict", []string{"--agent console", "--agent-port"}},
		{"confined with a risk", map[Key]string{Confinement: "landlock", AcceptRisk: "unconfined"}, nil, nil, nil, "flag-conflict", []string{"--confinement landlock", "--accept-risk"}},
		{"consent for a recorded tier", map[Key]string{AcceptRisk: "unconfined"}, nil, nil, &confined, "flag-conflict", []string{"--accept-risk", "landlock", "--confinement auto"}},
		{"model without provider", map[Key]string{Model: "m"}, nil, nil, nil, "usage", []string{"--model", "--provider"}},
		{"command without program", map[Key]string{Agent: "command"}, nil, nil, nil, "usage", []string{"program after --"}},
		{"agent", map[Key]string{Agent: "hal"}, nil, nil, nil, "usage", []string{"--agent", "hal", "console"}},
		{"runtime", map[Key]string{Runtime: "k8s"}, nil, nil, nil, "usage", []string{"--runtime", "k8s"}},
		{"console elsewhere", map[Key]string{Runtime: "external"}, nil, nil, nil, "usage", []string{"console", "embedded only"}},
		{"another runtime", map[Key]string{Runtime: "openshell"}, nil, nil, recordedDocument(), "runtime-changed", []string{"embedded"}},
		{"plaintext of embedded", map[Key]string{GatewayTLS: "plaintext"}, nil, nil, nil, "usage", []string{"openshell", "embedded"}},
		{"driver", nil, nil, map[string]string{"CREEL_DRIVER": "docker"}, nil, "usage", []string{"CREEL_DRIVER", "docker"}},
		{"name", map[Key]string{Name: "Upper"}, nil, nil, nil, "name-invalid", []string{"--name", "Upper"}},
		{"name of a variable", nil, nil, map[string]string{"NEMOCLAW_SANDBOX_NAME": "status"}, nil, "name-invalid", []string{"NEMOCLAW_SANDBOX_NAME", "status"}},
		{"several recorded", nil, nil, nil, &two, "sandbox-ambiguous", []string{"--name"}},
		{"port", map[Key]string{DashboardPort: "70000"}, nil, nil, nil, "usage", []string{"--dashboard-port", "70000"}},
		{"port zero", map[Key]string{GatewayPort: "0"}, nil, nil, nil, "usage", []string{"--gateway-port"}},
		{"bind", map[Key]string{DashboardBind: "192.168.1.2"}, nil, nil, nil, "dashboard-bind-invalid", []string{"--dashboard-bind", "192.168.1.2", "0.0.0.0"}},
		{"bind of a variable", nil, nil, map[string]string{"NEMOCLAW_DASHBOARD_BIND": "0.0.0.0/0"}, nil, "dashboard-bind-invalid", []string{"NEMOCLAW_DASHBOARD_BIND"}},
		{"bind of a variable to loopback", nil, nil, map[string]string{"CREEL_DASHBOARD_BIND": "127.0.0.1"}, nil, "dashboard-bind-invalid", []string{"CREEL_DASHBOARD_BIND", "127.0.0.1", "0.0.0.0"}},
		{"bind elsewhere", map[Key]string{Runtime: "external", DashboardBind: "0.0.0.0"}, []string{"prog"}, nil, nil, "usage", []string{"embedded only"}},
		{"public URL", map[Key]string{PublicURL: "https://u:" + canary + "@h"}, nil, nil, nil, "dashboard-url-invalid", []string{"--public-url"}},
		{"public URL of a variable", nil, nil, map[string]string{"CHAT_UI_URL": "ftp://h"}, nil, "dashboard-url-invalid", []string{"CHAT_UI_URL", "ftp"}},
		{"public URL elsewhere", map[Key]string{Runtime: "external", PublicURL: "https://h"}, []string{"prog"}, nil, nil, "usage", []string{"embedded only"}},
		{"proxies", map[Key]string{TrustedProxies: "proxy.example"}, nil, nil, nil, "dashboard-proxies-invalid", []string{"--trusted-proxies", "proxy.example"}},
		{"restart", map[Key]string{Restart: "maybe"}, nil, nil, nil, "usage", []string{"--restart", "maybe"}},
		{"confinement", map[Key]string{Confinement: "chroot"}, nil, nil, nil, "usage", []string{"--confinement", "chroot"}},
		{"unconfined alone", map[Key]string{Confinement: "unconfined"}, nil, nil, nil, "usage", []string{"--accept-risk unconfined"}},
		{"risk", map[Key]string{AcceptRisk: "all"}, nil, nil, nil, "usage", []string{"--accept-risk", "all"}},
		{"policy file", map[Key]string{PolicyFile: "/does/not/exist"}, nil, nil, nil, "usage", []string{"--policy", "/does/not/exist"}},
		{"provider", map[Key]string{Provider: "hal"}, nil, nil, nil, "provider-unknown", []string{"--provider", "hal", "openai"}},
		{"unsupported", map[Key]string{Provider: "anthropic", Model: "m"}, nil, nil, nil, "provider-unsupported", []string{"anthropic"}},
		{"custom without endpoint", map[Key]string{Provider: "custom", Model: "m"}, nil, nil, nil, "usage", []string{"--endpoint-url"}},
		{"custom without model", map[Key]string{Provider: "custom", EndpointURL: "http://127.0.0.1:1"}, nil, nil, nil, "usage", []string{"--model"}},
		{"endpoint", with("endpoint-url", "ftp://x"), nil, nil, nil, "usage", []string{"--endpoint-url", "http://"}},
		{"endpoint with a secret", with("endpoint-url", "http://u:"+canary+"@x/v1"), nil, nil, nil, "usage", []string{"--endpoint-url"}},
		{"model with a space", with("model", "a b"), nil, nil, nil, "usage", []string{"--model", "a b"}},
		{"credential variable is not set", with("credential-env", "NOT_SET"), nil, nil, nil, "usage", []string{"NOT_SET"}},
		{"a key instead of a name", with("credential-env", canary), nil, nil, nil, "usage", []string{"--credential-env", "name of an environment variable"}},
		{"no key", map[Key]string{Provider: "openai", Model: "m"}, nil, nil, nil, "usage", []string{"OPENAI_API_KEY", "--credential-env"}},
		{"key with another prefix", map[Key]string{Provider: "build", Model: "m"}, nil, map[string]string{"NVIDIA_API_KEY": canary}, nil, "provider-credential", []string{"nvapi-"}},
		{"key with a space", with("credential-env", "K"), nil, map[string]string{"K": canary + " x"}, nil, "provider-credential", []string{"custom"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Settle(t.Context(), Inputs{Gateway: "creel", Flags: c.flags, Command: c.command, Recorded: c.recorded, Begun: true,
				Getenv: func(n string) string { return c.env[n] }})
			if err == nil {
				t.Fatal("was accepted")
			}
			var ids []string
			for e := err; e != nil; e = errors.Unwrap(e) {
				if p, ok := e.(*advisory.Problem); ok { //nolint:errorlint // each link is looked at
					ids = append(ids, p.ID)
				}
			}
			if !strings.Contains(strings.Join(ids, " "), c.advisory) {
				t.Errorf("advisories %v, want %s", ids, c.advisory)
			}
			for _, says := range c.says {
				if !strings.Contains(err.Error(), says) {
					t.Errorf("error %q does not say %q", err, says)
				}
			}
			if strings.Contains(err.Error(), canary) {
				t.Errorf("error %q repeats a secret", err)
			}
		})
	}
}

// How the dashboard is reached: flags before variables before what is recorded; an
// empty flag takes back, an empty variable does not.
func TestSettleAccess(t *testing.T) {
	recorded := desired.New("creel").With(desired.Sandbox{Name: "a", Dashboard: desired.Dashboard{Bind: "0.0.0.0",
		PublicURL: "https://old.example", TrustedProxies: []string{"10.0.0.0/8"}}}).WithDefaults()
	old, _ := recorded.Sandbox("a")
	for _, c := range []struct {
		name  string
		flags map[Key]string
		env   map[string]string
		want  desired.Dashboard
	}{
		{"nothing said", nil, nil, old.Dashboard},
		{"empty variables say nothing", nil, map[string]string{"CHAT_UI_URL": "", "NEMOCLAW_DASHBOARD_BIND": ""}, old.Dashboard},
		{"empty flags take back", map[Key]string{DashboardBind: "", PublicURL: "", TrustedProxies: ""}, nil, desired.Dashboard{}},
		{"an empty flag before a variable", map[Key]string{PublicURL: ""}, map[string]string{"CHAT_UI_URL": "https://new.example"},
			desired.Dashboard{Bind: "0.0.0.0", TrustedProxies: []string{"10.0.0.0/8"}}},
		{"variables", nil, map[string]string{"CHAT_UI_URL": "new.example/x#token=t", "CREEL_TRUSTED_PROXIES": "::1, 127.0.0.1"},
			desired.Dashboard{Bind: "0.0.0.0", PublicURL: "http://new.example/x", TrustedProxies: []string{"::1/128", "127.0.0.1/32"}}},
		{"narrow by flag, wide by variable", map[Key]string{DashboardBind: "127.0.0.1", PublicURL: "", TrustedProxies: ""},
			map[string]string{"NEMOCLAW_DASHBOARD_BIND": "0.0.0.0"}, desired.Dashboard{Bind: "127.0.0.1"}},
		{"flags before variables", map[Key]string{PublicURL: "https://flag.example"}, map[string]string{"CREEL_PUBLIC_URL": "https://new.example"},
			desired.Dashboard{Bind: "0.0.0.0", PublicURL: "https://flag.example", TrustedProxies: []string{"10.0.0.0/8"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Settle(t.Context(), Inputs{Gateway: "creel", Flags: c.flags, Recorded: &recorded, Getenv: func(n string) string { return c.env[n] }})
			if err != nil {
				t.Fatal(err)
			}
			box, _ := s.Document.Sandbox("a")
			if diff := cmp.Diff(c.want, box.Dashboard); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			for _, change := range Changes(&recorded, s.Document) {
				if diff := cmp.Diff([]layer.ID{layer.Dashboard}, change.Affects); diff != "" {
					t.Errorf("%s: more than the dashboard is done again (-want +got):\n%s", change, diff)
				}
			}
		})
	}
}

func TestSettleKey(t *testing.T) {
	custom := map[Key]string{Provider: "custom", EndpointURL: "http://127.0.0.1:1/v1", Model: "m"}
	for _, c := range []struct {
		name     string
		flags    map[Key]string
		env      map[string]string
		recorded *desired.Document
		want     string
	}{
		{"named variable", map[Key]string{Provider: "custom", EndpointURL: "http://127.0.0.1:1/v1", Model: "m", CredentialEnv: "K"}, map[string]string{"K": "named", "CREEL_PROVIDER_KEY": "other"}, nil, "named"},
		{"general variable", custom, map[string]string{"CREEL_PROVIDER_KEY": "general"}, nil, "general"},
		{"its alias", custom, map[string]string{"NEMOCLAW_PROVIDER_KEY": "alias"}, nil, "alias"},
		{"recorded variable", nil, map[string]string{"RECORDED_KEY": "recorded"}, recordedDocument(), "recorded"},
		{"stored earlier", nil, nil, recordedDocument(), ""},
		{"named, empty, stored earlier", map[Key]string{CredentialEnv: "K"}, nil, recordedDocument(), ""},
		{"the provider's usual one", map[Key]string{Provider: "openai", Model: "m"}, map[string]string{"OPENAI_API_KEY": "sk-usual"}, nil, "sk-usual"},
		{"the usual one never goes elsewhere", custom, map[string]string{"OPENAI_API_KEY": "sk-usual"}, nil, ""},
		{"not even under the provider's name", map[Key]string{Provider: "openai", Model: "m", EndpointURL: "https://elsewhere.test/v1", CredentialEnv: "K"}, map[string]string{"OPENAI_API_KEY": "sk-usual", "K": "sk-named"}, nil, "sk-named"},
		{"none needed", map[Key]string{Provider: "ollama", Model: "m"}, nil, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Settle(t.Context(), Inputs{Gateway: "creel", Flags: c.flags, Recorded: c.recorded, Getenv: func(n string) string { return c.env[n] }})
			if err != nil {
				t.Fatal(err)
			}
			if s.Key.Reveal() != c.want {
				t.Errorf("key %q, want %q", s.Key.Reveal(), c.want)
			}
			content, err := s.Document.Encode()
			if err != nil || c.want != "" && strings.Contains(string(content), c.want) && c.want != "recorded" {
				t.Errorf("the document holds the key: %s, %v", content, err)
			}
		})
	}
}

func TestSettleSandbox(t *testing.T) {
	risky := desired.New("creel").With(desired.Sandbox{Name: "job", Agent: "command", Command: []string{"make"}, AcceptRisk: "unconfined"}).WithDefaults()
	recorded := desired.New("creel").With(desired.Sandbox{Name: "job", Agent: "command", Command: []string{"make"}, Wanted: sandbox.NotRunning,
		Dashboard: desired.Dashboard{TargetPort: 80, HealthPath: "/h"}}).WithDefaults()
	halted := desired.New("creel").With(desired.Sandbox{Name: "shut", Dashboard: desired.Dashboard{Stopped: true}, Forwards: []desired.Forward{{Port: 5}}}).WithDefaults()
	for _, c := range []struct {
		name     string
		flags    map[Key]string
		command  []string
		recorded *desired.Document
		want     desired.Sandbox
	}{
		{"a program makes it a command", nil, []string{"prog", "-x"}, nil,
			desired.Sandbox{Name: DefaultSandbox, Agent: "command", Command: []string{"prog", "-x"}}},
		{"what is recorded stays, and it is to run", nil, nil, &recorded,
			desired.Sandbox{Name: "job", Agent: "command", Command: []string{"make"}, Dashboard: desired.Dashboard{TargetPort: 80, HealthPath: "/h"}}},
		{"another agent takes nothing over", map[Key]string{Agent: "console"}, nil, &recorded, desired.Sandbox{Name: "job", Agent: "console"}},
		{"accepted risk is a consent, no wish", map[Key]string{AcceptRisk: "unconfined"}, nil, nil,
			desired.Sandbox{Name: DefaultSandbox, Agent: "console", Confinement: sandbox.TierAuto, AcceptRisk: "unconfined"}},
		{"auto with the consent", map[Key]string{Confinement: "auto", AcceptRisk: "unconfined"}, nil, nil,
			desired.Sandbox{Name: DefaultSandbox, Agent: "console", Confinement: sandbox.TierAuto, AcceptRisk: "unconfined"}},
		{"wished and accepted", map[Key]string{Confinement: "unconfined", AcceptRisk: "unconfined"}, nil, nil,
			desired.Sandbox{Name: DefaultSandbox, Agent: "console", Confinement: sandbox.TierUnconfined, AcceptRisk: "unconfined"}},
		{"wished, accepted before", map[Key]string{Confinement: "unconfined"}, nil, &risky,
			desired.Sandbox{Name: "job", Agent: "command", Command: []string{"make"}, Confinement: sandbox.TierUnconfined, AcceptRisk: "unconfined"}},
		{"accepted before stays", nil, nil, &risky,
			desired.Sandbox{Name: "job", Agent: "command", Command: []string{"make"}, Confinement: sandbox.TierAuto, AcceptRisk: "unconfined"}},
		{"a tier by name takes the consent back", map[Key]string{Confinement: "auto"}, nil, &risky,
			desired.Sandbox{Name: "job", Agent: "command", Command: []string{"make"}, Confinement: sandbox.TierAuto}},
		{"a stopped dashboard is wanted again", nil, nil, &halted, desired.Sandbox{Name: "shut", Forwards: []desired.Forward{{Port: 5}}}},
		{"a second sandbox", map[Key]string{Name: "two"}, nil, &recorded, desired.Sandbox{Name: "two", Agent: "console"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Settle(t.Context(), Inputs{Gateway: "creel", Flags: c.flags, Command: c.command, Recorded: c.recorded, Getenv: func(string) string { return "" }})
			if err != nil {
				t.Fatal(err)
			}
			got, _ := s.Document.Sandbox(s.Sandbox)
			want := desired.New("creel").With(c.want).WithDefaults().Sandboxes[0]
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if c.recorded != nil && len(s.Document.Sandboxes) < len(c.recorded.Sandboxes) {
				t.Error("another sandbox was lost")
			}
		})
	}
}

func TestSettleSaysThatThereIsNoModel(t *testing.T) {
	s, err := Settle(t.Context(), Inputs{Gateway: "creel", Getenv: func(string) string { return "" }})
	if err != nil || len(s.Notes) != 1 || !strings.Contains(s.Notes[0], "creel inference set") {
		t.Errorf("notes %q, %v", s.Notes, err)
	}
}

func TestChanges(t *testing.T) {
	before := recordedDocument()
	for _, c := range []struct {
		name   string
		change func(*desired.Document)
		want   []string
	}{
		{"nothing", func(*desired.Document) {}, nil},
		{"model", func(d *desired.Document) { d.Inference.Model = "large" }, []string{"model: recorded becomes large [inference]"}},
		{"dashboard port", func(d *desired.Document) { d.Sandboxes[0].Dashboard.Port = 0 }, []string{"sandbox/old dashboard port: 5001 becomes any free port [dashboard]"}},
		{"dashboard bind", func(d *desired.Document) { d.Sandboxes[0].Dashboard.Bind = "0.0.0.0" }, []string{"sandbox/old dashboard bind: 0.0.0.0 [dashboard]"}},
		{"dashboard stopped", func(d *desired.Document) { d.Sandboxes[0].Dashboard.Stopped = true }, []string{"sandbox/old dashboard: listening becomes stopped [dashboard]"}},
		{"forwards", func(d *desired.Document) {
			d.Sandboxes[0].Forwards = []desired.Forward{{Port: 8080}, {Bind: "0.0.0.0", TargetPort: 3000}}
		}, []string{"sandbox/old forwards: 8080 to 8080, 0.0.0.0:any port to 3000 [dashboard]"}},
		{"agent", func(d *desired.Document) {
			d.Sandboxes[0].Agent, d.Sandboxes[0].Command = "command", []string{"make", "all"}
		}, []string{"sandbox/old agent: console becomes command [sandbox agent dashboard]", "sandbox/old command: make all [sandbox agent dashboard]"}},
		{"environment", func(d *desired.Document) { d.Sandboxes[0].Environment = map[string]string{"A": canary} },
			[]string{"sandbox/old environment: A [sandbox agent dashboard]"}},
		{"another sandbox", func(d *desired.Document) { *d = d.With(desired.Sandbox{Name: "new"}) }, []string{"sandbox/new: new, agent console [sandbox agent dashboard]"}},
		{"one less", func(d *desired.Document) { *d = d.Without("old") }, []string{"sandbox/old: no longer wanted; it is left as it is []"}},
		{"where in a cluster", func(d *desired.Document) { d.Cluster = desired.Cluster{Context: "east", Namespace: "ns"} },
			[]string{"context: east [secrets gateway registration]", "namespace: ns [secrets gateway registration]"}},
		{"gateway port", func(d *desired.Document) { d.Gateway.Port = 5000 }, []string{"gateway port: any free port becomes 5000 [gateway registration]"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := before.With(before.Sandboxes[0])
			c.change(&now)
			var got []string
			for _, change := range Changes(before, now) {
				affects := make([]string, 0, len(change.Affects))
				for _, id := range change.Affects {
					affects = append(affects, string(id))
				}
				got = append(got, change.String()+" ["+strings.Join(affects, " ")+"]")
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if strings.Contains(strings.Join(got, ""), canary) {
				t.Error("a value of the environment is repeated")
			}
		})
	}
	if all := Changes(nil, *before); len(all) == 0 {
		t.Error("against nothing recorded nothing changed")
	}
}

// The model is settled alone: a gateway of any runtime, with no sandbox or with many,
// gets no sandbox for it.
func TestSettleInference(t *testing.T) {
	d := desired.New("creel")
	d.Runtime, d.Driver = desired.Kubernetes, "kubernetes"
	for _, c := range []struct {
		name  string
		flags map[Key]string
		env   map[string]string
		want  desired.Inference
	}{
		{"by flag", map[Key]string{Provider: "openai", Model: "m"}, nil, desired.Inference{Provider: "openai", Model: "m"}},
		{"by variable", nil, map[string]string{"CREEL_PROVIDER": "openai", "CREEL_MODEL": "m"}, desired.Inference{Provider: "openai", Model: "m"}},
		{"none", map[Key]string{Provider: "none"}, nil, desired.Inference{Provider: "none"}},
	} {
		env := map[string]string{"OPENAI_API_KEY": "sk-key"}
		maps.Copy(env, c.env)
		got, key, err := SettleInference(t.Context(), Inputs{Gateway: "creel", Recorded: &d, Flags: c.flags, Getenv: func(n string) string { return env[n] }})
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		got.CredentialEnv = ""
		if got != c.want || key.Empty() != (c.want.Provider == "none") {
			t.Errorf("%s: %+v, key is missing: %t", c.name, got, key.Empty())
		}
	}
	if _, _, err := SettleInference(t.Context(), Inputs{Gateway: "creel", Recorded: &d, Flags: map[Key]string{Provider: "none", Model: "m"},
		Getenv: func(string) string { return "" }}); err == nil {
		t.Error("a model without a provider was taken")
	}
}

// Everybody who lists the providers lists the same: the wizard, the help of the flag,
// and what a wrong name is answered with.
func TestProvidersAreTheSameEverywhere(t *testing.T) {
	p := &person{t: t, answers: map[string]string{"Model provider": "none"}}
	_, err := Settle(t.Context(), Inputs{Gateway: "creel", Flags: map[Key]string{}, Getenv: func(string) string { return "" }, Prompter: p})
	if err != nil {
		t.Fatal(err)
	}
	_, wrong := inference.Lookup("nobody")
	for _, q := range Questions() {
		if q.Key != Provider {
			continue
		}
		for _, name := range inference.Names() {
			if !strings.Contains(q.Meaning, name) || !strings.Contains(wrong.Error(), name) || !slices.Contains(p.offered, name) {
				t.Errorf("%s is not in each of %q, %q and %q", name, q.Meaning, wrong, p.offered)
			}
		}
		if len(p.offered) != len(inference.Names()) || strings.Contains(q.Meaning, "anthropic") {
			t.Errorf("%q and %q hold more than is supported", p.offered, q.Meaning)
		}
	}
}

// A gateway that came to nothing does not keep its name to its runtime, and what was
// settled for that is asked for anew; one that has come to be does, and the advice names
// the runtime that was asked for.
func TestSettleAnotherRuntime(t *testing.T) {
	recorded := desired.New("creel")
	recorded.Runtime, recorded.Driver, recorded.Gateway.TLS = desired.OpenShell, desired.DriverOf(desired.OpenShell), desired.Plaintext
	recorded = recorded.With(desired.Sandbox{Name: "box", Agent: "command", Command: []string{"true"}}).WithDefaults()
	in := Inputs{Gateway: "creel", Flags: map[Key]string{Runtime: desired.K3s}, Recorded: &recorded, GatewayOnly: true, Getenv: func(string) string { return "" }}
	s, err := Settle(t.Context(), in)
	if d := s.Document; err != nil || d.Runtime != desired.K3s || d.Gateway.TLS != "" || len(d.Sandboxes) != 0 {
		t.Errorf("%+v, %v", d, err)
	}
	in.Begun, in.GatewayOnly = true, false
	_, err = Settle(t.Context(), in)
	if p, ok := advisory.Of(err); !ok || p.ID != "runtime-changed" || p.Commands()[0] != "creel onboard --gateway OTHER --runtime k3s" {
		t.Errorf("%v", err)
	}
}
