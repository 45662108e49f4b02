// Package bundle is what a gateway cannot start without: its bootstrap secrets.
// Inspecting, planning and issuing are pure functions; a Store does the I/O.
// It imports no network, no client of anything.
package bundle

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
)

// Secret is one stored object of the set: a Kubernetes Secret or a group of files.
type Secret struct {
	// Name is the member's name, e.g. "openshell-server-tls" or "server".
	Name string
	// Type is "kubernetes.io/tls", "Opaque" or "" (directory).
	Type string
	// Data maps a key (e.g. "tls.crt") to its bytes.
	Data map[string][]byte
}

// Snapshot is everything a store held at one moment. An absent member is absent
// from the map; that is data, not an error.
type Snapshot struct {
	Secrets map[string]Secret
	// Token is the store's own note for optimistic concurrency.
	Token any
}

// Store reads and writes the set.
type Store interface {
	// Load returns what is there. An error means that it could not be determined:
	// nothing may be generated over it.
	Load(ctx context.Context) (Snapshot, error)
	// Apply writes members, keeping the previous value of each in a backup. prev
	// is the snapshot that write was planned on; a store that changed since
	// refuses.
	Apply(ctx context.Context, write []Secret, prev Snapshot) error
}

// Material is the set in the form that programs use.
type Material struct {
	CA        *x509.CertPool
	CAPEM     []byte
	Server    tls.Certificate
	Client    tls.Certificate
	ClientPEM struct{ Cert, Key []byte }
	// SandboxKey signs sandbox tokens; KeyID is its kid.
	SandboxKey ed25519.PrivateKey
	KeyID      string
}
