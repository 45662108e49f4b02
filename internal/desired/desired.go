// Package desired is what a user wants of one gateway: the document that onboard
// writes and apply reads, config/gateways/NAME.yaml. It is strict and versioned,
// holds no secret, and does no I/O but Load and Save.
package desired

import (
	"bytes"
	"cmp"
	"maps"
	"slices"

	"creel/internal/agent"
	"creel/internal/policy"
	"creel/internal/sandbox"
)

// APIVersion and Kind are the first two lines of every document.
const (
	APIVersion = "creel/v1alpha1"
	Kind       = "Gateway"
)

// Loopback is where listeners are bound unless asked otherwise.
const Loopback = sandbox.Loopback

// MaxSize is the largest document that is read, in bytes.
const MaxSize = 1 << 20

// Document is the desired state of one gateway.
type Document struct {
	APIVersion string    `yaml:"apiVersion"`
	Kind       string    `yaml:"kind"`
	Name       string    `yaml:"name"`
	Runtime    string    `yaml:"runtime"` // one of Runtimes
	Driver     string    `yaml:"driver"`  // the runtime's, see DriverOf
	Gateway    Gateway   `yaml:"gateway,omitempty"`
	Inference  Inference `yaml:"inference,omitempty"`
	Sandboxes  []Sandbox `yaml:"sandboxes,omitempty"`
}

// Gateway is where the gateway listens.
type Gateway struct {
	// Port is the wanted port; 0 means 17670 or the next free one. A port that is
	// written down is explicit: no other is taken.
	Port int `yaml:"port,omitempty"`
	// Endpoint is where a gateway of runtime external is, as a URL; empty is what its
	// registration says.
	Endpoint string `yaml:"endpoint,omitempty"`
	// TLS is "plaintext" where a gateway of runtime openshell was asked to serve
	// without; empty is mtls.
	TLS string `yaml:"tls,omitempty"`
}

// How a gateway is run.
const (
	Embedded  = "embedded"
	OpenShell = "openshell"
	External  = "external"
)

// Plaintext is the value of Gateway.TLS for none.
const Plaintext = "plaintext"

// Runtimes lists how a gateway can be run.
func Runtimes() []string { return []string{Embedded, OpenShell, External} }

// DriverOf is how sandboxes are run on a gateway of this runtime: by Creel, by
// OpenShell's containers, or as its owner decided.
func DriverOf(runtime string) string {
	switch runtime {
	case OpenShell:
		return "docker"
	case External:
		return "external"
	}
	return "process"
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
	// AcceptRisk is "unconfined" where running without confinement was accepted:
	// for confinement unconfined, or for auto where nothing stronger works.
	AcceptRisk string `yaml:"acceptRisk,omitempty"`
	// Policy is nil for the default policy. PolicyFile names a file instead; Load
	// puts the file's content into Policy, so that what was agreed to cannot change
	// behind the recorded document.
	Policy     *policy.Document `yaml:"policy,omitempty"`
	PolicyFile string           `yaml:"policyFile,omitempty"`
	Dashboard  Dashboard        `yaml:"dashboard,omitempty"`
	// Forwards are the ports inside that are reached beside the dashboard.
	Forwards []Forward      `yaml:"forwards,omitempty"`
	Wanted   sandbox.Wanted `yaml:"wanted,omitempty"`
}

// Dashboard is where a sandbox's dashboard should be.
type Dashboard struct {
	Port int `yaml:"port,omitempty"` // of the listener; written down it is explicit
	// Bind is the listener's address: 127.0.0.1 when left out, or 0.0.0.0, which
	// lets every machine that reaches this one try the token.
	Bind       string `yaml:"bind,omitempty"`
	TargetPort int    `yaml:"targetPort,omitempty"` // the agent's own, for agent command
	HealthPath string `yaml:"healthPath,omitempty"` // for agent command
	// Stopped: its listener was stopped on purpose, with "creel forward stop".
	Stopped bool `yaml:"stopped,omitempty"`
}

// Forward is a port of this machine that leads to one inside a sandbox.
type Forward struct {
	Port       int    `yaml:"port,omitempty"`       // of the listener; left out it is any free one
	Bind       string `yaml:"bind,omitempty"`       // as a dashboard's
	TargetPort int    `yaml:"targetPort,omitempty"` // inside; left out it is the same as port
}

// Target is the port inside the sandbox.
func (f Forward) Target() int { return cmp.Or(f.TargetPort, f.Port) }

// New is the document of a gateway of which nothing is wanted yet.
func New(name string) Document {
	return Document{APIVersion: APIVersion, Kind: Kind, Name: name, Runtime: "embedded", Driver: "process",
		Inference: Inference{Provider: "none"}}
}

// WithDefaults fills what a document may leave out.
func (d Document) WithDefaults() Document {
	d.Runtime = cmp.Or(d.Runtime, Embedded)
	d.Driver = cmp.Or(d.Driver, DriverOf(d.Runtime))
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
		Agent: s.Agent, Command: command, Environment: maps.Clone(s.Environment), Restart: s.Restart,
		Confinement: s.Confinement, RiskAccepted: s.AcceptRisk == string(sandbox.TierUnconfined),
		Policy: doc.Canonical(), PolicyHash: doc.Hash(),
	}
	if target != 0 {
		spec.Dashboard = sandbox.Dashboard{TargetPort: target, Bind: cmp.Or(s.Dashboard.Bind, Loopback), Port: s.Dashboard.Port,
			PortExplicit: s.Dashboard.Port != 0, HealthPath: health, WebSocket: m.WebSocketPath, Stopped: s.Dashboard.Stopped}
	}
	for _, f := range s.Forwards {
		spec.Forwards = append(spec.Forwards, sandbox.Forward{Bind: cmp.Or(f.Bind, Loopback), Port: f.Port, TargetPort: f.Target()})
	}
	return spec, nil
}

// Equal reports whether two documents want the same.
func (d Document) Equal(other Document) bool {
	a, errA := d.Encode()
	b, errB := other.Encode()
	return errA == nil && errB == nil && bytes.Equal(a, b)
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
