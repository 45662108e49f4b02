package cli

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"creel/internal/advisory"
	"creel/internal/desired"
	"creel/internal/gateway"
)

func TestParseForward(t *testing.T) {
	for text, want := range map[string]forwardWish{
		"":                    {},
		"8080":                {port: 8080},
		"8080:3000":           {port: 8080, target: 3000},
		":3000":               {target: 3000},
		"0:3000":              {target: 3000},
		"0.0.0.0:8080":        {bind: "0.0.0.0", port: 8080},
		"127.0.0.1:8080":      {bind: "127.0.0.1", port: 8080},
		"localhost:8080:3000": {bind: "127.0.0.1", port: 8080, target: 3000},
		"0.0.0.0::3000":       {bind: "0.0.0.0", target: 3000},
		"0.0.0.0:0:3000":      {bind: "0.0.0.0", target: 3000},
	} {
		if got, err := parseForward(text); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"0", "65536", "-1", "+1", "x", ":", "::", "1:", "1:0", "1:+2", "1:2:3", "0.0.0.0:", "0.0.0.0:0", "10.0.0.1:1",
		"[::]:1", "::1:80", "*:80", "0.0.0.0", "1:2:3:4", " 80", "0.0.0.0:1:2:3", "host:80", ":80:90", "8080/tcp"} {
		got, err := parseForward(text)
		if p, ok := advisory.Of(err); !ok || p.ID != "forward-invalid" {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

func FuzzParseForward(f *testing.F) {
	for _, text := range []string{"8080", ":1", "0.0.0.0:1:2", "[::]:1", "0:0", "1:2:3"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		w, err := parseForward(text)
		if err != nil || text == "" {
			return
		}
		s, at, err := w.on(desired.Sandbox{Name: "claw", Agent: "command", Command: []string{"x"}}, gateway.Forward{})
		if err != nil || len(s.Forwards) != 1 || at.target == 0 {
			t.Fatalf("%q: %+v, %+v, %v", text, w, s.Forwards, err)
		}
		if err := s.Validate(); err == nil && s.Forwards[0].Target() != at.target {
			t.Fatalf("%q leads to %d, not %d", text, s.Forwards[0].Target(), at.target)
		}
		again, _, err := w.on(s, gateway.Forward{})
		if err != nil || !cmp.Equal(again.Forwards, s.Forwards) {
			t.Fatalf("%q twice: %+v, %v", text, again.Forwards, err)
		}
	})
}

func TestSandboxAndPort(t *testing.T) {
	for _, c := range []struct {
		args       []string
		name, port string
		ok         bool
	}{
		{nil, "", "", true},
		{[]string{"claw"}, "claw", "", true},
		{[]string{"8080"}, "", "8080", true},
		{[]string{"claw", "8080"}, "claw", "8080", true},
		{[]string{"0.0.0.0:8080", "claw"}, "claw", "0.0.0.0:8080", true},
		{[]string{"localhost:80", "claw"}, "claw", "localhost:80", true},
		{[]string{":80"}, "", ":80", true},
		{[]string{"claw", "other"}, "", "", false},
		{[]string{"80", "81"}, "", "", false},
		{[]string{"", "81"}, "", "", false},
	} {
		name, port, err := sandboxAndPort(c.args)
		if name != c.name || port != c.port || (err == nil) != c.ok {
			t.Errorf("%q: %q %q %v", c.args, name, port, err)
		}
	}
}

// Which listener is meant, and what is recorded then.
func TestForwardWishOn(t *testing.T) {
	console := desired.Sandbox{Name: "claw", Agent: "console"}
	pinned := console
	pinned.Dashboard = desired.Dashboard{Port: 5000, Bind: "0.0.0.0", Stopped: true}
	some := console
	some.Forwards = []desired.Forward{{Port: 8080, TargetPort: 3000}, {TargetPort: 4000}}
	job := desired.Sandbox{Name: "job", Agent: "command", Command: []string{"make"}}
	const at = 18790 // where the dashboard of claw listens
	for _, c := range []struct {
		text      string
		s         desired.Sandbox
		dashboard *desired.Dashboard // nil: it stays, and forwards is what they become
		forwards  []desired.Forward
	}{
		{"", console, &desired.Dashboard{}, nil},
		{"", pinned, &desired.Dashboard{Port: 5000, Bind: "0.0.0.0"}, nil},
		{"18790", console, &desired.Dashboard{Port: at}, nil},
		{"0.0.0.0:18790", console, &desired.Dashboard{Port: at, Bind: "0.0.0.0"}, nil},
		{"18789", console, &desired.Dashboard{Port: 18789}, nil}, // its port inside
		{"9000:18789", console, &desired.Dashboard{Port: 9000}, nil},
		{":18789", pinned, &desired.Dashboard{}, nil},
		{"127.0.0.1:5000", pinned, &desired.Dashboard{Port: 5000, Bind: "127.0.0.1"}, nil}, // also where a public URL would widen it
		{"18790:80", console, nil, []desired.Forward{{Port: at, TargetPort: 80}}},          // something else inside
		{"8080", console, nil, []desired.Forward{{Port: 8080}}},
		{"0.0.0.0:8080:3000", some, nil, []desired.Forward{{Port: 8080, Bind: "0.0.0.0", TargetPort: 3000}, {TargetPort: 4000}}},
		{"0.0.0.0::4000", some, nil, []desired.Forward{{Port: 8080, TargetPort: 3000}, {TargetPort: 4000, Bind: "0.0.0.0"}}},
		{"4000", some, nil, []desired.Forward{{Port: 8080, TargetPort: 3000}, {TargetPort: 4000}, {Port: 4000}}},
		{"18789", job, nil, []desired.Forward{{Port: 18789}}},
	} {
		w, err := parseForward(c.text)
		if err != nil {
			t.Fatal(err)
		}
		listener := gateway.Forward{Port: at, TargetPort: 18789}
		if c.s.Name == "job" {
			listener = gateway.Forward{}
		}
		got, which, err := w.on(c.s, listener)
		want := c.s
		if c.dashboard != nil {
			want.Dashboard = *c.dashboard
		} else {
			want.Forwards = c.forwards
		}
		if d := cmp.Diff(want, got); err != nil || d != "" || which.dashboard != (c.dashboard != nil) {
			t.Errorf("%q on %+v: %v %+v\n%s", c.text, c.s, err, which, d)
		}
	}
	for _, w := range []forwardWish{{port: 8080, target: 5}, {port: 8080}} {
		got, _, err := w.on(some, gateway.Forward{})
		if p, ok := advisory.Of(err); !ok || p.ID != "forward-port-used" || !cmp.Equal(got.Forwards, some.Forwards) {
			t.Errorf("port 8080 leads to 3000, and %+v made it %+v, %v", w, got.Forwards, err)
		}
	}
	if _, _, err := (forwardWish{}).on(job, gateway.Forward{}); err == nil {
		t.Error("nothing at all of a sandbox without a dashboard was understood")
	}
}
