package classify

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// dead is what `openshell status` printed for a gateway whose process had crashed
// at once, and what onboarding called healthy (NemoClaw #3111): the heading is
// always there.
const dead = `Server Status
  Gateway: nemoclaw
  Server: http://127.0.0.1:8080
Error:   × client error (Connect)
  ├─▶ tcp connect error
  ╰─▶ Connection refused (os error 111)
`

const (
	ours      = "nemoclaw"
	connected = "Server Status\n\n  Gateway: nemoclaw\n  Server: https://127.0.0.1:8080\n  Status: Connected\n  Version: 0.0.80\n"
	other     = "Server Status\n  Gateway: other-gw\n  Status: Connected\n"
	named     = "Gateway Info\n\n  Gateway: nemoclaw\n  Gateway endpoint: https://127.0.0.1:8080\n"
	unnamed   = "Gateway Info\n  Gateway endpoint: https://127.0.0.1:8080\n"
	active    = named
)

// The table of what is reused, and the cases between its rows.
func TestJudge(t *testing.T) {
	for _, c := range []struct {
		name string
		in   Outputs
		want Reuse
	}{
		{"connected and ours", Outputs{connected, named, active}, Healthy},
		{"no status, ours known and active", Outputs{"", named, active}, Healthy},
		{"the dead gateway's text", Outputs{dead, named, active}, Stale},
		{"connected to another", Outputs{other, "", ""}, ForeignActive},
		{"ours known, nothing else", Outputs{"", named, ""}, Stale},
		{"an endpoint without a name", Outputs{"", "", unnamed}, ActiveUnnamed},
		{"nothing", Outputs{}, Missing},
		{"unexpected output", Outputs{"some unexpected output", named, active}, Stale},
		{"disconnected", Outputs{"Disconnected", named, active}, Stale},

		{"connected and ours, no metadata", Outputs{connected, "", ""}, ActiveUnnamed},
		{"connected and ours, metadata denied", Outputs{connected, "Gateway: nemoclaw\nNo gateway metadata found", ""}, ActiveUnnamed},
		{"another is active and silent", Outputs{"", "", strings.ReplaceAll(active, ours, "other-gw")}, ForeignActive},
		{"another is active, ours is known", Outputs{"", named, strings.ReplaceAll(active, ours, "other-gw")}, ForeignActive},
		{"connected to another, ours is known", Outputs{other, named, active}, ForeignActive},
		{"another is dead", Outputs{strings.ReplaceAll(dead, ours, "other-gw"), named, ""}, Stale},
		{"a name that begins like ours", Outputs{strings.ReplaceAll(connected, ours, ours+"-2"), named, active}, ForeignActive},
		{"only blanks and colours", Outputs{" \x1b[0m\r\n", named, active}, Healthy},
		{"no active gateway", Outputs{"Server Status\n  No active gateway\n", "", ""}, Missing},
		{"in colours", Outputs{"\x1b[1mServer Status\x1b[0m\n  \x1b[2mGateway:\x1b[0m \x1b[36mnemoclaw\x1b[39m\n  \x1b[32mConnected\x1b[m\n", named, active}, Healthy},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.in.Judge(ours); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

func TestConnected(t *testing.T) {
	for text, want := range map[string]bool{
		connected: true, "Connected": true, "Server Status": true, "Server Status\nErrors seen: 0": true,
		"": false, "Disconnected": false, "connected": false, dead: false,
		"Connected\nError: x":          false,
		"Connected\ntransport error":   false,
		"Connected\nCLIENT ERROR":      false,
		"Connected\nTransport Error":   false,
		"Connected\nConnection reset":  false,
		"Connected\nNo active gateway": false,
		// A sequence inside the word does not hide it.
		"Server Status\nConn\x1b[31mection refused": false,
		"Server Status\nEr\x1b]8;;x\x07ror:":        false,
	} {
		if got := Connected(text); got != want {
			t.Errorf("Connected(%q) = %v", text, got)
		}
	}
}

func TestReportedName(t *testing.T) {
	for text, want := range map[string]string{
		connected: ours, dead: ours, named: ours, unnamed: "", "": "",
		"Gateway:\n  other":           "", // the name is on the same line or nowhere
		"Active Gateway: x":           "",
		"Gateway: a\nGateway: b":      "a",
		"\x1b[1mGateway:\x1b[0m  z\r": "z",
	} {
		if got := ReportedName(text); got != want {
			t.Errorf("ReportedName(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestTextHealthy(t *testing.T) {
	if !(Outputs{Status: connected}).TextHealthy(ours) {
		t.Error("connected and ours is not healthy by its text")
	}
	if (Outputs{Status: connected}).TextHealthy("") {
		t.Error("no gateway is healthy")
	}
	if (Outputs{Status: "", Named: named, Active: unnamed}).TextHealthy(ours) {
		t.Error("an active endpoint of nobody's is ours")
	}
}

func TestPlain(t *testing.T) {
	for text, want := range map[string]string{
		"a\x1b[31mb\x1b[0mc":                        "abc",
		"a\x1b[1;38;5;12mb":                         "ab",
		"\x1b]8;;https://x\x1b\\link\x1b]8;;\x1b\\": "link",
		"\x1b]0;title\x07text":                      "text",
		"\x1b(Bx\x1b=y\x1bM":                        "xy",
		"\u009b31mred":                              "red",
		"one\r\ntwo":                                "one\ntwo",
		"an [31m that is none":                      "an [31m that is none",
	} {
		if got := Plain(text); got != want {
			t.Errorf("Plain(%q) = %q, want %q", text, got, want)
		}
	}
}

const list = `NAME        NAMESPACE   CREATED      PHASE
claw-2      openshell   1 hour ago   NotReady
claw        openshell   2 days ago   Ready
claw        openshell   3 days ago   Error
Ready       openshell   3 days ago   Provisioning
run         openshell   3 days ago   Running
both        openshell   Ready        NotReady
broken      openshell   3 days ago   CrashLoopBackOff
pull        openshell   3 days ago   ` + "\x1b[31mImagePullBackOff\x1b[0m\n"

func TestSandboxRows(t *testing.T) {
	for _, c := range []struct {
		name, phase string
		ready       bool
	}{
		{"claw", "", true}, // its first row
		{"claw-2", "", false},
		{"cla", "", false},
		{"Ready", "", false},
		{"run", "", true},
		{"both", "", false},
		{"broken", "CrashLoopBackOff", false},
		{"pull", "ImagePullBackOff", false},
		{"", "", false},
	} {
		if got := Ready(list, c.name); got != c.ready {
			t.Errorf("%q is ready: %v", c.name, got)
		}
		if got := TerminalPhase(list, c.name); got != c.phase {
			t.Errorf("%q is in terminal phase %q, want %q", c.name, got, c.phase)
		}
	}
	for _, phase := range []string{"Error", "Failed", "CrashLoopBackOff", "ImagePullBackOff", "Evicted"} {
		if got := TerminalPhase("x "+phase, "x"); got != phase {
			t.Errorf("%s ends no wait", phase)
		}
	}
	if got := TerminalPhase("Error Ready", "Error"); got != "" {
		t.Errorf("a sandbox called Error is in phase %q", got)
	}
}

// Whatever is printed, text with a refusal in it is never healthy, and no text
// makes another gateway ours.
func FuzzJudge(f *testing.F) {
	f.Add(connected, named, active)
	f.Add(dead, named, active)
	f.Add(other, "", unnamed)
	f.Add("\x1b[", "\x1b]8;;", "\x1b")
	f.Fuzz(func(t *testing.T, status, named, active string) {
		o := Outputs{status, named, active}
		got := o.Judge(ours)
		if got == Healthy && (o.ActiveName() != ours || !NamedKnown(named, ours)) {
			t.Errorf("%+v is healthy and not ours", o)
		}
		o.Status += "\nConnection refused"
		if got := o.Judge(ours); got == Healthy {
			t.Errorf("%+v is healthy", o)
		}
		if got := (Outputs{}).Judge(ours); got != Missing {
			t.Error("a judgement is remembered")
		}
		if utf8.ValidString(status) && !strings.ContainsAny(status, "\x1b\r\u009b") && Plain(status) != status {
			t.Errorf("Plain changed %q", status)
		}
	})
}

func FuzzRow(f *testing.F) {
	f.Add(list, "claw")
	f.Fuzz(func(t *testing.T, list, name string) {
		row := Row(list, name)
		if row != nil && row[0] != name {
			t.Errorf("row %q is not of %q", row, name)
		}
		if row == nil && (Ready(list, name) || TerminalPhase(list, name) != "") {
			t.Errorf("%q has no row, and a phase", name)
		}
	})
}
