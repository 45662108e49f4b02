package kubestore

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/types"

	"creel/internal/advisory"
	"creel/internal/bundle"
	"creel/internal/kubeapi"
)

// readStatefulSet finds the gateway. Its error has bundle.ErrNotApplicable in
// the chain when there positively is none, or none for long.
func (s *Store) readStatefulSet(ctx context.Context) (bundle.Workload, error) {
	operation := fmt.Sprintf("read StatefulSet %s/%s", s.namespace, s.statefulSet)
	body, err := s.api.Do(ctx, operation, s.api.Get().AbsPath(s.statefulSetPath()))
	if kubeapi.IsAbsent(err, "statefulsets", s.statefulSet) {
		if err := s.checkNamespace(ctx); err != nil && !kubeapi.IsForbidden(err) {
			return bundle.Workload{}, err
		}
		// Whether or not the namespace may be looked at, no gateway is in it.
		return bundle.Workload{}, notApplicable(fmt.Sprintf("StatefulSet %q does not exist in namespace %q", s.statefulSet, s.namespace))
	}
	if err != nil {
		return bundle.Workload{}, err
	}
	return s.parseStatefulSet(operation, body)
}

func (s *Store) parseStatefulSet(operation string, body []byte) (bundle.Workload, error) {
	set, err := bundle.ParseWorkload(body)
	if err == nil && (set.Metadata.Name != s.statefulSet || set.Metadata.Namespace != s.namespace) {
		err = fmt.Errorf("it is StatefulSet %s/%s", set.Metadata.Namespace, set.Metadata.Name)
	}
	if err != nil {
		return bundle.Workload{}, advisory.New("cluster-not-kubernetes", operation+": the answer is not what was asked for", kubeapi.Scrub(err))
	}
	if err := set.Applicable(); err != nil {
		return bundle.Workload{}, fmt.Errorf("%s: %w", operation, err)
	}
	return set, nil
}

func notApplicable(why string) error {
	return advisory.New("secrets-not-applicable", why, bundle.ErrNotApplicable)
}

// checkNamespace returns nil when the namespace is there to stay.
func (s *Store) checkNamespace(ctx context.Context) error {
	why, err := s.api.NamespaceGone(ctx)
	if why != "" {
		return notApplicable(why)
	}
	return err
}

// checkPlace returns nil when the namespace is there, so that an object that is
// not in it is absent by itself. Who may not look at namespaces looks at the
// gateway, which is in one.
func (s *Store) checkPlace(ctx context.Context) error {
	err := s.checkNamespace(ctx)
	if kubeapi.IsForbidden(err) {
		_, err = s.readStatefulSet(ctx)
	}
	return err
}

// patchStatefulSet merges a patch into the StatefulSet, and returns what it became.
func (s *Store) patchStatefulSet(ctx context.Context, purpose string, patch []byte, dryRun bool) (bundle.Workload, error) {
	operation := fmt.Sprintf("patch StatefulSet %s/%s to %s", s.namespace, s.statefulSet, purpose)
	request := rehearsed(s.api.Patch(types.MergePatchType).AbsPath(s.statefulSetPath()), dryRun)
	body, err := s.api.Do(ctx, operation, request.Body(patch))
	if err != nil {
		return bundle.Workload{}, err
	}
	return s.parseStatefulSet(operation, body)
}
