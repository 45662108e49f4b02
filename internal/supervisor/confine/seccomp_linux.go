package confine

import (
	"fmt"
	"runtime"
	"unsafe"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"creel/internal/sandbox"
)

// newNamespaces are the flags of clone and unshare that make namespaces.
const newNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER |
	unix.CLONE_NEWPID | unix.CLONE_NEWNET

const (
	actionEPERM  = seccomp.ActionErrno | seccomp.Action(unix.EPERM)
	actionENOSYS = seccomp.ActionErrno | seccomp.Action(unix.ENOSYS)
)

// absent are refused as if the kernel did not have them, because libraries then
// fall back on what came before.
func absent() []string {
	return []string{"clone3", "pidfd_open", "pidfd_getfd", "pidfd_send_signal", "io_uring_setup", "io_uring_enter", "io_uring_register",
		"memfd_create", "memfd_secret", "userfaultfd", "open_tree", "open_tree_attr", "move_mount", "fsopen", "fsconfig", "fsmount",
		"fspick", "mount_setattr", "process_madvise", "process_mrelease", "listmount", "statmount", "quotactl_fd"}
}

// forbidden are refused outright.
func forbidden() []string {
	return []string{"ptrace", "bpf", "process_vm_readv", "process_vm_writev", "kcmp", "mount", "umount", "umount2", "pivot_root", "chroot",
		"setns", "perf_event_open", "keyctl", "add_key", "request_key", "kexec_load", "kexec_file_load", "init_module", "finit_module",
		"delete_module", "create_module", "query_module", "get_kernel_syms", "swapon", "swapoff", "reboot", "iopl", "ioperm",
		"name_to_handle_at", "open_by_handle_at", "acct", "quotactl", "settimeofday", "clock_settime", "stime", "syslog", "_sysctl",
		"lookup_dcookie", "nfsservctl", "vhangup", "uselib", "fanotify_init", "move_pages", "migrate_pages"}
}

// equal matches the low 32 bits of an argument. The kernel looks at no more of
// an int, so a comparison of all 64 could be evaded by setting the others.
func equal(argument, value uint32) seccomp.ArgumentConditions {
	conditions := seccomp.ArgumentConditions{{Argument: argument, Operation: seccomp.BitsNotSet, Value: uint64(^value)}}
	for bit := uint32(1); bit != 0; bit <<= 1 {
		if value&bit != 0 {
			conditions = append(conditions, seccomp.Condition{Argument: argument, Operation: seccomp.BitsSet, Value: uint64(bit)})
		}
	}
	return conditions
}

// other matches whatever is none of the values, in all 64 bits: the safe side
// for a list of what is permitted.
func other(argument uint32, values ...uint64) seccomp.ArgumentConditions {
	var conditions seccomp.ArgumentConditions
	for _, v := range values {
		conditions = append(conditions, seccomp.Condition{Argument: argument, Operation: seccomp.NotEqual, Value: v})
	}
	return conditions
}

func bits(argument uint32, mask uint64) seccomp.ArgumentConditions {
	return seccomp.ArgumentConditions{{Argument: argument, Operation: seccomp.BitsSet, Value: mask}}
}

func and(all ...seccomp.ArgumentConditions) seccomp.ArgumentConditions {
	var out seccomp.ArgumentConditions
	for _, c := range all {
		out = append(out, c...)
	}
	return out
}

