package bundle

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"reflect"
	"testing"
	"time"

	"creel/internal/health"
)

// peer is a party of a TLS connection with what it has read of a set, which may
// be older than what the other side has.
type peer struct {
	pair tls.Certificate
	ca   *x509.CertPool
}

func peerOf(t *testing.T, s Snapshot, stored string) peer {
	t.Helper()
	data := s.Secrets[stored].Data
	pair, err := tls.X509KeyPair(data[keyTLSCert], data[keyTLSKey])
	if err != nil {
		t.Fatal(err)
	}
	p := peer{pair, x509.NewCertPool()}
	if !p.ca.AppendCertsFromPEM(data[keyCACert]) {
		t.Fatal("no CA")
	}
	return p
}

// understand reports whether a server and a client accept each other.
func understand(server, client peer, now time.Time) error {
	at := func() time.Time { return now }
	near, far := net.Pipe()
	defer near.Close()
	ended := make(chan error, 1)
	go func() {
		c := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{server.pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: server.ca, Time: at})
		_, err := io.WriteString(c, "in")
		_ = c.Close()
		_ = far.Close()
		ended <- err
	}()
	c := tls.Client(near, &tls.Config{Certificates: []tls.Certificate{client.pair}, RootCAs: client.ca, ServerName: "localhost", Time: at})
	said, err := io.ReadAll(c)
	_ = near.Close()
	if served := <-ended; served != nil {
		return served
	}
	if string(said) != "in" {
		return errors.Join(errors.New("no answer"), err)
	}
	return nil
}

// TestRotationBreaksNobody walks through a rotation. At every moment a client and
// a server that are one step apart understand each other, and the gateway is
// rolled for what it must read.
func TestRotationBreaksNobody(t *testing.T) {
	want := kubernetes()
	now := moment()
	store := newMemoryStore(fresh(t, want, now))
	target := &clusterTarget{Fixed: Fixed{store, want}}
	view := func() Snapshot { return clone(Snapshot{Secrets: store.secrets}) }
	step := func(stage Stage, all bool) (before, after Snapshot) {
		t.Helper()
		before = view()
		rolls := len(target.rolls)
		out, err := Rotate(t.Context(), target, now, all)
		if err != nil || out.Rotation.Stage != stage {
			t.Fatalf("%s at %s: %v, want %s", out.Rotation.Stage, now, err, stage)
		}
		wrote := stage == RotationTrust || stage == RotationSwitch
		if out.Rolled != wrote || len(target.rolls)-rolls != map[bool]int{true: 1}[wrote] || out.After.Verdict() != health.OK {
			t.Errorf("%s: rolled %v, %s", stage, out.Rolled, out.After)
		}
		after = view()
		for _, pair := range [][2]Snapshot{{before, before}, {before, after}, {after, before}, {after, after}} {
			if err := understand(peerOf(t, pair[0], ServerTLS), peerOf(t, pair[1], ClientTLS), now); err != nil {
				t.Errorf("%s: a server of %v and a client of %v: %v", stage, len(pair[0].Secrets), len(pair[1].Secrets), err)
			}
		}
		if !reflect.DeepEqual(before.Secrets[jwtKeys], after.Secrets[jwtKeys]) {
			t.Errorf("%s: the token key changed", stage)
		}
		return before, after
	}
	step(RotationDone, false)
	now = now.Add(250 * 24 * time.Hour) // a third of the life is left
	before, after := step(RotationTrust, false)
	for _, name := range []string{ServerTLS, ClientTLS} {
		if !bytes.Equal(before.Secrets[name].Data[keyTLSCert], after.Secrets[name].Data[keyTLSCert]) {
			t.Errorf("the first step changed the certificate of %s", name)
		}
	}
	step(RotationWaiting, false)
	now = now.Add(TrustTime)
	before, after = step(RotationSwitch, false)
	for _, name := range []string{ServerTLS, ClientTLS} {
		if bytes.Equal(before.Secrets[name].Data[keyTLSCert], after.Secrets[name].Data[keyTLSCert]) {
			t.Errorf("the second step left the certificate of %s", name)
		}
	}
	step(RotationDone, false)
	// The next rotation drops the authority that issued nothing that is in use.
	now = now.Add(24 * time.Hour)
	_, after = step(RotationTrust, true)
	if certs, err := parseCertificates(after.Secrets[ServerTLS].Data[keyCACert]); err != nil || len(certs) != 2 {
		t.Errorf("%d authorities are trusted, %v", len(certs), err)
	}
}

