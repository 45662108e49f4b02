package app

import (
	"errors"
	"os/user"
	"strconv"

	"creel/internal/advisory"
	"creel/internal/state"
)

// trusted refuses directories that somebody else could change. What mends it depends
// on whose they are: Creel's own are given to the user, a home is left to its owner.
func trusted(r state.Roots, uid int) error {
	err := r.CheckOwners(uid)
	var u *state.Untrusted
	if !errors.As(err, &u) {
		return err
	}
	path := advisory.Quote(u.Path)
	var hints []string
	switch {
	case u.Write:
		hints = []string{"ls -ld " + path, "chmod go-w " + path}
	case u.Mine:
		hints = []string{"ls -lAR " + path, "chown -hR " + advisory.Quote(accountOf(uid)) + ": " + path}
	}
	if owner := accountOf(u.Owner); !u.Write && owner != strconv.Itoa(u.Owner) {
		hints = append(hints, "su - "+advisory.Quote(owner)+" -c 'creel status'")
	}
	if !u.Mine && !u.Write {
		hints = append(hints, "su - "+advisory.Quote(accountOf(uid))+" -c 'creel status'")
	}
	return advisory.New("home-untrusted", "the place for Creel's files is not safe", err, hints...)
}

// accountOf is a user's name, or the number of one without.
func accountOf(uid int) string {
	number := strconv.Itoa(uid)
	if u, err := user.LookupId(number); err == nil {
		return u.Username
	}
	return number
}
