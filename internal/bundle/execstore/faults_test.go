package execstore_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/bundle"
	"creel/internal/bundle/clustertest"
	"creel/internal/bundle/execstore"
	"creel/internal/health"
	"creel/internal/host/engine"
	"creel/test/engineenv"
	"creel/test/kubeenv"
)

// repairs runs a repair with every consent.
func repairs(t *testing.T, target bundle.Target) (bundle.Outcome, error) {
	t.Helper()
	return bundle.Repair(t.Context(), target, time.Now(), bundle.RepairOptions{Replace: true})
}

// unknown makes sure that a repair and a health check end as unknown with an
// advisory that has commands, and that nothing was written.
func unknown(t *testing.T, p clustertest.Place, s *execstore.Store, id, hint string) {
	t.Helper()
	before := p.Secrets(t)
	out, err := repairs(t, s)
	problem, ok := advisory.Of(err)
	if !ok || problem.ID != id || out.Repaired || out.NotApplicable != "" || len(out.Written) > 0 {
		t.Errorf("%+v, %v; want %s", out, err, id)
	} else if !strings.Contains(strings.Join(problem.Commands(), "\n"), hint) {
		t.Errorf("commands %q lack %q", problem.Commands(), hint)
	}
	if after := p.Secrets(t); len(after) != len(before) {
		t.Errorf("%d secrets became %d", len(before), len(after))
	}
}

// TestContainerThatDoesNotAnswer: whatever is wrong with the container or its
// engine is unknown, and once it is over a repair does its work.
func TestContainerThatDoesNotAnswer(t *testing.T) {
	for _, w := range []*world{docker, podman} {
		t.Run(string(w.engine.Kind), func(t *testing.T) {
			p := w.exam(t).Gateway(t, clustertest.Pod1, "")
			e := w.engine.Get(t)
			c := e.Run(t, w.spec(t, "mine"))
			s := w.open(t, execstore.Options{Namespace: p.Namespace, Container: c.Name})
			tool := string(w.engine.Kind)
			checked := func(id, hint string) {
				t.Helper()
				unknown(t, p, s, id, tool+" "+hint)
				if v, err := s.HealthCheck(t.Context()); v != health.Unknown || clustertest.AdvisoryID(err) != id {
					t.Errorf("health %s, %v; want unknown, %s", v, err, id)
				}
			}
			c.Pause(t)
			checked("container-not-running", "unpause mine")
			c.Unpause(t)
			c.Kill(t)
			checked("container-not-running", "start mine")
			c.Start(t)
			if out, err := repairs(t, s); err != nil || !out.Repaired {
				t.Errorf("%+v, %v", out, err)
			}
			c.Remove(t)
			checked("container-missing", "ps --all")
			// No kubectl, no health script.
			e.Run(t, engineenv.Spec{Name: "mine", Args: []string{"sleep", "1000"}})
			checked("container-program-missing", "inspect mine")
		})
	}
}

// TestContainerGoesAwayMeanwhile: between looking and writing, and while kubectl
// runs.
func TestContainerGoesAwayMeanwhile(t *testing.T) {
	p := docker.exam(t).Gateway(t, clustertest.Pod1, "")
	e := docker.engine.Get(t)
	spec := docker.spec(t, "mine")
	real := engine.New(engine.Options{Host: e.Host, Getenv: func(string) string { return "" }})
	for _, id := range []string{"container-missing", "container-not-running"} {
		c := e.Run(t, spec)
		between := &counting{Engine: real, before: func(cmd engine.Command) {
			switch {
			case !slices.Contains(cmd.Args, "create"):
			case id == "container-missing":
				c.Remove(t)
			default:
				c.Pause(t)
			}
		}}
		s := docker.open(t, execstore.Options{Namespace: p.Namespace, Container: c.Name, Engine: between})
		out, err := repairs(t, s)
		if clustertest.AdvisoryID(err) != id || out.Repaired || len(out.Written) > 0 {
			t.Errorf("%+v, %v; want %s", out, err, id)
		}
		c.Remove(t)
	}
	// Paused when the API is asked: kubectl freezes with its question.
	t.Setenv(budget.Cluster.Variable(), "1s")
	c := e.Run(t, spec)
	s := docker.open(t, execstore.Options{Namespace: p.Namespace, Container: c.Name})
	p.Cluster.PauseAPI(t)
	begin := time.Now()
	failed := make(chan error, 1)
	go func() {
		_, err := s.Requirements(t.Context())
		failed <- err
	}()
	awaitProcess(t, e, "kubectl\x00--kubeconfig")
	c.Pause(t)
	err := <-failed
	p.Cluster.ResumeAPI()
	var expired *budget.Expired
	if clustertest.AdvisoryID(err) != "cluster-timeout" || !errors.As(err, &expired) || expired.Budget != budget.Cluster || time.Since(begin) > 20*time.Second {
		t.Errorf("after %s: %v", time.Since(begin), err)
	}
}

