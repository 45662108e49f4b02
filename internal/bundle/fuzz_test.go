package bundle

import (
	"testing"
	"time"
)

// FuzzInspect gives a directory set any bytes. Inspecting never panics, has an
// opinion on every member, and what it calls good can be opened.
func FuzzInspect(f *testing.F) {
	s := fresh(f, directory(), moment())
	add := func(s Snapshot) {
		f.Add(s.Secrets[CA].Data[keyCACert], s.Secrets[CA].Data[keyCAKey], s.Secrets[Server].Data[keyTLSCert], s.Secrets[Server].Data[keyTLSKey],
			s.Secrets[JWT].Data[keySigning], s.Secrets[JWT].Data[keyPublic], s.Secrets[JWT].Data[keyKeyID], int64(0))
	}
	add(s)
	broken := clone(s)
	for _, secret := range broken.Secrets {
		for key, value := range secret.Data {
			secret.Data[key] = value[:len(value)/2]
		}
	}
	add(broken)
	f.Fuzz(func(t *testing.T, caCert, caKey, cert, key, signing, public, kid []byte, seconds int64) {
		given := clone(s)
		given.Secrets[CA] = Secret{Name: CA, Data: map[string][]byte{keyCACert: caCert, keyCAKey: caKey}}
		given.Secrets[Server] = Secret{Name: Server, Data: map[string][]byte{keyTLSCert: cert, keyTLSKey: key}}
		given.Secrets[JWT] = Secret{Name: JWT, Data: map[string][]byte{keySigning: signing, keyPublic: public, keyKeyID: kid}}
		r := Inspect(given, directory(), moment().Add(time.Duration(seconds)*time.Second))
		for _, finding := range r.Findings {
			if finding.Class.severity() < 0 {
				t.Fatalf("no opinion on %s", finding.Member)
			}
		}
		if _, err := Open(given); err != nil && len(r.Findings) == 4 && len(r.Bad()) == 0 {
			t.Fatalf("good, and does not open: %v", err)
		}
	})
}

// FuzzParsers: no parser panics, whatever a file holds.
func FuzzParsers(f *testing.F) {
	s := fresh(f, directory(), moment())
	for _, secret := range s.Secrets {
		for _, value := range secret.Data {
			f.Add(value)
		}
	}
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if certs, err := parseCertificates(text); err == nil && len(certs) == 0 {
			t.Error("no certificate and no error")
		}
		if key, err := parseKey(text); err == nil && key == nil {
			t.Error("no key and no error")
		}
		if key, err := parseSigningKey(text); err == nil {
			again, err := encodeKey(key)
			if err != nil {
				t.Fatal(err)
			}
			if same, err := parseSigningKey(again); err != nil || !same.Equal(key) {
				t.Error("a signing key changed when it was written again")
			}
		}
		_, _ = parsePublicKey(text)
	})
}
