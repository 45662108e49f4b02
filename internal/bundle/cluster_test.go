package bundle

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fakeCluster keeps secrets as an API server does: it refuses stale and
// impossible writes.
type fakeCluster struct {
	secrets map[string]ClusterSecret
	version int
}

func newFakeCluster(t testing.TB, s Snapshot) *fakeCluster {
	t.Helper()
	c := &fakeCluster{secrets: map[string]ClusterSecret{}}
	for _, secret := range s.Secrets {
		if err := c.do("create", ClusterSecret{Metadata: ClusterMetadata{Name: secret.Name}, Type: secret.Type, Data: secret.Data}); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func (c *fakeCluster) do(verb string, o ClusterSecret) error {
	old, exists := c.secrets[o.Metadata.Name]
	c.version++
	same := exists && old.Metadata.UID == o.Metadata.UID && old.Metadata.ResourceVersion == o.Metadata.ResourceVersion
	switch {
	case verb == "create" && exists, verb != "create" && !same:
		return ErrChanged
	case verb == "create" && (o.Metadata.UID != "" || o.Metadata.ResourceVersion != ""):
		return errors.New("resourceVersion should not be set on objects to be created")
	case verb == "replace" && (old.Immutable || old.Type != o.Type):
		return errors.New("field is immutable")
	case verb == "delete" && len(old.Metadata.Finalizers) > 0:
		return errors.New("it would stay")
	case verb == "delete":
		delete(c.secrets, o.Metadata.Name)
		return nil
	case verb == "create":
		o.Metadata.UID = fmt.Sprint("uid-", c.version)
	}
	o.Metadata.ResourceVersion = fmt.Sprint(c.version)
	c.secrets[o.Metadata.Name] = o
	return nil
}

func (c *fakeCluster) Load(_ context.Context, want Requirements) (Snapshot, error) {
	return ClusterSnapshot("openshell", want.Stored(), c.secrets)
}

// steps is a write as the calls between which it may be interrupted.
func (c *fakeCluster) steps(write []Secret, prev Snapshot) ([]func() error, error) {
	changes, err := ClusterChanges("gw", "openshell", write, prev, moment())
	var backups, writes []func() error
	for _, change := range changes {
		if change.Replaces() {
			b := change.Backup("gw", moment(), 0)
			change.KeptIn(b.Metadata.Name)
			backups = append(backups, func() error {
				err := c.do("create", b)
				if errors.Is(err, ErrChanged) && !b.Taken(c.secrets[b.Metadata.Name]) {
					return nil
				}
				return err
			})
		}
		switch {
		case change.Old == nil:
			writes = append(writes, func() error { return c.do("create", change.New) })
		case change.Recreate:
			writes = append(writes, func() error { return c.do("delete", *change.Old) }, func() error { return c.do("create", change.New) })
		default:
			writes = append(writes, func() error { return c.do("replace", change.New) })
		}
	}
	return slices.Concat(backups, writes), err
}

func (c *fakeCluster) Apply(_ context.Context, write []Secret, prev Snapshot) error {
	steps, err := c.steps(write, prev)
	if err != nil {
		return err
	}
	for _, do := range steps {
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}

// TestRepairEveryDamageInACluster runs every case of the classification that a
// cluster can hold: what was there is in a labelled backup, what is not Creel's
// stays.
func TestRepairEveryDamageInACluster(t *testing.T) {
	for _, c := range damages() {
		if c.want.layout() != Kubernetes {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			s := fresh(t, c.want, moment())
			c.spoil(t, s)
			cluster := newFakeCluster(t, s)
			for name, o := range cluster.secrets {
				o.Metadata.Labels, o.Metadata.OwnerReferences = map[string]string{LabelManagedBy: "Helm", "theirs": name}, json.RawMessage(`[{}]`)
				o.Data["other"] = []byte(name)
				cluster.secrets[name] = o
			}
			before := len(cluster.secrets)
			out, err := Repair(t.Context(), Fixed{cluster, c.want}, moment(), RepairOptions{Replace: true})
			if err != nil {
				t.Fatal(err)
			}
			backups := 0
			for _, name := range out.Written {
				m := cluster.secrets[name].Metadata
				old, replaced := s.Secrets[name]
				if m.Labels[LabelInstance] != "gw" || m.Annotations[AnnotationWrittenAt] == "" || !replaced && m.Labels[LabelManagedBy] != ManagedBy {
					t.Errorf("%s has the metadata %+v", name, m)
				}
				if !replaced {
					continue
				}
				backups++
				if m.Labels["theirs"] != name || m.Labels[LabelManagedBy] != "Helm" || len(m.OwnerReferences) == 0 || cluster.secrets[name].Data["other"] != nil {
					t.Errorf("%s lost what was not ours: %+v", name, m)
				}
				backup := cluster.secrets[name+"-creel-backup-1"]
				if string(backup.Data["other"]) != name {
					t.Errorf("the backup lacks what was not ours: %q", backup.Data["other"])
				}
				if diff := cmp.Diff(old.Data, backup.Data); diff != "" || m.Annotations[AnnotationBackup] != backup.Metadata.Name || !backup.Immutable ||
					backup.Metadata.Labels[LabelManagedBy] != ManagedBy || backup.Metadata.Annotations[AnnotationBackupOf] != name ||
					backup.Metadata.Annotations[AnnotationBackupType] != old.Type {
					t.Errorf("backup %+v:\n%s", backup.Metadata, diff)
				}
			}
			if want := before + len(out.Written); len(cluster.secrets) != want || backups != len(out.Replaced) {
				t.Errorf("%d secrets, want %d; %d backups of %q", len(cluster.secrets), want, backups, out.Replaced)
			}
		})
	}
}

// TestInterruptedClusterWrite stops a write after each call. The next repair goes
// on with no more consent than the first had, and keeps no value twice.
func TestInterruptedClusterWrite(t *testing.T) {
	set := func(value string, keys ...string) func(Secret) {
		return func(s Secret) {
			for _, key := range keys {
				if _, ok := s.Data[key]; ok {
					s.Data[key] = []byte(value)
				}
			}
		}
	}
	garble, empty := set("garbage", keyTLSCert, keyCACert), set("", keyTLSKey)
	for name, spoil := range map[string]map[string]func(Secret){
		"nothing there":          {ServerTLS: nil, ServerCA: nil, ClientTLS: nil, SSHHandshake: nil, jwtKeys: nil},
		"no CA":                  {ServerCA: nil},
		"no client":              {ClientTLS: nil},
		"no server":              {ServerTLS: nil},
		"neither":                {ServerCA: nil, ClientTLS: nil},
		"client without its key": {ClientTLS: empty},
		"server without its key": {ServerTLS: empty},
		"both without their key": {ServerTLS: empty, ClientTLS: empty},
		"garbled CA":             {ServerCA: garble},
		"garbled client":         {ClientTLS: garble},
		"garbled server":         {ServerTLS: garble},
		"all garbled":            {ServerTLS: garble, ServerCA: garble, ClientTLS: garble},
		"client lacks its CA":    {ClientTLS: set("", keyCACert)},
	} {
		for kind, want := range map[string]Requirements{"generation 1": generation1(), "generation 2": kubernetes()} {
			t.Run(name+", "+kind, func(t *testing.T) {
				for stop, all := 1, 1; stop <= all; stop++ {
					s := fresh(t, want, moment())
					for stored, how := range spoil {
						if how == nil {
							delete(s.Secrets, stored)
						} else {
							how(s.Secrets[stored])
						}
					}
					cluster := newFakeCluster(t, s)
					prev, err := cluster.Load(t.Context(), want)
					if err != nil {
						t.Fatal(err)
					}
					plan := MakePlan(Inspect(prev, want, moment()))
					if !plan.NeedsRepair {
						return // this generation has no such member
					}
					issued, err := Issue(plan, prev, want, moment(), rand.Reader)
					if err != nil {
						t.Fatal(err)
					}
					steps, err := cluster.steps(issued, prev)
					if err != nil {
						t.Fatal(err)
					}
					all = len(steps)
					for _, do := range steps[:stop] {
						if err := do(); err != nil {
							t.Fatal(err)
						}
					}
					consent := len(plan.Consent()) > 0
					if out, err := Repair(t.Context(), Fixed{cluster, want}, moment(), RepairOptions{Replace: consent}); err != nil {
						t.Errorf("after %d of %d calls: %v\n%+v", stop, all, err, out.Plan.Steps)
					}
					kept := map[string]int{}
					for name, o := range cluster.secrets {
						if of := o.Metadata.Annotations[AnnotationBackupOf]; of != "" {
							content, err := json.Marshal(o.Data)
							if err != nil {
								t.Fatal(err)
							}
							if kept[of+string(content)]++; kept[of+string(content)] > 1 {
								t.Errorf("after %d of %d calls %s keeps what another backup does", stop, all, name)
							}
						}
					}
				}
			})
		}
	}
}

func TestClusterChangesAreConditional(t *testing.T) {
	want := generation1()
	cluster := newFakeCluster(t, fresh(t, want, moment()))
	o := cluster.secrets[ServerTLS]
	o.Metadata.Annotations = map[string]string{AnnotationBackup: ServerTLS + "-creel-backup-7"}
	write := []Secret{{Name: ServerTLS, Type: typeTLS, Data: o.Data}}
	changes := func() ([]ClusterChange, error) {
		t.Helper()
		prev, err := ClusterSnapshot("openshell", want.Stored(), map[string]ClusterSecret{ServerTLS: o})
		if err != nil {
			t.Fatal(err)
		}
		return ClusterChanges("gw", "openshell", write, prev, moment())
	}
	c, err := changes()
	if err != nil || c[0].Recreate || c[0].New.version() != o.version() || c[0].Backup("gw", moment(), 0).Metadata.Name != ServerTLS+"-creel-backup-8" {
		t.Errorf("%+v, %v", c, err)
	}
	o.Metadata.Annotations[AnnotationBackup] = "7" // no name of a backup of it
	if c, err = changes(); err != nil || c[0].Backup("gw", moment(), 2).Metadata.Name != ServerTLS+"-creel-backup-3" {
		t.Errorf("%+v, %v", c, err)
	}
	for _, spoil := range []func(){func() { o.Immutable = true }, func() { o.Immutable, o.Type = false, "example.com/other" }} {
		spoil()
		if c, err = changes(); err != nil || !c[0].Recreate || c[0].New.version() != "/" || c[0].New.Type != typeTLS || c[0].New.Immutable {
			t.Errorf("%+v, %v", c, err)
		}
	}
	o.Metadata.Finalizers = []string{"example.com/hold"}
	var held *Held
	if c, err = changes(); advisoryID(err) != "cluster-refused" || !strings.Contains(err.Error(), "example.com/hold") || !errors.As(err, &held) || held.Secret != ServerTLS {
		t.Errorf("what a finalizer would keep: %+v, %v", c, err)
	}
	o.Metadata.Finalizers, o.Type, write = nil, typeTLS, []Secret{{Name: ServerTLS, Type: typeTLS, Data: map[string][]byte{}}}
	if c, err = changes(); err != nil || len(c[0].New.Data) > 0 {
		t.Errorf("an emptied secret is %+v, %v", c, err)
	}
	for _, bad := range [][]Secret{{{Name: "other"}}, {{Name: SSHHandshake}, {Name: SSHHandshake}}} {
		write = bad
		if c, err = changes(); err == nil {
			t.Errorf("%+v became %+v", bad, c)
		}
	}
	if _, err := ClusterChanges("gw", "openshell", nil, Snapshot{}, moment()); err == nil {
		t.Error("a snapshot of no cluster was accepted")
	}
	empty, err := ClusterSnapshot("openshell", want.Stored(), nil)
	if err != nil {
		t.Fatal(err)
	}
	write = []Secret{{Name: ServerTLS, Data: o.Data}}
	if _, err := ClusterChanges("gw", "openshell", write, empty, moment()); err != nil {
		t.Error(err)
	}
	if _, err := ClusterChanges("gw", "elsewhere", write, empty, moment()); err == nil {
		t.Error("a snapshot of another namespace was accepted")
	}
}

func TestClusterSnapshotRefuses(t *testing.T) {
	whole := ClusterMetadata{Name: ServerTLS, UID: "u", ResourceVersion: "1"}
	load := func(spoil func(*ClusterMetadata)) error {
		m := whole
		spoil(&m)
		_, err := ClusterSnapshot("openshell", []string{ServerTLS}, map[string]ClusterSecret{ServerTLS: {Metadata: m}})
		return err
	}
	if err := load(func(*ClusterMetadata) {}); err != nil {
		t.Error(err)
	}
	for _, spoil := range []func(*ClusterMetadata){
		func(m *ClusterMetadata) { m.Name = "other" },
		func(m *ClusterMetadata) { m.UID = "" },
		func(m *ClusterMetadata) { m.ResourceVersion = "" },
	} {
		if load(spoil) == nil {
			t.Error("half an object was accepted")
		}
	}
	err := load(func(m *ClusterMetadata) {
		m.DeletionTimestamp, m.Finalizers = "2031-05-06T07:08:09Z", []string{"example.com/hold"}
	})
	var held *Held
	if advisoryID(err) != "cluster-secret-going" || !strings.Contains(err.Error(), "example.com/hold") || !errors.As(err, &held) {
		t.Fatalf("being deleted: %v", err)
	}
	if got := held.Command(); got != "get secret "+ServerTLS+" -o jsonpath={.metadata.finalizers}" {
		t.Errorf("it is shown by %q", got)
	}
	if err := load(func(m *ClusterMetadata) { m.DeletionTimestamp = "2031-05-06T07:08:09Z" }); err == nil || !strings.Contains(err.Error(), "nothing that it names") {
		t.Errorf("being deleted for no reason: %v", err)
	}
}

func TestCheckClusterName(t *testing.T) {
	for _, name := range []string{"openshell-server-tls", "a", "a.b-c", strings.Repeat("a", 253)} {
		if err := CheckClusterName(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", "--all", "../pods", "a/b", "A", "a_b", "a.", ".a", "a b", "a\n", strings.Repeat("a", 254)} {
		if CheckClusterName(name) == nil {
			t.Errorf("%q was accepted", name)
		}
	}
}

// TestMadeBeside: what anybody else made, or Creel for another gateway, is not taken
// for Creel's, whatever it is called.
func TestMadeBeside(t *testing.T) {
	ours := map[string]string{LabelManagedBy: ManagedBy, LabelInstance: "gw"}
	for _, c := range []struct {
		name     string
		labels   map[string]string
		backupOf string
		of       string
	}{
		{"a-creel-backup-1", ours, "a", "a"},
		{"a-creel-next", ours, "", "a"},
		{"a-creel-next-creel-backup-12", ours, "a-creel-next", "a-creel-next"},
		{"a", ours, "", ""},
		{"a-creel-backup-1", ours, "", ""},
		{"a-creel-backup-1", ours, "b", ""},
		{"a-creel-backup-x", ours, "a", ""},
		{"a-creel-backup-", ours, "a", ""},
		{"a-creel-backup-1", nil, "a", ""},
		{"a-creel-next", nil, "", ""},
		{"a-creel-next", map[string]string{LabelManagedBy: ManagedBy, LabelInstance: "other"}, "", ""},
		{"a-creel-backup-1", map[string]string{LabelManagedBy: "Helm", LabelInstance: "gw"}, "a", ""},
	} {
		o := ClusterSecret{Metadata: ClusterMetadata{Name: c.name, Labels: c.labels, Annotations: map[string]string{AnnotationBackupOf: c.backupOf}}}
		if of, ok := o.MadeBeside("gw"); ok != (c.of != "") || ok && of != c.of {
			t.Errorf("%+v: beside %q, %v", c, of, ok)
		}
	}
}
