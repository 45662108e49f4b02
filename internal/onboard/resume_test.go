package onboard

import (
	"testing"

	"creel/internal/health"
	"creel/internal/layer"
	"creel/internal/onboard/ladder"
)

// rung is a layer of which only the name is asked.
type rung struct{ layer.Layer }

func (rung) ID() layer.ID    { return layer.Gateway }
func (rung) Subject() string { return "gateway" }

// A gateway that is only elsewhere than it is wanted is not called unhealthy, nor is one
// of which nothing is known.
func TestResumedSaysHowTheGatewayIs(t *testing.T) {
	worked := []ladder.Entry{{Kind: ladder.KindOutcome, OK: true, Subject: "gateway"}}
	for want, found := range map[string]health.Result{
		"[resume] Skipping gateway (running)":                      {Verdict: health.OK},
		"[resume] Recorded gateway is unhealthy; it hangs":         {Verdict: health.Failed, Reason: "gateway-hung", Message: "it hangs"},
		"[resume] Recorded gateway is not as wanted; on port 1":    {Verdict: health.Failed, Reason: layer.GatewayDiffers, Message: "on port 1"},
		"[resume] Recorded gateway could not be asked; who knows?": {Verdict: health.Unknown, Message: "who knows?"},
	} {
		if got := resumed(worked, []layer.Layer{rung{}}, []health.Result{found}); len(got) != 1 || got[0] != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
