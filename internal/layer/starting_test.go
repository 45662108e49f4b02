package layer

import (
	"context"
	"strings"
	"testing"
	"time"

	"creel/internal/gateway"
	"creel/internal/health"
	"creel/internal/sandbox"
)

// While an agent comes up, what is asked of it fails in one way after another. A
// command that succeeds in the end says in words what it waits for; one that does not
// says what was answered.
func TestStartingIsSaidInWords(t *testing.T) {
	for name, layerOf := range map[string]func(*Session, WantedSandbox, Probe) Layer{
		"await-agent":     func(s *Session, w WantedSandbox, _ Probe) Layer { return NewAgent(s, w) },
		"await-dashboard": NewDashboard,
	} {
		t.Run(name, func(t *testing.T) {
			w := want(t, sandbox.Spec{Dashboard: sandbox.Dashboard{TargetPort: 80, Bind: "127.0.0.1"}}, sandbox.Running)
			f := standing(w)
			box := f.boxes["claw"]
			box.State.Main.Since = time.Now()
			const raw = "open relay: dial tcp4 127.0.0.1:80: connect: connection refused"
			broken := health.Result{Verdict: health.Failed, Reason: "dashboard-unhealthy", Message: "http GET /: " + raw,
				Evidence: []health.Evidence{{Probe: "http GET /", Answer: raw, Verdict: health.Failed}}}
			box.Health = gateway.AgentHealth{Verdict: health.Failed, Message: raw}
			answer := broken
			probe := func(context.Context, gateway.Dashboard) health.Result { return answer }

			var said []string
			l := layerOf(NewSession(f), w, probe)
			err := l.Mend(t.Context(), Action{ID: name}, func(s string) {
				said = append(said, s)
				box.Health, answer = gateway.AgentHealth{Verdict: health.OK, Message: "200"}, health.Result{Verdict: health.OK}
			})
			if text := strings.Join(said, "\n"); err != nil || len(said) == 0 || strings.Contains(text, "tcp4") || !strings.Contains(text, "the agent ") {
				t.Errorf("%v, said %q", err, said)
			}

			t.Setenv("CREEL_BUDGET_AGENT_HEALTHY", "100ms")
			box.State.Main.Since = time.Now()
			box.Health = gateway.AgentHealth{Verdict: health.Failed, Message: raw}
			answer = broken
			if err := l.Mend(t.Context(), Action{ID: name}, func(string) {}); err == nil || !strings.Contains(err.Error(), raw) {
				t.Errorf("one that does not come up: %v", err)
			}
		})
	}
}
