package kubeapi

import (
	"fmt"
	"strings"

	"creel/internal/advisory"
)

// Kubectl is a command line for a person, about the namespace of the cluster that
// is meant, also where no client of it can be made.
func (o Options) Kubectl(command string) string {
	return fmt.Sprintf("kubectl%s --namespace %s %s", o.reach(), advisory.Quote(o.Namespace), command)
}

// KubectlCluster is Kubectl for what is about no namespace, or all of them.
func (o Options) KubectlCluster(command string) string { return "kubectl" + o.reach() + " " + command }

// reach are the flags with which kubectl finds the cluster.
func (o Options) reach() string {
	var flags string
	if o.Kubeconfig != "" {
		flags += " --kubeconfig " + advisory.Quote(o.Kubeconfig)
	}
	if o.Context != "" {
		flags += " --context " + advisory.Quote(o.Context)
	}
	return flags
}

// aim makes an advisory's commands be about the cluster that is meant: as they stand
// they are about whichever kubectl has selected. What is missing when something is
// forbidden is for those to say who asked.
func (o Options) aim(err error) error {
	p, explained := advisory.Of(err)
	if o.reach() == "" || !explained || len(p.Hints) > 0 || p.ID == "cluster-forbidden" {
		return err
	}
	for _, command := range p.Commands() {
		if rest, ok := strings.CutPrefix(command, "kubectl "); ok {
			command = o.KubectlCluster(rest)
		}
		p.Hints = append(p.Hints, command)
	}
	return err
}
