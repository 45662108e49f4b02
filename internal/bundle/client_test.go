package bundle

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"testing"
	"time"
)

// TestClientOpensItsGateway: what is taken out of a set opens a server that runs
// with the same set, in every layout.
func TestClientOpensItsGateway(t *testing.T) {
	for name, want := range everyKind() {
		t.Run(name, func(t *testing.T) {
			s := fresh(t, want, time.Now())
			files, err := OpenClient(s, want)
			if err != nil {
				t.Fatal(err)
			}
			var server Secret
			clients := x509.NewCertPool()
			for _, m := range want.members() {
				secret := s.Secrets[m.stored]
				if m.role == roleServer {
					server = secret
				}
				clients.AppendCertsFromPEM(secret.Data[keyCACert])
			}
			pair, err := tls.X509KeyPair(server.Data[keyTLSCert], server.Data[keyTLSKey])
			if err != nil {
				t.Fatal(err)
			}
			own, err := tls.X509KeyPair(files.Cert, files.Key)
			if err != nil {
				t.Fatal(err)
			}
			roots := x509.NewCertPool()
			roots.AppendCertsFromPEM(files.CA)
			near, far := net.Pipe()
			defer near.Close()
			go func() {
				c := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients})
				_, _ = io.WriteString(c, "in") // the handshake comes first
				_ = c.Close()
			}()
			c := tls.Client(near, &tls.Config{Certificates: []tls.Certificate{own}, RootCAs: roots, ServerName: "localhost"})
			if b, err := io.ReadAll(c); string(b) != "in" {
				t.Errorf("the server said %q, %v", b, err)
			}
		})
	}
}

func TestOpenClientRefuses(t *testing.T) {
	want := generation1()
	for name, spoil := range map[string]func(Snapshot){
		"absent":   func(s Snapshot) { delete(s.Secrets, ClientTLS) },
		"empty":    func(s Snapshot) { s.Secrets[ClientTLS].Data[keyTLSKey] = nil },
		"garbage":  func(s Snapshot) { s.Secrets[ClientTLS].Data[keyTLSCert] = []byte("garbage") },
		"mismatch": func(s Snapshot) { s.Secrets[ClientTLS].Data[keyTLSKey] = s.Secrets[ServerTLS].Data[keyTLSKey] },
	} {
		s := fresh(t, want, moment())
		spoil(s)
		if files, err := OpenClient(s, want); err == nil {
			t.Errorf("%s: %d bytes", name, len(files.Cert))
		}
	}
}

func TestBelongs(t *testing.T) {
	for name, want := range everyKind() {
		s, other := fresh(t, want, moment()), fresh(t, want, moment())
		mine, err := OpenClient(s, want)
		if err != nil {
			t.Fatal(err)
		}
		client := ""
		for _, m := range want.members() {
			if m.role == roleClient {
				client = m.stored
			}
		}
		if !Belongs(s, want, mine.Cert) || Belongs(other, want, mine.Cert) || Belongs(s, want, []byte("garbage")) {
			t.Errorf("%s: its own %v, another's %v", name, Belongs(s, want, mine.Cert), Belongs(other, want, mine.Cert))
		}
		// The client's member is lost; the CA still tells, where it is kept elsewhere.
		delete(s.Secrets, client)
		if !Belongs(s, want, mine.Cert) {
			t.Errorf("%s: without the client's member its CA does not tell", name)
		}
		if Belongs(Snapshot{}, want, mine.Cert) {
			t.Errorf("%s: nothing is there that could tell", name)
		}
	}
}