// awaitProcess waits until an engine runs something whose arguments begin so.
func awaitProcess(t *testing.T, e *engineenv.Engine, arguments string) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(20 * time.Second)
	defer limit.Stop()
	for {
		for _, pid := range e.Processes() {
			if line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); strings.HasPrefix(string(line), arguments) {
				return
			}
		}
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatalf("%q was not seen", arguments)
		}
	}
}

func TestEngineThatIsGone(t *testing.T) {
	p := docker.exam(t).Gateway(t, clustertest.Pod1, "")
	gone := engine.New(engine.Options{Host: "unix://" + filepath.Join(files, "gone.sock"), Getenv: func(string) string { return "" }})
	unknown(t, p, docker.open(t, execstore.Options{Namespace: p.Namespace, Engine: gone}), "engine-unreachable", "docker version")
}

// TestClusterThatDoesNotAnswer: forbidden, unauthorized, down, hung and foreign
// APIs are unknown, never an absence.
func TestClusterThatDoesNotAnswer(t *testing.T) {
	w := docker.exam(t)
	p := w.Gateway(t, clustertest.Pod1, "")
	c := p.Cluster
	open := func(t *testing.T, kubeconfig string) *execstore.Store {
		return docker.open(t, execstore.Options{Namespace: p.Namespace, Kubeconfig: kubeconfig})
	}
	inside := func(path string) string { return "/kubeconfigs/" + filepath.Base(path) }
	edited := func(t *testing.T, edit func(cluster, user map[string]any)) string {
		t.Helper()
		b, err := os.ReadFile(c.AdminKubeconfig)
		if err != nil {
			t.Fatal(err)
		}
		var config struct {
			APIVersion     string           `json:"apiVersion"`
			Kind           string           `json:"kind"`
			CurrentContext string           `json:"current-context"`
			Clusters       []map[string]any `json:"clusters"`
			Users          []map[string]any `json:"users"`
			Contexts       []map[string]any `json:"contexts"`
		}
		if err := json.Unmarshal(b, &config); err != nil {
			t.Fatal(err)
		}
		edit(config.Clusters[0]["cluster"].(map[string]any), config.Users[0]["user"].(map[string]any))
		if b, err = json.Marshal(config); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(filepath.Dir(c.AdminKubeconfig), filepath.Base(t.TempDir())+"-"+strings.ReplaceAll(filepath.Base(t.Name()), "/", "-")+".yaml")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return inside(path)
	}
	for _, test := range []struct {
		name, id, hint string
		kubeconfig     func(t *testing.T) string
	}{
		{"another certificate", "cluster-tls", "docker exec " + container + " kubectl", func(t *testing.T) string {
			return edited(t, func(cluster, _ map[string]any) { delete(cluster, "certificate-authority-data") })
		}},
		{"a wrong token", "cluster-unauthorized", "kubectl --kubeconfig=/kubeconfigs/", func(t *testing.T) string {
			return edited(t, func(_, user map[string]any) { user["token"] = "wrong" })
		}},
		{"nobody listens", "cluster-unreachable", "docker logs --tail 50 " + container, func(t *testing.T) string {
			return edited(t, func(cluster, _ map[string]any) { cluster["server"] = "https://127.0.0.1:1" })
		}},
		{"no such kubeconfig", "cluster-kubeconfig-missing", "docker exec", func(*testing.T) string { return "/nowhere.yaml" }},
		{"a broken kubeconfig", "cluster-kubeconfig-invalid", "docker exec", func(t *testing.T) string {
			path := filepath.Join(filepath.Dir(c.AdminKubeconfig), "broken.yaml")
			if err := os.WriteFile(path, []byte("apiVersion: v1\nkind: Config\nusers: {"), 0o600); err != nil {
				t.Fatal(err)
			}
			return inside(path)
		}},
		{"nothing allowed", "cluster-forbidden", "auth can-i --list", func(t *testing.T) string {
			return inside(c.Kubeconfig(t, kubeenv.Login{As: "nobody"}))
		}},
		{"secrets not allowed", "cluster-forbidden", "--namespace " + p.Namespace, func(t *testing.T) string {
			c.ServiceAccount(t, p.Namespace, "reader", kubeenv.Rule{APIGroups: []string{"apps"}, Resources: []string{"statefulsets"}, Verbs: []string{"get"}})
			return inside(c.Kubeconfig(t, kubeenv.Login{Token: c.Token(t, p.Namespace, "reader")}))
		}},
		{"writing not allowed", "cluster-forbidden", "auth can-i", func(t *testing.T) string {
			c.ServiceAccount(t, p.Namespace, "looker", kubeenv.Rule{APIGroups: []string{"apps"}, Resources: []string{"statefulsets"}, Verbs: []string{"get"}},
				kubeenv.Rule{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"get"}})
			return inside(c.Kubeconfig(t, kubeenv.Login{Token: c.Token(t, p.Namespace, "looker")}))
		}},
	} {
		t.Run(test.name, func(t *testing.T) { unknown(t, p, open(t, test.kubeconfig(t)), test.id, test.hint) })
	}
	t.Run("hung", func(t *testing.T) {
		t.Setenv(budget.Cluster.Variable(), "1500ms")
		before := p.Secrets(t)
		s := open(t, "") // revives the API server
		c.PauseAPI(t)
		begin := time.Now()
		out, err := repairs(t, s)
		if clustertest.AdvisoryID(err) != "cluster-timeout" || out.NotApplicable != "" || time.Since(begin) > 20*time.Second {
			t.Errorf("after %s: %+v, %v", time.Since(begin), out, err)
		}
		c.ResumeAPI()
		if after := p.Secrets(t); len(after) != len(before) {
			t.Errorf("%d secrets became %d", len(before), len(after))
		}
	})
	t.Run("down", func(t *testing.T) {
		s := open(t, "")
		c.KillAPI(t)
		out, err := repairs(t, s)
		v, failed := s.HealthCheck(t.Context())
		c.StartAPI(t)
		if clustertest.AdvisoryID(err) != "cluster-unreachable" || out.NotApplicable != "" {
			t.Errorf("%+v, %v", out, err)
		}
		if v != health.Failed || clustertest.AdvisoryID(failed) != "cluster-unhealthy" {
			t.Errorf("health %s, %v", v, failed)
		}
		if out, err := repairs(t, s); err != nil || !out.Repaired {
			t.Errorf("once it is up again: %+v, %v", out, err)
		}
	})
}

