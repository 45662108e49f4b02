package kube

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	openshellv1 "creel/api/openshell/v1"
	"creel/test/kubelet"
)

// process is a gateway in a pod: another implementation than Creel's, with the
// certificates that the pod mounts.
type process struct {
	openshellv1.UnimplementedOpenShellServer
	version string
	sick    atomic.Bool
	calls   atomic.Int64
}

func (p *process) Health(context.Context, *openshellv1.HealthRequest) (*openshellv1.HealthResponse, error) {
	p.calls.Add(1)
	status := openshellv1.ServiceStatus_SERVICE_STATUS_HEALTHY
	if p.sick.Load() {
		status = openshellv1.ServiceStatus_SERVICE_STATUS_UNHEALTHY
	}
	return &openshellv1.HealthResponse{Status: status, Version: p.version}, nil
}

// mounted is a secret as the pod sees it.
func (w *world) mounted(name string) map[string][]byte {
	w.Helper()
	var s struct{ Data map[string][]byte }
	if err := json.Unmarshal(w.Must(w, "GET", w.path("api/v1", "secrets", name), nil), &s); err != nil {
		w.Fatal(err)
	}
	return s.Data
}

// serve runs a gateway in the pod until the test ends, with the secrets as they are
// now, and makes the pod ready. log is what its container wrote.
func (w *world) serve(version, log string) *process {
	w.Helper()
	server, ca := w.mounted("openshell-server-tls"), w.mounted("openshell-server-client-ca")
	pair, err := tls.X509KeyPair(server["tls.crt"], server["tls.key"])
	if err != nil {
		w.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca["ca.crt"])
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.Fatal(err)
	}
	p := &process{version: version}
	s := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool,
		ClientAuth: tls.RequireAndVerifyClientCert, NextProtos: []string{"h2"}})))
	openshellv1.RegisterOpenShellServer(s, p)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.Serve(l)
	}()
	w.Cleanup(func() {
		s.Stop()
		<-served
	})
	w.node.Run(w.namespace, w.name, kubelet.Pod{
		Dial: func(port int) (net.Conn, error) {
			if port != 8080 {
				return nil, &net.OpError{Op: "dial", Err: net.UnknownNetworkError("connection refused")}
			}
			return net.Dial("tcp", l.Addr().String())
		},
		Log: func(_ string, previous bool) string {
			if previous {
				return ""
			}
			return log
		}})
	w.ready()
	return p
}

// remake has the controllers make the pod anew, as when it moves to another node.
func (w *world) remake() (uid string) {
	w.Helper()
	w.node.Cut(w.namespace, w.name)
	w.Must(w, "DELETE", w.path("api/v1", "pods", w.name), map[string]any{"gracePeriodSeconds": 0})
	return w.pod()
}

// healthy is a world with a gateway that serves.
func healthy(t testing.TB, version string) (*world, *process) {
	t.Helper()
	w := newWorld(t, clusterWithControllers.Get(t))
	w.repair()
	w.pod()
	return w, w.serve(version, "line 1\nline 2\nline 3\n")
}
