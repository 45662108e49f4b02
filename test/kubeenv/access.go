package kubeenv

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
)

// Login is who a kubeconfig is for. The zero value is the admin.
type Login struct {
	Token     string   // a bearer token; empty is the admin's
	As        string   // a user whom the admin (or Token's) impersonates
	AsGroups  []string // and that user's groups
	Namespace string   // of the context; empty is "default"
}

// Kubeconfig writes a kubeconfig and returns its path. The file has mode 0600
// and goes with the cluster.
func (c *Cluster) Kubeconfig(t testing.TB, login Login) string {
	t.Helper()
	path, err := c.kubeconfig(login)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func (c *Cluster) kubeconfig(login Login) (path string, err error) {
	if login.Token == "" {
		login.Token = c.AdminToken
	}
	ca, err := os.ReadFile(c.CA)
	if err != nil {
		return "", fmt.Errorf("write a kubeconfig: %w", err)
	}
	user := map[string]any{"token": login.Token}
	if login.As != "" {
		user["as"], user["as-groups"] = login.As, login.AsGroups
	}
	place := map[string]any{"cluster": "kubeenv", "user": "user"}
	if login.Namespace != "" {
		place["namespace"] = login.Namespace
	}
	// JSON is YAML, and its quoting is simpler.
	content, err := json.MarshalIndent(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "kubeenv",
		"clusters": []any{map[string]any{"name": "kubeenv", "cluster": map[string]any{"server": c.Server, "certificate-authority-data": ca}}},
		"users":    []any{map[string]any{"name": "user", "user": user}},
		"contexts": []any{map[string]any{"name": "kubeenv", "context": place}},
	}, "", "  ")
	if err != nil {
		return "", fmt.Errorf("write a kubeconfig: %w", err)
	}
	f, err := os.CreateTemp(c.dir, "kubeconfig-*.yaml")
	if err != nil {
		return "", fmt.Errorf("write a kubeconfig: %w", err)
	}
	if _, err := f.Write(content); err != nil {
		_ = f.Close()
		return "", fmt.Errorf("write a kubeconfig: %w", err)
	}
	if err := f.Close(); err != nil {
		return "", fmt.Errorf("write a kubeconfig: %w", err)
	}
	return f.Name(), nil
}

// NewNamespace makes a namespace that no other test uses. It is not deleted:
// without controllers it would be terminating for ever, and it goes with the
// cluster.
func (c *Cluster) NewNamespace(t testing.TB) string {
	t.Helper()
	answer := c.Must(t, "POST", "/api/v1/namespaces", map[string]any{"metadata": map[string]any{"generateName": "test-"}})
	name := decode[struct{ Metadata struct{ Name string } }](t, answer).Metadata.Name
	if c.options.controllers {
		ctx, cancel := context.WithTimeout(context.Background(), startLimit)
		defer cancel()
		if err := c.controllers.await(ctx, "make a namespace", func(ctx context.Context) error { return c.hasServiceAccount(ctx, name) }); err != nil {
			t.Fatal(err)
		}
	}
	return name
}

// Rule is a policy rule of RBAC. No APIGroups means the core group.
type Rule struct {
	APIGroups     []string `json:"apiGroups"`
	Resources     []string `json:"resources"`
	ResourceNames []string `json:"resourceNames,omitempty"`
	Verbs         []string `json:"verbs"`
}

// ServiceAccount makes a service account that may do in its namespace what the
// rules say and nothing more, and returns a kubeconfig with a token of it. The
// rules hold when it returns.
func (c *Cluster) ServiceAccount(t testing.TB, namespace, name string, rules ...Rule) string {
	t.Helper()
	c.Must(t, "POST", "/api/v1/namespaces/"+namespace+"/serviceaccounts", map[string]any{"metadata": map[string]any{"name": name}})
	if len(rules) > 0 {
		c.grant(t, "/apis/rbac.authorization.k8s.io/v1/namespaces/"+namespace+"/", "Role", namespace, name, rules)
	}
	return c.Kubeconfig(t, Login{Token: c.Token(t, namespace, name), Namespace: namespace})
}

// GrantCluster lets a service account do what the rules say in every namespace
// and on what has none, such as namespaces themselves. Once an account.
func (c *Cluster) GrantCluster(t testing.TB, namespace, name string, rules ...Rule) {
	t.Helper()
	c.grant(t, "/apis/rbac.authorization.k8s.io/v1/", "ClusterRole", namespace, name, rules)
}

// grant makes a role and its binding. kind is Role or ClusterRole.
func (c *Cluster) grant(t testing.TB, base, kind, namespace, account string, rules []Rule) {
	t.Helper()
	name := account
	if kind == "ClusterRole" {
		name = namespace + ":" + account
	}
	rules = slices.Clone(rules)
	for i := range rules {
		if len(rules[i].APIGroups) == 0 {
			rules[i].APIGroups = []string{""}
		}
	}
	user := "system:serviceaccount:" + namespace + ":" + account
	resource := map[string]string{"Role": "role", "ClusterRole": "clusterrole"}[kind]
	metadata := map[string]any{"name": name}
	c.Must(t, "POST", base+resource+"s", map[string]any{"metadata": metadata, "rules": rules})
	c.Must(t, "POST", base+resource+"bindings", map[string]any{
		"metadata": metadata,
		"roleRef":  map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
		"subjects": []any{map[string]any{"kind": "ServiceAccount", "name": account, "namespace": namespace}},
	})
	if kind == "ClusterRole" {
		namespace = "" // all of them
	}
	c.awaitGrant(t, user, namespace, rules[0])
}

// awaitGrant waits until the authorizer, which learns of roles and bindings a
// moment after they are stored, allows what the rule does.
func (c *Cluster) awaitGrant(t testing.TB, user, namespace string, rule Rule) {
	t.Helper()
	resource, subresource, _ := strings.Cut(rule.Resources[0], "/")
	attributes := map[string]any{
		"namespace": namespace, "verb": rule.Verbs[0],
		"group": rule.APIGroups[0], "resource": resource, "subresource": subresource,
	}
	if len(rule.ResourceNames) > 0 {
		attributes["name"] = rule.ResourceNames[0]
	}
	review := map[string]any{"spec": map[string]any{"user": user, "resourceAttributes": attributes}}
	c.mu.Lock()
	api := c.api
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), requestLimit)
	defer cancel()
	err := api.await(ctx, "grant", func(ctx context.Context) error {
		status, answer, err := c.Request(ctx, "POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
		if err != nil {
			return err
		}
		if status != http.StatusCreated || !decode[struct{ Status struct{ Allowed bool } }](t, answer).Status.Allowed {
			return fmt.Errorf("not allowed yet: %s", answer)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Token makes a token of a service account, good for an hour.
func (c *Cluster) Token(t testing.TB, namespace, account string) string {
	t.Helper()
	answer := c.Must(t, "POST", "/api/v1/namespaces/"+namespace+"/serviceaccounts/"+account+"/token", map[string]any{"spec": map[string]any{}})
	token := decode[struct{ Status struct{ Token string } }](t, answer).Status.Token
	if token == "" {
		t.Fatalf("make a token: none in %s", answer)
	}
	return token
}

func decode[T any](t testing.TB, answer []byte) (v T) {
	t.Helper()
	if err := json.Unmarshal(answer, &v); err != nil {
		t.Fatalf("%v: %s", err, answer)
	}
	return v
}
