package e2e

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"creel/internal/host"
	"creel/test/openaitest"
)

// Whole commands, process start included: what a user waits for.

func BenchmarkVersion(b *testing.B) {
	h := newHome(b)
	for b.Loop() {
		h.must(0, "version")
	}
}

func BenchmarkOnboard(b *testing.B) {
	provider := openaitest.Start(b)
	provider.SetKey(canary)
	for b.Loop() {
		h := newHome(b)
		h.onboard(provider)
		b.StopTimer()
		h.must(0, "uninstall", "--yes")
		b.StartTimer()
	}
}

func BenchmarkGatewayStart(b *testing.B) {
	provider := openaitest.Start(b)
	provider.SetKey(canary)
	h := newHome(b)
	h.onboard(provider)
	for b.Loop() {
		b.StopTimer()
		h.must(0, "gateway", "stop")
		b.StartTimer()
		h.must(0, "gateway", "start")
	}
}

func BenchmarkStatus(b *testing.B) {
	provider := openaitest.Start(b)
	provider.SetKey(canary)
	h := newHome(b)
	h.onboard(provider)
	for b.Loop() {
		h.must(0, "status")
	}
	b.StopTimer()
	b.ReportMetric(resident(b, h.gatewayPID()), "gateway-MiB")
}

func BenchmarkExec(b *testing.B) {
	provider := openaitest.Start(b)
	provider.SetKey(canary)
	h := newHome(b)
	h.onboard(provider)
	for b.Loop() {
		h.must(0, "exec", "claw", "--", "true")
	}
}

// resident is the memory of a process in MiB.
func resident(b testing.TB, pid int) float64 {
	b.Helper()
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			if err != nil {
				b.Fatal(err)
			}
			return kib / 1024
		}
	}
	b.Fatal("no VmRSS")
	return 0
}

// What a user waits for who asks how a gateway is, whoever wrote it.
func BenchmarkGatewayStatus(b *testing.B) {
	b.Run("embedded", func(b *testing.B) {
		h := newHome(b)
		h.must(0, "gateway", "secrets", "repair")
		h.must(0, "gateway", "start")
		for b.Loop() {
			h.must(0, "gateway", "status")
		}
	})
	b.Run("openshell", func(b *testing.B) {
		h := newGatewayHome(b, "", "version=0.0.88")
		h.must(0, "gateway", "start")
		for b.Loop() {
			h.must(0, "gateway", "status")
		}
	})
	// From the end of the gateway's process to the answer that it is dead.
	b.Run("dead", func(b *testing.B) {
		h := newGatewayHome(b, "", "version=0.0.88")
		for b.Loop() {
			b.StopTimer()
			h.must(0, "gateway", "start")
			s, _ := h.status()
			end(b, s.PID)
			b.StartTimer()
			h.must(1, "gateway", "status")
		}
	})
}

// end kills a process and returns when it has ended.
func end(t testing.TB, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "ended", func() bool { p, err := host.Lookup(pid); return err != nil || p.Gone() })
}
