package onboard

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"creel/internal/advisory"
	"creel/internal/agent"
	"creel/internal/credential"
	"creel/internal/desired"
	"creel/internal/inference"
	"creel/internal/policy"
	"creel/internal/sandbox"
)

// DefaultSandbox is the sandbox's name when nobody says otherwise.
const DefaultSandbox = "claw"

// Option is one choice of a prompt.
type Option struct{ Value, Label string }

// Prompter asks a person. A nil Prompter means that nobody can be asked.
type Prompter interface {
	Select(ctx context.Context, title string, options []Option, chosen string) (string, error)
	Input(ctx context.Context, title, value string, check func(string) error) (string, error)
	Secret(ctx context.Context, title string) (credential.Secret, error)
}

// Inputs is everything that a desired state is settled from.
type Inputs struct {
	Gateway string         // name of the gateway
	Flags   map[Key]string // only those that were given
	Command []string       // words after --
	Getenv  func(string) string
	// GatewayOnly wants the gateway alone: no sandbox and no model provider.
	GatewayOnly bool
	Recorded    *desired.Document            // nil when nothing is recorded
	Begun       bool                         // the recorded gateway has come to be, and keeps its runtime
	Fresh       bool                         // Recorded holds no answers about the model
	ReadFile    func(string) ([]byte, error) // nil is os.ReadFile
	Prompter    Prompter
}

// Settled is what is wanted now.
type Settled struct {
	Document desired.Document
	Sandbox  string            // the sandbox that this command line is about; empty when only the gateway is wanted
	Key      credential.Secret // empty when none was given
	Notes    []string          // what a person should know, one sentence each
}

// RuntimeChanged refuses a gateway that has come to be another runtime.
func RuntimeChanged(recorded desired.Document, wanted string) error {
	return advisory.New("runtime-changed", fmt.Sprintf("gateway %s is of runtime %s", recorded.Name, recorded.Runtime), nil,
		"creel onboard --gateway OTHER --runtime "+wanted, "creel uninstall")
}

// Settle decides what is wanted: flags, then the environment, then what is
// recorded, then prompts, then defaults. Mistakes are usage problems that name
// the flag or the variable.
func Settle(ctx context.Context, in Inputs) (Settled, error) {
	s := settling{Inputs: in}
	if s.ReadFile == nil {
		s.ReadFile = os.ReadFile
	}
	doc := desired.New(in.Gateway)
	wanted, from := s.given(Runtime)
	switch {
	case s.Recorded == nil:
	case !s.Begun && slices.Contains(desired.Runtimes(), wanted) && wanted != s.Recorded.Runtime:
		s.Recorded = nil // it came to nothing
	default:
		doc = *s.Recorded
	}
	if err := s.conflicts(); err != nil {
		return Settled{}, err
	}
	if wanted != "" {
		switch {
		case !slices.Contains(desired.Runtimes(), wanted):
			return Settled{}, invalid(from, fmt.Errorf("runtime %q is not supported; supported are %s", wanted, strings.Join(desired.Runtimes(), ", ")))
		case s.Recorded != nil && wanted != doc.Runtime:
			// What one runtime left on disk and in processes is not another's to use.
			return Settled{}, RuntimeChanged(doc, wanted)
		}
		doc.Runtime, doc.Driver = wanted, desired.DriverOf(wanted)
	}
	if v, from := s.given(Driver); v != "" {
		if want := desired.DriverOf(doc.Runtime); v != want {
			return Settled{}, invalid(from, fmt.Errorf("driver %q is not supported by runtime %s; supported is %s", v, doc.Runtime, want))
		}
	}
	var err error
	if doc.Gateway.Port, err = s.port(GatewayPort, doc.Gateway.Port); err != nil {
		return Settled{}, err
	}
	if v, from := s.given(GatewayEndpoint); from != "" { // an empty flag takes it back
		doc.Gateway.Endpoint = v
	}
	for key, field := range map[Key]*string{Kubeconfig: &doc.Cluster.Kubeconfig, KubeContext: &doc.Cluster.Context,
		Namespace: &doc.Cluster.Namespace, StatefulSet: &doc.Cluster.StatefulSet, Container: &doc.Cluster.Container} {
		if v, from := s.given(key); v != "" {
			if key == Kubeconfig { // it is read from other directories too
				abs, err := filepath.Abs(v)
				if err != nil {
					return Settled{}, invalid(from, err)
				}
				v = abs
			}
			*field = v
		}
	}
	if v, from := s.given(GatewayTLS); v != "" {
		if v != "mtls" && v != desired.Plaintext {
			return Settled{}, invalid(from, fmt.Errorf("%q is none of mtls, plaintext", v))
		}
		doc.Gateway.TLS = ""
		if v == desired.Plaintext {
			doc.Gateway.TLS = v
		}
	}
	if s.gatewayOnly(doc) {
		return settleGateway(doc)
	}
	box, err := s.sandbox(doc)
	if err != nil {
		return Settled{}, err
	}
	doc = doc.With(box)
	var key credential.Secret
	var notes []string
	if doc.Inference, key, notes, err = s.inference(ctx, doc.Inference, s.Recorded == nil || s.Fresh); err != nil {
		return Settled{}, err
	}
	doc = doc.WithDefaults()
	if err := doc.Validate(); err != nil {
		return Settled{}, advisory.New("usage", "", err)
	}
	return Settled{Document: doc, Sandbox: box.Name, Key: key, Notes: notes}, nil
}

