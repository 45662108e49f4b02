package e2e

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"creel/test/require"
)

// A disk that is full or read-only is made in a mount namespace of its own: the
// test program holds it as one process (mountHolder) and runs creel in it as
// another (mountJoiner, whose value is the holder's pid).
const (
	mountHolder = "E2E_MOUNT_HOLDER"
	mountJoiner = "E2E_MOUNT_JOINER"
)

// holdMounts mounts as its standard input says, one line a mount: options, a tab,
// the directory. It answers each with a line, and ends with its input.
func holdMounts() int {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		options, dir, _ := strings.Cut(lines.Text(), "\t")
		var flags uintptr
		if rest, ok := strings.CutPrefix(options, "remount,"); ok {
			options, flags = rest, unix.MS_REMOUNT
		}
		if rest, ok := strings.CutPrefix(options, "ro,"); ok {
			options, flags = rest, flags|unix.MS_RDONLY
		}
		options = strings.TrimPrefix(options, "rw,") // what is not said to be read-only is writable
		if err := unix.Mount("creel-e2e", dir, "tmpfs", flags, options); err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println("ok")
	}
	return 0
}

// joinMounts runs a program in the holder's namespace.
func joinMounts(holder string) int {
	runtime.LockOSThread()
	ns, err := os.Open("/proc/" + holder + "/ns/mnt")
	if err == nil {
		// The kernel moves no thread that shares its root directory with others.
		err = unix.Unshare(unix.CLONE_FS)
	}
	if err == nil {
		err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS)
	}
	if err == nil {
		var env []string
		for _, pair := range os.Environ() {
			if !strings.HasPrefix(pair, mountJoiner+"=") {
				env = append(env, pair)
			}
		}
		err = syscall.Exec(os.Args[1], os.Args[1:], env)
	}
	fmt.Fprintln(os.Stderr, "join the mount namespace:", err)
	return 125
}

// disk is a file system of a home's own.
type disk struct {
	t    *testing.T
	home *home
	pid  int
	in   io.Writer
	out  *bufio.Reader
}

// newDisk makes a home on a tmpfs with the given options of mount(8).
func newDisk(t *testing.T, options string) *disk {
	t.Helper()
	require.Feature(t, "root", os.Geteuid() == 0, "run the tests as root: others cannot mount")
	h := newHome(t)
	holder := exec.Command(os.Args[0])
	holder.Env = append(os.Environ(), mountHolder+"=1")
	holder.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	holder.Stderr = os.Stderr
	in, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	err = holder.Start()
	require.Feature(t, "mounts", err == nil, fmt.Sprintf("a mount namespace is needed, CAP_SYS_ADMIN makes one: %v", err))
	d := &disk{t: t, home: h, pid: holder.Process.Pid, in: in, out: bufio.NewReader(out)}
	d.mount(options)
	h.holder, h.root = d.pid, fmt.Sprintf("/proc/%d/root", d.pid)
	t.Cleanup(func() { // before the home's own end
		d.mount("remount,rw," + roomy)
		h.run("uninstall", "--yes")
		h.holder, h.root = 0, ""
		_ = in.Close()
		_ = holder.Wait()
	})
	return d
}

// roomy are the options of a disk that lacks nothing.
const roomy = "size=2g,nr_inodes=10000"

func (d *disk) mount(options string) {
	d.t.Helper()
	if _, err := fmt.Fprintf(d.in, "%s\t%s\n", options, d.home.dir); err != nil {
		d.t.Fatal(err)
	}
	if line, err := d.out.ReadString('\n'); err != nil || line != "ok\n" {
		d.t.Fatalf("mount -o %s: %q, %v", options, line, err)
	}
}
