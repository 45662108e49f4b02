package agent

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLookup(t *testing.T) {
	tests := []struct {
		name string
		want Manifest
		argv []string // of a program with one argument
	}{
		{"console", Manifest{
			Name: "console", Title: "Creel console", Command: []string{"/opt/creel/creel", "agent", "console"},
			Port: 18789, HealthPath: "/health", WebSocketPath: "/ws", Preface: true,
		}, nil},
		{"command", Manifest{Name: "command", Title: "Your own command", Program: Required}, []string{"prog", "x"}},
		{"openclaw", Manifest{
			Name: "openclaw", Title: "OpenClaw", Command: []string{"/opt/creel/creel", "agent", "openclaw", "--"}, Program: Optional, Default: []string{"openclaw"},
			Install: []string{"npm install --global --prefix /usr/local openclaw"},
			Port:    18789, HealthPath: "/health", WebSocketPath: "/", Protocol: "openclaw",
		}, []string{"/opt/creel/creel", "agent", "openclaw", "--", "prog", "x"}},
	}
	for _, tt := range tests {
		got, err := Lookup(tt.name)
		if err != nil {
			t.Fatalf("Lookup(%q): %v", tt.name, err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("Lookup(%q) (-want +got):\n%s", tt.name, diff)
		}
		if tt.argv != nil {
			if diff := cmp.Diff(tt.argv, got.Argv([]string{"prog", "x"})); diff != "" {
				t.Errorf("%s: Argv (-want +got):\n%s", tt.name, diff)
			}
		}
	}
}

func TestLookupUnknown(t *testing.T) {
	for _, name := range []string{"", "Console", "hermes", "console "} {
		_, err := Lookup(name)
		var unknown *Unknown
		if !errors.As(err, &unknown) {
			t.Fatalf("Lookup(%q) = %v, want *Unknown", name, err)
		}
		for _, valid := range Names() {
			if !strings.Contains(err.Error(), valid) {
				t.Errorf("Lookup(%q): %q does not name %q", name, err, valid)
			}
		}
	}
}

func TestHowAgentsLearnOfAccess(t *testing.T) {
	console, _ := Lookup(Console)
	for _, tt := range []struct {
		name    string
		command []string
		told    bool
		preface bool
	}{
		{Console, console.Command, false, true},
		{Console, nil, false, true},
		{Console, []string{"sleep", "9"}, false, false},
		{OpenClaw, []string{InsideExecutable, "agent", "openclaw", "--", "openclaw"}, true, false},
		{Command, []string{"prog"}, false, false},
		{"hermes", nil, false, false},
	} {
		if told, preface := ToldAtStart(tt.name), ReadsPreface(tt.name, tt.command); told != tt.told || preface != tt.preface {
			t.Errorf("%s %q: told at start %t, reads a preface %t", tt.name, tt.command, told, preface)
		}
	}
}

// A caller that changes what it got must not change what the next one gets.
func TestManifestsAreCopies(t *testing.T) {
	first, _ := Lookup(Console)
	first.Command[0] = "/bin/false"
	second, _ := Lookup(Console)
	if second.Command[0] != InsideExecutable {
		t.Errorf("second Lookup sees the first caller's change: %q", second.Command[0])
	}
}

func TestProgram(t *testing.T) {
	openclaw, err := Lookup(OpenClaw)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		argv []string
		want string
	}{
		{Command, []string{"web", "--port", "1"}, "web"},
		{OpenClaw, openclaw.Argv(nil), "openclaw"},
		{OpenClaw, openclaw.Argv([]string{"/srv/node", "x"}), "/srv/node"},
		{Console, nil, InsideExecutable},
		{"of-another-build", nil, ""},
	} {
		if got := Program(c.name, c.argv); got != c.want {
			t.Errorf("Program(%s, %q) = %q, want %q", c.name, c.argv, got, c.want)
		}
	}
}
