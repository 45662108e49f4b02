package bundle

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"io"
	"strings"
	"testing"
	"time"
)

// handshake makes a real TLS connection on this machine, in real time, and
// returns both ends' errors. In TLS 1.3 a client learns that its certificate is
// refused only when it reads, so one byte goes through.
func handshake(t *testing.T, server, client *tls.Config) (serverErr, clientErr error) {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	done := make(chan error, 1)
	go func() {
		c, err := listener.Accept()
		if err != nil {
			done <- err
			return
		}
		defer func() { _ = c.Close() }()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		_, err = c.Write([]byte{1})
		done <- err
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	dialer := tls.Dialer{Config: client}
	c, err := dialer.DialContext(ctx, "tcp", listener.Addr().String())
	if err == nil {
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		_, err = io.ReadFull(c, make([]byte, 1))
		_ = c.Close()
	}
	return <-done, err
}

func opened(t *testing.T) Material {
	t.Helper()
	m, err := Open(fresh(t, directory(), time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestOpenedMaterialConnects(t *testing.T) {
	m, other := opened(t), opened(t)
	for _, name := range []string{LocalName, "127.0.0.1", "host.docker.internal", "x.openshell.localhost"} {
		if s, c := handshake(t, m.ServerConfig(), m.ClientConfig(name)); s != nil || c != nil {
			t.Errorf("as %s: server %v, client %v", name, s, c)
		}
	}
	var state tls.ConnectionState
	server := m.ServerConfig()
	server.VerifyConnection = func(c tls.ConnectionState) error { state = c; return nil }
	if s, c := handshake(t, server, m.ClientConfig(LocalName)); s != nil || c != nil {
		t.Fatal(s, c)
	}
	if state.Version != tls.VersionTLS13 || state.PeerCertificates[0].Subject.CommonName != "openshell-client" {
		t.Errorf("version %x, client %s", state.Version, state.PeerCertificates[0].Subject)
	}

	refusals := []struct {
		name           string
		server, client *tls.Config
		text           string
	}{
		{"no client certificate", m.ServerConfig(), &tls.Config{RootCAs: m.CA, ServerName: LocalName}, "certificate required"},
		{"another set's client", m.ServerConfig(), &tls.Config{RootCAs: m.CA, ServerName: LocalName, Certificates: other.ClientConfig("").Certificates}, "unknown certificate authority"},
		{"another set's server", other.ServerConfig(), m.ClientConfig(LocalName), "certificate signed by unknown authority"},
		{"another name", m.ServerConfig(), m.ClientConfig("gateway.example.com"), "gateway.example.com"},
		{"server's certificate as a client's", m.ServerConfig(), &tls.Config{RootCAs: m.CA, ServerName: LocalName, Certificates: []tls.Certificate{m.Server}}, "certificate"},
		{"TLS 1.2", m.ServerConfig(), &tls.Config{RootCAs: m.CA, ServerName: LocalName, Certificates: []tls.Certificate{m.Client}, MaxVersion: tls.VersionTLS12}, "protocol version"},
	}
	for _, r := range refusals {
		if _, c := handshake(t, r.server, r.client); c == nil || !strings.Contains(c.Error(), r.text) {
			t.Errorf("%s: client sees %v, want %q", r.name, c, r.text)
		}
	}
}

// TestGeneration1Connects: the server signs itself, so clients pin it; clients
// are verified by the client CA.
func TestGeneration1Connects(t *testing.T) {
	for name, s := range map[string]Snapshot{"generation 1": fresh(t, generation1(), time.Now()), "Kubernetes": fresh(t, kubernetes(), time.Now())} {
		t.Run(name, func(t *testing.T) {
			pair := func(name string) tls.Certificate {
				c, err := tls.X509KeyPair(s.Secrets[name].Data[keyTLSCert], s.Secrets[name].Data[keyTLSKey])
				if err != nil {
					t.Fatal(err)
				}
				return c
			}
			clients, servers := x509.NewCertPool(), x509.NewCertPool()
			clients.AppendCertsFromPEM(s.Secrets[ServerCA].Data[keyCACert])
			clients.AppendCertsFromPEM(s.Secrets[ServerTLS].Data[keyCACert])
			servers.AppendCertsFromPEM(s.Secrets[ServerTLS].Data[keyTLSCert])
			servers.AppendCertsFromPEM(s.Secrets[ServerTLS].Data[keyCACert])
			se, ce := handshake(t, &tls.Config{Certificates: []tls.Certificate{pair(ServerTLS)}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert},
				&tls.Config{Certificates: []tls.Certificate{pair(ClientTLS)}, RootCAs: servers, ServerName: "openshell.openshell.svc.cluster.local"})
			if se != nil || ce != nil {
				t.Errorf("server %v, client %v", se, ce)
			}
		})
	}
}

// TestOpenChecksWhatProgramsRelyOn: what does not parse or fit is refused; time
// and names are left to whoever inspects.
func TestOpenChecksWhatProgramsRelyOn(t *testing.T) {
	opens := map[string]bool{
		"absent": false, "certificate missing": false, "key empty": false, "certificate garbled": false, "key garbled": false,
		"half of another pair": false, "CA absent": false, "CA key missing": false, "CA certificate missing": false,
		"CA garbled": false, "token key absent": false, "signing key missing": false, "key id missing": false,
		"signing key garbled": false, "signing key of another kind": false, "key id of another": false,
		"just expired": true, "begins in six minutes": true, "other name": true, "CA expired": true,
	}
	for _, c := range damages() {
		want, examined := opens[c.name]
		if !examined {
			continue
		}
		delete(opens, c.name)
		s := fresh(t, c.want, moment())
		c.spoil(t, s)
		_, err := Open(s)
		if want != (err == nil) {
			t.Errorf("%s: %v", c.name, err)
		}
		// What is said is what whoever inspects says, too.
		if found := advisoryID(Inspect(s, c.want, time.Now()).Problem()); err != nil && advisoryID(err) != found {
			t.Errorf("%s: %v is %s, an inspection says %s", c.name, err, advisoryID(err), found)
		}
	}
	if len(opens) > 0 {
		t.Errorf("not examined: %v", opens)
	}
}

func TestMaterialHasTheTokenKey(t *testing.T) {
	s := fresh(t, directory(), moment())
	m, err := Open(s)
	if err != nil {
		t.Fatal(err)
	}
	public, err := parsePublicKey(s.Secrets[JWT].Data[keyPublic])
	if err != nil || !ed25519.Verify(public, []byte("x"), ed25519.Sign(m.SandboxKey, []byte("x"))) || m.KeyID != string(s.Secrets[JWT].Data[keyKeyID]) {
		t.Errorf("key id %s, %v", m.KeyID, err)
	}
	if string(m.ClientPEM.Cert) != string(s.Secrets[Client].Data[keyTLSCert]) || string(m.ClientPEM.Key) != string(s.Secrets[Client].Data[keyTLSKey]) {
		t.Error("the client's PEM is not what is stored")
	}
}

func TestLapsed(t *testing.T) {
	m := opened(t)
	at := m.Server.Leaf.NotBefore.Add(time.Hour)
	for _, c := range []struct {
		now  time.Time
		want string
	}{
		{at.Add(time.Hour), ""},
		{m.Server.Leaf.NotAfter.Add(time.Hour), "the server certificate ended " + m.Server.Leaf.NotAfter.Format(time.DateOnly)},
		{at.AddDate(-1, 0, 0), "the server certificate begins " + m.Server.Leaf.NotBefore.Format(time.DateOnly)},
	} {
		if got := m.Lapsed(c.now); got != c.want {
			t.Errorf("at %s: %q, want %q", c.now, got, c.want)
		}
	}
	m.Server = m.Client
	m.Client = tls.Certificate{}
	m.Server.Leaf = nil
	if got := m.Lapsed(at.AddDate(100, 0, 0)); !strings.HasPrefix(got, "the authority's certificate ended ") {
		t.Errorf("the authority alone: %q", got)
	}
}
