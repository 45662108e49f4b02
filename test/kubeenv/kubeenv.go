// Package kubeenv gives tests a real Kubernetes control plane on loopback: etcd
// and kube-apiserver, and kube-controller-manager when asked. There is no
// kubelet, so nothing that is scheduled ever runs. It must not import Kubernetes'
// libraries: what a test asks for in plain HTTP cannot share a fault with the
// client that is tested.
//
// A cluster for one test is Start; one for all tests of a package is Shared,
// where each test takes a namespace of its own.
package kubeenv

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// startLimit is long because other test programs compile and start clusters at
// the same time; a start on a quiet machine takes less than two seconds.
const startLimit = 2 * time.Minute

// Cluster is a running control plane. All methods may be called from several
// goroutines.
type Cluster struct {
	// Server is the API's URL, https://127.0.0.1:PORT. It does not change when
	// the API server is started again.
	Server string
	// Bin is the directory of kubectl and the rest, for PATH and containers.
	Bin string
	// CA is the file of the certificate that signed the API server's.
	CA string
	// AdminKubeconfig is the file of a user in group system:masters.
	AdminKubeconfig string
	// AdminToken is that user's bearer token.
	AdminToken string

	dir      string
	options  options
	port     *port
	client   *http.Client
	stopping sync.Once
	closed   atomic.Bool

	mu          sync.Mutex // guards the processes
	etcd        *process
	api         *process
	paused      bool
	controllers *process
}

type options struct {
	controllers bool
	apiArgs     []string
}

// Option changes how a cluster is started.
type Option func(*options)

// WithControllerManager runs kube-controller-manager too: deployments get pods,
// namespaces get a service account and vanish some seconds after they are
// deleted. It also turns on the admission of service accounts, which refuses
// pods where none exists.
func WithControllerManager() Option { return func(o *options) { o.controllers = true } }

// WithAPIServerArgs adds flags to kube-apiserver's, such as those of an audit log.
func WithAPIServerArgs(args ...string) Option {
	return func(o *options) { o.apiArgs = append(o.apiArgs, args...) }
}

// Start runs a cluster until the test ends. It skips the test, through package
// require, where the programs are not built.
func Start(t testing.TB, opts ...Option) *Cluster {
	t.Helper()
	Dir(t)
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	c, err := Launch(ctx, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	return c
}

// Launch is Start for callers that are no test; ctx bounds the start only. The
// caller stops the cluster. Without the programs the error is ErrNotBuilt.
func Launch(ctx context.Context, opts ...Option) (*Cluster, error) {
	bin, err := Find()
	if err != nil {
		return nil, err
	}
	c := &Cluster{Bin: bin}
	for _, o := range opts {
		o(&c.options)
	}
	if err := c.start(ctx); err != nil {
		c.Stop()
		return nil, fmt.Errorf("start a cluster: %w", err)
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context) error {
	// The name is short because the path of etcd's socket may have 107 bytes.
	dir, err := os.MkdirTemp("", "kube")
	if err != nil {
		return err
	}
	c.dir = dir
	if c.port, err = reservePort(); err != nil {
		return fmt.Errorf("reserve a port: %w", err)
	}
	c.Server = fmt.Sprintf("https://127.0.0.1:%d", c.port.number)
	c.CA = filepath.Join(dir, "ca.crt")
	c.AdminToken = rand.Text()
	if c.client, err = writeIdentities(dir, c.AdminToken); err != nil {
		return err
	}
	if c.AdminKubeconfig, err = c.kubeconfig(Login{}); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.startEtcd(ctx); err != nil {
		return err
	}
	if err := c.startAPI(ctx); err != nil {
		return err
	}
	if c.options.controllers {
		return c.startControllers(ctx)
	}
	return nil
}

// Stop ends all processes and removes what they stored. It may be called twice.
func (c *Cluster) Stop() {
	c.stopping.Do(func() {
		c.closed.Store(true)
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, p := range []*process{c.controllers, c.api, c.etcd} {
			p.kill()
		}
		if c.client != nil {
			c.client.CloseIdleConnections()
		}
		c.port.release()
		if c.dir != "" {
			_ = os.RemoveAll(c.dir)
		}
	})
}

func (c *Cluster) startEtcd(ctx context.Context) error {
	var err error
	// The sockets are in the working directory of etcd and of the API server, so
	// no port is taken and no other user of the machine reaches the store. etcd
	// wants every URL to have a port, which becomes part of the file's name.
	c.etcd, err = launch(c.dir, c.Bin, "etcd",
		"--data-dir=etcd",
		"--listen-client-urls=unix://etcd:0", "--advertise-client-urls=unix://etcd:0",
		"--listen-peer-urls=unix://peer:0", "--initial-advertise-peer-urls=unix://peer:0",
		"--initial-cluster=default=unix://peer:0",
		// The kernel keeps what a killed process wrote; only a power cut would
		// lose it, and then the test is lost as well.
		"--unsafe-no-fsync",
		"--log-level=warn")
	if err != nil {
		return err
	}
	return c.etcd.await(ctx, "start etcd", func(ctx context.Context) error {
		return dialUnix(ctx, filepath.Join(c.dir, "etcd:0"))
	})
}

func (c *Cluster) startControllers(ctx context.Context) error {
	var err error
	c.controllers, err = launch(c.dir, c.Bin, "kube-controller-manager",
		"--kubeconfig="+c.AdminKubeconfig,
		"--service-account-private-key-file=sa.key", "--root-ca-file=ca.crt",
		"--leader-elect=false", "--secure-port=0")
	if err != nil {
		return err
	}
	return c.controllers.await(ctx, "start kube-controller-manager", func(ctx context.Context) error {
		return c.hasServiceAccount(ctx, "default")
	})
}

// hasServiceAccount says whether the controllers have made what pods in a
// namespace run as.
func (c *Cluster) hasServiceAccount(ctx context.Context, namespace string) error {
	status, _, err := c.Request(ctx, "GET", "/api/v1/namespaces/"+namespace+"/serviceaccounts/default", nil)
	if err == nil && status != http.StatusOK {
		err = errors.New("the service account is not there: " + http.StatusText(status))
	}
	return err
}
