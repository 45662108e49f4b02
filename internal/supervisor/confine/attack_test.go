//go:build linux

package confine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// attackRefused is the exit code of an attack that the kernel refused; 0 is one
// that succeeded. Everything else is an attack that was not made.
const attackRefused = 3

// attackMain makes one attack. The same program is run outside as the control.
func attackMain(args []string) int {
	attacks := map[string]func(args []string) error{
		"read":    func(a []string) error { _, err := os.ReadFile(a[0]); return err },
		"list":    func(a []string) error { _, err := os.ReadDir(a[0]); return err },
		"write":   func(a []string) error { return os.WriteFile(a[0], []byte("owned"), 0o600) },
		"connect": connect,
		"udp":     func([]string) error { return closing(unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)) },
		"raw":     func([]string) error { return closing(unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)) },
		"packet":  func([]string) error { return closing(unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)) },
		"audit": func([]string) error {
			return closing(unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_KOBJECT_UEVENT))
		},
		"mptcp":    func([]string) error { return closing(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP)) },
		"fastopen": fastOpen,
		"bind": func(a []string) error {
			l, err := net.Listen("tcp4", "127.0.0.1:"+a[0])
			return errors.Join(err, closeIf(l))
		},
		"unix":   func(a []string) error { c, err := net.Dial("unix", a[0]); return errors.Join(err, closeIf(c)) },
		"ptrace": trace,
		"memory": memory,
		"mount":  func(a []string) error { return unix.Mount("none", a[0], "tmpfs", 0, "") },
		"newmount": func([]string) error {
			return closing(unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE|unix.AT_RECURSIVE))
		},
		"userns": newUser,
		"clone3": clone3,
		"chroot": func(a []string) error { return unix.Chroot(a[0]) },
		"mknod":  func(a []string) error { return unix.Mknod(a[0], unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))) },
		"signal": func(a []string) error { return unix.Kill(number(a[0]), unix.Signal(number(a[1]))) },
		"keyctl": func([]string) error {
			_, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, true)
			return err
		},
		"handle":    func(a []string) error { _, _, err := unix.NameToHandleAt(unix.AT_FDCWD, a[0], 0); return err },
		"memfd":     func([]string) error { return closing(unix.MemfdCreate("x", 0)) },
		"pidfd":     func([]string) error { return closing(unix.PidfdOpen(os.Getpid(), 0)) },
		"setuid":    becomeRoot,
		"execute":   func(a []string) error { return exec.Command(a[0]).Run() },
		"bystander": func([]string) error { pause(); return nil },
	}
	if len(args) == 0 {
		return 9
	}
	switch args[0] {
	case "descriptors":
		return showDescriptors()
	case "blocking":
		for fd := range uintptr(3) {
			if flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
				return 1
			}
		}
		return 0
	case "serve":
		return serveOnce(args[1])
	case "hop":
		return hop()
	case "whoami":
		fmt.Print(os.Geteuid())
		return 0
	case "probe":
		return probeWithout()
	case "hold":
		return hold(args[1:])
	}
	attack, ok := attacks[args[0]]
	if !ok {
		return 9
	}
	if err := attack(args[1:]); err != nil {
		fmt.Println(err)
		return attackRefused
	}
	return 0
}

// pause waits for ever, which an empty select does not in a program linked
// without C: the runtime takes that for a deadlock.
func pause() {
	for {
		_ = unix.Pause()
	}
}

func number(s string) int { n, _ := strconv.Atoi(s); return n }

func closing(fd int, err error) error {
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func closeIf(c io.Closer) error {
	switch v := c.(type) {
	case *net.TCPListener:
		if v != nil {
			return v.Close()
		}
	case net.Conn:
		if v != nil {
			return v.Close()
		}
	}
	return nil
}

func connect(args []string) error {
	c, err := net.DialTimeout("tcp4", "127.0.0.1:"+args[0], 5*time.Second)
	if err != nil {
		return err
	}
	return c.Close()
}

// fastOpen connects without connect(2).
func fastOpen(args []string) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	return unix.Sendto(s, []byte("x"), unix.MSG_FASTOPEN, &unix.SockaddrInet4{Port: number(args[0]), Addr: [4]byte{127, 0, 0, 1}})
}

