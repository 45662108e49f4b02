package kubestore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"creel/internal/advisory"
)

// Roll has the StatefulSet's controller replace the gateway's pods, by changing
// an annotation of the pod template, as kubectl rollout restart does. The same
// patch takes back the promise that it would: both happen or neither.
func (s *Store) Roll(ctx context.Context, names []string) (bool, error) {
	set, err := s.patchStatefulSet(ctx, "start the gateway again", map[string]any{
		"metadata": map[string]any{"annotations": map[string]any{pendingAnnotation: nil}},
		"spec": map[string]any{"template": map[string]any{"metadata": map[string]any{"annotations": map[string]any{
			restartedAtAnnotation:  time.Now().UTC().Format(time.RFC3339Nano),
			restartedForAnnotation: strings.Join(names, ","),
		}}}},
	}, false)
	if err != nil {
		return false, s.advise(ctx, err)
	}
	s.owe(nil)
	if set.Spec.Replicas != nil && *set.Spec.Replicas == 0 {
		return false, nil
	}
	if by := set.byHand(); by != "" {
		return false, advisory.New("secrets-not-rolled", fmt.Sprintf("StatefulSet %s/%s", s.namespace, s.statefulSet), errors.New(by), s.api.Kubectl("delete pod "+strings.Join(set.pods(), " ")))
	}
	return true, nil
}

// byHand says why the controller does not replace pods by itself; empty when it
// does.
func (t statefulSet) byHand() string {
	strategy := t.Spec.UpdateStrategy
	switch {
	case strategy.Type == "OnDelete":
		return `its update strategy is "OnDelete": a pod starts again when somebody deletes it`
	case strategy.RollingUpdate != nil && strategy.RollingUpdate.Partition != nil && *strategy.RollingUpdate.Partition > 0:
		return fmt.Sprintf("its update strategy holds pods below number %d back until somebody deletes them", *strategy.RollingUpdate.Partition)
	}
	return ""
}

// pods are the names of those that the controller may hold back.
func (t statefulSet) pods() []string {
	first, count := int32(0), int32(1)
	if t.Spec.Ordinals != nil {
		first = t.Spec.Ordinals.Start
	}
	if t.Spec.Replicas != nil {
		count = *t.Spec.Replicas
	}
	var pods []string
	for n := range min(count, 10) {
		pods = append(pods, fmt.Sprintf("%s-%d", t.Metadata.Name, first+n))
	}
	return pods
}
