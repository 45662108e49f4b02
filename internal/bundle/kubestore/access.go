package kubestore

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"creel/internal/advisory"
)

// right is one thing that may be done, in the words of RBAC.
type right struct{ verb, group, resource, name string }

func secretRight(verb, name string) right { return right{verb: verb, resource: "secrets", name: name} }

func (r right) String() string {
	resource := r.resource
	if r.group != "" {
		resource += "." + r.group
	}
	if r.name == "" {
		return r.verb + " " + resource
	}
	return fmt.Sprintf("%s %s/%s", r.verb, resource, r.name)
}

// rightsFor lists what applying changes needs. Roles can name objects, except
// for create; and a backup's name is not known yet.
func (s *Store) rightsFor(changes []change) []right {
	create := secretRight("create", "")
	var rights []right
	add := func(r right) {
		if !slices.Contains(rights, r) {
			rights = append(rights, r)
		}
	}
	for _, c := range changes {
		add(secretRight("get", c.secret.Name))
		add(create) // the secret, or a backup of it
		switch {
		case c.current == nil:
			continue
		case c.recreate:
			add(secretRight("delete", c.secret.Name))
		default:
			add(secretRight("update", c.secret.Name))
		}
		add(right{verb: "patch", group: "apps", resource: "statefulsets", name: s.statefulSet})
	}
	return rights
}

// requireRights asks the API what may be done, and refuses when something may
// not, before anything is.
func (s *Store) requireRights(ctx context.Context, rights []right) error {
	denied := make([]bool, len(rights))
	err := inParallel(rights, func(i int, r right) error {
		allowed, err := s.may(ctx, r)
		denied[i] = err == nil && !allowed
		return err
	})
	if isForbidden(err) {
		// Somebody may not even ask. The rehearsal that follows finds out as well.
		return nil
	}
	if err != nil {
		return err
	}
	var words []string
	for i, r := range rights {
		if denied[i] {
			words = append(words, r.String())
		}
	}
	if len(words) == 0 {
		return nil
	}
	return advisory.New("cluster-forbidden", fmt.Sprintf("in namespace %s it is not allowed to %s, so nothing was written", s.namespace, strings.Join(words, ", ")), nil)
}

// may is a SelfSubjectAccessReview (authorization.k8s.io/v1).
func (s *Store) may(ctx context.Context, r right) (bool, error) {
	s.mu.Lock()
	known := s.allowed[r]
	s.mu.Unlock()
	if known {
		return true, nil
	}
	var review struct {
		Status struct {
			Allowed bool `json:"allowed"`
		} `json:"status"`
	}
	request := s.api.Post().AbsPath("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews").Body(encode(map[string]any{
		"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
		"spec": map[string]any{"resourceAttributes": map[string]string{
			"namespace": s.namespace, "verb": r.verb, "group": r.group, "resource": r.resource, "name": r.name,
		}},
	}))
	if err := s.read(ctx, "ask whether it is allowed to "+r.String(), request, "SelfSubjectAccessReview", &review); err != nil {
		return false, err
	}
	if review.Status.Allowed {
		s.mu.Lock()
		s.allowed[r] = true
		s.mu.Unlock()
	}
	return review.Status.Allowed, nil
}

// advise adds to an error about a missing right the commands with which somebody
// who may can grant it: all that this package needs, so that the next attempt
// does not find the next right missing.
func (s *Store) advise(ctx context.Context, err error) error {
	p, ok := advisory.Of(err)
	if !ok || p.ID != "cluster-forbidden" || len(p.Hints) > 0 {
		return err
	}
	who := s.whoAmI(ctx)
	p.Hints = []string{
		s.kubectl("create role creel-secrets --verb=get,create,update,delete --resource=secrets"),
		s.kubectl("create rolebinding creel-secrets --role=creel-secrets " + who),
		s.kubectl("create role creel-roll --verb=get,patch --resource=statefulsets.apps"),
		s.kubectl("create rolebinding creel-roll --role=creel-roll " + who),
	}
	return err
}

// whoAmI is the flag of kubectl for the subject that the API takes the caller for
// (SelfSubjectReview, authentication.k8s.io/v1).
func (s *Store) whoAmI(ctx context.Context) string {
	var review struct {
		Status struct {
			UserInfo struct {
				Username string `json:"username"`
			} `json:"userInfo"`
		} `json:"status"`
	}
	request := s.api.Post().AbsPath("/apis/authentication.k8s.io/v1/selfsubjectreviews").Body(encode(map[string]any{
		"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview",
	}))
	name := "NAME"
	if err := s.read(ctx, "ask who is asking", request, "SelfSubjectReview", &review); err == nil && review.Status.UserInfo.Username != "" {
		name = review.Status.UserInfo.Username
	}
	if account, ok := strings.CutPrefix(name, "system:serviceaccount:"); ok {
		return "--serviceaccount=" + account
	}
	return "--user=" + name
}
