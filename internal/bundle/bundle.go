// Package bundle is what a gateway cannot start without: its bootstrap secrets.
// Inspecting, planning and issuing are pure functions; a Store does the I/O.
// It imports no network, no client of anything.
package bundle

import (
	"context"
	"errors"

	"creel/internal/health"
)

// Secret is one stored object of the set: a Kubernetes Secret or a group of files.
type Secret struct {
	// Name is the name it is stored under, e.g. "openshell-server-tls" or "server".
	Name string
	// Type is "kubernetes.io/tls", "Opaque" or "" (directory).
	Type string
	// Data maps a key (e.g. "tls.crt") to its bytes.
	Data map[string][]byte
}

// Snapshot is everything a store held at one moment. An absent member is absent
// from the map; that is data, not an error.
type Snapshot struct {
	// Secrets maps the name that a member is stored under to what is there.
	Secrets map[string]Secret
	// Caveats is what the store noticed about the places, not the values: for
	// example a private key that other users may read.
	Caveats []health.Caveat
	// Unrolled are names of members that were replaced by a repair that ended, or
	// was ended, before the gateway was told. Repair makes up for it.
	Unrolled []string
	// Token is the store's own note for optimistic concurrency.
	Token any
}

// ErrChanged is in the chain of the error with which a store refuses a write
// that was planned on a snapshot that is no longer true. Planning again helps.
var ErrChanged = errors.New("the stored secrets changed in the meantime")

// Store reads and writes the set.
type Store interface {
	// Load returns what is there of the secrets that want names. An error means
	// that it could not be determined: nothing may be generated over it.
	Load(ctx context.Context, want Requirements) (Snapshot, error)
	// Apply writes members, keeping the previous value of each in a backup. prev
	// is the snapshot that write was planned on; a store that changed since
	// refuses with ErrChanged.
	Apply(ctx context.Context, write []Secret, prev Snapshot) error
}
