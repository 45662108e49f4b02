package script_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"creel/internal/bundle"
	"creel/internal/bundle/script"
	"creel/test/kubeenv"
)

// before runs a command of the real kubectl once, before the script's own call
// whose arguments match a shell pattern.
func (m *machine) before(c *kubeenv.Cluster, pattern string, commands ...string) (reached func() bool) {
	mark := filepath.Join(m.home, "reached")
	m.wrap("kubectl", c.Bin+"/kubectl", fmt.Sprintf("case \" $* \" in %s) if [ ! -e '%s' ]; then : >'%s'\n%s\nfi ;; esac",
		pattern, mark, mark, strings.ReplaceAll(strings.Join(commands, "\n"), "kubectl ", "'"+c.Bin+"/kubectl' >/dev/null ")))
	return func() bool {
		_, err := os.Stat(mark)
		return err == nil
	}
}

const (
	creation    = `*" create "*`
	replacement = `*" --dry-run=none "*`
	readBack    = `*base64decode*`
)

// scene is a gateway of generation 1 that lacks some of its secrets.
func scene(t *testing.T, lost ...string) (*world, *machine, string) {
	t.Helper()
	c := cluster.Get(t)
	w := newWorld(t, c, bundle.Generation1)
	w.fill(lost...)
	m := newMachine(t, dash(t), c.Bin+"/kubectl", c.AdminKubeconfig)
	return w, m, generate(t, script.Options{Want: w.want})
}

func (w *world) fill(lost ...string) {
	w.t.Helper()
	for name, s := range issue(w.t, w.want).Secrets {
		if !strings.Contains(strings.Join(lost, " "), name) {
			w.create(objectOf(s))
		}
	}
}

func TestMadeMeanwhile(t *testing.T) {
	t.Parallel()
	w, m, text := scene(t, bundle.ServerTLS, bundle.SSHHandshake)
	reached := m.before(w.c, creation, "kubectl create secret generic -n "+w.namespace+" openshell-ssh-handshake --from-literal=secret=theirs")
	out := m.run(text)
	out.must(t, 1, "", "creel: secret openshell-ssh-handshake was made by somebody else meanwhile and not overwritten: run this script again\ncreel: written before that: openshell-server-tls\n")
	if got := w.secrets()[bundle.SSHHandshake].Data["secret"]; string(got) != "theirs" || !reached() {
		t.Errorf("the handshake is %q", got)
	}
	m.run(text).must(t, 0, "none is missing", "")
}

func TestHalfAPairMadeMeanwhile(t *testing.T) {
	t.Parallel()
	w, m, text := scene(t, bundle.ServerCA, bundle.ClientTLS)
	m.before(w.c, creation, "kubectl create secret generic -n "+w.namespace+" openshell-client-tls --from-literal=tls.crt=theirs")
	m.run(text).must(t, 1, "", "secret openshell-client-tls was made by somebody else meanwhile and not overwritten; it does not fit openshell-server-client-ca: delete one of them and run this script again\n")
	w.lose(bundle.ServerCA)
	m.run(text).must(t, 0, "openshell-client-tls is replaced", "")
	if got := w.good()["openshell-client-tls-creel-backup-1"].Data["tls.crt"]; string(got) != "theirs" {
		t.Errorf("the backup holds %q", got)
	}
}

func TestChangedMeanwhile(t *testing.T) {
	t.Parallel()
	w, m, text := scene(t, bundle.ClientTLS)
	reached := m.before(w.c, replacement, "kubectl label secret -n "+w.namespace+" openshell-server-client-ca a=b")
	before := w.secrets()
	out := m.run(text)
	out.must(t, 1, "", "creel: replace secret openshell-server-client-ca, which is kept as openshell-server-client-ca-creel-backup-1\n")
	out.must(t, 1, "", "the object has been modified")
	after := w.secrets()
	if diff := cmp.Diff(before[bundle.ServerCA].Data, after[bundle.ServerCA].Data); diff != "" || len(after) != len(before)+1 || !reached() || w.rolled() != "" {
		t.Errorf("%d secrets, %s", len(after), diff)
	}
	m.run(text).must(t, 0, "the old one is kept as openshell-server-client-ca-creel-backup-2.\n", "")
	w.good()
}

func TestChangedBeforeRemoval(t *testing.T) {
	t.Parallel()
	w, m, text := scene(t, bundle.ServerCA, bundle.ClientTLS)
	old := objectOf(issue(t, w.want).Secrets[bundle.ClientTLS])
	old.Type = "kubernetes.io/tls"
	w.create(old)
	// The first creation is the backup, after the removal was tried.
	reached := m.before(w.c, creation, "kubectl label secret -n "+w.namespace+" openshell-client-tls a=b")
	m.run(text).must(t, 1, "", "creel: replace secret openshell-client-tls, which is kept as openshell-client-tls-creel-backup-1\n")
	if after := w.secrets(); after[bundle.ClientTLS].Type != "kubernetes.io/tls" || !reached() {
		t.Errorf("it is %+v", after[bundle.ClientTLS])
	}
}

