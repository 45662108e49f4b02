package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"golang.org/x/sys/unix"
)

// withoutLandlock in the environment makes this test program run another one as
// on a kernel without Landlock, where no tier works.
const withoutLandlock = "E2E_WITHOUT_LANDLOCK"

func runWithoutLandlock(program string) int {
	filter := seccomp.Filter{NoNewPrivs: true, Flag: seccomp.FilterFlagTSync, Policy: seccomp.Policy{
		DefaultAction: seccomp.ActionAllow,
		Syscalls: []seccomp.SyscallGroup{{Names: []string{"landlock_create_ruleset"},
			Action: seccomp.ActionErrno | seccomp.Action(unix.ENOSYS)}},
	}}
	err := seccomp.LoadFilter(filter)
	if err == nil {
		var env []string
		for _, pair := range os.Environ() {
			if !strings.HasPrefix(pair, withoutLandlock+"=") {
				env = append(env, pair)
			}
		}
		err = syscall.Exec(program, append([]string{program}, os.Args[1:]...), env)
	}
	fmt.Fprintln(os.Stderr, "run without Landlock:", err)
	return 125
}

func (h *home) tier() string {
	h.t.Helper()
	l := decode[struct {
		Sandboxes []struct {
			Confinement string `json:"confinement"`
		} `json:"sandboxes"`
	}](h.t, h.must(0, "list", "--json"))
	if len(l.Sandboxes) != 1 {
		h.t.Fatalf("list: %+v", l)
	}
	return l.Sandboxes[0].Confinement
}

// testUnconfined: --accept-risk is a consent, no wish. Once it made a machine that
// can confine run agents unconfined, and where it was needed onboard ended with
// "enforced (none)" all the same.
func testUnconfined(t *testing.T) {
	bare := func(h *home, args ...string) result {
		return h.runProgram(os.Args[0], []string{withoutLandlock + "=" + creel}, args...)
	}
	onboard := []string{"onboard", "--yes", "--provider", "none"}
	accepting := slices.Concat(onboard, []string{"--accept-risk", "unconfined"})

	t.Run("confined-where-possible", func(t *testing.T) {
		h := newHome(t)
		h.must(0, onboard...)
		want := h.tier()
		if want == "unconfined" || want == "" {
			t.Fatalf("the tier without any flag is %q", want)
		}
		h.must(0, "uninstall", "--yes")
		h.run(accepting...) // 0 or 3, as the machine confines
		if got := h.tier(); got != want {
			t.Errorf("the tier with the consent is %q, without it %q", got, want)
		}
	})
	t.Run("refused-without-consent", func(t *testing.T) {
		h := newHome(t)
		r := bare(h, onboard...)
		if r.code != 1 || !strings.Contains(r.stderr, "confinement-unavailable") || !strings.Contains(r.stderr, "--accept-risk unconfined") {
			t.Errorf("exit %d\n%s%s", r.code, r.stdout, r.stderr)
		}
		if _, err := os.Stat(filepath.Join(h.dir, "config")); err == nil {
			t.Error("something was written although nothing could be started")
		}
		if r := h.run("onboard", "--yes", "--provider", "none", "--confinement", "unconfined"); r.code != 2 || !strings.Contains(r.stderr, "--accept-risk") {
			t.Errorf("the wish without the consent: exit %d\n%s%s", r.code, r.stdout, r.stderr)
		}
	})
	t.Run("accepted-where-nothing-works", func(t *testing.T) {
		h := newHome(t)
		if r := bare(h, accepting...); r.code != 3 {
			t.Fatalf("exit %d, want 3 for degraded\n%s%s%s", r.code, r.stdout, r.stderr, h.logs())
		}
		if got := h.tier(); got != "unconfined" {
			t.Errorf("the tier is %q", got)
		}
		if r := bare(h, "status"); r.code != 3 || !strings.Contains(r.stdout, "confinement-off") {
			t.Errorf("status: exit %d\n%s", r.code, r.stdout)
		}
		// The machine can confine again: the agent's next start is confined.
		h.must(0, "gateway", "restart")
		h.must(0, "stop", "claw")
		h.must(0, "start", "claw")
		if got := h.tier(); got == "unconfined" {
			t.Errorf("the tier is %q although a stronger one works", got)
		}
	})
}
