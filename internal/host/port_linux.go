package host

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
)

// PortHolder names who listens on a TCP port of this machine. Processes of
// other users can be seen by root only: then PID is 0. ok is false when nobody
// listens.
func PortHolder(port int) (PortUser, bool) {
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(table)
		if err != nil {
			continue
		}
		s, found := findListener(f, port)
		_ = f.Close()
		if !found {
			continue
		}
		u := PortUser{User: userName(s.uid)}
		if u.UID, err = strconv.Atoi(s.uid); err != nil {
			continue
		}
		if pid, ok := socketOwner(s.inode); ok {
			u.PID = pid
			u.Command = command(pid)
		}
		return u, true
	}
	return PortUser{}, false
}

// Listens reports whether a process listens on a TCP port of this machine, on any
// address. An error means that it could not be told: only root may look into the
// processes of other users.
func Listens(pid, port int) (bool, error) {
	sockets := map[string]bool{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(table)
		if err != nil {
			continue // without IPv6 there is no such table
		}
		for _, l := range listeners(f, port) {
			sockets["socket:["+l.inode+"]"] = true
		}
		_ = f.Close()
	}
	if len(sockets) == 0 {
		return false, nil
	}
	dir := "/proc/" + strconv.Itoa(pid) + "/fd"
	fds, err := os.ReadDir(dir)
	if err != nil {
		return false, fmt.Errorf("look at what process %d has open: %w", pid, err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink(filepath.Join(dir, fd.Name())); err == nil && sockets[to] {
			return true, nil
		}
	}
	return false, nil
}

type listener struct{ uid, inode string }

// findListener scans a table of proc_net_tcp(5): column 1 is the local address
// as hexadecimal ADDRESS:PORT, 3 the state (0A listens), 7 the uid, 9 the inode.
func findListener(r io.Reader, port int) (listener, bool) {
	if all := listeners(r, port); len(all) > 0 {
		return all[0], true
	}
	return listener{}, false
}

func listeners(r io.Reader, port int) []listener {
	const listening = "0A"
	var all []listener
	for s := bufio.NewScanner(r); s.Scan(); {
		col := strings.Fields(s.Text())
		if len(col) < 10 || col[3] != listening {
			continue
		}
		_, hex, _ := strings.Cut(col[1], ":")
		if n, err := strconv.ParseUint(hex, 16, 16); err == nil && int(n) == port {
			all = append(all, listener{uid: col[7], inode: col[9]})
		}
	}
	return all
}

func userName(uid string) string {
	if u, err := user.LookupId(uid); err == nil {
		return u.Username
	}
	return uid
}

func socketOwner(inode string) (int, bool) {
	want := "socket:[" + inode + "]"
	if holds(os.Getpid(), want) { // often it is our own, and there are many others
		return os.Getpid(), true
	}
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return 0, false
	}
	for _, p := range procs {
		if pid, err := strconv.Atoi(p.Name()); err == nil && holds(pid, want) {
			return pid, true
		}
	}
	return 0, false
}

// holds reports that a process has a file of this name open.
func holds(pid int, name string) bool {
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	fds, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, fd := range fds {
		if to, err := os.Readlink(filepath.Join(dir, fd.Name())); err == nil && to == name {
			return true
		}
	}
	return false
}

// command is the program's base name; arguments may hold secrets and stay where
// they are.
func command(pid int) string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err == nil {
		if argv0, _, _ := strings.Cut(string(b), "\x00"); argv0 != "" {
			return filepath.Base(argv0)
		}
	}
	return strings.TrimSpace(readSmall("/proc/" + strconv.Itoa(pid) + "/comm"))
}
