package onboard

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"creel/internal/dashboard"
	"creel/internal/desired"
	"creel/internal/layer"
)

// Change is one wish that is not the recorded one any more.
type Change struct {
	What string // e.g. "model", or "sandbox/claw command"
	From string // empty when there was none
	To   string // empty when there is none any more
	// Affects lists the layers that are done again, lowest first. Everything else
	// stays as it is.
	Affects []layer.ID
}

// String is e.g. "model: small becomes large".
func (c Change) String() string {
	switch {
	case c.From == "":
		return fmt.Sprintf("%s: %s", c.What, c.To)
	case c.To == "":
		return fmt.Sprintf("%s: no longer %s", c.What, c.From)
	}
	return fmt.Sprintf("%s: %s becomes %s", c.What, c.From, c.To)
}

// Changes lists what now wants otherwise than recorded, which is nil when
// nothing is recorded. Values of a sandbox's environment are not repeated.
func Changes(recorded *desired.Document, now desired.Document) []Change {
	before := desired.New(now.Name)
	if recorded != nil {
		before = recorded.WithDefaults()
	}
	now = now.WithDefaults()
	var all []Change
	note := func(what, from, to string, affects ...layer.ID) {
		if from != to {
			all = append(all, Change{what, from, to, affects})
		}
	}
	port := func(p int) string {
		if p == 0 {
			return "any free port"
		}
		return fmt.Sprint(p)
	}
	note("gateway port", port(before.Gateway.Port), port(now.Gateway.Port), layer.Gateway, layer.Registration)
	if recorded != nil || now.Runtime != desired.Embedded {
		note("runtime", before.Runtime, now.Runtime, layer.Gateway)
	}
	note("gateway endpoint", before.Gateway.Endpoint, now.Gateway.Endpoint, layer.Gateway)
	for _, c := range []struct{ what, from, to string }{
		{"kubeconfig", before.Cluster.Kubeconfig, now.Cluster.Kubeconfig}, {"context", before.Cluster.Context, now.Cluster.Context},
		{"container", before.Cluster.Container, now.Cluster.Container}, {"namespace", before.Cluster.Namespace, now.Cluster.Namespace},
		{"statefulset", before.Cluster.StatefulSet, now.Cluster.StatefulSet},
	} {
		note(c.what, c.from, c.to, layer.Secrets, layer.Gateway, layer.Registration)
	}
	note("gateway tls", cmp.Or(before.Gateway.TLS, "mtls"), cmp.Or(now.Gateway.TLS, "mtls"), layer.Gateway, layer.Registration)
	note("provider", before.Inference.Provider, now.Inference.Provider, layer.Inference)
	note("endpoint", before.Inference.EndpointURL, now.Inference.EndpointURL, layer.Inference)
	note("model", before.Inference.Model, now.Inference.Model, layer.Inference)
	note("credential variable", before.Inference.CredentialEnv, now.Inference.CredentialEnv)
	whole := []layer.ID{layer.Sandbox, layer.Agent, layer.Dashboard}
	for _, s := range now.Sandboxes {
		subject := "sandbox/" + s.Name
		old, there := before.Sandbox(s.Name)
		if !there {
			note(subject, "", "new, agent "+s.Agent, whole...)
			continue
		}
		note(subject+" agent", old.Agent, s.Agent, whole...)
		note(subject+" command", strings.Join(old.Command, " "), strings.Join(s.Command, " "), whole...)
		if !maps.Equal(old.Environment, s.Environment) {
			all = append(all, Change{subject + " environment", names(old.Environment), names(s.Environment), whole})
		}
		note(subject+" restart", string(old.Restart), string(s.Restart), whole...)
		note(subject+" confinement", string(old.Confinement), string(s.Confinement), whole...)
		note(subject+" policy", policyOf(old), policyOf(s), whole...)
		note(subject+" wanted", string(old.Wanted), string(s.Wanted), whole...)
		note(subject+" agent port", port(old.Dashboard.TargetPort), port(s.Dashboard.TargetPort), whole...)
		note(subject+" health path", old.Dashboard.HealthPath, s.Dashboard.HealthPath, whole...)
		note(subject+" dashboard port", port(old.Dashboard.Port), port(s.Dashboard.Port), layer.Dashboard)
		note(subject+" dashboard bind", old.Dashboard.Bind, s.Dashboard.Bind, layer.Dashboard)
		note(subject+" public URL", old.Dashboard.PublicURL, s.Dashboard.PublicURL, layer.Dashboard)
		note(subject+" trusted proxies", strings.Join(old.Dashboard.TrustedProxies, ", "), strings.Join(s.Dashboard.TrustedProxies, ", "), layer.Dashboard)
		note(subject+" dashboard", listening(old), listening(s), layer.Dashboard)
		note(subject+" forwards", forwards(old), forwards(s), layer.Dashboard)
	}
	for _, s := range before.Sandboxes {
		if _, there := now.Sandbox(s.Name); !there {
			note("sandbox/"+s.Name, "wanted; it is left as it is", "") // it stays until somebody destroys it
		}
	}
	return all
}

// names lists the variables of an environment; their values are nobody's business.
func names(environment map[string]string) string {
	return strings.Join(slices.Sorted(maps.Keys(environment)), ", ")
}

func listening(s desired.Sandbox) string {
	if s.Dashboard.Stopped {
		return "stopped"
	}
	return "listening"
}

// forwards lists them in words, e.g. "8080 to 3000, 0.0.0.0:any port to 4000".
func forwards(s desired.Sandbox) string {
	all := make([]string, len(s.Forwards))
	for i, f := range s.Forwards {
		all[i] = fmt.Sprintf("%d to %d", f.Port, f.Target())
		if f.Port == 0 {
			all[i] = fmt.Sprintf("any port to %d", f.Target())
		}
		if f.Bind != "" && f.Bind != dashboard.Loopback {
			all[i] = f.Bind + ":" + all[i]
		}
	}
	return strings.Join(all, ", ")
}

func policyOf(s desired.Sandbox) string {
	if s.Policy == nil {
		return "default"
	}
	return s.Policy.Hash()[:12]
}
