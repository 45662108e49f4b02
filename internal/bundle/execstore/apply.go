package execstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"creel/internal/advisory"
	"creel/internal/bundle"
)

// Apply writes secrets in the order of bundle.ClusterChanges, each only over what
// prev holds. First of all, what is replaced is copied into backups, and noted on
// the StatefulSet, so that a repair that is killed before it could roll the
// gateway is made up for.
func (s *Store) Apply(ctx context.Context, write []bundle.Secret, prev bundle.Snapshot) error {
	w := writing{store: s, now: time.Now()}
	var err error
	if w.changes, err = bundle.ClusterChanges(s.o.Gateway, s.o.Namespace, write, prev, w.now); err != nil {
		return fmt.Errorf("apply bootstrap secrets: %w", s.advise(err))
	}
	if err := w.prepare(ctx, prev); err != nil {
		return fmt.Errorf("apply bootstrap secrets: %w", err)
	}
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("apply bootstrap secrets: %w", err)
	}
	// From here on the caller's end is no reason to stop: half a set is worse than
	// the moment that the rest takes, and every call has its budget.
	if err := w.write(context.WithoutCancel(ctx)); err != nil {
		if len(w.written) > 0 {
			err = fmt.Errorf("%w (already written: %s)", err, strings.Join(w.written, ", "))
		}
		return fmt.Errorf("apply bootstrap secrets: %w", err)
	}
	return nil
}

type writing struct {
	store   *Store
	now     time.Time
	changes []bundle.ClusterChange
	written []string
}

func (w *writing) prepare(ctx context.Context, prev bundle.Snapshot) error {
	if err := w.backUp(ctx); err != nil {
		return err
	}
	if err := w.rehearse(ctx); err != nil {
		return err
	}
	promise := bundle.PromisePatch(w.changes, prev)
	if promise == nil {
		return nil
	}
	_, err := w.store.patchWorkload(ctx, "note what is replaced", promise)
	return err
}

// backUp makes all backups at once. Those whose names turn out to be taken are
// tried under the next one, unless the name is that of an earlier backup of the
// same value.
func (w *writing) backUp(ctx context.Context) error {
	var left []*bundle.ClusterChange
	for i := range w.changes {
		if w.changes[i].Replaces() {
			left = append(left, &w.changes[i])
		}
	}
	for taken := 0; len(left) > 0; taken++ {
		var backups []bundle.ClusterSecret
		for _, c := range left {
			b := c.Backup(w.store.o.Gateway, w.now, taken)
			if err := bundle.CheckClusterName(b.Metadata.Name); err != nil {
				return fmt.Errorf("name a backup: %w", err)
			}
			backups = append(backups, b)
			c.KeptIn(b.Metadata.Name)
		}
		out, err := w.store.send(ctx, "back up bootstrap secrets", "create", backups)
		if err != nil {
			return err
		}
		var again []*bundle.ClusterChange
		for i, b := range backups {
			if !slices.Contains(out.complaints, alreadyExists(b)) {
				continue
			}
			out.complaints = slices.DeleteFunc(out.complaints, func(c complaint) bool { return c == alreadyExists(b) })
			taken, err := w.taken(ctx, b)
			if err != nil {
				return err
			}
			if taken {
				again = append(again, left[i])
			}
		}
		if len(out.complaints) > 0 {
			return asChanged(out)
		}
		left = again
	}
	return nil
}

func (w *writing) taken(ctx context.Context, b bundle.ClusterSecret) (bool, error) {
	r := ref{secrets, b.Metadata.Name}
	found, err := w.store.look(ctx, "read the backup "+r.String(), nil, r)
	if err != nil {
		return false, err
	}
	objects, err := found.secrets()
	if err != nil {
		return false, advisory.New("cluster-not-kubernetes", "read the backup "+r.String(), err)
	}
	return b.Taken(objects[b.Metadata.Name]), nil
}

func alreadyExists(o bundle.ClusterSecret) complaint {
	return complaint{"AlreadyExists", fmt.Sprintf("secrets %q already exists", o.Metadata.Name)}
}

// rehearse asks whether what is about to be deleted could be created again, under
// another name since its own is taken.
func (w *writing) rehearse(ctx context.Context) error {
	var objects []bundle.ClusterSecret
	for _, c := range w.changes {
		if c.Recreate {
			o := c.New
			o.Metadata.Name += "-creel-rehearsal"
			objects = append(objects, o)
		}
	}
	if len(objects) == 0 {
		return nil
	}
	out, err := w.store.send(ctx, "rehearse the creation of what has to be deleted", "create", objects, "--dry-run=server")
	if err != nil {
		return err
	}
	return asChanged(out)
}

