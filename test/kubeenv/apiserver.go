package kubeenv

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startAPI starts the API server and waits until it is ready; c.mu is held.
func (c *Cluster) startAPI(ctx context.Context) error {
	args := []string{
		"--etcd-servers=unix://etcd:0",
		"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", c.port.number), "--permit-port-sharing",
		"--tls-cert-file=server.crt", "--tls-private-key-file=server.key",
		"--token-auth-file=tokens.csv", "--authorization-mode=RBAC",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=sa.key", "--service-account-signing-key-file=sa.key",
		"--service-cluster-ip-range=10.0.0.0/24",
		// Said because it is otherwise the default route's, which not every machine
		// has; and a loopback address is no valid endpoint of service "kubernetes".
		"--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none",
		"--allow-privileged", "--profiling=false", "--enable-priority-and-fairness=false",
	}
	if !c.options.controllers {
		// It would refuse every pod, as no controller makes the default accounts.
		args = append(args, "--disable-admission-plugins=ServiceAccount")
	}
	api, err := launch(c.dir, c.Bin, "kube-apiserver", append(args, c.options.apiArgs...)...)
	if err != nil {
		return err
	}
	c.api, c.paused = api, false
	return c.api.await(ctx, "start kube-apiserver", func(ctx context.Context) error {
		status, body, err := c.Request(ctx, "GET", "/readyz", nil)
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("readyz: %s: %s", http.StatusText(status), body)
		}
		return err
	})
}

// StopAPI asks the API server to end, as an upgrade does, and waits until it has.
func (c *Cluster) StopAPI(t testing.TB) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	const limit = time.Minute
	c.endAPI(func() {
		c.api.signal(syscall.SIGCONT)
		c.api.signal(syscall.SIGTERM)
		timeout := time.NewTimer(limit)
		defer timeout.Stop()
		select {
		case <-c.api.exited:
		case <-timeout.C:
			t.Fatalf("stop kube-apiserver: not ended after %s\n%s", limit, c.api.tail())
		}
	})
}

// KillAPI ends the API server at once, as a lost machine does. What it stored
// stays; StartAPI makes it serve again.
func (c *Cluster) KillAPI(t testing.TB) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endAPI(c.api.kill)
}

func (c *Cluster) endAPI(end func()) {
	end()
	c.paused = false
	c.client.CloseIdleConnections()
}

// StartAPI starts the API server on the same port and data, if it does not run,
// and waits until it is ready.
func (c *Cluster) StartAPI(t testing.TB) {
	t.Helper()
	if err := c.revive(); err != nil {
		t.Fatal(err)
	}
}

// revive makes the API server run and not be paused.
func (c *Cluster) revive() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed.Load() {
		return errors.New("start kube-apiserver: the cluster is stopped")
	}
	if c.api.running() {
		if c.paused {
			c.api.signal(syscall.SIGCONT)
			c.paused = false
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	return c.startAPI(ctx)
}

// PauseAPI freezes the API server: connections are accepted by the kernel and
// never answered. It goes on with ResumeAPI, at the latest when the test ends.
func (c *Cluster) PauseAPI(t testing.TB) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.api.signal(syscall.SIGSTOP)
	c.paused = true
	t.Cleanup(c.ResumeAPI)
	// The signal takes effect a moment later.
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	if err := c.api.await(ctx, "pause kube-apiserver", c.api.isStopped); err != nil {
		t.Fatal(err)
	}
}

// isStopped says whether every thread is: the state is what proc(5) shows after
// the name in parentheses.
func (p *process) isStopped(context.Context) error {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.proc.Pid))
	if err != nil || len(threads) == 0 {
		return errors.Join(errors.New("list threads: none found"), err)
	}
	for _, thread := range threads {
		stat, err := os.ReadFile(thread)
		if err != nil {
			return err
		}
		if _, state, _ := strings.Cut(string(stat), ") "); !strings.HasPrefix(state, "T") {
			return errors.New("a thread still runs")
		}
	}
	return nil
}

// ResumeAPI lets a paused API server go on.
func (c *Cluster) ResumeAPI() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.paused {
		c.api.signal(syscall.SIGCONT)
		c.paused = false
	}
}
