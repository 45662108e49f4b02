package kubestore

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

const backupInfix = "-creel-backup-"

// backUp keeps the value that a change replaces, and returns the name it is kept
// under; "" for a secret that was absent or held nothing. Backups are numbered and never
// overwritten. One with the same value, which an interrupted repair left, is not
// made twice.
func (s *Store) backUp(ctx context.Context, c change) (string, error) {
	if c.current == nil || len(c.current.Data) == 0 {
		return "", nil
	}
	for n := c.current.lastBackup() + 1; ; n++ {
		name := c.secret.Name + backupInfix + strconv.Itoa(n)
		err := s.create(ctx, s.newBackup(name, c.current), false)
		switch {
		case err == nil:
			return name, nil
		case !isTaken(err):
			return "", fmt.Errorf("back up Secret %s/%s: %w", s.namespace, c.secret.Name, err)
		case s.holds(ctx, name, c.current):
			return name, nil
		}
	}
}

// lastBackup is the number of the newest backup that the secret knows of, so that
// not all of them are asked for.
func (o *object) lastBackup() int {
	number, ok := strings.CutPrefix(o.Metadata.Annotations[backupAnnotation], o.Metadata.Name+backupInfix)
	if n, err := strconv.Atoi(number); ok && err == nil && n > 0 {
		return n
	}
	return 0
}

// keptIn notes on what is written where its previous value is.
func (o *object) keptIn(backup string) *object {
	if backup != "" {
		o.annotate(backupAnnotation, backup)
	}
	return o
}

// newBackup has the same data and says of what and when it is. Its type is Opaque
// whatever the secret's was: what it holds need not be valid for that. It is
// immutable: nobody gains from a backup that changes.
func (s *Store) newBackup(name string, of *object) *object {
	o := s.newObject(name, opaque, of.Data)
	o.annotate(backupOfAnnotation, of.Metadata.Name)
	o.annotate(backupTypeAnnotation, of.Type)
	immutable := true
	o.Immutable = &immutable
	return o
}

// holds reports that a backup is there and has the secret's value. One that may
// not be read is somebody else's, as far as it matters.
func (s *Store) holds(ctx context.Context, backup string, of *object) bool {
	o, err := s.readSecret(ctx, backup)
	return err == nil && o != nil && o.Metadata.Annotations[backupOfAnnotation] == of.Metadata.Name && maps.EqualFunc(o.Data, of.Data, bytes.Equal)
}

// isTaken reports that the API itself said that a name is in use.
func isTaken(err error) bool {
	return apierrors.IsAlreadyExists(err) && !apierrors.IsUnexpectedServerError(err)
}
