package kubestore

import (
	"context"
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"creel/internal/advisory"
	"creel/internal/bundle"
	"creel/internal/kubeapi"
)

// statefulSet is what this package needs of the gateway's StatefulSet, in the
// names of the Kubernetes API (apps/v1), besides what package bundle reads.
type statefulSet struct {
	workload bundle.Workload
	Metadata metav1.ObjectMeta `json:"metadata"`
	Spec     struct {
		Replicas *int32 `json:"replicas"`
		Ordinals *struct {
			Start int32 `json:"start"`
		} `json:"ordinals"`
		UpdateStrategy struct {
			Type          string `json:"type"`
			RollingUpdate *struct {
				Partition *int32 `json:"partition"`
			} `json:"rollingUpdate"`
		} `json:"updateStrategy"`
	} `json:"spec"`
}

// readStatefulSet finds the gateway. Its error has bundle.ErrNotApplicable in
// the chain when there positively is none, or none for long.
func (s *Store) readStatefulSet(ctx context.Context) (statefulSet, error) {
	operation := fmt.Sprintf("read StatefulSet %s/%s", s.namespace, s.statefulSet)
	body, err := s.api.Do(ctx, operation, s.api.Get().AbsPath(s.statefulSetPath()))
	if kubeapi.IsAbsent(err, "statefulsets", s.statefulSet) {
		if err := s.checkNamespace(ctx); err != nil && !kubeapi.IsForbidden(err) {
			return statefulSet{}, err
		}
		// Whether or not the namespace may be looked at, no gateway is in it.
		return statefulSet{}, s.notApplicable("StatefulSet %q does not exist in namespace %q", s.statefulSet, s.namespace)
	}
	if err != nil {
		return statefulSet{}, err
	}
	return s.parseStatefulSet(operation, body)
}

func (s *Store) parseStatefulSet(operation string, body []byte) (statefulSet, error) {
	var set statefulSet
	if err := kubeapi.Decode(operation, body, "StatefulSet", &set); err != nil {
		return statefulSet{}, err
	}
	var err error
	set.workload, err = bundle.ParseWorkload(body)
	if err == nil && (set.Metadata.Name != s.statefulSet || set.Metadata.Namespace != s.namespace) {
		err = fmt.Errorf("it is StatefulSet %s/%s", set.Metadata.Namespace, set.Metadata.Name)
	}
	if err != nil {
		return statefulSet{}, advisory.New("cluster-not-kubernetes", operation, kubeapi.Scrub(err))
	}
	if set.Metadata.DeletionTimestamp != nil {
		return statefulSet{}, s.notApplicable("StatefulSet %q in namespace %q is being deleted", s.statefulSet, s.namespace)
	}
	return set, nil
}

func (s *Store) notApplicable(format string, args ...any) error {
	return advisory.New("secrets-not-applicable", fmt.Sprintf(format, args...), bundle.ErrNotApplicable,
		s.api.Kubectl("get statefulsets"), "kubectl get statefulsets --all-namespaces")
}

// checkNamespace returns nil when the namespace is there to stay.
func (s *Store) checkNamespace(ctx context.Context) error {
	why, err := s.api.NamespaceGone(ctx)
	if why != "" {
		return s.notApplicable("%s", why)
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

func (s *Store) patchStatefulSet(ctx context.Context, purpose string, patch any, dryRun bool) (statefulSet, error) {
	operation := fmt.Sprintf("patch StatefulSet %s/%s to %s", s.namespace, s.statefulSet, purpose)
	content, err := json.Marshal(patch)
	if err != nil {
		return statefulSet{}, fmt.Errorf("%s: %w", operation, err)
	}
	request := rehearsed(s.api.Patch(mergePatch).AbsPath(s.statefulSetPath()), dryRun)
	body, err := s.api.Do(ctx, operation, request.Body(content))
	if err != nil {
		return statefulSet{}, err
	}
	return s.parseStatefulSet(operation, body)
}
