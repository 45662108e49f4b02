package kubestore

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"creel/internal/bundle"
)

// backUp keeps the value that a change replaces. Backups are never overwritten.
// One with the same value, which an interrupted repair left, is not made twice.
func (s *Store) backUp(ctx context.Context, c *bundle.ClusterChange, now time.Time) error {
	if !c.Replaces() {
		return nil
	}
	for taken := 0; ; taken++ {
		b := c.Backup(s.gateway, now, taken)
		err := s.create(ctx, b, false)
		switch {
		case err != nil && !isTaken(err):
			return fmt.Errorf("back up Secret %s/%s: %w", s.namespace, c.Old.Metadata.Name, err)
		case err != nil && !s.holds(ctx, b):
			continue
		}
		c.KeptIn(b.Metadata.Name)
		return nil
	}
}

// holds reports that a backup is there already. One that may not be read is
// somebody else's, as far as it matters.
func (s *Store) holds(ctx context.Context, b bundle.ClusterSecret) bool {
	o, err := s.readSecret(ctx, b.Metadata.Name)
	return err == nil && o != nil && !b.Taken(*o)
}

// isTaken reports that the API itself said that a name is in use.
func isTaken(err error) bool {
	return apierrors.IsAlreadyExists(err) && !apierrors.IsUnexpectedServerError(err)
}
