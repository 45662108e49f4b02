package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// ticks are the hundredths of a second in which the kernel tells times to
// programs, on every architecture (proc(5), USER_HZ).
const ticks = 100

// startTime is when a process began, to about a second.
func startTime(pid int) (time.Time, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return time.Time{}, err
	}
	boot, err := bootTime()
	if err != nil {
		return time.Time{}, err
	}
	since, err := startTicks(b)
	if err != nil {
		return time.Time{}, err
	}
	return boot.Add(time.Duration(since) * time.Second / ticks), nil
}

// startTicks is field 22 of /proc/PID/stat; field 2 is the command in
// parentheses and may hold anything.
func startTicks(stat []byte) (int64, error) {
	end := bytes.LastIndexByte(stat, ')')
	if end < 0 {
		return 0, errors.New("no command in stat")
	}
	fields := strings.Fields(string(stat[end+1:]))
	const index = 22 - 3 // the first field here is number 3
	if len(fields) <= index {
		return 0, fmt.Errorf("stat has %d fields", len(fields)+2)
	}
	return strconv.ParseInt(fields[index], 10, 64)
}

func bootTime() (time.Time, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return time.Time{}, err
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "btime "); ok {
			s, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
			return time.Unix(s, 0), err
		}
	}
	return time.Time{}, errors.New("no boot time in /proc/stat")
}

// supervises reports whether a process is the supervisor of a directory.
func supervises(pid int, dir string) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return false
	}
	args := strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
	return len(args) == 4 && args[1] == "supervise" && args[3] == dir
}
