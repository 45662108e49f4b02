package kubestore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"creel/internal/advisory"
	"creel/internal/bundle"
	"creel/internal/health"
	"creel/internal/kubeapi"
)

// token is the note in a bundle.Snapshot: every object that was asked for as it
// was read, nil for one that was absent.
type token struct {
	namespace string
	objects   map[string]*object
}

// Load reads the secrets of a set, each by its name. One is absent only when the
// API says so of it, in a namespace that exists.
func (s *Store) Load(ctx context.Context, want bundle.Requirements) (bundle.Snapshot, error) {
	snapshot, err := s.load(ctx, want)
	if err != nil {
		return bundle.Snapshot{}, s.advise(ctx, err)
	}
	return snapshot, nil
}

func (s *Store) load(ctx context.Context, want bundle.Requirements) (bundle.Snapshot, error) {
	if want.Generation == bundle.Generation2 && want.Layout != bundle.Kubernetes {
		return bundle.Snapshot{}, advisory.New("secrets-unknown", "a namespace holds no set in the directory layout", nil)
	}
	names := want.Stored()
	found := make([]*object, len(names))
	err := kubeapi.InParallel(names, func(i int, name string) (err error) {
		found[i], err = s.readSecret(ctx, name)
		return err
	})
	if err != nil {
		return bundle.Snapshot{}, err
	}
	if slices.Contains(found, nil) {
		if err := s.checkPlace(ctx); err != nil {
			return bundle.Snapshot{}, err
		}
	}
	t := token{namespace: s.namespace, objects: map[string]*object{}}
	snapshot := bundle.Snapshot{Secrets: map[string]bundle.Secret{}, Caveats: slices.Clone(s.api.Caveats())}
	for i, name := range names {
		t.objects[name] = found[i]
		if o := found[i]; o != nil {
			snapshot.Secrets[name] = bundle.Secret{Name: name, Type: o.Type, Data: maps.Clone(o.Data)}
		}
	}
	snapshot.Token = t
	if snapshot.Unrolled = s.owed().owedFor(t); len(snapshot.Unrolled) > 0 {
		snapshot.Caveats = append(snapshot.Caveats, health.Caveat{Advisory: "secrets-not-rolled",
			Message: "the gateway was not started again since this was replaced: " + strings.Join(snapshot.Unrolled, ", ")})
	}
	return snapshot, nil
}

// readSecret returns nil without an error for a secret that does not exist.
func (s *Store) readSecret(ctx context.Context, name string) (*object, error) {
	// The name is from a pod template and becomes a part of a URL.
	if faults := validation.IsDNS1123Subdomain(name); len(faults) > 0 {
		return nil, advisory.New("secrets-unknown", fmt.Sprintf("the pod template refers to a secret %q, which no secret can be called", name), errors.New(faults[0]))
	}
	o := &object{}
	operation := fmt.Sprintf("read Secret %s/%s", s.namespace, name)
	err := s.api.Read(ctx, operation, s.api.Get().AbsPath(s.secretPath(name)), "Secret", o)
	switch {
	case kubeapi.IsAbsent(err, "secrets", name):
		return nil, nil
	case err != nil:
		return nil, err
	case o.Metadata.Name != name || o.Metadata.UID == "" || o.Metadata.ResourceVersion == "":
		return nil, advisory.New("cluster-not-kubernetes", fmt.Sprintf("%s: the answer is about %q", operation, o.Metadata.Name), nil)
	case o.Metadata.DeletionTimestamp != nil:
		return nil, s.goingSecret(o)
	}
	return o, nil
}

// goingSecret says what keeps a deleted secret from disappearing.
func (s *Store) goingSecret(o *object) error {
	by := "nothing that it names"
	if f := o.Metadata.Finalizers; len(f) > 0 {
		by = "the finalizers " + strings.Join(f, ", ")
	}
	return advisory.New("cluster-secret-going", fmt.Sprintf("Secret %s/%s is being deleted, held back by %s", s.namespace, o.Metadata.Name, by), nil,
		s.api.Kubectl("get secret "+o.Metadata.Name+" -o jsonpath={.metadata.finalizers}"))
}
