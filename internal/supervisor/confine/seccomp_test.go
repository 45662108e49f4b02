//go:build linux

package confine

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"creel/internal/sandbox"
	"creel/test/require"
)

const (
	permit  = uint32(unix.SECCOMP_RET_ALLOW)
	refuse  = uint32(unix.SECCOMP_RET_ERRNO) | uint32(unix.EPERM)
	missing = uint32(unix.SECCOMP_RET_ERRNO) | uint32(unix.ENOSYS)
	// noRandomize is ADDR_NO_RANDOMIZE of personality(2).
	noRandomize = 0x0040000
)

// decide runs the filter over one system call as the kernel would.
func decide(t rapid.TB, tier sandbox.Tier, audit uint32, number uint32, args ...uint64) uint32 {
	t.Helper()
	instructions, err := program(tier)
	if err != nil {
		t.Fatal(err)
	}
	vm, err := bpf.NewVM(instructions)
	if err != nil {
		t.Fatal(err)
	}
	// The machine reads words in network order, the kernel in its own: what is
	// laid out here is struct seccomp_data a word at a time.
	data := make([]byte, 64)
	binary.BigEndian.PutUint32(data[0:], number)
	binary.BigEndian.PutUint32(data[4:], audit)
	for i, a := range args {
		binary.BigEndian.PutUint32(data[16+8*i:], uint32(a))
		binary.BigEndian.PutUint32(data[20+8*i:], uint32(a>>32))
	}
	got, err := vm.Run(data)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(got)
}

func native(t rapid.TB, name string) (audit, number uint32) {
	t.Helper()
	info, err := arch.GetInfo("")
	if err != nil {
		t.Fatal(err)
	}
	n, ok := info.SyscallNames[name]
	if !ok {
		t.Fatalf("no system call %s on %s", name, runtime.GOARCH)
	}
	return uint32(info.ID), uint32(n)
}

