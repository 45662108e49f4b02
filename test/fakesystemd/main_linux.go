// Command fakesystemd is a service manager for tests, under the names systemctl and
// loginctl: it keeps its state in a file beside itself, reads unit files, runs what
// they say with a notification socket, and lies when it is told to. A lie is a word
// in the file "lies"; each one that was told is noted in the file "told", so that a
// test can prove that it was.
package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"creel/internal/host"
)

// state is what the manager remembers; tests read the file.
type state struct {
	Loaded map[string]string `json:"loaded"` // unit: content when it was loaded
	PID    map[string]int    `json:"pid"`    // of the main process, while it was started
	Start  map[string]uint64 `json:"start"`  //
	Linger bool              `json:"linger"`
	Calls  []string          `json:"calls"`
}

// manager is one call of the program.
type manager struct {
	dir   string
	state state
}

func main() { os.Exit(run()) }

func run() int {
	m := &manager{dir: filepath.Dir(os.Args[0])}
	if b, err := os.ReadFile(m.path("state.json")); err == nil {
		_ = json.Unmarshal(b, &m.state) // a test that damages it sees an empty one
	}
	if m.state.Loaded == nil {
		m.state.Loaded = map[string]string{}
	}
	if m.state.PID == nil {
		m.state.PID, m.state.Start = map[string]int{}, map[string]uint64{}
	}
	var args []string
	for _, a := range os.Args[1:] {
		if !slices.Contains([]string{"--user", "--system", "--no-pager", "--no-ask-password", "--"}, a) {
			args = append(args, a)
		}
	}
	m.state.Calls = append(m.state.Calls, strings.Join(args, " "))
	code := m.command(args)
	b, err := json.Marshal(m.state)
	if err != nil {
		return 99
	}
	draft := m.path(fmt.Sprintf("state.json.%d", os.Getpid()))
	if os.WriteFile(draft, b, 0o600) != nil || os.Rename(draft, m.path("state.json")) != nil {
		return 99
	}
	return code
}

func (m *manager) path(name string) string { return filepath.Join(m.dir, name) }

