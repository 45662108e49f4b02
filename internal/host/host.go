// Package host knows facts about the machine Creel runs on: kernel, memory,
// disks, ports, processes. It observes and never changes anything; what a fact
// means is decided by who asks.
package host

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"creel/internal/budget"
)

// Facts are what can be read of the machine at once. A fact that could not be
// read is its zero value.
type Facts struct {
	OS            string // runtime.GOOS
	Arch          string // runtime.GOARCH
	Kernel        string // release, e.g. "6.8.0-31-generic"
	Distribution  string // PRETTY_NAME of os-release
	CPUs          int
	CgroupVersion int    // 1, 2, or 0 when none is mounted
	Memory        Memory //
	Root          bool   // the effective user is root
}

// Memory is in bytes.
type Memory struct {
	Total, Available    uint64
	SwapTotal, SwapFree uint64
}

// Collect reads the facts.
func Collect() Facts {
	f := Facts{
		OS:            runtime.GOOS,
		Arch:          runtime.GOARCH,
		Kernel:        kernelRelease(),
		CPUs:          runtime.NumCPU(),
		CgroupVersion: cgroupVersion(),
		Root:          os.Geteuid() == 0,
	}
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		f.Memory = parseMeminfo(b)
	}
	if b, err := os.ReadFile("/etc/os-release"); err == nil {
		f.Distribution = parseOSRelease(b)
	}
	return f
}

// parseMeminfo reads /proc/meminfo; its unit is KiB.
func parseMeminfo(b []byte) Memory {
	var m Memory
	fields := map[string]*uint64{"MemTotal": &m.Total, "MemAvailable": &m.Available, "SwapTotal": &m.SwapTotal, "SwapFree": &m.SwapFree}
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		name, rest, _ := strings.Cut(s.Text(), ":")
		if p, ok := fields[name]; ok {
			number, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
			if kib, err := strconv.ParseUint(number, 10, 54); err == nil {
				*p = kib << 10
			}
		}
	}
	return m
}

func parseOSRelease(b []byte) string {
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		if v, ok := strings.CutPrefix(s.Text(), "PRETTY_NAME="); ok {
			return strings.Trim(v, `"'`)
		}
	}
	return ""
}

// PortState is what binding a port told.
type PortState struct {
	Free   bool
	Holder *PortUser // nil when nobody who may be seen holds it
	Err    error     // why it is not free
}

// CheckPort binds a TCP port on host and lets it go: the only answer that the
// kernel gives is the bind itself. A permission problem (ports below 1024) is
// not free either.
func CheckPort(ctx context.Context, host string, port int) PortState {
	ctx, cancel := budget.Context(ctx, budget.TCP, "bind port "+strconv.Itoa(port))
	defer cancel()
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err == nil {
		_ = l.Close()
		return PortState{Free: true}
	}
	s := PortState{Err: err}
	if errors.Is(err, syscall.EADDRINUSE) {
		if u, ok := PortHolder(port); ok {
			s.Holder = &u
		}
	}
	return s
}

// PortUser is a process that listens on a port.
type PortUser struct {
	PID     int    // 0 when it belongs to somebody else and may not be seen
	Command string // argument 0 and its name as the kernel has it, e.g. "nginx"
	User    string // name, or the number when it has none
	UID     int
}

// String is e.g. `"nginx" (pid 123, user www-data)`.
func (u PortUser) String() string {
	switch {
	case u.PID == 0:
		return "a process of user " + u.User
	case u.Command == "":
		return "pid " + strconv.Itoa(u.PID) + ", user " + u.User
	}
	return strconv.Quote(u.Command) + " (pid " + strconv.Itoa(u.PID) + ", user " + u.User + ")"
}

// Short is e.g. `nginx (pid 123)`; a name that is not plain is quoted.
func (u PortUser) Short() string {
	switch {
	case u.PID == 0:
		return "a process of user " + u.User
	case u.Command == "":
		return "pid " + strconv.Itoa(u.PID)
	}
	command := u.Command // anybody may call their process anything
	if quoted := strconv.Quote(command); strings.Contains(command, " ") || quoted != `"`+command+`"` {
		command = quoted
	}
	return command + " (pid " + strconv.Itoa(u.PID) + ")"
}

// Process is what /proc says of one process.
type Process struct {
	PID   int
	State byte // 'R', 'S', 'T' (stopped), 'Z' (zombie), …
	// Start is the process's start in clock ticks since boot: with the pid it
	// names one process for good, however often the pid is used again.
	Start uint64
	// Session is the pid of the leader of its session.
	Session int
}

// Gone reports whether the process has ended: a zombie has, whatever signal 0
// says.
func (p Process) Gone() bool { return p.State == 'Z' || p.State == 'X' || p.State == 'x' }

// Stopped reports whether the process is stopped by a signal or a tracer.
func (p Process) Stopped() bool { return p.State == 'T' || p.State == 't' }

// ErrNoProcess is wrapped when there is no process of a pid.
var ErrNoProcess = errors.New("no such process")

// Alive reports whether the process with this pid that began at start (see
// Process.Start) still runs. An error means that it could not be determined.
func Alive(pid int, start uint64) (bool, error) {
	p, err := Lookup(pid)
	switch {
	case errors.Is(err, ErrNoProcess):
		return false, nil
	case err != nil:
		return false, err
	}
	return p.Start == start && !p.Gone(), nil
}

// ProcessStartTime is the start of a process in clock ticks since boot.
func ProcessStartTime(pid int) (uint64, error) {
	p, err := Lookup(pid)
	return p.Start, err
}

// BeganBefore reports whether the process was started no later than at. It is
// the weaker proof of identity for a record that holds a time of day only; two
// seconds of slack cover the resolution of the clocks.
func BeganBefore(p Process, at time.Time) (bool, error) {
	boot, err := bootTime()
	if err != nil {
		return false, err
	}
	began := boot.Add(time.Duration(p.Start) * (time.Second / clockTicks))
	return !began.After(at.Add(2 * time.Second)), nil
}

// clockTicks is USER_HZ: the unit of times in /proc is 1/100 s on every
// architecture that Go runs on.
const clockTicks = 100
