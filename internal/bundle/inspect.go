package bundle

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"creel/internal/health"
)

// Inspect classifies every member of a set as it is needed, at a moment. It is
// pure and never fails: whatever cannot be read is a class. What could not be
// loaded has no Snapshot and therefore no Report.
func Inspect(s Snapshot, want Requirements, now time.Time) Report {
	in := inspection{snapshot: s, want: want, now: now}
	in.authority = in.findAuthority()
	r := Report{Generation: want.Generation, Layout: want.layout(), CAKey: in.authority.canIssue(),
		Findings: []Finding{}, Caveats: append([]health.Caveat{}, s.Caveats...)}
	for _, m := range want.members() {
		f := in.inspect(m)
		if f.Class == Expiring {
			r.Caveats = append(r.Caveats, health.Caveat{Advisory: Expiring.Advisory(), Message: f.String()})
		}
		r.Findings = append(r.Findings, f)
	}
	return r
}

type inspection struct {
	snapshot  Snapshot
	want      Requirements
	now       time.Time
	authority authority
}

func (in *inspection) inspect(m member) Finding {
	if m.role == roleCA {
		return in.authority.finding
	}
	f := Finding{Member: m.name, Name: m.stored}
	secret, ok := in.snapshot.Secrets[m.stored]
	if !ok {
		f.Class, f.Automatic = Absent, true
		return f
	}
	f.WrongType = m.typ != "" && secret.Type != "" && secret.Type != m.typ
	switch m.role {
	case roleHandshake:
		return in.handshake(f, m, secret)
	case roleSandboxKey:
		return in.sandboxKey(f, m, secret)
	default:
		return in.leaf(f, m, secret)
	}
}

func (in *inspection) handshake(f Finding, m member, s Secret) Finding {
	if len(missingKeys(m, s)) > 0 {
		return f.as(Incomplete, true, "it lacks %s", keyHandshake)
	}
	value := bytes.TrimSpace(s.Data[keyHandshake])
	if raw, err := hex.DecodeString(string(value)); err != nil || len(raw) != HandshakeBytes {
		return f.as(Mismatched, false, "it is not %d hexadecimal characters", 2*HandshakeBytes)
	}
	return f.as(OK, false, "")
}

func (in *inspection) sandboxKey(f Finding, m member, s Secret) Finding {
	missing := missingKeys(m, s)
	if slices.Contains(missing, keySigning) {
		return f.as(Incomplete, true, "it lacks %s", strings.Join(missing, ", "))
	}
	key, err := parseSigningKey(s.Data[keySigning])
	if err != nil {
		return f.as(Malformed, false, "%v", err)
	}
	public := key.Public().(ed25519.PublicKey)
	kid, err := keyID(public)
	if err != nil {
		return f.as(Malformed, false, "%v", err)
	}
	f.Fingerprint = kid
	// Public key and key id follow from the signing key, so whatever ails them is
	// mended without a new key.
	f.KeepsKey = true
	if len(missing) > 0 {
		return f.as(Incomplete, true, "it lacks %s", strings.Join(missing, ", "))
	}
	stored, err := parsePublicKey(s.Data[keyPublic])
	switch {
	case err != nil:
		return f.as(Malformed, false, "%v", err)
	case !stored.Equal(public):
		return f.as(Mismatched, false, "%s does not fit %s", keyPublic, keySigning)
	case strings.TrimSpace(string(s.Data[keyKeyID])) != kid:
		return f.as(Mismatched, false, "%s does not fit %s", keyKeyID, keySigning)
	}
	f.KeepsKey = false
	return f.as(OK, false, "")
}

func (in *inspection) leaf(f Finding, m member, s Secret) Finding {
	if missing := missingKeys(m, s); len(missing) > 0 {
		return f.as(Incomplete, true, "it lacks %s", strings.Join(missing, ", "))
	}
	chain, err := parseCertificates(s.Data[keyTLSCert])
	if err != nil {
		return f.as(Malformed, false, "%s: %v", keyTLSCert, err)
	}
	leaf := chain[0]
	f.describe(leaf)
	key, err := parseKey(s.Data[keyTLSKey])
	if err != nil {
		return f.as(Malformed, false, "%s: %v", keyTLSKey, err)
	}
	if !fits(leaf, key) {
		// The private key of that certificate is gone: nobody can be using the
		// pair, which an interrupted write leaves like this.
		return f.as(Mismatched, in.authority.canIssue(), "%s does not fit %s", keyTLSKey, keyTLSCert)
	}
	if class, automatic, detail := in.chain(m, s, chain); class != OK {
		return f.as(class, automatic, "%s", detail)
	}
	if detail := usageFault(leaf, m.role); detail != "" {
		return f.as(WrongUsage, false, "%s", detail)
	}
	if detail := in.nameFault(leaf, m.role); detail != "" {
		return f.as(WrongName, false, "%s", detail)
	}
	class, detail := validity(leaf, in.now)
	return f.as(class, !class.Good() && in.authority.canIssue(), "%s", detail)
}

