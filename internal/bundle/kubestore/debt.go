package kubestore

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// Annotations on what Creel writes.
const (
	// pendingAnnotation is on the StatefulSet while secrets that its pods use are
	// replaced and it has not been rolled: it maps each secret to the version that
	// is replaced.
	pendingAnnotation = "creel/restart-pending"
	// These two are on its pod template.
	restartedAtAnnotation  = "creel/restarted-at"
	restartedForAnnotation = "creel/restarted-for"
	// These are on secrets.
	backupAnnotation     = "creel/backup" // which backup holds the previous value
	backupOfAnnotation   = "creel/backup-of"
	backupTypeAnnotation = "creel/backup-type"
	writtenAtAnnotation  = "creel/written-at"
)

// debt maps the names of secrets to the versions that an interrupted or refused
// repair was about to replace. One whose version is another one now was replaced,
// and pods may still use what it was.
type debt map[string]string

func (t statefulSet) debt() debt {
	var d debt
	text := t.Metadata.Annotations[pendingAnnotation]
	// What does not parse was not written by this package, and owes nothing.
	if text == "" || json.Unmarshal([]byte(text), &d) != nil {
		return nil
	}
	return d
}

// owedFor are those names of a debt whose secrets are not what they were.
func (d debt) owedFor(t token) []string {
	var names []string
	for name, version := range d {
		o, known := t.objects[name]
		if known && o.version() != version {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// promise notes on the StatefulSet which secrets are about to be replaced, before
// they are. Without it a repair that is killed between replacing and rolling
// leaves a gateway that goes on with the old ones for ever, and nothing says so.
func (s *Store) promise(ctx context.Context, changes []change, dryRun bool) error {
	pending := debt{}
	for _, c := range changes {
		if c.current != nil {
			pending[c.secret.Name] = c.current.version()
		}
	}
	if len(pending) == 0 {
		return nil
	}
	// Of two replacements without a roll, pods may use what the first replaced.
	maps.Copy(pending, s.owed())
	text, err := json.Marshal(pending)
	if err != nil {
		return fmt.Errorf("note what is replaced: %w", err)
	}
	set, err := s.patchStatefulSet(ctx, "note on it what is replaced", map[string]any{
		"metadata": map[string]any{"annotations": map[string]any{pendingAnnotation: string(text)}},
	}, dryRun)
	if err == nil && !dryRun {
		s.owe(set.debt())
	}
	return err
}
