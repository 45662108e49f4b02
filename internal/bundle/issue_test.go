package bundle

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func certificateOf(t *testing.T, s Snapshot, name, key string) *x509.Certificate {
	t.Helper()
	certs, err := parseCertificates(s.Secrets[name].Data[key])
	if err != nil {
		t.Fatalf("%s of %s: %v", key, name, err)
	}
	return certs[0]
}

// TestIssuedCertificates compares with the tables of the specification.
func TestIssuedCertificates(t *testing.T) {
	const day = 24 * time.Hour
	generation2DNS := []string{"openshell", "openshell.openshell.svc", "openshell.openshell.svc.cluster.local", "localhost",
		"openshell.localhost", "*.openshell.localhost", "host.docker.internal", "host.containers.internal"}
	extra := directory()
	extra.Hosts = []string{" gw.example.com ", "", "192.0.2.7", "localhost", "gw.example.com"}
	cases := []struct {
		name, secret, key string
		want              Requirements
		subject, issuer   string
		dns, ips          []string
		usage             []x509.ExtKeyUsage
		life              time.Duration
		ca                bool
	}{
		{"generation 1 server", ServerTLS, keyTLSCert, generation1(), "CN=openshell.openshell.svc.cluster.local", "CN=openshell.openshell.svc.cluster.local",
			[]string{"openshell", "openshell.openshell", "openshell.openshell.svc", "openshell.openshell.svc.cluster.local", "localhost"}, []string{"127.0.0.1"},
			[]x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, 3650 * day, false},
		{"generation 1 CA", ServerCA, keyCACert, generation1(), "CN=openshell-client-ca", "CN=openshell-client-ca", nil, nil, nil, 3650 * day, true},
		{"generation 1 client", ClientTLS, keyTLSCert, generation1(), "CN=openshell-client", "CN=openshell-client-ca", nil, nil,
			[]x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, 3650 * day, false},
		{"CA", CA, keyCACert, directory(), "CN=openshell-ca,O=openshell", "CN=openshell-ca,O=openshell", nil, nil, nil, 3650 * day, true},
		{"server", Server, keyTLSCert, extra, "CN=openshell-server", "CN=openshell-ca,O=openshell", append(slices.Clone(generation2DNS), "gw.example.com"),
			[]string{"127.0.0.1", "::1", "192.0.2.7"}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, 365 * day, false},
		{"client", Client, keyTLSCert, directory(), "CN=openshell-client,OU=openshell-user", "CN=openshell-ca,O=openshell", nil, nil,
			[]x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, 365 * day, false},
		{"server in Kubernetes", ServerTLS, keyTLSCert, kubernetes(), "CN=openshell-server", "CN=openshell-ca,O=openshell", generation2DNS,
			[]string{"127.0.0.1", "::1"}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, 365 * day, false},
		{"CA in Kubernetes", ClientTLS, keyCACert, kubernetes(), "CN=openshell-ca,O=openshell", "CN=openshell-ca,O=openshell", nil, nil, nil, 3650 * day, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cert := certificateOf(t, fresh(t, c.want, moment()), c.secret, c.key)
			if cert.Subject.String() != c.subject || cert.Issuer.String() != c.issuer {
				t.Errorf("subject %s, issuer %s", cert.Subject, cert.Issuer)
			}
			if diff := cmp.Diff(c.dns, cert.DNSNames); diff != "" {
				t.Errorf("names:\n%s", diff)
			}
			var ips []string
			for _, ip := range cert.IPAddresses {
				ips = append(ips, ip.String())
			}
			if diff := cmp.Diff(c.ips, ips); diff != "" {
				t.Errorf("addresses:\n%s", diff)
			}
			if diff := cmp.Diff(c.usage, cert.ExtKeyUsage); diff != "" {
				t.Errorf("usage:\n%s", diff)
			}
			if life := cert.NotAfter.Sub(cert.NotBefore); life != c.life {
				t.Errorf("life %s, want %s", life, c.life)
			}
			if back := moment().Sub(cert.NotBefore); back < 5*time.Minute || back > time.Hour {
				t.Errorf("backdated by %s", back)
			}
			key, ok := cert.PublicKey.(*ecdsa.PublicKey)
			if !ok || key.Curve != elliptic.P256() || cert.SignatureAlgorithm != x509.ECDSAWithSHA256 {
				t.Errorf("key %T, signature %s", cert.PublicKey, cert.SignatureAlgorithm)
			}
			if cert.IsCA != c.ca || cert.SerialNumber.Sign() <= 0 || cert.SerialNumber.BitLen() < 64 {
				t.Errorf("CA %v, serial %v", cert.IsCA, cert.SerialNumber)
			}
		})
	}
}

