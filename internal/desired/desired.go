// Package desired is what a user wants of one gateway: the document that onboard
// writes and apply reads, config/gateways/NAME.yaml. It is strict and versioned,
// holds no secret, and does no I/O but Load and Save.
package desired

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"

	"github.com/goccy/go-yaml"

	"creel/internal/advisory"
	"creel/internal/agent"
	"creel/internal/inference"
	"creel/internal/policy"
	"creel/internal/sandbox"
	"creel/internal/state"
)

// APIVersion and Kind are the first two lines of every document.
const (
	APIVersion = "creel/v1alpha1"
	Kind       = "Gateway"
)

// MaxSize is the largest document that is read, in bytes.
const MaxSize = 1 << 20

// Document is the desired state of one gateway.
type Document struct {
	APIVersion string    `yaml:"apiVersion"`
	Kind       string    `yaml:"kind"`
	Name       string    `yaml:"name"`
	Runtime    string    `yaml:"runtime"` // "embedded"
	Driver     string    `yaml:"driver"`  // "process"
	Gateway    Gateway   `yaml:"gateway,omitempty"`
	Inference  Inference `yaml:"inference,omitempty"`
	Sandboxes  []Sandbox `yaml:"sandboxes,omitempty"`
}

// Gateway is where the gateway listens.
type Gateway struct {
	// Port is the wanted port; 0 means 17670 or the next free one. A port that is
	// written down is explicit: no other is taken.
	Port int `yaml:"port,omitempty"`
}

// Inference is which provider and model answer.
type Inference struct {
	Provider      string `yaml:"provider"` // a name of package inference, or "none"
	EndpointURL   string `yaml:"endpointURL,omitempty"`
	Model         string `yaml:"model,omitempty"`
	CredentialEnv string `yaml:"credentialEnv,omitempty"` // the variable's name, never its value
}

// Sandbox is one wanted sandbox.
type Sandbox struct {
	Name        string                `yaml:"name"`
	Agent       string                `yaml:"agent"`
	Command     []string              `yaml:"command,omitempty"`
	Environment map[string]string     `yaml:"environment,omitempty"`
	Restart     sandbox.RestartPolicy `yaml:"restart,omitempty"`
	Confinement sandbox.Tier          `yaml:"confinement,omitempty"`
	Policy      *policy.Document      `yaml:"policy,omitempty"` // nil is the default policy
	Dashboard   Dashboard             `yaml:"dashboard,omitempty"`
	Wanted      sandbox.Wanted        `yaml:"wanted,omitempty"`
}

// Dashboard is where a sandbox's dashboard should be.
type Dashboard struct {
	Port       int    `yaml:"port,omitempty"`       // of the listener; written down it is explicit
	TargetPort int    `yaml:"targetPort,omitempty"` // the agent's own, for agent command
	HealthPath string `yaml:"healthPath,omitempty"` // for agent command
}

// New is the document of a gateway of which nothing is wanted yet.
func New(name string) Document {
	return Document{APIVersion: APIVersion, Kind: Kind, Name: name, Runtime: "embedded", Driver: "process",
		Inference: Inference{Provider: "none"}}
}

// Parse reads a document strictly. file is only for messages. A mistake is the
// advisory "desired-invalid" with the line of the source; another apiVersion is
// "desired-version".
func Parse(file string, content []byte) (Document, error) {
	if len(content) > MaxSize {
		return Document{}, advisory.New("desired-invalid", fmt.Sprintf("%s has %d bytes, at most %d are read", file, len(content), MaxSize), nil)
	}
	var head struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string `yaml:"kind"`
	}
	if err := yaml.Unmarshal(content, &head); err != nil {
		return Document{}, invalid(file, err)
	}
	switch {
	case head.APIVersion == "":
		return Document{}, invalid(file, errors.New("apiVersion is missing, expected "+APIVersion))
	case head.APIVersion != APIVersion:
		return Document{}, advisory.New("desired-version", fmt.Sprintf("%s has apiVersion %q, this version reads %q", file, head.APIVersion, APIVersion), nil)
	case head.Kind != Kind:
		return Document{}, invalid(file, fmt.Errorf("kind is %q, expected %q", head.Kind, Kind))
	}
	var d Document
	if err := yaml.NewDecoder(bytes.NewReader(content), yaml.Strict()).Decode(&d); err != nil {
		return Document{}, invalid(file, err)
	}
	d = d.WithDefaults()
	if err := d.Validate(); err != nil {
		return Document{}, invalid(file, err)
	}
	return d, nil
}

