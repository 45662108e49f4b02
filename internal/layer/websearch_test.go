package layer

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"creel/internal/agent/websearch"
	"creel/internal/gateway"
	"creel/internal/health"
	"creel/internal/sandbox"
)

// Whatever the agent's configuration says of its web search, the agent is well.
func TestWebSearch(t *testing.T) {
	says := func(text string) func(gateway.Exec) (int, error) {
		return func(e gateway.Exec) (int, error) {
			_, err := io.WriteString(e.Stdout, text)
			return 0, err
		}
	}
	for _, c := range []struct {
		name    string
		agent   string
		command []string
		exec    func(gateway.Exec) (int, error)
		verdict health.Verdict
		says    string
	}{
		{"enabled", "openclaw", nil, says(`{"tools":{"web":{"search":{"enabled":true,"provider":"brave"}}}}`), health.OK, "provider brave"},
		{"not enabled", "openclaw", nil, says(`{"tools":{"web":{"search":{"enabled":false}}}}`), health.Failed, "not enabled"},
		{"not configured", "openclaw", nil, says(`{}`), health.OK, "no tools.web.search"},
		{"no such file", "openclaw", nil, func(e gateway.Exec) (int, error) {
			fmt.Fprintln(e.Stderr, "cat: openclaw.json: No such file or directory")
			return 1, nil
		}, health.Unknown, "No such file"},
		{"no word", "openclaw", nil, func(gateway.Exec) (int, error) { return 3, nil }, health.Unknown, "code 3"},
		{"no exec", "openclaw", nil, func(gateway.Exec) (int, error) { return 0, errors.New("relay is gone") }, health.Unknown, "relay is gone"},
		{"flood", "openclaw", nil, func(e gateway.Exec) (int, error) {
			for range 300 {
				if _, err := io.WriteString(e.Stdout, strings.Repeat("x", 64<<10)); err != nil {
					return 0, err
				}
			}
			return 0, nil
		}, health.Unknown, "larger"},
		{"by the program's name", "command", []string{"/opt/hermes/bin/hermes", "gateway"}, says("web:\n  backend: tavily\n"), health.OK, "tavily"},
	} {
		t.Run(c.name, func(t *testing.T) {
			spec := sandbox.Spec{Agent: c.agent, Command: c.command}
			w := want(t, spec, sandbox.Running)
			f := standing(w)
			f.boxes["claw"].ID, f.boxes["claw"].Health = "id-1", gateway.AgentHealth{Verdict: health.OK, Message: "200"}
			var asked gateway.Exec
			f.exec = func(e gateway.Exec) (int, error) { asked = e; return c.exec(e) }
			r := NewAgent(NewSession(f), w, WebSearch(spec)).Inspect(t.Context())
			if r.Verdict != health.OK || len(r.Caveats) > 0 {
				t.Errorf("the agent is %v with %v", r.Verdict, r.Caveats)
			}
			e := r.Evidence[len(r.Evidence)-1]
			if e.Verdict != c.verdict || !strings.Contains(e.Answer, c.says) {
				t.Errorf("evidence %+v; want %v, saying %q", e, c.verdict, c.says)
			}
			name := c.agent
			if c.command != nil {
				name = "hermes"
			}
			if file, _ := websearch.Path(name); asked.SandboxID != "id-1" || !slices.Contains(asked.Command, file) {
				t.Errorf("asked %+v", asked)
			}
		})
	}
	if WebSearch(sandbox.Spec{Agent: "console", Command: []string{"/opt/creel/creel"}}) != nil {
		t.Error("the console has no web search")
	}
}

// An agent that is not well is not asked for more.
func TestWebSearchOfAnAgentThatEnded(t *testing.T) {
	spec := sandbox.Spec{Agent: "openclaw"}
	w := want(t, spec, sandbox.Running)
	f := standing(w)
	f.boxes["claw"].State.Main.State = sandbox.ProcExited
	f.exec = func(gateway.Exec) (int, error) { t.Error("asked"); return 0, nil }
	if r := NewAgent(NewSession(f), w, WebSearch(spec)).Inspect(t.Context()); r.Verdict != health.Failed {
		t.Errorf("verdict %v", r.Verdict)
	}
}
