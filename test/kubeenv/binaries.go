package kubeenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"creel/test/require"
)

// The versions that tools/kube/go.mod and tools/etcd/go.mod require.
const (
	KubernetesVersion = "v1.36.3"
	EtcdVersion       = "v3.6.16"
)

// Variable names a directory of ready programs, to be used instead of the cache.
const Variable = "CREEL_TEST_KUBE"

// ErrNotBuilt is the error of Find where nothing was ever built.
var ErrNotBuilt = errors.New("the Kubernetes control plane for tests is not built")

const how = "run: go run ./test/kubeenv/build (once; it takes some minutes)"

// program is what is built: the module's directory in the repository, and the
// package in it.
type program struct{ name, module, source, version string }

var programs = []program{
	{"etcd", "tools/etcd", ".", EtcdVersion},
	{"kube-apiserver", "tools/kube", "./kube-apiserver", KubernetesVersion},
	{"kube-controller-manager", "tools/kube", "./kube-controller-manager", KubernetesVersion},
	{"kubectl", "tools/kube", "./kubectl", KubernetesVersion},
}

// Dir is the directory of etcd, kube-apiserver, kube-controller-manager and
// kubectl, all static. Where they are not built the test is skipped through
// package require, as feature "kube".
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := Find()
	if err != nil && !errors.Is(err, ErrNotBuilt) {
		t.Fatal(err)
	}
	require.Feature(t, "kube", err == nil, how)
	return dir
}

// Find is Dir without a test. A directory that CREEL_TEST_KUBE names and that
// lacks a program is an error of its own: who names it wants it used.
func Find() (string, error) {
	named := os.Getenv(Variable)
	dir, err := named, error(nil)
	if named == "" {
		if dir, err = cache(); err != nil {
			return "", err
		}
	} else if dir, err = filepath.Abs(named); err != nil {
		return "", fmt.Errorf("%s: %w", Variable, err)
	}
	for _, p := range programs {
		switch ok, err := executable(filepath.Join(dir, p.name)); {
		case err != nil:
			return "", fmt.Errorf("find the programs for a cluster: %w", err)
		case ok:
		case named != "":
			return "", fmt.Errorf("%s=%s: there is no %s", Variable, named, p.name)
		default:
			return "", fmt.Errorf("%w: there is no %s; %s", ErrNotBuilt, p.name, how)
		}
	}
	return dir, nil
}

func cache() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the programs for a cluster: %w", err)
	}
	return filepath.Join(base, "creel-test", "kube-"+KubernetesVersion+"-etcd-"+EtcdVersion), nil
}

func executable(path string) (bool, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0, err
}

// Build makes what the cache lacks, or everything when again is set, from the
// repository at root, and returns the directory. Only one Build runs at a time;
// a second waits and then finds everything there.
func Build(ctx context.Context, root string, again bool, progress io.Writer) (string, error) {
	dir, err := cache()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("build: %w", err)
	}
	unlock, err := lock(ctx, dir+".lock", progress)
	if err != nil {
		return "", fmt.Errorf("build: %w", err)
	}
	defer unlock()
	for i, p := range programs {
		target := filepath.Join(dir, p.name)
		if ok, err := executable(target); err != nil {
			return "", fmt.Errorf("build %s: %w", p.name, err)
		} else if ok && !again {
			_, _ = fmt.Fprintf(progress, "[%d/%d] %s %s is there\n", i+1, len(programs), p.name, p.version)
			continue
		}
		_, _ = fmt.Fprintf(progress, "[%d/%d] %s %s ...", i+1, len(programs), p.name, p.version)
		began := time.Now()
		size, err := p.build(ctx, root, target)
		if err != nil {
			_, _ = fmt.Fprintln(progress)
			return "", fmt.Errorf("build %s: %w", p.name, err)
		}
		_, _ = fmt.Fprintf(progress, " %s, %d MB\n", time.Since(began).Round(time.Second), size/1e6)
	}
	return dir, nil
}

// build writes the program beside target and renames it, so that a target is
// always whole.
func (p program) build(ctx context.Context, root, target string) (size int64, err error) {
	unfinished := target + ".new"
	defer func() { _ = os.Remove(unfinished) }()
	// kubectl and the API server tell each other their versions.
	const version = "-X k8s.io/component-base/version."
	number := strings.Split(strings.TrimPrefix(KubernetesVersion, "v"), ".")
	flags := []string{"-s", "-w", version + "gitVersion=" + KubernetesVersion, version + "gitMajor=" + number[0], version + "gitMinor=" + number[1]}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", strings.Join(flags, " "), "-o", unfinished, p.source)
	cmd.Dir = filepath.Join(root, p.module)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("go build: %w\n%s", err, out)
	}
	info, err := os.Stat(unfinished)
	if err != nil {
		return 0, err
	}
	return info.Size(), os.Rename(unfinished, target)
}

// lock waits for the lock, saying so. The kernel lets go of it when the process
// ends, however that is.
func lock(ctx context.Context, path string, progress io.Writer) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for waiting := false; ; waiting = true {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			_ = f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if !waiting {
			_, _ = fmt.Fprintln(progress, "waiting for another build to end")
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, context.Cause(ctx))
		case <-tick.C:
		}
	}
}
