package kube

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"creel/internal/gateway"
	"creel/internal/kubeapi"
)

// tunnel is a way to one port of a pod that lasts as long as a question: a listener
// of this very process.
type tunnel struct {
	listener *net.TCPListener
	way      *kubeapi.Tunnel
	copies   sync.WaitGroup

	mu        sync.Mutex
	complaint error // what the pod's end said went wrong
}

// tunnel opens a way to a port of a pod.
func (c *cluster) tunnel(ctx context.Context, pod string, port int) (*tunnel, error) {
	way, err := c.api.Forward(ctx, pod)
	if err != nil {
		return nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(bind, "0"))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen for a tunnel: %w", err), way.Close())
	}
	t := &tunnel{listener: l.(*net.TCPListener), way: way}
	t.copies.Go(func() {
		for {
			conn, err := t.listener.AcceptTCP()
			if err != nil {
				return // it was closed
			}
			t.copies.Go(func() {
				err := join(ctx, conn, t.way, port)
				t.mu.Lock()
				defer t.mu.Unlock()
				if errors.Is(err, kubeapi.ErrNobodyListens) {
					t.complaint = err
				}
			})
		}
	})
	return t, nil
}

func (t *tunnel) endpoint() gateway.Endpoint {
	return gateway.Endpoint{Host: bind, Port: t.listener.Addr().(*net.TCPAddr).Port}
}

// close ends it and returns what the pod's end said went wrong, if anything.
func (t *tunnel) close() error {
	_ = t.listener.Close()
	_ = t.way.Close()
	t.copies.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.complaint
}

// join copies between a local connection and a port of a pod until both directions
// have ended, or one has broken, or ctx ends. It closes the connection.
func join(ctx context.Context, local *net.TCPConn, way *kubeapi.Tunnel, port int) error {
	defer local.Close()
	remote, err := way.Dial(ctx, port)
	if err != nil {
		return err
	}
	defer remote.Close()
	defer context.AfterFunc(ctx, func() { _, _ = local.Close(), remote.Close() })()
	up, down := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := io.Copy(remote, local)
		if half, ok := remote.(interface{ CloseWrite() error }); ok && err == nil {
			err = half.CloseWrite()
		}
		up <- err
	}()
	go func() {
		_, err := io.Copy(local, remote)
		if err == nil {
			err = local.CloseWrite()
		}
		down <- err
	}()
	select {
	case err = <-down: // the pod has said all it will; what it is still told nobody reads
		return err
	case err = <-up:
	}
	if err == nil {
		return <-down
	}
	// Writing failed: why is what reading says.
	late := time.NewTimer(lastWord)
	defer late.Stop()
	select {
	case said := <-down:
		return cmp.Or(said, err)
	case <-late.C:
		return err
	}
}

// lastWord is how long the pod's end of a broken connection is given to say why.
const lastWord = 500 * time.Millisecond