func TestIssuedSecretsOtherThanCertificates(t *testing.T) {
	one, two := fresh(t, generation1(), moment()), fresh(t, generation1(), moment())
	handshake := string(one.Secrets[SSHHandshake].Data[keyHandshake])
	if b, err := hex.DecodeString(handshake); err != nil || len(b) != 32 || handshake == string(two.Secrets[SSHHandshake].Data[keyHandshake]) {
		t.Errorf("handshake of %d characters: %v", len(handshake), err)
	}
	if got := one.Secrets[ServerTLS].Type + " " + one.Secrets[ClientTLS].Type; got != "kubernetes.io/tls Opaque" {
		t.Errorf("types %s", got)
	}
	if _, ok := one.Secrets[ServerCA].Data[keyCAKey]; ok {
		t.Error("generation 1 keeps the CA's key")
	}
	s := fresh(t, kubernetes(), moment())
	if !bytes.Equal(s.Secrets[ServerTLS].Data[keyCACert], s.Secrets[ClientTLS].Data[keyCACert]) {
		t.Error("server and client have different CAs")
	}
	key, err := parseSigningKey(s.Secrets[jwtKeys].Data[keySigning])
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	if kid := string(s.Secrets[jwtKeys].Data[keyKeyID]); kid != hex.EncodeToString(sum[:16]) {
		t.Errorf("key id %s", kid)
	}
	public, err := parsePublicKey(s.Secrets[jwtKeys].Data[keyPublic])
	if err != nil || !ed25519.Verify(public, []byte("x"), ed25519.Sign(key, []byte("x"))) {
		t.Errorf("public key: %v", err)
	}
}

func TestLeafEndsWithItsAuthority(t *testing.T) {
	want := directory()
	s := fresh(t, want, moment())
	late := moment().Add(3650*24*time.Hour - 100*time.Hour)
	delete(s.Secrets, Server)
	secrets, err := Issue(PlanMissing(Generation2, []string{"server"}), s, want, late, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := certificateOf(t, s, CA, keyCACert)
	if got := certificateOf(t, snapshotOf(secrets), Server, keyTLSCert).NotAfter; !got.Equal(ca.NotAfter) {
		t.Errorf("the leaf ends %s, its CA %s", got, ca.NotAfter)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("no entropy") }

func TestIssueRefuses(t *testing.T) {
	want := directory()
	good := fresh(t, want, moment())
	noKey := clone(good)
	delete(noKey.Secrets[CA].Data, keyCAKey)
	bad := want
	bad.Hosts = []string{"höst"}
	cases := []struct {
		name    string
		plan    Plan
		current Snapshot
		want    Requirements
		rand    interface{ Read([]byte) (int, error) }
		text    string
	}{
		{"a leaf without the CA's key", PlanMissing(Generation2, []string{"server"}), noKey, want, rand.Reader, "the CA cannot issue"},
		{"a plan for another gateway", PlanMissing(Generation1, []string{ServerTLS}), good, want, rand.Reader, "generation 1"},
		{"a plan for another layout", MakePlan(Inspect(Snapshot{}, kubernetes(), moment())), good, want, rand.Reader, "kubernetes"},
		{"no entropy", PlanMissing(Generation1, []string{SSHHandshake}), Snapshot{}, generation1(), brokenReader{}, "no entropy"},
		{"a host that is no name", PlanMissing(Generation2, []string{"server"}), good, bad, rand.Reader, "create certificate"},
	}
	for _, c := range cases {
		if _, err := Issue(c.plan, c.current, c.want, moment(), c.rand); err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want %q", c.name, err, c.text)
		}
	}
	if secrets, err := Issue(PlanMissing(Generation1, nil), Snapshot{}, generation1(), moment(), brokenReader{}); err != nil || len(secrets) != 0 {
		t.Errorf("an empty plan issued %v, %v", secrets, err)
	}
}

// TestCertificateOfAKeptCAKey: whoever trusted the old certificate trusts what
// the new one issues, and the other way round.
func TestCertificateOfAKeptCAKey(t *testing.T) {
	want := directory()
	s := fresh(t, want, moment())
	old := certificateOf(t, s, CA, keyCACert)
	delete(s.Secrets[CA].Data, keyCACert)
	p := MakePlan(Inspect(s, want, moment()))
	secrets, err := Issue(p, s, want, moment(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{CA}, stepMembers(p)); diff != "" || len(secrets) != 1 {
		t.Fatalf("steps:\n%s", diff)
	}
	s.Secrets[CA] = secrets[0]
	if r := Inspect(s, want, moment()); len(r.Bad()) != 0 {
		t.Fatalf("%s", r)
	}
	delete(s.Secrets, Server)
	secrets, err = Issue(PlanMissing(Generation2, []string{Server}), s, want, moment(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(old)
	leaf := certificateOf(t, snapshotOf(secrets), Server, keyTLSCert)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: moment(), DNSName: LocalName}); err != nil {
		t.Error(err)
	}
	if !slices.ContainsFunc(leaf.IPAddresses, net.IPv4(127, 0, 0, 1).Equal) {
		t.Errorf("addresses %v", leaf.IPAddresses)
	}
}

func BenchmarkIssue(b *testing.B) {
	for name, want := range map[string]Requirements{"generation1": generation1(), "directory": directory()} {
		b.Run(name, func(b *testing.B) {
			p := MakePlan(Inspect(Snapshot{}, want, moment()))
			for b.Loop() {
				if _, err := Issue(p, Snapshot{}, want, moment(), rand.Reader); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkInspect(b *testing.B) {
	for name, want := range map[string]Requirements{"generation1": generation1(), "directory": directory()} {
		b.Run(name, func(b *testing.B) {
			s := fresh(b, want, moment())
			for b.Loop() {
				if r := Inspect(s, want, moment()); len(r.Bad()) != 0 {
					b.Fatal(r)
				}
			}
		})
	}
}
