package dirstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"crypto/rand"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"creel/internal/advisory"
	"creel/internal/bundle"
	"creel/internal/health"
	"creel/internal/state"
	"creel/test/require"
)

func requirements() bundle.Requirements {
	return bundle.Requirements{Generation: bundle.Generation2}
}

func gatewayIn(dir string) state.Gateway {
	return state.Roots{Config: dir + "/config", State: dir + "/state", Run: dir + "/run", OpenShell: dir + "/openshell"}.Gateway("creel")
}

func repaired(t interface {
	Helper()
	Fatal(...any)
}, s *Store, opts bundle.RepairOptions) bundle.Outcome {
	t.Helper()
	out, err := bundle.Repair(context.Background(), s.Target(), time.Now(), opts)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// tree reads every regular file below a directory.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		found[rel] = string(b)
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return found
}

func TestEmptyHomeToUsableSet(t *testing.T) {
	g := gatewayIn(t.TempDir())
	s := New(g)
	out := repaired(t, s, bundle.RepairOptions{})
	if !out.Repaired || !out.Before.Absent() || out.After.Verdict() != health.OK {
		t.Fatalf("outcome %+v", out)
	}
	snapshot, err := s.Load(t.Context(), requirements())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bundle.Open(snapshot); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(g.Dir(), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		want := state.FileMode
		if d.IsDir() {
			want = state.DirMode
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", path, got, want)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"tls/ca.crt", "tls/ca.key", "tls/server/tls.crt", "tls/server/tls.key", "tls/client/tls.crt",
		"tls/client/tls.key", "jwt/signing.pem", "jwt/public.pem", "jwt/kid"}
	have := tree(t, g.Dir())
	if len(have) != len(want) {
		t.Errorf("%d files, want %q", len(have), want)
	}
	for _, name := range want {
		if have[name] == "" {
			t.Errorf("%s is missing or empty", name)
		}
	}

	again := repaired(t, s, bundle.RepairOptions{Replace: true, Renew: bundle.RenewExpiring})
	if again.Repaired || len(again.Written) != 0 {
		t.Errorf("a good set was written again: %+v", again.Written)
	}
	if diff := cmp.Diff(have, tree(t, g.Dir())); diff != "" {
		t.Errorf("a repair of a good set changed files:\n%s", diff)
	}
}

// TestLoadRefusesWhatItCannotKnow: whatever is not a plain readable file is
// unknown, and a repair with every consent does not touch it.
func TestLoadRefusesWhatItCannotKnow(t *testing.T) {
	cases := []struct {
		name   string
		spoil  func(t *testing.T, g state.Gateway) string // returns the path that must be named
		asRoot bool
	}{
		{"file is a symbolic link", func(t *testing.T, g state.Gateway) string {
			path := filepath.Join(g.File("tls"), "ca.key")
			return replaceBy(t, path, func() error { return os.Symlink("elsewhere", path) })
		}, true},
		{"file is a directory", func(t *testing.T, g state.Gateway) string {
			path := filepath.Join(g.File("tls"), "server", "tls.crt")
			return replaceBy(t, path, func() error { return os.Mkdir(path, 0o700) })
		}, true},
		{"file is a pipe", func(t *testing.T, g state.Gateway) string {
			path := filepath.Join(g.File("jwt"), "kid")
			return replaceBy(t, path, func() error { return syscall.Mkfifo(path, 0o600) })
		}, true},
		{"directory is a file", func(t *testing.T, g state.Gateway) string {
			path := filepath.Join(g.File("tls"), "client")
			return replaceBy(t, path, func() error { return os.WriteFile(path, nil, 0o600) })
		}, true},
		{"directory is a symbolic link", func(t *testing.T, g state.Gateway) string {
			path := g.File("jwt")
			return replaceBy(t, path, func() error { return os.Symlink(t.TempDir(), path) })
		}, true},
		{"gateway's directory is a file", func(t *testing.T, g state.Gateway) string {
			return replaceBy(t, g.Dir(), func() error { return os.WriteFile(g.Dir(), nil, 0o600) })
		}, true},
		{"file is enormous", func(t *testing.T, g state.Gateway) string {
			path := filepath.Join(g.File("tls"), "ca.crt")
			return replaceBy(t, path, func() error { return os.WriteFile(path, make([]byte, maxFile+1), 0o600) })
		}, true},
		{"file is unreadable", func(t *testing.T, g state.Gateway) string {
			path := filepath.Join(g.File("tls"), "ca.key")
			if err := os.Chmod(path, 0); err != nil {
				t.Fatal(err)
			}
			return path
		}, false},
		{"directory is unreadable", func(t *testing.T, g state.Gateway) string {
			path := filepath.Join(g.File("tls"), "server")
			if err := os.Chmod(path, 0); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.Chmod(path, 0o700) })
			return path
		}, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if !c.asRoot {
				require.Feature(t, "ordinary-user", os.Geteuid() != 0, "run the test as an ordinary user; root may read everything")
			}
			g := gatewayIn(t.TempDir())
			s := New(g)
			repaired(t, s, bundle.RepairOptions{})
			path := c.spoil(t, g)
			_, err := s.Load(t.Context(), requirements())
			if p, ok := advisory.Of(err); !ok || p.ID != "secrets-unknown" || !strings.Contains(err.Error(), path) {
				t.Fatalf("Load: %v, want secrets-unknown naming %s", err, path)
			}
			out, err := bundle.Repair(t.Context(), s.Target(), time.Now(), bundle.RepairOptions{Replace: true})
			if p, ok := advisory.Of(err); !ok || p.ID != "secrets-unknown" || out.Repaired || len(out.Written) > 0 {
				t.Errorf("Repair: %+v, %v", out, err)
			}
			if left, _ := filepath.Glob(g.File(state.BackupDir) + "/*"); len(left) > 0 {
				t.Errorf("a repair of the unknown left %q", left)
			}
		})
	}
}