func TestFilterDecides(t *testing.T) {
	const ns, ll, un = sandbox.TierNamespaces, sandbox.TierLandlock, sandbox.TierUnconfined
	for _, c := range []struct {
		tier sandbox.Tier
		name string
		args []uint64
		want uint32
	}{
		{ns, "read", nil, permit},
		{ns, "execve", nil, permit},
		{ns, "ptrace", nil, refuse},
		{ns, "bpf", nil, refuse},
		{ns, "setns", nil, refuse},
		{ns, "mount", nil, refuse},
		{ns, "keyctl", nil, refuse},
		{ns, "open_by_handle_at", nil, refuse},
		{ns, "kexec_load", nil, refuse},
		{ns, "finit_module", nil, refuse},
		{ns, "reboot", nil, refuse},
		{ns, "clone3", nil, missing},
		{ns, "memfd_create", nil, missing},
		{ns, "pidfd_getfd", nil, missing},
		{ns, "io_uring_setup", nil, missing},
		{ns, "userfaultfd", nil, missing},
		{ns, "mount_setattr", nil, missing},
		{ns, "clone", []uint64{uint64(unix.SIGCHLD)}, permit},
		{ns, "clone", []uint64{unix.CLONE_VM | unix.CLONE_VFORK | unix.CLONE_PIDFD | uint64(unix.SIGCHLD)}, permit},
		{ns, "clone", []uint64{unix.CLONE_NEWUSER | uint64(unix.SIGCHLD)}, refuse},
		{ns, "clone", []uint64{unix.CLONE_NEWNET}, refuse},
		{ns, "unshare", []uint64{unix.CLONE_FILES}, permit},
		{ns, "unshare", []uint64{unix.CLONE_NEWNS}, refuse},
		{ns, "unshare", []uint64{unix.CLONE_NEWTIME}, refuse},
		{ns, "execveat", []uint64{0, 0, 0, 0, 0}, permit},
		{ns, "execveat", []uint64{3, 0, 0, 0, unix.AT_EMPTY_PATH}, refuse},
		{ns, "seccomp", []uint64{unix.SECCOMP_SET_MODE_FILTER}, refuse},
		{ns, "seccomp", []uint64{unix.SECCOMP_GET_ACTION_AVAIL}, permit},
		{ns, "prctl", []uint64{unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER}, refuse},
		{ns, "prctl", []uint64{unix.PR_SET_NAME, unix.SECCOMP_MODE_FILTER}, permit},
		{ns, "ioctl", []uint64{0, unix.TIOCSTI}, refuse},
		{ns, "ioctl", []uint64{0, unix.TIOCLINUX}, refuse},
		{ns, "ioctl", []uint64{0, unix.TIOCGWINSZ}, permit},
		{ns, "personality", []uint64{0}, permit},
		{ns, "personality", []uint64{0xffffffff}, permit},
		{ns, "personality", []uint64{noRandomize}, refuse},
		{ns, "socket", []uint64{unix.AF_UNIX, unix.SOCK_STREAM}, permit},
		{ns, "socket", []uint64{unix.AF_INET, unix.SOCK_DGRAM}, permit},
		{ns, "socket", []uint64{unix.AF_INET6, unix.SOCK_STREAM | unix.SOCK_CLOEXEC}, permit},
		{ns, "socket", []uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE}, permit},
		{ns, "socket", []uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT}, refuse},
		{ns, "socket", []uint64{unix.AF_PACKET, unix.SOCK_RAW}, refuse},
		{ns, "socket", []uint64{unix.AF_BLUETOOTH, unix.SOCK_RAW}, refuse},
		{ns, "socket", []uint64{unix.AF_VSOCK, unix.SOCK_STREAM}, refuse},
		{ns, "socket", []uint64{unix.AF_ALG, unix.SOCK_SEQPACKET}, refuse},
		{ns, "shmget", nil, permit},
		{ll, "shmget", nil, refuse},
		{ll, "mq_open", nil, refuse},
		{ll, "socket", []uint64{unix.AF_INET, unix.SOCK_STREAM, 0}, permit},
		{ll, "socket", []uint64{unix.AF_INET, unix.SOCK_STREAM | unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC, unix.IPPROTO_TCP}, permit},
		{ll, "socket", []uint64{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP}, refuse},
		{ll, "socket", []uint64{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP}, refuse},
		{ll, "socket", []uint64{unix.AF_INET, unix.SOCK_DGRAM, 0}, refuse},
		{ll, "socket", []uint64{unix.AF_INET6, unix.SOCK_RAW, 0}, refuse},
		{ll, "socket", []uint64{unix.AF_INET, 0, 0}, refuse},
		{ll, "socket", []uint64{unix.AF_UNIX, unix.SOCK_STREAM, 0}, refuse},
		{ll, "socket", []uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE}, permit},
		{ll, "socketpair", []uint64{unix.AF_UNIX, unix.SOCK_STREAM, 0}, permit},
		{ll, "sendto", []uint64{3, 0, 0, unix.MSG_FASTOPEN}, refuse},
		{ll, "sendto", []uint64{3, 0, 0, unix.MSG_NOSIGNAL}, permit},
		{ll, "sendmsg", []uint64{3, 0, unix.MSG_FASTOPEN}, refuse},
		{ll, "sendmmsg", []uint64{3, 0, 0, unix.MSG_FASTOPEN}, refuse},
		{ll, "setsockopt", []uint64{3, unix.SOL_TCP, unix.TCP_FASTOPEN_CONNECT}, refuse},
		{ll, "setsockopt", []uint64{3, unix.SOL_TCP, unix.TCP_NODELAY}, permit},
		{un, "socket", []uint64{unix.AF_INET, unix.SOCK_DGRAM}, permit},
		{un, "ptrace", nil, refuse},
	} {
		audit, number := native(t, c.name)
		if got := decide(t, c.tier, audit, number, c.args...); got != c.want {
			t.Errorf("%s: %s%v is %#x, want %#x", c.tier, c.name, c.args, got, c.want)
		}
	}
}

