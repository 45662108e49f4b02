//go:build linux

package confine

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"creel/internal/budget"
	"creel/internal/sandbox"
	"creel/test/require"
)

// TestMain lets the test binary play the parts of the real one: the stages of a
// Box, and the programs inside it that attack.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "confine":
			os.Exit(Main(context.Background()))
		case "attack":
			os.Exit(attackMain(os.Args[2:]))
		}
	}
	goleak.VerifyTestMain(m)
}

// tiers runs a test in both confined tiers, each where it works here.
func tiers(t *testing.T, test func(t *testing.T, tier sandbox.Tier)) {
	for _, tier := range []sandbox.Tier{sandbox.TierNamespaces, sandbox.TierLandlock} {
		t.Run(string(tier), func(t *testing.T) {
			need(t, tier)
			test(t, tier)
		})
	}
}

func need(t testing.TB, tier sandbox.Tier) {
	t.Helper()
	s := Probe(t.Context())
	if tier == sandbox.TierNamespaces {
		require.Feature(t, "userns", s.namespacesGap() == "", "permit user namespaces and Landlock: "+s.namespacesGap())
		return
	}
	require.Feature(t, "landlock", s.landlockGap() == "", "boot a kernel with Landlock ABI 4: "+s.landlockGap())
}

// self is a copy of the test binary that every user can execute, as an installed
// program can be.
func self(t testing.TB) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// open is a directory that every user can traverse, unlike t.TempDir.
func open(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "creel-confine-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// identity is who a sandbox's programs are outside: users that no other run of
// the tests has, because every process of such a user ends with its box.
func identity(n int) (uid, gid int) {
	if os.Geteuid() == 0 {
		id := FirstHostUID + 4*os.Getpid() + n
		return id, id
	}
	return os.Geteuid(), os.Getegid()
}

func profile(t testing.TB, tier sandbox.Tier) Profile {
	t.Helper()
	uid, gid := identity(0)
	workspace := filepath.Join(open(t), "workspace")
	if err := os.Mkdir(workspace, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(workspace, uid, gid); err != nil {
		t.Fatal(err)
	}
	return Profile{SandboxID: fmt.Sprintf("%s-%d", filepath.Base(filepath.Dir(workspace)), os.Getpid()), Tier: tier, Workspace: workspace, Executable: executable(t),
		HostUID: uid, HostGID: gid, Hostname: "demo", RelayPort: 8787, DashboardPort: 18080}
}

// executable is a copy of this test binary where the sandbox's user can reach it.
func executable(t testing.TB) string {
	t.Helper()
	source, err := os.Open(self(t))
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	path := filepath.Join(open(t), "creel")
	target, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(target, source); err != nil {
		t.Fatal(err)
	}
	if err := target.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func start(t testing.TB, p Profile) *Box {
	t.Helper()
	ctx, cancel := budget.Context(t.Context(), budget.Operation, "start a box")
	defer cancel()
	b, err := Start(ctx, p.Executable, p)
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return b
}

// result is what a program said.
type result struct {
	status         ExitStatus
	stdout, stderr string
}

// run runs a program inside to its end.
func run(t testing.TB, b *Box, argv ...string) result {
	t.Helper()
	ctx, cancel := budget.Context(t.Context(), budget.Operation, "run "+strings.Join(argv, " "))
	defer cancel()
	var r result
	stdout, outputs := pipe(t)
	stderr, errors := pipe(t)
	p, err := b.Spawn(ctx, Command{Argv: argv, Env: []string{"PATH=" + defaultPath, "HOME=" + b.Workspace(),
		"GORACE=atexit_sleep_ms=0"}}, nil, stdout, stderr)
	stdout.Close()
	stderr.Close()
	if err != nil {
		t.Fatalf("spawn %q: %v", argv, err)
	}
	r.stdout, r.stderr = <-outputs, <-errors
	if r.status, err = p.Wait(ctx); err != nil {
		t.Fatalf("wait for %q: %v", argv, err)
	}
	return r
}

func pipe(t testing.TB) (*os.File, <-chan string) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out := make(chan string, 1)
	go func() {
		var b bytes.Buffer
		_, _ = io.Copy(&b, r)
		r.Close()
		out <- b.String()
	}()
	return w, out
}