// write makes the changes for good, a stage at a time.
func (w *writing) write(ctx context.Context) error {
	for len(w.changes) > 0 {
		n := 1
		for n < len(w.changes) && w.changes[n].Stage == w.changes[0].Stage {
			n++
		}
		var create, replace []bundle.ClusterSecret
		for _, c := range w.changes[:n] {
			switch {
			case c.Recreate:
				if err := w.recreate(ctx, c); err != nil {
					return err
				}
			case c.Old != nil:
				replace = append(replace, c.New)
			default:
				create = append(create, c.New)
			}
		}
		if err := w.all(ctx, "replace", replace); err != nil {
			return err
		}
		if err := w.all(ctx, "create", create); err != nil {
			return err
		}
		w.changes = w.changes[n:]
	}
	return nil
}

func (w *writing) recreate(ctx context.Context, c bundle.ClusterChange) error {
	if err := w.store.delete(ctx, *c.Old); err != nil {
		return err
	}
	if err := w.all(ctx, "create", []bundle.ClusterSecret{c.New}); err != nil {
		return fmt.Errorf("%w (it was deleted to be created again; its value is in secret %s)", err, c.New.Metadata.Annotations[bundle.AnnotationBackup])
	}
	return nil
}

// all writes objects that do not depend on each other. kubectl goes on after an
// object that is refused.
func (w *writing) all(ctx context.Context, verb string, objects []bundle.ClusterSecret) error {
	if len(objects) == 0 {
		return nil
	}
	out, err := w.store.send(ctx, verb+" bootstrap secrets", verb, objects)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(out.stdout)) {
		w.written = append(w.written, strings.TrimPrefix(strings.TrimSpace(line), "secret/"))
	}
	if err := asChanged(out); err != nil {
		return err
	}
	for _, o := range objects {
		if !slices.Contains(w.written, o.Metadata.Name) {
			return advisory.New("cluster-not-kubernetes", out.operation, fmt.Errorf("nothing says that secret %s was written", o.Metadata.Name))
		}
	}
	return nil
}

// send gives objects to kubectl on its standard input.
func (s *Store) send(ctx context.Context, operation, verb string, objects []bundle.ClusterSecret, flags ...string) (output, error) {
	var names []string
	for _, o := range objects {
		names = append(names, o.Metadata.Name)
	}
	operation = fmt.Sprintf("%s (%s) in %s", operation, strings.Join(names, ", "), s)
	manifest := encode(map[string]any{"apiVersion": "v1", "kind": "List", "items": objects})
	// The API validates; kubectl's own validation would only ask it how.
	return s.kubectl(ctx, operation, manifest, slices.Concat([]string{verb, "--filename=-", "--output=name", "--validate=false"}, flags)...)
}

// delete deletes exactly what was read: kubectl's ordinary deletion knows no such
// condition.
func (s *Store) delete(ctx context.Context, o bundle.ClusterSecret) error {
	path := "/api/v1/namespaces/" + s.o.Namespace + "/secrets/" + o.Metadata.Name
	options := encode(map[string]any{"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background",
		"preconditions": map[string]string{"uid": o.Metadata.UID, "resourceVersion": o.Metadata.ResourceVersion}})
	out, err := s.kubectl(ctx, "delete secret "+o.Metadata.Name+" in "+s.String(), options, "delete", "--raw="+path, "--filename=-")
	if err != nil {
		return err
	}
	return asChanged(out)
}

var gone = regexp.MustCompile(`^(secrets|namespaces) "[^"]*" not found$`)

// asChanged is the error of a write. Where all that was refused is no longer what
// was planned on, looking again tells what is; in a namespace that is being
// deleted there is nothing to look for.
func asChanged(out output) error {
	err := out.failure()
	if err == nil {
		return nil
	}
	changed := true
	for _, c := range out.complaints {
		switch {
		case c.reason == "Forbidden" && strings.HasSuffix(c.text, "because it is being terminated"):
			return fmt.Errorf("%w: %w", bundle.ErrNotApplicable, err)
		case c.reason == "Conflict", c.reason == "AlreadyExists", c.reason == "NotFound" && gone.MatchString(c.text):
		default:
			changed = false
		}
	}
	if changed {
		var p *advisory.Problem
		if errors.As(err, &p) {
			err = fmt.Errorf("%s: %w", p.Detail, p.Cause)
		}
		return fmt.Errorf("%w: %w", bundle.ErrChanged, err)
	}
	return err
}

// encode is the JSON of what cannot fail to have one: structs and maps of strings
// and bytes.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("execstore: encode %T: %v", v, err))
	}
	return b
}
