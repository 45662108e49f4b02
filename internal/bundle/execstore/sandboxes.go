package execstore

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"creel/internal/advisory"
)

// Sandboxes lists by name the pods in the gateway's namespace that are not the
// gateway's own: OpenShell runs each sandbox in a pod of its name.
func (s *Store) Sandboxes(ctx context.Context) ([]string, error) {
	operation := "list sandboxes in " + s.String()
	out, err := s.kubectl(ctx, operation, nil, "get", "--output=json", "pods")
	if err == nil {
		err = out.failure()
	}
	if err != nil {
		return nil, err
	}
	pods, err := items(out.stdout)
	if err != nil {
		return nil, advisory.New("cluster-not-kubernetes", operation, err)
	}
	var names []string
	for _, pod := range pods {
		var p struct {
			Metadata struct {
				OwnerReferences []struct{ Kind, Name string } `json:"ownerReferences"`
			} `json:"metadata"`
		}
		if err := json.Unmarshal(pod.content, &p); err != nil || pod.kind != "Pod" {
			return nil, advisory.New("cluster-not-kubernetes", operation, fmt.Errorf("the answer holds a %.40q named %.80q", pod.kind, pod.name))
		}
		own := slices.ContainsFunc(p.Metadata.OwnerReferences, func(o struct{ Kind, Name string }) bool {
			return o.Kind == "StatefulSet" && o.Name == s.o.StatefulSet
		})
		if !own {
			names = append(names, pod.name)
		}
	}
	slices.Sort(names)
	return names, nil
}
