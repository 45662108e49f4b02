// Package desired is what a user wants of one gateway: the document that onboard
// writes and apply reads, config/gateways/NAME.yaml. It is strict and versioned,
// holds no secret, and does no I/O but Load and Save.
package desired

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"strings"

	"creel/internal/agent"
	"creel/internal/dashboard"
	"creel/internal/policy"
	"creel/internal/sandbox"
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
	Runtime    string    `yaml:"runtime"` // one of Runtimes
	Driver     string    `yaml:"driver"`  // the runtime's, see DriverOf
	Gateway    Gateway   `yaml:"gateway,omitempty"`
	Cluster    Cluster   `yaml:"cluster,omitempty"`
	Inference  Inference `yaml:"inference,omitempty"`
	Sandboxes  []Sandbox `yaml:"sandboxes,omitempty"`
}

// Gateway is where the gateway listens.
type Gateway struct {
	// Port is the wanted port, of the port-forward on runtime kubernetes; 0 means the
	// runtime's usual one or the next free one. A port that is written down is
	// explicit: no other is taken.
	Port int `yaml:"port,omitempty"`
	// Endpoint is where a gateway of runtime external is, as a URL; empty is what its
	// registration says. On runtime kubernetes it is a service that this machine
	// reaches without a port-forward.
	Endpoint string `yaml:"endpoint,omitempty"`
	// TLS is "plaintext" where a gateway of runtime openshell was asked to serve
	// without; empty is mtls.
	TLS string `yaml:"tls,omitempty"`
}

// Cluster is where a gateway of runtime kubernetes or k3s is. What is left out is
// what kubectl and OpenShell would take.
type Cluster struct {
	// Kubeconfig, Context and InCluster say how the cluster is reached (runtime
	// kubernetes).
	Kubeconfig string `yaml:"kubeconfig,omitempty"`
	Context    string `yaml:"context,omitempty"`
	InCluster  bool   `yaml:"inCluster,omitempty"`
	// Container is the one that the cluster runs in (runtime k3s).
	Container string `yaml:"container,omitempty"`
	// Namespace and StatefulSet are what the gateway is called in the cluster.
	Namespace   string `yaml:"namespace,omitempty"`
	StatefulSet string `yaml:"statefulset,omitempty"`
}

// How a gateway is run.
const (
	Embedded   = "embedded"
	OpenShell  = "openshell"
	K3s        = "k3s"
	Kubernetes = "kubernetes"
	External   = "external"
)

// Plaintext is the value of Gateway.TLS for none.
const Plaintext = "plaintext"

// Runtimes lists how a gateway can be run.
func Runtimes() []string { return []string{Embedded, OpenShell, K3s, Kubernetes, External} }

// DriverOf is how sandboxes are run on a gateway of this runtime: by Creel, by
// OpenShell's containers, or as its owner decided.
func DriverOf(runtime string) string {
	switch runtime {
	case OpenShell:
		return "docker"
	case K3s, Kubernetes:
		return "kubernetes"
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
	// Left out it is wide on WSL and with a public URL of another host too.
	Bind string `yaml:"bind,omitempty"`
	// PublicURL is where people open the dashboard when something stands in front of
	// it, e.g. https://agent.example/claw.
	PublicURL string `yaml:"publicURL,omitempty"`
	// TrustedProxies are networks in CIDR form whose X-Forwarded-* headers are
	// believed.
	TrustedProxies []string `yaml:"trustedProxies,omitempty"`
	TargetPort     int      `yaml:"targetPort,omitempty"` // the agent's own, for agent command
	HealthPath     string   `yaml:"healthPath,omitempty"` // for agent command
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
		s.Dashboard = s.Dashboard.recorded()
		s.Agent = cmp.Or(s.Agent, "console")
		s.Restart = cmp.Or(s.Restart, sandbox.RestartAlways)
		s.Confinement = cmp.Or(s.Confinement, sandbox.TierAuto)
		s.Wanted = cmp.Or(s.Wanted, sandbox.Running)
	}
	return d
}