// lies reports whether it is to lie so, and notes that it did.
func (m *manager) lies(word string) bool {
	b, _ := os.ReadFile(m.path("lies"))
	if !slices.Contains(strings.Fields(string(b)), word) {
		return false
	}
	if told, err := os.OpenFile(m.path("told"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err == nil {
		_, _ = fmt.Fprintln(told, word)
		_ = told.Close()
	}
	return true
}

func (m *manager) unitFile(unit string) string {
	return filepath.Join(os.Getenv("HOME"), ".config", "systemd", "user", unit)
}

// wantedBy is the link that makes a unit start at boot.
func (m *manager) wantedBy(unit string) string {
	return filepath.Join(filepath.Dir(m.unitFile(unit)), "default.target.wants", unit)
}

func (m *manager) command(args []string) int {
	unit := args[len(args)-1]
	switch args[0] {
	case "show-user":
		return m.showUser()
	case "enable-linger":
		if !m.lies("enable-linger-does-nothing") {
			m.state.Linger = true
		}
	case "show":
		return m.show(args)
	case "daemon-reload":
		if m.lies("reload-does-nothing") {
			return 0
		}
		m.reload()
	case "enable":
		if m.lies("enable-fails") {
			fmt.Fprintln(os.Stderr, "Failed to enable unit: it pleases me not")
			return 1
		}
		if m.lies("enable-does-nothing") {
			return 0
		}
		link := m.wantedBy(unit)
		if os.MkdirAll(filepath.Dir(link), 0o755) != nil {
			return 1
		}
		_ = os.Remove(link)
		if os.Symlink(m.unitFile(unit), link) != nil {
			return 1
		}
	case "disable":
		_ = os.Remove(m.wantedBy(unit))
		_ = os.Remove(filepath.Dir(m.wantedBy(unit)))
	case "start":
		return m.start(unit)
	case "stop":
		return m.stop(unit)
	case "reset-failed":
	default:
		fmt.Fprintln(os.Stderr, "Unknown command verb", args[0])
		return 1
	}
	return 0
}

func (m *manager) showUser() int {
	switch {
	case m.lies("linger-is-not-told"):
		fmt.Println("Linger=perhaps")
	case m.state.Linger, m.lies("linger-is-on"):
		fmt.Println("Linger=yes")
	default:
		fmt.Fprintln(os.Stderr, "Failed to get user: User ID is not logged in or lingering")
		return 1
	}
	return 0
}

func (m *manager) reload() {
	m.state.Loaded = map[string]string{}
	entries, _ := os.ReadDir(filepath.Dir(m.unitFile("x")))
	for _, e := range entries {
		if b, err := os.ReadFile(m.unitFile(e.Name())); err == nil && strings.HasSuffix(e.Name(), ".service") {
			m.state.Loaded[e.Name()] = string(b)
		}
	}
}

// alive is the unit's main process, 0 when it has ended.
func (m *manager) alive(unit string) int {
	pid := m.state.PID[unit]
	if p, err := host.Lookup(pid); pid == 0 || err != nil || p.Start != m.state.Start[unit] || p.Gone() {
		return 0
	}
	return pid
}

func (m *manager) show(args []string) int {
	if m.lies("hangs") {
		time.Sleep(time.Hour) // it is killed
	}
	if m.lies("answers-nonsense") {
		fmt.Println("who are you?")
		return 0
	}
	unit := args[len(args)-1]
	if strings.HasPrefix(unit, "--") {
		fmt.Println("Version=252")
		return 0
	}
	loaded, known := m.state.Loaded[unit]
	pid := m.alive(unit)
	p := map[string]string{"LoadState": "not-found", "ActiveState": "inactive", "SubState": "dead", "Result": "success", "NeedDaemonReload": "no",
		"MainPID": strconv.Itoa(pid), "NRestarts": "0", "ExecMainCode": "0", "ExecMainStatus": "0"}
	if known || m.lies("removed-unit-stays") {
		p["LoadState"], p["FragmentPath"], p["UnitFileState"] = "loaded", m.unitFile(unit), "disabled"
		if _, err := os.Readlink(m.wantedBy(unit)); err == nil {
			p["UnitFileState"] = "enabled"
		}
		if now, _ := os.ReadFile(m.unitFile(unit)); string(now) != loaded {
			p["NeedDaemonReload"] = "yes"
		}
	}
	if known && m.lies("another-file-is-loaded") {
		p["FragmentPath"] = "/etc/systemd/user/" + unit
	}
	if m.lies("masked") {
		p["LoadState"], p["UnitFileState"] = "masked", "masked"
	}
	if pid != 0 || m.lies("says-active") {
		p["ActiveState"], p["SubState"] = "active", "running"
	}
	if decoy, _ := os.ReadFile(m.path("decoy")); pid != 0 && m.lies("another-main-process") {
		p["MainPID"] = strings.TrimSpace(string(decoy))
	}
	for name, value := range p {
		fmt.Printf("%s=%s\n", name, value)
	}
	return 0
}

func (m *manager) start(unit string) int {
	content, known := m.state.Loaded[unit]
	if !known {
		fmt.Fprintf(os.Stderr, "Failed to start %s: Unit %s not found.\n", unit, unit)
		return 5
	}
	if m.alive(unit) != 0 || m.lies("start-does-nothing") {
		return 0
	}
	cmd := exec.Command("/bin/false")
	if !m.lies("program-fails") {
		words := unquoteWords(setting(content, "ExecStart")[0])
		cmd = exec.Command(words[0], words[1:]...)
	}
	socket := m.path(fmt.Sprintf("notify.%d", os.Getpid()))
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.Remove(socket)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "NOTIFY_SOCKET=" + socket}
	for _, e := range setting(content, "Environment") {
		cmd.Env = append(cmd.Env, unquoteWords(e)...)
	}
	cmd.Dir, cmd.SysProcAttr = "/", &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		fmt.Fprintf(os.Stderr, "Job for %s failed: %v\n", unit, err)
		return 1
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
		_ = l.SetReadDeadline(time.Unix(1, 0))
	}()
	_ = l.SetReadDeadline(time.Now().Add(20 * time.Second))
	b := make([]byte, 4096)
	for {
		n, err := l.Read(b)
		if err != nil {
			fmt.Fprintf(os.Stderr, "Job for %s failed because the control process exited with error code.\n", unit)
			return 1
		}
		if strings.Contains(string(b[:n]), "READY=1") {
			break
		}
	}
	m.state.PID[unit] = cmd.Process.Pid
	m.state.Start[unit], _ = host.ProcessStartTime(cmd.Process.Pid)
	return 0
}

func (m *manager) stop(unit string) int {
	pid := m.alive(unit)
	if pid == 0 || m.lies("stop-does-nothing") {
		return 0
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return 0
	}
	_ = syscall.Kill(pid, syscall.SIGTERM)
	for range 10 {
		if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 1000); err == nil && n == 1 {
			m.state.PID[unit] = 0
			return 0
		}
	}
	return 1
}

// setting is each value of a name in a unit file.
func setting(content, name string) []string {
	var values []string
	for line := range strings.Lines(content) {
		if v, ok := strings.CutPrefix(line, name+"="); ok {
			values = append(values, strings.TrimSpace(v))
		}
	}
	return values
}

var word = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|[^\s"]+`)

// unquoteWords reads a value as systemd.syntax(7) has it.
func unquoteWords(value string) []string {
	var words []string
	for _, w := range word.FindAllString(value, -1) {
		if strings.HasPrefix(w, `"`) {
			if plain, err := strconv.Unquote(w); err == nil {
				w = plain
			}
		}
		words = append(words, strings.NewReplacer("%%", "%", "$$", "$").Replace(w))
	}
	return words
}
