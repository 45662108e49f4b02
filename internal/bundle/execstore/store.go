// Package execstore keeps a gateway's bootstrap secrets in a cluster that runs
// inside one container, by running kubectl in there. Nothing of what it reads and
// writes but names is in an argument, an environment, a log or an error: objects
// go in on standard input and come out on standard output. What the values mean,
// and the order and the rules of writing, are package bundle's.
package execstore

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"creel/internal/advisory"
	"creel/internal/bundle"
	"creel/internal/host/engine"
)

// ContainerPrefix and a gateway's name are what OpenShell up to 0.0.36 calls its
// container.
const ContainerPrefix = "openshell-cluster-"

const (
	// defaultName is what OpenShell calls its namespace and its StatefulSet.
	defaultName = "openshell"
	// Where K3s keeps the administrator's kubeconfig.
	defaultKubeconfig = "/etc/rancher/k3s/k3s.yaml"
)

// Engine runs programs in containers; *engine.Engine does.
type Engine interface {
	Exec(ctx context.Context, container string, c engine.Command) (engine.Result, error)
	Program() string
}

// Options say which gateway is meant.
type Options struct {
	Engine Engine
	// Gateway is what Creel calls the gateway, for labels.
	Gateway string
	// Container is "openshell-cluster-GATEWAY" when empty.
	Container string
	// Namespace and StatefulSet are "openshell" when empty.
	Namespace, StatefulSet string
	// Kubeconfig is a path in the container; K3s's own when empty.
	Kubeconfig string
}

// Store is a bundle.Target in a container. Its methods may be called from several
// goroutines.
type Store struct{ o Options }

var _ bundle.Target = (*Store)(nil)

// New touches nothing. An error is a name that cannot be one.
func New(o Options) (*Store, error) {
	o.Container = cmp.Or(o.Container, ContainerPrefix+o.Gateway)
	o.Namespace = cmp.Or(o.Namespace, defaultName)
	o.StatefulSet = cmp.Or(o.StatefulSet, defaultName)
	o.Kubeconfig = cmp.Or(o.Kubeconfig, defaultKubeconfig)
	if err := errors.Join(bundle.CheckClusterName(o.Namespace), bundle.CheckClusterName(o.StatefulSet)); err != nil {
		return nil, advisory.New("cluster-name-invalid", "find the gateway in the cluster", err)
	}
	return &Store{o}, nil
}

// String says where the secrets are, for a person.
func (s *Store) String() string {
	return fmt.Sprintf("namespace %s in container %s", s.o.Namespace, s.o.Container)
}

func (s *Store) workload() ref { return ref{statefulSets, s.o.StatefulSet} }

// Requirements reads from the StatefulSet what its gateway needs.
func (s *Store) Requirements(ctx context.Context) (bundle.Requirements, error) {
	place := ref{namespaces, s.o.Namespace}
	// Whoever may not look at namespaces is still told about what is in one.
	found, err := s.look(ctx, "read "+s.workload().String()+" in "+s.String(), []ref{place}, s.workload())
	if err != nil {
		return bundle.Requirements{}, err
	}
	if err := s.checkNamespace(found, place); err != nil {
		return bundle.Requirements{}, err
	}
	w, err := s.parseWorkload(found)
	if err != nil {
		return bundle.Requirements{}, err
	}
	return w.Requirements(), nil
}

// checkNamespace: where it is not there for long, nothing in it matters.
func (s *Store) checkNamespace(found answer, place ref) error {
	var namespace struct {
		Status struct {
			Phase string `json:"phase"`
		} `json:"status"`
	}
	// Of one that may not be looked at there is nothing to parse.
	if b := found.objects[place]; b != nil && json.Unmarshal(b, &namespace) == nil && namespace.Status.Phase == "Terminating" {
		return notApplicable("namespace %s is being deleted", place.name)
	}
	return nil
}

