package systemd

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"creel/internal/budget"
)

// State is what a manager says of one unit.
type State struct {
	Load     string // "loaded", "not-found", "masked", "error", …
	LoadWhy  string // why it could not be loaded
	Active   string // "active", "inactive", "failed", "activating", "deactivating", …
	Sub      string // e.g. "running", "auto-restart"
	Result   string // of the last run: "success", "exit-code", "watchdog", …
	File     string // "enabled", "disabled", "masked", …; "" without a file
	Path     string // of the unit file that is loaded
	DropIns  []string
	Stale    bool // the file on disk is another one than was loaded
	MainPID  int  // 0 when no main process runs
	Ended    End  // of the last main process
	Status   string
	Restarts int // since it was started by somebody
}

// End is how a main process ended.
type End struct {
	Signal bool // by a signal rather than by itself
	Code   int  // exit code, or number of the signal
	Known  bool
}

// String is e.g. "exited with code 127".
func (e End) String() string {
	switch {
	case !e.Known:
		return "its end is not known"
	case e.Signal:
		return fmt.Sprintf("killed by signal %d", e.Code)
	}
	return fmt.Sprintf("exited with code %d", e.Code)
}

// unitProperties are what Show asks for.
var unitProperties = []string{"LoadState", "LoadError", "ActiveState", "SubState", "Result", "UnitFileState", "FragmentPath", "DropInPaths",
	"NeedDaemonReload", "MainPID", "ExecMainCode", "ExecMainStatus", "StatusText", "NRestarts"}

// Show asks the manager for a unit. One that does not exist is Load "not-found".
func (m *Manager) Show(ctx context.Context, unit string) (State, error) {
	out, err := m.systemctl(ctx, budget.Probe, "show", "--property="+strings.Join(unitProperties, ","), "--", unit)
	if err != nil {
		return State{}, fmt.Errorf("ask for unit %s: %w", unit, err)
	}
	s, err := parseState(out)
	if err != nil {
		return State{}, fmt.Errorf("ask for unit %s: %w", unit, err)
	}
	return s, nil
}

func parseState(out string) (State, error) {
	p := properties(out)
	s := State{Load: p["LoadState"], LoadWhy: p["LoadError"], Active: p["ActiveState"], Sub: p["SubState"], Result: p["Result"],
		File: p["UnitFileState"], Path: p["FragmentPath"], DropIns: strings.Fields(p["DropInPaths"]), Stale: p["NeedDaemonReload"] == "yes",
		Status: p["StatusText"]}
	if s.Load == "" || s.Active == "" {
		return State{}, fmt.Errorf("the answer %.80q tells no state", out)
	}
	var err error
	number := func(name string) int {
		text := p[name]
		if text == "" || err != nil { // a unit that is not a loaded service has none
			return 0
		}
		var n int
		if n, err = strconv.Atoi(text); err != nil {
			err = fmt.Errorf("%s is %q", name, text)
		}
		return n
	}
	s.MainPID, s.Restarts = number("MainPID"), number("NRestarts")
	// CLD_EXITED is 1, CLD_KILLED 2, CLD_DUMPED 3 (sigaction(2)).
	code, status := number("ExecMainCode"), number("ExecMainStatus")
	s.Ended = End{Known: code > 0, Signal: code == 2 || code == 3, Code: status}
	return s, err
}

// Reload has the manager read its unit files again.
func (m *Manager) Reload(ctx context.Context) error {
	_, err := m.systemctl(ctx, budget.Operation, "daemon-reload")
	return err
}

// Enable has the manager start a unit at boot, or at its own start.
func (m *Manager) Enable(ctx context.Context, unit string) error {
	_, err := m.systemctl(ctx, budget.Operation, "enable", "--", unit)
	return err
}

// Disable takes Enable back.
func (m *Manager) Disable(ctx context.Context, unit string) error {
	_, err := m.systemctl(ctx, budget.Operation, "disable", "--", unit)
	return err
}

// Start starts a unit and returns when it is ready or has failed; ctx bounds it. A
// unit that failed too often is started all the same.
func (m *Manager) Start(ctx context.Context, unit string) error {
	_, _ = m.systemctl(ctx, budget.Operation, "reset-failed", "--", unit) // one that never failed cannot be reset
	_, err := m.systemctl(ctx, budget.Heavy, "start", "--", unit)
	return err
}

// Stop stops a unit and returns when its main process has ended.
func (m *Manager) Stop(ctx context.Context, unit string) error {
	_, err := m.systemctl(ctx, budget.Heavy, "stop", "--", unit)
	return err
}

// Quote makes one word of a unit file's value: no specifier, no quote and no space
// in it means anything (systemd.syntax(7)).
func Quote(word string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range []byte(word) {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteByte(r)
		case r == '%':
			b.WriteString("%%")
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			b.WriteByte(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// QuoteArgument is Quote for an argument of a command line, in which a dollar sign
// would be a variable. The program's path knows no variables: that is Quote.
func QuoteArgument(word string) string { return strings.ReplaceAll(Quote(word), "$", "$$") }

// Executable reports whether a unit may name a program by this path.
func Executable(path string) bool {
	return strings.HasPrefix(path, "/") && !strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == 0x7f || strings.ContainsRune("\"'`\\", r) })
}

// Text makes one line of a description: no specifier, no new line.
func Text(s string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "%", "%%")
}
