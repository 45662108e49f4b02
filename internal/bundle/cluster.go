package bundle

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"creel/internal/advisory"
)

// Labels of everything that Creel writes into a cluster; teardown removes by
// these only. The values are ManagedBy and the gateway's name.
const (
	LabelManagedBy = "app.kubernetes.io/managed-by"
	LabelInstance  = "app.kubernetes.io/instance"
	ManagedBy      = "creel"
)

// Annotations of secrets that Creel writes into a cluster.
const (
	AnnotationWrittenAt  = "creel/written-at"
	AnnotationBackup     = "creel/backup"      // which backup holds the previous value
	AnnotationBackupOf   = "creel/backup-of"   // of a backup: the name that its content was stored under
	AnnotationBackupType = "creel/backup-type" // of a backup: the type that it had
)

// ClusterSecret is a Secret as a cluster holds it, in the JSON of the Kubernetes
// API (core/v1).
type ClusterSecret struct {
	APIVersion string            `json:"apiVersion,omitempty"`
	Kind       string            `json:"kind,omitempty"`
	Metadata   ClusterMetadata   `json:"metadata"`
	Type       string            `json:"type,omitempty"`
	Immutable  bool              `json:"immutable,omitempty"`
	Data       map[string][]byte `json:"data,omitempty"`
}

// ClusterMetadata is the part of an object's metadata that a write must know or
// keep.
type ClusterMetadata struct {
	Name              string            `json:"name"`
	GenerateName      string            `json:"generateName,omitempty"`
	Namespace         string            `json:"namespace,omitempty"`
	UID               string            `json:"uid,omitempty"`
	ResourceVersion   string            `json:"resourceVersion,omitempty"`
	DeletionTimestamp string            `json:"deletionTimestamp,omitempty"`
	Labels            map[string]string `json:"labels,omitempty"`
	Annotations       map[string]string `json:"annotations,omitempty"`
	Finalizers        []string          `json:"finalizers,omitempty"`
	OwnerReferences   json.RawMessage   `json:"ownerReferences,omitempty"`
}

// version identifies one content of one object; "" is that of an absent one.
func (o *ClusterSecret) version() string {
	if o == nil {
		return ""
	}
	return o.Metadata.UID + "/" + o.Metadata.ResourceVersion
}

// lacks reports that a key which a secret has is missing or empty.
func (o *ClusterSecret) lacks(of Secret) bool {
	for key := range of.Data {
		if len(bytes.TrimSpace(o.Data[key])) == 0 {
			return true
		}
	}
	return false
}

// RFC 1123 as Kubernetes reads it for the names of Secrets and namespaces.
var clusterName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

const maxClusterName = 253

// CheckClusterName refuses what no object in a cluster can be called. The names
// of secrets come out of a pod template, which may hold anything: also what a
// command would take for a flag, or a URL for a way up.
func CheckClusterName(name string) error {
	if len(name) > maxClusterName || !clusterName.MatchString(name) {
		return fmt.Errorf("%.80q is no name of an object in a cluster", name)
	}
	return nil
}

// Held is the cause of an error about a secret that finalizers keep from being
// deleted, as far as it names any.
type Held struct {
	Secret string
	by     []string
}

func (h *Held) Error() string {
	if len(h.by) == 0 {
		return "nothing that it names holds it back"
	}
	return fmt.Sprintf("the finalizers %s hold it back", strings.Join(h.by, ", "))
}

// Command shows what holds the secret back: what kubectl is told beside how to
// reach the namespace.
func (h *Held) Command() string {
	return "get secret " + h.Secret + " -o jsonpath={.metadata.finalizers}"
}

// Check refuses what was read of a secret when it does not have that name, or not
// all that makes a write conditional. One that is being deleted is neither there
// nor absent: that error has an advisory, and a Held as its cause.
func (o *ClusterSecret) Check(name string) error {
	m := o.Metadata
	switch {
	case m.Name != name || m.UID == "" || m.ResourceVersion == "":
		return fmt.Errorf("secret %q has the name %.80q, the uid %.80q and the resource version %.80q", name, m.Name, m.UID, m.ResourceVersion)
	case m.DeletionTimestamp != "":
		return advisory.New("cluster-secret-going", fmt.Sprintf("secret %s is being deleted", name), &Held{name, m.Finalizers})
	}
	return nil
}

// clusterToken is the note in the snapshot of a namespace.
type clusterToken struct {
	namespace string
	// objects holds every secret that was asked for as it was read, nil for one that
	// was absent. The uid and resource version in them make writes conditional.
	objects map[string]*ClusterSecret
	pending map[string]string // see Workload.pending
}

// ClusterSnapshot makes a snapshot of what a namespace holds of the secrets that
// were asked for. Its error is that of the first that fails its Check.
func ClusterSnapshot(namespace string, asked []string, found map[string]ClusterSecret) (Snapshot, error) {
	s := Snapshot{Secrets: map[string]Secret{}}
	seen := clusterToken{namespace: namespace, objects: map[string]*ClusterSecret{}}
	for _, name := range asked {
		seen.objects[name] = nil
		o, ok := found[name]
		if !ok {
			continue
		}
		if err := o.Check(name); err != nil {
			return Snapshot{}, err
		}
		data := map[string][]byte{}
		for key, value := range o.Data {
			data[key] = bytes.Clone(value)
		}
		s.Secrets[name] = Secret{Name: name, Type: o.Type, Data: data}
		seen.objects[name] = &o
	}
	s.Token = seen
	return s, nil
}

