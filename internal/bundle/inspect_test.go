package bundle

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"creel/internal/health"
)

func TestFreshSetIsGood(t *testing.T) {
	for name, want := range everyKind() {
		t.Run(name, func(t *testing.T) {
			s := fresh(t, want, moment())
			r := Inspect(s, want, moment())
			if r.Verdict() != health.OK || r.Worst().Class != OK || len(r.Bad()) != 0 || len(r.Caveats) != 0 {
				t.Errorf("report %s: %+v", r, r)
			}
			if p := MakePlan(r); p.NeedsRepair || len(p.Steps) != 0 || len(p.Missing) != 0 {
				t.Errorf("plan %+v", p)
			}
		})
	}
}

func TestNothingThere(t *testing.T) {
	for name, want := range everyKind() {
		t.Run(name, func(t *testing.T) {
			r := Inspect(Snapshot{}, want, moment())
			if r.Verdict() != health.Failed || !r.Absent() || r.Worst().Class != Absent {
				t.Errorf("report %+v", r)
			}
			p := MakePlan(r)
			if len(p.Consent()) != 0 || len(p.Missing) != len(r.Findings) {
				t.Errorf("plan %+v", p)
			}
			for _, step := range p.Steps {
				if len(step.Disturbs) != 0 {
					t.Errorf("creating %s disturbs %q", step.Name, step.Disturbs)
				}
			}
		})
	}
	if r := Inspect(Snapshot{}, Requirements{Generation: 9}, moment()); r.Verdict() != health.Unknown || r.Absent() {
		t.Errorf("an unknown generation: %+v", r)
	}
}

// damage is one way to spoil a member, and what becomes of it.
type damage struct {
	name      string
	want      Requirements
	member    string
	spoil     func(t *testing.T, s Snapshot)
	class     Class
	automatic bool
	detail    string
}

