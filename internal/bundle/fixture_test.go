package bundle

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"maps"
	"math/big"
	"net"
	"testing"
	"time"
)

// moment is when the tests happen, far from now so that a forgotten time.Now
// shows.
func moment() time.Time { return time.Date(2031, 5, 6, 7, 8, 9, 0, time.UTC) }

func generation1() Requirements { return Requirements{Generation: Generation1} }
func directory() Requirements   { return Requirements{Generation: Generation2} }
func kubernetes() Requirements  { return Requirements{Generation: Generation2, Layout: Kubernetes} }

func everyKind() map[string]Requirements {
	return map[string]Requirements{
		"generation 1":               generation1(),
		"generation 2 directory":     directory(),
		"generation 2 in Kubernetes": kubernetes(),
		"renamed": {Generation: Generation2, Layout: Kubernetes, Hosts: []string{"gw.example.com", "10.1.2.3"},
			Names: map[string]string{Server: "tls-a", Client: "tls-b", JWT: "keys"}},
	}
}

// fresh issues a whole set from nothing.
func fresh(t testing.TB, want Requirements, now time.Time) Snapshot {
	t.Helper()
	secrets, err := Issue(MakePlan(Inspect(Snapshot{}, want, now)), Snapshot{}, want, now, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return snapshotOf(secrets)
}

func snapshotOf(secrets []Secret) Snapshot {
	s := Snapshot{Secrets: map[string]Secret{}}
	for _, secret := range secrets {
		s.Secrets[secret.Name] = secret
	}
	return s
}

func clone(s Snapshot) Snapshot {
	c := Snapshot{Secrets: map[string]Secret{}, Token: s.Token}
	for name, secret := range s.Secrets {
		data := map[string][]byte{}
		for k, v := range secret.Data {
			data[k] = bytes.Clone(v)
		}
		secret.Data = data
		c.Secrets[name] = secret
	}
	return c
}

// authorityFixture issues whatever a test needs, right or wrong.
type authorityFixture struct {
	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte
}

type certOption func(*x509.Certificate)

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newAuthorityFixture(t testing.TB, options ...certOption) authorityFixture {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: authoritySubject(Generation2),
		NotBefore: moment().AddDate(-1, 0, 0), NotAfter: moment().AddDate(9, 0, 0), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign}
	key := newKey(t)
	a := authorityFixture{key: key}
	a.cert, a.pem = signed(t, template, template, key, key, options...)
	return a
}

func signed(t testing.TB, template, parent *x509.Certificate, key, by crypto.Signer, options ...certOption) (*x509.Certificate, []byte) {
	t.Helper()
	for _, o := range options {
		o(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// leaf issues a certificate that is good for both roles unless an option spoils it.
func (a authorityFixture) leaf(t testing.TB, options ...certOption) (certificate, key []byte) {
	t.Helper()
	k := newKey(t)
	_, certificate = signed(t, leafTemplate(), a.cert, k, a.key, options...)
	return certificate, keyPEM(t, k)
}

func leafTemplate() *x509.Certificate {
	return &x509.Certificate{SerialNumber: big.NewInt(2),
		Subject:   pkix.Name{CommonName: "somebody", OrganizationalUnit: []string{clientRole}},
		NotBefore: moment().AddDate(0, -1, 0), NotAfter: moment().AddDate(1, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames: []string{"openshell", "openshell.openshell", "openshell.openshell.svc",
			"openshell.openshell.svc.cluster.local", "localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
}

func keyPEM(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	text, err := encodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// rsaLeaf is what a shell script with OpenSSL makes.
func (a authorityFixture) rsaLeaf(t testing.TB) (certificate, key []byte) {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, certificate = signed(t, leafTemplate(), a.cert, k, a.key)
	return certificate, pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k)})
}

func validFor(begin, end time.Duration) certOption {
	return func(c *x509.Certificate) { c.NotBefore, c.NotAfter = moment().Add(begin), moment().Add(end) }
}

// memoryStore behaves as a store must: it refuses writes that were planned on
// another state, and it keeps what was replaced.
type memoryStore struct {
	secrets map[string]Secret
	version int
	backups []Secret
	// unrolled is what an earlier repair left to roll.
	unrolled []string
	// failLoad is how Load fails; beforeApply happens between looking and writing.
	failLoad    error
	beforeApply func(*memoryStore)
	applies     int
}

func (m *memoryStore) Load(context.Context, Requirements) (Snapshot, error) {
	if m.failLoad != nil {
		return Snapshot{}, m.failLoad
	}
	s := clone(Snapshot{Secrets: m.secrets})
	s.Token, s.Unrolled = m.version, m.unrolled
	return s, nil
}

func (m *memoryStore) Apply(_ context.Context, write []Secret, prev Snapshot) error {
	m.applies++
	if m.beforeApply != nil {
		m.beforeApply(m)
	}
	if prev.Token != m.version {
		return ErrChanged
	}
	for _, s := range write {
		if old, ok := m.secrets[s.Name]; ok {
			m.backups = append(m.backups, old)
		}
		m.secrets[s.Name] = s
	}
	m.version++
	return nil
}

func newMemoryStore(s Snapshot) *memoryStore {
	return &memoryStore{secrets: maps.Clone(clone(s).Secrets)}
}
