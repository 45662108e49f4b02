package bundle

import (
	"bytes"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
	"time"

	"creel/internal/advisory"
)

// LocalName is the name under which the server certificate of an embedded
// gateway is verified.
const LocalName = "localhost"

// Material is the set in the form that programs use.
type Material struct {
	CA        *x509.CertPool
	CAPEM     []byte
	Server    tls.Certificate
	Client    tls.Certificate
	ClientPEM struct{ Cert, Key []byte }
	// SandboxKey signs sandbox tokens; KeyID is its kid.
	SandboxKey ed25519.PrivateKey
	KeyID      string
}

// Open parses a set of generation 2 in the directory layout. It checks what a
// program that uses the set relies on (everything parses, each key fits its
// certificate, the key id fits the signing key); validity in time and names are
// Inspect's.
func Open(s Snapshot) (Material, error) {
	m, err := open(s)
	if err == nil {
		return m, nil
	}
	// Who inspects says the same, and what mends it.
	found := Inspect(s, Requirements{Generation: Generation2, Layout: Directory}, time.Now()).Problem()
	if p, ok := advisory.Of(found); ok {
		return Material{}, advisory.New(p.ID, "open bootstrap secrets", found, p.Hints...)
	}
	return Material{}, advisory.New("secrets-unusable", "open bootstrap secrets", err)
}

func open(s Snapshot) (Material, error) {
	var m Material
	for _, row := range members(Generation2, Directory) {
		secret, ok := s.Secrets[row.stored]
		if !ok {
			return m, fmt.Errorf("%s is absent", row.name)
		}
		if missing := missingKeys(row, secret); len(missing) > 0 {
			return m, fmt.Errorf("%s lacks %s", row.name, strings.Join(missing, ", "))
		}
	}
	authorities, err := parseCertificates(s.Secrets[CA].Data[keyCACert])
	if err != nil {
		return m, fmt.Errorf("ca: %w", err)
	}
	m.CA = x509.NewCertPool()
	for _, c := range authorities {
		m.CA.AddCert(c)
	}
	m.CAPEM = bytes.Clone(s.Secrets[CA].Data[keyCACert])
	if m.Server, err = tls.X509KeyPair(s.Secrets[Server].Data[keyTLSCert], s.Secrets[Server].Data[keyTLSKey]); err != nil {
		return m, fmt.Errorf("server: %w", err)
	}
	if m.Client, err = tls.X509KeyPair(s.Secrets[Client].Data[keyTLSCert], s.Secrets[Client].Data[keyTLSKey]); err != nil {
		return m, fmt.Errorf("client: %w", err)
	}
	m.ClientPEM.Cert = bytes.Clone(s.Secrets[Client].Data[keyTLSCert])
	m.ClientPEM.Key = bytes.Clone(s.Secrets[Client].Data[keyTLSKey])
	if m.SandboxKey, err = parseSigningKey(s.Secrets[JWT].Data[keySigning]); err != nil {
		return m, fmt.Errorf("jwt: %w", err)
	}
	m.KeyID, err = keyID(m.SandboxKey.Public().(ed25519.PublicKey))
	if err != nil {
		return m, fmt.Errorf("jwt: %w", err)
	}
	if got := strings.TrimSpace(string(s.Secrets[JWT].Data[keyKeyID])); got != m.KeyID {
		return m, fmt.Errorf("jwt: %s does not fit %s", keyKeyID, keySigning)
	}
	return m, nil
}

// Lapsed says which certificate of a gateway that listens is not valid at a time, and
// since when, e.g. "the server certificate ended 2026-01-02"; "" while all are.
func (m Material) Lapsed(now time.Time) string {
	authorities, _ := parseCertificates(m.CAPEM) // they were parsed when it was opened
	type named struct {
		what string
		cert *x509.Certificate
	}
	all := []named{{"server", m.Server.Leaf}, {"client", m.Client.Leaf}}
	for _, c := range authorities {
		all = append(all, named{"authority's", c})
	}
	for _, c := range all {
		switch {
		case c.cert == nil:
		case now.After(c.cert.NotAfter):
			return fmt.Sprintf("the %s certificate ended %s", c.what, c.cert.NotAfter.UTC().Format(time.DateOnly))
		case now.Before(c.cert.NotBefore):
			return fmt.Sprintf("the %s certificate begins %s", c.what, c.cert.NotBefore.UTC().Format(time.DateOnly))
		}
	}
	return ""
}

// ServerConfig is what the gateway listens with: TLS 1.3, and no connection
// without a client certificate of this CA.
func (m Material) ServerConfig() *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{m.Server},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    m.CA,
	}
}

// ClientConfig is what a client dials with: this CA and no other, the client
// certificate, TLS 1.3. serverName is what the server's certificate must be
// valid for; LocalName for an embedded gateway.
func (m Material) ClientConfig(serverName string) *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{m.Client},
		RootCAs:      m.CA,
		ServerName:   serverName,
	}
}
