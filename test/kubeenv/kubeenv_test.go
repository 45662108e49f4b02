package kubeenv_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"creel/test/kubeenv"
)

var cluster kubeenv.Shared

func TestMain(m *testing.M) { os.Exit(cluster.Run(m)) }

func secrets(namespace string) string { return "/api/v1/namespaces/" + namespace + "/secrets" }

func secret(name string) map[string]any {
	return map[string]any{"metadata": map[string]any{"name": name}, "stringData": map[string]string{"key": "value of " + name}}
}

func TestSecretsOverHTTPAndKubectl(t *testing.T) {
	c := cluster.Get(t)
	ns := c.NewNamespace(t)
	if other := c.NewNamespace(t); other == ns {
		t.Fatalf("two namespaces named %s", ns)
	}
	c.Must(t, "POST", secrets(ns), secret("http"))
	if status, answer := c.Do(t, "POST", secrets(ns), secret("http")); status != 409 {
		t.Errorf("made twice: status %d: %s", status, answer)
	}
	c.Kubectl(t, `{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "kubectl"}, "stringData": {"a": "b"}}`, "apply", "-n", ns, "-f", "-")
	if got, want := c.Kubectl(t, "", "get", "secrets", "-n", ns, "-o", "name"), "secret/http\nsecret/kubectl\n"; got != want {
		t.Errorf("kubectl lists %q, want %q", got, want)
	}
	c.Must(t, "PATCH", secrets(ns)+"/http", `{"data": {"key": null, "more": "bW9yZQ=="}}`)
	if got := c.Kubectl(t, "", "get", "secret", "http", "-n", ns, "-o", "jsonpath={.data}"); got != `{"more":"bW9yZQ=="}` {
		t.Errorf("after a merge patch: %s", got)
	}
}

// as runs kubectl with a kubeconfig and returns what it prints on both streams.
func as(t *testing.T, c *kubeenv.Cluster, kubeconfig string, args ...string) (string, error) {
	t.Helper()
	out, err := c.KubectlCommand(t.Context(), kubeconfig, args...).CombinedOutput()
	return string(out), err
}

func TestServiceAccountMayDoWhatItsRulesSay(t *testing.T) {
	c := cluster.Get(t)
	ns, other := c.NewNamespace(t), c.NewNamespace(t)
	c.Must(t, "POST", secrets(ns), secret("one"))
	c.Must(t, "POST", secrets(ns), secret("two"))
	rule := kubeenv.Rule{Resources: []string{"secrets"}, ResourceNames: []string{"one"}, Verbs: []string{"get"}}
	config := c.ServiceAccount(t, ns, "reader", rule)
	if rule.APIGroups != nil {
		t.Error("the caller's rule was changed")
	}
	for _, k := range []struct {
		args    string
		allowed bool
	}{
		{"get secret one", true}, // in its own namespace without saying so
		{"get secret two", false},
		{"get secrets", false},
		{"delete secret one", false},
		{"get namespaces", false},
		{"get secret one -n " + other, false},
	} {
		out, err := as(t, c, config, strings.Fields(k.args)...)
		if forbidden := strings.Contains(out, "(Forbidden)"); (err == nil) != k.allowed || forbidden == k.allowed {
			t.Errorf("kubectl %s: %v: %s", k.args, err, out)
		}
	}
	c.GrantCluster(t, ns, "reader", kubeenv.Rule{Resources: []string{"namespaces"}, Verbs: []string{"get", "create"}})
	if out, err := as(t, c, config, "get", "namespace", other); err != nil {
		t.Errorf("after the grant: %v: %s", err, out)
	}
	bare := c.ServiceAccount(t, ns, "nobody")
	if out, err := as(t, c, bare, "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"); err != nil || out != "system:serviceaccount:"+ns+":nobody" {
		t.Errorf("without rules it is %q, %v", out, err)
	}
	if out, err := as(t, c, bare, "get", "secret", "one"); err == nil || !strings.Contains(out, "(Forbidden)") {
		t.Errorf("without rules: %v: %s", err, out)
	}
}

