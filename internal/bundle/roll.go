package bundle

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"creel/internal/advisory"
	"creel/internal/health"
)

// Annotations of a gateway's StatefulSet.
const (
	// AnnotationRestartPending is there while secrets that its pods use are
	// replaced and it has not been rolled: a JSON object that maps the name of each
	// to the version that is replaced.
	AnnotationRestartPending = "creel/restart-pending"
	// These two are on its pod template.
	AnnotationRestartedAt  = "creel/restarted-at"
	AnnotationRestartedFor = "creel/restarted-for"
)

type updateStrategy struct {
	Type          string `json:"type"`
	RollingUpdate *struct {
		Partition int `json:"partition"`
	} `json:"rollingUpdate"`
}

// Applicable is nil for a StatefulSet that stays. For one that is being deleted
// it is ErrNotApplicable: what is written now would be left over, or would race
// whoever makes the gateway anew.
func (w Workload) Applicable() error {
	if w.Metadata.DeletionTimestamp == "" {
		return nil
	}
	return advisory.New("secrets-not-applicable", fmt.Sprintf("statefulset/%s is being deleted", w.Metadata.Name), ErrNotApplicable)
}

// pending are the secrets that a repair was about to replace, with the versions
// that they had then.
func (w Workload) pending() map[string]string {
	var p map[string]string
	text := w.Metadata.Annotations[AnnotationRestartPending]
	// What does not parse was not written by Creel, and owes nothing.
	if text == "" || json.Unmarshal([]byte(text), &p) != nil {
		return nil
	}
	return p
}

// NoteUnrolled adds to a snapshot of a cluster what was replaced there without
// the gateway having been told: what was about to be, and has another version
// now.
func (w Workload) NoteUnrolled(s *Snapshot) {
	seen, ok := s.Token.(clusterToken)
	if !ok {
		return
	}
	seen.pending = w.pending()
	s.Token = seen
	for name, version := range seen.pending {
		if o, asked := seen.objects[name]; asked && o.version() != version {
			s.Unrolled = append(s.Unrolled, name)
		}
	}
	if len(s.Unrolled) > 0 {
		slices.Sort(s.Unrolled)
		s.Caveats = append(s.Caveats, health.Caveat{Advisory: "secrets-not-rolled",
			Message: "the gateway was not started again since this was replaced: " + strings.Join(s.Unrolled, ", ")})
	}
}

type object = map[string]any

func patch(o object) []byte {
	b, err := json.Marshal(o)
	if err != nil {
		panic(err) // strings in maps
	}
	return b
}

// PromisePatch is the merge patch of a StatefulSet that notes what is about to be
// replaced, so that a repair that is killed before it could roll the gateway is
// made up for. It is nil where nothing is replaced. prev is what Load found.
func PromisePatch(changes []ClusterChange, prev Snapshot) []byte {
	pending := map[string]string{}
	for _, c := range changes {
		if c.Old != nil {
			pending[c.Old.Metadata.Name] = c.Old.version()
		}
	}
	if len(pending) == 0 {
		return nil
	}
	// Of two replacements without a roll, pods may use what the first replaced. And
	// what was promised and is not replaced yet may be, by whoever promised it.
	seen, _ := prev.Token.(clusterToken)
	maps.Copy(pending, seen.pending)
	text, err := json.Marshal(pending)
	if err != nil {
		panic(err)
	}
	return patch(object{"metadata": object{"annotations": object{AnnotationRestartPending: string(text)}}})
}

// RollPatch is the merge patch of a StatefulSet that makes its pods start again
// with the secrets of these names, and takes back the promise of that.
func RollPatch(at time.Time, names []string) []byte {
	return patch(object{"metadata": object{"annotations": object{AnnotationRestartPending: nil}},
		"spec": object{"template": object{"metadata": object{"annotations": object{
			AnnotationRestartedAt: at.UTC().Format(time.RFC3339Nano), AnnotationRestartedFor: strings.Join(names, ",")}}}}})
}

// Pods are the names of a StatefulSet's pods, the first ten of them.
func (w Workload) Pods() []string {
	const some = 10
	var pods []string
	for n := range min(w.replicas(), some) {
		pods = append(pods, fmt.Sprintf("%s-%d", w.Metadata.Name, w.Spec.Ordinals.Start+n))
	}
	return pods
}

func (w Workload) replicas() int {
	if w.Spec.Replicas == nil {
		return 1
	}
	return *w.Spec.Replicas
}

// Rolls says whether a StatefulSet's pods start again when its template changes:
// false where it has none, and an error where it leaves that to somebody else.
func (w Workload) Rolls() (bool, error) {
	strategy := w.Spec.UpdateStrategy
	switch {
	case w.replicas() == 0:
		return false, nil
	case strategy.Type == "OnDelete":
		return false, fmt.Errorf(`statefulset/%s has the update strategy "OnDelete": a pod starts again when somebody deletes it`, w.Metadata.Name)
	case strategy.RollingUpdate != nil && strategy.RollingUpdate.Partition > 0:
		return false, fmt.Errorf("statefulset/%s holds pods below number %d back until somebody deletes them", w.Metadata.Name, strategy.RollingUpdate.Partition)
	}
	return true, nil
}
