package token

import (
	"crypto/ed25519"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"creel/internal/bundle"
)

const box = "7b3f0d4e-5a0c-4f0e-9d55-0b6d0f3c1a11"

func material(t testing.TB, kid string) bundle.Material {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return bundle.Material{SandboxKey: private, KeyID: kid}
}

func TestVerify(t *testing.T) {
	m, other := material(t, "k1"), material(t, "k1")
	now := time.Date(2031, 5, 6, 7, 8, 9, 0, time.UTC)
	minted := func(m bundle.Material, gateway string, at time.Time) string {
		s, err := Mint(m, gateway, box, at, Life)
		if err != nil {
			t.Fatal(err)
		}
		return s.Reveal()
	}
	renamed := m
	renamed.KeyID = "k2"
	custom := func(method jwt.SigningMethod, key any, kid string, c claims) string {
		token := jwt.NewWithClaims(method, c)
		token.Header["kid"] = kid
		s, err := token.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	whole := func() claims {
		return claims{SandboxID: box, RegisteredClaims: jwt.RegisteredClaims{Subject: subject(box), Issuer: issuer("g"),
			Audience: jwt.ClaimStrings{issuer("g")}, ExpiresAt: jwt.NewNumericDate(now.Add(time.Hour))}}
	}
	endless, elsewhere, foreign, odd := whole(), whole(), whole(), whole()
	endless.ExpiresAt = nil
	elsewhere.Audience = jwt.ClaimStrings{issuer("other")}
	foreign.Subject = subject("11111111-1111-4111-8111-111111111111")
	odd.SandboxID, odd.Subject = "../x", subject("../x")
	good := minted(m, "g", now)
	for name, x := range map[string]struct {
		token string
		at    time.Time
		ok    bool
	}{
		"good":                     {good, now, true},
		"at its end":               {good, now.Add(Life), true},
		"a clock 50 s ahead":       {good, now.Add(Life + 50*time.Second), true},
		"a clock that went back":   {good, now.Add(-48 * time.Hour), true},
		"over":                     {good, now.Add(Life + 2*time.Minute), false},
		"other key":                {minted(other, "g", now), now, false},
		"other key id":             {minted(renamed, "g", now), now, false},
		"other gateway":            {minted(m, "h", now), now, false},
		"written by hand":          {custom(jwt.SigningMethodEdDSA, m.SandboxKey, "k1", whole()), now, true},
		"no end":                   {custom(jwt.SigningMethodEdDSA, m.SandboxKey, "k1", endless), now, false},
		"other audience":           {custom(jwt.SigningMethodEdDSA, m.SandboxKey, "k1", elsewhere), now, false},
		"subject of another":       {custom(jwt.SigningMethodEdDSA, m.SandboxKey, "k1", foreign), now, false},
		"id that is none":          {custom(jwt.SigningMethodEdDSA, m.SandboxKey, "k1", odd), now, false},
		"unsigned":                 {custom(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "k1", whole()), now, false},
		"public key as a password": {custom(jwt.SigningMethodHS256, []byte(m.SandboxKey.Public().(ed25519.PublicKey)), "k1", whole()), now, false},
		"nothing":                  {"", now, false},
		"words":                    {"a.b.c", now, false},
	} {
		id, err := Verify(m, "g", x.token, x.at)
		if (err == nil) != x.ok || x.ok && id != box {
			t.Errorf("%s: %q %v", name, id, err)
		}
		if err != nil && x.token != "" && strings.Contains(err.Error(), x.token) {
			t.Errorf("%s: the error shows the token", name)
		}
	}
}

func FuzzVerify(f *testing.F) {
	m := material(f, "k1")
	now := time.Now()
	good, err := Mint(m, "g", box, now, Life)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good.Reveal())
	f.Add("")
	f.Add("eyJhbGciOiJub25lIn0..")
	f.Add(strings.Repeat(".", 100))
	f.Fuzz(func(t *testing.T, token string) {
		id, err := Verify(m, "g", token, now)
		if err == nil && (token != good.Reveal() || id != box) {
			// Another encoding of the same signature would be another token: base64
			// has spare bits, and the parser is strict about them.
			t.Fatalf("accepted %q as %q", token, id)
		}
	})
}
