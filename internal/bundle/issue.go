package bundle

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/netip"
	"slices"
	"time"
)

const serialBytes = 16 // RFC 5280 allows 20

// Issue makes the members of a plan. A CA is made only when the plan says so;
// otherwise the one in current, with its key, issues the leaves. rand is read
// for serial numbers and the handshake; private keys come from the system's own
// source.
func Issue(p Plan, current Snapshot, want Requirements, now time.Time, rand io.Reader) ([]Secret, error) {
	if p.Generation != want.Generation || p.Layout != want.layout() {
		return nil, fmt.Errorf("issue: the plan is for generation %d (%s), the gateway needs generation %d (%s)",
			p.Generation, p.Layout, want.Generation, want.layout())
	}
	is := issuer{want: want, now: now, rand: rand}
	var issued []Secret
	for _, m := range want.members() {
		// The CA comes first among those that need it, whatever the order of the set.
		if _, ok := p.step(m.name); ok && m.role != roleHandshake && m.role != roleSandboxKey {
			if err := is.prepareAuthority(p, current); err != nil {
				return nil, fmt.Errorf("issue %s: %w", m.name, err)
			}
			break
		}
	}
	for _, m := range want.members() {
		step, ok := p.step(m.name)
		if !ok {
			continue
		}
		data, err := is.issue(m, step, current.Secrets[m.stored])
		if err != nil {
			return nil, fmt.Errorf("issue %s: %w", m.name, err)
		}
		issued = append(issued, Secret{Name: m.stored, Type: m.typ, Data: data})
	}
	return issued, nil
}

type issuer struct {
	want Requirements
	now  time.Time
	rand io.Reader

	ca       *x509.Certificate
	caKey    crypto.Signer
	caPEM    []byte
	caKeyPEM []byte
}

func (is *issuer) issue(m member, step Step, current Secret) (map[string][]byte, error) {
	switch m.role {
	case roleHandshake:
		b := make([]byte, HandshakeBytes)
		if _, err := io.ReadFull(is.rand, b); err != nil {
			return nil, fmt.Errorf("read random bytes: %w", err)
		}
		return map[string][]byte{keyHandshake: []byte(hex.EncodeToString(b))}, nil
	case roleSandboxKey:
		return is.sandboxKey(step, current)
	case roleCA:
		data := map[string][]byte{keyCACert: is.caPEM}
		if slices.Contains(m.keys, keyCAKey) {
			data[keyCAKey] = is.caKeyPEM
		}
		return data, nil
	default:
		return is.leaf(m)
	}
}

// prepareAuthority makes the CA that this plan's leaves are issued by, or takes
// the one that is there.
func (is *issuer) prepareAuthority(p Plan, current Snapshot) error {
	if is.want.Generation == Generation1 {
		_, client := p.step(ClientTLS)
		if _, ca := p.step(ServerCA); !ca && !client {
			return nil // the server certificate signs itself
		}
		return is.newAuthority(nil)
	}
	if !keepsCAKey(is.want.Generation, is.want.layout()) {
		return is.newAuthority(nil)
	}
	found := (&inspection{snapshot: current, want: is.want, now: is.now}).findAuthority()
	step, replaced := p.step(CA)
	switch {
	case !replaced:
		if !found.canIssue() {
			return fmt.Errorf("the CA cannot issue: %s", found.finding)
		}
		is.ca, is.caKey = found.certs[0], found.key
		return nil
	case step.KeepsKey:
		if found.onlyKey == nil {
			return errors.New("the CA's key is no longer there to be kept")
		}
		return is.newAuthority(found.onlyKey)
	}
	return is.newAuthority(nil)
}

// newAuthority makes a CA certificate, of a key that is kept or of a new one.
func (is *issuer) newAuthority(key crypto.Signer) error {
	if key == nil {
		var err error
		if key, err = ecdsa.GenerateKey(elliptic.P256(), is.rand); err != nil {
			return fmt.Errorf("generate key: %w", err)
		}
	}
	template, err := is.template(is.want.profile(roleCA))
	if err != nil {
		return err
	}
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	if is.ca, is.caPEM, err = is.sign(template, template, key.Public(), key); err != nil {
		return err
	}
	is.caKey = key
	is.caKeyPEM, err = encodeKey(key)
	return err
}

func (is *issuer) template(p Profile) (*x509.Certificate, error) {
	serial := make([]byte, serialBytes)
	if _, err := io.ReadFull(is.rand, serial); err != nil {
		return nil, fmt.Errorf("read random bytes: %w", err)
	}
	serial[0] = serial[0]&0x7f | 0x40 // positive and never zero
	begin := is.now.UTC().Truncate(time.Second).Add(-Backdating)
	return &x509.Certificate{SerialNumber: new(big.Int).SetBytes(serial), Subject: p.Subject,
		NotBefore: begin, NotAfter: begin.Add(p.Life)}, nil
}

// sign returns the certificate parsed and as PEM.
func (is *issuer) sign(template, parent *x509.Certificate, public any, key crypto.Signer) (*x509.Certificate, []byte, error) {
	der, err := x509.CreateCertificate(is.rand, template, parent, public, key)
	if err != nil {
		return nil, nil, fmt.Errorf("create certificate: %w", err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, fmt.Errorf("parse certificate: %w", err)
	}
	return c, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

func (is *issuer) leaf(m member) (map[string][]byte, error) {
	profile := is.want.profile(m.role)
	template, err := is.template(profile)
	if err != nil {
		return nil, err
	}
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{profile.Usage}
	for _, name := range profile.Names {
		if ip, err := netip.ParseAddr(name); err == nil {
			template.IPAddresses = append(template.IPAddresses, ip.AsSlice())
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), is.rand)
	if err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	parent, signer := is.ca, is.caKey
	if profile.SelfSigned {
		parent, signer = template, crypto.Signer(key)
	}
	// A leaf that outlives its CA would be refused while it looks valid.
	if parent.NotAfter.Before(template.NotAfter) {
		template.NotAfter = parent.NotAfter
	}
	_, certificate, err := is.sign(template, parent, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	data := map[string][]byte{keyTLSCert: certificate, keyTLSKey: keyPEM}
	if slices.Contains(m.keys, keyCACert) {
		data[keyCACert] = bytes.Clone(is.caPEM)
	}
	return data, nil
}

func (is *issuer) sandboxKey(step Step, current Secret) (map[string][]byte, error) {
	var key ed25519.PrivateKey
	var err error
	if step.KeepsKey {
		if key, err = parseSigningKey(current.Data[keySigning]); err != nil {
			return nil, err
		}
	} else if _, key, err = ed25519.GenerateKey(is.rand); err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	signing := current.Data[keySigning]
	if !step.KeepsKey {
		if signing, err = encodeKey(key); err != nil {
			return nil, err
		}
	}
	public := key.Public().(ed25519.PublicKey)
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	kid, err := keyID(public)
	if err != nil {
		return nil, err
	}
	return map[string][]byte{keySigning: signing, keyKeyID: []byte(kid),
		keyPublic: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})}, nil
}

func encodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
