package bundle

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
)

// ClientFiles is what a client needs to open a gateway, in PEM.
type ClientFiles struct{ CA, Cert, Key []byte }

// OpenClient takes the client's part out of a set in any layout. It fails when the
// client's member is not there or its key does not fit.
func OpenClient(s Snapshot, want Requirements) (ClientFiles, error) {
	ms := want.members()
	stored := func(r role) (member, Secret) {
		i := slices.IndexFunc(ms, func(m member) bool { return m.role == r })
		if i < 0 {
			return member{}, Secret{}
		}
		return ms[i], s.Secrets[ms[i].stored]
	}
	m, client := stored(roleClient)
	if missing := missingKeys(m, client); len(missing) > 0 {
		return ClientFiles{}, fmt.Errorf("%s lacks %v", m.stored, missing)
	}
	chain, err := parseCertificates(client.Data[keyTLSCert])
	if err != nil {
		return ClientFiles{}, fmt.Errorf("%s: %w", m.stored, err)
	}
	key, err := parseKey(client.Data[keyTLSKey])
	if err != nil {
		return ClientFiles{}, fmt.Errorf("%s: %w", m.stored, err)
	}
	if !fits(chain[0], key) {
		return ClientFiles{}, fmt.Errorf("%s: %s does not fit %s", m.stored, keyTLSKey, keyTLSCert)
	}
	files := ClientFiles{Cert: bytes.Clone(client.Data[keyTLSCert]), Key: bytes.Clone(client.Data[keyTLSKey])}
	_, ca := stored(roleCA)
	_, server := stored(roleServer)
	files.CA = bytes.Clone(ca.Data[keyCACert])
	if len(client.Data[keyCACert]) > 0 {
		files.CA = bytes.Clone(client.Data[keyCACert])
	}
	// The server of generation 1 is issued by nobody else: clients trust itself.
	if certs, err := parseCertificates(server.Data[keyTLSCert]); err == nil && bytes.Equal(certs[0].RawIssuer, certs[0].RawSubject) {
		files.CA = append(append(bytes.TrimRight(files.CA, "\n"), '\n'), server.Data[keyTLSCert]...)
	}
	if len(files.CA) == 0 {
		return ClientFiles{}, fmt.Errorf("%s: there is no CA to verify the gateway with", m.stored)
	}
	return files, nil
}

// Belongs reports whether a client certificate is of this set: the one in it, or
// one that its CA issued. It is false whenever that cannot be shown.
func Belongs(s Snapshot, want Requirements, certificate []byte) bool {
	chain, err := parseCertificates(certificate)
	if err != nil {
		return false
	}
	for _, m := range want.members() {
		if m.role != roleClient {
			continue
		}
		if own, err := parseCertificates(s.Secrets[m.stored].Data[keyTLSCert]); err == nil && own[0].Equal(chain[0]) {
			return true
		}
	}
	in := inspection{snapshot: s, want: want}
	a := in.findAuthority()
	if len(a.certs) == 0 {
		return false
	}
	class, _, _ := a.verify(chain)
	return class == OK
}

// ClientConfig opens the gateway whose files these are; its certificate has to be
// for serverName. Gateways of generation 1 may speak TLS 1.2.
func (c ClientFiles) ClientConfig(serverName string) (*tls.Config, error) {
	pair, err := tls.X509KeyPair(c.Cert, c.Key)
	if err != nil {
		return nil, fmt.Errorf("client certificate: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(c.CA) {
		return nil, errors.New("client certificate: its authority's does not parse")
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, RootCAs: pool, ServerName: serverName}, nil
}
