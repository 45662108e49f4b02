package kubeenv_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"creel/test/kubeenv"
)

// The names of cached programs carry the versions that are built.
func TestVersionsAreThoseOfTheModules(t *testing.T) {
	for file, want := range map[string]string{
		"../../tools/kube/go.mod": "\tk8s.io/kubernetes " + kubeenv.KubernetesVersion + "\n",
		"../../tools/etcd/go.mod": "require go.etcd.io/etcd/server/v3 " + kubeenv.EtcdVersion + "\n",
	} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(b, []byte(want)) {
			t.Errorf("%s does not say %q", file, want)
		}
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", dir)
	t.Setenv(kubeenv.Variable, "")
	if _, err := kubeenv.Find(); !errors.Is(err, kubeenv.ErrNotBuilt) {
		t.Errorf("nothing was built: %v", err)
	}
	t.Setenv(kubeenv.Variable, dir)
	for _, name := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kubectl"} {
		if _, err := kubeenv.Find(); err == nil || errors.Is(err, kubeenv.ErrNotBuilt) || !strings.HasSuffix(err.Error(), "there is no "+name) {
			t.Errorf("before there is %s: %v", name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if found, err := kubeenv.Find(); found != dir || err != nil {
		t.Errorf("found %q, %v", found, err)
	}
}

// fakeGo puts a `go` in PATH that notes the directory it is called in and then
// does what the script says, where $target is what shall be built.
func fakeGo(t *testing.T, script string) (calls func() []string) {
	t.Helper()
	bin := t.TempDir()
	log := filepath.Join(bin, "log")
	text := "#!/bin/sh\necho \"$PWD\" >>" + log + "\nwhile [ \"$1\" != -o ]; do shift; done; target=$2\n" + script + "\n"
	if err := os.WriteFile(filepath.Join(bin, "go"), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv(kubeenv.Variable, "")
	return func() []string {
		b, _ := os.ReadFile(log)
		return strings.Fields(string(b))
	}
}

func TestBuildsAtOnceBuildOnce(t *testing.T) {
	calls := fakeGo(t, `echo >"$target"; chmod +x "$target"`)
	var wait sync.WaitGroup
	dirs := make([]string, 3)
	for i := range dirs {
		wait.Go(func() {
			var err error
			if dirs[i], err = kubeenv.Build(t.Context(), "../..", false, new(bytes.Buffer)); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if found, err := kubeenv.Find(); err != nil || found != dirs[0] || found != dirs[2] {
		t.Errorf("built in %q, found %q, %v", dirs, found, err)
	}
	if got := calls(); len(got) != 4 || !strings.HasSuffix(got[0], "/tools/etcd") || !strings.HasSuffix(got[3], "/tools/kube") {
		t.Errorf("go was called in %q", got)
	}
	if _, err := kubeenv.Build(t.Context(), "../..", true, new(bytes.Buffer)); err != nil || len(calls()) != 8 {
		t.Errorf("again: %v, go was called in %q", err, calls())
	}
}

func TestFailedBuildLeavesNothing(t *testing.T) {
	fakeGo(t, `echo half >"$target"; echo no such package; exit 1`)
	_, err := kubeenv.Build(t.Context(), "../..", false, new(bytes.Buffer))
	if err == nil || !strings.HasPrefix(err.Error(), "build etcd: go build: exit status 1\nno such package") {
		t.Errorf("%v", err)
	}
	left, err := filepath.Glob(os.Getenv("XDG_CACHE_HOME") + "/creel-test/*/*")
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
	if _, err := kubeenv.Find(); !errors.Is(err, kubeenv.ErrNotBuilt) {
		t.Errorf("after a failed build: %v", err)
	}
}
