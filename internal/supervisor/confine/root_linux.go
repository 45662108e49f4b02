package confine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	readOnlyMount = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
	writableMount = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
	deviceMount   = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC

	defaultTempBytes = 1 << 30
	// staging is where the new root is mounted until it becomes the root: a
	// directory that every Linux has.
	staging = "/usr"
	// unruled is a file of the private root that no Landlock rule covers, so that
	// a refusal to read it proves that the rules are in force.
	unruled = "/.unruled"
)

// entry is one thing of the host that appears in the private root.
type entry struct {
	target string // relative to the new root
	fd     int    // detached copy of the mount; -1 for a link
	dir    bool
	link   string
	attr   uint64
}

// collect opens a detached copy of every path that will be visible, while this
// process is still the caller outside: what only the caller may traverse (a home
// of mode 0700) is closed to the user it becomes.
func collect(p plan) ([]entry, error) {
	var entries []entry
	add := func(source, target string, attr uint64) error {
		e, err := collectOne(source, target, attr)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("open %s: %w", source, err)
		}
		entries = append(entries, e)
		return nil
	}
	for _, d := range systemDirectories() {
		if err := add(d, d, readOnlyMount); err != nil {
			return nil, err
		}
	}
	opt, err := os.ReadDir("/opt")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list /opt: %w", err)
	}
	for _, d := range opt {
		path := filepath.Join("/opt", d.Name())
		if within(ExecutablePath, path) || slices.Contains(p.Masks, path) {
			continue
		}
		if err := add(path, path, readOnlyMount); err != nil {
			return nil, err
		}
	}
	for _, name := range systemFiles() {
		path := filepath.Join("/etc", name)
		if err := add(path, path, readOnlyMount); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		path := filepath.Join("/dev", name)
		if err := add(path, path, deviceMount); err != nil {
			return nil, err
		}
	}
	if len(entries) == 0 {
		return nil, errors.New("no system directory found")
	}
	must := func(source, target string, attr uint64) error {
		e, err := collectOne(source, target, attr)
		if err != nil {
			return fmt.Errorf("open %s: %w", source, err)
		}
		entries = append(entries, e)
		return nil
	}
	if err := must(p.Profile.Workspace, WorkspacePath, writableMount); err != nil {
		return nil, err
	}
	if err := must(p.Profile.Executable, ExecutablePath, readOnlyMount); err != nil {
		return nil, err
	}
	for _, g := range p.Grants {
		attr := uint64(readOnlyMount)
		if g.Writable {
			attr = writableMount
		}
		if err := must(g.Resolved, g.Path, attr); err != nil {
			return nil, err
		}
	}
	return entries, nil
}

func collectOne(source, target string, attr uint64) (entry, error) {
	e := entry{target: strings.TrimPrefix(target, "/"), fd: -1, attr: attr}
	if link, err := os.Readlink(source); err == nil {
		e.link = link
		return e, nil
	}
	// A path that was resolved and checked must not lead elsewhere by now.
	path, err := unix.Openat2(unix.AT_FDCWD, source, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return entry{}, err
	}
	defer func() { _ = unix.Close(path) }()
	var st unix.Stat_t
	if err := unix.Fstat(path, &st); err != nil {
		return entry{}, err
	}
	e.dir = st.Mode&unix.S_IFMT == unix.S_IFDIR
	e.fd, err = unix.OpenTree(path, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	return e, err
}

// buildRoot makes the private root and enters it. On return the process is the
// inside user (with the namespaces' capabilities still) and nothing of the host's
// file system is reachable but what was collected.
func buildRoot(p plan) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	entries, err := collect(p)
	if err != nil {
		return err
	}
	if p.DropTo {
		if err := becomeUser(InsideUID, InsideGID); err != nil {
			return err
		}
	}
	unix.Umask(0)
	size := p.Profile.Limits.TempBytes
	if size == 0 {
		size = defaultTempBytes
	}
	if err := mountSkeleton(size); err != nil {
		return err
	}
	for _, e := range entries {
		if err := place(e); err != nil {
			return fmt.Errorf("place %s: %w", e.target, err)
		}
	}
	if err := writeEtc(p.Profile.Hostname); err != nil {
		return err
	}
	if err := mountProc(); err != nil {
		return err
	}
	for _, m := range append(slices.Clone(p.Masks), "/etc/ssl/private") {
		if err := mask(strings.TrimPrefix(m, "/")); err != nil {
			return fmt.Errorf("mask %s: %w", m, err)
		}
	}
	if err := enterRoot(); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(p.Profile.Hostname)); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	return loopbackUp()
}

