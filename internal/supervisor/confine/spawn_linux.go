package confine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"creel/internal/sandbox"
)

func (s *server) spawn(r request, files []*os.File) {
	defer func() { closeAll(files) }()
	c := r.Command
	var terminal *os.File
	switch {
	case len(files) == 3:
	case c.TTY && len(files) == 0:
		master, slave, err := pty.Open()
		if err != nil {
			s.fail(r.ID, fmt.Errorf("open a terminal: %w", err))
			return
		}
		terminal = master
		files = []*os.File{master, slave}
		if err := pty.Setsize(master, size(c.Cols, c.Rows)); err != nil {
			s.fail(r.ID, fmt.Errorf("size the terminal: %w", err))
			return
		}
	default:
		s.fail(r.ID, fmt.Errorf("spawn came with %d descriptors", len(files)))
		return
	}
	if len(c.Argv) == 0 {
		s.fail(r.ID, errors.New("no command"))
		return
	}
	if err := checkLengths(c); err != nil {
		s.fail(r.ID, err)
		return
	}
	dir := c.Dir
	if dir == "" {
		dir = WorkspacePath
		if s.plan.Tier != sandbox.TierNamespaces {
			dir = s.plan.Profile.Workspace
		}
	}
	if err := unix.Access(dir, unix.X_OK); err != nil {
		s.fail(r.ID, fmt.Errorf("enter directory %s: %w", dir, err))
		return
	}
	path, err := lookPath(c.Argv[0], c.Env)
	if err != nil {
		s.fail(r.ID, err)
		return
	}
	if s.plan.Tier != sandbox.TierNamespaces && path == s.plan.Profile.Executable {
		path = "/proc/self/exe" // its real path may be closed to this user
	}
	stdio := []uintptr{0, 0, 0}
	for i := range stdio {
		stdio[i] = files[min(i, len(files)-1)].Fd()
		if terminal != nil {
			stdio[i] = files[1].Fd()
			continue
		}
		// Pipes of a Go program are non-blocking, which is a property of the open
		// file and so would be the program's too; hardly any expects that.
		if err := unix.SetNonblock(int(stdio[i]), false); err != nil {
			s.fail(r.ID, fmt.Errorf("make standard streams blocking: %w", err))
			return
		}
	}
	pidfd := -1
	attr := &syscall.ProcAttr{Dir: dir, Env: s.environment(c.Env), Files: stdio,
		Sys: &syscall.SysProcAttr{Setsid: true, Setctty: c.TTY, Ctty: 0, PidFD: &pidfd}}
	s.children.Lock()
	defer s.children.Unlock()
	pid, err := syscall.ForkExec(path, c.Argv, attr)
	if err != nil {
		s.fail(r.ID, fmt.Errorf("execute %s: %w", c.Argv[0], err))
		return
	}
	s.running[pid], s.pids[r.ID] = r.ID, pid
	fds := []int{}
	if pidfd >= 0 {
		fds = append(fds, pidfd)
	}
	if terminal != nil {
		fds = append(fds, int(terminal.Fd()))
	}
	s.say(event{ID: r.ID, PID: pid, TTY: terminal != nil}, fds...)
	if pidfd >= 0 {
		_ = unix.Close(pidfd)
	}
}

// maxString is the kernel's limit on one argument or variable (execve(2):
// MAX_ARG_STRLEN, which counts the closing NUL).
const maxString = 128<<10 - 1

// checkLengths says what the kernel's E2BIG leaves out: what is too long, and how
// long it may be.
func checkLengths(c Command) error {
	for i, a := range c.Argv {
		if len(a) > maxString {
			return fmt.Errorf("argument %d has %d bytes, the kernel takes at most %d: %w", i, len(a), maxString, syscall.E2BIG)
		}
	}
	for _, v := range c.Env {
		if len(v) > maxString {
			name, _, _ := strings.Cut(v, "=")
			return fmt.Errorf("environment variable %.100s has %d bytes, the kernel takes at most %d: %w", name, len(v), maxString, syscall.E2BIG)
		}
	}
	return nil
}

// lookPath finds a program as execvp does, in the PATH of the new process.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	path := defaultPath
	for _, v := range env {
		if value, ok := strings.CutPrefix(v, "PATH="); ok {
			path = value
		}
	}
	for _, dir := range filepath.SplitList(path) {
		candidate := filepath.Join(dir, name)
		if fi, err := os.Stat(candidate); err == nil && fi.Mode().IsRegular() && unix.Access(candidate, unix.X_OK) == nil {
			return candidate, nil
		}
	}
	return "", fmt.Errorf("find %s in PATH: %w", name, syscall.ENOENT)
}

// tempDir is where programs find a place for temporary files when the host's
// /tmp, which they may not use, is the only one.
func (s *server) tempDir() string {
	if s.plan.Tier == sandbox.TierNamespaces {
		return ""
	}
	return filepath.Join(s.plan.Profile.Workspace, ".tmp")
}

func (s *server) makeTemp() error {
	dir := s.tempDir()
	if dir == "" {
		return nil
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make a directory for temporary files: %w", err)
	}
	return nil
}

// environment completes what a program was given: the marker, and in tiers
// without files of their own what makes programs do without those of the host:
// a place for temporary files, and no system configuration of git, which takes a
// refusal to read it for a fatal error.
func (s *server) environment(env []string) []string {
	out := make([]string, 0, len(env)+2)
	temp := s.tempDir()
	for _, v := range env {
		if strings.HasPrefix(v, "TMPDIR=") {
			temp = ""
		}
		if !strings.HasPrefix(v, MarkerVariable+"=") {
			out = append(out, v)
		}
	}
	if temp != "" {
		out = append(out, "TMPDIR="+temp)
	}
	if s.plan.Tier == sandbox.TierLandlock {
		out = append(out, "GIT_CONFIG_NOSYSTEM=1")
	}
	return append(out, MarkerVariable+"="+s.plan.Profile.SandboxID)
}

func size(cols, rows int) *pty.Winsize {
	if cols <= 0 || cols > 0xffff {
		cols = 80
	}
	if rows <= 0 || rows > 0xffff {
		rows = 24
	}
	return &pty.Winsize{Cols: uint16(cols), Rows: uint16(rows)}
}
