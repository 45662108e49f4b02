package kubestore

import (
	"maps"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"creel/internal/bundle"
)

const (
	managedByLabel = "app.kubernetes.io/managed-by"
	instanceLabel  = "app.kubernetes.io/instance"
	managedBy      = "creel"

	opaque     = "Opaque"
	mergePatch = types.MergePatchType
)

// object is a Secret as the API has it (core/v1), with all its fields.
type object struct {
	metav1.TypeMeta
	Metadata  metav1.ObjectMeta `json:"metadata"`
	Immutable *bool             `json:"immutable,omitempty"`
	Type      string            `json:"type,omitempty"`
	Data      map[string][]byte `json:"data,omitempty"`
}

// newObject is a Secret that does not exist yet.
func (s *Store) newObject(name, typ string, data map[string][]byte) *object {
	o := &object{TypeMeta: metav1.TypeMeta{Kind: "Secret", APIVersion: "v1"}, Type: typ, Data: data}
	o.Metadata.Name, o.Metadata.Namespace = name, s.namespace
	s.mark(o)
	return o
}

// mark labels what Creel writes. Who else manages an object, as a Helm release
// does, keeps it: taking its labels away would make the release lose its secret
// and Creel's teardown delete it.
func (s *Store) mark(o *object) {
	labels := map[string]string{managedByLabel: managedBy, instanceLabel: s.gateway}
	maps.Copy(labels, o.Metadata.Labels)
	o.Metadata.Labels = labels
	o.annotate(writtenAtAnnotation, stamp())
}

func (o *object) annotate(key, value string) {
	annotations := map[string]string{key: value}
	for k, v := range o.Metadata.Annotations {
		if k != key {
			annotations[k] = v
		}
	}
	o.Metadata.Annotations = annotations
}

func stamp() string { return time.Now().UTC().Format(time.RFC3339Nano) }

// version identifies one content of one object; "" is that of an absent one.
func (o *object) version() string {
	if o == nil {
		return ""
	}
	return string(o.Metadata.UID) + "/" + o.Metadata.ResourceVersion
}

// lacks reports that a key which a secret has is missing or empty, as package
// bundle calls it incomplete.
func (o *object) lacks(of bundle.Secret) bool {
	for key := range of.Data {
		if strings.TrimSpace(string(o.Data[key])) == "" {
			return true
		}
	}
	return false
}

// replacedBy is the object with another content. All of the old one goes: a
// ca.crt that no longer fits its certificate misleads whoever finds it, and a
// rotation empties a secret by writing none.
func (s *Store) replacedBy(current *object, secret bundle.Secret) *object {
	o := *current
	o.Data = secret.Data
	s.mark(&o)
	return &o
}

// recreatedAs is replacedBy for an object that has to be deleted first, because
// its type cannot be changed or it is immutable.
func (s *Store) recreatedAs(current *object, secret bundle.Secret) *object {
	o := s.replacedBy(current, secret)
	m := current.Metadata
	o.Type, o.Immutable = secret.Type, nil
	o.Metadata = metav1.ObjectMeta{Name: m.Name, Namespace: m.Namespace, Labels: o.Metadata.Labels,
		Annotations: o.Metadata.Annotations, OwnerReferences: m.OwnerReferences}
	return o
}
