package desired

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"creel/internal/agent"
	"creel/internal/dashboard"
	"creel/internal/inference"
	"creel/internal/sandbox"
)

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)

// objectName is a DNS label, which both namespaces and StatefulSets have to be.
var objectName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

var containerName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}$`)

// CheckVariable reports what cannot be the name of an environment variable. The
// text may be a key that was pasted into the wrong place: it is not repeated.
func CheckVariable(name string) error {
	if !variableName.MatchString(name) {
		return errors.New("this is not the name of an environment variable (give the name, never the key itself)")
	}
	return nil
}

// Validate reports the first thing that cannot be meant.
func (d Document) Validate() error {
	if err := sandbox.CheckName(d.Name); err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	if !slices.Contains(Runtimes(), d.Runtime) {
		return fmt.Errorf("runtime %q is not supported; supported are %s", d.Runtime, strings.Join(Runtimes(), ", "))
	}
	if want := DriverOf(d.Runtime); d.Driver != want {
		return fmt.Errorf("driver %q is not supported by runtime %s; supported is %s", d.Driver, d.Runtime, want)
	}
	if err := d.Gateway.validate(d.Runtime); err != nil {
		return err
	}
	if err := d.Cluster.validate(d.Runtime); err != nil {
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
		if d.Runtime != Embedded {
			if err := s.validateOutside(); err != nil {
				return fmt.Errorf("sandbox %q on runtime %s: %w", s.Name, d.Runtime, err)
			}
		}
		if seen[s.Name] {
			return fmt.Errorf("sandbox %q appears twice", s.Name)
		}
		seen[s.Name] = true
		wanted := []listener{{"dashboard.port", s.Dashboard.Port}}
		for _, f := range s.Forwards {
			wanted = append(wanted, listener{"forward port", f.Port})
		}
		for _, w := range wanted {
			switch other := ports[w.port]; {
			case w.port == 0:
			case other != "":
				return fmt.Errorf("sandboxes %q and %q both want port %d of this machine", other, s.Name, w.port)
			case w.port == d.Gateway.Port:
				return fmt.Errorf("sandbox %q: %s %d is the gateway's port", s.Name, w.what, w.port)
			}
			ports[w.port] = s.Name
		}
	}
	return nil
}

// listener is a port of this machine that something wants.
type listener struct {
	what string
	port int
}

func (g Gateway) validate(runtime string) error {
	if err := checkPort("gateway.port", g.Port); err != nil {
		return err
	}
	switch {
	case g.Endpoint != "" && runtime != External && runtime != Kubernetes:
		return fmt.Errorf("gateway.endpoint is for runtimes external and kubernetes, not for %s", runtime)
	case g.Endpoint != "" && g.Port != 0 && runtime == Kubernetes:
		return errors.New("gateway.port is of the port-forward, which gateway.endpoint replaces")
	case g.Port != 0 && runtime == External:
		return errors.New("gateway.port is a port of this machine; runtime external takes gateway.endpoint")
	case g.TLS != "" && g.TLS != Plaintext && g.TLS != "mtls":
		return fmt.Errorf("gateway.tls %q is none of mtls, plaintext", g.TLS)
	case g.TLS == Plaintext && runtime != OpenShell:
		return fmt.Errorf("gateway.tls plaintext is for runtime openshell, not for %s", runtime)
	}
	if g.Endpoint == "" {
		return nil
	}
	u, err := url.Parse(g.Endpoint)
	switch {
	case err != nil: // the text may hold a password: it is not repeated
		return errors.New("gateway.endpoint is no URL")
	case u.User != nil:
		return errors.New("gateway.endpoint must not hold user information")
	case u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return errors.New("gateway.endpoint must be https://HOST:PORT or http://HOST:PORT and nothing more")
	case u.Scheme != "https" && runtime == Kubernetes:
		return errors.New("gateway.endpoint must be https://HOST:PORT on runtime kubernetes: the gateway is asked with its certificates")
	}
	return nil
}

func (c Cluster) validate(runtime string) error {
	switch {
	case c == Cluster{}:
		return nil
	case runtime != K3s && runtime != Kubernetes:
		return fmt.Errorf("cluster is for runtimes k3s and kubernetes, not for %s", runtime)
	case runtime == K3s && (c.Kubeconfig != "" || c.Context != "" || c.InCluster):
		return errors.New("cluster.kubeconfig, context and inCluster are for runtime kubernetes; runtime k3s takes cluster.container")
	case runtime == Kubernetes && c.Container != "":
		return errors.New("cluster.container is for runtime k3s, not for kubernetes")
	case c.InCluster && (c.Kubeconfig != "" || c.Context != ""):
		return errors.New("cluster.inCluster takes neither kubeconfig nor context")
	case c.Container != "" && !containerName.MatchString(c.Container):
		return fmt.Errorf("cluster.container %q is no name of a container", c.Container)
	}
	for field, name := range map[string]string{"cluster.namespace": c.Namespace, "cluster.statefulset": c.StatefulSet} {
		if name != "" && !objectName.MatchString(name) {
			return fmt.Errorf("%s %q is no name of a Kubernetes object", field, name)
		}
	}
	return nil
}

// validateOutside refuses what only Creel's own driver can do, so that nobody
// believes to have it.
func (s Sandbox) validateOutside() error {
	switch {
	case s.Agent != agent.Command:
		return fmt.Errorf("agent %q is part of Creel and runs on runtime embedded only; use agent command, or want no sandbox (--gateway-only)", s.Agent)
	case !s.Dashboard.empty():
		return errors.New("dashboards are kept by runtime embedded only")
	case len(s.Forwards) > 0:
		return errors.New("forwards are kept by runtime embedded only; use openshell forward start")
	case s.Policy != nil || s.PolicyFile != "":
		return errors.New("a policy is applied by runtime embedded only; set it with openshell policy set")
	case s.Confinement != "" && s.Confinement != sandbox.TierAuto:
		return errors.New("confinement is that gateway's affair; only auto can be wanted")
	}
	return nil
}

// Validate reports the first thing that cannot be meant.
func (i Inference) Validate() error {
	p, err := inference.Lookup(i.Provider)
	if err != nil {
		return err
	}
	if p.Name == inference.NoProvider {
		if i.Model != "" || i.EndpointURL != "" || i.CredentialEnv != "" {
			return errors.New(`provider "none" takes no model, endpointURL or credentialEnv`)
		}
		return nil
	}
	switch {
	case i.EndpointURL != "":
		u, err := url.Parse(i.EndpointURL)
		if err == nil && u.User != nil {
			return errors.New("endpointURL must not hold user information: name the variable of the credential instead")
		}
		if _, err := inference.NormalizeURL(i.EndpointURL); err != nil {
			return err
		}
	case p.BaseURL == "":
		return fmt.Errorf("provider %q needs an endpointURL", i.Provider)
	}
	if i.CredentialEnv != "" {
		if err := CheckVariable(i.CredentialEnv); err != nil {
			return fmt.Errorf("credentialEnv: %w", err)
		}
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
	m, err := agent.Lookup(s.Agent)
	if err != nil {
		return err
	}
	switch {
	case m.Program == agent.Required && len(s.Command) == 0:
		return fmt.Errorf("agent %q needs a command", s.Agent)
	case m.Program == agent.Never && len(s.Command) > 0:
		return fmt.Errorf("agent %q takes no command", s.Agent)
	case len(s.Command) > 0 && s.Command[0] == "":
		return errors.New("the first word of the command is empty")
	case m.Port != 0 && (s.Dashboard.TargetPort != 0 || s.Dashboard.HealthPath != ""):
		return fmt.Errorf("agent %q takes no dashboard.targetPort or healthPath", s.Agent)
	case strings.ContainsRune(strings.Join(s.Command, ""), 0):
		return errors.New("the command holds a NUL")
	case s.Policy != nil && s.PolicyFile != "":
		return errors.New("policy and policyFile exclude each other")
	}
	for _, v := range []struct {
		name  string
		value string
		valid []string
	}{
		{"restart", string(s.Restart), []string{"always", "on-failure", "never"}},
		{"confinement", string(s.Confinement), []string{"auto", "namespaces", "landlock", "unconfined"}},
		{"acceptRisk", s.AcceptRisk, []string{"", "unconfined"}},
		{"dashboard.bind", s.Dashboard.Bind, []string{"", dashboard.Loopback, dashboard.Everybody}},
		{"wanted", string(s.Wanted), []string{"running", "stopped"}},
	} {
		if !slices.Contains(v.valid, v.value) {
			valid := strings.Join(slices.DeleteFunc(v.valid, func(w string) bool { return w == "" }), ", ")
			return fmt.Errorf("%s %q is none of %s", v.name, v.value, valid)
		}
	}
	if s.Confinement == sandbox.TierUnconfined && s.AcceptRisk != string(sandbox.TierUnconfined) {
		return errors.New("confinement unconfined also needs acceptRisk: unconfined")
	}
	if err := checkEnvironment(s.Environment); err != nil {
		return err
	}
	if err := s.Dashboard.validate(); err != nil {
		return err
	}
	if err := s.validateForwards(); err != nil {
		return fmt.Errorf("forwards: %w", err)
	}
	if s.Policy != nil {
		return s.Policy.Validate()
	}
	return nil
}

// empty reports that nothing is wanted of the dashboard.
func (b Dashboard) empty() bool {
	return b.Port == 0 && b.Bind == "" && b.TargetPort == 0 && b.HealthPath == "" && !b.Stopped && b.access().Equal(dashboard.Access{})
}

func (s Sandbox) validateForwards() error {
	for _, f := range s.Forwards {
		if f.Target() == 0 {
			return errors.New("one has neither port nor targetPort")
		}
	}
	spec, err := s.Spec(false) // what they can be is the same everywhere
	if err != nil {
		return err
	}
	return sandbox.CheckForwards(spec.Dashboard, spec.Forwards)
}

func (b Dashboard) validate() error {
	if b.PublicURL != "" {
		if _, err := dashboard.CheckPublicURL(b.PublicURL); err != nil {
			return fmt.Errorf("dashboard.publicURL: %w", err)
		}
	}
	if _, err := dashboard.CheckProxies(b.TrustedProxies); err != nil {
		return fmt.Errorf("dashboard.trustedProxies: %w", err)
	}
	if err := checkPort("dashboard.port", b.Port); err != nil {
		return err
	}
	if err := checkPort("dashboard.targetPort", b.TargetPort); err != nil {
		return err
	}
	if b.HealthPath != "" && (b.HealthPath[0] != '/' || strings.ContainsFunc(b.HealthPath, func(r rune) bool { return r <= ' ' || r == 0x7f })) {
		return fmt.Errorf("dashboard.healthPath %q must begin with a slash and hold no space", b.HealthPath)
	}
	return nil
}

// checkEnvironment refuses what the supervisor sets itself, so that nobody
// believes to have changed it. Values are not repeated.
func checkEnvironment(environment map[string]string) error {
	for name, value := range environment {
		switch {
		case !variableName.MatchString(name):
			return fmt.Errorf("environment: %q is not the name of a variable", name)
		case strings.HasPrefix(name, "CREEL_"), strings.HasPrefix(name, "OPENAI_"):
			return fmt.Errorf("environment: %s is set by Creel and cannot be changed", name)
		case strings.ContainsRune(value, 0):
			return fmt.Errorf("environment: the value of %s holds a NUL", name)
		}
	}
	return nil
}

func checkPort(name string, port int) error {
	if port < 0 || port > 65535 {
		return fmt.Errorf("%s %d is not between 1 and 65535", name, port)
	}
	return nil
}