func invalid(file string, err error) error {
	return advisory.New("desired-invalid", "read "+file, err)
}

// WithDefaults fills what a document may leave out.
func (d Document) WithDefaults() Document {
	d.Runtime = cmp.Or(d.Runtime, "embedded")
	d.Driver = cmp.Or(d.Driver, "process")
	d.Inference.Provider = cmp.Or(d.Inference.Provider, "none")
	d.Sandboxes = slices.Clone(d.Sandboxes)
	for i := range d.Sandboxes {
		s := &d.Sandboxes[i]
		s.Agent = cmp.Or(s.Agent, "console")
		s.Restart = cmp.Or(s.Restart, sandbox.RestartAlways)
		s.Confinement = cmp.Or(s.Confinement, sandbox.TierAuto)
		s.Wanted = cmp.Or(s.Wanted, sandbox.Running)
	}
	return d
}

// Validate reports the first thing that cannot be meant.
func (d Document) Validate() error {
	if err := sandbox.CheckName(d.Name); err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	if d.Runtime != "embedded" {
		return fmt.Errorf("runtime %q is not supported; supported is embedded", d.Runtime)
	}
	if d.Driver != "process" {
		return fmt.Errorf("driver %q is not supported; supported is process", d.Driver)
	}
	if err := checkPort("gateway.port", d.Gateway.Port); err != nil {
		return err
	}
	if err := d.Inference.Validate(); err != nil {
		return fmt.Errorf("inference: %w", err)
	}
	seen := map[string]bool{}
	ports := map[int]string{}
	for _, s := range d.Sandboxes {
		if err := s.Validate(); err != nil {
			return fmt.Errorf("sandbox %q: %w", s.Name, err)
		}
		if seen[s.Name] {
			return fmt.Errorf("sandbox %q appears twice", s.Name)
		}
		seen[s.Name] = true
		if p := s.Dashboard.Port; p != 0 {
			if other := ports[p]; other != "" {
				return fmt.Errorf("sandboxes %q and %q both want dashboard port %d", other, s.Name, p)
			}
			ports[p] = s.Name
		}
	}
	return nil
}

// Validate reports the first thing that cannot be meant.
func (i Inference) Validate() error {
	p, err := inference.Lookup(i.Provider)
	if err != nil {
		return err
	}
	if i.EndpointURL != "" {
		u, err := url.Parse(i.EndpointURL)
		if err == nil && u.User != nil {
			return errors.New("endpointURL must not hold user information: name the variable of the credential instead")
		}
		if _, err := inference.NormalizeURL(i.EndpointURL); err != nil {
			return err
		}
	}
	if p.Name == "none" {
		if i.Model != "" || i.EndpointURL != "" || i.CredentialEnv != "" {
			return errors.New(`provider "none" takes no model, endpointURL or credentialEnv`)
		}
		return nil
	}
	if i.Model == "" {
		return fmt.Errorf("provider %q needs a model", i.Provider)
	}
	return inference.CheckModel(i.Model)
}

// Validate reports the first thing that cannot be meant.
func (s Sandbox) Validate() error {
	if err := sandbox.CheckName(s.Name); err != nil {
		return err
	}
	if _, err := agent.Lookup(s.Agent); err != nil {
		return err
	}
	switch {
	case s.Agent == "command" && len(s.Command) == 0:
		return errors.New(`agent "command" needs a command`)
	case s.Agent != "command" && len(s.Command) > 0:
		return fmt.Errorf("agent %q takes no command", s.Agent)
	case s.Agent != "command" && (s.Dashboard.TargetPort != 0 || s.Dashboard.HealthPath != ""):
		return fmt.Errorf("agent %q takes no dashboard.targetPort or healthPath", s.Agent)
	case s.Dashboard.HealthPath != "" && s.Dashboard.HealthPath[0] != '/':
		return fmt.Errorf("dashboard.healthPath %q does not begin with a slash", s.Dashboard.HealthPath)
	}
	for _, v := range []struct {
		name  string
		value string
		valid []string
	}{
		{"restart", string(s.Restart), []string{"always", "on-failure", "never"}},
		{"confinement", string(s.Confinement), []string{"auto", "namespaces", "landlock", "unconfined"}},
		{"wanted", string(s.Wanted), []string{"running", "stopped"}},
	} {
		if !slices.Contains(v.valid, v.value) {
			return fmt.Errorf("%s %q is none of %v", v.name, v.value, v.valid)
		}
	}
	if err := checkPort("dashboard.port", s.Dashboard.Port); err != nil {
		return err
	}
	if err := checkPort("dashboard.targetPort", s.Dashboard.TargetPort); err != nil {
		return err
	}
	if s.Policy != nil {
		return s.Policy.Validate()
	}
	return nil
}

