package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"creel/internal/host"
)

// testHealthHonest is the suite gateway-health-honest: a gateway program that
// misbehaves in each way that one has been seen or thought of to. None is ever
// called healthy; each failure is named, bounded, and leaves no process; and each
// mode proves that it was reached.
func testHealthHonest(t *testing.T) {
	t.Run("start", testHonestStart)
	t.Run("status", testHonestStatus)
	t.Run("lifecycle", testOpenShellLifecycle)
	t.Run("identity", testHonestIdentity)
}

func testHonestStart(t *testing.T) {
	for _, c := range []struct {
		mode, advisory string
		says           []string
		reached        string
	}{
		{"glibc", "gateway-glibc", []string{"exited with code 127 before becoming ready", "needs GLIBC 2.38, 2.39", "GLIBC_2.38"}, "started glibc"},
		{"killed", "gateway-start-failed", []string{"killed by signal 9 (killed) before becoming ready"}, "started killed"},
		{"docker", "gateway-docker-unreachable", []string{"exited with code 1", "Cannot connect to the Docker daemon"}, "started docker"},
		{"exits-after-binding", "gateway-start-failed", []string{"exited with code 3", "listening, and leaving"}, "bound exits-after-binding"},
		{"floods", "gateway-start-failed", []string{"exited with code 5", "noise"}, "flooded"},
		{"never-binds", "gateway-start-timeout", []string{"nothing answers", "asked:"}, "started never-binds"},
		{"never-answers", "gateway-start-timeout", []string{"accepts connections and never answers"}, "accepted"},
		{"accepts-and-closes", "gateway-start-timeout", []string{"TLS did not come about"}, "accepted"},
		{"http-404", "gateway-start-timeout", []string{"does not speak TLS"}, "accepted"},
		{"foreign-certificate", "gateway-start-timeout", []string{"our CA did not sign"}, "bound foreign-certificate"},
		{"unhealthy", "gateway-start-timeout", []string{"SERVICE_STATUS_UNHEALTHY", "identity: not asked"}, "health unhealthy"},
		{"fork-keeps-port", "gateway-start-failed", []string{"exited with code 6"}, "forked child="},
	} {
		t.Run(c.mode, func(t *testing.T) {
			h := newGatewayHome(t, "gateway: {port: "+strconv.Itoa(freePort(t))+"}\n", "mode="+c.mode)
			r := h.run("gateway", "start")
			all := r.stdout + r.stderr
			if r.code != 1 {
				t.Errorf("exit %d, want 1", r.code)
			}
			if r.took > 10*time.Second {
				t.Errorf("it took %s", r.took)
			}
			for _, said := range append(c.says, "gateway failed to start", c.advisory) {
				if !strings.Contains(all, said) {
					t.Errorf("it does not say %q:\n%s", said, all)
				}
			}
			for _, said := range []string{"healthy\n", "gateway runs at", "✓", "gateway creel answers", "sk-canary-of-the-log"} {
				if strings.Contains(all, said) {
					t.Errorf("it says %q:\n%s", said, all)
				}
			}
			if !strings.Contains(h.reached(), c.reached) {
				t.Errorf("the mode was not reached:\n%s", h.reached())
			}
			h.noGatewayProcess()
			if s, r := h.status(); s.Verdict != "failed" || s.Reason != "gateway-not-running" || r.code != 1 {
				t.Errorf("afterwards: exit %d, %+v", r.code, s)
			}
		})
	}

	t.Run("binds-late", func(t *testing.T) {
		h := newGatewayHome(t, "", "mode=binds-late", "version=0.0.88")
		h.env = append(h.env, "CREEL_BUDGET_GATEWAY_START=15s")
		h.must(0, "gateway", "start")
		if s, _ := h.status(); s.Verdict != "ok" || !strings.Contains(h.reached(), "bound binds-late") {
			t.Errorf("%+v", s)
		}
	})
	t.Run("no-program", func(t *testing.T) {
		h := newGatewayHome(t, "")
		if err := os.Remove(h.exe); err != nil {
			t.Fatal(err)
		}
		if r := h.run("gateway", "start"); r.code != 1 || !strings.Contains(r.stderr, "gateway-binary-missing") {
			t.Errorf("exit %d: %s", r.code, r.stderr)
		}
	})
	t.Run("no-executable-format", func(t *testing.T) {
		h := newGatewayHome(t, "")
		if err := os.WriteFile(h.exe, []byte("\x7fELF cut short"), 0o755); err != nil {
			t.Fatal(err)
		}
		if r := h.run("gateway", "start"); r.code != 1 || !strings.Contains(r.stderr, "gateway-executable-broken") {
			t.Errorf("exit %d: %s", r.code, r.stderr)
		}
	})
	t.Run("port-held", func(t *testing.T) {
		other := newGatewayHome(t, "")
		other.must(0, "gateway", "start")
		s, _ := other.status()
		_, port, _ := strings.Cut(strings.TrimPrefix(s.Endpoint, "https://"), ":")
		h := newGatewayHome(t, "gateway: {port: "+port+"}\n")
		r := h.run("gateway", "start")
		if r.code != 1 || !strings.Contains(r.stderr, "port-in-use") || !strings.Contains(r.stderr, fmt.Sprintf("pid %d", s.PID)) {
			t.Errorf("exit %d: %s", r.code, r.stderr)
		}
		if again, _ := other.status(); again.Verdict != "ok" || again.PID != s.PID {
			t.Errorf("the other gateway was touched: %+v", again)
		}
	})
}

