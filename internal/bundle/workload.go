package bundle

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Workload is the part of a StatefulSet that says which secrets its pods use, in
// the names of the Kubernetes API (apps/v1).
type Workload struct {
	Kind     string `json:"kind"`
	Metadata struct {
		Name              string            `json:"name"`
		Namespace         string            `json:"namespace"`
		DeletionTimestamp string            `json:"deletionTimestamp"`
		Annotations       map[string]string `json:"annotations"`
	} `json:"metadata"`
	Spec struct {
		ServiceName    string         `json:"serviceName"`
		Replicas       *int           `json:"replicas"` // nil is 1
		UpdateStrategy updateStrategy `json:"updateStrategy"`
		Ordinals       struct {
			Start int `json:"start"`
		} `json:"ordinals"`
		Template struct {
			Spec podSpec `json:"spec"`
		} `json:"template"`
	} `json:"spec"`
}

type podSpec struct {
	Volumes        []volume    `json:"volumes"`
	InitContainers []container `json:"initContainers"`
	Containers     []container `json:"containers"`
}

type keyToPath struct {
	Key string `json:"key"`
}

type volume struct {
	Name   string `json:"name"`
	Secret *struct {
		SecretName string      `json:"secretName"`
		Items      []keyToPath `json:"items"`
		Optional   bool        `json:"optional"`
	} `json:"secret"`
	Projected *struct {
		Sources []struct {
			Secret *struct {
				Name     string      `json:"name"`
				Items    []keyToPath `json:"items"`
				Optional bool        `json:"optional"`
			} `json:"secret"`
		} `json:"sources"`
	} `json:"projected"`
}

type container struct {
	Env []struct {
		Name      string `json:"name"`
		Value     string `json:"value"`
		ValueFrom *struct {
			SecretKeyRef *struct {
				Name     string `json:"name"`
				Key      string `json:"key"`
				Optional bool   `json:"optional"`
			} `json:"secretKeyRef"`
		} `json:"valueFrom"`
	} `json:"env"`
	EnvFrom []struct {
		Prefix    string `json:"prefix"`
		SecretRef *struct {
			Name     string `json:"name"`
			Optional bool   `json:"optional"`
		} `json:"secretRef"`
	} `json:"envFrom"`
}

// ParseWorkload reads a StatefulSet from the JSON of the Kubernetes API. Unknown
// fields are the API's business; another kind of object is an error.
func ParseWorkload(b []byte) (Workload, error) {
	var w Workload
	if err := json.Unmarshal(b, &w); err != nil {
		return Workload{}, fmt.Errorf("parse StatefulSet: %w", err)
	}
	if w.Kind != "StatefulSet" || w.Metadata.Name == "" {
		return Workload{}, fmt.Errorf("parse StatefulSet: it is a %q named %q", w.Kind, w.Metadata.Name)
	}
	return w, nil
}

// reference is one mention of a secret in a pod template.
type reference struct {
	secret string
	keys   []string // those that are used; none means all or not said
	where  string   // name of the volume or of the environment variable
}

func keysOf(items []keyToPath) []string {
	var keys []string
	for _, i := range items {
		keys = append(keys, i.Key)
	}
	return keys
}

// references lists what the pod cannot start without. Optional ones are left
// out: the kubelet starts the pod without them.
func (w Workload) references() []reference {
	var found []reference
	add := func(optional bool, r reference) {
		if !optional && r.secret != "" {
			found = append(found, r)
		}
	}
	pod := w.Spec.Template.Spec
	for _, v := range pod.Volumes {
		if v.Secret != nil {
			add(v.Secret.Optional, reference{secret: v.Secret.SecretName, keys: keysOf(v.Secret.Items), where: v.Name})
		}
		if v.Projected == nil {
			continue
		}
		for _, s := range v.Projected.Sources {
			if s.Secret != nil {
				add(s.Secret.Optional, reference{secret: s.Secret.Name, keys: keysOf(s.Secret.Items), where: v.Name})
			}
		}
	}
	for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
		for _, e := range c.Env {
			switch {
			case e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil:
				ref := e.ValueFrom.SecretKeyRef
				add(ref.Optional, reference{secret: ref.Name, keys: []string{ref.Key}, where: e.Name})
			case strings.HasSuffix(e.Name, "_SECRET_NAME"):
				// The gateway mounts it into the sandboxes that it makes.
				add(false, reference{secret: e.Value, where: e.Name})
			}
		}
		for _, e := range c.EnvFrom {
			if e.SecretRef != nil {
				add(e.SecretRef.Optional, reference{secret: e.SecretRef.Name, where: e.Prefix})
			}
		}
	}
	return found
}

