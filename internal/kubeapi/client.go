package kubeapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"

	"creel/internal/advisory"
	"creel/internal/health"
)

// Options say which namespace of which cluster is meant.
type Options struct {
	// Kubeconfig is the file to read. Without it KUBECONFIG is, then
	// ~/.kube/config, and when neither is there the pod's own service account.
	Kubeconfig string
	// Context is one of the kubeconfig's; empty is its current one.
	Context string
	// InCluster takes the pod's own service account and no kubeconfig.
	InCluster bool
	// Namespace is never the context's: who asks says where.
	Namespace string
}

// Client asks the API of one cluster about one namespace. Its methods may be
// called from several goroutines.
type Client struct {
	rest.Interface

	config  *rest.Config
	options Options
	caveats []health.Caveat

	mu sync.Mutex
	// allowed holds the rights that a review confirmed. Denials are asked again:
	// whoever waits must notice that somebody granted what was missing.
	allowed map[Right]bool
	upgrade *http.Client // made when it is needed
}

// Open finds out how the cluster is reached. It talks to nobody. Its errors
// carry an advisory.
func Open(o Options) (*Client, error) {
	config, caveats, err := Configure(o)
	if err != nil {
		return nil, o.aim(err)
	}
	c, err := New(config, o.Namespace)
	if err != nil {
		return nil, o.aim(err)
	}
	c.caveats, c.options = caveats, o
	return c, nil
}

// New makes a client of a configuration.
func New(config *rest.Config, namespace string) (*Client, error) {
	if faults := validation.IsDNS1123Label(namespace); len(faults) > 0 {
		return nil, NotAName("namespace", namespace, faults)
	}
	api, err := connect(config)
	if err != nil {
		return nil, err
	}
	return &Client{Interface: api, config: config, options: Options{Namespace: namespace}, allowed: map[Right]bool{}}, nil
}

// NotAName is the error of what no object can be called.
func NotAName(what, name string, faults []string) error {
	return advisory.New("cluster-name-invalid", fmt.Sprintf("%s %q cannot be a name in Kubernetes", what, name), errors.New(strings.Join(faults, "; ")))
}

// Config is a copy of how the cluster is reached, for connections of another kind.
func (c *Client) Config() *rest.Config { return rest.CopyConfig(c.config) }

// Server is the API's URL.
func (c *Client) Server() string { return c.config.Host }

// Namespace is the one that is meant.
func (c *Client) Namespace() string { return c.options.Namespace }

// Caveats are true of the way to the cluster and worth knowing.
func (c *Client) Caveats() []health.Caveat { return c.caveats }

// Kubectl is a command line for a person, about the same namespace of the same
// cluster.
func (c *Client) Kubectl(command string) string { return c.options.Kubectl(command) }

// KubectlCluster is Kubectl for what is about no namespace, or all of them.
func (c *Client) KubectlCluster(command string) string { return c.options.KubectlCluster(command) }

// Path is that of the objects of a kind in the namespace, or of one of them:
// Path("api/v1", "secrets", "a") is /api/v1/namespaces/NAMESPACE/secrets/a.
func (c *Client) Path(api, resource string, name ...string) string {
	return "/" + strings.Join(append([]string{api, "namespaces", c.options.Namespace, resource}, name...), "/")
}

// NamespaceGone says why the namespace holds nothing: it does not exist, or is
// being deleted. It is empty when the namespace is there to stay.
func (c *Client) NamespaceGone(ctx context.Context) (why string, err error) {
	var namespace struct {
		Metadata metav1.ObjectMeta `json:"metadata"`
		Status   struct {
			Phase string `json:"phase"`
		} `json:"status"`
	}
	err = c.Read(ctx, "read namespace "+c.options.Namespace, c.Get().AbsPath("/api/v1/namespaces/"+c.options.Namespace), "Namespace", &namespace)
	switch {
	case IsAbsent(err, "namespaces", c.options.Namespace):
		return fmt.Sprintf("namespace %q does not exist", c.options.Namespace), nil
	case err != nil:
		return "", err
	case namespace.Metadata.DeletionTimestamp != nil || namespace.Status.Phase == "Terminating":
		return fmt.Sprintf("namespace %q is being deleted", c.options.Namespace), nil
	}
	return "", nil
}