// TestInterruptedRotationConverges stops a rotation after each single write.
func TestInterruptedRotationConverges(t *testing.T) {
	want := kubernetes()
	rotating, _ := Rotating(want)
	for _, begun := range []bool{false, true} {
		for stop := range 4 {
			now := moment()
			s := fresh(t, want, now)
			if begun {
				r, err := PlanRotation(s, want, now, true, rand.Reader)
				if err != nil {
					t.Fatal(err)
				}
				apply(s, r.Write)
				now = now.Add(TrustTime)
			}
			r, err := PlanRotation(s, want, now, true, rand.Reader)
			if err != nil || len(r.Write) != 3 {
				t.Fatalf("%+v, %v", r, err)
			}
			apply(s, r.Write[:stop])
			store := newMemoryStore(s)
			target := &clusterTarget{Fixed: Fixed{store, want}}
			for round := 0; ; round++ {
				if round == 6 {
					t.Fatalf("begun %v, stopped after %d: not done after %d rounds", begun, stop, round)
				}
				out, err := Rotate(t.Context(), target, now, round == 0)
				if err != nil {
					t.Fatalf("begun %v, stopped after %d: %v", begun, stop, err)
				}
				now = now.Add(TrustTime)
				if out.Rotation.Stage == RotationDone {
					break
				}
			}
			end := Snapshot{Secrets: store.secrets}
			if r := Inspect(end, rotating, now); r.Verdict() != health.OK {
				t.Errorf("begun %v, stopped after %d: %s", begun, stop, r)
			}
			if err := understand(peerOf(t, end, ServerTLS), peerOf(t, end, ClientTLS), now); err != nil {
				t.Errorf("begun %v, stopped after %d: %v", begun, stop, err)
			}
		}
	}
}

func apply(s Snapshot, write []Secret) {
	for _, w := range write {
		s.Secrets[w.Name] = w
	}
}

func TestRotationRefuses(t *testing.T) {
	for name, want := range map[string]Requirements{"generation 1": generation1(), "directory": directory()} {
		if _, err := PlanRotation(fresh(t, want, moment()), want, moment(), true, rand.Reader); err == nil {
			t.Errorf("%s: rotated in steps", name)
		}
	}
	s := fresh(t, kubernetes(), moment())
	delete(s.Secrets, ServerTLS)
	store := newMemoryStore(s)
	if _, err := Rotate(t.Context(), Fixed{store, kubernetes()}, moment(), true); advisoryID(err) != "secrets-not-rotated" || store.applies != 0 {
		t.Errorf("a set that is not good: %v after %d writes", err, store.applies)
	}
}

// TestRotationRollsBeforeItSwitches: the first step was killed before its roll, so
// the gateway has not read yet that it is to trust the new authority.
func TestRotationRollsBeforeItSwitches(t *testing.T) {
	want, now := kubernetes(), moment()
	store := newMemoryStore(fresh(t, want, now))
	target := &clusterTarget{Fixed: Fixed{store, want}}
	if out, err := Rotate(t.Context(), target, now, true); err != nil || out.Rotation.Stage != RotationTrust {
		t.Fatalf("%+v, %v", out.Rotation, err)
	}
	target.rolls = nil
	store.unrolled = []string{ServerTLS}
	for _, at := range []time.Time{now.Add(time.Second), now.Add(TrustTime)} {
		applies := store.applies
		out, err := Rotate(t.Context(), target, at, false)
		if err != nil || out.Rotation.Stage != RotationWaiting || !out.Rolled || store.applies != applies {
			t.Errorf("%+v, %v", out, err)
		}
	}
	store.unrolled = nil
	if out, err := Rotate(t.Context(), target, now.Add(2*TrustTime), false); err != nil || out.Rotation.Stage != RotationSwitch || len(target.rolls) != 3 {
		t.Errorf("%+v, %v after %d rolls", out.Rotation, err, len(target.rolls))
	}
}
