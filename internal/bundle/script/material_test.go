package script_test

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"creel/internal/bundle"
	"creel/test/kubeenv"
)

func parse(t testing.TB, text []byte) *x509.Certificate {
	t.Helper()
	block, rest := pem.Decode(text)
	if block == nil || len(rest) > 0 {
		t.Fatalf("not one PEM block: %q", text)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// facts are what two certificates of the same kind have in common.
func facts(t testing.TB, text []byte) map[string]string {
	t.Helper()
	c := parse(t, text)
	names := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	key, _ := c.PublicKey.(*ecdsa.PublicKey)
	if key == nil {
		t.Fatalf("a key of kind %T", c.PublicKey)
	}
	return map[string]string{
		"version": fmt.Sprint(c.Version), "subject": c.Subject.String(), "issuer": c.Issuer.String(),
		"life": c.NotAfter.Sub(c.NotBefore).String(), "names": strings.Join(names, " "),
		"curve": key.Curve.Params().Name, "algorithm": c.SignatureAlgorithm.String(),
		"usage": fmt.Sprint(c.KeyUsage, c.ExtKeyUsage, c.UnknownExtKeyUsage),
		"CA":    fmt.Sprint(c.BasicConstraintsValid, c.IsCA, c.MaxPathLen, c.MaxPathLenZero), "names an issuer's key": fmt.Sprint(len(c.AuthorityKeyId) > 0),
	}
}

// keys lists what each secret holds, and of what type it is.
func keys(s bundle.Snapshot) map[string]string {
	list := map[string]string{}
	for name, secret := range s.Secrets {
		list[name] = secret.Type + " " + strings.Join(slices.Sorted(maps.Keys(secret.Data)), " ")
		for _, key := range []string{"tls.key", "signing.pem", "public.pem"} {
			if block, _ := pem.Decode(secret.Data[key]); block != nil {
				list[name+" "+key] = block.Type
			}
		}
		for _, key := range []string{"secret", "kid"} {
			if value, ok := secret.Data[key]; ok {
				list[name+" "+key] = fmt.Sprintf("%d bytes", len(value))
			}
		}
	}
	return list
}

// handshake connects a client to a server with nothing but the set.
func handshake(t testing.TB, g bundle.Generation, s bundle.Snapshot) {
	t.Helper()
	server, client := s.Secrets[bundle.ServerTLS].Data, s.Secrets[bundle.ClientTLS].Data
	clients, servers := client["ca.crt"], client["ca.crt"]
	if g == bundle.Generation1 {
		clients, servers = s.Secrets[bundle.ServerCA].Data["ca.crt"], server["tls.crt"]
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{MinVersion: tls.VersionTLS13,
		Certificates: []tls.Certificate{pair(t, server)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool(t, clients)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	served := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			_, err = conn.Write([]byte("hello"))
			_ = conn.Close()
		}
		served <- err
	}()
	conn, err := (&tls.Dialer{NetDialer: &net.Dialer{}, Config: &tls.Config{MinVersion: tls.VersionTLS13, ServerName: "localhost",
		RootCAs: pool(t, servers), Certificates: []tls.Certificate{pair(t, client)}}}).DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if got, err := io.ReadAll(conn); err != nil || string(got) != "hello" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func pair(t testing.TB, data map[string][]byte) tls.Certificate {
	t.Helper()
	p, err := tls.X509KeyPair(data["tls.crt"], data["tls.key"])
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func pool(t testing.TB, text []byte) *x509.CertPool {
	t.Helper()
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(text) {
		t.Fatalf("no certificate in %q", text)
	}
	return p
}

// canaries are pieces of text that would give a secret of the set away.
func canaries(found map[string]object) []string {
	var list []string
	for _, o := range found {
		for _, key := range []string{"tls.key", "signing.pem", "secret"} {
			value := o.Data[key]
			if len(value) == 0 {
				continue
			}
			for line := range strings.Lines(string(value)) {
				if line = strings.TrimSpace(line); !strings.HasPrefix(line, "-----") && len(line) > 16 {
					list = append(list, line, base64.StdEncoding.EncodeToString([]byte(line)))
				}
			}
			list = append(list, base64.StdEncoding.EncodeToString(value))
		}
	}
	return list
}

// nowhere fails the test when a secret is in one of the texts.
func nowhere(t testing.TB, found map[string]object, texts map[string]string) {
	t.Helper()
	list := canaries(found)
	if len(list) == 0 {
		t.Fatal("there is no secret to look for")
	}
	for where, text := range texts {
		for _, secret := range list {
			if strings.Contains(text, secret) {
				t.Errorf("%s holds a secret", where)
			}
		}
	}
}

// bareMachine runs programs as they are, for measuring.
func bareMachine(t testing.TB, s shell, c *kubeenv.Cluster) *machine {
	t.Helper()
	m := newMachine(t, s, c.Bin+"/kubectl", c.AdminKubeconfig)
	paths := map[string]string{"kubectl": c.Bin + "/kubectl"}
	for _, p := range programs {
		paths[p] = s.program(t, p)
	}
	for name, path := range paths {
		file := filepath.Join(m.bin, name)
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, file); err != nil {
			t.Fatal(err)
		}
	}
	return m
}
