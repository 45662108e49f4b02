package systemd

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"creel/internal/advisory"
	"creel/internal/health"
	"github.com/google/go-cmp/cmp"
)

func nothing(string) string { return "" }

// program makes a shell script the program of that name and returns how it is found.
func programs(t *testing.T, scripts map[string]string) func(string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	for name, body := range scripts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return func(name string) (string, error) {
		if _, ok := scripts[name]; !ok {
			return "", os.ErrNotExist
		}
		return filepath.Join(dir, name), nil
	}
}

func TestParseState(t *testing.T) {
	got, err := parseState(`Result=success
NRestarts=2
MainPID=4711
ExecMainCode=0
ExecMainStatus=0
StatusText=serves https://127.0.0.1:17670 = fine
LoadState=loaded
ActiveState=active
SubState=running
FragmentPath=/home/u/.config/systemd/user/x.service
DropInPaths=/a.conf /b.conf
UnitFileState=enabled
NeedDaemonReload=no
`)
	want := State{Load: "loaded", Active: "active", Sub: "running", Result: "success", File: "enabled", Path: "/home/u/.config/systemd/user/x.service",
		DropIns: []string{"/a.conf", "/b.conf"}, MainPID: 4711, Restarts: 2, Status: "serves https://127.0.0.1:17670 = fine"}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("%v\n%s", err, d)
	}
	for text, end := range map[string]string{
		"ExecMainCode=1\nExecMainStatus=127": "exited with code 127",
		"ExecMainCode=2\nExecMainStatus=9":   "killed by signal 9",
		"ExecMainCode=3\nExecMainStatus=6":   "killed by signal 6",
		"ExecMainCode=0\nExecMainStatus=0":   "its end is not known",
	} {
		s, err := parseState("LoadState=loaded\nActiveState=failed\n" + text)
		if err != nil || s.Ended.String() != end {
			t.Errorf("%q: %s, %v", text, s.Ended, err)
		}
	}
	for _, bad := range []string{"", "hello", "LoadState=loaded", "LoadState=loaded\nActiveState=active\nMainPID=many"} {
		if s, err := parseState(bad); err == nil {
			t.Errorf("%q is %+v", bad, s)
		}
	}
}

