package bundle

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"slices"
	"time"
)

const (
	// HandshakeBytes is how many random bytes a handshake has, stored as hex.
	HandshakeBytes = 32
	// Backdating is how long before its issue a certificate begins: a verifier's
	// clock may be behind ours.
	Backdating = 10 * time.Minute

	clientRole = "openshell-user"

	day             = 24 * time.Hour
	authorityLife   = 3650 * day
	leafLife        = 365 * day
	generation1Life = 3650 * day

	maxCommonName = 64 // RFC 5280, ub-common-name
)

// Member is what a set needs of one of its members, for those who issue or show
// it elsewhere.
type Member struct {
	Name   string   // in this package, e.g. ServerTLS or Server
	Stored string   // the name it is stored under
	Type   string   // of the Kubernetes secret; "" in a directory
	Keys   []string // all must be there
}

// Members lists the members of this gateway in the fixed order of the set.
func (r Requirements) Members() []Member {
	var list []Member
	for _, m := range r.members() {
		list = append(list, Member{Name: m.name, Stored: m.stored, Type: m.typ, Keys: slices.Clone(m.keys)})
	}
	return list
}

// Profile is what an issued certificate of a set says, whoever issues it. All
// are ECDSA P-256 with SHA-256.
type Profile struct {
	Subject    pkix.Name
	Life       time.Duration // counted from its beginning; a leaf also ends with its CA
	Authority  bool          // it is the CA
	SelfSigned bool
	Usage      x509.ExtKeyUsage // of a leaf
	Names      []string         // DNS names and addresses; a client has none
}

// Profile says how the certificate of a member is issued. CA stands for the
// authority also where it is no member of its own. A member that holds no
// certificate has the zero Profile.
func (r Requirements) Profile(member string) Profile {
	if member == CA {
		return r.profile(roleCA)
	}
	for _, m := range r.members() {
		if m.name == member {
			return r.profile(m.role)
		}
	}
	return Profile{}
}

func (r Requirements) profile(what role) Profile {
	generation1 := r.Generation == Generation1
	life := leafLife
	if generation1 {
		life = generation1Life
	}
	switch what {
	case roleCA:
		return Profile{Subject: authoritySubject(r.Generation), Life: authorityLife, Authority: true, SelfSigned: true}
	case roleClient:
		subject := pkix.Name{CommonName: "openshell-client"}
		if !generation1 {
			subject.OrganizationalUnit = []string{clientRole}
		}
		return Profile{Subject: subject, Life: life, Usage: x509.ExtKeyUsageClientAuth}
	case roleServer:
		subject := pkix.Name{CommonName: "openshell-server"}
		if generation1 {
			subject.CommonName = r.serverCommonName()
		}
		return Profile{Subject: subject, Life: life, Usage: x509.ExtKeyUsageServerAuth, SelfSigned: generation1,
			Names: r.serverNames()}
	}
	return Profile{}
}

// serverCommonName is the longest name of the service that fits: OpenSSL
// refuses a longer one, and nobody verifies by it.
func (r Requirements) serverCommonName() string {
	name, in := r.service()
	for _, full := range []string{in + ".svc.cluster.local", in + ".svc", in} {
		if len(full) <= maxCommonName {
			return full
		}
	}
	return name
}

func authoritySubject(g Generation) pkix.Name {
	if g == Generation1 {
		return pkix.Name{CommonName: "openshell-client-ca"}
	}
	return pkix.Name{Organization: []string{"openshell"}, CommonName: "openshell-ca"}
}
