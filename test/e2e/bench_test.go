package e2e

import (
	"os"
	"strconv"
	"strings"
	"testing"

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
func resident(b *testing.B, pid int) float64 {
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
