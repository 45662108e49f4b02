package kubeapi

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"creel/internal/advisory"
)

// Right is what a user may or may not do in the namespace. Name is empty for all
// objects of a kind.
type Right struct{ Verb, Group, Resource, Name string }

// String is e.g. "update secrets/openshell-client-tls".
func (r Right) String() string {
	resource := r.Resource
	if r.Group != "" {
		resource += "." + r.Group
	}
	if r.Name == "" {
		return r.Verb + " " + resource
	}
	return fmt.Sprintf("%s %s/%s", r.Verb, resource, r.Name)
}

// Require returns an error that names the rights which are missing. One that
// nobody may even ask about is not missing: who goes on finds out.
func (c *Client) Require(ctx context.Context, rights []Right) error {
	denied := make([]bool, len(rights))
	err := InParallel(rights, func(i int, r Right) error {
		allowed, err := c.May(ctx, r)
		denied[i] = err == nil && !allowed
		return err
	})
	if IsForbidden(err) {
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
	return advisory.New("cluster-forbidden", fmt.Sprintf("in namespace %s it is not allowed to %s, so nothing was written", c.options.Namespace, strings.Join(words, ", ")), nil)
}

// May asks the API whether it would allow something (a SelfSubjectAccessReview).
func (c *Client) May(ctx context.Context, r Right) (bool, error) {
	c.mu.Lock()
	known := c.allowed[r]
	c.mu.Unlock()
	if known {
		return true, nil
	}
	var review struct {
		Status struct {
			Allowed bool `json:"allowed"`
		} `json:"status"`
	}
	request := c.Post().AbsPath("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews").Body(Encode(map[string]any{
		"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
		"spec": map[string]any{"resourceAttributes": map[string]string{
			"namespace": c.options.Namespace, "verb": r.Verb, "group": r.Group, "resource": r.Resource, "name": r.Name,
		}},
	}))
	if err := c.Read(ctx, "ask whether it is allowed to "+r.String(), request, "SelfSubjectAccessReview", &review); err != nil {
		return false, err
	}
	if review.Status.Allowed {
		c.mu.Lock()
		c.allowed[r] = true
		c.mu.Unlock()
	}
	return review.Status.Allowed, nil
}

// Role is what somebody may do in the namespace, in kubectl's words: verbs as in
// "get,patch" and resources as in "statefulsets.apps".
type Role struct{ Name, Verbs, Resources string }

// Grant are the commands with which whoever may gives roles to the one who asks.
// Whose name the API does not tell is left open in them.
func (c *Client) Grant(ctx context.Context, roles ...Role) []string {
	who := c.whoAmI(ctx)
	var commands []string
	for _, r := range roles {
		commands = append(commands, c.Kubectl(fmt.Sprintf("create role %s --verb=%s --resource=%s", r.Name, r.Verbs, r.Resources)),
			c.Kubectl(fmt.Sprintf("create rolebinding %s --role=%s %s", r.Name, r.Name, who)))
	}
	return commands
}

// whoAmI is how kubectl is told of the user that the API sees in us.
func (c *Client) whoAmI(ctx context.Context) string {
	var review struct {
		Status struct {
			UserInfo struct {
				Username string `json:"username"`
			} `json:"userInfo"`
		} `json:"status"`
	}
	request := c.Post().AbsPath("/apis/authentication.k8s.io/v1/selfsubjectreviews").Body(Encode(map[string]any{
		"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview",
	}))
	name := "NAME"
	if err := c.Read(ctx, "ask who is asking", request, "SelfSubjectReview", &review); err == nil && review.Status.UserInfo.Username != "" {
		name = review.Status.UserInfo.Username
	}
	if account, ok := strings.CutPrefix(name, "system:serviceaccount:"); ok {
		return "--serviceaccount=" + account
	}
	return "--user=" + advisory.Quote(name)
}

// Encode is the body of a request. What is sent are maps and objects of ours,
// which encode.
func Encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("kubeapi: encode %T: %v", v, err))
	}
	return b
}

// InParallel does something with every item at the same time, and returns the
// error of the first of them that has one: always the same for the same faults.
func InParallel[T any](items []T, do func(i int, item T) error) error {
	faults := make([]error, len(items))
	var wg sync.WaitGroup
	for i, item := range items {
		wg.Go(func() { faults[i] = do(i, item) })
	}
	wg.Wait()
	for _, err := range faults {
		if err != nil {
			return err
		}
	}
	return nil
}
