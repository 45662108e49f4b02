package confine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"

	"creel/internal/budget"
	"creel/internal/sandbox"
)

// Probe finds out what works here by trying it in a child process, which is this
// executable's "confine" subcommand. What could not be tried counts as not
// working and says why.
func Probe(ctx context.Context) Support { return probe(ctx, "/proc/self/exe") }

func probe(ctx context.Context, self string) Support {
	if os.Getenv(stageVariable) != "" {
		const nested = "a confined process cannot ask"
		return Support{Namespaces: nested, Landlock: nested, Seccomp: nested}
	}
	ctx, cancel := budget.Context(ctx, budget.Probe, "try what confinement works here")
	defer cancel()
	root := os.Geteuid() == 0
	uid, gid := os.Geteuid(), os.Getegid()
	if root {
		uid, gid = FirstHostUID, FirstHostUID
	}
	s, err := tryIn(ctx, self, namespaces(root, uid, gid))
	if err == nil {
		s.Namespaces = explain(s.Namespaces)
		return s
	}
	why := explain(err.Error())
	if s, err = tryIn(ctx, self, &syscall.SysProcAttr{}); err != nil {
		return Support{Namespaces: why, Landlock: err.Error(), Seccomp: err.Error()}
	}
	s.Namespaces = why
	return s
}

// tryIn runs the probing stage with the given attributes.
func tryIn(ctx context.Context, self string, attr *syscall.SysProcAttr) (Support, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return Support{}, err
	}
	defer func() { _ = r.Close() }()
	cmd := exec.CommandContext(ctx, self, "confine")
	cmd.Env = []string{"PATH=" + defaultPath, stageVariable + "=" + stageProbe}
	cmd.ExtraFiles = []*os.File{w}
	cmd.Dir = "/"
	cmd.SysProcAttr = attr
	attr.Pdeathsig = unix.SIGKILL
	runtime.LockOSThread() // for the parent-death signal, see Box.start
	defer runtime.UnlockOSThread()
	if err := errors.Join(cmd.Start(), w.Close()); err != nil {
		return Support{}, fmt.Errorf("start a process in new namespaces: %w", err)
	}
	var s Support
	b, readErr := io.ReadAll(io.LimitReader(r, maxMessage))
	_ = cmd.Process.Kill() // it has said all it had to say, or never will
	waitErr := cmd.Wait()
	if err := json.Unmarshal(b, &s); err != nil {
		return Support{}, fmt.Errorf("the trial gave no answer: %w", errors.Join(readErr, waitErr, context.Cause(ctx)))
	}
	return s, nil
}

// probeStage tries and answers on controlFD. Everything it changes ends with it.
func probeStage() int {
	runtime.LockOSThread()
	var s Support
	// The first namespace's init is process 1; without namespaces it never is.
	if os.Getpid() == 1 {
		if err := tryRoot(); err != nil {
			s.Namespaces = err.Error()
		}
	}
	if abi, err := landlockABI(); err != nil {
		s.Landlock = err.Error()
	} else {
		s.LandlockABI = abi
	}
	err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	if err == nil && s.LandlockABI > 0 {
		if err := tryLandlock(s.LandlockABI); err != nil {
			s.LandlockABI, s.Landlock = 0, err.Error()
		}
	}
	if err == nil {
		err = loadFilter(sandbox.TierLandlock)
	}
	if err != nil {
		s.Seccomp = err.Error()
	}
	b, err := json.Marshal(s)
	if err != nil {
		return 1
	}
	if _, err := unix.Write(controlFD, b); err != nil || unix.Close(controlFD) != nil {
		return 1
	}
	return 0
}

// tryRoot does what buildRoot does, with nothing in it.
func tryRoot() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	usr, err := collectOne("/usr", "/usr", readOnlyMount)
	if err != nil {
		return fmt.Errorf("copy a mount: %w", err)
	}
	null, err := collectOne("/dev/null", "/dev/null", deviceMount)
	if err != nil {
		return fmt.Errorf("copy a mount: %w", err)
	}
	if os.Getuid() != InsideUID {
		if err := becomeUser(InsideUID, InsideGID); err != nil {
			return err
		}
	}
	if err := mountSkeleton(1 << 20); err != nil {
		return err
	}
	for _, e := range []entry{usr, null} {
		if err := place(e); err != nil {
			return fmt.Errorf("place %s: %w", e.target, err)
		}
	}
	if err := mountProc(); err != nil {
		return err
	}
	if err := enterRoot(); err != nil {
		return err
	}
	return loopbackUp()
}

// tryLandlock enforces an empty set of rules.
func tryLandlock(abi int) error {
	files, _, _ := handledAccess(abi)
	fd, err := ll.LandlockCreateRuleset(&ll.RulesetAttr{HandledAccessFS: files}, 0)
	if err != nil {
		return fmt.Errorf("make rules: %w", err)
	}
	return errors.Join(enforceRuleset(fd), unix.Close(fd))
}

// explain adds to a refusal of the kernel the setting that is known to cause it.
func explain(problem string) string {
	if problem == "" {
		return ""
	}
	setting := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(b))
	}
	var confined bool
	if fields, err := status("self"); err == nil {
		confined = fields["Seccomp"] != "0"
	}
	return "namespaces: " + problem + cause(problem, setting("/proc/sys/user/max_user_namespaces"),
		setting("/proc/sys/kernel/unprivileged_userns_clone"), setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
		confined, os.Geteuid() == 0)
}
