// Package systemd speaks with a systemd that runs on this machine, the system's or
// a user's, through systemctl and loginctl, and writes unit files' syntax. It
// believes no command that says that it did something: what is so now is asked.
// What a unit is for is its caller's.
//
// The programs are used and not D-Bus because they find their manager where a bus
// client does not: without a session, without a user bus, over the manager's
// private socket. What they print for machines (show --property) is stable.
package systemd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/credential"
	"creel/internal/dashboard"
	"creel/internal/host"
)

// Manager is one service manager.
type Manager struct {
	// System is the manager of the system; otherwise the user's.
	System bool
	// UID is the user of a user's manager.
	UID int
	// Getenv is the environment that the manager is found by.
	Getenv func(string) string
	// Booted is the directory that is there when systemd runs the machine (see
	// sd_booted(3)), and LingerDir the one with a file for each user who lingers;
	// both have a usual place.
	Booted, LingerDir string
	// Look finds a program by its name; nil looks in PATH.
	Look func(string) (string, error)
}

// New is the manager that keeps the services of whoever runs this program: root's
// are the system's, everybody else has one of their own.
func New(getenv func(string) string) *Manager {
	return &Manager{System: os.Geteuid() == 0, UID: os.Geteuid(), Getenv: getenv}
}

// Name is "system" or "user".
func (m *Manager) Name() string {
	if m.System {
		return "system"
	}
	return "user"
}

// Command is a line that a person may type to reach the same manager.
func (m *Manager) Command(args ...string) string {
	words := []string{"systemctl"}
	if !m.System {
		words = append(words, "--user")
	}
	for _, a := range args {
		words = append(words, advisory.Quote(a))
	}
	return strings.Join(words, " ")
}

// Journal is a line that shows what the manager kept of a unit's output.
func (m *Manager) Journal(unit string) string {
	if m.System {
		return "journalctl -u " + advisory.Quote(unit)
	}
	return "journalctl --user -u " + advisory.Quote(unit)
}

// Running finds out whether systemd runs this machine at all. The error has the
// advisory service-no-systemd when it positively does not.
func (m *Manager) Running() error {
	_, err := os.Stat(m.booted())
	switch {
	case err == nil:
	case errors.Is(err, os.ErrNotExist):
		return m.absent("systemd does not run this machine")
	default:
		return fmt.Errorf("find out whether systemd runs this machine: %w", err)
	}
	if _, err := m.find("systemctl"); err != nil {
		return m.absent("there is no systemctl")
	}
	return nil
}

// absent says what runs instead, as far as that shows.
func (m *Manager) absent(why string) error {
	seat := host.Sources{Getenv: m.Getenv}.Seat()
	hints := []string{"creel gateway start", "creel gateway serve"}
	switch {
	case dashboard.DetectWSL(m.Getenv, seat.Kernel):
		why += " (WSL: it is switched on by [boot] systemd=true in /etc/wsl.conf)"
		hints = append([]string{"wsl.exe --shutdown"}, hints...)
	case seat.Container != "":
		why += " (container: " + seat.Container + ")"
	default:
		if name, err := os.ReadFile("/proc/1/comm"); err == nil {
			why += " (process 1 is " + strings.TrimSpace(string(name)) + ")"
		}
		hints = append([]string{"crontab -e"}, hints...)
	}
	return advisory.New("service-no-systemd", why, nil, hints...)
}

// Reach finds out whether the manager answers. The error has the advisory
// service-no-systemd or service-manager-unreachable.
func (m *Manager) Reach(ctx context.Context) error {
	if err := m.Running(); err != nil {
		return err
	}
	out, err := m.systemctl(ctx, budget.Probe, "show", "--property=Version")
	if err != nil {
		return advisory.New("service-manager-unreachable", "the "+m.Name()+" manager of systemd does not answer", err)
	}
	if properties(out)["Version"] == "" {
		return advisory.New("service-manager-unreachable", fmt.Sprintf("the %s manager of systemd answers %.80q", m.Name(), out), nil)
	}
	return nil
}