// conditional are the calls that are refused for some arguments.
func conditional(tier sandbox.Tier) []seccomp.NameWithConditions {
	list := []seccomp.NameWithConditions{
		{Name: "clone", Conditions: bits(0, newNamespaces)},
		{Name: "unshare", Conditions: bits(0, newNamespaces|unix.CLONE_NEWTIME)},
		{Name: "execveat", Conditions: bits(4, unix.AT_EMPTY_PATH)},
		{Name: "seccomp", Conditions: equal(0, unix.SECCOMP_SET_MODE_FILTER)},
		{Name: "prctl", Conditions: and(equal(0, unix.PR_SET_SECCOMP), equal(1, unix.SECCOMP_MODE_FILTER))},
		{Name: "ioctl", Conditions: equal(1, unix.TIOCSTI)},
		{Name: "ioctl", Conditions: equal(1, unix.TIOCLINUX)},
		{Name: "personality", Conditions: other(0, 0, 8, 0x20000, 0x20008, 0xffffffff)},
		{Name: "socket", Conditions: and(equal(0, unix.AF_NETLINK), other(2, unix.NETLINK_ROUTE))},
	}
	if tier == sandbox.TierNamespaces {
		return append(list, seccomp.NameWithConditions{Name: "socket",
			Conditions: other(0, unix.AF_UNIX, unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK)})
	}
	if tier == sandbox.TierUnconfined {
		return list
	}
	// Landlock knows only bind and connect of TCP. Everything else that could
	// carry data out is refused here.
	notNetlink := other(0, unix.AF_NETLINK)
	return append(list,
		seccomp.NameWithConditions{Name: "socket", Conditions: other(0, unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK)},
		seccomp.NameWithConditions{Name: "socket", Conditions: and(notNetlink, bits(1, 0xe))},
		seccomp.NameWithConditions{Name: "socket", Conditions: and(notNetlink,
			seccomp.ArgumentConditions{{Argument: 1, Operation: seccomp.BitsNotSet, Value: unix.SOCK_STREAM}})},
		seccomp.NameWithConditions{Name: "socket", Conditions: and(notNetlink, other(2, 0, unix.IPPROTO_TCP))},
		seccomp.NameWithConditions{Name: "sendto", Conditions: bits(3, unix.MSG_FASTOPEN)},
		seccomp.NameWithConditions{Name: "sendmsg", Conditions: bits(2, unix.MSG_FASTOPEN)},
		seccomp.NameWithConditions{Name: "sendmmsg", Conditions: bits(3, unix.MSG_FASTOPEN)},
		seccomp.NameWithConditions{Name: "setsockopt", Conditions: and(equal(1, unix.SOL_TCP), equal(2, unix.TCP_FASTOPEN_CONNECT))},
	)
}

// shared are refused where the network and IPC namespaces are the host's: they
// reach other programs of the user by number or name, past Landlock.
func shared() []string {
	return []string{"shmget", "shmat", "shmctl", "semget", "semop", "semctl", "semtimedop", "msgget", "msgsnd", "msgrcv", "msgctl",
		"mq_open", "mq_unlink"}
}

// program decides about system calls of this machine's architecture. Those of any
// other (i386 and x32 on amd64) do not exist inside.
func program(tier sandbox.Tier) ([]bpf.Instruction, error) {
	info, err := arch.GetInfo("")
	if err != nil {
		return nil, fmt.Errorf("architecture %s: %w", runtime.GOARCH, err)
	}
	known := func(names []string) []string {
		var out []string
		for _, n := range names {
			if _, ok := info.SyscallNames[n]; ok {
				out = append(out, n)
			}
		}
		return out
	}
	refused := forbidden()
	if tier == sandbox.TierLandlock {
		refused = append(refused, shared()...)
	}
	policy := seccomp.Policy{
		DefaultAction: seccomp.ActionAllow,
		Syscalls: []seccomp.SyscallGroup{
			{Names: known(absent()), Action: actionENOSYS},
			{Names: known(refused), NamesWithCondtions: conditional(tier), Action: actionEPERM},
		},
	}
	body, err := policy.Assemble()
	if err != nil {
		return nil, fmt.Errorf("assemble: %w", err)
	}
	// The library lets calls of another architecture pass to the default action.
	const architectureOffset = 4
	return append([]bpf.Instruction{
		bpf.LoadAbsolute{Off: architectureOffset, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(info.ID), SkipTrue: 1},
		bpf.RetConstant{Val: uint32(actionENOSYS)},
	}, body...), nil
}

func filter(tier sandbox.Tier) ([]unix.SockFilter, error) {
	instructions, err := program(tier)
	if err != nil {
		return nil, err
	}
	raw, err := bpf.Assemble(instructions)
	if err != nil {
		return nil, fmt.Errorf("assemble: %w", err)
	}
	out := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		out[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return out, nil
}

func loadFilter(tier sandbox.Tier) error {
	f, err := filter(tier)
	if err != nil {
		return err
	}
	program := unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}
	_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&program)))
	runtime.KeepAlive(f)
	if errno != 0 {
		return errno
	}
	return nil
}