// chain checks who issued a leaf.
func (in *inspection) chain(m member, s Secret, chain []*x509.Certificate) (Class, bool, string) {
	leaf := chain[0]
	if in.want.Generation == Generation1 && m.role == roleServer {
		// Self-signed by design; one that a real CA issued is fine, too, and that CA
		// is not part of the set.
		if bytes.Equal(leaf.RawIssuer, leaf.RawSubject) {
			if err := leaf.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature); err != nil {
				return Mismatched, false, fmt.Sprintf("its own signature does not verify: %v", err)
			}
		}
		return OK, false, ""
	}
	if slices.Contains(m.keys, keyCACert) {
		own, err := parseCertificates(s.Data[keyCACert])
		if err != nil {
			return Malformed, false, fmt.Sprintf("%s: %v", keyCACert, err)
		}
		if f := judgeAuthority(own[0], in.now); !f.Class.Good() {
			return f.Class, false, "its CA: " + f.Detail
		}
		if !in.trusts(m, own) {
			return Mismatched, false, fmt.Sprintf("its %s is not the CA of %s", keyCACert, in.authority.finding.Name)
		}
	}
	return in.authority.verify(chain)
}

// trusts reports whether the CAs beside a leaf are those that its owner meets. A
// bundle may hold others too, as it does while a set is rotated.
func (in *inspection) trusts(m member, own []*x509.Certificate) bool {
	if len(in.authority.certs) == 0 {
		return true // there is nothing to compare with
	}
	server, _ := in.want.leafMembers()
	met := in.snapshot.Secrets[server.stored]
	// An incomplete server is issued again: what is left of it meets nobody.
	if m.role == roleClient && in.want.Generation == Generation2 && len(missingKeys(server, met)) == 0 {
		if leaf, err := parseCertificates(met.Data[keyTLSCert]); err == nil {
			return slices.ContainsFunc(own, func(ca *x509.Certificate) bool { return leaf[0].CheckSignatureFrom(ca) == nil })
		}
	}
	return slices.ContainsFunc(own, in.authority.certs[0].Equal)
}

// usageFault says why a certificate may not be used in a role.
func usageFault(c *x509.Certificate, r role) string {
	usage, name := x509.ExtKeyUsageServerAuth, "serverAuth"
	if r == roleClient {
		usage, name = x509.ExtKeyUsageClientAuth, "clientAuth"
	}
	if c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return "its key usage does not allow digital signatures"
	}
	// RFC 5280, 4.2.1.12: a certificate without the extension is not restricted.
	if len(c.ExtKeyUsage) == 0 && len(c.UnknownExtKeyUsage) == 0 {
		return ""
	}
	if !slices.Contains(c.ExtKeyUsage, usage) && !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny) {
		return "its extended key usage lacks " + name
	}
	return ""
}

// nameFault says which name that is needed a certificate does not give.
func (in *inspection) nameFault(c *x509.Certificate, r role) string {
	if r == roleClient {
		switch {
		case c.Subject.CommonName == "":
			return "its subject has no common name, which is the user's"
		case in.want.Generation == Generation2 && !slices.Contains(c.Subject.OrganizationalUnit, clientRole):
			return fmt.Sprintf("its subject has no unit %q, which is the user's role", clientRole)
		}
		return ""
	}
	var lacking []string
	for _, name := range in.want.neededNames() {
		if !covers(c, name) {
			lacking = append(lacking, name)
		}
	}
	if len(lacking) == 0 {
		return ""
	}
	return "it is not valid for " + strings.Join(lacking, ", ")
}

func covers(c *x509.Certificate, name string) bool {
	if strings.HasPrefix(name, "*.") { // a wildcard is covered by itself only
		return slices.ContainsFunc(c.DNSNames, func(n string) bool { return strings.EqualFold(n, name) })
	}
	return c.VerifyHostname(name) == nil
}

// validity judges a certificate's time. It counts in seconds, because the lives
// of OpenShell's own certificates (1975 to 4096) overflow a time.Duration.
func validity(c *x509.Certificate, now time.Time) (Class, string) {
	if c.NotAfter.Before(c.NotBefore) {
		return Malformed, "its validity ends before it begins"
	}
	switch left, life := c.NotAfter.Unix()-now.Unix(), c.NotAfter.Unix()-c.NotBefore.Unix(); {
	case now.After(c.NotAfter):
		return Expired, "it ended " + c.NotAfter.UTC().Format(time.RFC3339)
	case now.Add(Skew).Before(c.NotBefore):
		return NotYetValid, "it begins " + c.NotBefore.UTC().Format(time.RFC3339)
	case left*3 < life:
		return Expiring, "it ends " + c.NotAfter.UTC().Format(time.RFC3339)
	}
	return OK, ""
}

func (f *Finding) describe(c *x509.Certificate) {
	f.Subject = c.Subject.String()
	f.Names = slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		f.Names = append(f.Names, ip.String())
	}
	f.NotBefore, f.NotAfter, f.Fingerprint = c.NotBefore, c.NotAfter, fingerprint(c)
}

func (f Finding) as(c Class, automatic bool, format string, args ...any) Finding {
	f.Class, f.Automatic, f.Detail = c, automatic, fmt.Sprintf(format, args...)
	return f
}