func (s *Store) parseWorkload(found answer) (bundle.Workload, error) {
	if found.absent[s.workload()] {
		return bundle.Workload{}, notApplicable("%s does not exist in namespace %s", s.workload(), s.o.Namespace)
	}
	w, err := bundle.ParseWorkload(found.objects[s.workload()])
	if err != nil {
		return bundle.Workload{}, advisory.New("cluster-not-kubernetes", "read "+s.workload().String(), err)
	}
	return w, w.Applicable()
}

func notApplicable(format string, args ...any) error {
	return advisory.New("secrets-not-applicable", fmt.Sprintf(format, args...), bundle.ErrNotApplicable)
}

// Load reads the secrets of a set, and no others, at one moment with the
// StatefulSet that mounts them.
func (s *Store) Load(ctx context.Context, want bundle.Requirements) (bundle.Snapshot, error) {
	if want.Generation == bundle.Generation2 && want.Layout != bundle.Kubernetes {
		return bundle.Snapshot{}, advisory.New("secrets-unknown", "a cluster holds no set in the directory layout", nil)
	}
	refs := []ref{s.workload()}
	for _, name := range want.Stored() {
		if err := bundle.CheckClusterName(name); err != nil {
			return bundle.Snapshot{}, advisory.New("secrets-unknown", "the pod template refers to a secret that cannot be", err)
		}
		refs = append(refs, ref{secrets, name})
	}
	operation := "read bootstrap secrets in " + s.String()
	found, err := s.look(ctx, operation, nil, refs...)
	if err != nil {
		return bundle.Snapshot{}, err
	}
	w, err := s.parseWorkload(found)
	if err != nil {
		return bundle.Snapshot{}, err
	}
	objects, err := found.secrets()
	if err != nil {
		return bundle.Snapshot{}, advisory.New("cluster-not-kubernetes", operation, err)
	}
	snapshot, err := bundle.ClusterSnapshot(s.o.Namespace, want.Stored(), objects)
	if err != nil {
		if _, ok := advisory.Of(err); ok {
			return bundle.Snapshot{}, fmt.Errorf("%s: %w", operation, s.advise(err))
		}
		return bundle.Snapshot{}, advisory.New("cluster-not-kubernetes", operation, err)
	}
	w.NoteUnrolled(&snapshot)
	return snapshot, nil
}

// Roll has the StatefulSet's controller replace the gateway's pods.
func (s *Store) Roll(ctx context.Context, names []string) (bool, error) {
	w, err := s.patchWorkload(ctx, "start the gateway again", bundle.RollPatch(time.Now(), names))
	if errors.Is(err, bundle.ErrNotApplicable) {
		return false, nil // nothing is left that could start
	}
	if err != nil {
		return false, err
	}
	rolls, err := w.Rolls()
	if err != nil {
		return false, advisory.New("secrets-not-rolled", "start the gateway again", err,
			s.inContainer("kubectl --namespace "+s.o.Namespace+" delete pod "+strings.Join(w.Pods(), " ")))
	}
	return rolls, nil
}

// patchWorkload changes annotations, which hold no secret.
func (s *Store) patchWorkload(ctx context.Context, purpose string, patch []byte) (bundle.Workload, error) {
	operation := purpose + ": patch " + s.workload().String() + " in " + s.String()
	a, err := s.kubectl(ctx, operation, nil, "patch", s.workload().String(), "--type=merge", "--output=json", "--patch="+string(patch))
	if err != nil {
		return bundle.Workload{}, err
	}
	if a.only(absent(s.workload())) {
		return bundle.Workload{}, notApplicable("%s does not exist in namespace %s", s.workload(), s.o.Namespace)
	}
	if err := a.failure(); err != nil {
		return bundle.Workload{}, err
	}
	w, err := bundle.ParseWorkload(a.stdout)
	if err != nil {
		return bundle.Workload{}, advisory.New("cluster-not-kubernetes", operation, err)
	}
	return w, nil
}