// child starts another copy of this program, to be attacked.
func child() (*exec.Cmd, error) {
	c := exec.Command("/proc/self/exe", "attack", "bystander")
	return c, c.Start()
}

func trace([]string) error {
	runtime.LockOSThread()
	c, err := child()
	if err != nil {
		return err
	}
	err = unix.PtraceAttach(c.Process.Pid)
	return errors.Join(err, c.Process.Kill())
}

func memory([]string) error {
	c, err := child()
	if err != nil {
		return err
	}
	defer func() { _ = c.Process.Kill() }()
	here, there := make([]byte, 8), unsafe.Pointer(&struct{ x [8]byte }{})
	local := []unix.Iovec{{Base: &here[0], Len: 8}}
	// An address that is not mapped there answers EFAULT: then the call was made.
	_, err = unix.ProcessVMReadv(c.Process.Pid, local, []unix.RemoteIovec{{Base: uintptr(there), Len: 8}}, 0)
	if errors.Is(err, unix.EFAULT) {
		return nil
	}
	return err
}

func newUser([]string) error {
	c := exec.Command("/proc/self/exe", "attack", "whoami")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER}
	return c.Run()
}

func clone3([]string) error {
	var args struct{ flags, pidfd, child, parent, signal, stack, size, tls uint64 }
	args.flags, args.signal = unix.CLONE_NEWUSER, uint64(unix.SIGCHLD)
	pid, _, errno := unix.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&args)), unsafe.Sizeof(args), 0)
	if errno != 0 {
		return errno
	}
	if pid == 0 {
		unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
	_, err := unix.Wait4(int(pid), nil, 0, nil)
	return err
}

// becomeRoot runs a copy of this program that belongs to root and has the setuid
// bit.
func becomeRoot(args []string) error {
	out, err := exec.Command(args[0], "attack", "whoami").Output()
	if err != nil {
		return err
	}
	if string(out) != "0" {
		return fmt.Errorf("still %s", out)
	}
	return nil
}

// showDescriptors prints what the open descriptors are.
func showDescriptors() int {
	dir, err := unix.Open("/proc/self/fd", unix.O_RDONLY|unix.O_CLOEXEC|unix.O_DIRECTORY, 0)
	if err != nil {
		return 9
	}
	buffer := make([]byte, 8192)
	n, err := unix.Getdents(dir, buffer)
	if err != nil {
		return 9
	}
	_, _, names := unix.ParseDirent(buffer[:n], -1, nil)
	slices.Sort(names)
	for _, name := range names {
		target, err := os.Readlink(filepath.Join("/proc/self/fd", name))
		// The directory itself, and what the Go runtime opens for its poller.
		if name == strconv.Itoa(dir) || err != nil || strings.HasPrefix(target, "anon_inode:[event") {
			continue
		}
		fmt.Println(name, target)
	}
	return 0
}

// serveOnce answers one connection on a loopback port.
func serveOnce(port string) int {
	l, err := net.Listen("tcp4", "127.0.0.1:"+port)
	if err != nil {
		fmt.Println(err)
		return attackRefused
	}
	fmt.Println("listening")
	c, err := l.Accept()
	if err != nil {
		return 9
	}
	_, _ = io.WriteString(c, "from inside")
	return closeCode(errors.Join(c.Close(), l.Close()))
}

func closeCode(err error) int {
	if err != nil {
		return 9
	}
	return 0
}

// hop replaces itself by a copy in another session, over and over: a tree that
// flees from being killed, without growing.
func hop() int {
	c := exec.Command("/proc/self/exe", "attack", "hop")
	c.Env = []string{} // not even the marker
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.Start(); err != nil {
		return 9
	}
	return 0
}

// probeWithout probes where user namespaces have been switched off.
func probeWithout() int {
	if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0); err != nil {
		fmt.Println(err)
		return 9
	}
	return closeCode(json.NewEncoder(os.Stdout).Encode(Probe(context.Background())))
}
