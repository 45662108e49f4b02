package e2e

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// registered is what an OpenShell client has on disk for the gateway.
func (h *home) registered() (*tls.Config, string) {
	h.t.Helper()
	dir := filepath.Join(h.dir, "config", "openshell", "gateways", "creel", "mtls")
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
	if err != nil {
		h.t.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		h.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		h.t.Fatal("the registered CA does not parse")
	}
	g := decode[struct{ Endpoint string }](h.t, h.must(0, "gateway", "status", "--json"))
	endpoint, err := url.Parse(g.Endpoint)
	if err != nil {
		h.t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, ServerName: "localhost", NextProtos: []string{"h2"}}, endpoint.Host
}

// presented is the serial number of the certificate that the gateway presents to
// a client that it accepts: under TLS 1.3 a refusal only shows when reading.
func presented(t *testing.T, client *tls.Config, address string) string {
	t.Helper()
	c, err := tls.Dial("tcp", address, client)
	if err != nil {
		t.Fatalf("dial the gateway: %v", err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	// An HTTP/2 server begins with its settings.
	if _, err := io.ReadFull(c, make([]byte, 9)); err != nil {
		t.Fatalf("the gateway refused the client: %v", err)
	}
	return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

// testRotate: certificates are renewed under a client that is connected and
// another that has only the old files.
func testRotate(t *testing.T) {
	h, _ := stack(t)
	gateway, agent := h.gatewayPID(), h.agentPID()
	old, address := h.registered()
	before := presented(t, old, address)

	// Somebody is connected all the while.
	connected := exec.Command(creel, "exec", "claw", "--", "/bin/sh", "-c", "echo up; read x; echo got $x")
	connected.Env = h.env
	in, err := connected.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := connected.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := connected.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connected.Process.Kill() }()
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); line != "up\n" {
		t.Fatalf("%q, %v", line, err)
	}

	if r := h.must(0, "gateway", "secrets", "rotate"); !strings.Contains(r.stdout, "nothing to do") {
		t.Errorf("nothing is expiring, and yet: %s%s", r.stdout, r.stderr)
	}
	h.must(0, "gateway", "secrets", "rotate", "--all", "--yes")

	if after := presented(t, old, address); after == before {
		t.Error("the gateway presents the certificate of before the rotation")
	}
	renewed, _ := h.registered()
	if renewed.Certificates[0].Leaf.Equal(old.Certificates[0].Leaf) {
		t.Error("the registration still has the old certificate")
	}
	presented(t, renewed, address)
	if _, err := fmt.Fprintln(in, "through"); err != nil {
		t.Fatal(err)
	}
	if line, err := lines.ReadString('\n'); line != "got through\n" {
		t.Errorf("who was connected got %q, %v", line, err)
	}
	if err := connected.Wait(); err != nil {
		t.Errorf("who was connected: %v", err)
	}
	if h.gatewayPID() != gateway || h.agentPID() != agent {
		t.Error("the gateway or the agent was started again")
	}
	if v := h.verdict(); v != "ok" {
		t.Errorf("status after the rotation: %s", v)
	}
}
