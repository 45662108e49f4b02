// Package kubelet plays a node of a cluster for tests: what a real kubelet does with
// processes in containers is done here with whatever a test gives it. It is
// registered as a node, so that the real API server proxies to it what is asked of
// its pods: port-forwards, in the streaming protocol's own server code, and logs.
package kubelet

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"

	"creel/test/kubeenv"
)

// Pod is what runs in a pod.
type Pod struct {
	// Dial connects to a port of the pod; nil means that nobody listens on any.
	Dial func(port int) (net.Conn, error)
	// Log is what a container wrote, the last run or the one before it; nil is
	// nothing.
	Log func(container string, previous bool) string
}

// run is one run of a pod.
type run struct {
	Pod
	gone chan struct{} // closed when nothing runs any more
}

// Node is a node of a cluster.
type Node struct {
	Name    string
	cluster *kubeenv.Cluster

	mu       sync.Mutex
	pods     map[string]run // by namespace/name
	forwards map[httpstream.Connection]string
	asked    []string
}

// Start registers a node that serves until the test ends.
func Start(t testing.TB, c *kubeenv.Cluster) *Node {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	// A port comes again, and a node stays: its name is nobody else's.
	n := &Node{Name: "node-" + strings.ToLower(rand.Text()), cluster: c, pods: map[string]run{}, forwards: map[httpstream.Connection]string{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/portForward/{namespace}/{pod}", n.forward)
	mux.HandleFunc("/portForward/{namespace}/{pod}/{uid}", n.forward)
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", n.logs)
	// Like a kubelet it speaks HTTP/1.1 where an upgrade is asked for.
	server := &http.Server{Handler: mux, TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate(t)}},
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}}
	served := make(chan error, 1)
	go func() { served <- server.ServeTLS(l, "", "") }()
	t.Cleanup(func() {
		n.Cut("", "")
		_ = server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("the kubelet ended: %v", err)
		}
	})
	c.Must(t, "POST", "/api/v1/nodes", map[string]any{"metadata": map[string]any{"name": n.Name}})
	c.Must(t, "PATCH", "/api/v1/nodes/"+n.Name+"/status", map[string]any{"status": map[string]any{
		"addresses":       []any{map[string]any{"type": "InternalIP", "address": "127.0.0.1"}},
		"daemonEndpoints": map[string]any{"kubeletEndpoint": map[string]any{"Port": l.Addr().(*net.TCPAddr).Port}},
		"conditions":      []any{map[string]any{"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": stamp(), "lastTransitionTime": stamp()}},
	}})
	return n
}

func stamp() string { return time.Now().UTC().Format(time.RFC3339) }

// certificate is one that the API server has no reason to doubt: it was given no
// authority for kubelets.
func certificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kubelet"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// Run makes the node run a pod, in the place of one of that name: what is asked of
// the pod is asked of p.
func (n *Node) Run(namespace, name string, p Pod) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.end(namespace + "/" + name)
	n.pods[namespace+"/"+name] = run{p, make(chan struct{})}
}

func (n *Node) end(pod string) {
	if r, there := n.pods[pod]; there {
		close(r.gone)
		delete(n.pods, pod)
	}
}

// Cut ends the port-forwards to a pod, or to all pods when name is empty, as a
// network that breaks does; and nothing runs in the pod any more.
func (n *Node) Cut(namespace, name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for conn, of := range n.forwards {
		if name == "" || of == namespace+"/"+name {
			_ = conn.Close()
		}
	}
	for pod := range n.pods {
		if name == "" || pod == namespace+"/"+name {
			n.end(pod)
		}
	}
}

// Asked lists what was asked of the node, oldest first: "forward NAMESPACE/POD",
// "log NAMESPACE/POD".
func (n *Node) Asked() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.asked...)
}

func (n *Node) pod(what string, r *http.Request) (run, string) {
	name := r.PathValue("namespace") + "/" + r.PathValue("pod")
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked = append(n.asked, what+" "+name)
	return n.pods[name], name
}

// The headers of streams (core/v1).
const (
	streamType = "streamType"
	portHeader = "port"
	requestID  = "requestID"
)

// forward serves one port-forward: pairs of a stream for data and one for errors.
func (n *Node) forward(w http.ResponseWriter, r *http.Request) {
	pod, name := n.pod("forward", r)
	if _, err := httpstream.Handshake(r, w, []string{"portforward.k8s.io"}); err != nil {
		return
	}
	streams := make(chan opened, 8)
	conn := spdy.NewResponseUpgrader().UpgradeResponse(w, r, func(s httpstream.Stream, replied <-chan struct{}) error {
		streams <- opened{s, replied}
		return nil
	})
	if conn == nil {
		return
	}
	n.mu.Lock()
	n.forwards[conn] = name
	n.mu.Unlock()
	defer func() {
		_ = conn.Close()
		n.mu.Lock()
		delete(n.forwards, conn)
		n.mu.Unlock()
	}()
	half := map[string]opened{}
	for {
		select {
		case <-conn.CloseChan():
			return
		case s := <-streams:
			id := s.Headers().Get(requestID)
			other, there := half[id]
			if !there {
				half[id] = s
				continue
			}
			delete(half, id)
			data, problem := s, other
			if s.Headers().Get(streamType) == "error" {
				data, problem = other, s
			}
			go func() {
				for _, s := range []opened{data, problem} {
					select { // the client takes what ends before the reply for a refusal
					case <-s.replied:
					case <-conn.CloseChan():
						return
					}
				}
				join(pod.Pod, data.Stream, problem.Stream)
			}()
		}
	}
}

// opened is a stream, and when the client has been told that it is one.
type opened struct {
	httpstream.Stream
	replied <-chan struct{}
}

// join copies between a stream and a port of the pod.
func join(pod Pod, data, problem httpstream.Stream) {
	defer func() { _ = problem.Close() }()
	defer func() { _ = data.Reset() }()
	var port int
	_, err := fmt.Sscan(data.Headers().Get(portHeader), &port)
	if err == nil && pod.Dial == nil {
		err = errors.New("connection refused")
	}
	var conn net.Conn
	if err == nil {
		conn, err = pod.Dial(port)
	}
	if err != nil {
		_, _ = fmt.Fprintf(problem, "error forwarding port %d to pod: %v", port, err)
		return
	}
	defer func() { _ = conn.Close() }()
	ended := make(chan struct{}, 1)
	go func() {
		_, _ = io.Copy(conn, data)
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.CloseWrite()
		}
	}()
	go func() {
		_, _ = io.Copy(data, conn)
		ended <- struct{}{}
	}()
	<-ended
	_ = data.Close()
}

func (n *Node) logs(w http.ResponseWriter, r *http.Request) {
	pod, _ := n.pod("log", r)
	if pod.Log == nil {
		http.Error(w, "container is waiting to start", http.StatusBadRequest)
		return
	}
	text := pod.Log(r.PathValue("container"), r.URL.Query().Get("previous") == "true")
	var lines int
	if _, err := fmt.Sscan(r.URL.Query().Get("tailLines"), &lines); err == nil {
		all := strings.SplitAfter(strings.TrimSuffix(text, "\n"), "\n")
		text = strings.Join(all[max(0, len(all)-lines):], "")
	}
	if r.URL.Query().Get("sinceTime") != "" {
		text = "" // lines here have no time, and all are of before
	}
	_, _ = io.WriteString(w, text)
	if r.URL.Query().Get("follow") != "true" {
		return
	}
	_ = http.NewResponseController(w).Flush()
	select {
	case <-r.Context().Done():
	case <-pod.gone:
	}
}
