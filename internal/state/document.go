package state

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// NewerError is a document of a newer Creel.
type NewerError struct{ Version, Known int }

func (e NewerError) Error() string {
	return fmt.Sprintf("version %d, this Creel knows %d: written by a newer Creel", e.Version, e.Known)
}

// ParseDocument reads a JSON document that Creel wrote for itself into v. Its field
// "version" must be from 1 to known; a higher one is a [NewerError]. More than one
// document is refused, and so is a field that v does not have.
func ParseDocument(b []byte, known int, v any) error {
	var version struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &version); err != nil { // refuses what follows a document as well
		return fmt.Errorf("parse: %w", err)
	}
	switch {
	case version.Version > known:
		return NewerError{version.Version, known}
	case version.Version < 1:
		return fmt.Errorf("version %d does not exist", version.Version)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("parse: %w", err)
	}
	return nil
}

// WriteDocument replaces path by v as JSON, as [WriteFile] does.
func WriteDocument(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return WriteFile(path, append(b, '\n'), FileMode)
}
