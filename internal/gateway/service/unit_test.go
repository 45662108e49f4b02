package service

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"creel/internal/state"
	"creel/internal/systemd"
	"creel/test/require"
)

var update = flag.Bool("update", false, "write the expected files anew")

func gatewayIn(root, name string) state.Gateway {
	return state.Roots{Config: root + "/config", State: root + "/state", Run: root + "/run"}.Gateway(name)
}

func manager(system bool) *systemd.Manager {
	return &systemd.Manager{System: system, UID: 4242, Getenv: func(string) string { return "" }}
}

// The whole unit, as an ordinary user's and as root's: what changes in it changes
// how every gateway is kept, and is looked at.
func TestUnitText(t *testing.T) {
	for name, system := range map[string]bool{"user": false, "system": true} {
		g := gatewayIn("/home/ada/.local", "creel")
		got := Text(g, manager(system), "/home/ada/.local/state/gateways/creel/creel", []string{"HOME=/home/ada", "CREEL_BUDGET_GATEWAY_STOP=5s"})
		golden := filepath.Join("testdata", name+".service")
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), got); d != "" {
			t.Errorf("%s (go test ./internal/gateway/service -run TestUnitText -update):\n%s", golden, d)
		}
	}
}

// systemd itself finds nothing to say about it, also with names that mean something
// to its syntax.
func TestUnitIsValid(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	require.Feature(t, "systemd-analyze", err == nil, "apt-get install systemd")
	for _, name := range []string{"plain", "odd %h $HOME; #"} {
		for manages, system := range map[string]bool{"--user": false, "--system": true} {
			dir := filepath.Join(t.TempDir(), name)
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			program := filepath.Join(dir, "creel")
			if err := os.Symlink("/bin/true", program); err != nil {
				t.Fatal(err)
			}
			g := gatewayIn(dir, "g-1")
			unit := filepath.Join(t.TempDir(), UnitName(g.Name))
			if err := os.WriteFile(unit, []byte(Text(g, manager(system), program, []string{"CREEL_HOME=" + dir})), 0o644); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), analyze, manages, "--man=no", "verify", unit)
			cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+t.TempDir(), "HOME="+dir, "SYSTEMD_COLORS=0")
			out, err := cmd.CombinedOutput()
			// It also looks at units of the machine that are none of ours.
			var about []string
			for line := range strings.Lines(string(out)) {
				if strings.Contains(line, UnitName(g.Name)) {
					about = append(about, line)
				}
			}
			if len(about) > 0 {
				t.Errorf("%s %s: %v\n%s", manages, name, err, about)
			}
			// The check can find something.
			if err := os.WriteFile(unit, []byte("[Service]\nType=notify\nExecStart="+program+"\nNoSuchSetting=1\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			cmd = exec.CommandContext(t.Context(), analyze, manages, "--man=no", "verify", unit)
			cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+t.TempDir(), "HOME="+dir)
			if out, _ := cmd.CombinedOutput(); !strings.Contains(string(out), "NoSuchSetting") {
				t.Errorf("systemd-analyze does not look at the unit: %s", out)
			}
		}
	}
}

// Whose a unit is, by its text alone.
func TestJudgeText(t *testing.T) {
	g := gatewayIn("/home/ada/.local", "creel")
	text := Text(g, manager(false), "/p", []string{"HOME=/home/ada"})
	for name, c := range map[string]struct {
		text string
		want origin
	}{
		"as written":                   {text, ours},
		"of an earlier Creel":          {seal(header(g) + "\n[Service]\nExecStart=/old\n"), ours},
		"a setting changed":            {strings.Replace(text, "RestartSec=1s", "RestartSec=2s", 1), edited},
		"a line added at the end":      {text + "MemoryMax=1G\n", edited},
		"a line added before the hash": {strings.Replace(text, "\n# sha256:", "\nMemoryMax=1G\n# sha256:", 1), edited},
		"hash removed":                 {text[:strings.LastIndex(text, "# sha256:")], edited},
		"cut short":                    {text[:len(text)/2], edited},
		"first line removed":           {strings.SplitAfterN(text, "\n", 2)[1], foreign},
		"another state":                {Text(gatewayIn("/srv", "creel"), manager(false), "/p", nil), another},
		"another gateway":              {Text(gatewayIn("/home/ada/.local", "other"), manager(false), "/p", nil), another},
		"somebody's":                   {"[Service]\nExecStart=/bin/true\n", foreign},
		"empty":                        {"", foreign},
	} {
		if got := judgeText(c.text, g); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}
