package script_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"creel/internal/bundle"
	"creel/internal/bundle/script"
	"creel/test/kubeenv"
)

// Whatever subset of a set is lost, the script makes it again under every shell,
// and touches nothing else.
func TestEverySubset(t *testing.T) {
	c := cluster.Get(t)
	for _, g := range []bundle.Generation{bundle.Generation1, bundle.Generation2} {
		names := requirements(g, "").Stored()
		for set := 1; set < 1<<len(names); set++ {
			var lost []string
			for i, name := range names {
				if set&(1<<i) != 0 {
					lost = append(lost, name)
				}
			}
			for _, s := range []shell{dash(t), busybox(t)} {
				t.Run(fmt.Sprintf("%d %s %s", g, s.name, strings.Join(lost, " ")), func(t *testing.T) {
					t.Parallel()
					testSubset(t, c, s, g, lost)
				})
			}
		}
	}
	t.Run("bash", func(t *testing.T) {
		t.Parallel()
		testSubset(t, c, bash(t), bundle.Generation1, requirements(bundle.Generation1, "").Stored())
	})
}

// partner is the other member of a pair that is only issued together.
func partner(g bundle.Generation, name string) string {
	pair := []string{bundle.ServerCA, bundle.ClientTLS}
	if g == bundle.Generation2 {
		pair = []string{bundle.ServerTLS, bundle.ClientTLS}
	}
	i := slices.Index(pair, name)
	if i < 0 {
		return ""
	}
	return pair[1-i]
}

func testSubset(t *testing.T, c *kubeenv.Cluster, s shell, g bundle.Generation, lost []string) {
	w := newWorld(t, c, g)
	for name, secret := range issue(t, w.want).Secrets {
		if !slices.Contains(lost, name) {
			w.create(objectOf(secret))
		}
	}
	before := w.secrets()
	m := newMachine(t, s, c.Bin+"/kubectl", c.AdminKubeconfig)
	text := generate(t, script.Options{Want: w.want})
	out := m.run(text)
	out.must(t, 0, "OpenShell bootstrap secrets missing: "+strings.Join(lost, ", ")+". Repairing...\n", "")
	out.must(t, 0, "\n✓ OpenShell bootstrap secrets created\n", "")

	after := w.good()
	var replaced []string
	for name, old := range before {
		if other := partner(g, name); slices.Contains(lost, other) {
			replaced = append(replaced, name)
			checkBackup(t, old, after[name+"-creel-backup-1"])
			out.must(t, 0, name+" is replaced", "")
			if after[name].Metadata.UID != old.Metadata.UID {
				t.Errorf("%s is another object", name)
			}
			continue
		}
		if diff := cmp.Diff(old, after[name]); diff != "" {
			t.Errorf("%s was touched:\n%s", name, diff)
		}
	}
	for _, name := range append(slices.Clone(lost), replaced...) {
		checkLabels(t, after[name])
	}
	if len(after) != len(w.want.Stored())+len(replaced) {
		t.Errorf("there are %d secrets", len(after))
	}
	if rolled := w.rolled(); (rolled == "") != (len(replaced) == 0) {
		t.Errorf("replaced %q, restarted at %q", replaced, rolled)
	}
	if pending := w.pending(); pending != "" {
		t.Errorf("it is still noted that %s is replaced", pending)
	}
	handshake(t, g, snapshotOf(after))
	nowhere(t, after, map[string]string{"standard output": out.stdout, "an argument": m.arguments()})

	m.run(text).must(t, 0, "none is missing, nothing was changed.\n", "")
	if diff := cmp.Diff(after, w.secrets()); diff != "" {
		t.Errorf("the second run changed something:\n%s", diff)
	}
}

func checkLabels(t *testing.T, o object) {
	t.Helper()
	if l := o.Metadata.Labels; l["app.kubernetes.io/managed-by"] != "creel" || l["app.kubernetes.io/instance"] != gatewayName {
		t.Errorf("%s has the labels %q", o.Metadata.Name, l)
	}
}

func checkBackup(t *testing.T, old, backup object) {
	t.Helper()
	if diff := cmp.Diff(old.Data, backup.Data); diff != "" {
		t.Errorf("%s is not in its backup:\n%s", old.Metadata.Name, diff)
	}
	checkLabels(t, backup)
	want := map[string]string{"creel/backup-of": old.Metadata.Name, "creel/backup-type": old.Type}
	if diff := cmp.Diff(want, backup.Metadata.Annotations); diff != "" || backup.Type != "Opaque" {
		t.Errorf("the backup of %s is %s with\n%s", old.Metadata.Name, backup.Type, diff)
	}
}

// Each certificate is as the native issue makes it.
func TestCertificatesAreTheNativeOnes(t *testing.T) {
	c := cluster.Get(t)
	for _, g := range []bundle.Generation{bundle.Generation1, bundle.Generation2} {
		w := newWorld(t, c, g)
		w.want.Hosts = []string{"gw.example.com", "*.gw.example.com", "10.1.2.3", "fd00::1"}
		w.want.Service = "a-service"
		w.want.Names = map[string]string{w.want.Members()[0].Name: "server.with.dots"}
		began := time.Now()
		m := newMachine(t, dash(t), c.Bin+"/kubectl", c.AdminKubeconfig)
		m.run(generate(t, script.Options{Want: w.want})).must(t, 0, "✓", "")
		took := time.Since(began)
		native, found := issue(t, w.want), snapshotOf(w.good())
		for _, member := range w.want.Members() {
			for _, key := range []string{"tls.crt", "ca.crt"} {
				a, b := native.Secrets[member.Stored].Data[key], found.Secrets[member.Stored].Data[key]
				if (a == nil) != (b == nil) {
					t.Errorf("%s of %s: native %q, script %q", key, member.Stored, a, b)
				}
				if a == nil {
					continue
				}
				if diff := cmp.Diff(facts(t, a), facts(t, b)); diff != "" {
					t.Errorf("%s of %s (-native +script):\n%s", key, member.Stored, diff)
				}
				cert := parse(t, b)
				if age := began.Sub(cert.NotBefore); age > bundle.Backdating+time.Second || age < bundle.Backdating-took-time.Second {
					t.Errorf("%s of %s begins %s before the run", key, member.Stored, age)
				}
				if n := cert.SerialNumber.BitLen(); n < 64 {
					t.Errorf("%s of %s has a serial number of %d bits", key, member.Stored, n)
				}
			}
		}
		if diff := cmp.Diff(keys(native), keys(found)); diff != "" {
			t.Errorf("keys (-native +script):\n%s", diff)
		}
	}
}

// BenchmarkScript is all members of generation 1, as a user runs it. The median
// is what the native repair is compared with: other programs disturb the mean.
func BenchmarkScript(b *testing.B) {
	c := cluster.Get(b)
	for _, s := range shells(b) {
		b.Run(s.name, func(b *testing.B) {
			w := newWorld(b, c, bundle.Generation1)
			m := bareMachine(b, s, c)
			text := generate(b, script.Options{Want: w.want})
			var took []time.Duration
			for b.Loop() {
				began := time.Now()
				m.run(text).must(b, 0, "✓", "")
				took = append(took, time.Since(began))
				b.StopTimer()
				w.good()
				for _, name := range w.want.Stored() {
					w.lose(name)
				}
				b.StartTimer()
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "median-ms")
		})
	}
}
