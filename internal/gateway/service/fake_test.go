package service_test

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

// The service manager of these tests: a real program under the names systemctl and
// loginctl, which keeps its state in a file beside itself, reads unit files, runs
// what they say with a notification socket, and lies when it is told to. A lie is a
// word in the file "lies"; each one that was told is noted in the file "told", so
// that a test can prove that it was.
type fakeState struct {
	Loaded map[string]string `json:"loaded"` // unit: content when it was loaded
	PID    map[string]int    `json:"pid"`    // of the main process, while it was started
	Start  map[string]uint64 `json:"start"`  //
	Linger bool              `json:"linger"`
	Calls  []string          `json:"calls"`
}

type fake struct {
	dir   string
	state fakeState
}

// fakeMain is the program.
func fakeMain() int {
	f := &fake{dir: filepath.Dir(os.Args[0])}
	if b, err := os.ReadFile(f.path("state.json")); err == nil {
		_ = json.Unmarshal(b, &f.state) // a test that damages it sees an empty one
	}
	if f.state.Loaded == nil {
		f.state.Loaded = map[string]string{}
	}
	if f.state.PID == nil {
		f.state.PID, f.state.Start = map[string]int{}, map[string]uint64{}
	}
	var args []string
	for _, a := range os.Args[1:] {
		if !slices.Contains([]string{"--user", "--system", "--no-pager", "--no-ask-password", "--"}, a) {
			args = append(args, a)
		}
	}
	f.state.Calls = append(f.state.Calls, strings.Join(args, " "))
	code := f.command(args)
	b, err := json.Marshal(f.state)
	if err != nil {
		return 99
	}
	draft := f.path(fmt.Sprintf("state.json.%d", os.Getpid()))
	if os.WriteFile(draft, b, 0o600) != nil || os.Rename(draft, f.path("state.json")) != nil {
		return 99
	}
	return code
}

func (f *fake) path(name string) string { return filepath.Join(f.dir, name) }