// ClusterChange is one secret to write.
type ClusterChange struct {
	Old *ClusterSecret // as it was read; nil when it was absent
	// New is what it becomes. With the uid and the resource version of Old in its
	// metadata it replaces nothing else.
	New ClusterSecret
	// Recreate: Old has to be deleted first, because it cannot be changed.
	Recreate bool
	// Stage orders changes: a stage is begun when the one before it is done. Those
	// of one stage do not depend on each other.
	Stage int
}

// The stages. A cluster has no transaction over several secrets, so a write may
// end between any two, and the next repair must be able to go on with the consent
// that this one had. With consent to replace, any state can be repaired. Without
// it, only what is absent or lacks a key can; what was written must not leave a
// good member that does not fit a good one, since that looks like somebody's
// intention. So first are the members that are whole, and are replaced only
// because they go along with one that is bad; then those that lack a key; then
// the absent ones. As long as the bad one, the reason for the write, is left to
// do, the set needs the same repair, without anybody's consent.
//
// For the pairs that are issued together, that means: of CA and client
// (generation 1), when the client is absent or incomplete, the CA is written
// first: a new CA without its client is where this began, a new client under an
// old CA would be a mismatch. When the CA is absent, it is the client that is
// written first, for the same reason. Of server and client (generation 2, each
// with the CA inside) likewise the good one first; until the other follows it is
// absent or incomplete, and the CA of the good one is the set's. When both are bad
// any order will do. Deleting one to create it again only makes it absent, which is
// always repaired. The handshake and the token key stand alone.
//
// One thing does not converge to the same: a token key that must be deleted, when
// the write ends between the deletion and the creation, is absent afterwards, and
// a new one is issued. The old one is in the backup.
//
// A pair that is wholly absent is one half after the other all the same: who is
// faster with one of them keeps the other from being written.
const (
	stageWhole = iota
	stageIncomplete
	stageAbsent
	stageLast
	stageEmptied // what a rotation had put aside goes when it is in place
)

// ClusterChanges puts a write into a namespace in order. now is noted on what is
// written. A snapshot of another place is an error.
func ClusterChanges(gateway, namespace string, write []Secret, prev Snapshot, now time.Time) ([]ClusterChange, error) {
	seen, ok := prev.Token.(clusterToken)
	if !ok || seen.namespace != namespace {
		return nil, fmt.Errorf("the snapshot is not one of namespace %s", namespace)
	}
	var changes []ClusterChange
	for _, secret := range write {
		old, asked := seen.objects[secret.Name]
		twice := slices.ContainsFunc(changes, func(c ClusterChange) bool { return c.New.Metadata.Name == secret.Name })
		if !asked || twice {
			return nil, fmt.Errorf("secret %q is not in the snapshot, or is written twice", secret.Name)
		}
		secret.Type = cmp.Or(secret.Type, typeOpaque)
		c := ClusterChange{Old: old, Stage: stageAbsent, New: ClusterSecret{APIVersion: "v1", Kind: "Secret",
			Metadata: ClusterMetadata{Name: secret.Name, Namespace: namespace}, Type: secret.Type, Data: secret.Data}}
		switch {
		case old != nil && len(secret.Data) == 0:
			c.Stage = stageEmptied
		case old != nil && old.lacks(secret):
			c.Stage = stageIncomplete
		case old != nil:
			c.Stage = stageWhole
		case slices.ContainsFunc(changes, func(o ClusterChange) bool { return o.Old == nil && issuedTogether(o.New.Data, secret.Data) }):
			c.Stage = stageLast
		}
		if old != nil {
			if err := c.keep(*old); err != nil {
				return nil, err
			}
		}
		mark(&c.New.Metadata, gateway, now)
		changes = append(changes, c)
	}
	slices.SortStableFunc(changes, func(a, b ClusterChange) int { return a.Stage - b.Stage })
	return changes, nil
}

// issuedTogether: they hold the same CA, and are of no use to each other under
// another one.
func issuedTogether(a, b map[string][]byte) bool {
	return len(a[keyCACert]) > 0 && bytes.Equal(a[keyCACert], b[keyCACert])
}

// keep takes over what is not Creel's. Of the old content nothing stays: a ca.crt
// that no longer fits its certificate misleads whoever finds it, and a rotation
// empties a secret by writing none.
func (c *ClusterChange) keep(old ClusterSecret) error {
	c.New.Metadata = old.Metadata
	if c.Recreate = old.Immutable || old.Type != c.New.Type; !c.Recreate {
		return nil
	}
	if len(old.Metadata.Finalizers) > 0 {
		return advisory.New("cluster-refused", fmt.Sprintf("secret %s cannot be changed and would have to be deleted", old.Metadata.Name),
			&Held{old.Metadata.Name, old.Metadata.Finalizers})
	}
	c.New.Metadata.UID, c.New.Metadata.ResourceVersion = "", ""
	return nil
}

// mark labels what Creel writes. Who else manages an object, as a Helm release
// does, keeps it: without its label the release would lose the secret.
func mark(m *ClusterMetadata, gateway string, now time.Time) {
	labels := map[string]string{LabelManagedBy: ManagedBy, LabelInstance: gateway}
	maps.Copy(labels, m.Labels)
	m.Labels = labels
	m.annotate(AnnotationWrittenAt, now.UTC().Format(time.RFC3339Nano))
}

func (m *ClusterMetadata) annotate(key, value string) {
	annotations := maps.Clone(m.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[key] = value
	m.Annotations = annotations
}