// SettleInference answers the questions about the model alone, whatever else is
// recorded and of whatever runtime the gateway is. Without Recorded, or with Fresh, a
// person is asked for the provider.
func SettleInference(ctx context.Context, in Inputs) (desired.Inference, credential.Secret, error) {
	s := settling{Inputs: in}
	recorded := desired.New(in.Gateway).Inference
	if in.Recorded != nil {
		recorded = in.Recorded.Inference
	}
	if err := s.conflicts(); err != nil {
		return recorded, credential.Secret{}, err
	}
	i, key, _, err := s.inference(ctx, recorded, in.Recorded == nil || in.Fresh)
	if err != nil {
		return recorded, credential.Secret{}, err
	}
	if err := i.Validate(); err != nil {
		return recorded, credential.Secret{}, advisory.New("usage", "", err)
	}
	return i, key, nil
}

type settling struct{ Inputs }

// given returns an answer that was given, and where, e.g. "--model" or
// "CREEL_MODEL".
func (s settling) given(k Key) (value, from string) {
	if v, ok := s.Flags[k]; ok {
		return v, "--" + string(k)
	}
	for _, q := range Questions() {
		if q.Key != k {
			continue
		}
		for _, name := range q.Env {
			if v := s.Getenv(name); v != "" {
				return v, name
			}
		}
	}
	return "", ""
}

func invalid(from string, err error) error { return advisory.New("usage", from, err) }

func conflict(a, b, why string) *advisory.Problem {
	return advisory.New("flag-conflict", fmt.Sprintf("%s and %s cannot be used together: %s", a, b, why), nil)
}

func (s settling) conflicts() error {
	if s.GatewayOnly {
		return s.onlyConflicts()
	}
	flag := func(k Key) bool { _, ok := s.Flags[k]; return ok }
	if s.Flags[Provider] == inference.NoProvider {
		for _, k := range []Key{Model, EndpointURL, CredentialEnv} {
			if flag(k) {
				return conflict("--provider none", "--"+string(k), "without a provider there is nothing to set it for")
			}
		}
	}
	if m, err := agent.Lookup(s.Flags[Agent]); err == nil {
		if len(s.Command) > 0 && m.Program == agent.Never {
			return conflict("--agent "+m.Name, "-- "+s.Command[0], "this agent takes no program")
		}
		for _, k := range []Key{AgentPort, HealthPath} {
			if flag(k) && m.Port != 0 {
				return conflict("--agent "+m.Name, "--"+string(k), "this agent knows its own")
			}
		}
	}
	if c := s.Flags[Confinement]; flag(AcceptRisk) && (c == "namespaces" || c == "landlock") {
		return conflict("--confinement "+c, "--accept-risk "+s.Flags[AcceptRisk], "a confined sandbox needs no accepted risk")
	}
	return nil
}

