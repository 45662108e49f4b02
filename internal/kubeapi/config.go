package kubeapi

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientapi "k8s.io/client-go/tools/clientcmd/api"

	"creel/internal/advisory"
	"creel/internal/health"
)

// Configure finds the cluster: the kubeconfig that was named, those of
// KUBECONFIG, ~/.kube/config, the pod's service account. What was named and is
// not there is an error; the next place in line would be another cluster.
func Configure(o Options) (*rest.Config, []health.Caveat, error) {
	if o.InCluster {
		config, err := inCluster()
		return config, nil, err
	}
	files, err := kubeconfigs(o.Kubeconfig)
	if err != nil {
		return nil, nil, err
	}
	if len(files) == 0 {
		config, err := inCluster()
		return config, nil, err
	}
	place := strings.Join(files, string(filepath.ListSeparator))
	rules := clientcmd.ClientConfigLoadingRules{Precedence: files}
	loaded, err := rules.Load()
	if err != nil {
		return nil, nil, advisory.New("cluster-kubeconfig-invalid", "read the kubeconfig", Scrub(err, files...), "kubectl config view "+advisory.Quote("--kubeconfig="+files[0]))
	}
	name, err := chooseContext(loaded, o.Context, place)
	if err != nil {
		return nil, nil, err
	}
	caveats, err := checkContext(loaded, name, place)
	if err != nil {
		return nil, nil, err
	}
	config, err := clientcmd.NewNonInteractiveClientConfig(*loaded, name, &clientcmd.ConfigOverrides{}, nil).ClientConfig()
	if err != nil {
		return nil, nil, advisory.New("cluster-kubeconfig-invalid", fmt.Sprintf("use context %q of %s", name, place), Scrub(err, filesOf(loaded, name)...))
	}
	return config, caveats, nil
}

// inCluster is how a pod reaches its cluster.
func inCluster() (*rest.Config, error) {
	config, err := rest.InClusterConfig()
	switch {
	case errors.Is(err, rest.ErrNotInCluster):
		return nil, advisory.New("cluster-none", "there is no kubeconfig, and this is not a pod of a cluster", err)
	case err != nil:
		return nil, advisory.New("cluster-none", "this looks like a pod, but its service account is not mounted", err)
	}
	return config, nil
}

// kubeconfigs lists the files to read, of which at least one exists; none when
// nobody named one and there is none in its usual place.
func kubeconfigs(named string) ([]string, error) {
	if named != "" {
		return existing("--kubeconfig", []string{named})
	}
	if list := filepath.SplitList(os.Getenv("KUBECONFIG")); len(list) > 0 {
		return existing("KUBECONFIG", list)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return nil, nil // a pod without a home has none
	}
	path := filepath.Join(home, ".kube", "config")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return existing(path, []string{path})
}

// existing drops what is not there, as kubectl does with the files of
// KUBECONFIG, but not all of it.
func existing(by string, files []string) ([]string, error) {
	var found, missing []string
	for _, f := range files {
		if f == "" {
			continue
		}
		in, err := os.Open(f)
		switch {
		case err == nil:
			_ = in.Close()
			found = append(found, f)
		case errors.Is(err, fs.ErrNotExist):
			missing = append(missing, f)
		default:
			return nil, advisory.New("cluster-kubeconfig-missing", "read the kubeconfig that "+by+" names", err, listing(f))
		}
	}
	if len(found) == 0 && len(missing) > 0 {
		return nil, advisory.New("cluster-kubeconfig-missing", "read the kubeconfig that "+by+" names",
			&fs.PathError{Op: "open", Path: strings.Join(missing, ", "), Err: fs.ErrNotExist}, listing(missing[0]))
	}
	return found, nil
}

// listing is the command that shows whose a file is, whatever its name holds.
func listing(file string) string { return "ls -l -- " + advisory.Quote(file) }

// chooseContext does not guess: with several clusters at hand, the wrong one is
// worse than none.
func chooseContext(c *clientapi.Config, wanted, place string) (string, error) {
	known := strings.Join(slices.Sorted(maps.Keys(c.Contexts)), ", ")
	if known == "" {
		known = "none"
	}
	name := wanted
	if name == "" {
		name = c.CurrentContext
	}
	_, ok := c.Contexts[name]
	switch {
	case name == "":
		return "", advisory.New("cluster-context-unknown", fmt.Sprintf("%s selects no context; it knows: %s", place, known), nil)
	case !ok:
		return "", advisory.New("cluster-context-unknown", fmt.Sprintf("%s has no context %q; it knows: %s", place, name, known), nil)
	}
	return name, nil
}

// checkContext finds what client-go would only say in words of its own, or when
// the first question is asked.
func checkContext(c *clientapi.Config, name, place string) ([]health.Caveat, error) {
	context := c.Contexts[name]
	cluster, ok := c.Clusters[context.Cluster]
	switch {
	case !ok:
		return nil, advisory.New("cluster-no-server", fmt.Sprintf("context %q of %s is for cluster %q, which is not in there", name, place, context.Cluster), nil)
	case cluster.Server == "":
		return nil, advisory.New("cluster-no-server", fmt.Sprintf("cluster %q of %s has no server", context.Cluster, place), nil)
	}
	user, ok := c.AuthInfos[context.AuthInfo]
	if !ok && context.AuthInfo != "" {
		return nil, advisory.New("cluster-kubeconfig-invalid", fmt.Sprintf("context %q of %s is for user %q, who is not in there", name, place, context.AuthInfo), nil)
	}
	if user != nil && user.Exec != nil {
		if _, err := exec.LookPath(user.Exec.Command); err != nil {
			detail := fmt.Sprintf("user %q of %s logs in with the program %q", context.AuthInfo, place, user.Exec.Command)
			if hint := strings.TrimSpace(user.Exec.InstallHint); hint != "" {
				detail += " (" + strings.Join(strings.Fields(hint), " ") + ")"
			}
			return nil, advisory.New("cluster-plugin-missing", detail, err)
		}
	}
	return checkServer(cluster, place)
}

// filesOf are those that a context refers to.
func filesOf(c *clientapi.Config, name string) []string {
	context := c.Contexts[name]
	files := []string{c.Clusters[context.Cluster].CertificateAuthority}
	if user := c.AuthInfos[context.AuthInfo]; user != nil {
		files = append(files, user.ClientCertificate, user.ClientKey, user.TokenFile)
	}
	return slices.DeleteFunc(files, func(f string) bool { return f == "" })
}

// checkServer refuses to send private keys over a network in the clear. A proxy
// on this machine, as kubectl has one, is no network.
func checkServer(cluster *clientapi.Cluster, place string) ([]health.Caveat, error) {
	u, err := url.Parse(cluster.Server)
	if err != nil || u.Host == "" {
		return nil, advisory.New("cluster-kubeconfig-invalid", fmt.Sprintf("the server %q of %s is no URL", cluster.Server, place), err)
	}
	insecure := func(what string) []health.Caveat {
		return []health.Caveat{{Advisory: "cluster-insecure", Message: fmt.Sprintf("the kubeconfig %s for %s", what, u.Host)}}
	}
	switch {
	case u.Scheme == "http" && !onThisMachine(u.Hostname()):
		return nil, advisory.New("cluster-kubeconfig-invalid", fmt.Sprintf("the server %q of %s is reached without TLS, which would send private keys in the clear", cluster.Server, place), nil)
	case u.Scheme == "http":
		return insecure("turns off TLS"), nil
	case cluster.InsecureSkipTLSVerify:
		return insecure("turns off the verification of TLS"), nil
	}
	return nil, nil
}

func onThisMachine(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
