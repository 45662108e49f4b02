package kube

import (
	"encoding/json"
	"strings"
	"testing"

	"creel/internal/gateway/kube/rollout"
	"creel/internal/printable"
)

// Whoever may make pods in the gateway's namespace words these, and who reads them has
// a terminal.
func TestTidy(t *testing.T) {
	const evil = "x\x1b]0;title\x07\n\u009b2Jy"
	state := func() (s rollout.State) {
		if err := json.Unmarshal([]byte(`{"waiting":{},"terminated":{}}`), &s); err != nil {
			t.Fatal(err)
		}
		s.Waiting.Reason, s.Waiting.Message, s.Terminated.Reason, s.Terminated.Message = evil, evil, evil, evil
		return s
	}
	container := func() rollout.Container {
		return rollout.Container{Image: evil, State: state(), LastState: state()}
	}
	spec := rollout.ContainerSpec{Image: evil}
	var p rollout.Pod
	p.Status.Message, p.Status.Reason = evil, evil
	p.Status.Conditions = []rollout.Condition{{Message: evil}}
	p.Status.InitContainerStatuses, p.Status.ContainerStatuses = []rollout.Container{container()}, []rollout.Container{container()}
	p.Spec.InitContainers, p.Spec.Containers = []rollout.ContainerSpec{spec}, []rollout.ContainerSpec{spec}
	tidy(&p)
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if s := string(text); strings.Contains(s, `\u001b`) || strings.Contains(s, `\n`) || strings.ContainsFunc(s, printable.Control) || !strings.Contains(s, "2Jy") {
		t.Errorf("%s", s)
	}
}
