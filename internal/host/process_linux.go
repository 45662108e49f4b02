package host

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Lookup reads /proc/PID/stat. It wraps ErrNoProcess when there is none.
func Lookup(pid int) (Process, error) {
	if pid <= 0 {
		return Process{}, fmt.Errorf("look up process %d: %w", pid, ErrNoProcess)
	}
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ESRCH):
		return Process{}, fmt.Errorf("look up process %d: %w", pid, ErrNoProcess)
	case err != nil:
		return Process{}, fmt.Errorf("look up process %d: %w", pid, err)
	}
	p, err := parseStat(b)
	if err != nil {
		return Process{}, fmt.Errorf("look up process %d: %w", pid, err)
	}
	return p, nil
}

// parseStat reads the fields pid, state, session and starttime (1, 3, 6 and 22 of
// proc(5)).
// The command between the outermost parentheses may hold anything.
func parseStat(b []byte) (Process, error) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return Process{}, errors.New("process status without a command")
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:open])))
	if err != nil {
		return Process{}, errors.New("process status without a pid")
	}
	rest := strings.Fields(string(b[end+1:]))
	const state, session, start = 0, 3, 19 // counted from field 3
	if len(rest) <= start || len(rest[state]) != 1 {
		return Process{}, errors.New("process status is cut short")
	}
	ticks, err := strconv.ParseUint(rest[start], 10, 64)
	if err != nil {
		return Process{}, errors.New("process status without a start time")
	}
	leader, err := strconv.Atoi(rest[session])
	if err != nil {
		return Process{}, errors.New("process status without a session")
	}
	return Process{PID: pid, State: rest[state][0], Start: ticks, Session: leader}, nil
}

func bootTime() (time.Time, error) {
	f, err := os.Open("/proc/stat")
	if err != nil {
		return time.Time{}, fmt.Errorf("read boot time: %w", err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if v, ok := strings.CutPrefix(s.Text(), "btime "); ok {
			sec, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
			if err != nil {
				return time.Time{}, fmt.Errorf("read boot time: %w", err)
			}
			return time.Unix(sec, 0), nil
		}
	}
	return time.Time{}, errors.New("read boot time: /proc/stat does not say")
}

// Session lists the processes of the session of a leader.
func Session(leader int) ([]Process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var all []Process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if p, err := Lookup(pid); err == nil && p.Session == leader {
			all = append(all, p)
		}
	}
	return all, nil
}

// Executables lists the executables of all processes that may be seen, as the
// kernel names them now (a removed file ends in " (deleted)").
func Executables() ([]string, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var all []string
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		if exe, err := os.Readlink(filepath.Join("/proc", e.Name(), "exe")); err == nil {
			all = append(all, exe)
		}
	}
	return all, nil
}