func (s settling) port(k Key, recorded int) (int, error) {
	v, from := s.given(k)
	if v == "" {
		return recorded, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > 65535 {
		return 0, invalid(from, fmt.Errorf("%q is no port number between 1 and 65535", v))
	}
	return n, nil
}

func (s settling) sandbox(doc desired.Document) (desired.Sandbox, error) {
	name, from := s.given(Name)
	switch {
	case name != "":
	case len(doc.Sandboxes) == 1:
		name = doc.Sandboxes[0].Name
	case len(doc.Sandboxes) > 1:
		return desired.Sandbox{}, advisory.New("sandbox-ambiguous", "several sandboxes are recorded: name one with --name", nil)
	default:
		name = DefaultSandbox
	}
	if err := sandbox.CheckName(name); err != nil {
		return desired.Sandbox{}, advisory.New("name-invalid", from, err)
	}
	box, _ := doc.Sandbox(name)
	box.Name = name
	if v, _ := s.given(Agent); v != "" && v != box.Agent {
		// Another agent: what belonged to the old one goes.
		box.Agent, box.Command, box.Dashboard.TargetPort, box.Dashboard.HealthPath = v, nil, 0, ""
	}
	box.Agent = cmp.Or(box.Agent, agent.Console)
	m, err := agent.Lookup(box.Agent)
	if err != nil {
		_, from := s.given(Agent)
		return desired.Sandbox{}, invalid(from, err)
	}
	if len(s.Command) > 0 {
		if box.Command = s.Command; m.Program == agent.Never {
			box.Agent, m.Program = agent.Command, agent.Required
		}
	}
	if m.Program == agent.Required && len(box.Command) == 0 {
		return desired.Sandbox{}, advisory.New("usage", "agent command needs a program after --", nil, "creel onboard --agent command -- PROGRAM")
	}
	if box.Dashboard.Port, err = s.port(DashboardPort, box.Dashboard.Port); err != nil {
		return desired.Sandbox{}, err
	}
	if err := s.access(&box.Dashboard, doc.Runtime); err != nil {
		return desired.Sandbox{}, err
	}
	if box.Dashboard.TargetPort, err = s.port(AgentPort, box.Dashboard.TargetPort); err != nil {
		return desired.Sandbox{}, err
	}
	if v, _ := s.given(HealthPath); v != "" {
		box.Dashboard.HealthPath = v
	}
	if err := s.confinement(&box); err != nil {
		return desired.Sandbox{}, err
	}
	if v, from := s.given(Restart); v != "" {
		if !slices.Contains([]string{"always", "on-failure", "never"}, v) {
			return desired.Sandbox{}, invalid(from, fmt.Errorf("%q is none of always, on-failure, never", v))
		}
		box.Restart = sandbox.RestartPolicy(v)
	}
	if path, from := s.given(PolicyFile); path != "" {
		content, err := s.ReadFile(path)
		if err != nil {
			return desired.Sandbox{}, invalid(from, err)
		}
		p, err := policy.Parse(content)
		if err != nil {
			return desired.Sandbox{}, invalid(from, fmt.Errorf("%s: %w", path, err))
		}
		box.Policy = &p
	}
	// Naming a sandbox in onboard asks for it to run, and for its dashboard to open.
	box.Wanted, box.Dashboard.Stopped = sandbox.Running, false
	return box, nil
}

// confinement settles the tier and the consent. The consent alone is no wish: the
// tier stays what it was. Naming a tier without the consent takes it back, but
// for unconfined, which cannot be without.
func (s settling) confinement(box *desired.Sandbox) error {
	risk, riskFrom := s.given(AcceptRisk)
	if risk != "" && risk != "unconfined" {
		return invalid(riskFrom, fmt.Errorf("%q is no risk that can be accepted; the only one is unconfined", risk))
	}
	tier, from := s.given(Confinement)
	switch {
	case tier == "" && risk == "":
		return nil
	case tier == "" && (box.Confinement == sandbox.TierNamespaces || box.Confinement == sandbox.TierLandlock):
		if _, flag := s.Flags[AcceptRisk]; flag { // a variable may be set for another sandbox
			return conflict(riskFrom, "the recorded confinement "+string(box.Confinement), "it is confined or refused; --confinement auto makes use of the consent")
		}
	case tier == "":
		box.AcceptRisk = risk
	case tier == "unconfined" && risk == "" && box.AcceptRisk == "": // else accepted now, or in an earlier run
		return invalid(from, errors.New("running without confinement also needs --accept-risk unconfined"))
	case tier == "unconfined":
		box.Confinement, box.AcceptRisk = sandbox.TierUnconfined, string(sandbox.TierUnconfined)
	case !slices.Contains([]string{"auto", "namespaces", "landlock"}, tier):
		return invalid(from, fmt.Errorf("%q is none of auto, namespaces, landlock", tier))
	case tier == "auto":
		box.Confinement, box.AcceptRisk = sandbox.TierAuto, risk
	default:
		box.Confinement, box.AcceptRisk = sandbox.Tier(tier), ""
	}
	return nil
}

// inference settles provider, endpoint, model and key. fresh means that nothing
// is recorded, so that a person may be asked.
func (s settling) inference(ctx context.Context, recorded desired.Inference, fresh bool) (desired.Inference, credential.Secret, []string, error) {
	fail := func(err error) (desired.Inference, credential.Secret, []string, error) {
		return desired.Inference{}, credential.Secret{}, nil, err
	}
	i := recorded
	name, from := s.given(Provider)
	endpoint, _ := s.given(EndpointURL)
	if name == "" && endpoint != "" && i.Provider == inference.NoProvider {
		name, from = "custom", "--endpoint-url"
	}
	if name == "" && fresh && s.Prompter != nil {
		v, err := s.askProvider(ctx)
		if err != nil {
			return fail(err)
		}
		name, from = v, "provider"
	}
	if name != "" {
		p, err := inference.Lookup(name)
		if err != nil {
			return fail(invalid(from, err))
		}
		if p.Unsupported != "" {
			return fail(advisory.New("provider-unsupported", fmt.Sprintf("provider %s: %s", p.Name, p.Unsupported), nil))
		}
		if p.Name != i.Provider {
			i = desired.Inference{Provider: p.Name} // another provider: its answers are its own
		}
	}
	if i.Provider == inference.NoProvider {
		for _, k := range []Key{Model, CredentialEnv} {
			if _, flag := s.Flags[k]; flag { // a variable may be set for other uses, a flag is meant
				return fail(advisory.New("usage", fmt.Sprintf("--%s needs --provider: none is set", k), nil))
			}
		}
		note := "No model provider is set; agents run without a model. Set one with: creel inference set --provider openai --model NAME"
		return i, credential.Secret{}, []string{note}, nil
	}
	p, err := inference.Lookup(i.Provider)
	if err != nil {
		return fail(err)
	}
	if endpoint != "" {
		if i.EndpointURL, err = inference.NormalizeURL(endpoint); err != nil {
			_, from := s.given(EndpointURL)
			return fail(invalid(from, err))
		}
	}
	if i.EndpointURL == "" && p.BaseURL == "" {
		if i.EndpointURL, err = s.ask(ctx, EndpointURL, "Base URL of the provider", "", func(v string) error {
			_, err := inference.NormalizeURL(v)
			return err
		}); err != nil {
			return fail(err)
		}
	}
	if v, from := s.given(Model); v != "" {
		if err := inference.CheckModel(v); err != nil {
			return fail(invalid(from, err))
		}
		i.Model = v
	}
	if i.Model == "" {
		if i.Model, err = s.ask(ctx, Model, "Model", p.DefaultModel, inference.CheckModel); err != nil {
			return fail(err)
		}
	}
	key, err := s.key(ctx, p, &i, recorded.Provider == i.Provider)
	if err != nil {
		return fail(err)
	}
	return i, key, nil, nil
}

func (s settling) askProvider(ctx context.Context) (string, error) {
	options := []Option{{inference.NoProvider, "None for now: the agent runs without a model"}}
	for _, p := range inference.Providers() {
		if p.Unsupported == "" && p.Name != inference.NoProvider {
			options = append(options, Option{p.Name, p.Title})
		}
	}
	return s.Prompter.Select(ctx, "Model provider", options, inference.NoProvider)
}

// ask prompts for an answer that has no other source.
func (s settling) ask(ctx context.Context, k Key, title, value string, check func(string) error) (string, error) {
	if s.Prompter == nil {
		if value != "" {
			return value, nil
		}
		return "", advisory.New("usage", fmt.Sprintf("this provider needs --%s", k), nil)
	}
	return s.Prompter.Input(ctx, title, value, check)
}

// key finds the provider's key: the variable named, the usual variables, a
// prompt. It is fine to find none when one is stored for the same provider.
func (s settling) key(ctx context.Context, p inference.Provider, i *desired.Inference, stored bool) (credential.Secret, error) {
	name, from := s.given(CredentialEnv)
	if name != "" {
		if err := desired.CheckVariable(name); err != nil {
			return credential.Secret{}, invalid(from, err)
		}
		i.CredentialEnv = name
		if v := s.Getenv(name); v != "" {
			return s.check(p, i, v)
		}
		if !stored {
			return credential.Secret{}, invalid(from, fmt.Errorf("variable %s is empty or not set", name))
		}
	}
	variables := append(KeyVariables(), i.CredentialEnv)
	if i.EndpointURL == "" || i.EndpointURL == p.BaseURL {
		// A key that lies around for a provider goes to that provider's own address,
		// never to another that somebody named.
		variables = append(variables, p.KeyVariables...)
	}
	for _, name := range variables {
		if name == "" {
			continue
		}
		if v := s.Getenv(name); v != "" {
			return s.check(p, i, v)
		}
	}
	switch {
	case stored || !p.KeyRequired:
		return credential.Secret{}, nil
	case s.Prompter != nil:
		key, err := s.Prompter.Secret(ctx, "Key of "+p.Title)
		if err != nil {
			return credential.Secret{}, err
		}
		return s.check(p, i, key.Reveal())
	}
	return credential.Secret{}, advisory.New("usage", fmt.Sprintf("provider %s needs a key: set %s, or name a variable with --credential-env", p.Name, strings.Join(p.KeyVariables, " or ")), nil,
		"creel onboard --provider "+p.Name+" --credential-env NAME")
}

func (s settling) check(p inference.Provider, i *desired.Inference, value string) (credential.Secret, error) {
	key := credential.NewSecret(strings.TrimSpace(value))
	base := i.EndpointURL
	if base == "" {
		base = p.BaseURL
	}
	if err := p.CheckKey(key, base); err != nil {
		return credential.Secret{}, advisory.New("provider-credential", "", err)
	}
	return key, nil
}
