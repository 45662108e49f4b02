package server

import (
	"time"

	"creel/internal/bundle"
	"creel/internal/credential"
	"creel/internal/server/token"
)

// tokenLife is how long a sandbox token is good for.
const tokenLife = token.Life

// MintSandboxToken makes the token with which the supervisor of sandboxID speaks
// to the gateway of that name over its Unix socket.
func MintSandboxToken(material bundle.Material, gatewayName, sandboxID string, now time.Time, ttl time.Duration) (credential.Secret, error) {
	return token.Mint(material, gatewayName, sandboxID, now, ttl)
}
