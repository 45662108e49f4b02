package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"creel/internal/bundle"
	"creel/internal/bundle/kubestore"
	"creel/test/kubeenv"
	"creel/test/require"
)

// BenchmarkSecretsRepair makes all four secrets of generation 1 on one API server
// in turns: in this process, with the whole command, and with the script that
// needs openssl and kubectl. Each is verified. It reports medians and how often
// faster than the script the first is.
func BenchmarkSecretsRepair(b *testing.B) {
	c := clusters.Get(b)
	shell, err := exec.LookPath("dash")
	require.Feature(b, "dash", err == nil, "apt-get install dash")
	_, err = exec.LookPath("openssl")
	require.Feature(b, "openssl", err == nil, "apt-get install openssl")
	h, g := newHome(b), newGatewayIn(b, c)
	kubeconfig := c.Kubeconfig(b, kubeenv.Login{})
	store, err := kubestore.Open(kubestore.Options{Kubeconfig: kubeconfig, Namespace: g.ns})
	if err != nil {
		b.Fatal(err)
	}
	text := h.must(0, "gateway", "secrets", "script", "--namespace", g.ns).stdout
	ways := []struct {
		name string
		do   func()
	}{
		{"native", func() {
			if out, err := bundle.Repair(b.Context(), store, time.Now(), bundle.RepairOptions{}); err != nil || len(out.Written) != 4 {
				b.Fatalf("%+v, %v", out, err)
			}
		}},
		{"command", func() {
			h.must(0, "gateway", "secrets", "repair", "--yes", "--kubeconfig", kubeconfig, "--namespace", g.ns)
		}},
		{"script", func() {
			cmd := exec.CommandContext(b.Context(), shell, "-s")
			cmd.Stdin = strings.NewReader(text)
			cmd.Env = []string{"PATH=" + c.Bin + ":" + os.Getenv("PATH"), "KUBECONFIG=" + kubeconfig, "HOME=" + filepath.Dir(kubeconfig)}
			if out, err := cmd.CombinedOutput(); err != nil {
				b.Fatalf("%v\n%s", err, out)
			}
		}},
	}
	took := map[string][]time.Duration{}
	for b.Loop() {
		for _, way := range ways {
			began := time.Now()
			way.do()
			took[way.name] = append(took[way.name], time.Since(began))
			judge(b, g.ns, g.secrets())
			for _, name := range generation1 {
				g.remove(name)
			}
		}
	}
	median := func(name string) float64 {
		slices.Sort(took[name])
		return float64(took[name][len(took[name])/2].Microseconds()) / 1000
	}
	for _, way := range ways {
		b.ReportMetric(median(way.name), way.name+"-ms")
	}
	b.ReportMetric(median("script")/median("native"), "times-faster")
}
