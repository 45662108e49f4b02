package gateway

import "errors"

// ErrNotFound is wrapped by every error about an object that a healthy gateway
// says does not exist. Nothing else is proof of absence.
var ErrNotFound = errors.New("not found")

// ErrAlreadyExists is wrapped when an object of that name exists.
var ErrAlreadyExists = errors.New("already exists")

// Told is the error of a daemon whose launcher was told of it and whose log holds it:
// nobody else has to be.
type Told struct{ Err error }

func (t *Told) Error() string { return t.Err.Error() }

// Unwrap returns the error.
func (t *Told) Unwrap() error { return t.Err }