// The authorizer learns of a grant a moment after it was stored.
func TestGrantHoldsAtOnce(t *testing.T) {
	c := cluster.Get(t)
	ns := c.NewNamespace(t)
	for i := range 10 {
		name := fmt.Sprint("account-", i)
		c.ServiceAccount(t, ns, name)
		c.GrantCluster(t, ns, name, kubeenv.Rule{Resources: []string{"nodes"}, Verbs: []string{"list"}})
		answer := c.Must(t, "POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", map[string]any{"spec": map[string]any{
			"user": "system:serviceaccount:" + ns + ":" + name, "resourceAttributes": map[string]any{"resource": "nodes", "verb": "list"}}})
		if !bytes.Contains(answer, []byte(`"allowed":true`)) {
			t.Fatalf("%s: %s", name, answer)
		}
	}
}

func TestKubeconfigOfAnImpersonatedUser(t *testing.T) {
	c := cluster.Get(t)
	ns := c.NewNamespace(t)
	config := c.Kubeconfig(t, kubeenv.Login{As: "jane", AsGroups: []string{"staff"}, Namespace: ns})
	out, err := as(t, c, config, "get", "secrets")
	if err == nil || !strings.Contains(out, `User "jane" cannot list resource "secrets" in API group "" in the namespace "`+ns+`"`) {
		t.Errorf("%v: %s", err, out)
	}
}

func TestKilledAPIKeepsDataAndPort(t *testing.T) {
	c := cluster.Get(t)
	ns := c.NewNamespace(t)
	c.Must(t, "POST", secrets(ns), secret("kept"))
	token := c.ServiceAccount(t, ns, "kept")
	began := time.Now()
	c.KillAPI(t)
	if _, _, err := c.Request(t.Context(), "GET", "/readyz", nil); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("a killed API server: %v", err)
	}
	// While the server is down its port is nobody else's.
	if l, err := net.Listen("tcp", strings.TrimPrefix(c.Server, "https://")); err == nil {
		_ = l.Close()
		t.Error("another program can take the port")
	}
	// The thread on which it is started ends at once, as threads of tests that
	// lock theirs do: the kernel would take it for the death of the parent.
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked, so the thread ends with the goroutine
		c.StartAPI(t)
	}()
	<-done
	t.Log("killed and ready again after", time.Since(began))
	c.Must(t, "GET", secrets(ns)+"/kept", nil)
	if out, err := as(t, c, token, "auth", "whoami"); err != nil {
		t.Errorf("a token from before: %v: %s", err, out)
	}
	began = time.Now()
	c.StopAPI(t)
	t.Log("stopped after", time.Since(began))
	if _, _, err := c.Request(t.Context(), "GET", "/readyz", nil); err == nil {
		t.Error("a stopped API server answers")
	}
	// The next test gets a cluster that runs.
	cluster.Get(t).Must(t, "GET", secrets(ns)+"/kept", nil)
}

func TestPausedAPIDoesNotAnswer(t *testing.T) {
	c := cluster.Get(t)
	t.Run("paused", func(t *testing.T) {
		c.PauseAPI(t)
		for range 2 { // on the connection that was open, and on another
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			_, _, err := c.Request(ctx, "GET", "/readyz", nil)
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a paused API server: %v", err)
			}
		}
		c.ResumeAPI()
		c.Must(t, "GET", "/readyz", nil)
		c.PauseAPI(t)
	})
	c.Must(t, "GET", "/readyz", nil) // resumed when the test that paused it ended
}

func TestControllers(t *testing.T) {
	c := kubeenv.Start(t, kubeenv.WithControllerManager())
	ns := c.NewNamespace(t)
	// Admission of service accounts is on, so a pod shows two controllers at work:
	// that of deployments and that of accounts.
	c.Kubectl(t, "", "create", "deployment", "web", "--image=none", "-n", ns)
	c.Kubectl(t, "", "wait", "--for=create", "pod", "-l", "app=web", "-n", ns, "--timeout=30s")
}

func TestFailedStartShowsTheLog(t *testing.T) {
	kubeenv.Dir(t)
	t.Setenv("TMPDIR", t.TempDir())
	_, err := kubeenv.Launch(t.Context(), kubeenv.WithAPIServerArgs("--no-such-flag"))
	if err == nil || !strings.Contains(err.Error(), "kube-apiserver ended: exit status 1") || !strings.Contains(err.Error(), "unknown flag: --no-such-flag") {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := kubeenv.Launch(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("not enough time: %v", err)
	}
	if left, _ := os.ReadDir(os.Getenv("TMPDIR")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