// A type, and what is marked immutable, can only be changed by making it anew.
func TestRemade(t *testing.T) {
	for _, k := range []struct {
		name, left, lost string
		spoil            func(*object)
	}{
		{"type", bundle.ClientTLS, bundle.ServerCA, func(o *object) { o.Type = "kubernetes.io/tls" }},
		{"immutable", bundle.ServerCA, bundle.ClientTLS, func(o *object) { o.Immutable = true }},
	} {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			w, m, text := scene(t, k.left, k.lost)
			old := objectOf(issue(t, w.want).Secrets[k.left])
			k.spoil(&old)
			w.create(old)
			old = w.secrets()[k.left]
			m.run(text).must(t, 0, k.left+" is replaced because it only fits what is missing", "")
			after := w.good()
			if now := after[k.left]; now.Metadata.UID == old.Metadata.UID || now.Type != "Opaque" || now.Immutable {
				t.Errorf("it is %+v", now)
			}
			checkBackup(t, old, after[k.left+"-creel-backup-1"])
		})
	}
}

// What others wrote on a secret stays; a key that does not belong there goes.
func TestReplacedKeepsWhatIsNotOurs(t *testing.T) {
	t.Parallel()
	w, m, text := scene(t, bundle.ServerCA, bundle.ClientTLS)
	old := objectOf(issue(t, w.want).Secrets[bundle.ServerCA])
	old.Data["ca.key"] = []byte("stale")
	old.Metadata.Labels = map[string]string{"team": "a", "app.kubernetes.io/managed-by": "Helm"}
	old.Metadata.Annotations = map[string]string{"note": `with "quotes"`}
	old.Metadata.Finalizers = []string{"creel/test"}
	w.create(old)
	m.run(text).must(t, 0, "✓", "")
	after := w.good()
	now := after[bundle.ServerCA]
	checkLabels(t, now)
	if now.Metadata.Labels["team"] != "a" || now.Metadata.Annotations["note"] != `with "quotes"` || len(now.Metadata.Finalizers) != 1 || len(now.Data) != 1 {
		t.Errorf("it is %+v", now)
	}
	checkBackup(t, old, after["openshell-server-client-ca-creel-backup-1"])
}

func TestTooManyBackups(t *testing.T) {
	t.Parallel()
	w, m, text := scene(t, bundle.ClientTLS)
	few := strings.Replace(text, `[ "$number" -lt 99 ]`, `[ "$number" -lt 2 ]`, 1)
	if few == text {
		t.Fatal("the script does not bound backups")
	}
	for n := range 2 {
		o := objectOf(bundle.Secret{Name: fmt.Sprint("openshell-server-client-ca-creel-backup-", n+1)})
		w.create(o)
	}
	before := w.secrets()
	m.run(few).must(t, 1, "", "creel: keep secret openshell-server-client-ca: it has too many backups\n")
	if diff := cmp.Diff(before, w.secrets()); diff != "" {
		t.Error(diff)
	}
}

// The cluster is believed only about what it returns.
func TestOtherThanWritten(t *testing.T) {
	t.Parallel()
	w, m, text := scene(t, bundle.ServerTLS, bundle.SSHHandshake)
	reached := m.before(w.c, readBack, `kubectl patch secret -n `+w.namespace+` openshell-ssh-handshake --type=merge -p '{"data":{"secret":"YQ=="}}'`)
	out := m.run(text)
	out.must(t, 1, "Repairing...", "creel: the cluster does not hold what was written\n")
	if strings.Contains(out.stdout, "✓") || !reached() {
		t.Errorf("%+v", out)
	}
}

// A gateway whose CA was replaced is told, also when reading back fails: it would
// go on with the old one, and the next run would find that nothing is missing.
func TestRolledBeforeReadBack(t *testing.T) {
	t.Parallel()
	w, m, text := scene(t, bundle.ClientTLS)
	m.wrap("kubectl", w.c.Bin+"/kubectl", "case \" $* \" in "+readBack+") exit 1 ;; esac")
	m.run(text).must(t, 4, "is replaced", "creel: read back what was written\n")
	if w.rolled() == "" || w.pending() != "" {
		t.Errorf("rolled %q, pending %q", w.rolled(), w.pending())
	}
	w.good()
}

