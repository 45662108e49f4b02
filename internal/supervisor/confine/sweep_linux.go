package confine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"creel/internal/budget"
)

// FirstHostUID is the least user id that belongs to a sandbox alone. Every process
// of such a user may be killed with its sandbox.
const FirstHostUID = 524288

// process is one line of the table of processes.
type process struct{ pid, parent, group, session int }

// processes reads the table of those that can be seen.
func processes() []process {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer func() { _ = dir.Close() }()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil
	}
	var out []process
	for _, name := range names {
		if name[0] < '0' || name[0] > '9' {
			continue
		}
		b, err := os.ReadFile(filepath.Join("/proc", name, "stat"))
		if err != nil {
			continue // ended meanwhile
		}
		if p, ok := parseStat(string(b)); ok {
			out = append(out, p)
		}
	}
	return out
}

// parseStat reads /proc/PID/stat (proc(5)): the command between the outermost
// parentheses may hold anything.
func parseStat(s string) (process, bool) {
	open, end := strings.IndexByte(s, '('), strings.LastIndexByte(s, ')')
	if open < 1 || end < open {
		return process{}, false
	}
	fields := strings.Fields(s[end+1:])
	if len(fields) < 4 || fields[0] == "Z" || fields[0] == "X" {
		return process{}, false // ended already
	}
	var numbers [4]int
	for i, f := range []string{strings.TrimSpace(s[:open]), fields[1], fields[2], fields[3]} {
		n, err := strconv.Atoi(f)
		if err != nil {
			return process{}, false
		}
		numbers[i] = n
	}
	return process{numbers[0], numbers[1], numbers[2], numbers[3]}, true
}

// rounds bounds how often a tree that forks while it is killed is killed again.
const rounds = 200

// killDescendants kills everything below a process that is the reaper of its
// tree. Stopping first keeps a tree that forks from outrunning it.
func killDescendants(root int) {
	for range rounds {
		tree := descendants(processes(), root)
		if len(tree) == 0 {
			return
		}
		for _, pid := range tree {
			_ = unix.Kill(pid, unix.SIGSTOP)
		}
		for _, pid := range descendants(processes(), root) {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

func descendants(table []process, root int) []int {
	children := map[int][]int{}
	for _, p := range table {
		children[p.parent] = append(children[p.parent], p.pid)
	}
	var out []int
	for queue := []int{root}; len(queue) > 0; queue = queue[1:] {
		out = append(out, children[queue[0]]...)
		queue = append(queue, children[queue[0]]...)
	}
	return out
}

func (b *Box) sweep() {
	ctx, cancel := budget.Context(context.Background(), budget.SandboxStop, "sweep the sandbox's processes")
	defer cancel()
	_, _ = Sweep(ctx, b.plan.Profile.SandboxID, b.plan.Profile.HostUID) // what is left, the driver's sweep reports
}

// Sweep kills what is left of a sandbox whose first process has ended: processes
// that carry its marker, and all processes of hostUID when that is a sandbox's
// alone. It returns how many it killed, and an error when some are left at the
// end of ctx.
func Sweep(ctx context.Context, sandboxID string, hostUID int) (int, error) {
	killed := 0
	for {
		left, err := sweepOnce(sandboxID, hostUID)
		if err != nil {
			return killed, err
		}
		if left == 0 {
			return killed, nil
		}
		killed += left
		if ctx.Err() != nil {
			return killed, fmt.Errorf("%d processes of sandbox %s are left: %w", left, sandboxID, context.Cause(ctx))
		}
	}
}

func sweepOnce(sandboxID string, hostUID int) (int, error) {
	marker := []byte(MarkerVariable + "=" + sandboxID)
	found := 0
	for _, p := range processes() {
		if p.pid == os.Getpid() || !belongs(p.pid, marker, hostUID) {
			continue
		}
		// The number may mean another process by now: hold it, then look again.
		fd, err := unix.PidfdOpen(p.pid, 0)
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return found, fmt.Errorf("open process %d: %w", p.pid, err)
		}
		if belongs(p.pid, marker, hostUID) {
			found++
			err = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
			if err == nil || errors.Is(err, unix.ESRCH) {
				err = awaitEnd(fd)
			}
		}
		if err := errors.Join(err, unix.Close(fd)); err != nil {
			return found, fmt.Errorf("kill process %d: %w", p.pid, err)
		}
	}
	return found, nil
}

// awaitEnd waits until a killed process has ended, for a moment: what hangs in
// the kernel is found again by the next round.
func awaitEnd(pidfd int) error {
	_, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 100)
	if errors.Is(err, unix.EINTR) {
		return nil
	}
	return err
}

func belongs(pid int, marker []byte, hostUID int) bool {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	if hostUID >= FirstHostUID {
		fields, err := status(strconv.Itoa(pid))
		if err != nil {
			return false
		}
		real, _, _ := strings.Cut(fields["Uid"], "\t")
		return real == strconv.Itoa(hostUID)
	}
	env, err := os.ReadFile(filepath.Join(dir, "environ"))
	if err != nil {
		return false // another user's, or ended
	}
	for v := range bytes.SplitSeq(env, []byte{0}) {
		if bytes.Equal(v, marker) {
			return true
		}
	}
	return false
}
