// Package kubestore keeps a gateway's bootstrap secrets as Secrets of a
// Kubernetes namespace, beside the StatefulSet that mounts them. It knows the
// API's rules (who may do what, optimistic concurrency, immutable types, quotas)
// and in which order to write; what the values mean is package bundle's. It
// generates nothing, lists nothing, and logs nothing.
package kubestore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"

	"creel/internal/advisory"
	"creel/internal/bundle"
	"creel/internal/health"
)

// defaultName is what OpenShell calls its namespace and its StatefulSet.
const defaultName = "openshell"

// Options say which gateway of which cluster is meant. The zero value is
// OpenShell's default in the cluster that kubectl would talk to.
type Options struct {
	// Kubeconfig is the file to read. Without it KUBECONFIG is, then
	// ~/.kube/config, and when neither is there the pod's own service account.
	Kubeconfig string
	// Context is one of the kubeconfig's; empty is its current one.
	Context string
	// InCluster takes the pod's own service account and no kubeconfig.
	InCluster bool
	// Namespace is "openshell" when empty, whatever the context says: secrets in
	// the namespace that somebody happens to work in would be nobody's.
	Namespace string
	// StatefulSet is the gateway's; "openshell" when empty.
	StatefulSet string
	// Gateway is what Creel calls the gateway, for labels; the StatefulSet's name
	// when empty.
	Gateway string
}

// Store is a bundle.Target in a cluster. Its methods may be called from several
// goroutines.
type Store struct {
	api         rest.Interface
	namespace   string
	statefulSet string
	gateway     string
	server      string
	caveats     []health.Caveat
	// reach are the flags with which kubectl finds the same cluster.
	reach string

	mu sync.Mutex
	// allowed holds the rights that a review confirmed. Denials are asked again:
	// a gateway's start loop must notice that somebody granted what was missing.
	allowed map[right]bool
	// debt is what an earlier repair replaced and did not roll, as the last look
	// at the StatefulSet showed it.
	debt debt
}

var _ bundle.Target = (*Store)(nil)

// Open finds out how the cluster is reached. It talks to nobody. Its errors
// carry an advisory.
func Open(o Options) (*Store, error) {
	config, caveats, err := configure(o)
	if err != nil {
		return nil, err
	}
	s, err := open(config, o)
	if err != nil {
		return nil, err
	}
	s.caveats = caveats
	if o.Kubeconfig != "" {
		s.reach += " --kubeconfig " + advisory.Quote(o.Kubeconfig)
	}
	if o.Context != "" {
		s.reach += " --context " + advisory.Quote(o.Context)
	}
	return s, nil
}

func open(config *rest.Config, o Options) (*Store, error) {
	s := &Store{
		namespace:   cmp.Or(o.Namespace, defaultName),
		statefulSet: cmp.Or(o.StatefulSet, defaultName),
		server:      config.Host,
		allowed:     map[right]bool{},
	}
	s.gateway = cmp.Or(o.Gateway, s.statefulSet)
	for what, faults := range map[string][]string{
		fmt.Sprintf("namespace %q", s.namespace):     validation.IsDNS1123Label(s.namespace),
		fmt.Sprintf("StatefulSet %q", s.statefulSet): validation.IsDNS1123Subdomain(s.statefulSet),
		fmt.Sprintf("gateway %q", s.gateway):         validation.IsValidLabelValue(s.gateway),
	} {
		if len(faults) > 0 {
			return nil, advisory.New("cluster-name-invalid", what+" cannot be a name in Kubernetes", errors.New(faults[0]))
		}
	}
	var err error
	if s.api, err = connect(config); err != nil {
		return nil, err
	}
	return s, nil
}

// String says whose secrets these are, for a person.
func (s *Store) String() string {
	return fmt.Sprintf("StatefulSet %s in namespace %s of %s", s.statefulSet, s.namespace, s.server)
}

// kubectl is a command line for a person, about the same namespace of the same
// cluster.
func (s *Store) kubectl(command string) string {
	return fmt.Sprintf("kubectl%s --namespace %s %s", s.reach, s.namespace, command)
}

// Requirements reads from the StatefulSet what its gateway needs.
func (s *Store) Requirements(ctx context.Context) (bundle.Requirements, error) {
	set, err := s.readStatefulSet(ctx)
	if err != nil {
		return bundle.Requirements{}, s.advise(ctx, err)
	}
	s.owe(set.debt())
	return set.workload.Requirements(), nil
}

func (s *Store) owe(d debt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.debt = d
}

func (s *Store) owed() debt {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.debt
}
