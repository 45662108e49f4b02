package layer

import (
	"strings"
	"testing"

	"creel/internal/gateway"
	"creel/internal/health"
	"creel/internal/sandbox"
)

// What a gateway that is not Creel's does not tell is neither held against a
// sandbox nor made up: it is a caveat.
func TestPartlyKnownSandbox(t *testing.T) {
	want, err := NewWantedSandbox("box", sandbox.Spec{Agent: "command", Command: []string{"x"}, PolicyHash: "abc"}, sandbox.Running)
	if err != nil {
		t.Fatal(err)
	}
	l := &sandboxLayer{want: want}
	in := gateway.Inspection{Name: "box", Partial: true, Phase: sandbox.Ready, Wanted: sandbox.Running, Connected: true, Labels: want.Spec.Labels}
	r := l.judge(in)
	if r.Verdict != health.OK || len(r.Caveats) != 1 || r.Caveats[0].Advisory != "sandbox-partly-known" {
		t.Errorf("%+v", r)
	}
	if r := judgePartly(in); r.Verdict != health.OK {
		t.Errorf("agent: %+v", r)
	}
	in.Labels = nil // it keeps none: what cannot be compared does not differ
	if r := l.judge(in); r.Verdict != health.OK {
		t.Errorf("without labels: %+v", r)
	}
	in.Labels = map[string]string{SpecLabel: "another"}
	if r := l.judge(in); r.Reason != "sandbox-differs" {
		t.Errorf("of another specification: %+v", r)
	}
	for _, phase := range []sandbox.Phase{sandbox.Error, sandbox.Provisioning} {
		in.Labels, in.Phase, in.Connected, in.Message = nil, phase, false, "why it is so"
		if r := l.judge(in); r.Verdict != health.Failed || !strings.Contains(r.Message, "why it is so") {
			t.Errorf("%s: %+v", phase, r)
		}
		if r := judgePartly(in); r.Verdict != health.Failed || !strings.Contains(r.Message, "why it is so") {
			t.Errorf("agent in %s: %+v", phase, r)
		}
	}
}
