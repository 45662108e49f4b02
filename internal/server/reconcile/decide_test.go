package reconcile

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"creel/internal/sandbox"
)

func TestDecide(t *testing.T) {
	alive := sandbox.Liveness{Known: true, Alive: true, PID: 7}
	dead := sandbox.Liveness{Known: true}
	unseen := sandbox.Liveness{Reason: "permission denied"}
	main := func(s sandbox.ProcessState) *sandbox.State {
		return &sandbox.State{Main: sandbox.MainProcess{State: s, LastExit: "exited with code 1"}}
	}
	for name, x := range map[string]struct {
		o     Observed
		act   Act
		phase sandbox.Phase
		says  string
	}{
		"new":                  {Observed{Wanted: sandbox.Running, Liveness: dead}, Start, sandbox.Provisioning, ""},
		"down":                 {Observed{Wanted: sandbox.Running, Liveness: dead, WasReady: true}, Start, sandbox.Starting, ""},
		"failed just now":      {Observed{Wanted: sandbox.Running, Liveness: dead, RetryIn: time.Second, LastError: "no room"}, Wait, sandbox.Error, "no room"},
		"not seen":             {Observed{Wanted: sandbox.Running, Liveness: unseen}, Wait, sandbox.UnknownPhase, "permission denied"},
		"not seen, unwanted":   {Observed{Wanted: sandbox.NotRunning, Liveness: unseen}, Wait, sandbox.UnknownPhase, ""},
		"not seen, deleted":    {Observed{Deleting: true, Liveness: unseen}, Destroy, sandbox.Deleting, ""},
		"not connected":        {Observed{Wanted: sandbox.Running, Liveness: alive}, Wait, sandbox.Provisioning, "connect"},
		"not connected long":   {Observed{Wanted: sandbox.Running, Liveness: alive, Unconnected: time.Hour, Report: main(sandbox.ProcRunning)}, Wait, sandbox.UnknownPhase, "pid 7"},
		"no report":            {Observed{Wanted: sandbox.Running, Liveness: alive, Connected: true}, Wait, sandbox.Provisioning, "report"},
		"main starts":          {Observed{Wanted: sandbox.Running, Liveness: alive, Connected: true, Report: main(sandbox.ProcStarting)}, Wait, sandbox.Provisioning, ""},
		"main runs":            {Observed{Wanted: sandbox.Running, Liveness: alive, Connected: true, Report: main(sandbox.ProcRunning)}, Wait, sandbox.Ready, ""},
		"main backs off":       {Observed{Wanted: sandbox.Running, Liveness: alive, Connected: true, Report: main(sandbox.ProcBackoff)}, Wait, sandbox.Error, "exited with code 1; it is started again"},
		"main ended":           {Observed{Wanted: sandbox.Running, Liveness: alive, Connected: true, Report: main(sandbox.ProcExited)}, Wait, sandbox.Error, "exited with code 1"},
		"main was stopped":     {Observed{Wanted: sandbox.Running, Liveness: alive, Connected: true, Report: main(sandbox.ProcStopped)}, Wait, sandbox.Provisioning, ""},
		"unwanted, alive":      {Observed{Wanted: sandbox.NotRunning, Liveness: alive, Connected: true}, Stop, sandbox.Stopping, ""},
		"unwanted, dead":       {Observed{Wanted: sandbox.NotRunning, Liveness: dead}, Wait, sandbox.Stopped, ""},
		"deleted, alive":       {Observed{Wanted: sandbox.Running, Deleting: true, Liveness: alive, Connected: true}, Destroy, sandbox.Deleting, ""},
		"outdated":             {Observed{Wanted: sandbox.Running, Liveness: alive, Connected: true, Outdated: true, Report: main(sandbox.ProcRunning)}, Stop, sandbox.Starting, "old dashboard token"},
		"outdated, not seen":   {Observed{Wanted: sandbox.Running, Liveness: unseen, Outdated: true}, Wait, sandbox.UnknownPhase, ""},
		"outdated and gone":    {Observed{Wanted: sandbox.Running, Liveness: dead, WasReady: true, Outdated: true}, Start, sandbox.Starting, ""},
		"seen last as running": {Observed{Wanted: sandbox.Running, Liveness: dead, Report: main(sandbox.ProcRunning)}, Start, sandbox.Provisioning, ""},
	} {
		d := Decide(x.o)
		if d.Act != x.act || d.Phase != x.phase || !strings.Contains(d.Message, x.says) || d.Again <= 0 {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

// What could not be seen is neither started nor stopped, and nothing but a
// deletion destroys.
func TestDecideProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := Observed{Wanted: rapid.SampledFrom([]sandbox.Wanted{sandbox.Running, sandbox.NotRunning, ""}).Draw(t, "wanted"),
			Deleting: rapid.Bool().Draw(t, "deleting"), WasReady: rapid.Bool().Draw(t, "was ready"), Outdated: rapid.Bool().Draw(t, "outdated"), Connected: rapid.Bool().Draw(t, "connected"),
			Liveness:    sandbox.Liveness{Known: rapid.Bool().Draw(t, "known"), Alive: rapid.Bool().Draw(t, "alive")},
			Unconnected: time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "unconnected")),
			RetryIn:     time.Duration(rapid.Int64Range(-int64(time.Minute), int64(time.Minute)).Draw(t, "retry"))}
		if rapid.Bool().Draw(t, "reported") {
			o.Report = &sandbox.State{Main: sandbox.MainProcess{State: sandbox.ProcessState(rapid.SampledFrom([]string{"starting", "running", "backoff", "exited", "stopped", "?"}).Draw(t, "main"))}}
		}
		d := Decide(o)
		if d.Again <= 0 {
			t.Fatalf("never looked at again: %+v", d)
		}
		if (d.Act == Destroy) != o.Deleting {
			t.Fatalf("destroys: %+v", d)
		}
		if !o.Liveness.Known && d.Act != Wait && d.Act != Destroy {
			t.Fatalf("acts on what it did not see: %+v", d)
		}
		if d.Phase == sandbox.Ready && !(o.Liveness.Alive && o.Connected && o.Wanted != sandbox.NotRunning) {
			t.Fatalf("ready without proof: %+v", d)
		}
		if d.Act == Start && o.Wanted == sandbox.NotRunning {
			t.Fatalf("starts what is not wanted: %+v", d)
		}
	})
}

func TestBackoff(t *testing.T) {
	want := []time.Duration{0, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 30 * time.Second, 30 * time.Second}
	for n, w := range want {
		if got := Backoff(n); got != w {
			t.Errorf("after %d failures: %s, want %s", n, got, w)
		}
	}
	if Backoff(1000) != 30*time.Second {
		t.Error("no upper limit")
	}
}