func checkPort(name string, port int) error {
	if port < 0 || port > 65535 {
		return fmt.Errorf("%s %d is not between 1 and 65535", name, port)
	}
	return nil
}

// Spec is the sandbox in the terms of package sandbox.
func (s Sandbox) Spec() (sandbox.Spec, error) {
	m, err := agent.Lookup(s.Agent)
	if err != nil {
		return sandbox.Spec{}, err
	}
	doc := policy.Default()
	if s.Policy != nil {
		doc = *s.Policy
	}
	command, target, health := m.Command, m.Port, m.HealthPath
	if s.Agent == "command" {
		command, target, health = s.Command, s.Dashboard.TargetPort, s.Dashboard.HealthPath
	}
	spec := sandbox.Spec{
		Agent: s.Agent, Command: command, Environment: maps.Clone(s.Environment), Restart: s.Restart, Confinement: s.Confinement,
		Policy: doc.Canonical(), PolicyHash: doc.Hash(),
	}
	if target != 0 {
		spec.Dashboard = sandbox.Dashboard{TargetPort: target, Bind: "127.0.0.1", Port: s.Dashboard.Port,
			PortExplicit: s.Dashboard.Port != 0, HealthPath: health, WebSocket: m.WebSocketPath}
	}
	return spec, nil
}

// Equal reports whether two documents want the same.
func (d Document) Equal(other Document) bool {
	return reflect.DeepEqual(d.WithDefaults(), other.WithDefaults())
}

// Sandbox finds a sandbox by its name.
func (d Document) Sandbox(name string) (Sandbox, bool) {
	for _, s := range d.Sandboxes {
		if s.Name == name {
			return s, true
		}
	}
	return Sandbox{}, false
}

// With replaces or adds a sandbox; d is unchanged.
func (d Document) With(s Sandbox) Document {
	d.Sandboxes = slices.Clone(d.Sandboxes)
	for i := range d.Sandboxes {
		if d.Sandboxes[i].Name == s.Name {
			d.Sandboxes[i] = s
			return d
		}
	}
	d.Sandboxes = append(d.Sandboxes, s)
	return d
}

// Without removes a sandbox; d is unchanged.
func (d Document) Without(name string) Document {
	d.Sandboxes = slices.DeleteFunc(slices.Clone(d.Sandboxes), func(s Sandbox) bool { return s.Name == name })
	return d
}

// Encode writes the document as YAML.
func (d Document) Encode() ([]byte, error) {
	b, err := yaml.MarshalWithOptions(d.WithDefaults(), yaml.IndentSequence(true))
	if err != nil {
		return nil, fmt.Errorf("write desired state: %w", err)
	}
	return b, nil
}

// Load reads the file at path. An absent file is fs.ErrNotExist.
func Load(path string) (Document, error) {
	f, err := os.Open(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return Document{}, err
		}
		return Document{}, advisory.New("desired-unreadable", "read desired state", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	switch {
	case err != nil:
		return Document{}, advisory.New("desired-unreadable", "read desired state", err)
	case !info.Mode().IsRegular():
		return Document{}, advisory.New("desired-unreadable", path+" is not a file", nil)
	case info.Size() > MaxSize:
		return Document{}, advisory.New("desired-invalid", fmt.Sprintf("%s has %d bytes, at most %d are read", path, info.Size(), MaxSize), nil)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return Document{}, advisory.New("desired-unreadable", "read desired state", err)
	}
	return Parse(path, content)
}

// Save writes the file at path durably, making its directory.
func (d Document) Save(path string) error {
	content, err := d.Encode()
	if err != nil {
		return err
	}
	if err := state.MkdirAll(filepath.Dir(path)); err != nil {
		return advisory.New("state-unwritable", "write desired state", err)
	}
	if err := state.WriteFile(path, content, state.FileMode); err != nil {
		return advisory.New("state-unwritable", "write desired state", err)
	}
	return nil
}
