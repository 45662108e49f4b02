package kubestore

import (
	"context"
	"fmt"
	"slices"

	"creel/internal/advisory"
	"creel/internal/bundle"
	"creel/internal/kubeapi"
)

// Load reads the secrets of a set, each by its name. One is absent only when the
// API says so of it, in a namespace that exists.
func (s *Store) Load(ctx context.Context, want bundle.Requirements) (bundle.Snapshot, error) {
	snapshot, err := s.load(ctx, want)
	if err != nil {
		return bundle.Snapshot{}, s.advise(ctx, err)
	}
	return snapshot, nil
}

func (s *Store) load(ctx context.Context, want bundle.Requirements) (bundle.Snapshot, error) {
	if want.Generation == bundle.Generation2 && want.Layout != bundle.Kubernetes {
		return bundle.Snapshot{}, advisory.New("secrets-unknown", "a namespace holds no set in the directory layout", nil)
	}
	names := want.Stored()
	read := make([]*bundle.ClusterSecret, len(names))
	err := kubeapi.InParallel(names, func(i int, name string) (err error) {
		read[i], err = s.readSecret(ctx, name)
		return err
	})
	if err != nil {
		return bundle.Snapshot{}, err
	}
	if slices.Contains(read, nil) {
		if err := s.checkPlace(ctx); err != nil {
			return bundle.Snapshot{}, err
		}
	}
	found := map[string]bundle.ClusterSecret{}
	for i, name := range names {
		if read[i] != nil {
			found[name] = *read[i]
		}
	}
	snapshot, err := bundle.ClusterSnapshot(s.namespace, names, found)
	if err != nil {
		return bundle.Snapshot{}, err
	}
	snapshot.Caveats = slices.Clone(s.api.Caveats())
	s.remembered().NoteUnrolled(&snapshot)
	return snapshot, nil
}

// readSecret returns nil without an error for a secret that does not exist.
func (s *Store) readSecret(ctx context.Context, name string) (*bundle.ClusterSecret, error) {
	// The name is from a pod template and becomes a part of a URL.
	if err := bundle.CheckClusterName(name); err != nil {
		return nil, advisory.New("secrets-unknown", "the pod template refers to a secret that cannot be", err)
	}
	var o bundle.ClusterSecret
	operation := fmt.Sprintf("read Secret %s/%s", s.namespace, name)
	err := s.api.Read(ctx, operation, s.api.Get().AbsPath(s.secretPath(name)), "Secret", &o)
	if kubeapi.IsAbsent(err, "secrets", name) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := o.Check(name); err != nil {
		if _, explained := advisory.Of(err); explained {
			return nil, fmt.Errorf("%s: %w", operation, err)
		}
		return nil, advisory.New("cluster-not-kubernetes", operation, kubeapi.Scrub(err))
	}
	return &o, nil
}
