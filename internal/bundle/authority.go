package bundle

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"
)

// authority is the CA of a set as far as it could be made out.
type authority struct {
	finding Finding // about the CA's member; in Kubernetes of generation 2, about where it was found
	certs   []*x509.Certificate
	key     crypto.Signer // nil unless it is kept and fits
	// onlyKey is the key of a CA whose certificate is missing and can be made
	// again from it, because whatever the key signed would verify again.
	onlyKey crypto.Signer
}

// canIssue reports whether a leaf can be issued without touching the CA.
func (a authority) canIssue() bool {
	return a.finding.Class.Good() && a.key != nil
}

// verify says whether one of the CA's certificates issued a chain. Time is not
// looked at: an expired certificate still says who issued it.
func (a authority) verify(chain []*x509.Certificate) (Class, bool, string) {
	if a.onlyKey != nil {
		if issuedBy(chain[0], a.onlyKey) {
			return OK, false, ""
		}
		return Mismatched, false, "the CA's key did not issue it"
	}
	if len(a.certs) == 0 {
		// It may be fine, but nobody can tell and nobody can use it. Mending it is
		// as harmless as mending the CA.
		return Mismatched, a.finding.Automatic, fmt.Sprintf("it cannot be verified: %s is %s", a.finding.Name, a.finding.Class)
	}
	for i, c := range chain {
		for _, ca := range a.certs {
			if bytes.Equal(c.RawIssuer, ca.RawSubject) && c.CheckSignatureFrom(ca) == nil {
				return OK, false, ""
			}
		}
		if i+1 == len(chain) || c.CheckSignatureFrom(chain[i+1]) != nil {
			break
		}
	}
	return Mismatched, false, "the CA did not issue it"
}

func issuedBy(c *x509.Certificate, key crypto.Signer) bool {
	signer := &x509.Certificate{PublicKey: key.Public()}
	return c.Issuer.String() == authoritySubject(Generation2).String() &&
		signer.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

func (in *inspection) findAuthority() authority {
	ms := in.want.members()
	i := slices.IndexFunc(ms, func(m member) bool { return m.role == roleCA })
	if i < 0 {
		return in.embeddedAuthority(ms)
	}
	m := ms[i]
	a := authority{finding: Finding{Member: m.name, Name: m.stored}}
	s, ok := in.snapshot.Secrets[m.stored]
	if !ok {
		a.finding = a.finding.as(Absent, true, "")
		return a
	}
	a.finding.WrongType = m.typ != "" && s.Type != "" && s.Type != m.typ
	if missing := missingKeys(m, s); len(missing) > 0 {
		in.incompleteAuthority(&a, ms, s, missing)
		return a
	}
	var err error
	if a.certs, err = parseCertificates(s.Data[keyCACert]); err != nil {
		a.finding = a.finding.as(Malformed, false, "%s: %v", keyCACert, err)
		return a
	}
	a.finding.describe(a.certs[0])
	if slices.Contains(m.keys, keyCAKey) {
		key, err := parseKey(s.Data[keyCAKey])
		switch {
		case err != nil:
			a.finding = a.finding.as(Malformed, false, "%s: %v", keyCAKey, err)
			return a
		case !fits(a.certs[0], key):
			a.finding = a.finding.as(Mismatched, false, "%s does not fit %s", keyCAKey, keyCACert)
			return a
		}
		a.key = key
	}
	judged := judgeAuthority(a.certs[0], in.now)
	a.finding = a.finding.as(judged.Class, false, "%s", judged.Detail)
	return a
}

// incompleteAuthority decides what is lost when a part of the CA is gone.
func (in *inspection) incompleteAuthority(a *authority, ms []member, s Secret, missing []string) {
	a.finding = a.finding.as(Incomplete, false, "it lacks %s", strings.Join(missing, ", "))
	leaves := in.leaves(ms)
	if certs, err := parseCertificates(s.Data[keyCACert]); err == nil {
		a.certs = certs
		a.finding.describe(certs[0])
	}
	if key, err := parseKey(s.Data[keyCAKey]); err == nil && len(a.certs) == 0 {
		foreign := slices.ContainsFunc(leaves, func(c *x509.Certificate) bool { return !issuedBy(c, key) })
		if !foreign {
			a.onlyKey, a.finding.KeepsKey, a.finding.Automatic = key, true, true
			return
		}
	}
	// A CA that never issued anything that is here was never used.
	if len(leaves) == 0 && keepsCAKey(in.want.Generation, in.want.layout()) {
		a.finding.Automatic = true
	}
}

// leaves are the certificates of the set that a CA must have issued.
func (in *inspection) leaves(ms []member) []*x509.Certificate {
	var found []*x509.Certificate
	for _, m := range ms {
		if m.role != roleServer && m.role != roleClient {
			continue
		}
		if certs, err := parseCertificates(in.snapshot.Secrets[m.stored].Data[keyTLSCert]); err == nil {
			found = append(found, certs[0])
		}
	}
	return found
}

// embeddedAuthority finds the CA of a set that keeps it inside its leaves. That
// of a whole member counts: an incomplete one is issued again whatever it says,
// and a write that was interrupted before it leaves an outdated CA in there.
func (in *inspection) embeddedAuthority(ms []member) authority {
	found := authority{finding: Finding{Name: "the CA", Class: Absent, Automatic: true}}
	for _, m := range ms {
		s := in.snapshot.Secrets[m.stored]
		certs, err := parseCertificates(s.Data[keyCACert])
		if err != nil {
			continue
		}
		a := authority{certs: certs, finding: Finding{Member: m.name, Name: m.stored, Class: OK}}
		if len(missingKeys(m, s)) == 0 {
			return a
		}
		if len(found.certs) == 0 {
			found = a
		}
	}
	return found
}

// judgeAuthority looks at a CA certificate by itself; Class and Detail are set.
func judgeAuthority(c *x509.Certificate, now time.Time) Finding {
	if !c.BasicConstraintsValid || !c.IsCA {
		return Finding{Class: WrongUsage, Detail: "it is not a CA certificate"}
	}
	if c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0 {
		return Finding{Class: WrongUsage, Detail: "its key usage does not allow signing certificates"}
	}
	class, detail := validity(c, now)
	return Finding{Class: class, Detail: detail}
}
