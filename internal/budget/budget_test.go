package budget

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestOfTakesTheOverride(t *testing.T) {
	for _, c := range []struct {
		value string
		want  time.Duration
		ok    bool
	}{
		{"", 20 * time.Second, true},
		{"5s", 5 * time.Second, true},
		{"1m30s", 90 * time.Second, true},
		{"0s", 20 * time.Second, false},
		{"-1s", 20 * time.Second, false},
		{"5", 20 * time.Second, false},
		{"soon", 20 * time.Second, false},
	} {
		t.Run(c.value, func(t *testing.T) {
			t.Setenv("CREEL_BUDGET_GATEWAY_START", c.value)
			if got := Of(GatewayStart); got != c.want {
				t.Errorf("Of = %s, want %s", got, c.want)
			}
			err := Check()
			if (err == nil) != c.ok {
				t.Errorf("Check = %v", err)
			}
			if err != nil && !strings.Contains(err.Error(), "CREEL_BUDGET_GATEWAY_START") {
				t.Errorf("Check = %v, want the variable named", err)
			}
		})
	}
}

// Every budget has one row with a meaning, a positive default and a variable of
// its own.
func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for _, e := range Table() {
		if e.Default <= 0 || e.Meaning == "" || seen[e.Name.Variable()] {
			t.Errorf("row %+v", e)
		}
		seen[e.Name.Variable()] = true
		want := e.Default
		if e.Name == ContainerStart && runtime.GOARCH == "arm64" {
			want = 5 * time.Minute
		}
		if Of(e.Name) != want {
			t.Errorf("Of(%s) = %s, want %s", e.Name, Of(e.Name), want)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("an unknown name has a duration")
		}
	}()
	Of("no such budget")
}

func TestContextSaysWhatRanOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		ctx, cancel := Context(context.Background(), Probe, "ask the gateway")
		defer cancel()
		<-ctx.Done()
		if took := time.Since(begin); took != 3*time.Second {
			t.Errorf("ended after %s", took)
		}
		var expired *Expired
		if !errors.As(context.Cause(ctx), &expired) || expired.Budget != Probe || !expired.Timeout() {
			t.Fatalf("cause = %v", context.Cause(ctx))
		}
		if got, want := expired.Error(), `ask the gateway: not done within 3s (budget "probe")`; got != want {
			t.Errorf("error = %q, want %q", got, want)
		}
	})
}

// An outer end keeps its own cause.
func TestContextKeepsTheOuterCause(t *testing.T) {
	outer, cancel := context.WithCancelCause(context.Background())
	ctx, stop := Context(outer, Heavy, "work")
	defer stop()
	why := errors.New("interrupted")
	cancel(why)
	if got := context.Cause(ctx); !errors.Is(got, why) {
		t.Errorf("cause = %v, want %v", got, why)
	}
}

func TestConnectingHasAFloor(t *testing.T) {
	t.Setenv(TCP.Variable(), "1ms")
	if got := Of(TCP); got != 50*time.Millisecond {
		t.Errorf("Of(TCP) = %s", got)
	}
	t.Setenv(Probe.Variable(), "1ms")
	if got := Of(Probe); got != time.Millisecond {
		t.Errorf("Of(Probe) = %s: the floor is for connecting only", got)
	}
}

// Earlier tools say how often and how far apart; that is a limit here.
func TestPolls(t *testing.T) {
	every := 5 * time.Second
	if runtime.GOARCH == "arm64" {
		every = 10 * time.Second
	}
	for _, c := range []struct {
		count, interval, override string
		want                      time.Duration
		fault                     string
	}{
		{"3", "2", "", 6 * time.Second, ""},
		{"3", "", "", 3 * every, ""},
		{"", "1", "", Of(ContainerStart) / every * time.Second, ""},
		{"65535", "65535", "", 65535 * 65535 * time.Second, ""},
		{"3", "2", "9s", 9 * time.Second, ""},
		{"0", "2", "", Of(ContainerStart), "NEMOCLAW_HEALTH_POLL_COUNT"},
		{"-1", "2", "", Of(ContainerStart), "NEMOCLAW_HEALTH_POLL_COUNT"},
		{"many", "", "", Of(ContainerStart), "NEMOCLAW_HEALTH_POLL_COUNT"},
		{"3", "5s", "", Of(ContainerStart), "NEMOCLAW_HEALTH_POLL_INTERVAL"},
		{"3", "1.5", "", Of(ContainerStart), "NEMOCLAW_HEALTH_POLL_INTERVAL"},
		{"65536", "", "", Of(ContainerStart), "NEMOCLAW_HEALTH_POLL_COUNT"},
	} {
		t.Run(c.count+"x"+c.interval, func(t *testing.T) {
			t.Setenv("NEMOCLAW_HEALTH_POLL_COUNT", c.count)
			t.Setenv("NEMOCLAW_HEALTH_POLL_INTERVAL", c.interval)
			t.Setenv(ContainerStart.Variable(), c.override)
			if got := Of(ContainerStart); got != c.want {
				t.Errorf("Of = %s, want %s", got, c.want)
			}
			err := Check()
			if (err != nil) != (c.fault != "") || err != nil && !strings.Contains(err.Error(), c.fault) {
				t.Errorf("Check = %v, want %q named", err, c.fault)
			}
			if got := Of(ContainerSettle); got != 30*time.Second {
				t.Errorf("another budget became %s", got)
			}
		})
	}
}