// mountSkeleton mounts the new root at staging, enters it as the working
// directory and makes the directories and private file systems of it.
func mountSkeleton(size uint64) error {
	if err := unix.Mount("creel", staging, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755,size=16m,nr_inodes=8192"); err != nil {
		return fmt.Errorf("mount a tmpfs: %w", err)
	}
	if err := unix.Chdir(staging); err != nil {
		return err
	}
	for _, d := range []string{"dev/pts", "dev/shm", "etc", "opt", "proc", "run", "tmp", "var", "home"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	temp := fmt.Sprintf("mode=1777,size=%d", size)
	for _, d := range []string{"tmp", "run", "dev/shm"} {
		if err := unix.Mount("creel", d, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, temp); err != nil {
			return fmt.Errorf("mount %s: %w", d, err)
		}
	}
	pts := fmt.Sprintf("newinstance,ptmxmode=0666,mode=0620,gid=%d", InsideGID)
	if err := unix.Mount("devpts", "dev/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, pts); err != nil {
		return fmt.Errorf("mount dev/pts: %w", err)
	}
	for name, target := range map[string]string{"dev/ptmx": "pts/ptmx", "dev/fd": "/proc/self/fd", "dev/stdin": "/proc/self/fd/0",
		"dev/stdout": "/proc/self/fd/1", "dev/stderr": "/proc/self/fd/2", "var/tmp": "../tmp", "var/run": "../run",
		"etc/mtab": "/proc/self/mounts"} {
		if err := os.Symlink(target, name); err != nil {
			return err
		}
	}
	return os.WriteFile(strings.TrimPrefix(unruled, "/"), nil, 0o444)
}

func place(e entry) error {
	if e.fd < 0 {
		return os.Symlink(e.link, e.target)
	}
	defer func() { _ = unix.Close(e.fd) }()
	if err := unix.MountSetattr(e.fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: e.attr}); err != nil {
		return fmt.Errorf("set mount attributes: %w", err)
	}
	if err := makeTarget(e.target, e.dir); err != nil {
		return err
	}
	return unix.MoveMount(e.fd, "", unix.AT_FDCWD, e.target, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// makeTarget makes what a mount is put on, unless it is there: below a directory
// of the host nothing can be made, and need not be.
func makeTarget(target string, dir bool) error {
	if _, err := os.Lstat(target); err == nil {
		return nil
	}
	if dir {
		return os.MkdirAll(target, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	return os.WriteFile(target, nil, 0o444)
}

func writeEtc(hostname string) error {
	shell := "/bin/sh"
	if _, err := os.Stat("bin/bash"); err == nil {
		shell = "/bin/bash"
	}
	files := map[string]string{
		"passwd": "root:x:0:0:root:/:/usr/sbin/nologin\n" +
			fmt.Sprintf("sandbox:x:%d:%d:sandbox:%s:%s\n", InsideUID, InsideGID, WorkspacePath, shell) +
			"nobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n",
		"group":         fmt.Sprintf("root:x:0:\ntty:x:5:\nsandbox:x:%d:\nnogroup:x:65534:\n", InsideGID),
		"hostname":      hostname + "\n",
		"hosts":         "127.0.0.1 localhost inference.local " + hostname + "\n::1 localhost ip6-localhost\n",
		"nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\nprotocols: files\n",
		// No name server is reachable; without this file programs would wait for one.
		"resolv.conf": "options timeout:1 attempts:1\n",
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join("etc", name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// mountProc mounts a /proc of the new process namespace. What tells of the host
// or steers its kernel is covered.
func mountProc() error {
	if err := unix.Mount("proc", "proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	for _, name := range []string{"kcore", "keys", "key-users", "kmsg", "kallsyms", "kpagecount", "kpageflags", "kpagecgroup",
		"latency_stats", "mtrr", "sched_debug", "slabinfo", "sysrq-trigger", "timer_list", "vmallocinfo", "config.gz"} {
		if err := mask(filepath.Join("proc", name)); err != nil {
			return fmt.Errorf("mask proc/%s: %w", name, err)
		}
	}
	for _, name := range []string{"acpi", "asound", "bus", "driver", "fs", "irq", "scsi"} {
		if err := mask(filepath.Join("proc", name)); err != nil {
			return fmt.Errorf("mask proc/%s: %w", name, err)
		}
	}
	sys, err := collectOne("proc/sys", "proc/sys", readOnlyMount)
	if err != nil {
		return fmt.Errorf("open proc/sys: %w", err)
	}
	return place(sys)
}

// mask covers a directory with an empty one and a file with nothing. What is not
// there needs no mask.
func mask(target string) error {
	fi, err := os.Lstat(target)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		return nil // what the inside user cannot even look up needs none either
	}
	if err != nil {
		return err
	}
	if fi.IsDir() {
		return unix.Mount("creel", target, "tmpfs", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "size=4k,nr_inodes=2,mode=0555")
	}
	null, err := collectOne("dev/null", target, deviceMount)
	if err != nil {
		return err
	}
	return place(null)
}

func enterRoot() error {
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	// The old root is now stacked on the new one at "."; this removes it.
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("detach the old root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	unix.Umask(0o022)
	if err := unix.MountSetattr(unix.AT_FDCWD, "/", 0, &unix.MountAttr{Attr_set: readOnlyMount}); err != nil {
		return fmt.Errorf("make the root read-only: %w", err)
	}
	return nil
}

func loopbackUp() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("bring the loopback interface up: %w", err)
	}
	defer func() { _ = unix.Close(s) }()
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, ifr); err != nil {
		return fmt.Errorf("bring the loopback interface up: %w", err)
	}
	return nil
}
