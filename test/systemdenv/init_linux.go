package systemdenv

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// variable tells a program that it is to become a machine's first process; its value
// is the machine's directory. sharedVariable begins the name of those that share a
// directory.
const (
	variable       = "SYSTEMDENV"
	sharedVariable = "SYSTEMDENV_SHARE"
)

// Become turns this program into a machine's first process when Boot started it for
// that, and does not return then. TestMain calls it before anything else.
func Become() {
	dir := os.Getenv(variable)
	if dir == "" {
		return
	}
	runtime.LockOSThread()
	if err := boot(dir); err != nil {
		fmt.Fprintln(os.Stderr, "systemdenv:", err)
	}
	os.Exit(125)
}

// mount is one mount of the machine, by its place.
type mount struct {
	source, at, kind string
	flags            uintptr
	options          string
}

func boot(dir string) error {
	// From now on the group that this process is in is the root of all.
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("unshare the cgroup namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	root, disk := filepath.Join(dir, "root"), filepath.Join(dir, "disk")
	options := fmt.Sprintf("lowerdir=/,upperdir=%s/upper,workdir=%s/work", disk, disk)
	if err := unix.Mount("systemdenv", root, "overlay", 0, options); err != nil {
		return fmt.Errorf("mount the file system: %w", err)
	}
	for _, m := range []mount{
		{"proc", "proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"sysfs", "sys", "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_RDONLY, ""},
		{"cgroup2", "sys/fs/cgroup", "cgroup2", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"tmpfs", "run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=755"},
		{"tmpfs", "tmp", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
		{"tmpfs", "dev", "tmpfs", unix.MS_NOSUID, "mode=755"},
	} {
		if err := unix.Mount(m.source, filepath.Join(root, m.at), m.kind, m.flags, m.options); err != nil {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	if err := devices(filepath.Join(root, "dev")); err != nil {
		return err
	}
	if err := share(root); err != nil {
		return err
	}
	if err := loopback(); err != nil {
		return err
	}
	if err := os.Chdir(root); err != nil {
		return err
	}
	// The old root comes to lie on the new one, and goes.
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("change the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the old root: %w", err)
	}
	if err := unix.Sethostname([]byte("systemdenv")); err != nil {
		return err
	}
	return syscall.Exec(systemd(), []string{"systemd", "--system", "--log-target=console", "--log-level=notice", "--show-status=no", "systemd.unit=" + target},
		[]string{"container=systemdenv", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"})
}

func devices(dev string) error {
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		path := filepath.Join(dev, name)
		if err := os.WriteFile(path, nil, 0o666); err != nil {
			return err
		}
		if err := unix.Mount("/dev/"+name, path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind /dev/%s: %w", name, err)
		}
	}
	for _, name := range []string{"pts", "shm"} {
		if err := os.Mkdir(filepath.Join(dev, name), 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("devpts", filepath.Join(dev, "pts"), "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620"); err != nil {
		return fmt.Errorf("mount /dev/pts: %w", err)
	}
	if err := unix.Mount("tmpfs", filepath.Join(dev, "shm"), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777"); err != nil {
		return fmt.Errorf("mount /dev/shm: %w", err)
	}
	for name, to := range map[string]string{"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		if err := os.Symlink(to, filepath.Join(dev, name)); err != nil {
			return err
		}
	}
	return nil
}

// share binds the directories that the environment names.
func share(root string) error {
	for _, pair := range os.Environ() {
		rest, ok := strings.CutPrefix(pair, sharedVariable)
		if !ok {
			continue
		}
		inside, here, _ := strings.Cut(rest, "=")
		at := filepath.Join(root, inside)
		if err := os.MkdirAll(at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(here, at, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("share %s: %w", here, err)
		}
		if err := unix.Mount("", at, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			return fmt.Errorf("share %s read-only: %w", here, err)
		}
	}
	return nil
}

// loopback brings lo up: nobody else would.
func loopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("bring up lo: %w", err)
	}
	return nil
}
