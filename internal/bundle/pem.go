package bundle

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
)

// maxPEM bounds what is parsed: the largest value of a set is a certificate
// chain of a few kilobytes.
const maxPEM = 1 << 20

// blocks returns the PEM blocks of one type, in order. Blocks of other types are
// passed over, as crypto/tls does.
func blocks(text []byte, types ...string) ([][]byte, error) {
	if len(text) > maxPEM {
		return nil, fmt.Errorf("is larger than %d bytes", maxPEM)
	}
	var found [][]byte
	for rest := text; ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		for _, t := range types {
			if b.Type == t {
				found = append(found, b.Bytes)
			}
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("holds no PEM block %q", types[0])
	}
	return found, nil
}

// parseCertificates returns at least one certificate.
func parseCertificates(text []byte) ([]*x509.Certificate, error) {
	found, err := blocks(text, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	certs := make([]*x509.Certificate, 0, len(found))
	for _, der := range found {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate does not parse: %w", err)
		}
		certs = append(certs, c)
	}
	return certs, nil
}

// parseKey reads a private key in any of the three encodings that OpenSSL
// writes. Its errors never hold a byte of the key.
func parseKey(text []byte) (crypto.Signer, error) {
	found, err := blocks(text, "PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	der := found[0]
	if k, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		if s, ok := k.(crypto.Signer); ok {
			return s, nil
		}
		return nil, fmt.Errorf("private key of kind %T cannot sign", k)
	}
	if k, err := x509.ParseECPrivateKey(der); err == nil {
		return k, nil
	}
	if k, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return k, nil
	}
	return nil, errors.New("private key does not parse")
}

// parseSigningKey reads an Ed25519 private key in PKCS #8.
func parseSigningKey(text []byte) (ed25519.PrivateKey, error) {
	found, err := blocks(text, "PRIVATE KEY")
	if err != nil {
		return nil, fmt.Errorf("%s %w", keySigning, err)
	}
	k, err := x509.ParsePKCS8PrivateKey(found[0])
	if err != nil {
		return nil, fmt.Errorf("%s does not parse", keySigning)
	}
	key, ok := k.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s is not an Ed25519 key", keySigning)
	}
	return key, nil
}

// parsePublicKey reads an Ed25519 public key in SubjectPublicKeyInfo.
func parsePublicKey(text []byte) (ed25519.PublicKey, error) {
	found, err := blocks(text, "PUBLIC KEY")
	if err != nil {
		return nil, fmt.Errorf("%s %w", keyPublic, err)
	}
	k, err := x509.ParsePKIXPublicKey(found[0])
	if err != nil {
		return nil, fmt.Errorf("%s does not parse", keyPublic)
	}
	key, ok := k.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%s is not an Ed25519 key", keyPublic)
	}
	return key, nil
}

// keyID is hex of the first 16 bytes of SHA-256 over the public key's DER.
func keyID(public ed25519.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", fmt.Errorf("encode public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:16]), nil
}

// fits reports whether a private key belongs to a certificate.
func fits(c *x509.Certificate, key crypto.Signer) bool {
	switch public := c.PublicKey.(type) {
	case *ecdsa.PublicKey:
		return public.Equal(key.Public())
	case *rsa.PublicKey:
		return public.Equal(key.Public())
	case ed25519.PublicKey:
		return public.Equal(key.Public())
	}
	return false
}

// fingerprint is the SHA-256 of a certificate, in hex, as OpenSSL shows it
// without colons.
func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// missingKeys lists the keys of a member that are not there or empty.
func missingKeys(m member, s Secret) []string {
	var missing []string
	for _, k := range m.keys {
		if len(bytes.TrimSpace(s.Data[k])) == 0 {
			missing = append(missing, k)
		}
	}
	return missing
}
