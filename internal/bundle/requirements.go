package bundle

import (
	"cmp"
	"slices"
	"strings"
)

// Generation says which members a gateway mounts.
type Generation int

// The generations of bootstrap secrets.
const (
	Generation1 Generation = 1 // OpenShell up to 0.0.37: four Kubernetes secrets
	Generation2 Generation = 2 // one CA, server, client, sandbox token key
)

// Layout says in which form a set of generation 2 is kept. Generation 1 only
// exists as Kubernetes secrets.
type Layout string

// The layouts. The zero value of Requirements.Layout is the directory.
const (
	// Directory keeps the CA with its private key, so that a leaf can be issued
	// again without touching the CA.
	Directory Layout = "directory"
	// Kubernetes keeps the CA's certificate inside the server's and the client's
	// secret and its private key nowhere: server and client are issued together.
	Kubernetes Layout = "kubernetes"
)

// Requirements is what a gateway needs of its set.
type Requirements struct {
	Generation Generation
	// Layout is Directory when empty; generation 1 is always Kubernetes.
	Layout Layout
	// Hosts are further names and addresses that the server certificate must cover.
	Hosts []string
	// Names maps a member to the name it is stored under where a gateway's pod
	// template says otherwise; nil means the generation's own names.
	Names map[string]string
	// Without lists members that this gateway does not mount: the handshake or the
	// token key. Certificates and their CA only make sense together.
	Without []string
	// Further names secrets that are no members and are loaded along: those that a
	// rotation keeps between its two steps.
	Further []string
	// Service and Namespace are what the gateway is reached under in its cluster;
	// "openshell" when empty.
	Service, Namespace string
}

// Members of generation 2.
const (
	CA     = "ca"
	Server = "server"
	Client = "client"
	JWT    = "jwt"
)

// Members of generation 1; also what generation 2 calls server and client in
// Kubernetes.
const (
	ServerTLS    = "openshell-server-tls"
	ServerCA     = "openshell-server-client-ca"
	ClientTLS    = "openshell-client-tls"
	SSHHandshake = "openshell-ssh-handshake"
	jwtKeys      = "openshell-jwt-keys" // of a Helm release whose full name is "openshell"
)

// Keys inside a secret, and types of Kubernetes secrets.
const (
	keyTLSCert   = "tls.crt"
	keyTLSKey    = "tls.key"
	keyCACert    = "ca.crt"
	keyCAKey     = "ca.key"
	keySigning   = "signing.pem"
	keyPublic    = "public.pem"
	keyKeyID     = "kid"
	keyHandshake = "secret"

	typeTLS    = "kubernetes.io/tls"
	typeOpaque = "Opaque"
)

// role is what a member is for, whatever it is called.
type role int

const (
	roleServer role = iota
	roleCA
	roleClient
	roleHandshake
	roleSandboxKey
)

// member is one row of the tables of the bootstrap secret specification.
type member struct {
	name   string // the member's name in this package
	stored string // the name it is stored under by default
	role   role
	typ    string
	keys   []string // all must be there; the one that makes the set valid comes last
}

// members lists the members of a set in the fixed order in which they are
// reported and issued.
func members(g Generation, l Layout) []member {
	switch {
	case g == Generation1:
		return []member{
			{ServerTLS, ServerTLS, roleServer, typeTLS, []string{keyTLSKey, keyTLSCert}},
			{ServerCA, ServerCA, roleCA, typeOpaque, []string{keyCACert}},
			{ClientTLS, ClientTLS, roleClient, typeOpaque, []string{keyCACert, keyTLSKey, keyTLSCert}},
			{SSHHandshake, SSHHandshake, roleHandshake, typeOpaque, []string{keyHandshake}},
		}
	case g == Generation2 && l == Kubernetes:
		return []member{
			{Server, ServerTLS, roleServer, typeTLS, []string{keyCACert, keyTLSKey, keyTLSCert}},
			{Client, ClientTLS, roleClient, typeTLS, []string{keyCACert, keyTLSKey, keyTLSCert}},
			{JWT, jwtKeys, roleSandboxKey, typeOpaque, []string{keySigning, keyPublic, keyKeyID}},
		}
	case g == Generation2:
		return []member{
			{CA, CA, roleCA, "", []string{keyCAKey, keyCACert}},
			{Server, Server, roleServer, "", []string{keyTLSKey, keyTLSCert}},
			{Client, Client, roleClient, "", []string{keyTLSKey, keyTLSCert}},
			{JWT, JWT, roleSandboxKey, "", []string{keySigning, keyPublic, keyKeyID}},
		}
	}
	return nil
}

func (r Requirements) layout() Layout {
	if r.Generation == Generation1 {
		return Kubernetes
	}
	if r.Layout == "" {
		return Directory
	}
	return r.Layout
}

// members are the rows of this gateway, with its own stored names.
func (r Requirements) members() []member {
	ms := slices.DeleteFunc(members(r.Generation, r.layout()), func(m member) bool {
		return (m.role == roleHandshake || m.role == roleSandboxKey) && slices.Contains(r.Without, m.name)
	})
	for i := range ms {
		if n := strings.TrimSpace(r.Names[ms[i].name]); n != "" {
			ms[i].stored = n
		}
	}
	return ms
}

// keepsCAKey reports whether the set holds the CA's private key.
func keepsCAKey(g Generation, l Layout) bool { return g == Generation2 && l == Directory }

// Stored are the names that the set's members are stored under, in the fixed
// order of the set, and then the further ones.
func (r Requirements) Stored() []string {
	var names []string
	for _, m := range r.members() {
		names = append(names, m.stored)
	}
	return append(names, r.Further...)
}

const defaultService = "openshell" // and its namespace

// service is the name of the gateway's service, alone and in its namespace.
func (r Requirements) service() (name, inNamespace string) {
	name = cmp.Or(r.Service, defaultService)
	return name, name + "." + cmp.Or(r.Namespace, defaultService)
}

// serverNames are the names that an issued server certificate gets.
func (r Requirements) serverNames() []string {
	service, in := r.service()
	names := []string{service, in + ".svc", in + ".svc.cluster.local", "localhost",
		"openshell.localhost", "*.openshell.localhost", "host.docker.internal", "host.containers.internal", "127.0.0.1", "::1"}
	if r.Generation == Generation1 {
		names = []string{service, in, in + ".svc", in + ".svc.cluster.local", "localhost", "127.0.0.1"}
	}
	return appendNames(names, r.Hosts)
}

// neededNames are the names without which somebody who must reach this gateway
// cannot: fewer than serverNames, because a certificate that somebody else
// issued need not cover container engines that are not there.
func (r Requirements) neededNames() []string {
	names := []string{"localhost", "127.0.0.1"}
	switch {
	case r.Generation == Generation1:
		return r.serverNames()
	case r.layout() == Kubernetes:
		_, in := r.service()
		names = []string{in + ".svc.cluster.local", "localhost", "127.0.0.1"}
	}
	return appendNames(names, r.Hosts)
}

func appendNames(names, more []string) []string {
	for _, n := range more {
		n = strings.TrimSpace(n)
		if n != "" && !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return names
}
