package bundle

import (
	"crypto/rand"
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What Profile says is what Issue issues, for every certificate of every set.
func TestProfilesAreIssued(t *testing.T) {
	for kind, want := range everyKind() {
		snapshot := fresh(t, want, moment())
		for _, m := range want.Members() {
			p := want.Profile(m.Name)
			text := snapshot.Secrets[m.Stored].Data[keyTLSCert]
			if p.Authority {
				text = snapshot.Secrets[m.Stored].Data[keyCACert]
			}
			if p.Life == 0 {
				if text != nil {
					t.Errorf("%s: %s has a certificate and no profile", kind, m.Name)
				}
				continue
			}
			certs, err := parseCertificates(text)
			if err != nil {
				t.Fatalf("%s: %s: %v", kind, m.Name, err)
			}
			checkProfile(t, kind+" "+m.Name, p, certs[0])
			if !slices.Contains(m.Keys, keyCACert) || p.Authority {
				continue
			}
			if certs, err = parseCertificates(snapshot.Secrets[m.Stored].Data[keyCACert]); err != nil {
				t.Fatal(err)
			}
			checkProfile(t, kind+" CA of "+m.Name, want.Profile(CA), certs[0])
		}
	}
}

func checkProfile(t *testing.T, what string, p Profile, c *x509.Certificate) {
	t.Helper()
	if c.Subject.String() != p.Subject.String() || c.IsCA != p.Authority || c.NotAfter.Sub(c.NotBefore) != p.Life ||
		(c.Issuer.String() == c.Subject.String()) != p.SelfSigned || moment().Sub(c.NotBefore) != Backdating {
		t.Errorf("%s: %v, CA %v, issued by %v from %v until %v: not as %+v", what, c.Subject, c.IsCA, c.Issuer, c.NotBefore, c.NotAfter, p)
	}
	if !p.Authority {
		if diff := cmp.Diff([]x509.ExtKeyUsage{p.Usage}, c.ExtKeyUsage); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
	var f Finding
	f.describe(c)
	slices.Sort(f.Names)
	names := slices.Sorted(slices.Values(p.Names))
	if !slices.Equal(names, f.Names) {
		t.Errorf("%s: the names are %q, not %q", what, f.Names, names)
	}
}

func TestProfileOfNothing(t *testing.T) {
	for _, member := range []string{SSHHandshake, JWT, "", "openshell"} {
		for kind, want := range everyKind() {
			if p := want.Profile(member); p.Life != 0 || p.Subject.CommonName != "" {
				t.Errorf("%s: %q has a profile: %+v", kind, member, p)
			}
		}
	}
}

// A name longer than a common name may be was refused by OpenSSL and its kin,
// although it is only there for people.
func TestLongServiceHasAShortCommonName(t *testing.T) {
	long := strings.Repeat("s", 40)
	for _, c := range []struct{ service, namespace, want string }{
		{"", "", "openshell.openshell.svc.cluster.local"},
		{long, "short", long + ".short.svc.cluster.local"}, // 64 of 64
		{long, "longer", long + ".longer.svc"},
		{long, strings.Repeat("n", 23), long + "." + strings.Repeat("n", 23)},
		{long, long, long},
	} {
		want := Requirements{Generation: Generation1, Service: c.service, Namespace: c.namespace}
		if got := want.Profile(ServerTLS).Subject.CommonName; got != c.want {
			t.Errorf("%s in %s: %s", c.service, c.namespace, got)
		}
		secrets, err := Issue(PlanMissingOf(want, want.Stored()), Snapshot{}, want, moment(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if r := Inspect(snapshotOf(secrets), want, moment().Add(time.Hour)); len(r.Bad()) > 0 {
			t.Errorf("%s in %s: %s", c.service, c.namespace, r)
		}
	}
}
