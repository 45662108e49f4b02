package kubestore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/bundle"
	"creel/internal/kubeapi"
)

// change is one secret to write.
type change struct {
	secret   bundle.Secret
	current  *object // what was read; nil when it was absent
	recreate bool    // it has to be deleted first
	backup   string  // the name of the backup of current, once there is one
}

// Apply writes secrets, each only over what prev holds. Everything that can be
// refused is found out before anything is written: rights are asked for, every
// write is rehearsed, and what is replaced is backed up.
//
// The API has no transaction over several secrets, so Apply may be killed between
// any two writes, and the next repair must be able to go on with the consent that
// this one had. With consent to replace, any state can be repaired. Without it,
// only what is absent or lacks a key can; what was written here must not leave a
// state in which a good member does not fit a good one, since that looks like
// somebody's intention. So, in this order:
//
//  1. Backups, because nothing may be lost. A second run finds and reuses them.
//  2. A note on the StatefulSet of what is about to be replaced, so that the roll
//     that this repair owes is not forgotten with it (see promise).
//  3. Members that are there and have all their keys: they are replaced only
//     because they go along with a member that is bad.
//  4. Members that lack a key, then those that are absent: the reason for the
//     whole write. As long as one of them is left to do, the set is in need of
//     the same repair, without anybody's consent.
//
// For the pairs that are issued together, that means: of CA and client
// (generation 1), when the client is absent or incomplete, the CA is written
// first: a new CA without its client is where this began, a new client under an
// old CA would be a mismatch. When the CA is absent, it is the client that is
// written first, for the same reason. Of server and client (generation 2, each
// with the CA inside) likewise the good one first; until the other follows it is
// absent or incomplete, and the CA of the good one is the set's. When both are
// bad any order will do. Deleting one to create it again only makes it absent,
// which is always repaired. The handshake and the token key stand alone.
//
// One thing does not converge to the same: a token key whose object must be
// deleted, when Apply is killed between the deletion and the creation, is absent
// afterwards and a new one is issued. The old one is in the backup.
func (s *Store) Apply(ctx context.Context, write []bundle.Secret, prev bundle.Snapshot) error {
	changes, err := s.plan(write, prev)
	if err == nil {
		err = s.apply(ctx, changes)
	}
	if err != nil {
		return s.advise(ctx, fmt.Errorf("apply bootstrap secrets: %w", err))
	}
	return nil
}

// plan is what must be done, in the order in which it is.
func (s *Store) plan(write []bundle.Secret, prev bundle.Snapshot) ([]change, error) {
	t, ok := prev.Token.(token)
	if !ok || t.namespace != s.namespace {
		return nil, errors.New("the snapshot is not one of this namespace")
	}
	var changes []change
	for _, secret := range write {
		current, known := t.objects[secret.Name]
		if !known || slices.ContainsFunc(changes, func(c change) bool { return c.secret.Name == secret.Name }) {
			return nil, fmt.Errorf("secret %q is not in the snapshot, or is written twice", secret.Name)
		}
		secret.Type = cmp.Or(secret.Type, opaque)
		c := change{secret: secret, current: current}
		c.recreate = current != nil && (current.Type != secret.Type || current.Immutable != nil && *current.Immutable)
		if c.recreate && len(current.Metadata.Finalizers) > 0 {
			return nil, advisory.New("cluster-refused", fmt.Sprintf("Secret %s/%s cannot be changed and would have to be deleted, which the finalizers %s hold back",
				s.namespace, secret.Name, strings.Join(current.Metadata.Finalizers, ", ")), nil,
				s.api.Kubectl("get secret "+secret.Name+" -o jsonpath={.metadata.finalizers}"))
		}
		changes = append(changes, c)
	}
	slices.SortStableFunc(changes, func(a, b change) int { return a.urgency() - b.urgency() })
	return changes, nil
}

// urgency orders changes; the least urgent is made first.
func (c change) urgency() int {
	switch {
	case c.current == nil:
		return 2
	case c.current.lacks(c.secret):
		return 1
	}
	return 0
}

func (s *Store) apply(ctx context.Context, changes []change) error {
	if err := s.api.Require(ctx, s.rightsFor(changes)); err != nil {
		return err
	}
	if err := s.rehearse(ctx, changes); err != nil {
		return err
	}
	if err := kubeapi.InParallel(changes, func(i int, c change) (err error) {
		changes[i].backup, err = s.backUp(ctx, c)
		return err
	}); err != nil {
		return asChanged(err)
	}
	if err := s.rehearseRecreation(ctx, changes); err != nil {
		return err
	}
	if err := s.promise(ctx, changes, false); err != nil {
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
		written = append(written, c.secret.Name)
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
func (s *Store) write(ctx context.Context, c change) error {
	switch {
	case c.current == nil:
		return s.create(ctx, s.newObject(c.secret.Name, c.secret.Type, c.secret.Data), false)
	case !c.recreate:
		return s.update(ctx, s.replacedBy(c.current, c.secret).keptIn(c.backup), false)
	}
	if err := s.delete(ctx, c.current, false); err != nil {
		return err
	}
	err := s.awaitGone(ctx, c.current)
	if err == nil {
		err = s.create(ctx, s.recreatedAs(c.current, c.secret).keptIn(c.backup), false)
	}
	if err != nil {
		return fmt.Errorf("%w (it was deleted to be created again; its value is in Secret %s)", err, c.backup)
	}
	return nil
}

func (s *Store) create(ctx context.Context, o *object, dryRun bool) error {
	operation := fmt.Sprintf("create Secret %s/%s", s.namespace, o.Metadata.Name)
	_, err := s.api.Do(ctx, operation, rehearsed(s.api.Post().AbsPath(s.secretsPath()), dryRun).Body(kubeapi.Encode(o)))
	return err
}

// update writes over exactly what was read: the uid and the resource version in
// the metadata are conditions.
func (s *Store) update(ctx context.Context, o *object, dryRun bool) error {
	operation := fmt.Sprintf("update Secret %s/%s", s.namespace, o.Metadata.Name)
	_, err := s.api.Do(ctx, operation, rehearsed(s.api.Put().AbsPath(s.secretPath(o.Metadata.Name)), dryRun).Body(kubeapi.Encode(o)))
	return err
}

func (s *Store) delete(ctx context.Context, o *object, dryRun bool) error {
	background := metav1.DeletePropagationBackground
	options := metav1.DeleteOptions{
		TypeMeta:          metav1.TypeMeta{Kind: "DeleteOptions", APIVersion: "v1"},
		Preconditions:     &metav1.Preconditions{UID: &o.Metadata.UID, ResourceVersion: &o.Metadata.ResourceVersion},
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
func (s *Store) awaitGone(ctx context.Context, o *object) error {
	const pause = 50 * time.Millisecond
	ctx, cancel := budget.Context(ctx, budget.ClusterDelete, fmt.Sprintf("wait until Secret %s/%s has disappeared", s.namespace, o.Metadata.Name))
	defer cancel()
	tick := time.NewTicker(pause)
	defer tick.Stop()
	var held error // the last that was heard of it
	for {
		now, err := s.readSecret(ctx, o.Metadata.Name)
		p, _ := advisory.Of(err)
		switch {
		case err == nil && now == nil:
			return nil
		case err == nil && now.Metadata.UID != o.Metadata.UID:
			return fmt.Errorf("%w: somebody else created Secret %s/%s", bundle.ErrChanged, s.namespace, o.Metadata.Name)
		case p != nil && p.ID == "cluster-secret-going":
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
