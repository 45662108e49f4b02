package gateway

import "errors"

// ErrNotFound is wrapped by every error about an object that a healthy gateway
// says does not exist. Nothing else is proof of absence.
var ErrNotFound = errors.New("not found")

// ErrAlreadyExists is wrapped when an object of that name exists.
var ErrAlreadyExists = errors.New("already exists")
