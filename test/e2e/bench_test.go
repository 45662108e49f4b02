package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	openshellv1 "creel/api/openshell/v1"
	"creel/internal/host"
	"creel/test/engineenv"
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
	b.Run("kubernetes", func(b *testing.B) {
		h := newKubeHome(b, "version=0.0.88")
		h.onboarded(0)
		for b.Loop() {
			h.must(0, "gateway", "status")
		}
		b.StopTimer()
		b.ReportMetric(resident(b, h.forward()), "forward-MiB")
	})
	b.Run("kubernetes-all-layers", func(b *testing.B) {
		h := newKubeHome(b, "version=0.0.88")
		h.onboarded(0)
		for b.Loop() {
			h.must(0, "status")
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

// What a user waits for whose gateway is a cluster in a container.
func BenchmarkK3s(b *testing.B) {
	h := newK3sHome(b, engineenv.Start(b, engineenv.Docker))
	h.boot()
	b.Run("start-with-no-secrets", func(b *testing.B) { // the pod is stood in for by a program that needs no time
		for b.Loop() {
			b.StopTimer()
			h.must(0, "gateway", "stop")
			for name := range h.g.secrets() {
				h.g.remove(name)
			}
			_ = os.Remove(filepath.Join(h.dir, "mounted"))
			h.box.Start(b)
			b.StartTimer()
			h.must(0, "gateway", "start")
		}
	})
	h.must(0, "gateway", "start")
	b.Run("start-when-ready", func(b *testing.B) {
		for b.Loop() {
			h.must(0, "gateway", "start")
		}
	})
	b.Run("gateway-status", func(b *testing.B) {
		for b.Loop() {
			h.must(0, "gateway", "status")
		}
	})
	b.Run("gateway-status-not-remembered", func(b *testing.B) {
		for b.Loop() {
			_ = os.Remove(filepath.Join(h.home.dir, "state/gateways/nemoclaw/container.json"))
			h.must(0, "gateway", "status")
		}
	})
	b.Run("status", func(b *testing.B) {
		for b.Loop() {
			h.must(0, "status")
		}
	})
	b.Run("gateway-status-dead", func(b *testing.B) {
		h.box.Kill(b)
		for b.Loop() {
			h.must(1, "gateway", "status")
		}
	})
}

// How long a client that asks all the time gets no answer while the gateway is
// upgraded, with a sandbox that connects again, and back: from the last answer of the
// old one to the first of the new one.
func BenchmarkUpgradeAway(b *testing.B) {
	h := newHome(b)
	h.must(0, bring...)
	where := decode[gatewayStatus](b, h.must(0, "gateway", "status", "--json"))
	pair, err := tls.LoadX509KeyPair(h.dir+"/state/gateways/creel/tls/client/tls.crt", h.dir+"/state/gateways/creel/tls/client/tls.key")
	if err != nil {
		b.Fatal(err)
	}
	authority, err := os.ReadFile(h.dir + "/state/gateways/creel/tls/ca.crt")
	if err != nil {
		b.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	credentials := credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, ServerName: "localhost"})
	// answers asks over a connection of its own, as a new client would.
	answers := func(ctx context.Context) bool {
		conn, err := grpc.NewClient("passthrough:///"+strings.TrimPrefix(where.Endpoint, "https://"), grpc.WithTransportCredentials(credentials))
		if err != nil {
			return false
		}
		defer func() { _ = conn.Close() }()
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		r, err := openshellv1.NewOpenShellClient(conn).Health(ctx, &openshellv1.HealthRequest{})
		return err == nil && r.GetStatus() == openshellv1.ServiceStatus_SERVICE_STATUS_HEALTHY
	}
	var away []float64
	programs := []string{killer, creel}
	for n := 0; b.Loop(); n++ {
		ctx, stop := context.WithCancel(b.Context())
		gap := make(chan time.Duration)
		go func() {
			last, longest := time.Now(), time.Duration(0)
			for ctx.Err() == nil {
				if answers(ctx) {
					longest, last = max(longest, time.Since(last)), time.Now()
				}
			}
			gap <- longest
		}()
		if r := h.runProgram(programs[n%2], nil, "gateway", "upgrade"); r.code != 0 {
			b.Fatalf("exit %d\n%s", r.code, r.stderr)
		}
		stop()
		away = append(away, float64((<-gap).Microseconds())/1000)
	}
	slices.Sort(away)
	b.ReportMetric(away[len(away)/2], "away-ms-median")
	b.ReportMetric(away[len(away)-1], "away-ms-most")
}

// From a namespace in which nothing but the StatefulSet is to a gateway that is proven
// healthy through its port-forward and registered. The pod itself begins at once.
func BenchmarkOnboardKubernetes(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		h := newKubeHome(b, "version=0.0.88")
		eventually(b, "the pod waits", func() bool { return h.n.podUID() != "" })
		b.StartTimer()
		h.onboarded(0)
	}
}

// end kills a process and returns when it has ended.
func end(t testing.TB, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "ended", func() bool { p, err := host.Lookup(pid); return err != nil || p.Gone() })
}