// The kernel looks at the low half of an int: what the high half holds changes
// no refusal.
func TestFilterIsNotEvadedByHighBits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		high := rapid.Uint64Range(1, 1<<32-1).Draw(t, "high") << 32
		for _, c := range []struct {
			name string
			at   int
			args []uint64
		}{
			{"ioctl", 1, []uint64{0, unix.TIOCSTI}},
			{"ioctl", 1, []uint64{0, unix.TIOCLINUX}},
			{"socket", 0, []uint64{unix.AF_PACKET, unix.SOCK_RAW, 0}},
			{"socket", 0, []uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT}},
			{"socket", 1, []uint64{unix.AF_INET, unix.SOCK_DGRAM, 0}},
			{"socket", 2, []uint64{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP}},
			{"setsockopt", 1, []uint64{3, unix.SOL_TCP, unix.TCP_FASTOPEN_CONNECT}},
			{"setsockopt", 2, []uint64{3, unix.SOL_TCP, unix.TCP_FASTOPEN_CONNECT}},
			{"sendto", 3, []uint64{3, 0, 0, unix.MSG_FASTOPEN}},
			{"seccomp", 0, []uint64{unix.SECCOMP_SET_MODE_FILTER}},
			{"prctl", 0, []uint64{unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER}},
			{"personality", 0, []uint64{noRandomize}},
			{"execveat", 4, []uint64{3, 0, 0, 0, unix.AT_EMPTY_PATH}},
		} {
			audit, number := native(t, c.name)
			c.args[c.at] |= high
			if got := decide(t, sandbox.TierLandlock, audit, number, c.args...); got != refuse {
				t.Fatalf("%s%#x is %#x", c.name, c.args, got)
			}
		}
	})
}

// No system call of another architecture exists, whatever its number means.
func TestFilterRefusesForeignArchitectures(t *testing.T) {
	own, _ := native(t, "read")
	foreign := []uint32{unix.AUDIT_ARCH_I386, unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_AARCH64, unix.AUDIT_ARCH_ARM}
	rapid.Check(t, func(t *rapid.T) {
		audit := rapid.SampledFrom(foreign).Draw(t, "architecture")
		number := rapid.Uint32().Draw(t, "number")
		if audit == own {
			if runtime.GOARCH != "amd64" {
				return
			}
			number |= 0x40000000 // x32
		}
		if got := decide(t, sandbox.TierNamespaces, audit, number); got != missing {
			t.Fatalf("call %d of %#x is %#x", number, audit, got)
		}
	})
}

// A real 32-bit program cannot even say how it ended.
func TestForeignProgram(t *testing.T) {
	tiers(t, func(t *testing.T, tier sandbox.Tier) {
		p := profile(t, tier)
		path := filepath.Join(p.Workspace, "i386")
		if err := os.WriteFile(path, exitSeven(), 0o755); err != nil {
			t.Fatal(err)
		}
		err := exec.Command(path).Run()
		exit, ok := err.(*exec.ExitError)
		require.Feature(t, "ia32", ok && exit.ExitCode() == 7, "boot an amd64 kernel with CONFIG_IA32_EMULATION")
		b := start(t, p)
		if r := run(t, b, filepath.Join(b.Workspace(), "i386")); r.status.Code == 7 || r.status.Signal == 0 {
			t.Errorf("a 32-bit program made a system call: %+v", r.status)
		}
	})
}

// exitSeven is a 32-bit x86 program: mov eax,1; mov ebx,7; int 0x80; hlt.
func exitSeven() []byte {
	code := []byte{0xb8, 1, 0, 0, 0, 0xbb, 7, 0, 0, 0, 0xcd, 0x80, 0xf4}
	const base, header = 0x08048000, 52 + 32
	le := binary.LittleEndian
	b := append([]byte{0x7f, 'E', 'L', 'F', 1, 1, 1}, make([]byte, 9)...)
	b = le.AppendUint16(b, 2)           // executable
	b = le.AppendUint16(b, 3)           // 386
	b = le.AppendUint32(b, 1)           // version
	b = le.AppendUint32(b, base+header) // entry
	b = le.AppendUint32(b, 52)          // program header
	b = append(b, make([]byte, 8)...)   // no sections, no flags
	for _, n := range []uint16{52, 32, 1, 0, 0, 0} {
		b = le.AppendUint16(b, n)
	}
	size := uint32(header + len(code))
	for _, n := range []uint32{1, 0, base, base, size, size, 5, 0x1000} { // load, read and execute
		b = le.AppendUint32(b, n)
	}
	return append(b, code...)
}
