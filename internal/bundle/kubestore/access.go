package kubestore

import (
	"context"
	"errors"
	"slices"

	"creel/internal/advisory"
	"creel/internal/bundle"
	"creel/internal/kubeapi"
)

func secretRight(verb, name string) kubeapi.Right {
	return kubeapi.Right{Verb: verb, Resource: "secrets", Name: name}
}

// rightsFor lists what applying changes needs. Roles can name objects, except
// for create; and a backup's name is not known yet.
func (s *Store) rightsFor(changes []bundle.ClusterChange) []kubeapi.Right {
	create := secretRight("create", "")
	var rights []kubeapi.Right
	add := func(r kubeapi.Right) {
		if !slices.Contains(rights, r) {
			rights = append(rights, r)
		}
	}
	for _, c := range changes {
		add(secretRight("get", c.New.Metadata.Name))
		add(create) // the secret, or a backup of it
		switch {
		case c.Old == nil:
			continue
		case c.Recreate:
			add(secretRight("delete", c.New.Metadata.Name))
		default:
			add(secretRight("update", c.New.Metadata.Name))
		}
		add(kubeapi.Right{Verb: "patch", Group: "apps", Resource: "statefulsets", Name: s.statefulSet})
	}
	return rights
}

// advise adds to an error the commands that help with it here. About a missing
// right those are the ones with which somebody who may can grant it: all that this
// package needs, so that the next attempt does not find the next right missing.
func (s *Store) advise(ctx context.Context, err error) error {
	p, ok := advisory.Of(err)
	if !ok || len(p.Hints) > 0 {
		return err
	}
	var held *bundle.Held
	switch {
	case errors.As(err, &held):
		p.Hints = []string{s.api.Kubectl(held.Command())}
	case p.ID == "secrets-not-applicable":
		p.Hints = []string{s.api.Kubectl("get statefulsets"), s.api.KubectlCluster("get statefulsets --all-namespaces")}
	case p.ID == "cluster-forbidden":
		p.Hints = s.api.Grant(ctx, kubeapi.Role{Name: "creel-secrets", Verbs: "get,create,update,delete", Resources: "secrets"},
			kubeapi.Role{Name: "creel-roll", Verbs: "get,patch", Resources: "statefulsets.apps"})
	}
	return err
}