// Killed or refused after the last write, it leaves nothing missing, and still
// the next run tells the gateway to start again.
func TestKilledBeforeRoll(t *testing.T) {
	c := cluster.Get(t)
	const roll = `*"creel/restarted-at"*`
	for _, s := range shells(t) {
		for _, g := range []bundle.Generation{bundle.Generation1, bundle.Generation2} {
			t.Run(fmt.Sprint(s.name, " ", g), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, c, g)
				w.fill(bundle.ClientTLS)
				other := partner(g, bundle.ClientTLS)
				// Of what another kind of repair has noted nothing is forgotten.
				w.c.Must(t, "PATCH", w.statefulSet("/openshell"), `{"metadata": {"annotations": {"creel/restart-pending": "{\"another\":\"uid/1\"}"}}}`)
				m := newMachine(t, s, c.Bin+"/kubectl", c.AdminKubeconfig)
				text := generate(t, script.Options{Want: w.want})
				old := w.secrets()[other].Metadata
				m.kill(c, roll, text)
				w.good()
				want := fmt.Sprintf(`{"another":"uid/1","%s":"%s/%s"}`, other, old.UID, old.ResourceVersion)
				if w.rolled() != "" || w.pending() != want {
					t.Fatalf("rolled %q, pending %s, want %s", w.rolled(), w.pending(), want)
				}

				m.wrap("kubectl", c.Bin+"/kubectl", "case \" $* \" in "+roll+") exit 1 ;; esac")
				m.run(text).must(t, 1, "", "creel: the gateway could not be told to start again")

				// Neither is it forgotten when the other half gets lost as well.
				w.lose(bundle.ClientTLS)
				m.kill(c, roll, text)
				if want := fmt.Sprintf(`{"another":"uid/1","%s":"before"}`, other); w.rolled() != "" || w.pending() != want {
					t.Fatalf("rolled %q, pending %s, want %s", w.rolled(), w.pending(), want)
				}
				after := w.good()

				m.wrap("kubectl", c.Bin+"/kubectl", "")
				m.run(text).must(t, 0, "none is missing. The gateway was not started again since one was replaced, and is now: "+other+".\n", "")
				rolled := w.rolled()
				if diff := cmp.Diff(after, w.secrets()); diff != "" || rolled == "" || w.pending() != "" {
					t.Fatalf("rolled %q, pending %q, %s", rolled, w.pending(), diff)
				}
				m.run(text).must(t, 0, "none is missing, nothing was changed.\n", "")
			})
		}
	}
}

// What was noted and not done owes nothing.
func TestNothingReplacedNothingRolled(t *testing.T) {
	t.Parallel()
	w, m, text := scene(t, bundle.ClientTLS)
	m.kill(w.c, replacement, text)
	if w.pending() == "" {
		t.Error("nothing is noted")
	}
	w.create(objectOf(issue(t, w.want).Secrets[bundle.ClientTLS]))
	m.wrap("kubectl", w.c.Bin+"/kubectl", "")
	m.run(text).must(t, 0, "none is missing, nothing was changed.\n", "")
	if w.rolled() != "" {
		t.Error("it was rolled")
	}
	// Nor does what nobody of Creel has written.
	w.c.Must(t, "PATCH", w.statefulSet("/openshell"), `{"metadata": {"annotations": {"creel/restart-pending": "a|b\n'$(x)' {\"-n\": [\"y\"]}"}}}`)
	m.run(text).must(t, 0, "none is missing, nothing was changed.\n", "")
}

// kill runs a script that is killed before its first call of kubectl whose
// arguments match a shell pattern.
func (m *machine) kill(c *kubeenv.Cluster, pattern, text string) {
	m.t.Helper()
	m.wrap("kubectl", c.Bin+"/kubectl", "case \" $* \" in "+pattern+") kill -KILL $PPID; exit 1 ;; esac")
	if err := m.command(m.t.Context(), m.file(text)).Run(); err == nil || !strings.Contains(err.Error(), "killed") {
		m.t.Fatalf("it ended with %v", err)
	}
	left, err := filepath.Glob(filepath.Join(m.tmp, "*"))
	if err != nil || len(left) != 1 {
		m.t.Fatalf("%q, %v", left, err)
	}
	if err := os.RemoveAll(left[0]); err != nil {
		m.t.Fatal(err)
	}
}

// Killed between the two halves of a pair, it leaves one absent, and the next
// run makes both again.
func TestKilledBetweenHalves(t *testing.T) {
	for _, lost := range [][]string{{bundle.ServerCA}, {bundle.ClientTLS}, {bundle.ServerCA, bundle.ClientTLS}} {
		t.Run(strings.Join(lost, " "), func(t *testing.T) {
			t.Parallel()
			w, m, text := scene(t, lost...)
			// The second creation is that of the pair's absent half: before it comes
			// the backup, or the other half.
			mark := filepath.Join(m.home, "once")
			m.wrap("kubectl", w.c.Bin+"/kubectl", fmt.Sprintf(
				"case \" $* \" in %s) if [ -e '%s' ]; then kill -KILL $PPID; exit 1; fi; : >'%s' ;; esac", creation, mark, mark))
			ctx := t.Context()
			if err := m.command(ctx, m.file(text)).Run(); err == nil || !strings.Contains(err.Error(), "killed") {
				t.Fatalf("it ended with %v", err)
			}
			left, err := filepath.Glob(filepath.Join(m.tmp, "*"))
			if err != nil || len(left) != 1 {
				t.Fatalf("%q, %v", left, err)
			}
			if err := os.RemoveAll(left[0]); err != nil {
				t.Fatal(err)
			}
			found := w.secrets()
			_, ca := found[bundle.ServerCA]
			_, client := found[bundle.ClientTLS]
			if ca && client {
				t.Error("nothing is missing, the next run would not see it")
			}
			m.wrap("kubectl", w.c.Bin+"/kubectl", "")
			m.run(text).must(t, 0, "✓", "")
			w.good()
		})
	}
}
