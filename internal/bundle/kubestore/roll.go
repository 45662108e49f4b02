package kubestore

import (
	"context"
	"fmt"
	"strings"
	"time"

	"creel/internal/advisory"
	"creel/internal/bundle"
)

// promise notes on the StatefulSet which secrets are about to be replaced, before
// they are. Without it a repair that is killed between replacing and rolling
// leaves a gateway that goes on with the old ones for ever, and nothing says so.
func (s *Store) promise(ctx context.Context, patch []byte, dryRun bool) error {
	if patch == nil {
		return nil
	}
	set, err := s.patchStatefulSet(ctx, "note on it what is replaced", patch, dryRun)
	if err == nil && !dryRun {
		s.remember(set)
	}
	return err
}

// Roll has the StatefulSet's controller replace the gateway's pods, by changing
// an annotation of the pod template, as kubectl rollout restart does. The same
// patch takes back the promise that it would: both happen or neither.
func (s *Store) Roll(ctx context.Context, names []string) (bool, error) {
	set, err := s.patchStatefulSet(ctx, "start the gateway again", bundle.RollPatch(time.Now(), names), false)
	if err != nil {
		return false, s.advise(ctx, err)
	}
	s.remember(set)
	rolls, err := set.Rolls()
	if err != nil {
		return false, advisory.New("secrets-not-rolled", fmt.Sprintf("start the gateway in namespace %s again", s.namespace), err,
			s.api.Kubectl("delete pod "+strings.Join(set.Pods(), " ")))
	}
	return rolls, nil
}
