package kubestore

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"creel/internal/bundle"
	"creel/internal/kubeapi"
)

// rehearse has the API check every change without making it: rights, quotas,
// admission, and whether what was read is still what is there. So a refusal of
// the last write is known before the first.
func (s *Store) rehearse(ctx context.Context, changes []bundle.ClusterChange, promise []byte) error {
	steps := []func() error{func() error { return s.promise(ctx, promise, true) }}
	for _, c := range changes {
		steps = append(steps, func() error {
			switch {
			case c.Old == nil:
				return s.create(ctx, c.New, true)
			case c.Recreate:
				return s.delete(ctx, *c.Old, true)
			}
			return s.update(ctx, c.New, true)
		})
	}
	return asChanged(kubeapi.InParallel(steps, func(_ int, step func() error) error { return conclusive(step()) }))
}

// rehearseRecreation asks whether what is about to be deleted could be created
// again, under a name that the API chooses, since its own is taken. It comes after
// the backups, which may have taken the last of a quota.
func (s *Store) rehearseRecreation(ctx context.Context, changes []bundle.ClusterChange) error {
	return kubeapi.InParallel(changes, func(_ int, c bundle.ClusterChange) error {
		if !c.Recreate {
			return nil
		}
		o := c.New
		o.Metadata.Name, o.Metadata.GenerateName = "", "creel-rehearsal-"
		if err := conclusive(s.create(ctx, o, true)); err != nil {
			return fmt.Errorf("rehearse that Secret %s/%s is created again: %w", s.namespace, c.New.Metadata.Name, err)
		}
		return nil
	})
}

// conclusive drops the error of a webhook that does not know rehearsals: it only
// says no when it is in earnest.
func conclusive(err error) error {
	if apierrors.IsBadRequest(err) && !apierrors.IsUnexpectedServerError(err) {
		return nil
	}
	return err
}
