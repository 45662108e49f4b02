package kubeapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"creel/test/kubeenv"
	"creel/test/kubelet"
)

var cluster kubeenv.Shared

func TestMain(m *testing.M) { os.Exit(cluster.Run(m)) }

// place is a namespace with a pod on a node.
type place struct {
	*kubeenv.Cluster
	node      *kubelet.Node
	namespace string
}

func newPlace(t *testing.T) place {
	t.Helper()
	c := cluster.Get(t)
	p := place{c, kubelet.Start(t, c), c.NewNamespace(t)}
	p.Must(t, "POST", "/api/v1/namespaces/"+p.namespace+"/pods", map[string]any{"metadata": map[string]any{"name": "p"},
		"spec": map[string]any{"nodeName": p.node.Name, "containers": []any{map[string]any{"name": "c", "image": "i"}}}})
	return p
}

func (p place) open(t *testing.T, kubeconfig string) *Client {
	t.Helper()
	c, err := Open(Options{Kubeconfig: kubeconfig, Namespace: p.namespace})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// echo answers what it is told.
func echo(t *testing.T) func(int) (net.Conn, error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	}()
	return func(port int) (net.Conn, error) {
		if port != 8080 {
			return nil, errors.New("connection refused")
		}
		return net.Dial("tcp", l.Addr().String())
	}
}

// said sends bytes through a connection, and returns what comes back.
func said(t *testing.T, conn io.ReadWriteCloser, content []byte) []byte {
	t.Helper()
	go func() {
		_, _ = conn.Write(content)
		_ = conn.(interface{ CloseWrite() error }).CloseWrite()
	}()
	back, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return back
}

// Both ways into a pod carry bytes both ways, several connections at a time, and end
// with the pod; the second where the API answers no WebSocket.
func TestForward(t *testing.T) {
	for _, way := range []string{"WebSocket", "SPDY"} {
		t.Run(way, func(t *testing.T) {
			p := newPlace(t)
			p.node.Run(p.namespace, "p", kubelet.Pod{Dial: echo(t)})
			kubeconfig := p.AdminKubeconfig
			if way == "SPDY" {
				kubeconfig = p.withoutWebSockets(t)
			}
			c := p.open(t, kubeconfig)
			ctx, cancel := context.WithCancel(t.Context())
			tunnel, err := c.Forward(ctx, "p")
			if err != nil {
				t.Fatal(err)
			}
			defer tunnel.Close()
			cancel() // of the call that opened it, which the tunnel outlives
			big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
			for range 3 {
				conn, err := tunnel.Dial(t.Context(), 8080)
				if err != nil {
					t.Fatal(err)
				}
				if back := said(t, conn, big); !bytes.Equal(back, big) {
					t.Errorf("%d of %d bytes came back", len(back), len(big))
				}
				_ = conn.Close()
			}
			// A port on which nobody listens.
			conn, err := tunnel.Dial(t.Context(), 9)
			if err == nil {
				_, err = conn.Read(make([]byte, 1))
			}
			if !errors.Is(err, ErrNobodyListens) || !strings.Contains(err.Error(), "connection refused") {
				t.Errorf("a closed port: %v", err)
			}
			if conn, err = tunnel.Dial(t.Context(), 8080); err != nil {
				t.Fatal(err)
			}
			p.node.Cut(p.namespace, "p")
			select {
			case <-tunnel.Done():
			case <-time.After(20 * time.Second):
				t.Fatal("the tunnel outlives its node")
			}
			if _, err := conn.Read(make([]byte, 1)); err == nil {
				t.Error("a connection outlives its tunnel")
			}
			if _, err := tunnel.Dial(t.Context(), 8080); err == nil {
				t.Error("a connection through a tunnel that has ended")
			}
		})
	}
}

// withoutWebSockets is a kubeconfig for a proxy in front of the API that knows no
// WebSocket, as an API before 1.30.
func (p place) withoutWebSockets(t *testing.T) string {
	t.Helper()
	target, err := url.Parse(p.Server)
	if err != nil {
		t.Fatal(err)
	}
	config, _, err := Configure(Options{Kubeconfig: p.AdminKubeconfig})
	if err != nil {
		t.Fatal(err)
	}
	config.NextProtos = []string{"http/1.1"}
	client, err := httpClient(config)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Transport: client.Transport, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	refused := false
	server := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "websocket" {
			refused = true
			http.Error(w, "Upgrade request required", http.StatusBadRequest)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		if !refused {
			t.Error("no WebSocket was tried")
		}
	})
	return write(t, clusters(server, "https://b", "one"))
}

// What keeps a forward from coming about is told apart.
func TestForwardThatDoesNotComeAbout(t *testing.T) {
	p := newPlace(t)
	rule := kubeenv.Rule{Resources: []string{"pods"}, Verbs: []string{"get"}}
	_, err := p.open(t, p.ServiceAccount(t, p.namespace, "looks", rule)).Forward(t.Context(), "p")
	if advisoryID(err) != "cluster-forbidden" || !strings.Contains(err.Error(), "pods/portforward") {
		t.Errorf("who may not: %v", err)
	}
	if commands := commandsOf(err); len(commands) != 2 || !strings.Contains(commands[0], "--verb=create --resource=pods/portforward") ||
		!strings.Contains(commands[1], "--serviceaccount="+p.namespace+":looks") {
		t.Errorf("hints %q", commands)
	}
	_, err = p.open(t, p.AdminKubeconfig).Forward(t.Context(), "nobody")
	if err == nil || !strings.Contains(err.Error(), `pods "nobody" not found`) || !IsAbsent(err, "pods", "nobody") {
		t.Errorf("no such pod: %v", err)
	}
	t.Setenv("CREEL_BUDGET_CLUSTER", "2s")
	p.PauseAPI(t)
	_, err = p.open(t, p.AdminKubeconfig).Forward(t.Context(), "p")
	p.ResumeAPI()
	if advisoryID(err) != "cluster-timeout" {
		t.Errorf("a mute API: %v", err)
	}
}

// A stream lasts as long as it is read, and its beginning is bounded.
func TestStream(t *testing.T) {
	p := newPlace(t)
	c := p.open(t, p.AdminKubeconfig)
	request := func() io.ReadCloser {
		t.Helper()
		body, err := c.Stream(t.Context(), "read log", c.Get().AbsPath(c.Path("api/v1", "pods", "p", "log")).Param("follow", "true"))
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	p.node.Run(p.namespace, "p", kubelet.Pod{Log: func(string, bool) string { return strings.Repeat("line\n", 4<<20) }})
	body := request()
	if n, err := io.Copy(io.Discard, io.LimitReader(body, 20<<20)); n != 20<<20 || err != nil {
		t.Errorf("%d bytes, %v: it is read as it comes and may be of any length", n, err)
	}
	_ = body.Close()
	p.node.Run(p.namespace, "p", kubelet.Pod{})
	_, err := c.Stream(t.Context(), "read log", c.Get().AbsPath(c.Path("api/v1", "pods", "p", "log")))
	if err == nil || !strings.Contains(err.Error(), "read log") {
		t.Errorf("no log: %v", err)
	}
	t.Setenv("CREEL_BUDGET_CLUSTER", "2s")
	p.PauseAPI(t)
	_, err = c.Stream(t.Context(), "read log", c.Get().AbsPath(c.Path("api/v1", "pods", "p", "log")))
	p.ResumeAPI()
	if advisoryID(err) != "cluster-timeout" {
		t.Errorf("a mute API: %v", err)
	}
}
