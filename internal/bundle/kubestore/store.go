// Package kubestore keeps a gateway's bootstrap secrets as Secrets of a
// Kubernetes namespace, beside the StatefulSet that mounts them. It knows how the
// API is asked: each write only over what was read, rehearsed before, with the
// rights for it. What the values mean, and the order and the rules of writing, are
// package bundle's. It generates nothing, and logs nothing.
package kubestore

import (
	"cmp"
	"context"
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/util/validation"

	"creel/internal/bundle"
	"creel/internal/kubeapi"
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
	api         *kubeapi.Client
	namespace   string
	statefulSet string
	gateway     string
	hosts       []string // further names that the server's certificate must cover

	mu sync.Mutex
	// workload is the StatefulSet at the last look. It knows what an earlier repair
	// replaced and did not roll.
	workload bundle.Workload
}

var _ bundle.Target = (*Store)(nil)

// Open finds out how the cluster is reached. It talks to nobody. Its errors
// carry an advisory.
func Open(o Options) (*Store, error) {
	api, err := kubeapi.Open(kubeapi.Options{Kubeconfig: o.Kubeconfig, Context: o.Context, InCluster: o.InCluster,
		Namespace: cmp.Or(o.Namespace, defaultName)})
	if err != nil {
		return nil, err
	}
	return New(api, o.StatefulSet, o.Gateway)
}

// New makes the store of a gateway in the client's namespace: of its StatefulSet,
// "openshell" when empty, and with Creel's name for it, the StatefulSet's when
// empty.
func New(api *kubeapi.Client, statefulSet, gateway string) (*Store, error) {
	s := &Store{api: api, namespace: api.Namespace(), statefulSet: cmp.Or(statefulSet, defaultName)}
	s.gateway = cmp.Or(gateway, s.statefulSet)
	if faults := validation.IsDNS1123Subdomain(s.statefulSet); len(faults) > 0 {
		return nil, kubeapi.NotAName("StatefulSet", s.statefulSet, faults)
	}
	if faults := validation.IsValidLabelValue(s.gateway); len(faults) > 0 {
		return nil, kubeapi.NotAName("gateway", s.gateway, faults)
	}
	return s, nil
}

// Covering adds names that clients reach the gateway by and that its certificate has
// to cover. It is called before the store is used.
func (s *Store) Covering(hosts ...string) { s.hosts = append(s.hosts, hosts...) }

// String says whose secrets these are, for a person.
func (s *Store) String() string {
	return fmt.Sprintf("StatefulSet %s in namespace %s of %s", s.statefulSet, s.namespace, s.api.Server())
}

// Requirements reads from the StatefulSet what its gateway needs.
func (s *Store) Requirements(ctx context.Context) (bundle.Requirements, error) {
	set, err := s.readStatefulSet(ctx)
	if err != nil {
		return bundle.Requirements{}, s.advise(ctx, err)
	}
	s.remember(set)
	want := set.Requirements()
	want.Hosts = append(want.Hosts, s.hosts...)
	return want, nil
}

func (s *Store) remember(w bundle.Workload) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.workload = w
}

func (s *Store) remembered() bundle.Workload {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.workload
}

// Paths of the API.
func (s *Store) secretsPath() string           { return s.api.Path("api/v1", "secrets") }
func (s *Store) secretPath(name string) string { return s.api.Path("api/v1", "secrets", name) }
func (s *Store) statefulSetPath() string {
	return s.api.Path("apis/apps/v1", "statefulsets", s.statefulSet)
}
