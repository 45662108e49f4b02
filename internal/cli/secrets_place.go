package cli

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"creel/internal/advisory"
	"creel/internal/bundle"
	"creel/internal/desired"
)

// PlaceKind says what keeps a gateway's bootstrap secrets.
type PlaceKind string

// The kinds of places.
const (
	PlaceRuntime   PlaceKind = ""           // where the gateway of this machine keeps them
	PlaceCluster   PlaceKind = "kubernetes" // a cluster that is reached by a kubeconfig
	PlaceContainer PlaceKind = "container"  // a cluster inside a container
)

// Place is where a gateway's bootstrap secrets are looked for.
type Place struct {
	Kind    PlaceKind
	Gateway string
	// Kubeconfig and Context choose a cluster; empty is what kubectl would take.
	Kubeconfig, Context string
	InCluster           bool
	// Namespace and StatefulSet are what the gateway is called in the cluster.
	Namespace, StatefulSet string
	Container              string
	// Recorded: it is where the recorded gateway of this name is, so that no flag has to
	// say it.
	Recorded bool
}

// String is the place in words.
func (p Place) String() string {
	workload := fmt.Sprintf("statefulset/%s in namespace %s", p.StatefulSet, p.Namespace)
	switch {
	case p.Kind == PlaceContainer:
		return workload + " of container " + p.Container
	case p.Kind == PlaceRuntime:
		return "this machine"
	case p.InCluster:
		return workload + " of this cluster"
	case p.Context != "":
		return workload + " of context " + p.Context
	}
	return workload
}

// command is a command line with what leads to the same place.
func (p Place) command(line string) string {
	add := func(flag, value, byDefault string) {
		if value != byDefault {
			line += " --" + flag + " " + advisory.Quote(value)
		}
	}
	add("gateway", p.Gateway, DefaultGateway)
	switch {
	case p.Kind == PlaceRuntime, p.Recorded:
		return line
	case p.InCluster:
		line += " --in-cluster"
	case p.Kind == PlaceContainer:
		add("container", p.Container, "")
	}
	add("kubeconfig", p.Kubeconfig, "")
	add("context", p.Context, "")
	add("statefulset", p.StatefulSet, clusterDefault)
	// Without this one the line might mean this machine.
	if p.Namespace != clusterDefault || !strings.Contains(line, " --in-cluster") && p.Container == "" && p.Kubeconfig == "" && p.Context == "" {
		add("namespace", p.Namespace, "")
	}
	return line
}

// explain makes the next commands of an error lead to this place. Without a place
// they would mean the gateway of this machine.
func (p Place) explain(err error) error {
	problem, ok := advisory.Of(err)
	if !ok || p.Kind == PlaceRuntime || p.Recorded {
		return err
	}
	var hints []string
	for _, line := range problem.Commands() {
		switch {
		case strings.HasPrefix(line, "creel gateway secrets "):
			hints = append(hints, p.command(line))
		case !strings.HasPrefix(line, "creel "):
			hints = append(hints, line)
		}
	}
	return advisory.New(problem.ID, "", err, hints...)
}

// clusterDefault is what OpenShell calls its namespace and its StatefulSet.
const clusterDefault = "openshell"

// placeFlags say where bootstrap secrets are.
type placeFlags struct {
	kubeconfig, context, namespace, statefulset, container string
	inCluster                                              bool
	given                                                  func(flag string) bool
}

func (p *placeFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&p.kubeconfig, "kubeconfig", "", "the cluster's kubeconfig; else KUBECONFIG, ~/.kube/config, or the pod's own account")
	f.StringVar(&p.context, "context", "", "context of the kubeconfig; else its current one")
	f.BoolVar(&p.inCluster, "in-cluster", false, "reach the cluster with the account of the pod that this runs in")
	f.StringVarP(&p.namespace, "namespace", "n", clusterDefault, "namespace of the gateway in the cluster")
	f.StringVar(&p.statefulset, "statefulset", clusterDefault, "the gateway's StatefulSet in the cluster")
	f.StringVar(&p.container, "container", "", "container that the cluster runs in; \"-\" is openshell-cluster-GATEWAY")
	exclusive(cmd, "container", "kubeconfig")
	exclusive(cmd, "container", "context")
	exclusive(cmd, "container", "in-cluster")
	exclusive(cmd, "in-cluster", "kubeconfig")
	exclusive(cmd, "in-cluster", "context")
	p.given = func(flag string) bool { return f.Changed(flag) }
}

// place is what the flags mean.
func (p *placeFlags) place(a *app) (Place, error) {
	name, err := a.gatewayName()
	if err != nil {
		return Place{}, err
	}
	for _, flag := range []string{"kubeconfig", "context", "namespace", "statefulset", "container"} {
		if p.given(flag) && p.value(flag) == "" {
			return Place{}, usage("usage", "--"+flag+" is empty")
		}
	}
	place := Place{Gateway: name, Kubeconfig: p.kubeconfig, Context: p.context, InCluster: p.inCluster,
		Namespace: p.namespace, StatefulSet: p.statefulset, Container: p.container}
	switch {
	case p.container != "":
		place.Kind = PlaceContainer
		if p.container == "-" {
			place.Container = "openshell-cluster-" + name
		}
	case p.inCluster || p.given("kubeconfig") || p.given("context") || p.given("namespace") || p.given("statefulset"):
		place.Kind = PlaceCluster
	default:
		a.recordedPlace(&place)
	}
	return place, nil
}

// recordedPlace is where a gateway in a cluster is by what is recorded of it. Who
// cannot read that means this machine, and is told so when it is used.
func (a *app) recordedPlace(p *Place) {
	g, err := a.paths()
	if err != nil {
		return
	}
	doc, there, err := recorded(g)
	if err != nil || !there || doc.Runtime != desired.Kubernetes {
		return
	}
	c := doc.Cluster
	p.Kind, p.Recorded = PlaceCluster, true
	p.Kubeconfig, p.Context, p.InCluster = c.Kubeconfig, c.Context, c.InCluster
	p.Namespace, p.StatefulSet = cmp.Or(c.Namespace, clusterDefault), cmp.Or(c.StatefulSet, clusterDefault)
}

func (p *placeFlags) value(flag string) string {
	return map[string]string{"kubeconfig": p.kubeconfig, "context": p.context, "namespace": p.namespace,
		"statefulset": p.statefulset, "container": p.container}[flag]
}

// secretsTarget opens a place. It asks nobody yet.
func (a *app) secretsTarget(ctx context.Context, p Place) (bundle.Target, error) {
	if p.Kind != PlaceRuntime && !p.Recorded {
		return a.ClusterSecrets(ctx, p)
	}
	r, err := a.Runtime(p.Gateway)
	if err != nil {
		return nil, err
	}
	return r.Secrets(), nil
}