func replaceBy(t *testing.T, path string, create func() error) string {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	if err := create(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadableKeyIsACaveat(t *testing.T) {
	g := gatewayIn(t.TempDir())
	s := New(g)
	repaired(t, s, bundle.RepairOptions{})
	path := filepath.Join(g.File("tls"), "ca.key")
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	snapshot, err := s.Load(t.Context(), requirements())
	if err != nil {
		t.Fatal(err)
	}
	r := bundle.Inspect(snapshot, requirements(), time.Now())
	if r.Verdict() != health.OK || len(r.Caveats) != 1 || r.Caveats[0].Advisory != "secrets-key-readable" ||
		!strings.Contains(r.Caveats[0].Message, path) {
		t.Errorf("verdict %v, caveats %+v", r.Verdict(), r.Caveats)
	}
}

func TestApplyRefusesAChangedStore(t *testing.T) {
	g := gatewayIn(t.TempDir())
	s := New(g)
	repaired(t, s, bundle.RepairOptions{})
	snapshot, err := s.Load(t.Context(), requirements())
	if err != nil {
		t.Fatal(err)
	}
	// Another member than the one to be written: a leaf of a CA that is gone
	// would be worthless.
	if err := os.WriteFile(filepath.Join(g.File("tls"), "ca.crt"), []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := tree(t, g.Dir())
	err = s.Apply(t.Context(), []bundle.Secret{snapshot.Secrets["server"]}, snapshot)
	if !errors.Is(err, bundle.ErrChanged) {
		t.Errorf("Apply: %v, want ErrChanged", err)
	}
	if diff := cmp.Diff(before, tree(t, g.Dir())); diff != "" {
		t.Errorf("a refused write changed files:\n%s", diff)
	}
	if err := s.Apply(t.Context(), nil, bundle.Snapshot{}); err == nil {
		t.Error("a snapshot of no store was accepted")
	}
}

func TestApplyRefusesWhatTheLayoutDoesNotHold(t *testing.T) {
	s := New(gatewayIn(t.TempDir()))
	snapshot, err := s.Load(t.Context(), requirements())
	if err != nil {
		t.Fatal(err)
	}
	for _, write := range [][]bundle.Secret{
		{{Name: "openshell-server-tls", Data: map[string][]byte{"tls.crt": {1}, "tls.key": {1}}}},
		{{Name: "server", Data: map[string][]byte{"tls.crt": {1}}}},
		{{Name: "server", Data: map[string][]byte{"tls.crt": {1}, "tls.key": {1}, "../../x": {1}}}},
	} {
		if err := s.Apply(t.Context(), write, snapshot); err == nil {
			t.Errorf("%v was written", write)
		}
	}
}

func TestReplacedMemberIsKeptInABackup(t *testing.T) {
	g := gatewayIn(t.TempDir())
	s := New(g)
	repaired(t, s, bundle.RepairOptions{})
	good := tree(t, g.File("tls"))
	if err := os.WriteFile(filepath.Join(g.File("tls"), "server", "tls.crt"), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := bundle.Repair(t.Context(), s.Target(), time.Now(), bundle.RepairOptions{}); err == nil {
		t.Fatal("a malformed certificate was replaced without consent")
	} else if p, _ := advisory.Of(err); p == nil || p.ID != "secrets-need-consent" {
		t.Fatalf("error %v, want secrets-need-consent", err)
	}
	out := repaired(t, s, bundle.RepairOptions{Replace: true})
	if diff := cmp.Diff([]string{"server"}, out.Written); diff != "" {
		t.Errorf("written:\n%s", diff)
	}
	kept, _ := filepath.Glob(g.File(state.BackupDir) + "/*-server")
	if len(kept) != 1 {
		t.Fatalf("backups %q, want one of the server", kept)
	}
	if diff := cmp.Diff(map[string]string{"tls.crt": "garbage", "tls.key": good["server/tls.key"]}, tree(t, kept[0])); diff != "" {
		t.Errorf("backup:\n%s", diff)
	}
	now := tree(t, g.File("tls"))
	for _, untouched := range []string{"ca.crt", "ca.key", "client/tls.crt", "client/tls.key"} {
		if now[untouched] != good[untouched] {
			t.Errorf("%s changed", untouched)
		}
	}
}

func TestSweepRemovesWhatAnInterruptedWriteLeft(t *testing.T) {
	// A directory whose name is a glob pattern must not widen the sweep.
	g := gatewayIn(filepath.Join(t.TempDir(), "[ab]*"))
	s := New(g)
	tls := g.File("tls")
	if err := state.MkdirAll(tls); err != nil {
		t.Fatal(err)
	}
	left, mine := filepath.Join(tls, ".ca.key.tmp-123"), filepath.Join(tls, "ca.key.tmp-notes")
	for _, path := range []string{left, mine} {
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	repaired(t, s, bundle.RepairOptions{})
	if _, err := os.Lstat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s survives: %v", left, err)
	}
	if _, err := os.Lstat(mine); err != nil {
		t.Errorf("a file that is not ours: %v", err)
	}
}

// TestInterruptedWriteIsMendedUnasked stops a write after each of its steps. The
// next repair, without consent to replace anything, must end in a good set.
func TestInterruptedWriteIsMendedUnasked(t *testing.T) {
	spoil := map[string]func(t *testing.T, g state.Gateway){
		"nothing there":     func(*testing.T, state.Gateway) {},
		"no CA":             func(t *testing.T, g state.Gateway) { remove(t, g, "tls/ca.crt", "tls/ca.key") },
		"no server":         func(t *testing.T, g state.Gateway) { remove(t, g, "tls/server/tls.crt", "tls/server/tls.key") },
		"no kid":            func(t *testing.T, g state.Gateway) { remove(t, g, "jwt/kid") },
		"garbled CA":        func(t *testing.T, g state.Gateway) { garble(t, g, "tls/ca.crt") },
		"garbled client":    func(t *testing.T, g state.Gateway) { garble(t, g, "tls/client/tls.crt") },
		"garbled token key": func(t *testing.T, g state.Gateway) { garble(t, g, "jwt/signing.pem") },
		"CA without key":    func(t *testing.T, g state.Gateway) { remove(t, g, "tls/ca.key") },
		"lonely CA certificate": func(t *testing.T, g state.Gateway) {
			remove(t, g, "tls/ca.key", "tls/server/tls.crt", "tls/server/tls.key", "tls/client/tls.crt", "tls/client/tls.key")
		},
	}
	for name, damage := range spoil {
		t.Run(name, func(t *testing.T) {
			for stop := 0; ; stop++ {
				g := gatewayIn(t.TempDir())
				s := New(g)
				if name != "nothing there" {
					repaired(t, s, bundle.RepairOptions{})
				}
				damage(t, g)
				snapshot, err := s.Load(t.Context(), requirements())
				if err != nil {
					t.Fatal(err)
				}
				plan := bundle.MakePlan(bundle.Inspect(snapshot, requirements(), time.Now()))
				if !plan.NeedsRepair {
					t.Fatal("the damage was not noticed")
				}
				issued, err := bundle.Issue(plan, snapshot, requirements(), time.Now(), rand.Reader)
				if err != nil {
					t.Fatal(err)
				}
				wanted, err := s.plan(issued)
				if err != nil {
					t.Fatal(err)
				}
				steps := changes(wanted)
				if stop == 0 {
					steps = steps[:1] // before the first step the old state needs consent, rightly
				} else if stop < len(steps) {
					steps = steps[:stop]
				}
				for _, c := range steps {
					if err := c.do(); err != nil {
						t.Fatal(err)
					}
				}
				out, err := bundle.Repair(t.Context(), s.Target(), time.Now(), bundle.RepairOptions{})
				if consentFree := len(plan.Consent()) == 0; err != nil && (consentFree || touchedAll(plan, steps, wanted)) {
					t.Fatalf("stopped after step %d of %v: %v\n%+v", stop, paths(steps), err, out.Before.Findings)
				}
				if stop >= len(changes(wanted)) {
					break
				}
			}
		})
	}
}

// touchedAll reports that a write got as far as touching every member that it
// had consent to replace: from there on it must be finished unasked.
func touchedAll(p bundle.Plan, done []change, wanted []replacement) bool {
	for _, step := range p.Consent() {
		touched := false
		for _, w := range wanted {
			for _, f := range w.group.files {
				for _, c := range done {
					// Removing the key id leaves a garbled signing key as it was.
					begun := step.Member != bundle.JWT || len(c.content) > 0
					touched = touched || w.group.member == step.Member && c.path == f.path && begun
				}
			}
		}
		// Leaves that go along with a CA are finished as soon as the CA is gone.
		if !touched && (step.Class == bundle.Malformed || step.Member == bundle.CA) {
			return false
		}
	}
	return true
}

func paths(steps []change) []string {
	var p []string
	for _, c := range steps {
		p = append(p, fmt.Sprintf("%s/%s:%d", filepath.Base(filepath.Dir(c.path)), filepath.Base(c.path), len(c.content)))
	}
	return p
}

func remove(t *testing.T, g state.Gateway, names ...string) {
	t.Helper()
	for _, n := range names {
		if err := os.Remove(g.File(n)); err != nil {
			t.Fatal(err)
		}
	}
}

func garble(t *testing.T, g state.Gateway, name string) {
	t.Helper()
	if err := os.WriteFile(g.File(name), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestAnyDamageIsRepaired deletes and damages any subset of the files. With
// consent a repair makes the set good, members that were good and not issued
// along with their CA keep their bytes, and what was replaced is in a backup.
func TestAnyDamageIsRepaired(t *testing.T) {
	files := []string{"tls/ca.crt", "tls/ca.key", "tls/server/tls.crt", "tls/server/tls.key", "tls/client/tls.crt",
		"tls/client/tls.key", "jwt/signing.pem", "jwt/public.pem", "jwt/kid"}
	base := t.TempDir()
	other := gatewayIn(t.TempDir())
	repaired(t, New(other), bundle.RepairOptions{})
	foreign := tree(t, other.Dir())
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		g := gatewayIn(filepath.Join(base, fmt.Sprint(n)))
		s := New(g)
		repaired(t, s, bundle.RepairOptions{})
		for _, name := range files {
			path := g.File(name)
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			switch rapid.SampledFrom([]string{"keep", "keep", "keep", "delete", "empty", "truncate", "garble", "foreign"}).Draw(t, name) {
			case "keep":
				continue
			case "delete":
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
				continue
			case "empty":
				content = nil
			case "truncate":
				content = content[:rapid.IntRange(1, len(content)-1).Draw(t, "length")]
			case "garble":
				content = bytes.ToUpper(content)
			case "foreign":
				content = []byte(foreign[name])
			}
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		before, err := s.Load(t.Context(), requirements())
		if err != nil {
			t.Fatal(err)
		}
		out := repaired(t, s, bundle.RepairOptions{Replace: true})
		after, err := s.Load(t.Context(), requirements())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := bundle.Open(after); err != nil {
			t.Fatal(err)
		}
		for _, f := range out.Before.Findings {
			planned := false
			for _, step := range out.Plan.Steps {
				planned = planned || step.Member == f.Member
				if step.Member == f.Member && step.Coupled && out.Before.Find(bundle.CA).Class.Good() {
					t.Fatalf("%s goes along with a CA that is good", f.Member)
				}
			}
			if f.Class == bundle.OK && !planned && !cmp.Equal(before.Secrets[f.Member], after.Secrets[f.Member]) {
				t.Fatalf("%s was good and has other bytes now", f.Member)
			}
			if planned && len(before.Secrets[f.Member].Data) > 0 && !kept(g, before.Secrets[f.Member]) {
				t.Fatalf("the previous %s is in no backup", f.Member)
			}
		}
	})
}

func kept(g state.Gateway, s bundle.Secret) bool {
	dirs, _ := filepath.Glob(g.File(state.BackupDir) + "/*-" + s.Name)
	for _, dir := range dirs {
		same := true
		for key, want := range s.Data {
			got, err := os.ReadFile(filepath.Join(dir, key))
			same = same && err == nil && bytes.Equal(got, want)
		}
		if same {
			return true
		}
	}
	return false
}

func TestReadOnlyPlaceIsAnError(t *testing.T) {
	require.Feature(t, "ordinary-user", os.Geteuid() != 0, "run the test as an ordinary user; root may write everywhere")
	g := gatewayIn(t.TempDir())
	if err := state.MkdirAll(g.Dir()); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(g.Dir(), 0o500); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(g.Dir(), 0o700) })
	_, err := bundle.Repair(t.Context(), New(g).Target(), time.Now(), bundle.RepairOptions{})
	if p, ok := advisory.Of(err); !ok || p.ID != "secrets-write" || !errors.Is(err, fs.ErrPermission) {
		t.Errorf("error %v, want secrets-write because of permission", err)
	}
}