func TestQuote(t *testing.T) {
	for word, want := range map[string]string{
		"plain":       `"plain"`,
		"a b":         `"a b"`,
		`say "hi"\`:   `"say \"hi\"\\"`,
		"100%h":       `"100%%h"`,
		"$HOME":       `"$HOME"`,
		"line\nline":  `"line\x0aline"`,
		"größe":       `"größe"`,
		"":            `""`,
		"A=b;c #d'e'": `"A=b;c #d'e'"`,
	} {
		if got := Quote(word); got != want {
			t.Errorf("%q is %s, want %s", word, got, want)
		}
	}
	if got := QuoteArgument("a$b"); got != `"a$$b"` {
		t.Errorf("an argument is %s", got)
	}
}

// Neither a machine without systemd nor a manager that does not answer is taken for
// one that does.
func TestReach(t *testing.T) {
	booted := t.TempDir()
	for _, c := range []struct {
		name   string
		booted string
		look   func(string) (string, error)
		id     string
	}{
		{"not booted", booted + "/absent", programs(t, map[string]string{"systemctl": "echo Version=1"}), "service-no-systemd"},
		{"no systemctl", booted, programs(t, nil), "service-no-systemd"},
		{"no bus", booted, programs(t, map[string]string{"systemctl": "echo Failed to connect to bus: No medium found >&2; exit 1"}), "service-manager-unreachable"},
		{"nonsense", booted, programs(t, map[string]string{"systemctl": "echo hello"}), "service-manager-unreachable"},
		{"hangs", booted, programs(t, map[string]string{"systemctl": "exec sleep 60"}), "service-manager-unreachable"},
		{"good", booted, programs(t, map[string]string{"systemctl": "echo Version=252"}), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("CREEL_BUDGET_PROBE", "300ms")
			m := &Manager{Getenv: nothing, Booted: c.booted, Look: c.look}
			err := m.Reach(t.Context())
			p, explained := advisory.Of(err)
			switch {
			case c.id == "" && err != nil, c.id != "" && !explained:
				t.Errorf("Reach = %v", err)
			case explained && p.ID != c.id:
				t.Errorf("%s: %v, want %s", p.ID, err, c.id)
			}
		})
	}
}

// What the programs are given and how they are asked: the manager is found without
// a session, output is plain, and nothing else of the environment is theirs.
func TestCommandsAndEnvironment(t *testing.T) {
	look := programs(t, map[string]string{"systemctl": `echo "$*" >"$0.args"; env >"$0.env"; echo LoadState=not-found; echo ActiveState=inactive`})
	env := map[string]string{"PATH": os.Getenv("PATH"), "HOME": "/h", "OPENAI_API_KEY": "sk-canary", "XDG_RUNTIME_DIR": "/run/user/of-another-user"}
	m := &Manager{UID: 4242, Getenv: func(n string) string { return env[n] }, Look: look}
	if _, err := m.Show(t.Context(), "x.service"); err != nil {
		t.Fatal(err)
	}
	program, _ := look("systemctl")
	args, _ := os.ReadFile(program + ".args")
	if want := "--user --no-pager --no-ask-password show --property=" + strings.Join(unitProperties, ",") + " -- x.service\n"; string(args) != want {
		t.Errorf("asked with %s", args)
	}
	seen, _ := os.ReadFile(program + ".env")
	for _, want := range []string{"XDG_RUNTIME_DIR=/run/user/4242\n", "LC_ALL=C.UTF-8\n", "HOME=/h\n"} {
		if !strings.Contains(string(seen), want) {
			t.Errorf("the environment lacks %q:\n%s", want, seen)
		}
	}
	if strings.Contains(string(seen), "canary") {
		t.Errorf("the environment holds a secret:\n%s", seen)
	}
	m.System = true
	if _, err := m.Show(t.Context(), "x.service"); err != nil {
		t.Fatal(err)
	}
	args, _ = os.ReadFile(program + ".args")
	seen, _ = os.ReadFile(program + ".env")
	if !strings.HasPrefix(string(args), "--system ") || strings.Contains(string(seen), "XDG_RUNTIME_DIR") {
		t.Errorf("the system's manager was asked with %s\n%s", args, seen)
	}
}

func TestFailureIsToldAndRedacted(t *testing.T) {
	m := &Manager{Getenv: nothing, Look: programs(t, map[string]string{"systemctl": "printf 'Job failed.\\n  See api_key=sk-canary0123456789\\n' >&2; exit 4"})}
	err := m.Enable(t.Context(), "x.service")
	var f *Failure
	if !errors.As(err, &f) || f.Code != 4 || !strings.Contains(err.Error(), "enable -- x.service: Job failed. See ") {
		t.Errorf("Enable = %v", err)
	}
	if err != nil && strings.Contains(err.Error(), "canary") {
		t.Errorf("a secret is told: %v", err)
	}
}

// Three answers: on, positively off, and everything else.
func TestLinger(t *testing.T) {
	remembered := t.TempDir()
	if err := os.WriteFile(filepath.Join(remembered, "root"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const nobody = "echo Failed to get user: User ID 0 is not logged in or lingering >&2; exit 1"
	for _, c := range []struct {
		name, script, dir string
		want              health.Verdict
	}{
		{"on", "echo Linger=yes", t.TempDir(), health.OK},
		{"off", "echo Linger=no", t.TempDir(), health.Failed},
		{"not logged in", nobody, t.TempDir(), health.Failed},
		{"not logged in, and remembered", nobody, remembered, health.Unknown},
		{"no logind", "echo Failed to connect to bus >&2; exit 1", remembered, health.Unknown},
		{"nonsense", "echo Linger=perhaps", t.TempDir(), health.Unknown},
		{"nothing", "true", t.TempDir(), health.Unknown},
	} {
		m := &Manager{Getenv: nothing, LingerDir: c.dir, Look: programs(t, map[string]string{"loginctl": c.script})}
		if got, why := m.Linger(t.Context()); got != c.want || why == "" {
			t.Errorf("%s: %v (%s), want %v", c.name, got, why, c.want)
		}
	}
	m := &Manager{Getenv: nothing, LingerDir: t.TempDir(), Look: programs(t, nil)}
	if got, _ := m.Linger(t.Context()); got != health.Unknown {
		t.Errorf("without loginctl: %v", got)
	}
	m.System = true
	if got, _ := m.Linger(t.Context()); got != health.OK {
		t.Errorf("the system's manager: %v", got)
	}
	if got := (&Manager{}).LingerCommand(true); got != "sudo loginctl enable-linger root" {
		t.Errorf("command %q", got)
	}
}

// The manager's own word decides between what this environment names and what is
// usual; without it the environment does.
func TestUnitDir(t *testing.T) {
	run := t.TempDir()
	if err := os.MkdirAll(filepath.Join(run, "systemd", "private"), 0o700); err != nil {
		t.Fatal(err)
	}
	both := map[string]string{"HOME": "/h", "XDG_CONFIG_HOME": "/x", "XDG_RUNTIME_DIR": run}
	for name, c := range map[string]struct {
		env    map[string]string
		system bool
		says   string
		want   string
	}{
		"home":                 {map[string]string{"HOME": "/h"}, false, "", "/h/.config/systemd/user"},
		"relative":             {map[string]string{"HOME": "/h", "XDG_CONFIG_HOME": "relative"}, false, "", "/h/.config/systemd/user"},
		"root":                 {nil, true, "", "/etc/systemd/system"},
		"nowhere":              {nil, false, "", ""},
		"both, and both known": {both, false, "UnitPath=/etc/u /x/systemd/user /h/.config/systemd/user", "/x/systemd/user"},
		"only the usual known": {both, false, "UnitPath=/etc/u /h/.config/systemd/user", "/h/.config/systemd/user"},
		"none known":           {both, false, "UnitPath=/etc/u", "/x/systemd/user"},
		"no answer":            {both, false, "", "/x/systemd/user"},
	} {
		m := &Manager{System: c.system, UID: 4242, Getenv: func(n string) string { return c.env[n] }, Booted: run, Look: programs(t, map[string]string{"systemctl": "echo " + c.says})}
		if got, err := m.UnitDir(t.Context()); got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %q, %v, want %q", name, got, err, c.want)
		}
	}
}