// TestHealthScript: it fails without the secrets and passes after the repair.
func TestHealthScript(t *testing.T) {
	for _, w := range []*world{docker, podman} {
		t.Run(string(w.engine.Kind), func(t *testing.T) {
			c := w.exam(t).Cluster
			p := clustertest.Place{Cluster: c, Namespace: "openshell"}
			c.Must(t, "POST", "/api/v1/namespaces", `{"metadata":{"name":"openshell"}}`)
			t.Cleanup(func() {
				// There is no controller that would empty it.
				c.Must(t, "DELETE", "/apis/apps/v1/namespaces/openshell/statefulsets/openshell", nil)
				for name := range p.Secrets(t) {
					p.Delete(t, name)
				}
				c.Must(t, "DELETE", "/api/v1/namespaces/openshell", nil)
				c.Must(t, "PUT", "/api/v1/namespaces/openshell/finalize", `{"metadata":{"name":"openshell"},"spec":{"finalizers":[]}}`)
			})
			p.MakeGateway(t, clustertest.Pod1, "")
			s := w.open(t, execstore.Options{})
			if v, err := s.HealthCheck(t.Context()); v != health.Failed || clustertest.AdvisoryID(err) != "cluster-unhealthy" || !strings.Contains(err.Error(), "openshell-server-tls") {
				t.Errorf("before the repair: %s, %v", v, err)
			}
			out, err := repairs(t, s)
			if err != nil || !out.Repaired {
				t.Fatalf("%+v, %v", out, err)
			}
			if v, err := s.HealthCheck(t.Context()); v != health.OK || err != nil {
				t.Errorf("after the repair: %s, %v", v, err)
			}
		})
	}
}
