package kubestore

import (
	"context"
	"slices"

	"creel/internal/advisory"
	"creel/internal/kubeapi"
)

func secretRight(verb, name string) kubeapi.Right {
	return kubeapi.Right{Verb: verb, Resource: "secrets", Name: name}
}

// rightsFor lists what applying changes needs. Roles can name objects, except
// for create; and a backup's name is not known yet.
func (s *Store) rightsFor(changes []change) []kubeapi.Right {
	create := secretRight("create", "")
	var rights []kubeapi.Right
	add := func(r kubeapi.Right) {
		if !slices.Contains(rights, r) {
			rights = append(rights, r)
		}
	}
	for _, c := range changes {
		add(secretRight("get", c.secret.Name))
		add(create) // the secret, or a backup of it
		switch {
		case c.current == nil:
			continue
		case c.recreate:
			add(secretRight("delete", c.secret.Name))
		default:
			add(secretRight("update", c.secret.Name))
		}
		add(kubeapi.Right{Verb: "patch", Group: "apps", Resource: "statefulsets", Name: s.statefulSet})
	}
	return rights
}

// advise adds to an error about a missing right the commands with which somebody
// who may can grant it: all that this package needs, so that the next attempt
// does not find the next right missing.
func (s *Store) advise(ctx context.Context, err error) error {
	p, ok := advisory.Of(err)
	if !ok || p.ID != "cluster-forbidden" || len(p.Hints) > 0 {
		return err
	}
	p.Hints = s.api.Grant(ctx, kubeapi.Role{Name: "creel-secrets", Verbs: "get,create,update,delete", Resources: "secrets"},
		kubeapi.Role{Name: "creel-roll", Verbs: "get,patch", Resources: "statefulsets.apps"})
	return err
}
