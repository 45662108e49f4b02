package confine

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"creel/internal/sandbox"
)

// Every call here acts on the calling thread alone, by raw system calls: the
// wrappers of the standard library act on all threads, and cannot in a program
// linked with C.

const (
	defaultOpenFiles = 65536
	defaultProcesses = 4096
)

// restrict gives up every privilege, in the order in which each step is still
// permitted.
func restrict(p plan) error {
	// The descriptors of the rules are opened before the identity changes: the
	// caller may traverse what the user it becomes may not.
	var rules int
	if p.Tier != sandbox.TierUnconfined {
		var err error
		if rules, err = ruleset(p); err != nil {
			return fmt.Errorf("make Landlock rules: %w", err)
		}
		defer func() { _ = unix.Close(rules) }()
	}
	if err := limit(p); err != nil {
		return err
	}
	if err := dropBounding(); err != nil {
		return err
	}
	if p.Tier != sandbox.TierNamespaces && p.DropTo {
		if err := becomeUser(p.Profile.HostUID, p.Profile.HostGID); err != nil {
			return err
		}
	}
	if err := dropCapabilities(); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	if p.Tier == sandbox.TierNamespaces {
		// Changing the identity cleared it. A supervisor that died before this is
		// noticed by the end of the control socket.
		if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
			return fmt.Errorf("set the parent-death signal: %w", err)
		}
	}
	if p.Tier != sandbox.TierUnconfined {
		if err := enforceRuleset(rules); err != nil {
			return fmt.Errorf("enforce Landlock rules: %w", err)
		}
	}
	if err := loadFilter(p.Tier); err != nil && p.Tier != sandbox.TierUnconfined {
		return fmt.Errorf("load the seccomp filter: %w", err)
	}
	return nil
}

func becomeUser(uid, gid int) error {
	if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); e != 0 {
		return fmt.Errorf("drop supplementary groups: %w", e)
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(gid), uintptr(gid), uintptr(gid)); e != 0 {
		return fmt.Errorf("become group %d: %w", gid, e)
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); e != 0 {
		return fmt.Errorf("become user %d: %w", uid, e)
	}
	return nil
}

// dropBounding empties the bounding set. Whoever may not (an ordinary user
// without namespaces) relies on no_new_privs, which has the same effect.
func dropBounding() error {
	for c := uintptr(0); c < 64; c++ {
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPERM) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("drop capability %d from the bounding set: %w", c, err)
		}
	}
	return nil
}

func dropCapabilities() error {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	var none [2]unix.CapUserData
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capset(&header, &none[0]); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return nil
}

// limit sets resource limits. Without a user namespace the number of processes is
// counted over everything the user runs, so it is only limited for a user that
// is the sandbox's alone.
func limit(p plan) error {
	l := p.Profile.Limits
	if l.OpenFiles == 0 {
		l.OpenFiles = defaultOpenFiles
	}
	if l.Processes == 0 {
		l.Processes = defaultProcesses
	}
	set := func(what string, resource int, value uint64) error {
		var now syscall.Rlimit
		if err := syscall.Getrlimit(resource, &now); err != nil {
			return fmt.Errorf("read the limit of %s: %w", what, err)
		}
		value = min(value, now.Max)
		if err := syscall.Setrlimit(resource, &syscall.Rlimit{Cur: value, Max: value}); err != nil {
			return fmt.Errorf("limit %s to %d: %w", what, value, err)
		}
		return nil
	}
	if err := set("core dumps", unix.RLIMIT_CORE, 0); err != nil {
		return err
	}
	if err := set("open files", unix.RLIMIT_NOFILE, l.OpenFiles); err != nil {
		return err
	}
	if p.Tier == sandbox.TierNamespaces || p.DropTo {
		return set("processes", unix.RLIMIT_NPROC, l.Processes)
	}
	return nil
}
