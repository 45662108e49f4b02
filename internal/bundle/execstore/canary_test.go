package execstore_test

import (
	"encoding/base64"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"creel/internal/bundle"
	"creel/internal/bundle/clustertest"
	"creel/internal/bundle/execstore"
	"creel/internal/host/engine"
	"creel/test/engineenv"
)

// watch collects the arguments and the environment of every process of an engine
// and of its containers until stop is called.
func watch(e *engineenv.Engine) (stop func() string) {
	seen := map[string]bool{}
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			for _, pid := range e.Processes() {
				for _, file := range []string{"cmdline", "environ"} {
					b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
					seen[string(b)] = true
				}
			}
			select {
			case <-end:
				return
			default:
			}
		}
	}()
	return func() string {
		close(end)
		<-done
		var all strings.Builder
		for s := range seen {
			all.WriteString(strings.ReplaceAll(s, "\x00", " ") + "\n")
		}
		return all.String()
	}
}

// needles are pieces by which a private value would be found, as it is and as it
// is in a manifest.
func needles(set map[string]bundle.ClusterSecret) []string {
	var found []string
	for _, o := range set {
		for _, key := range []string{"tls.key", "secret", "signing.pem", "ca.key"} {
			value := string(o.Data[key])
			for line := range strings.Lines(value) {
				if line = strings.TrimSpace(line); len(line) >= 20 && !strings.HasPrefix(line, "-----") {
					found = append(found, line)
				}
			}
			if encoded := base64.StdEncoding.EncodeToString([]byte(value)); len(encoded) > 60 {
				found = append(found, encoded[len(encoded)/2-15:len(encoded)/2+15])
			}
		}
	}
	return found
}

// TestNoSecretIsInAnArgument: everybody on the machine can read the arguments of
// what runs in a container, and the engine logs them.
func TestNoSecretIsInAnArgument(t *testing.T) {
	for _, w := range []*world{docker, podman} {
		t.Run(string(w.engine.Kind), func(t *testing.T) {
			p := w.exam(t).Gateway(t, clustertest.Pod1, "")
			if _, err := bundle.Repair(t.Context(), p.Target, time.Now(), bundle.RepairOptions{}); err != nil {
				t.Fatal(err)
			}
			// The watch would have seen a value: it saw the commands that were given it. A
			// busy machine may keep it from one that ends at once.
			missed := []string{"get", "create --filename=-", "replace --filename=-", "delete --raw=", "patch statefulset/openshell"}
			for round := 0; len(missed) > 0 && round < 20; round++ {
				seen := w.watchRepair(t, p)
				missed = slices.DeleteFunc(missed, func(verb string) bool { return strings.Contains(seen, verb) })
			}
			if len(missed) > 0 {
				t.Errorf("no process was seen with %q", missed)
			}
		})
	}
}

// watchRepair spoils a set, has it repaired, and looks for private values in all that
// others may read. It returns the arguments and environments that were seen.
func (w *world) watchRepair(t *testing.T, p clustertest.Place) string {
	t.Helper()
	// Everything at once: backups, a replacement, one made anew, a creation.
	p.Patch(t, "", "secrets", bundle.ServerTLS, `{"data":{"tls.crt":"Z2FyYmFnZQ=="}}`)
	p.Patch(t, "", "secrets", bundle.SSHHandshake, `{"data":{"secret":"c2hvcnQ="},"immutable":true}`)
	p.Delete(t, bundle.ClientTLS)
	private := needles(p.Secrets(t))
	stop := watch(w.engine.Get(t))
	out, err := bundle.Repair(t.Context(), p.Target, time.Now(), bundle.RepairOptions{Replace: true})
	seen := stop()
	if err != nil || len(out.Replaced) != 3 || len(out.Written) != 4 {
		t.Fatalf("%+v, %v", out, err)
	}
	private = append(private, needles(p.Secrets(t))...)
	if len(private) < 15 {
		t.Fatalf("%d pieces to look for", len(private))
	}
	for _, needle := range private {
		for where, text := range map[string]string{"an argument or an environment": seen, "the engine's log": w.engine.Get(t).Log(), "the outcome": fmt.Sprintf("%+v", out)} {
			if strings.Contains(text, needle) {
				t.Fatalf("a private value is in %s", where)
			}
		}
	}
	return seen
}

// TestFewCalls: each call costs a process in the container, and a start loop
// looks every few seconds.
func TestFewCalls(t *testing.T) {
	p := docker.exam(t).Gateway(t, clustertest.Pod1, "")
	calls := &counting{Engine: engine.New(engine.Options{Host: docker.engine.Get(t).Host, Getenv: func(string) string { return "" }})}
	s := docker.open(t, execstore.Options{Namespace: p.Namespace, Engine: calls})
	count := func() (n int, verbs []string) {
		for _, args := range calls.calls {
			verbs = append(verbs, args[slices.IndexFunc(args, func(a string) bool { return a != "kubectl" && !strings.HasPrefix(a, "-") })])
		}
		calls.calls = nil
		return len(verbs), verbs
	}
	for _, c := range []struct {
		name string
		want []string
	}{
		{"from nothing", []string{"get", "get", "create", "create", "get"}},
		{"a look", []string{"get", "get"}},
	} {
		if _, err := repairs(t, s); err != nil {
			t.Fatal(err)
		}
		if n, verbs := count(); !slices.Equal(verbs, c.want) {
			t.Errorf("%s: %d calls: %q", c.name, n, verbs)
		}
	}
}

// BenchmarkRepair creates all four members of generation 1, verified, and
// BenchmarkLook is what a start loop does about a good set.
func BenchmarkRepair(b *testing.B) {
	p := docker.exam(b).Gateway(b, clustertest.Pod1, "")
	for b.Loop() {
		b.StopTimer()
		p.Delete(b, p.Want.Stored()...)
		b.StartTimer()
		if out, err := bundle.Repair(b.Context(), p.Target, time.Now(), bundle.RepairOptions{}); err != nil || !out.Repaired {
			b.Fatal(err)
		}
	}
}

func BenchmarkLook(b *testing.B) {
	p := docker.exam(b).Gateway(b, clustertest.Pod1, "")
	if _, err := bundle.Repair(b.Context(), p.Target, time.Now(), bundle.RepairOptions{}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if out, err := bundle.Repair(b.Context(), p.Target, time.Now(), bundle.RepairOptions{}); err != nil || out.Repaired {
			b.Fatal(err)
		}
	}
}
