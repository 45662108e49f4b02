package kubestore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"creel/internal/bundle"
	"creel/internal/kubeapi"
)

// Leftover is a Secret that Creel made beside a gateway's set and that nothing uses:
// a backup, or what a rotation had put aside.
type Leftover struct{ object bundle.ClusterSecret }

// String is e.g. "Secret openshell/openshell-server-tls-creel-backup-1".
func (l Leftover) String() string {
	return fmt.Sprintf("Secret %s/%s", l.object.Metadata.Namespace, l.object.Metadata.Name)
}

// Leftovers finds what Creel made and nothing uses: what it made for this gateway
// beside a member of the set, and is none of the set's members. An error means
// that it is not known what there is.
func (s *Store) Leftovers(ctx context.Context) ([]Leftover, error) {
	want, err := s.Requirements(ctx)
	gone := errors.Is(err, bundle.ErrNotApplicable)
	if err != nil && !gone {
		return nil, err
	}
	if next, ok := bundle.Rotating(want); ok {
		want = next
	}
	var list struct {
		Items []bundle.ClusterSecret `json:"items"`
	}
	selector := bundle.LabelManagedBy + "=" + bundle.ManagedBy + "," + bundle.LabelInstance + "=" + s.gateway
	err = s.api.Read(ctx, "list what Creel made in namespace "+s.namespace,
		s.api.Get().AbsPath(s.secretsPath()).Param("labelSelector", selector), "SecretList", &list)
	if err != nil {
		return nil, err
	}
	var found []Leftover
	for _, o := range list.Items {
		of, ok := o.MadeBeside(s.gateway)
		switch {
		case !ok || o.Metadata.UID == "" || o.Metadata.DeletionTimestamp != "":
		// It is of another set; or the gateway's template was pointed at a backup, which
		// is a member now, in the place of what it is a backup of.
		case !gone && !slices.Contains(want.Stored(), of):
		default:
			found = append(found, Leftover{o})
		}
	}
	return found, nil
}

// Remove deletes leftovers, each only as it was found.
func (s *Store) Remove(ctx context.Context, leftovers []Leftover) error {
	var problems []error
	for _, l := range leftovers {
		if err := s.delete(ctx, l.object, false); err != nil && !kubeapi.IsAbsent(err, "secrets", l.object.Metadata.Name) {
			problems = append(problems, s.advise(ctx, err))
		}
	}
	return errors.Join(problems...)
}