// access is what the dashboard declares, as the rest of Creel knows it.
func (b Dashboard) access() dashboard.Access {
	return dashboard.Access{PublicURL: b.PublicURL, TrustedProxies: b.TrustedProxies}
}

// SetBind says where the listener is; empty leaves it to the rest of what is
// declared. The error of each setter is an *advisory.Problem.
func (b *Dashboard) SetBind(address string) error {
	if _, err := dashboard.Build(dashboard.Input{Bind: address}); err != nil {
		return err
	}
	b.Bind = address
	return nil
}

// SetPublicURL says where people open the dashboard; empty takes that back.
func (b *Dashboard) SetPublicURL(url string) error {
	if strings.TrimSpace(url) == "" {
		b.PublicURL = ""
		return nil
	}
	checked, err := dashboard.CheckPublicURL(url)
	if err != nil {
		return err
	}
	b.PublicURL = checked
	return nil
}

// SetTrustedProxies says whose headers are believed: networks separated by commas,
// in place of those that were declared before.
func (b *Dashboard) SetTrustedProxies(list string) error {
	checked, err := dashboard.CheckProxies(strings.Split(list, ","))
	if err != nil {
		return err
	}
	b.TrustedProxies = checked
	return nil
}

// recorded writes what is declared in the one way that it is recorded; what cannot
// be meant stays, for validate to find.
func (b Dashboard) recorded() Dashboard {
	if url, err := dashboard.CheckPublicURL(b.PublicURL); err == nil {
		b.PublicURL = url
	}
	if networks, err := dashboard.CheckProxies(b.TrustedProxies); err == nil {
		b.TrustedProxies = networks
	}
	return b
}

// Spec is the sandbox in the terms of package sandbox, on a machine that is a WSL
// or not.
func (s Sandbox) Spec(wsl bool) (sandbox.Spec, error) {
	m, err := agent.Lookup(s.Agent)
	if err != nil {
		return sandbox.Spec{}, err
	}
	doc := policy.Default()
	if s.Policy != nil {
		doc = *s.Policy
	}
	command, target, health := m.Argv(s.Command), m.Port, m.HealthPath
	if m.Port == 0 {
		target, health = s.Dashboard.TargetPort, s.Dashboard.HealthPath
	}
	spec := sandbox.Spec{
		Agent: s.Agent, Command: command, Environment: maps.Clone(s.Environment), Restart: s.Restart,
		Confinement: s.Confinement, RiskAccepted: s.AcceptRisk == string(sandbox.TierUnconfined),
		Policy: doc.Canonical(), PolicyHash: doc.Hash(),
	}
	if target != 0 {
		access := s.Dashboard.access()
		chain, err := dashboard.Build(dashboard.Input{URL: access.PublicURL, WSL: wsl, Bind: s.Dashboard.Bind})
		if err != nil {
			return sandbox.Spec{}, err
		}
		spec.Dashboard = sandbox.Dashboard{TargetPort: target, Bind: chain.BindAddress, Port: cmp.Or(s.Dashboard.Port, access.ListenPort()),
			PortExplicit: s.Dashboard.Port != 0, HealthPath: health, WebSocket: m.WebSocketPath, Stopped: s.Dashboard.Stopped,
			Access: access}
	}
	for _, f := range s.Forwards {
		spec.Forwards = append(spec.Forwards, sandbox.Forward{Bind: cmp.Or(f.Bind, dashboard.Loopback), Port: f.Port, TargetPort: f.Target()})
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

// GatewayOnly reports that nothing is wanted but the gateway: no sandbox and no
// model provider.
func (d Document) GatewayOnly() bool {
	return len(d.Sandboxes) == 0 && d.WithDefaults().Inference.Provider == "none"
}

// Without removes a sandbox; d is unchanged.
func (d Document) Without(name string) Document {
	d.Sandboxes = slices.DeleteFunc(slices.Clone(d.Sandboxes), func(s Sandbox) bool { return s.Name == name })
	return d
}