// certainty is how sure a guess is, best first.
type certainty int

const (
	byName  certainty = iota // the name that every generation gives it
	byKeys                   // the keys that are used
	byPlace                  // a place that is named after just this member
	byHint                   // something that a stranger's secret may have as well
	noIdea
)

// role makes out what a secret is for, and how sure that is.
func (r reference) role() (role, certainty) {
	switch {
	case r.secret == ServerTLS:
		return roleServer, byName
	case r.secret == ServerCA:
		return roleCA, byName
	case r.secret == ClientTLS:
		return roleClient, byName
	case r.secret == SSHHandshake:
		return roleHandshake, byName
	case strings.HasSuffix(r.secret, "-jwt-keys"):
		return roleSandboxKey, byName
	case slices.Contains(r.keys, keySigning):
		return roleSandboxKey, byKeys
	}
	where := strings.NewReplacer("_", "-").Replace(strings.ToLower(r.where))
	has := func(any ...string) bool {
		return slices.ContainsFunc(any, func(s string) bool { return strings.Contains(where, s) })
	}
	onlyCA := len(r.keys) == 1 && r.keys[0] == keyCACert
	switch {
	case has("handshake"):
		return roleHandshake, byPlace
	case has("jwt"):
		return roleSandboxKey, byPlace
	case onlyCA:
		return roleCA, byHint // or what somebody takes out of a certificate's secret
	case has("client-ca"):
		return roleCA, byPlace
	case has("client-tls", "tls-client"):
		return roleClient, byPlace
	case has("server-tls", "server-cert", "tls-server", "tls-cert"):
		return roleServer, byPlace
	case slices.Contains(r.keys, keyTLSCert) || where == "tls":
		return roleServer, byHint
	}
	return 0, noIdea
}

// Requirements reads from a pod template what its gateway needs. The generation
// follows from what is mounted, not from a version: a secret for the CA alone or
// a handshake is generation 1, a token key generation 2. A template that
// mentions none of them needs what its generation needs by default: generation 1
// is the one whose gateways name their secrets elsewhere.
func (w Workload) Requirements() Requirements {
	names := map[role]string{}
	guessed := map[role]bool{}
	seen := map[string]bool{} // a CA that is read out of the server's secret is no member of its own
	mentions := w.references()
	// A guess never takes the place of what is certain.
	for sure := byName; sure < noIdea; sure++ {
		for _, r := range mentions {
			what, how := r.role()
			if how != sure || names[what] != "" || seen[r.secret] {
				continue
			}
			names[what], seen[r.secret], guessed[what] = r.secret, true, how == byHint
		}
	}
	want := Requirements{Generation: Generation1, Layout: Kubernetes, Names: map[string]string{},
		Service: cmp.Or(w.Spec.ServiceName, w.Metadata.Name), Namespace: w.Metadata.Namespace}
	_, handshake := names[roleHandshake]
	_, token := names[roleSandboxKey]
	if guessed[roleCA] && !handshake {
		delete(names, roleCA) // a CA that anybody may have is no sign of a generation
	}
	_, authority := names[roleCA]
	switch {
	case len(names) == 0: // by default
	case handshake || authority && !token:
		if !handshake {
			want.Without = []string{SSHHandshake}
		}
	default:
		want.Generation = Generation2
		if !token {
			want.Without = []string{JWT}
		}
	}
	for _, m := range members(want.Generation, Kubernetes) {
		if name := names[m.role]; name != "" && name != m.stored {
			want.Names[m.name] = name
		}
	}
	return want
}
