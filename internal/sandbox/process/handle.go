package process

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"creel/internal/sandbox"
	"creel/internal/state"
)

// The versions of handle.json that this build reads. What the first cannot say, a
// build that only knows that one would refuse as damage or drop.
const (
	firstHandle  = 1
	secondHandle = 2 // forwards; of the dashboard: stopped, public_url, trusted_proxies
)

// versionFor is the lowest version that can say a spec.
func versionFor(s sandbox.Spec) int {
	d := s.Dashboard
	if len(s.Forwards) > 0 || d.Stopped || d.PublicURL != "" || len(d.TrustedProxies) > 0 {
		return secondHandle
	}
	return firstHandle
}

// Handles lists the sandboxes on disk. Those whose handle cannot be read are
// named by the error, beside the others.
func (d *Driver) Handles(ctx context.Context) ([]sandbox.Handle, error) {
	entries, err := os.ReadDir(d.gateway.Sandboxes())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list sandboxes: %w", err)
	}
	var handles []sandbox.Handle
	var problems []error
	for _, e := range entries {
		if ctx.Err() != nil {
			return handles, errors.Join(append(problems, context.Cause(ctx))...)
		}
		if !e.IsDir() {
			continue
		}
		h, err := readHandle(d.gateway.Sandbox(e.Name()))
		switch {
		case errors.Is(err, fs.ErrNotExist): // being made or half removed
		case err != nil:
			problems = append(problems, err)
		default:
			handles = append(handles, h)
		}
	}
	return handles, errors.Join(problems...)
}

func readHandle(paths state.Sandbox) (sandbox.Handle, error) {
	path := paths.File(state.HandleFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return sandbox.Handle{}, err
	}
	if err != nil {
		return sandbox.Handle{}, corrupt(path, err)
	}
	h, err := decodeHandle(b)
	if err != nil {
		return sandbox.Handle{}, corrupt(path, err)
	}
	if filepath.Base(paths.Dir()) != h.ID {
		return sandbox.Handle{}, corrupt(path, fmt.Errorf("it is the handle of another sandbox, %s", h.ID))
	}
	return h, nil
}

// decodeHandle reads handle.json. What it returns without an error can be acted
// on: ids that are directory names, users that are not root's.
func decodeHandle(b []byte) (sandbox.Handle, error) {
	var h sandbox.Handle
	if err := state.ParseDocument(b, secondHandle, &h); err != nil {
		return sandbox.Handle{}, err
	}
	if err := checkID(h.ID); err != nil {
		return sandbox.Handle{}, err
	}
	if err := sandbox.CheckName(h.Name); err != nil {
		return sandbox.Handle{}, err
	}
	switch {
	case h.Driver != Name:
		return sandbox.Handle{}, fmt.Errorf("it belongs to driver %q", h.Driver)
	case h.HostUID <= 0 || h.HostGID <= 0:
		return sandbox.Handle{}, fmt.Errorf("host_uid %d and host_gid %d are not those of a sandbox", h.HostUID, h.HostGID)
	}
	return h, nil
}

func writeHandle(paths state.Sandbox, h sandbox.Handle) error {
	b, err := json.MarshalIndent(h, "", "  ")
	if err != nil {
		return err
	}
	path := paths.File(state.HandleFile)
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, append(b, '\n')) {
		return nil
	}
	if err := state.WriteFile(path, append(b, '\n'), state.FileMode); err != nil {
		return fmt.Errorf("write the handle of sandbox %s: %w", h.Name, err)
	}
	return nil
}
