package execstore

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"creel/internal/advisory"
	"creel/internal/bundle"
)

// resource is a kind of object in the words of kubectl: for its arguments, in its
// objects, and in its errors.
type resource struct{ argument, kind, plural string }

var (
	namespaces   = resource{"namespace", "Namespace", "namespaces"}
	statefulSets = resource{"statefulset", "StatefulSet", "statefulsets.apps"}
	secrets      = resource{"secret", "Secret", "secrets"}
)

// ref names one object.
type ref struct {
	resource
	name string
}

// String is e.g. "statefulset/openshell".
func (r ref) String() string { return r.argument + "/" + r.name }

// answer is what a look found: every object that was asked for is in exactly one
// of both, except where it may not be looked at.
type answer struct {
	objects map[ref]json.RawMessage
	absent  map[ref]bool
}

// look reads objects with one kubectl. Where their namespace does not exist the
// error is ErrNotApplicable. Absent is only what the API named as not
// found, in the very words that it has for that object: kubectl's flag to ignore
// what is not found would take any status 404 for absence, a proxy's too. Of
// those in optional it is no fault when they may not be read.
func (s *Store) look(ctx context.Context, operation string, optional []ref, refs ...ref) (answer, error) {
	refs = slices.Concat(refs, optional)
	args := []string{"get", "--output=json"}
	for _, r := range refs {
		args = append(args, r.String())
	}
	out, err := s.kubectl(ctx, operation, nil, args...)
	if err != nil {
		return answer{}, err
	}
	// kubectl looks for the namespace when it does not find what is in it.
	if place := (ref{namespaces, s.o.Namespace}); slices.Contains(out.complaints, absent(place)) {
		return answer{}, notApplicable("namespace %s does not exist", place.name)
	}
	a := answer{map[ref]json.RawMessage{}, map[ref]bool{}}
	var forbidden []ref
	for _, c := range out.complaints {
		switch i := slices.IndexFunc(refs, func(r ref) bool { return c == absent(r) || c.forbids(r) }); {
		case i < 0 || c != absent(refs[i]) && !slices.Contains(optional, refs[i]):
			out.complaints = []complaint{c}
			return answer{}, out.failure()
		case c == absent(refs[i]):
			a.absent[refs[i]] = true
		default:
			forbidden = append(forbidden, refs[i])
		}
	}
	invalid := func(err error) error { return advisory.New("cluster-not-kubernetes", operation, err) }
	items, err := items(out.stdout)
	if err != nil {
		return answer{}, invalid(err)
	}
	for _, item := range items {
		i := slices.IndexFunc(refs, func(r ref) bool { return r.kind == item.kind && r.name == item.name })
		if i < 0 || refs[i].resource != namespaces && item.namespace != s.o.Namespace {
			return answer{}, invalid(fmt.Errorf("the answer holds a %.40q named %.80q in namespace %.80q", item.kind, item.name, item.namespace))
		}
		a.objects[refs[i]] = item.content
	}
	for _, r := range refs {
		if (a.objects[r] == nil) == !a.absent[r] && !slices.Contains(forbidden, r) {
			return answer{}, invalid(fmt.Errorf("the answer does not say whether %s exists (exit code %d)", r, out.code))
		}
	}
	return a, nil
}

// secrets decodes the secrets among what was found.
func (a answer) secrets() (map[string]bundle.ClusterSecret, error) {
	found := map[string]bundle.ClusterSecret{}
	for r, content := range a.objects {
		if r.resource != secrets {
			continue
		}
		var o bundle.ClusterSecret
		if err := json.Unmarshal(content, &o); err != nil {
			// The error may quote the value.
			return nil, fmt.Errorf("%s does not parse", r)
		}
		found[r.name] = o
	}
	return found, nil
}

type item struct {
	kind, name, namespace string
	content               json.RawMessage
}

// items splits what kubectl prints: nothing, one object, or a list.
func items(stdout []byte) ([]item, error) {
	if len(strings.TrimSpace(string(stdout))) == 0 {
		return nil, nil
	}
	type head struct {
		Kind     string `json:"kind"`
		Metadata struct {
			Name      string `json:"name"`
			Namespace string `json:"namespace"`
		} `json:"metadata"`
	}
	var list struct {
		head
		Items []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(stdout, &list); err != nil {
		return nil, fmt.Errorf("the answer (%d bytes) is no JSON", len(stdout))
	}
	contents := list.Items
	if list.Kind != "List" {
		contents = []json.RawMessage{stdout}
	}
	var found []item
	for _, content := range contents {
		var h head
		if err := json.Unmarshal(content, &h); err != nil {
			return nil, fmt.Errorf("an object in the answer (%d bytes) does not parse", len(content))
		}
		found = append(found, item{h.Kind, h.Metadata.Name, h.Metadata.Namespace, content})
	}
	return found, nil
}
