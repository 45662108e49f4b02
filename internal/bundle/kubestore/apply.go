package kubestore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/bundle"
	"creel/internal/kubeapi"
)

// Apply writes secrets in the order of bundle.ClusterChanges, each only over what
// prev holds. Everything that can be refused is found out before anything is
// written: rights are asked for, every write is rehearsed, and what is replaced is
// backed up. Since Apply may be killed between any two writes, what comes first
// are
//
//  1. backups, because nothing may be lost. A second run finds and reuses them;
//  2. a note on the StatefulSet of what is about to be replaced, so that the roll
//     that this write owes is not forgotten with it (see promise).
func (s *Store) Apply(ctx context.Context, write []bundle.Secret, prev bundle.Snapshot) error {
	now := time.Now()
	changes, err := bundle.ClusterChanges(s.gateway, s.namespace, write, prev, now)
	if err == nil {
		err = s.apply(ctx, changes, bundle.PromisePatch(changes, prev), now)
	}
	if err != nil {
		return s.advise(ctx, fmt.Errorf("apply bootstrap secrets: %w", err))
	}
	return nil
}

func (s *Store) apply(ctx context.Context, changes []bundle.ClusterChange, promise []byte, now time.Time) error {
	if err := s.api.Require(ctx, s.rightsFor(changes)); err != nil {
		return err
	}
	if err := s.rehearse(ctx, changes, promise); err != nil {
		return err
	}
	if err := kubeapi.InParallel(changes, func(i int, _ bundle.ClusterChange) error { return s.backUp(ctx, &changes[i], now) }); err != nil {
		return asChanged(err)
	}
	if err := s.rehearseRecreation(ctx, changes); err != nil {
		return err
	}
	if err := s.promise(ctx, promise, false); err != nil {
		return asChanged(err)
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	// From here on the caller's end is no reason to stop: half a set is worse than
	// the moment that the rest takes, and every call has its budget.
	ctx = context.WithoutCancel(ctx)
	var written []string
	for _, c := range changes {
		if err := s.write(ctx, c); err != nil {
			if len(written) > 0 {
				err = fmt.Errorf("%w (already written: %s)", err, strings.Join(written, ", "))
			}
			return asChanged(err)
		}
		written = append(written, c.New.Metadata.Name)
	}
	return nil
}

// asChanged marks an error that means that what was planned on is no longer so:
// looking again tells what is. In a namespace that is being deleted there is
// nothing to look for. An error that has an advisory means something else.
func asChanged(err error) error {
	_, explained := advisory.Of(err)
	switch {
	case explained:
		return err
	case kubeapi.IsGoing(err):
		return fmt.Errorf("%w: %w", bundle.ErrNotApplicable, err)
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err), apierrors.IsNotFound(err):
		return fmt.Errorf("%w: %w", bundle.ErrChanged, err)
	}
	return err
}

// write makes one change for good.
func (s *Store) write(ctx context.Context, c bundle.ClusterChange) error {
	switch {
	case c.Old == nil:
		return s.create(ctx, c.New, false)
	case !c.Recreate:
		return s.update(ctx, c.New, false)
	}
	if err := s.delete(ctx, *c.Old, false); err != nil {
		return err
	}
	err := s.awaitGone(ctx, *c.Old)
	if err == nil {
		err = s.create(ctx, c.New, false)
	}
	if err != nil && c.Replaces() {
		err = fmt.Errorf("%w (it was deleted to be created again; its value is in Secret %s)", err, c.New.Metadata.Annotations[bundle.AnnotationBackup])
	}
	return err
}

func (s *Store) create(ctx context.Context, o bundle.ClusterSecret, dryRun bool) error {
	operation := fmt.Sprintf("create Secret %s/%s", s.namespace, o.Metadata.Name)
	_, err := s.api.Do(ctx, operation, rehearsed(s.api.Post().AbsPath(s.secretsPath()), dryRun).Body(kubeapi.Encode(o)))
	return err
}

// update writes over exactly what was read: the uid and the resource version in
// the metadata are conditions.
func (s *Store) update(ctx context.Context, o bundle.ClusterSecret, dryRun bool) error {
	operation := fmt.Sprintf("update Secret %s/%s", s.namespace, o.Metadata.Name)
	_, err := s.api.Do(ctx, operation, rehearsed(s.api.Put().AbsPath(s.secretPath(o.Metadata.Name)), dryRun).Body(kubeapi.Encode(o)))
	return err
}

func (s *Store) delete(ctx context.Context, o bundle.ClusterSecret, dryRun bool) error {
	uid, background := types.UID(o.Metadata.UID), metav1.DeletePropagationBackground
	options := metav1.DeleteOptions{
		TypeMeta:          metav1.TypeMeta{Kind: "DeleteOptions", APIVersion: "v1"},
		Preconditions:     &metav1.Preconditions{UID: &uid, ResourceVersion: &o.Metadata.ResourceVersion},
		PropagationPolicy: &background,
	}
	if dryRun {
		options.DryRun = []string{metav1.DryRunAll}
	}
	operation := fmt.Sprintf("delete Secret %s/%s", s.namespace, o.Metadata.Name)
	_, err := s.api.Do(ctx, operation, s.api.Delete().AbsPath(s.secretPath(o.Metadata.Name)).Body(kubeapi.Encode(options)))
	return err
}

// awaitGone waits until a deleted secret has disappeared.
func (s *Store) awaitGone(ctx context.Context, o bundle.ClusterSecret) error {
	const pause = 50 * time.Millisecond
	ctx, cancel := budget.Context(ctx, budget.ClusterDelete, fmt.Sprintf("wait until Secret %s/%s has disappeared", s.namespace, o.Metadata.Name))
	defer cancel()
	tick := time.NewTicker(pause)
	defer tick.Stop()
	var held error // the last that was heard of it
	for {
		now, err := s.readSecret(ctx, o.Metadata.Name)
		var by *bundle.Held
		switch {
		case err == nil && now == nil:
			return nil
		case err == nil && now.Metadata.UID != o.Metadata.UID:
			return fmt.Errorf("%w: somebody else created Secret %s/%s", bundle.ErrChanged, s.namespace, o.Metadata.Name)
		case errors.As(err, &by):
			held = err
		case err != nil && ctx.Err() == nil:
			return err
		}
		select {
		case <-ctx.Done():
			if held == nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("%w: %w", held, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// rehearsed makes a request that the API checks in every way and does not carry
// out.
func rehearsed(r *rest.Request, dryRun bool) *rest.Request {
	if dryRun {
		r = r.Param("dryRun", metav1.DryRunAll)
	}
	return r
}