func damages() []damage {
	remove := func(name string) func(*testing.T, Snapshot) {
		return func(_ *testing.T, s Snapshot) { delete(s.Secrets, name) }
	}
	set := func(name, key, value string) func(*testing.T, Snapshot) {
		return func(_ *testing.T, s Snapshot) { s.Secrets[name].Data[key] = []byte(value) }
	}
	drop := func(name, key string) func(*testing.T, Snapshot) {
		return func(_ *testing.T, s Snapshot) { delete(s.Secrets[name].Data, key) }
	}
	// reissue replaces a leaf by one of the set's own CA.
	reissue := func(name string, options ...certOption) func(*testing.T, Snapshot) {
		return func(t *testing.T, s Snapshot) {
			a := storedAuthority(t, s)
			c, k := a.leaf(t, options...)
			s.Secrets[name].Data[keyTLSCert], s.Secrets[name].Data[keyTLSKey] = c, k
		}
	}
	// own replaces server and CA of generation 1 or of Kubernetes, whose CA key is gone.
	own := func(name string, caOptions []certOption, options ...certOption) func(*testing.T, Snapshot) {
		return func(t *testing.T, s Snapshot) {
			a := newAuthorityFixture(t, caOptions...)
			for stored, secret := range s.Secrets {
				if _, ok := secret.Data[keyCACert]; ok {
					secret.Data[keyCACert] = a.pem
				}
				if _, ok := secret.Data[keyTLSCert]; ok {
					secret.Data[keyTLSCert], secret.Data[keyTLSKey] = a.leaf(t)
				}
				if stored == name {
					secret.Data[keyTLSCert], secret.Data[keyTLSKey] = a.leaf(t, options...)
				}
			}
		}
	}
	usage := func(u ...x509.ExtKeyUsage) certOption { return func(c *x509.Certificate) { c.ExtKeyUsage = u } }
	names := func(n ...string) certOption { return func(c *x509.Certificate) { c.DNSNames = n } }
	subject := func(n pkix.Name) certOption { return func(c *x509.Certificate) { c.Subject = n } }
	keyUsage := func(u x509.KeyUsage) certOption { return func(c *x509.Certificate) { c.KeyUsage = u } }
	newCA := func(options ...certOption) func(*testing.T, Snapshot) {
		return func(t *testing.T, s Snapshot) {
			a := newAuthorityFixture(t, options...)
			s.Secrets[CA].Data[keyCACert], s.Secrets[CA].Data[keyCAKey] = a.pem, keyPEM(t, a.key)
			for _, leaf := range []string{Server, Client} {
				s.Secrets[leaf].Data[keyTLSCert], s.Secrets[leaf].Data[keyTLSKey] = a.leaf(t)
			}
		}
	}
	const year = 365 * 24 * time.Hour
	d := directory()
	hosts := directory()
	hosts.Hosts = []string{"gw.example.com"}
	return []damage{
		{"absent", d, Server, remove(Server), Absent, true, ""},
		{"certificate missing", d, Server, drop(Server, keyTLSCert), Incomplete, true, "lacks tls.crt"},
		{"key empty", d, Client, set(Client, keyTLSKey, " \n"), Incomplete, true, "lacks tls.key"},
		{"certificate garbled", d, Server, set(Server, keyTLSCert, "garbage"), Malformed, false, "tls.crt: holds no PEM block"},
		{"certificate of nothing", d, Server, set(Server, keyTLSCert, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), Malformed, false, "does not parse"},
		{"key garbled", d, Server, set(Server, keyTLSKey, "garbage"), Malformed, false, "tls.key: holds no PEM block"},
		{"key of nothing", d, Client, set(Client, keyTLSKey, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), Malformed, false, "private key does not parse"},
		{"too large", d, Server, set(Server, keyTLSCert, strings.Repeat("x", maxPEM+1)), Malformed, false, "larger than"},
		{"half of another pair", d, Server, func(t *testing.T, s Snapshot) { s.Secrets[Server].Data[keyTLSKey] = keyPEM(t, newKey(t)) }, Mismatched, true, "tls.key does not fit tls.crt"},
		{"of another authority", d, Client, func(t *testing.T, s Snapshot) {
			c, k := newAuthorityFixture(t).leaf(t)
			s.Secrets[Client].Data[keyTLSCert], s.Secrets[Client].Data[keyTLSKey] = c, k
		}, Mismatched, false, "did not issue it"},
		{"server that may not serve", d, Server, reissue(Server, usage(x509.ExtKeyUsageClientAuth)), WrongUsage, false, "lacks serverAuth"},
		{"client that may only serve", d, Client, reissue(Client, usage(x509.ExtKeyUsageServerAuth)), WrongUsage, false, "lacks clientAuth"},
		{"may not sign", d, Server, reissue(Server, keyUsage(x509.KeyUsageKeyEncipherment)), WrongUsage, false, "digital signatures"},
		{"other name", d, Server, reissue(Server, names("other")), WrongName, false, "not valid for localhost"},
		{"no address", d, Server, reissue(Server, func(c *x509.Certificate) { c.IPAddresses = nil }), WrongName, false, "127.0.0.1"},
		{"host that is needed", hosts, Server, reissue(Server), WrongName, false, "gw.example.com"},
		{"client without a role", d, Client, reissue(Client, subject(pkix.Name{CommonName: "me"})), WrongName, false, "openshell-user"},
		{"client without a name", d, Client, reissue(Client, subject(pkix.Name{OrganizationalUnit: []string{clientRole}})), WrongName, false, "common name"},
		{"just expired", d, Server, reissue(Server, validFor(-year, -time.Second)), Expired, true, "ended 2031-05-06T07:08:08Z"},
		{"begins in six minutes", d, Client, reissue(Client, validFor(6*time.Minute, year)), NotYetValid, true, "begins 2031"},
		{"begins in four minutes", d, Client, reissue(Client, validFor(4*time.Minute, year)), OK, false, ""},
		{"less than a third left", d, Client, reissue(Client, validFor(-201*time.Hour, 99*time.Hour)), Expiring, false, "ends"},
		{"more than a third left", d, Client, reissue(Client, validFor(-199*time.Hour, 101*time.Hour)), OK, false, ""},
		{"a life of two thousand years", d, Client, func(t *testing.T, s Snapshot) {
			reissue(Client, func(c *x509.Certificate) {
				c.NotBefore, c.NotAfter = time.Date(1975, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(4096, 1, 1, 0, 0, 0, 0, time.UTC)
			})(t, s)
		}, OK, false, ""},
		{"no usage extension", d, Server, reissue(Server, usage()), OK, false, ""},
		{"RSA in PKCS #1", d, Client, func(t *testing.T, s Snapshot) {
			c, k := storedAuthority(t, s).rsaLeaf(t)
			s.Secrets[Client].Data[keyTLSCert], s.Secrets[Client].Data[keyTLSKey] = c, k
		}, OK, false, ""},
		{"leaf without its CA", d, Server, remove(CA), Mismatched, true, "cannot be verified: ca is absent"},

		{"CA absent", d, CA, remove(CA), Absent, true, ""},
		{"CA key missing", d, CA, drop(CA, keyCAKey), Incomplete, false, "lacks ca.key"},
		{"CA certificate missing", d, CA, drop(CA, keyCACert), Incomplete, true, "lacks ca.crt"},
		{"CA certificate missing, foreign leaf", d, CA, func(t *testing.T, s Snapshot) {
			drop(CA, keyCACert)(t, s)
			c, k := newAuthorityFixture(t).leaf(t)
			s.Secrets[Client].Data[keyTLSCert], s.Secrets[Client].Data[keyTLSKey] = c, k
		}, Incomplete, false, "lacks ca.crt"},
		{"CA key missing, nothing issued", d, CA, func(t *testing.T, s Snapshot) {
			drop(CA, keyCAKey)(t, s)
			remove(Server)(t, s)
			remove(Client)(t, s)
		}, Incomplete, true, "lacks ca.key"},
		{"CA garbled", d, CA, set(CA, keyCACert, "garbage"), Malformed, false, "ca.crt"},
		{"CA key garbled", d, CA, set(CA, keyCAKey, "garbage"), Malformed, false, "ca.key"},
		{"CA key of another", d, CA, func(t *testing.T, s Snapshot) { s.Secrets[CA].Data[keyCAKey] = keyPEM(t, newKey(t)) }, Mismatched, false, "ca.key does not fit ca.crt"},
		{"CA is none", d, CA, newCAButLeaf(), WrongUsage, false, "not a CA"},
		{"CA may not issue", d, CA, newCAUnchecked(keyUsage(x509.KeyUsageCRLSign)), WrongUsage, false, "signing certificates"},
		{"CA expired", d, CA, newCA(validFor(-2*year, -time.Hour)), Expired, false, "ended"},
		{"CA not yet valid", d, CA, newCA(validFor(time.Hour, year)), NotYetValid, false, "begins"},
		{"CA expiring", d, CA, newCA(validFor(-9*year, year)), Expiring, false, "ends"},
		{"leaf expired with its CA", d, Server, func(t *testing.T, s Snapshot) {
			newCA(validFor(-2*year, -time.Hour))(t, s)
			reissue(Server, validFor(-2*year, -2*time.Hour))(t, s)
		}, Expired, false, "ended"},
		{"leaf expired, CA without its key", d, Server, func(t *testing.T, s Snapshot) {
			reissue(Server, validFor(-year, -time.Hour))(t, s)
			drop(CA, keyCAKey)(t, s)
		}, Expired, false, "ended"},

		{"token key absent", d, JWT, remove(JWT), Absent, true, ""},
		{"signing key missing", d, JWT, drop(JWT, keySigning), Incomplete, true, "lacks signing.pem"},
		{"public key missing", d, JWT, drop(JWT, keyPublic), Incomplete, true, "lacks public.pem"},
		{"key id missing", d, JWT, drop(JWT, keyKeyID), Incomplete, true, "lacks kid"},
		{"signing key garbled", d, JWT, set(JWT, keySigning, "x"), Malformed, false, "signing.pem"},
		{"signing key garbled and key id missing", d, JWT, func(t *testing.T, s Snapshot) {
			set(JWT, keySigning, "x")(t, s)
			drop(JWT, keyKeyID)(t, s)
		}, Malformed, false, "signing.pem"},
		{"signing key of another kind", d, JWT, func(t *testing.T, s Snapshot) { s.Secrets[JWT].Data[keySigning] = keyPEM(t, newKey(t)) }, Malformed, false, "not an Ed25519 key"},
		{"public key garbled", d, JWT, set(JWT, keyPublic, "x"), Malformed, false, "public.pem"},
		{"public key of another", d, JWT, func(t *testing.T, s Snapshot) {
			public, _, err := ed25519.GenerateKey(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			der, err := x509.MarshalPKIXPublicKey(public)
			if err != nil {
				t.Fatal(err)
			}
			s.Secrets[JWT].Data[keyPublic] = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
		}, Mismatched, false, "public.pem does not fit"},
		{"key id of another", d, JWT, set(JWT, keyKeyID, "0123456789abcdef0123456789abcdef"), Mismatched, false, "kid does not fit"},

		{"handshake absent", generation1(), SSHHandshake, remove(SSHHandshake), Absent, true, ""},
		{"handshake empty", generation1(), SSHHandshake, set(SSHHandshake, keyHandshake, ""), Incomplete, true, "lacks secret"},
		{"handshake short", generation1(), SSHHandshake, set(SSHHandshake, keyHandshake, "abcd"), Mismatched, false, "64 hexadecimal"},
		{"handshake no hex", generation1(), SSHHandshake, set(SSHHandshake, keyHandshake, strings.Repeat("g", 64)), Mismatched, false, "64 hexadecimal"},
		{"handshake with a line end", generation1(), SSHHandshake, set(SSHHandshake, keyHandshake, strings.Repeat("aB", 32)+"\n"), OK, false, ""},
		{"server absent", generation1(), ServerTLS, remove(ServerTLS), Absent, true, ""},
		{"server expired, signed by itself", generation1(), ServerTLS, func(t *testing.T, s Snapshot) {
			selfSigned(t, s, validFor(-year, -time.Hour))
		}, Expired, false, "ended"},
		{"server without a service name", generation1(), ServerTLS, func(t *testing.T, s Snapshot) {
			selfSigned(t, s, names("openshell", "localhost"))
		}, WrongName, false, "openshell.openshell.svc.cluster.local"},
		{"server signed by itself, tampered", generation1(), ServerTLS, func(t *testing.T, s Snapshot) {
			c := s.Secrets[ServerTLS].Data[keyTLSCert]
			b, _ := pem.Decode(c)
			b.Bytes[len(b.Bytes)-1] ^= 1
			s.Secrets[ServerTLS].Data[keyTLSCert] = pem.EncodeToMemory(b)
		}, Mismatched, false, "its own signature"},
		{"server half of another pair", generation1(), ServerTLS, func(t *testing.T, s Snapshot) {
			s.Secrets[ServerTLS].Data[keyTLSKey] = keyPEM(t, newKey(t))
		}, Mismatched, false, "tls.key does not fit"},
		{"client CA absent", generation1(), ServerCA, remove(ServerCA), Absent, true, ""},
		{"client CA empty", generation1(), ServerCA, set(ServerCA, keyCACert, ""), Incomplete, false, "lacks ca.crt"},
		{"client CA garbled", generation1(), ServerCA, set(ServerCA, keyCACert, "x"), Malformed, false, "ca.crt"},
		{"client of another CA", generation1(), ClientTLS, func(t *testing.T, s Snapshot) {
			s.Secrets[ServerCA].Data[keyCACert] = newAuthorityFixture(t).pem
		}, Mismatched, false, "is not the CA of openshell-server-client-ca"},
		{"client with another CA's certificate", generation1(), ClientTLS, func(t *testing.T, s Snapshot) {
			s.Secrets[ClientTLS].Data[keyCACert] = newAuthorityFixture(t).pem
		}, Mismatched, false, "is not the CA of"},
		{"client without its CA", generation1(), ClientTLS, remove(ServerCA), Mismatched, true, "cannot be verified"},
		{"client expired", generation1(), ClientTLS, own(ClientTLS, nil, validFor(-year, -time.Hour)), Expired, false, "ended"},
		{"client needs no role here", generation1(), ClientTLS, own(ClientTLS, nil, subject(pkix.Name{CommonName: "x"})), OK, false, ""},

		{"server in Kubernetes absent", kubernetes(), Server, remove(ServerTLS), Absent, true, ""},
		{"server in Kubernetes lacks the CA", kubernetes(), Server, drop(ServerTLS, keyCACert), Incomplete, true, "lacks ca.crt"},
		{"CA in Kubernetes garbled", kubernetes(), Server, set(ServerTLS, keyCACert, "x"), Malformed, false, "ca.crt"},
		{"client in Kubernetes has another CA", kubernetes(), Client, func(t *testing.T, s Snapshot) {
			a := newAuthorityFixture(t)
			c, k := a.leaf(t)
			s.Secrets[ClientTLS] = Secret{Name: ClientTLS, Type: typeTLS, Data: map[string][]byte{keyTLSCert: c, keyTLSKey: k, keyCACert: a.pem}}
		}, Mismatched, false, "is not the CA of openshell-server-tls"},
		{"CA in Kubernetes expired", kubernetes(), Client, own(ClientTLS, []certOption{validFor(-2*year, -time.Hour)}), Expired, false, "its CA: it ended"},
		{"server in Kubernetes lacks its service name", kubernetes(), Server, own(ServerTLS, nil, names("localhost")), WrongName, false, "openshell.openshell.svc.cluster.local"},
		{"token key in Kubernetes absent", kubernetes(), JWT, remove(jwtKeys), Absent, true, ""},
	}
}

// newCAButLeaf puts a certificate that is no CA's in the CA's place; its leaves
// stay, as the CA's own finding is what is examined.
func newCAButLeaf() func(*testing.T, Snapshot) {
	return newCAUnchecked(func(c *x509.Certificate) { c.IsCA, c.KeyUsage = false, x509.KeyUsageDigitalSignature })
}

func newCAUnchecked(options ...certOption) func(*testing.T, Snapshot) {
	return func(t *testing.T, s Snapshot) {
		a := newAuthorityFixture(t, options...)
		s.Secrets[CA].Data[keyCACert], s.Secrets[CA].Data[keyCAKey] = a.pem, keyPEM(t, a.key)
	}
}

func storedAuthority(t *testing.T, s Snapshot) authorityFixture {
	t.Helper()
	certs, err := parseCertificates(s.Secrets[CA].Data[keyCACert])
	if err != nil {
		t.Fatal(err)
	}
	key, err := parseKey(s.Secrets[CA].Data[keyCAKey])
	if err != nil {
		t.Fatal(err)
	}
	return authorityFixture{cert: certs[0], key: key}
}

func selfSigned(t *testing.T, s Snapshot, options ...certOption) {
	t.Helper()
	key, template := newKey(t), leafTemplate()
	_, text := signed(t, template, template, key, key, options...)
	s.Secrets[ServerTLS].Data[keyTLSCert], s.Secrets[ServerTLS].Data[keyTLSKey] = text, keyPEM(t, key)
}

func TestInspectClassifies(t *testing.T) {
	for _, c := range damages() {
		t.Run(c.name, func(t *testing.T) {
			s := fresh(t, c.want, moment())
			c.spoil(t, s)
			r := Inspect(s, c.want, moment())
			f := r.Find(c.member)
			if f.Class != c.class || f.Automatic != c.automatic || !strings.Contains(f.Detail, c.detail) {
				t.Errorf("finding %+v, want class %s, automatic %v, detail with %q", f, c.class, c.automatic, c.detail)
			}
			if c.class == OK && f.Detail != "" {
				t.Errorf("detail %q of a good member", f.Detail)
			}
			if got, want := r.Verdict() == health.OK, len(r.Bad()) == 0; got != want {
				t.Errorf("verdict %v with %d bad members", r.Verdict(), len(r.Bad()))
			}
			if c.class == Expiring && (len(r.Caveats) == 0 || r.Caveats[0].Advisory != "secrets-expiring") {
				t.Errorf("caveats %+v", r.Caveats)
			}
			showsNoSecret(t, s, r)
		})
	}
}

// showsNoSecret looks for every line of every private value in a report.
func showsNoSecret(t *testing.T, s Snapshot, r Report) {
	t.Helper()
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, r.String()...)
	for _, secret := range s.Secrets {
		for _, key := range []string{keyTLSKey, keyCAKey, keySigning, keyHandshake} {
			for _, line := range strings.Fields(string(secret.Data[key])) {
				if len(line) > 16 && !strings.HasPrefix(line, "-----") && !strings.HasPrefix(line, "KEY") && bytes.Contains(text, []byte(line)) {
					t.Errorf("%s of %s is in the report", key, secret.Name)
				}
			}
		}
	}
}

func TestReportIsWorthReading(t *testing.T) {
	want := directory()
	s := fresh(t, want, moment())
	text, err := json.Marshal(Inspect(s, want, moment()))
	if err != nil {
		t.Fatal(err)
	}
	var r Report
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	f := r.Find(Server)
	if f.Subject != "CN=openshell-server" || len(f.Names) != 10 || len(f.Fingerprint) != 64 || f.NotAfter.IsZero() || !r.CAKey {
		t.Errorf("server after JSON: %+v", f)
	}
	if kid := r.Find(JWT).Fingerprint; kid != string(s.Secrets[JWT].Data[keyKeyID]) {
		t.Errorf("key id %q", kid)
	}
	s.Secrets[Server].Data[keyTLSCert] = nil
	if got := Inspect(s, want, moment()).String(); got != "server is incomplete: it lacks tls.crt" {
		t.Errorf("sentence %q", got)
	}
}

func TestWorstIsTheGravest(t *testing.T) {
	r := Report{Findings: []Finding{{Member: "a", Class: Expired}, {Member: "b", Class: Malformed}, {Member: "c", Class: Malformed}, {Member: "d", Class: OK}}}
	if got := r.Worst().Member; got != "b" {
		t.Errorf("worst is %s", got)
	}
	if diff := cmp.Diff(Finding{}, Report{}.Worst()); diff != "" {
		t.Error(diff)
	}
}

func TestWrongTypeIsRecreated(t *testing.T) {
	s := fresh(t, kubernetes(), moment())
	server := s.Secrets[ServerTLS]
	server.Type = "Opaque"
	s.Secrets[ServerTLS] = server
	delete(s.Secrets, ClientTLS)
	p := MakePlan(Inspect(s, kubernetes(), moment()))
	if step, ok := p.step(Server); !ok || !step.Recreate {
		t.Errorf("server's step %+v", step)
	}
	if step, ok := p.step(Client); !ok || step.Recreate {
		t.Errorf("client's step %+v", step)
	}
}
