package cli

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"creel/internal/bundle"
	"creel/internal/bundle/script"
)

// scriptOptions say for which gateway a script is; nothing is asked.
type scriptOptions struct {
	generation                               int
	namespace, statefulSet, service, context string
	missing, hosts, names, without           []string
	named                                    bool // missing was given, empty or not
}

func (a *app) secretsScript() *cobra.Command {
	var o scriptOptions
	cmd := &cobra.Command{
		Use:   "script",
		Short: "Print a shell script that makes missing secrets in a cluster",
		Long: `Print a shell script that makes the missing bootstrap secrets of a gateway in a
Kubernetes cluster that cannot be reached from here. It needs sh, kubectl and
openssl where it runs, asks the cluster first, and makes what it finds missing or,
of what --missing names, what is missing then. No cluster is asked now.`,
		Example: "  creel gateway secrets script\n" +
			"  creel gateway secrets script --generation 2 --namespace prod --statefulset gw\n" +
			"  creel gateway secrets script --missing openshell-server-tls,openshell-client-tls",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.named = cmd.Flags().Changed("missing")
			return a.printScript(o)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.missing, "missing", nil, "names of secrets to make, separated by commas; without it, whatever is missing")
	f.IntVar(&o.generation, "generation", 1, "generation of the secrets: 1 for OpenShell up to 0.0.37, else 2")
	f.StringVarP(&o.namespace, "namespace", "n", clusterDefault, "namespace of the gateway")
	f.StringVar(&o.statefulSet, "statefulset", clusterDefault, "name of the gateway's StatefulSet")
	f.StringVar(&o.service, "service", "", "name of the gateway's service (default: that of the StatefulSet)")
	f.StringVar(&o.context, "context", "", "context of the kubeconfig that the script uses (default: the current one)")
	f.StringArrayVar(&o.hosts, "host", nil, "further name or address of the server certificate; may be repeated")
	f.StringArrayVar(&o.names, "rename", nil, "USUAL=OWN, where this gateway calls a secret otherwise; may be repeated")
	f.StringArrayVar(&o.without, "without", nil, "secret that this gateway does not use; may be repeated")
	return cmd
}

func (a *app) printScript(o scriptOptions) error {
	name, err := a.gatewayName()
	if err != nil {
		return err
	}
	want, err := o.requirements()
	if err != nil {
		return usageCause("usage", err, "creel help gateway secrets script")
	}
	generate := script.Options{Want: want, StatefulSet: o.statefulSet, Gateway: name, Context: o.context}
	if o.named {
		plan := bundle.PlanMissingOf(want, o.missing)
		generate.Plan = &plan
	}
	text, err := script.Generate(generate)
	if err != nil {
		return usageCause("usage", err, "creel help gateway secrets script")
	}
	for _, unknown := range o.missing {
		if unknown = strings.TrimSpace(unknown); unknown != "" && !slices.Contains(want.Stored(), unknown) {
			a.Streams.Say("--missing %q is none of this gateway's secrets (%s) and is left out", unknown, strings.Join(want.Stored(), ", "))
		}
	}
	if _, err := io.WriteString(a.Streams.Out, text); err != nil {
		return fmt.Errorf("print script: %w", err)
	}
	return nil
}

func (o scriptOptions) requirements() (bundle.Requirements, error) {
	want := bundle.Requirements{Generation: bundle.Generation(o.generation), Layout: bundle.Kubernetes, Hosts: o.hosts,
		Service: cmp.Or(o.service, o.statefulSet), Namespace: o.namespace, Names: map[string]string{}}
	known := want.Members()
	if len(known) == 0 {
		return want, fmt.Errorf("--generation is 1 or 2, not %d", o.generation)
	}
	if want.Generation == bundle.Generation2 {
		// The chart calls it after the release, as it does the StatefulSet.
		want.Names[bundle.JWT] = o.statefulSet + "-jwt-keys"
	}
	for _, pair := range o.names {
		member, stored, ok := strings.Cut(pair, "=")
		if !ok || stored == "" {
			return want, fmt.Errorf("--rename %q is not USUAL=OWN", pair)
		}
		m, err := findMember(known, member)
		if err != nil {
			return want, fmt.Errorf("--rename: %w", err)
		}
		want.Names[m] = stored
	}
	for _, member := range o.without {
		m, err := findMember(known, member)
		if err != nil {
			return want, fmt.Errorf("--without: %w", err)
		}
		if m != bundle.SSHHandshake && m != bundle.JWT {
			return want, fmt.Errorf("--without: every gateway uses %s", member)
		}
		want.Without = append(want.Without, m)
	}
	return want, nil
}

// findMember returns the member that is meant by its name or by what it is usually
// stored under.
func findMember(known []bundle.Member, name string) (string, error) {
	var names []string
	for _, m := range known {
		if name == m.Name || name == m.Stored {
			return m.Name, nil
		}
		names = append(names, m.Stored)
	}
	return "", fmt.Errorf("%q is none of %s", name, strings.Join(names, ", "))
}
