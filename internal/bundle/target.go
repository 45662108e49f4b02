package bundle

import (
	"context"
	"errors"
)

// Target is where one gateway keeps its set, together with what that gateway
// needs of it.
type Target interface {
	Store
	// Requirements says what the gateway needs, read from what it mounts where
	// that is possible. ErrNotApplicable in the chain means positively that there
	// is no gateway yet whose set this could be; any other error is unknown.
	Requirements(ctx context.Context) (Requirements, error)
	// Roll makes the gateway start again with members that were replaced, given
	// by the names they are stored under. It returns when that is ordered, and
	// false where nothing runs that Roll could start again.
	Roll(ctx context.Context, names []string) (bool, error)
}

// ErrNotApplicable is in the chain of the error about a set whose gateway does
// not exist (yet): its namespace or its StatefulSet is positively absent. A
// repair must not race whoever is about to create it, so nothing is touched.
var ErrNotApplicable = errors.New("not applicable yet")

// Fixed is a Target whose gateway's needs are known from the start, and which
// takes replaced members when it is started the next time.
type Fixed struct {
	Store
	Want Requirements
}

// Requirements returns what is known.
func (f Fixed) Requirements(context.Context) (Requirements, error) { return f.Want, nil }

// Roll does nothing.
func (f Fixed) Roll(context.Context, []string) (bool, error) { return false, nil }

// Survey reads a target: what its gateway needs and what is there. The error is
// that of Requirements or Load.
func Survey(ctx context.Context, t Target) (Requirements, Snapshot, error) {
	want, err := t.Requirements(ctx)
	if err != nil {
		return Requirements{}, Snapshot{}, err
	}
	s, err := t.Load(ctx, want)
	return want, s, err
}