// lies reports whether it is to lie so, and notes that it did.
func (f *fake) lies(word string) bool {
	b, _ := os.ReadFile(f.path("lies"))
	if !slices.Contains(strings.Fields(string(b)), word) {
		return false
	}
	if told, err := os.OpenFile(f.path("told"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err == nil {
		_, _ = fmt.Fprintln(told, word)
		_ = told.Close()
	}
	return true
}

func (f *fake) unitFile(unit string) string {
	return filepath.Join(os.Getenv("HOME"), ".config", "systemd", "user", unit)
}

// wantedBy is the link that makes a unit start at boot.
func (f *fake) wantedBy(unit string) string {
	return filepath.Join(filepath.Dir(f.unitFile(unit)), "default.target.wants", unit)
}

func (f *fake) command(args []string) int {
	unit := args[len(args)-1]
	switch args[0] {
	case "show-user":
		return f.showUser()
	case "enable-linger":
		if !f.lies("enable-linger-does-nothing") {
			f.state.Linger = true
		}
	case "show":
		return f.show(args)
	case "daemon-reload":
		if f.lies("reload-does-nothing") {
			return 0
		}
		f.reload()
	case "enable":
		if f.lies("enable-fails") {
			fmt.Fprintln(os.Stderr, "Failed to enable unit: it pleases me not")
			return 1
		}
		if f.lies("enable-does-nothing") {
			return 0
		}
		link := f.wantedBy(unit)
		if os.MkdirAll(filepath.Dir(link), 0o755) != nil {
			return 1
		}
		_ = os.Remove(link)
		if os.Symlink(f.unitFile(unit), link) != nil {
			return 1
		}
	case "disable":
		_ = os.Remove(f.wantedBy(unit))
		_ = os.Remove(filepath.Dir(f.wantedBy(unit)))
	case "start":
		return f.start(unit)
	case "stop":
		return f.stop(unit)
	case "reset-failed":
	default:
		fmt.Fprintln(os.Stderr, "Unknown command verb", args[0])
		return 1
	}
	return 0
}

func (f *fake) showUser() int {
	switch {
	case f.lies("linger-is-not-told"):
		fmt.Println("Linger=perhaps")
	case f.state.Linger, f.lies("linger-is-on"):
		fmt.Println("Linger=yes")
	default:
		fmt.Fprintln(os.Stderr, "Failed to get user: User ID is not logged in or lingering")
		return 1
	}
	return 0
}

func (f *fake) reload() {
	f.state.Loaded = map[string]string{}
	entries, _ := os.ReadDir(filepath.Dir(f.unitFile("x")))
	for _, e := range entries {
		if b, err := os.ReadFile(f.unitFile(e.Name())); err == nil && strings.HasSuffix(e.Name(), ".service") {
			f.state.Loaded[e.Name()] = string(b)
		}
	}
}

// alive is the unit's main process, 0 when it has ended.
func (f *fake) alive(unit string) int {
	pid := f.state.PID[unit]
	if p, err := host.Lookup(pid); pid == 0 || err != nil || p.Start != f.state.Start[unit] || p.Gone() {
		return 0
	}
	return pid
}

func (f *fake) show(args []string) int {
	if f.lies("hangs") {
		time.Sleep(time.Hour) // it is killed
	}
	if f.lies("answers-nonsense") {
		fmt.Println("who are you?")
		return 0
	}
	unit := args[len(args)-1]
	if strings.HasPrefix(unit, "--") {
		fmt.Println("Version=252")
		return 0
	}
	loaded, known := f.state.Loaded[unit]
	pid := f.alive(unit)
	p := map[string]string{"LoadState": "not-found", "ActiveState": "inactive", "SubState": "dead", "Result": "success", "NeedDaemonReload": "no",
		"MainPID": strconv.Itoa(pid), "NRestarts": "0", "ExecMainCode": "0", "ExecMainStatus": "0"}
	if known || f.lies("removed-unit-stays") {
		p["LoadState"], p["FragmentPath"], p["UnitFileState"] = "loaded", f.unitFile(unit), "disabled"
		if _, err := os.Readlink(f.wantedBy(unit)); err == nil {
			p["UnitFileState"] = "enabled"
		}
		if now, _ := os.ReadFile(f.unitFile(unit)); string(now) != loaded {
			p["NeedDaemonReload"] = "yes"
		}
	}
	if known && f.lies("another-file-is-loaded") {
		p["FragmentPath"] = "/etc/systemd/user/" + unit
	}
	if f.lies("masked") {
		p["LoadState"], p["UnitFileState"] = "masked", "masked"
	}
	if pid != 0 || f.lies("says-active") {
		p["ActiveState"], p["SubState"] = "active", "running"
	}
	if decoy, _ := os.ReadFile(f.path("decoy")); pid != 0 && f.lies("another-main-process") {
		p["MainPID"] = strings.TrimSpace(string(decoy))
	}
	for name, value := range p {
		fmt.Printf("%s=%s\n", name, value)
	}
	return 0
}

func (f *fake) start(unit string) int {
	content, known := f.state.Loaded[unit]
	if !known {
		fmt.Fprintf(os.Stderr, "Failed to start %s: Unit %s not found.\n", unit, unit)
		return 5
	}
	if f.alive(unit) != 0 || f.lies("start-does-nothing") {
		return 0
	}
	cmd := exec.Command("/bin/false")
	if !f.lies("program-fails") {
		words := unquoteWords(setting(content, "ExecStart")[0])
		cmd = exec.Command(words[0], words[1:]...)
	}
	socket := f.path(fmt.Sprintf("notify.%d", os.Getpid()))
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
	f.state.PID[unit] = cmd.Process.Pid
	f.state.Start[unit], _ = host.ProcessStartTime(cmd.Process.Pid)
	return 0
}

func (f *fake) stop(unit string) int {
	pid := f.alive(unit)
	if pid == 0 || f.lies("stop-does-nothing") {
		return 0
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return 0
	}
	_ = syscall.Kill(pid, syscall.SIGTERM)
	for range 10 {
		if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 1000); err == nil && n == 1 {
			f.state.PID[unit] = 0
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