// The same modes of a gateway that runs already, or did.
func testHonestStatus(t *testing.T) {
	h := newGatewayHome(t, "")
	h.must(0, "gateway", "start") // makes the secrets
	h.must(0, "gateway", "stop")
	for _, c := range []struct{ mode, reason, reached string }{
		{"never-binds", "gateway-unreachable", "started never-binds"},
		{"never-answers", "gateway-hung", "accepted"},
		{"accepts-and-closes", "gateway-tls-failed", "accepted"},
		{"http-404", "gateway-foreign-listener", "accepted"},
		{"foreign-certificate", "gateway-foreign-listener", "bound foreign-certificate"},
		{"unhealthy", "gateway-unhealthy", "health unhealthy"},
		{"glibc", "gateway-not-running", "started glibc"},
		{"killed", "gateway-not-running", "started killed"},
		{"exits-after-binding", "gateway-not-running", "bound exits-after-binding"},
		{"fork-keeps-port", "gateway-not-running", "keeps the port"},
	} {
		t.Run(c.mode, func(t *testing.T) {
			h := h.in(t)
			_ = os.Remove(h.exe + ".reached")
			h.behave("mode=" + c.mode)
			cmd := h.direct(freePort(t), false)
			eventually(t, c.mode, func() bool {
				switch c.reason {
				case "gateway-not-running": // a zombie: this test waits for it at its end only
					p, err := host.Lookup(cmd.Process.Pid)
					return err == nil && p.Gone() && strings.Contains(h.reached(), c.reached)
				case "gateway-unreachable":
					return strings.Contains(h.reached(), "started")
				}
				return strings.Contains(h.reached(), "bound")
			})
			began := time.Now()
			s, r := h.status()
			if s.Verdict != "failed" || s.Reason != c.reason || r.code != 1 {
				t.Errorf("exit %d, %s %s: %s", r.code, s.Verdict, s.Reason, s.Message)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("it took %s", took)
			}
			if !strings.Contains(h.reached(), c.reached) {
				t.Errorf("the mode was not reached:\n%s", h.reached())
			}
			broken := 0
			for _, e := range s.Evidence {
				if e.Verdict == "failed" {
					broken++
				}
				if broken > 0 && e.Verdict == "ok" || e.Verdict == "unknown" && !strings.Contains(e.Answer, "not asked: ") {
					t.Errorf("evidence %+v", s.Evidence)
				}
			}
			if broken != 1 {
				t.Errorf("%d links broke: %+v", broken, s.Evidence)
			}
			if m := childPID.FindStringSubmatch(h.reached()); m != nil { // nothing of Creel's launched it
				pid, _ := strconv.Atoi(m[1])
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		})
	}
	t.Run("stopped-by-a-signal", func(t *testing.T) {
		h := h.in(t)
		h.behave("mode=healthy", "version=0.0.88")
		cmd := h.direct(freePort(t), false)
		if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		eventually(t, "stopped", func() bool { p, err := host.Lookup(cmd.Process.Pid); return err == nil && p.Stopped() })
		if s, r := h.status(); s.Reason != "gateway-hung" || r.code != 1 {
			t.Errorf("exit %d: %+v", r.code, s)
		}
	})
	if err := os.Remove(h.file("openshell.json")); err != nil {
		t.Fatal(err)
	}
}

// Whom a pid or a port belongs to.
func testHonestIdentity(t *testing.T) {
	t.Run("stale-pid-of-an-innocent", func(t *testing.T) {
		h := newGatewayHome(t, "")
		pid := innocent(t)
		start, err := host.ProcessStartTime(pid)
		if err != nil {
			t.Fatal(err)
		}
		h.recordAs(pid, start-1, freePort(t), false)
		if s, _ := h.status(); s.Verdict != "failed" || s.Reason != "gateway-not-running" || !strings.Contains(s.Message, "belongs to another") {
			t.Errorf("%+v", s)
		}
		h.must(0, "gateway", "stop")
		h.recordAs(pid, start-1, freePort(t), false)
		h.must(0, "gateway", "start")
		if s, _ := h.status(); s.Verdict != "ok" || s.PID == pid {
			t.Errorf("%+v", s)
		}
	})
	t.Run("somebody-elses-gateway", func(t *testing.T) {
		// In plaintext nothing but the holder of the port tells them apart.
		other := newGatewayHome(t, "gateway: {tls: plaintext}\n")
		other.must(0, "gateway", "start")
		theirs, _ := other.status()
		port, err := strconv.Atoi(theirs.Endpoint[strings.LastIndex(theirs.Endpoint, ":")+1:])
		if err != nil {
			t.Fatal(err)
		}
		h := newGatewayHome(t, "gateway: {tls: plaintext}\n")
		h.record(innocent(t), port, true)
		s, r := h.status()
		if s.Verdict != "failed" || s.Reason != "gateway-not-ours" || r.code != 1 || !strings.Contains(s.Message, fmt.Sprintf("pid %d", theirs.PID)) {
			t.Errorf("exit %d: %+v", r.code, s)
		}
		if !strings.Contains(other.reached(), "health healthy") {
			t.Error("the other gateway was not asked: then this shows nothing")
		}
		if err := os.Remove(h.file("openshell.json")); err != nil {
			t.Fatal(err)
		}
		// With no marker, the process on the recorded port is not adopted: it has
		// another database.
		if s, _ := h.status(); s.Reason != "gateway-not-running" {
			t.Errorf("without a marker: %+v", s)
		}
		h.must(0, "gateway", "start")
		if again, _ := other.status(); again.PID != theirs.PID || again.Verdict == "failed" {
			t.Errorf("the other gateway was touched: %+v", again)
		}
	})
	t.Run("adoption", func(t *testing.T) {
		h := newGatewayHome(t, "")
		h.must(0, "gateway", "start")
		before, _ := h.status()
		if err := os.Remove(h.file("openshell.json")); err != nil {
			t.Fatal(err)
		}
		h.must(0, "gateway", "start")
		if after, _ := h.status(); after.PID != before.PID || after.Verdict != "ok" {
			t.Errorf("not adopted: %+v, was pid %d", after, before.PID)
		}
		if _, err := os.Stat(h.file("openshell.json")); err != nil {
			t.Error(err)
		}
	})
}
