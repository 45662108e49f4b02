// Package token makes and checks the credentials of sandbox supervisors: Ed25519
// JSON web tokens as OpenShell's gateway issues them. It does no I/O.
package token

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"creel/internal/bundle"
	"creel/internal/credential"
)

// Life is how long a sandbox token is good for.
const Life = 24 * time.Hour

// leeway is how far the clocks of issuer and verifier may differ.
const leeway = 60 * time.Second

type claims struct {
	SandboxID string `json:"sandbox_id"`
	jwt.RegisteredClaims
}

func issuer(gateway string) string    { return "openshell-gateway:" + gateway }
func subject(sandboxID string) string { return "spiffe://openshell/sandbox/" + sandboxID }

// Mint makes the token with which the supervisor of sandboxID speaks to gateway.
func Mint(m bundle.Material, gateway, sandboxID string, now time.Time, life time.Duration) (credential.Secret, error) {
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims{SandboxID: sandboxID, RegisteredClaims: jwt.RegisteredClaims{
		Subject: subject(sandboxID), Issuer: issuer(gateway), Audience: jwt.ClaimStrings{issuer(gateway)},
		IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(life)),
	}})
	t.Header["kid"] = m.KeyID
	signed, err := t.SignedString(m.SandboxKey)
	if err != nil {
		return credential.Secret{}, fmt.Errorf("sign sandbox token: %w", err)
	}
	return credential.NewSecret(signed), nil
}

// Verify returns the id of the sandbox that a token speaks for. It refuses
// whatever was not signed by the gateway's key for this gateway, has no end or is
// past it. Its errors never quote the token.
func Verify(m bundle.Material, gateway, token string, now time.Time) (string, error) {
	var c claims
	_, err := jwt.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) {
		if kid, _ := t.Header["kid"].(string); kid != m.KeyID {
			return nil, errors.New("signed by an unknown key")
		}
		return m.SandboxKey.Public().(ed25519.PublicKey), nil
	}, jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}), jwt.WithIssuer(issuer(gateway)),
		jwt.WithAudience(issuer(gateway)), jwt.WithExpirationRequired(), jwt.WithLeeway(leeway),
		jwt.WithTimeFunc(func() time.Time { return now }))
	if err != nil {
		return "", fmt.Errorf("verify sandbox token: %w", reason(err))
	}
	if _, err := uuid.Parse(c.SandboxID); err != nil || c.Subject != subject(c.SandboxID) {
		return "", errors.New("verify sandbox token: subject and sandbox do not agree")
	}
	return c.SandboxID, nil
}

// reason maps to fixed words: the parser's own errors may quote what they parse.
func reason(err error) error {
	for _, known := range []error{jwt.ErrTokenExpired, jwt.ErrTokenSignatureInvalid, jwt.ErrTokenInvalidIssuer,
		jwt.ErrTokenInvalidAudience, jwt.ErrTokenRequiredClaimMissing, jwt.ErrTokenUnverifiable} {
		if errors.Is(err, known) {
			return known
		}
	}
	return jwt.ErrTokenMalformed
}
