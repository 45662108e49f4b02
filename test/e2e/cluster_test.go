package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"testing"
	"time"

	"creel/test/kubeenv"
)

// clusters is the control plane that the suites about clusters share.
var clusters = kubeenv.Shared{Options: []kubeenv.Option{kubeenv.WithControllerManager()}}

// The secrets of generation 1, in their fixed order.
var generation1 = []string{"openshell-server-tls", "openshell-server-client-ca", "openshell-client-tls", "openshell-ssh-handshake"}

const statefulSet = `{"apiVersion":"apps/v1","kind":"StatefulSet","metadata":{"name":"openshell"},"spec":{"serviceName":"openshell","replicas":1,
	"selector":{"matchLabels":{"app":"openshell"}},"template":{"metadata":{"labels":{"app":"openshell"}},"spec":{
	"volumes":[{"name":"tls-cert","secret":{"secretName":"openshell-server-tls"}},{"name":"tls-client-ca","secret":{"secretName":"openshell-server-client-ca"}}],
	"containers":[{"name":"openshell","image":"openshell","volumeMounts":[{"name":"tls-cert","mountPath":"/tls"},{"name":"tls-client-ca","mountPath":"/ca"}],"env":[
		{"name":"OPENSHELL_SSH_HANDSHAKE_SECRET","valueFrom":{"secretKeyRef":{"name":"openshell-ssh-handshake","key":"secret"}}},
		{"name":"OPENSHELL_CLIENT_TLS_SECRET_NAME","value":"openshell-client-tls"}]}]}}}}`

// secret is a Secret as the API shows it.
type secret struct {
	Metadata struct {
		UID             string            `json:"uid"`
		ResourceVersion string            `json:"resourceVersion"`
		Labels          map[string]string `json:"labels"`
		Name            string            `json:"name"`
	} `json:"metadata"`
	Type string            `json:"type"`
	Data map[string][]byte `json:"data"`
}

// inCluster is a gateway's namespace in a real cluster.
type inCluster struct {
	t  testing.TB
	c  *kubeenv.Cluster
	ns string
}

// newGatewayIn makes a namespace with a gateway's StatefulSet and no secret.
func newGatewayIn(t testing.TB, c *kubeenv.Cluster) *inCluster {
	t.Helper()
	g := &inCluster{t: t, c: c, ns: c.NewNamespace(t)}
	c.Must(t, "POST", "/apis/apps/v1/namespaces/"+g.ns+"/statefulsets", json.RawMessage(statefulSet))
	return g
}

// in is the same gateway for a subtest.
func (g *inCluster) in(t testing.TB) *inCluster { return &inCluster{t, g.c, g.ns} }

func (g *inCluster) path(name string) string {
	return "/api/v1/namespaces/" + g.ns + "/secrets/" + name
}

// secrets is what is there of the set.
func (g *inCluster) secrets() map[string]secret {
	g.t.Helper()
	found := map[string]secret{}
	for _, name := range generation1 {
		status, body := g.c.Do(g.t, "GET", g.path(name), nil)
		if status == 404 {
			continue
		}
		var s secret
		if err := json.Unmarshal(body, &s); err != nil || status != 200 {
			g.t.Fatalf("get %s: %d %v", name, status, err)
		}
		found[name] = s
	}
	return found
}

func (g *inCluster) remove(name string) { g.c.Must(g.t, "DELETE", g.path(name), nil) }

// put replaces values of a secret; nil removes one.
func (g *inCluster) put(name string, data map[string][]byte) {
	g.t.Helper()
	g.c.Must(g.t, "PATCH", g.path(name), map[string]any{"data": data})
}

// rolled is what the pod template says about being rolled.
func (g *inCluster) rolled() string {
	g.t.Helper()
	var s struct {
		Spec struct {
			Template struct {
				Metadata struct{ Annotations map[string]string }
			}
		}
	}
	if err := json.Unmarshal(g.c.Must(g.t, "GET", "/apis/apps/v1/namespaces/"+g.ns+"/statefulsets/openshell", nil), &s); err != nil {
		g.t.Fatal(err)
	}
	return s.Spec.Template.Metadata.Annotations["creel/restarted-at"]
}

// judge checks a whole set as TLS uses it: who it names, what for, and that a
// server and a client with it understand each other.
func judge(t testing.TB, ns string, set map[string]secret) {
	t.Helper()
	for name, typ := range map[string]string{generation1[0]: "kubernetes.io/tls", generation1[1]: "Opaque", generation1[2]: "Opaque", generation1[3]: "Opaque"} {
		if set[name].Type != typ {
			t.Errorf("%s has type %q, want %q", name, set[name].Type, typ)
		}
	}
	pair, err := tls.X509KeyPair(set[generation1[0]].Data["tls.crt"], set[generation1[0]].Data["tls.key"])
	if err != nil {
		t.Errorf("server: %v", err)
		return
	}
	for _, name := range append(namesIn(ns), "127.0.0.1") {
		if err := pair.Leaf.VerifyHostname(name); err != nil {
			t.Errorf("server: %v", err)
		}
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: selfSigned(pair.Leaf), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
		t.Errorf("server: %v", err)
	}
	own, err := tls.X509KeyPair(set[generation1[2]].Data["tls.crt"], set[generation1[2]].Data["tls.key"])
	if err != nil {
		t.Errorf("client: %v", err)
		return
	}
	ca, servers := x509.NewCertPool(), selfSigned(pair.Leaf)
	ca.AppendCertsFromPEM(set[generation1[1]].Data["ca.crt"])
	if _, err := own.Leaf.Verify(x509.VerifyOptions{Roots: ca, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Errorf("client: %v", err)
	}
	if handshake := set[generation1[3]].Data["secret"]; len(handshake) != 64 {
		t.Errorf("the handshake has %d characters", len(handshake))
	}
	near, far := net.Pipe()
	go func() {
		c := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca})
		_, _ = io.WriteString(c, "in")
		_ = c.Close()
	}()
	c := tls.Client(near, &tls.Config{Certificates: []tls.Certificate{own}, RootCAs: servers, ServerName: "localhost"})
	if said, err := io.ReadAll(c); string(said) != "in" {
		t.Errorf("handshake: %q, %v", said, err)
	}
	_ = near.Close()
}

func selfSigned(c *x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(c)
	return pool
}

// forge makes a pair that is good but for what change does to it.
func forge(t testing.TB, ns string, change func(*x509.Certificate)) (certificate, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "openshell.openshell.svc.cluster.local"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
		DNSNames: namesIn(ns), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	change(template)
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
}

// namesIn are the names that a gateway in a namespace of its own must have.
func namesIn(ns string) []string {
	return []string{"openshell", "openshell." + ns, fmt.Sprintf("openshell.%s.svc", ns), fmt.Sprintf("openshell.%s.svc.cluster.local", ns), "localhost"}
}
