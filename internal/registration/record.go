package registration

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"creel/internal/advisory"
	"creel/internal/state"
)

// recordVersion is the version of the record that this program reads and writes.
const recordVersion = 1

// record says what Creel put where, so that it can tell its own files from
// others that look like them. It is written before what it describes.
type record struct {
	Version int `json:"version"`
	// Directory is the registration's directory, absolute.
	Directory string `json:"directory"`
	// Files maps a name below Directory to the SHA-256 (hex) of each content that
	// Creel wrote or was about to write there.
	Files map[string][]string `json:"files"`
	// Active: Creel made this gateway the active one.
	Active bool `json:"active"`
	// Made are directories that did not exist before, parents first.
	Made []string `json:"made"`
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// knows reports whether Creel wrote this content under this name.
func (r record) knows(name string, content []byte) bool {
	return slices.Contains(r.Files[name], digest(content))
}

// readRecord returns the zero record when there is none. A record that does not
// parse or is newer is an error: then nobody knows what is whose.
func readRecord(g state.Gateway) (record, error) {
	path := g.File(state.RegistrationFile)
	content, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return record{}, nil
	}
	if err != nil {
		return record{}, advisory.New("registration-unknown", "read the note of what is registered", err)
	}
	r, err := parseRecord(content)
	if err != nil {
		return record{}, advisory.New("registration-record-invalid", path, err)
	}
	return r, nil
}

func parseRecord(content []byte) (record, error) {
	var r record
	if err := state.ParseDocument(content, recordVersion, &r); err != nil {
		return record{}, err
	}
	for name := range r.Files {
		if !slices.Contains(names(), name) {
			return record{}, fmt.Errorf("file %q is none of a registration's", name)
		}
	}
	return r, nil
}

func writeRecord(g state.Gateway, r record) error {
	r.Version = recordVersion
	if err := state.MkdirAll(g.Dir()); err != nil {
		return err
	}
	return state.WriteDocument(g.File(state.RegistrationFile), r)
}