// UnitDir is where units of the manager that a person adds are. A user's manager may
// know another directory than this shell's environment names; then it is asked.
func (m *Manager) UnitDir(ctx context.Context) (string, error) {
	if m.System {
		return "/etc/systemd/system", nil
	}
	var dirs []string
	if dir := m.Getenv("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		dirs = append(dirs, filepath.Join(dir, "systemd", "user"))
	}
	if home := m.Getenv("HOME"); filepath.IsAbs(home) {
		dirs = append(dirs, filepath.Join(home, ".config", "systemd", "user"))
	}
	if len(dirs) == 0 {
		return "", errors.New("neither XDG_CONFIG_HOME nor HOME names a directory for units")
	}
	if len(dirs) > 1 && m.Running() == nil && m.Lives() {
		out, err := m.systemctl(ctx, budget.Probe, "show", "--property=UnitPath")
		known := strings.Fields(properties(out)["UnitPath"])
		for _, dir := range dirs {
			if err == nil && slices.Contains(known, dir) {
				return dir, nil
			}
		}
	}
	return dirs[0], nil
}

func (m *Manager) booted() string {
	if m.Booted != "" {
		return m.Booted
	}
	return "/run/systemd/system"
}

// Failure is a command that ended with another exit code than 0.
type Failure struct {
	Command string // e.g. "systemctl --user start x.service"
	Code    int    // -1 when it did not end by itself
	Said    string // standard error, one line, redacted
}

// Error is what it said.
func (f *Failure) Error() string {
	if f.Said == "" {
		return fmt.Sprintf("%s: exit code %d", f.Command, f.Code)
	}
	return f.Command + ": " + f.Said
}

// systemctl runs systemctl and returns what it printed.
func (m *Manager) systemctl(ctx context.Context, limit budget.Name, args ...string) (string, error) {
	scope := "--user"
	if m.System {
		scope = "--system"
	}
	return m.run(ctx, limit, "systemctl", append([]string{scope, "--no-pager", "--no-ask-password"}, args...)...)
}

// grace is how long a command that was told to end may take for it.
const grace = 500 * time.Millisecond

func (m *Manager) run(ctx context.Context, limit budget.Name, program string, args ...string) (string, error) {
	path, err := m.find(program)
	if err != nil {
		return "", err
	}
	line := program + " " + strings.Join(args, " ")
	ctx, cancel := budget.Context(ctx, limit, line)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = m.environment()
	cmd.WaitDelay = grace
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return stdout.String(), nil
	case ctx.Err() != nil:
		return stdout.String(), fmt.Errorf("%s: %w", line, context.Cause(ctx))
	case errors.As(err, &exit):
		said := credential.Redact(strings.Join(strings.Fields(strings.ToValidUTF8(stderr.String(), "?")), " "))
		return stdout.String(), &Failure{Command: line, Code: exit.ExitCode(), Said: said}
	}
	return "", fmt.Errorf("run %s: %w", line, err)
}

// environment is what the programs find the manager by, and what keeps their
// output plain. Nothing else of the user's is their business.
func (m *Manager) environment() []string {
	env := []string{"LC_ALL=C.UTF-8", "SYSTEMD_COLORS=0", "SYSTEMD_PAGER=cat", "SYSTEMD_URLIFY=0"}
	for _, name := range []string{"PATH", "HOME", "DBUS_SYSTEM_BUS_ADDRESS"} {
		if v := m.Getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	if !m.System {
		env = append(env, "XDG_RUNTIME_DIR="+m.runtimeDir())
	}
	return env
}

// runtimeDir is where the user's manager has its socket. su and sudo leave the
// variable of another user, or none.
func (m *Manager) runtimeDir() string {
	usual := filepath.Join("/run/user", strconv.Itoa(m.UID))
	dir := m.Getenv("XDG_RUNTIME_DIR")
	if filepath.IsAbs(dir) && dir != usual {
		if _, err := os.Stat(filepath.Join(dir, "systemd")); err == nil {
			return dir
		}
	}
	return usual
}

func (m *Manager) find(program string) (string, error) {
	if m.Look != nil {
		return m.Look(program)
	}
	if path, err := exec.LookPath(program); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/bin", "/bin"} { // a scrubbed PATH
		if path, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("find %s: %w", program, exec.ErrNotFound)
}

// properties reads what show prints: one NAME=VALUE a line.
func properties(out string) map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(out) {
		if name, value, ok := strings.Cut(strings.TrimRight(line, "\n"), "="); ok {
			all[name] = value
		}
	}
	return all
}

// Lives reports whether the manager's own socket is there: without it nobody is
// that manager. The system's manager lives wherever systemd runs the machine.
func (m *Manager) Lives() bool {
	if m.System {
		return true
	}
	_, err := os.Stat(filepath.Join(m.runtimeDir(), "systemd", "private"))
	return !errors.Is(err, os.ErrNotExist)
}
